"""What is seen on the page, by a browser that has it open."""

from pathlib import Path

from rig.browser import Browser

PHONE, DESK = (390, 844), (1280, 900)

# Of every text that is seen: those that do not stand out from the ground below them (WCAG 2, 1.4.3).
CONTRAST = Path(__file__).with_name("contrast.js").read_text()
# By how much the page is wider than its window.
OVERFLOW = "document.scrollingElement.scrollWidth - innerWidth"


def health(browser: Browser) -> str:
    return str(browser.evaluate("document.getElementById('health').textContent"))


def names(browser: Browser) -> list[str]:
    """The endpoints that are drawn."""
    found: list[str] = browser.evaluate("[...document.querySelectorAll('article h3')].map(one => one.textContent)")
    return found
