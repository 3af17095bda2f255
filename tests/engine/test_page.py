"""The page, in a real browser on the test host, against a real engine and its containers."""

from collections.abc import Iterator, Mapping

import pytest

from rig.browser import Browser, Node
from rig.host import GATEWAY
from tests.admin.seeing import CONTRAST, DESK, OVERFLOW, PHONE, health, names
from tests.engine.conftest import Story

pytestmark = pytest.mark.engine

PORT = 9677
ORIGIN = f"http://127.0.0.1:{PORT}"
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def plugin_env() -> Mapping[str, str]:
    return {"MDNP_METRICS": f"127.0.0.1:{PORT}"}


@pytest.fixture
def browser(story: Story) -> Iterator[Browser]:
    with Browser(story.testbed.host) as browser:
        browser.shape(*DESK)
        yield browser
        assert {one for one in browser.asked if not one.startswith((f"{ORIGIN}/", "data:", "about:"))} == set()


def test_health_networks_and_containers_are_seen_heard_and_readable_everywhere(story: Story, browser: Browser) -> None:
    story.network("frontend", "--subnet=10.77.0.0/24")
    story.network("backend", "--internal", "--ipam-driver=mdnp", "--subnet=10.78.0.0/28")
    story.network(MARKUP, "--subnet=10.79.0.0/24")
    story.container("web", "-p", "8080:80", network="frontend")
    story.container("db1", "--ip=10.78.0.9", network="backend")
    story.inside("web", f"ping -i 0.2 -s 1000 {GATEWAY.ip} >/dev/null &")
    blank = {shape: _picture(browser, *shape) for shape in (PHONE, DESK)}
    browser.open(f"{ORIGIN}/")
    browser.until(lambda: _received(browser, "web") > 0, "the rate of web's traffic")

    heard = browser.accessibility()

    assert [one.name for one in heard if one.role == "region"] == [MARKUP, "backend", "frontend"]
    assert [one.name for one in heard if one.role == "article"] == ["db1", "web"]
    assert Node("main", "Networks") in heard
    assert Node("StaticText", "In sync") in heard
    assert Node("list", "Endpoints of frontend") in heard
    assert Node("searchbox", "Filter by name, address, port or link") in heard
    assert Node("meter", "Addresses held of 10.78.0.0/28") in heard
    for words in ("10.77.0.2", "10.78.0.9", "8080 → 80/tcp", "internal: no way out", " of 14"):
        assert words in browser.text
    assert browser.evaluate("document.images.length") == 0
    for shape in (PHONE, DESK):
        for dark in (False, True):
            assert len(_picture(browser, *shape, dark=dark)) > 3 * len(blank[shape])
            assert browser.evaluate(OVERFLOW) == 0
            assert browser.evaluate(CONTRAST) == []
    assert browser.said == []


def test_what_changes_is_shown_by_itself(story: Story, browser: Browser) -> None:
    story.network("mynet", "--subnet=10.77.0.0/24")
    story.container("web")
    story.container("db1")
    story.container("lost1")
    browser.open(f"{ORIGIN}/")
    browser.until(lambda: names(browser) == ["db1", "lost1", "web"], "three containers")
    host = story.testbed.host

    story.docker("rm", "-f", "db1")
    browser.until(lambda: names(browser) == ["lost1", "web"], "two containers")

    host.run(["nft", "delete table inet mdnp; delete table bridge mdnp"])
    browser.until(lambda: _fact(browser, "repaired") != "0", "the repair")
    browser.until(lambda: health(browser) == "In sync", "the end of it")

    link = f"mdv-{story.settings('lost1')['EndpointID'][:11]}"
    host.ip(f"link del {link}")
    browser.until(lambda: health(browser) == "Not in sync: 1 lost", "the loss")
    assert f"link {link}" in browser.text
    assert any(one.role == "heading" and one.name.startswith("Lost, ") for one in browser.accessibility())
    assert names(browser) == ["lost1", "web"]

    bridge = story.status()["networks"][0]["bridge"]
    host.ip(f"link del {bridge}", f"link add {bridge} type veth peer name other")
    browser.until(lambda: "drift" in health(browser) and f"ip link add {bridge}" in browser.text, "the drift")
    host.ip(f"link del {bridge}")
    story.plugin.cli("repair", check=False)
    story.docker("restart", "-t", "0", "lost1")
    browser.until(lambda: health(browser) == "In sync", "the end of it")

    story.plugin.stop()
    browser.until(lambda: health(browser) == "mdnp does not answer", "the daemon's end")
    assert "What you see is from" in browser.text
    assert names(browser) == ["lost1", "web"]
    story.plugin.start()
    browser.until(lambda: health(browser) == "In sync", "the daemon's return")
    assert browser.evaluate("document.getElementById('away').hidden")
    assert [one for one in browser.said if "net::ERR_" not in one] == []  # nobody was there for a while


def _fact(browser: Browser, name: str) -> str:
    facts: str = browser.evaluate("document.getElementById('facts').innerText")
    words = facts.split()
    return words[words.index(name) + 1]


def _received(browser: Browser, container: str) -> float:
    """The number that its card shows, in whatever unit."""
    cards: list[str] = browser.evaluate("[...document.querySelectorAll('article')].map(one => one.textContent)")
    card = next((one for one in cards if one.startswith(container)), "")
    number = card.partition("receives ")[2].split(" ")[0]
    return float(number) if number.replace(".", "").isdigit() else 0.0


def _picture(browser: Browser, width: int, height: int, *, dark: bool = False) -> bytes:
    browser.shape(width, height, dark=dark, still=True)
    return browser.screenshot()
