"""`mdnp trace` on real engines: ways that hold, and ways that were broken, each named at its hop."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from rig.command import until
from rig.host import GATEWAY, GATEWAY6, Namespace
from rig.rootfs import chosen
from tests.engine.conftest import Story
from tests.engine.peers import Peers

pytestmark = pytest.mark.engine

_AT_ONCE = 4

# What the engine's version has no part in.
_one_engine = pytest.mark.parametrize("testbed", chosen()[:1], indirect=True)


@dataclass(frozen=True)
class Traced:
    """What one trace said."""

    code: int
    view: dict[str, Any]

    @property
    def ended(self) -> str:
        return str(self.view["verdict"])

    @property
    def places(self) -> list[str]:
        return [f"{hop['kind']} {hop['place']}" for hop in self.view["hops"]]

    @property
    def last(self) -> dict[str, Any]:
        hop: dict[str, Any] = self.view["hops"][-1]
        return hop


def _trace(story: Story, container: str, target: str) -> Traced:
    result = story.plugin.attempt("trace", container, target, "--json")
    return Traced(
        result.code, json.loads(result.checked().out if result.code == 0 else result.out or f'"{result.err}"')
    )


def _all(story: Story, *asked: tuple[str, str]) -> list[Traced]:
    """Several traces at once: each watches its own flow only."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda one: _trace(story, *one), asked))


def _settle(story: Story) -> None:
    story.network("mynet", "--subnet=10.77.0.0/24", "--ipv6", "--subnet=fd77::/64")
    story.network("other", "--subnet=10.78.0.0/24")
    story.container("web", "-p", "8080:80")
    story.container("db", "--network-alias=cache")
    story.container("far", network="other")


def _dies(traced: Traced, kind: str, place: str, *words: str) -> None:
    """At the last hop, which is of that kind and place and has all the words; the last line repeats them."""
    last = traced.last
    assert (traced.code, last["dies"], traced.view["dies_at"]) == (1, True, len(traced.view["hops"])), traced.view
    assert (last["kind"], last["place"]) == (kind, place), traced.view
    assert traced.ended.startswith(f"dies at hop {traced.view['dies_at']}, {place}: {last['what']}")
    assert all(word in traced.ended for word in words), traced.ended


@contextmanager
def _broken(place: Namespace, how: str, back: str) -> Iterator[None]:
    place.run(how.split())
    try:
        yield
    finally:
        place.run(back.split())


def test_ways_that_hold_are_walked_to_the_answer_and_nothing_is_left(story: Story) -> None:
    _settle(story)
    host = story.testbed.host
    before = story.status()["repaired"]
    with Peers(story.testbed) as peers:
        peers.serve("web", 80)
        peers.serve(story.testbed.outside, 7000, name="world")
        asked = [
            ("web", "db"),
            ("web", str(GATEWAY.ip)),
            ("db", f"{GATEWAY.ip}:7000/udp"),
            ("web", f"[{GATEWAY6.ip}]:7000"),
            ("db", f"{host.address.ip}:8080"),
            ("far", f"{host.address.ip}:8080"),
            ("web", str(host.address6.ip)),
            ("web", "web:80"),
            ("web", "cache"),
        ]
        neighbour, outside, udp, outside6, published, across, itself, own, alias = ways = _all(story, *asked)

    assert [(one.code, one.ended[:12]) for one in ways] == [(0, "answered in ")] * len(ways)
    assert [one.view for one in ways if one.view["dies_at"]] == []
    assert [one.view["remarks"] for one in (outside, own)] == [[], [f"web is {story.address('web')} on network mynet"]]
    assert alias.view["remarks"] == [f"cache is {story.address('db')}, as Docker's DNS tells web"]
    assert "guard bridge mdnp prerouting" in neighbour.places
    assert neighbour.places[-1] == f"reply container db ({story.address('db')})"
    assert "route route of the host" not in neighbour.places
    for one in (outside, udp, outside6):
        assert "forward inet mdnp forward" in one.places
        assert "route route of the host" in one.places
        assert "out eth0" in one.places
    masquerade = next(hop for hop in outside.view["hops"] if hop["kind"] == "NAT")
    assert masquerade["nat"] == f"{story.address('web')} → {host.address.ip}"
    assert masquerade["rule"] == "iifname @nat4 meta nfproto ipv4 masquerade"
    for one in (published, across):
        first = next(hop for hop in one.view["hops"] if hop["kind"] == "NAT")
        assert first["nat"] == f"{host.address.ip}:8080 → {story.address('web')}:80"
        assert one.view["hops"][-2]["what"] == "delivered to container web"
    assert itself.places[-2:] == ["host the host itself", f"reply the host itself ({host.address6.ip})"]
    assert own.places == ["from web", "reply the container itself"]
    assert "mdnp-trace" not in host.run(["nft", "list", "tables"]).out
    assert story.status()["repaired"] == before
    assert story.status()["healthy"]


OUT = str(GATEWAY.ip)
HOST = "route of the host"

# Who asks whom, and where it dies: the hop's kind and place, and words of the last line.
DEATHS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("web", f"{OUT}:97"): ("forward", "inet firewalld filter_FORWARD", "tcp dport 97 drop", "not mdnp's"),
    ("web", f"{OUT}:98"): (
        "forward",
        "ip filter FORWARD",
        "drop in DOCKER-USER: -A",
        '"an evil rule"',
        "--dport 98 -j DROP",
    ),
    ("web", f"{OUT}:95"): ("forward", "ip filter FORWARD", "reject in DOCKER-USER", "-j REJECT"),
    ("web", f"{OUT}:96"): ("reply", "beyond eth0", "no answer", "nothing here drops it"),
    ("web", "203.0.113.9"): ("route", HOST, "blackhole 203.0.113.0/24 refuses it"),
    ("web", "198.51.100.7:80"): ("reply", f"router {OUT}", "it says: No route to host (ICMP type 3 code 1)"),
    ("web", "192.0.2.77"): ("neighbour", "192.0.2.77 on eth0", "nobody answers ARP"),
    ("web", "10.77.0.200"): ("neighbour", "10.77.0.200", "nobody answers ARP", "no running container of mynet"),
    ("web", "fd77::200"): ("neighbour", "fd77::200", "nobody answers neighbour solicitations"),
    ("web", "far"): (
        "forward",
        "inet mdnp forward",
        "iifname @bridges oifname @bridges drop",
        "isolation: networks are",
    ),
    ("web", "n1"): ("route", HOST, "is container n1 here", "isolation: that network has no gateway"),
    ("n1", OUT): ("from", "n1", f"no route to {OUT}", "network closed is internal"),
    ("i1", "i2"): ("forward", "bridge mdnp forward", "iifname @noicc drop", "enable_icc=false"),
    ("astray", OUT): ("guard", "bridge mdnp prerouting", "iifname @guarded drop", "the guard lets"),
    ("db", OUT): ("from", "db", f"no route to {OUT}", "somebody removed it"),
    ("far", f"{OUT}:80"): ("from", "far", "did not come to the host", "inside the container"),
    ("web", "mute"): ("reply", "container mute", "no answer", "the firewall inside container mute"),
}


def test_each_rule_and_route_that_stops_a_packet_is_named(story: Story) -> None:
    """All stand at once, each in the way of one flow."""
    _settle(story)
    story.network("hermits", "--subnet=10.79.0.0/24", "-o", "com.docker.network.bridge.enable_icc=false")
    story.network("closed", "--subnet=10.80.0.0/24", "--internal")
    story.docker("network", "create", "--subnet=10.88.0.0/24", "docks")
    for name, network in (("i1", "hermits"), ("i2", "hermits"), ("n1", "closed"), ("dock", "docks")):
        story.container(name, network=network)
    for name in ("astray", "mute"):
        story.container(name)
    story.testbed.sandbox("astray", ["ip", "address", "add", "10.77.0.99/24", "dev", "eth0"])
    story.testbed.sandbox("astray", ["ip", "route", "replace", "default", "via", "10.77.0.1", "src", "10.77.0.99"])
    story.testbed.sandbox("db", ["ip", "route", "del", "default"])
    story.testbed.sandbox("far", ["iptables", "-A", "OUTPUT", "-p", "tcp", "-j", "DROP"])
    story.testbed.sandbox("mute", ["iptables", "-A", "INPUT", "-p", "icmp", "-j", "DROP"])
    with _obstacles(story):
        repaired = story.status()["repaired"]
        told = dict(zip(DEATHS, _all(story, *DEATHS), strict=True))
        outside, neighbour, dock = _all(story, ("web", f"{OUT}:94"), ("web", "db:81"), ("web", "dock"))

    for asked, (kind, place, *words) in DEATHS.items():
        _dies(told[asked], kind, place, *words)
    _refused(outside, f"{OUT} by eth0", 94)
    _refused(neighbour, f"container db ({story.address('db')})", 81)
    # Docker before 28 leaves it to us.
    assert dock.places[-1] in ("forward inet mdnp forward", "prerouting ip raw PREROUTING")
    assert "isolation" in dock.ended
    assert "Docker gave it" in told["astray", OUT].view["hops"][0]["what"]
    assert "mdnp-trace" not in story.testbed.host.run(["nft", "list", "tables"]).out
    assert story.status()["repaired"] == repaired


@contextmanager
def _obstacles(story: Story) -> Iterator[None]:
    """Rules and a route of others, on the host and on the machine outside."""
    forward = "{ type filter hook forward priority 10; }"
    comes_in = "{ type filter hook input priority 0; }"
    user = ["-s", "10.77.0.0/24", "-p", "tcp", "-m", "comment", "--comment", "an evil rule", "--dport"]
    host, outside = story.testbed.host, story.testbed.outside
    host.run(["nft", f"table inet firewalld {{ chain filter_FORWARD {forward}; }}"])
    host.run(["nft", "add rule inet firewalld filter_FORWARD tcp dport 97 drop"])
    outside.run(["nft", f"table inet filter {{ chain input {comes_in}; }}"])
    outside.run(["nft", "add rule inet filter input tcp dport 96 drop"])
    for action in (["98", "-j", "DROP"], ["95", "-j", "REJECT"]):
        host.run(["iptables", "-I", "DOCKER-USER", *user, *action])
    host.run(["ip", "route", "add", "blackhole", "203.0.113.0/24"])
    outside.run(["ip", "route", "add", "unreachable", "198.51.100.0/24"])
    forwards = outside.run(["sysctl", "-n", "net.ipv4.ip_forward"]).out.strip()
    outside.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    try:
        yield
    finally:
        outside.run(["sysctl", "-qw", f"net.ipv4.ip_forward={forwards}"])
        outside.run(["ip", "route", "del", "unreachable", "198.51.100.0/24"])
        host.run(["nft", "delete table inet firewalld"])
        outside.run(["nft", "delete table inet filter"])
        for action in (["98", "-j", "DROP"], ["95", "-j", "REJECT"]):
            host.run(["iptables", "-D", "DOCKER-USER", *user, *action])
        host.run(["ip", "route", "del", "blackhole", "203.0.113.0/24"])


@_one_engine
def test_what_is_down_or_switched_off_is_named_although_the_daemon_is_away(story: Story) -> None:
    """With the daemon these would stand for a moment only: it mends them."""
    _settle(story)
    host = story.testbed.host
    [end] = [one["host_end"] for one in _endpoints(story) if f"{story.address('web')}/24" in one["addresses"]]
    [other] = [one["host_end"] for one in _endpoints(story) if f"{story.address('db')}/24" in one["addresses"]]
    bridge = json.loads(host.run(["ip", "-json", "link", "show", "dev", end]).out)[0]["master"]
    accept = "DOCKER-USER -i mdb-+ -m comment --comment mdnp -j ACCEPT"
    legacy = f"FORWARD -d {GATEWAY.ip} -j DROP"
    story.plugin.stop()
    host.run(["iptables", "-P", "FORWARD", "DROP"])  # as Docker leaves it that found forwarding off when it started

    with _broken(host, f"ip link set {end} down", f"ip link set {end} up"):
        _dies(_trace(story, "web", "db"), "veth", end, "it is down")
    with _broken(host, f"ip link set {end} nomaster", f"ip link set {end} master {bridge}"):
        _dies(_trace(story, "web", "db"), "veth", end, "it is no port of a bridge")
    with _broken(host, f"ip link set {bridge} down", f"ip link set {bridge} up"):
        _dies(_trace(story, "web", "db"), "bridge", bridge, "it is down")
    with _broken(host, f"ip link set {other} down", f"ip link set {other} up"):
        _dies(_trace(story, "web", "db"), "neighbour", story.address("db"), f"its host end {other} is down")
    with _broken(host, "sysctl -w net.ipv4.ip_forward=0", "sysctl -w net.ipv4.ip_forward=1"):
        _dies(_trace(story, "web", str(GATEWAY.ip)), "route", "route of the host", "net.ipv4.ip_forward=0")
    with _broken(host, f"iptables -D {accept}", f"iptables -I {accept}"):
        _dies(_trace(story, "web", str(GATEWAY.ip)), "forward", "ip filter FORWARD", "drop by policy", "DOCKER-USER")
    with _broken(host, f"iptables-legacy -A {legacy}", f"iptables-legacy -D {legacy}"):
        _dies(_trace(story, "web", str(GATEWAY.ip)), "legacy", "iptables-legacy", "-d 192.0.2.1/32 -j DROP")
    assert _trace(story, "web", str(GATEWAY.ip)).code == 0
    story.plugin.start()


@_one_engine
def test_of_a_trace_that_is_killed_nothing_is_left(story: Story) -> None:
    _settle(story)
    host = story.testbed.host

    def stands() -> bool:
        return host.run(["nft", "list", "tables"]).out.count("mdnp-trace-") == 2

    def monitors() -> str:
        return host.run(["cat", "/proc/net/netlink"]).out

    before, repaired = _hearers(monitors()), story.status()["repaired"]  # Docker's own changes count there too
    tracer = host.spawn(
        [*story.plugin.command[:1], "trace", "web", "192.0.2.77"], log="tracer.log", env=story.plugin.env
    )
    until(lambda: stands() and _hearers(monitors()) > before, "the trace to watch")
    tracer.kill()

    until(lambda: "mdnp-trace-" not in host.run(["nft", "list", "tables"]).out, "the tables to go")
    until(lambda: _hearers(monitors()) == before, "the monitor to end")
    assert story.status()["repaired"] == repaired


def _hearers(sockets: str) -> int:
    """How many netlink sockets of a namespace hear of traces."""
    rows = [line.split() for line in sockets.splitlines()[1:]]
    return sum(row[1] == "12" and bool(int(row[3], 16) & 1 << 8) for row in rows)


@_one_engine
def test_what_cannot_be_traced_is_said_and_why(story: Story) -> None:
    _settle(story)
    story.docker("network", "create", "--subnet=10.88.0.0/24", "docks")
    story.container("dock", network="docks")
    story.container("ghost", network="host")
    story.docker("stop", "far")
    told = {
        words: story.plugin.attempt("trace", *words)
        for words in (
            ("nobody", "db"),
            ("far", "db"),
            ("dock", "db"),
            ("ghost", "db"),
            ("web", "db:0"),
            ("web", "no.such.name"),
            ("web", "10.77.0.255"),
            ("web", "ff02::1"),
            ("web", "fe80::1"),
        )
    }
    docker_less = story.testbed.host.run(
        [*story.plugin.command[:1], "trace", "web", "db"],
        check=False,
        env={**story.plugin.env, "MDNP_DOCKER_HOST": "unix:///nowhere.sock"},
    )

    assert [(one.code, one.out) for one in told.values()] == [(1, "")] * 4 + [(2, ""), (1, "")] + [(2, "")] * 3
    assert "Docker has no container 'nobody'" in told["nobody", "db"].err
    assert "container far does not run" in told["far", "db"].err
    assert "container dock is on no network of mdnp's (it is on: docks)" in told["dock", "db"].err
    assert "container ghost has the host's own network" in told["ghost", "db"].err
    assert "'0' is no port" in told["web", "db:0"].err
    for address, why in (("10.77.0.255", "broadcast"), ("ff02::1", "multicast"), ("fe80::1", "link-local")):
        assert f"{address} is a {why} address" in told["web", address].err
    assert "cannot be resolved in web" in told["web", "no.such.name"].err
    assert (docker_less.code, "Docker cannot be asked at /nowhere.sock" in docker_less.err) == (1, True)


def _refused(traced: Traced, sender: str, port: int) -> None:
    assert (traced.code, traced.view["dies_at"], traced.view["answer"]) == (1, None, "refused"), traced.view
    assert traced.ended.startswith(f"refused by {sender}: nothing listens on tcp port {port} there")


def _endpoints(story: Story) -> Sequence[dict[str, Any]]:
    view: list[dict[str, Any]] = json.loads(story.plugin.cli("endpoint", "ls", "--json"))
    return view
