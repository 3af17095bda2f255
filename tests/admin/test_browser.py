"""The page as the daemon serves it, in a real browser, with hosts that no engine is needed for."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rig.browser import Browser
from rig.host import Host, Underlay
from rig.plugin import Plugin
from tests.admin.crowd import crowd
from tests.admin.seeing import CONTRAST, DESK, OVERFLOW, PHONE, health, names

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

PORT = 9677
ORIGIN = f"http://127.0.0.1:{PORT}"
POLL_S = 2.0
HIDE = "Object.defineProperty(document, 'hidden', {value: true, configurable: true}); null"
SHOW = "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))"
SQUARES = "document.querySelectorAll('.rest rect').length"


@pytest.fixture(scope="module")
def host(underlay: Underlay) -> Iterator[Host]:
    """With a daemon, and no engine."""
    host = Host(underlay, "page")
    plugin = Plugin(host, env={"MDNP_METRICS": f"127.0.0.1:{PORT}"})
    plugin.start()
    yield host
    plugin.stop()


@pytest.fixture
def browser(host: Host) -> Iterator[Browser]:
    with Browser(host) as browser:
        browser.shape(*DESK)
        yield browser
        assert browser.said == []


def shown(browser: Browser, view: dict[str, Any]) -> None:
    """Open the page, which is told `view`."""
    browser.before(f"fetch = async () => new Response({json.dumps(json.dumps(view))})")
    browser.open(f"{ORIGIN}/")
    browser.until(lambda: names(browser), "the endpoints")


def test_without_networks_the_page_says_how_to_make_one(browser: Browser) -> None:
    browser.open(f"{ORIGIN}/")
    browser.until(lambda: health(browser) == "In sync", "the daemon's answer")

    assert "docker network create --driver=mdnp mynet" in browser.text
    assert "no answer" in browser.text  # of Docker: there is none here


def test_a_thousand_endpoints_are_found_with_the_keyboard(browser: Browser) -> None:
    shown(browser, crowd(networks=30, endpoints=1000))

    assert len(names(browser)) == 30 * 12
    assert browser.evaluate(SQUARES) == 1000 - 30 * 12
    images = [one.name for one in browser.accessibility() if one.role == "image"]
    assert images[0] == "22 more endpoints: 0 with traffic, 0 in need of attention"
    browser.press("Tab")
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.id") == "filter"
    browser.type("app-7-3")
    browser.until(lambda: len(names(browser)) == 5, "the five whose names begin so")
    assert names(browser) == ["app-7-3", *(f"app-7-3{digit}" for digit in range(4))]
    assert browser.evaluate(SQUARES) == 0


def test_a_network_is_shown_whole_when_asked(browser: Browser) -> None:
    shown(browser, crowd(networks=1, endpoints=1000))

    browser.evaluate("document.querySelector('.rest button').focus()")
    browser.press("Enter")
    browser.until(lambda: len(names(browser)) == 1000, "all endpoints")

    assert browser.evaluate("document.activeElement.textContent") == "Show the first 12"
    assert browser.evaluate("document.activeElement.ariaExpanded") == "true"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("shape", [PHONE, DESK])
def test_trouble_comes_first_and_can_be_read(browser: Browser, shape: tuple[int, int], dark: bool) -> None:
    browser.shape(*shape, dark=dark, still=True)
    view = crowd(networks=2, endpoints=100)
    network = view["networks"][0]
    lost = network["endpoints"][40]
    lost["container"] = "<b onclick=alert(1)>bold</b>"
    owner = {"network": network["id"], "endpoint": None, "container": ""}
    view["healthy"] = False
    view["drift"] = [{"step": f"ip link add {'x' * 300}", **owner}]
    view["lost"] = [{"object": "link mdv-1", **owner, "endpoint": lost["id"], "container": lost["container"]}]

    shown(browser, view)

    assert names(browser)[0] == "<b onclick=alert(1)>bold</b>"
    assert health(browser) == "Not in sync: 1 lost, drift: 1 step"
    assert browser.evaluate(OVERFLOW) == 0
    assert browser.evaluate(CONTRAST) == []


def test_the_port_answers_looks_of_this_host_alone_and_under_a_strict_policy(host: Host) -> None:
    def ask(*options: str) -> str:
        return host.run(["curl", "-sS", "-i", "--max-time", "10", *options]).out

    page = ask(f"{ORIGIN}/")

    assert page.startswith("HTTP/1.1 200")
    assert "Content-Type: text/html" in page
    assert "default-src 'none'" in page
    assert "unsafe" not in page
    assert "http" not in page.split("<body>")[1].replace("http://www.w3.org/2000/svg", "")
    for header in ("X-Content-Type-Options: nosniff", "Referrer-Policy: no-referrer", "Cache-Control: no-store"):
        assert header in page
        assert header in ask(f"{ORIGIN}/topology")
    assert ask("-I", f"{ORIGIN}/topology").startswith("HTTP/1.1 200")
    assert ask("-X", "POST", f"{ORIGIN}/topology").startswith("HTTP/1.1 405")
    assert ask("-X", "POST", f"{ORIGIN}/gc").startswith("HTTP/1.1 404")
    assert ask("-H", "Host: evil.example", f"{ORIGIN}/topology").startswith("HTTP/1.1 403")
    assert ask("-H", "Host: localhost:8000", f"{ORIGIN}/topology").startswith("HTTP/1.1 200")


def test_a_hidden_tab_asks_for_nothing_and_one_that_is_seen_again_at_once(browser: Browser) -> None:
    browser.open(f"{ORIGIN}/")
    browser.until(
        lambda: browser.evaluate("1") and len(browser.asked) >= 3, "the second question"
    )  # the page, and twice what it shows

    browser.evaluate(HIDE)
    browser.until(lambda: browser.evaluate("!asking"), "the last answer")
    before = len(browser.asked)
    time.sleep(2 * POLL_S)
    browser.evaluate("0")  # what came meanwhile is read with an answer
    assert len(browser.asked) == before
    browser.evaluate(SHOW)
    browser.until(lambda: browser.evaluate("1") and len(browser.asked) > before, "the question")


def test_more_of_an_endpoint_is_shown_when_asked(browser: Browser) -> None:
    shown(browser, crowd(networks=1, endpoints=2))

    browser.evaluate("document.querySelector('summary').focus()")
    browser.press("Enter")
    browser.until(lambda: "mdv-00000000000" in browser.text, "its link")

    assert "02:6d:0a:01:00:02" in browser.text
