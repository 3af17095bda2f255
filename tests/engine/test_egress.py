"""The way out: what the outside sees of containers, whatever Docker's firewall and the kernel's settings are."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from rig.engine import Engine
from rig.host import GATEWAY, GATEWAY6, Host, Namespace, Underlay
from rig.rootfs import chosen
from rig.testbed import Testbed
from tests.engine.conftest import Story
from tests.engine.peers import Peers, target

pytestmark = pytest.mark.engine

_BOTH = ("--ipv6", "--subnet=10.77.0.0/24", "--subnet=fd77::/64")
_WORLD = [target(protocol, address, 7000) for address in (GATEWAY.ip, GATEWAY6.ip) for protocol in ("tcp", "udp")]
_FORWARDING = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
_BRIDGE_CALLS = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")


@pytest.fixture
def peers(story: Story) -> Iterator[Peers]:
    with Peers(story.testbed) as peers:
        yield peers


def test_the_outside_sees_the_host_when_a_container_asks(story: Story, peers: Peers) -> None:
    story.network("mynet", *_BOTH)
    story.container("web")
    peers.serve(story.testbed.outside, 7000, name="world")
    pings = peers.hear(story.testbed.outside, "echo")

    assert peers.ask("web", *_WORLD) == _seen(story.testbed.host)
    assert story.pings("web", str(GATEWAY.ip))
    assert story.pings("web", str(GATEWAY6.ip), "-6")
    assert pings.heard == {str(story.testbed.host.address.ip), str(story.testbed.host.address6.ip)}


def test_a_network_of_ipv6_only_has_a_way_out(story: Story, peers: Peers) -> None:
    if story.engine.version == "20.10":
        pytest.skip("networks without IPv4 came with Docker 28")
    story.network("mynet", "--ipv4=false", "--ipv6", "--subnet=fd77::/64")
    story.container("web")
    peers.serve(story.testbed.outside, 7000, name="world")

    assert peers.ask("web", *_WORLD[2:]) == _seen(story.testbed.host)[2:]


@pytest.mark.parametrize(
    "options",
    [
        ["com.docker.network.bridge.enable_ip_masquerade=false"],
        ["com.docker.network.bridge.gateway_mode_ipv4=routed", "com.docker.network.bridge.gateway_mode_ipv6=routed"],
    ],
    ids=["without masquerade", "routed"],
)
def test_the_outside_sees_the_container_itself_if_that_is_asked_for(
    story: Story, peers: Peers, options: list[str]
) -> None:
    # Not the subnets of the other stories: the kernel remembers for 30 s how it translated a ping of an address.
    subnets = ("10.79.0.0/24", "fd79::/64")
    story.network("mynet", "--ipv6", *(f"--subnet={one}" for one in subnets), *(f"--opt={one}" for one in options))
    story.container("web")
    addresses = [story.address("web"), story.address("web", field="GlobalIPv6Address")]
    peers.serve(story.testbed.outside, 7000, name="world")
    pings = peers.hear(story.testbed.outside, "echo")

    with _routes_back(story.testbed, *subnets):
        assert peers.ask("web", *_WORLD) == [f"world sees {address}" for address in addresses for _ in range(2)]
        assert story.pings("web", str(GATEWAY.ip))
        assert story.pings("web", str(GATEWAY6.ip), "-6")
    assert pings.heard == set(addresses)


def test_one_family_can_be_routed_and_the_other_translated(story: Story, peers: Peers) -> None:
    story.network("mynet", *_BOTH, "--opt=com.docker.network.bridge.gateway_mode_ipv6=routed")
    story.container("web")
    peers.serve(story.testbed.outside, 7000, name="world")

    with _routes_back(story.testbed, "10.77.0.0/24", "fd77::/64"):
        seen = peers.ask("web", _WORLD[0], _WORLD[2])

    address6 = story.address("web", field="GlobalIPv6Address")
    assert seen == [f"world sees {story.testbed.host.address.ip}", f"world sees {address6}"]


def test_forwarding_is_enabled_when_it_is_needed_and_the_log_says_so(story: Story, peers: Peers) -> None:
    host = story.testbed.host
    peers.serve(story.testbed.outside, 7000, name="world")

    with _settings(host, dict.fromkeys(_FORWARDING, "0")):
        story.plugin.restart()
        assert _changes_of_forwarding(story) == set()
        story.network("only4", "--subnet=10.78.0.0/24")
        assert _changes_of_forwarding(story) == {"ip_forward"}
        assert [_setting(host, key) for key in _FORWARDING] == ["1", "0"]
        story.network("mynet", *_BOTH)
        assert _changes_of_forwarding(story) == {"ip_forward", "forwarding"}
        assert [_setting(host, key) for key in _FORWARDING] == ["1", "1"]

        story.container("web")
        assert peers.ask("web", *_WORLD) == _seen(host)


def test_nothing_depends_on_whether_bridged_frames_pass_the_firewall(story: Story, peers: Peers) -> None:
    """br_netfilter on and off: neighbours, the way out, a published port from outside and from its own container."""
    host = story.testbed.host
    story.network("mynet", *_BOTH)
    story.container("web", "-p", "8080:80")
    story.container("db1")
    peers.serve(story.testbed.outside, 7000, name="world")
    peers.serve("web", 80)
    neighbour = [target("tcp", story.address("web", field=key), 80) for key in ("IPAddress", "GlobalIPv6Address")]
    published = [target("tcp", address, 8080) for address in (host.address.ip, host.address6.ip)]

    for value in ("1", "0"):
        with _settings(host, dict.fromkeys(_BRIDGE_CALLS, value)):
            assert peers.ask("db1", *_WORLD) == _seen(host)
            own = [story.address("db1", field=key) for key in ("IPAddress", "GlobalIPv6Address")]
            assert peers.ask("db1", *neighbour) == [f"web sees {address}" for address in own]
            assert peers.ask(story.testbed.outside, *published) == [
                f"web sees {address}" for address in (GATEWAY.ip, GATEWAY6.ip)
            ]
            for place in ("web", "db1", host):
                assert [answer.split()[0] for answer in peers.ask(place, *published)] == ["web", "web"]


@pytest.mark.parametrize("version", chosen())
def test_an_engine_that_leaves_the_firewall_alone_is_served_the_same(underlay: Underlay, version: str) -> None:
    """As with the nftables backend of Docker 29: there are no chains of Docker's that we could use."""
    with _bare_story(underlay, version) as story, Peers(story.testbed) as peers:
        host = story.testbed.host
        before = _ruleset(host)
        story.network("mynet", *_BOTH)
        story.network("other", "--subnet=10.78.0.0/24")
        story.container("web", "-p", "8080:80")
        story.container("far", network="other")
        peers.serve(underlay, 7000, name="world")
        peers.serve("web", 80)
        published = [target("tcp", address, 8080) for address in (host.address.ip, host.address6.ip)]

        assert peers.ask("web", *_WORLD) == _seen(host)
        assert peers.ask(underlay, *published) == [f"web sees {address}" for address in (GATEWAY.ip, GATEWAY6.ip)]
        assert [answer.split()[0] for answer in peers.ask(host, "tcp:127.0.0.1:8080", "tcp:[::1]:8080")] == ["web"] * 2
        for place in ("web", "far"):
            assert peers.ask(place, published[0])[0].startswith("web sees ")
        with _routes_back(story.testbed, "10.77.0.0/24", "fd77::/64"):
            closed = peers.ask(underlay, target("tcp", story.address("web"), 80), within_s=1)
        assert closed == ["silence"]
        assert peers.ask("far", target("tcp", story.address("web"), 80), within_s=1) == ["silence"]
        assert story.rules() == set()

        story.docker("rm", "-f", "web", "far")
        story.docker("network", "rm", "mynet", "other")
        assert _ruleset(host) == before


@contextmanager
def _bare_story(underlay: Underlay, version: str) -> Iterator[Story]:
    """A host of its own, whose engine was told to leave iptables alone."""
    host = Host(underlay, f"bare{version.partition('.')[0]}")
    engine = Engine(host, version, options=["--iptables=false", "--ip6tables=false"])
    testbed = Testbed(host, engine)
    plugin = testbed.plugin()
    plugin.start()
    engine.start()
    try:
        yield Story(testbed, plugin)
    finally:
        engine.close()
        plugin.stop()


@contextmanager
def _routes_back(testbed: Testbed, subnet4: str, subnet6: str) -> Iterator[None]:
    """The outside knows the way to a network."""
    routes = [f"{subnet4} via {testbed.host.address.ip}", f"{subnet6} via {testbed.host.address6.ip}"]
    testbed.outside.ip(*(f"route add {route}" for route in routes))
    try:
        yield
    finally:
        testbed.outside.ip(*(f"route del {route}" for route in routes))


@contextmanager
def _settings(host: Host, values: Mapping[str, str]) -> Iterator[None]:
    """These settings of the kernel, and afterwards those of before."""
    before = {key: _setting(host, key) for key in values}
    _set(host, values)
    try:
        yield
    finally:
        _set(host, before)


def _setting(host: Host, key: str) -> str:
    return host.run(["sysctl", "-n", key]).out.strip()


def _set(host: Host, values: Mapping[str, str]) -> None:
    host.run(["sysctl", "-w", *(f"{key}={value}" for key, value in values.items())])


def _changes_of_forwarding(story: Story) -> set[str]:
    """The settings that this daemon's log says were changed, by their last part."""
    log = story.plugin.log.read_text().rpartition("serves on")[2]
    return set(re.findall(r"net.(?:ipv4|ipv6.conf.all).(ip_forward|forwarding)=1", log))


def _ruleset(host: Namespace) -> str:
    """Everybody's rules, without what they counted."""
    return re.sub(r"packets \d+ bytes \d+", "", host.run(["nft", "list", "ruleset"]).out)


def _seen(host: Host) -> list[str]:
    """What the outside answers when all of _WORLD is asked by the host, or in its name."""
    return [f"world sees {address}" for address in (host.address.ip, host.address6.ip) for _ in range(2)]
