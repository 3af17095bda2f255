"""What an operator's Prometheus and log reader see of a host on which something happens."""

import json
import re
from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.engine.conftest import Story
from tests.engine.frames import Station, Wire, datagram

pytestmark = pytest.mark.engine

_PLACE = "127.0.0.1:9677"


@pytest.fixture
def plugin_env() -> Mapping[str, str]:
    return {"MDNP_METRICS": _PLACE, "MDNP_LOG_FORMAT": "json"}


def _scraped(story: Story) -> dict[tuple[str, ...], float]:
    """By name and the values of the labels, through the loopback port."""
    text = story.testbed.host.run(["curl", "-sSf", f"http://{_PLACE}/metrics"]).out
    families = text_string_to_metric_families(text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def _ids(story: Story, container: str) -> tuple[str, str]:
    settings = story.settings(container)
    return settings["EndpointID"][:12], settings["NetworkID"][:12]


def _calls(shown: Mapping[tuple[str, ...], float], *verbs: str) -> dict[str, float]:
    return {verb: shown["mdnp_call_duration_seconds_count", "NetworkDriver", verb] for verb in verbs}


def test_calls_traffic_and_what_is_published_are_in_the_metrics(story: Story) -> None:
    story.network("mynet", "--subnet=10.77.0.0/24")
    story.container("web", "-p", "8080:80")
    story.container("db")
    ids = _ids(story, "web")
    before = _scraped(story)

    size, count = 1000, 5
    story.inside("db", f"ping -q -c {count} -i 0.1 -s {size} {story.address('web')}")
    after = _scraped(story)

    made = _calls(after, "CreateNetwork", "CreateEndpoint", "Join")
    assert (made["CreateNetwork"], made["CreateEndpoint"] >= 2, made["Join"] >= 2) == (1, True, True)
    assert [after[name,] for name in ("mdnp_networks", "mdnp_published_ports")] == [1, 1]
    assert after["mdnp_endpoints", "joined"] == 2
    assert after["mdnp_kernel_steps_total", "add", "veth"] >= 2
    for way in ("receive", "transmit"):
        grown = {
            what: after[name, *ids] - before[name, *ids]
            for what in ("bytes", "packets")
            if (name := f"mdnp_endpoint_{way}_{what}_total")
        }
        assert size * count < grown["bytes"] < 3 * size * count, way
        assert count <= grown["packets"] < 5 * count, way
    assert after["process_start_time_seconds",] == before["process_start_time_seconds",]


def test_what_a_container_sends_is_told_as_sent(story: Story) -> None:
    """Nobody answers it."""
    story.network("mynet", "--subnet=10.77.0.0/24")
    story.container("web")
    story.container("db")
    web, db = (Station.of(story.settings(name)) for name in ("web", "db"))
    ids = _ids(story, "db")
    before = _scraped(story)

    with Wire(story.testbed, "db") as wire:
        wire.send(*[datagram(db, web, data=b"x" * 1000) for _ in range(20)])
    after = _scraped(story)

    received, sent = (
        after[name, *ids] - before[name, *ids]
        for name in ("mdnp_endpoint_receive_bytes_total", "mdnp_endpoint_transmit_bytes_total")
    )
    assert sent > 20 * 1000
    assert received < 10 * 1000


def test_what_the_guard_drops_is_counted(story: Story) -> None:
    story.network("mynet", "--subnet=10.77.0.0/24")
    story.container("evil")
    story.container("victim")
    victim = Station.of(story.settings("victim"))
    name = ("mdnp_endpoint_guard_drops_total", *_ids(story, "evil"))
    before = _scraped(story)[name]

    with Wire(story.testbed, "evil") as wire:
        wire.send(*[datagram(victim, victim) for _ in range(7)])
    story.status()  # a look at the kernel; else it is 30 s until one

    assert _scraped(story)[name] == before + 7


def test_an_error_leads_to_the_log_and_every_line_of_it_is_json(story: Story) -> None:
    mark = story.plugin.log.stat().st_size  # of daemons that logged text
    story.plugin.restart()
    story.network()
    story.container("web", "-p", "8080:80")

    refused = story.refused("run", "--rm", "--net=mynet", "-p", "8080:80", "busybox:rig", "true")
    story.refused("network", "create", "--driver=mdnp", "-o", "mdnp.guard=maybe", "other")

    [call] = re.findall(r"\(call ([0-9a-f]{6})\)", refused)
    lines = [json.loads(line) for line in story.plugin.log.read_bytes()[mark:].splitlines()]
    mine = [line for line in lines if line["call"] == call]
    assert any(line["level"] == "warning" and "8080" in line["message"] for line in mine)
    assert all(set(line) == {"time", "level", "logger", "message", "call"} for line in lines)
    # A look at everything that comes between a promise and its steps takes them first, and for no call.
    made = {line["call"] for line in lines if line["message"].startswith("ip link add")}
    assert len(made - {""}) >= 2
    shown = _scraped(story)
    errors = {labels[2]: value for labels, value in shown.items() if labels[0] == "mdnp_call_errors_total" and value}
    # Engines from 28 show the options first to GwAllocCheck.
    assert set(errors) in (
        {"ProgramExternalConnectivity", "CreateNetwork"},
        {"ProgramExternalConnectivity", "GwAllocCheck"},
    )
