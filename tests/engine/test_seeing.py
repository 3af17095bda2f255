"""What an operator sees of a running host, and puts right."""

import json
from typing import Any

import pytest

from rig.plugin import MDNP
from tests.engine.conftest import Story

pytestmark = pytest.mark.engine


def test_a_host_is_seen_by_docker_s_names(story: Story) -> None:
    story.network("shop")
    story.container("web", "-p", "8080:80", network="shop")

    status = story.plugin.cli("status")
    endpoints = story.plugin.cli("endpoint", "ls").splitlines()
    found = json.loads(story.plugin.cli("endpoint", "inspect", "web", "--json"))

    assert [line.split()[1] for line in status.splitlines()[:2]] == ["NAME", "shop"]
    assert f"# Docker {story.engine.version}" in status
    assert [line.split()[1:3] for line in endpoints] == [["CONTAINER", "NETWORK"], ["web", "shop"]]
    assert found["addresses"][0].startswith(story.address("web", "shop"))
    assert json.loads(story.plugin.cli("network", "inspect", "shop", "--json"))["id"] == found["network"]


def test_traffic_is_seen_as_the_container_sees_it(story: Story) -> None:
    story.network()
    story.container("web")
    story.container("db1")
    before = _endpoint(story, "web")

    assert story.pings("db1", "web", "-s", "1400")
    after = _endpoint(story, "web")

    for way in ("received", "sent"):
        assert after[way]["bytes"] - before[way]["bytes"] > 3 * 1400
        assert after[way]["bytes_per_s"] > 0


def test_status_goes_on_without_docker_and_says_so(story: Story) -> None:
    story.network()
    story.container("web")
    story.plugin.cli("status")

    story.engine.stop()
    try:
        status = story.plugin.cli("status", check=False)
        networks = story.plugin.cli("network", "ls")
    finally:
        story.engine.start()

    assert "# Docker cannot be asked at " in status
    assert networks.splitlines()[1].split()[1] == "mynet"  # as it was told last


def test_what_others_changed_is_put_back_at_once_when_asked(story: Story) -> None:
    story.network()
    story.container("web")
    host = story.testbed.host
    [bridge] = [link for link in story.links() if link.startswith("mdb-")]
    host.run(["ip", "link", "set", bridge, "down"])

    story.plugin.cli("repair")

    [seen] = json.loads(host.run(["ip", "-json", "link", "show", "dev", bridge]).out)
    assert "UP" in seen["flags"]
    assert story.status()["repaired"] >= 1


def test_status_is_watched_until_interrupted(story: Story) -> None:
    story.network("shop")

    result = story.testbed.host.run(
        ["timeout", "--signal=INT", "5", MDNP, "status", "--watch"], check=False, env=story.plugin.env
    )

    assert result.out.count("NETWORK") >= 2
    assert "Traceback" not in result.said


def _endpoint(story: Story, name: str) -> dict[str, Any]:
    view: dict[str, Any] = json.loads(story.plugin.cli("endpoint", "inspect", name, "--json"))
    return view
