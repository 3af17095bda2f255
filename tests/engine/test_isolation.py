"""What is closed: networks to each other and to Docker's, the host's loopback, and what a user asked to be closed."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from rig.host import GATEWAY, GATEWAY6, Namespace
from tests.engine.conftest import Story
from tests.engine.frames import (
    ALL_NODES,
    BROADCAST,
    EVERYBODY,
    Mailbox,
    Station,
    Wire,
    datagram,
    ether,
    link_mac,
)
from tests.engine.peers import Peers

pytestmark = pytest.mark.engine

_PROTOCOLS = ("tcp", "udp")
_BRIDGE_NETFILTER = (1, 0)
_PORTS = ("-p", "8080:80", "-p", "8080:80/udp")
_TIME_TO_ANSWER_S = 1.5


def _subnets(number: int) -> list[str]:
    return ["--ipv6", f"--subnet=10.77.{number}.0/24", f"--subnet=fd77:{number}::/64"]


def _at(place: Station | tuple[object, object], port: int, protocols: tuple[str, ...] = _PROTOCOLS) -> set[str]:
    """A port at an address of each family, for every protocol."""
    ip4, ip6 = (place.ip4, place.ip6) if isinstance(place, Station) else place
    return {f"{protocol}:{address}:{port}" for protocol in protocols for address in (ip4, f"[{ip6}]")}


def _host_at(story: Story, port: int, protocols: tuple[str, ...] = _PROTOCOLS) -> set[str]:
    return _at((story.testbed.host.address.ip, story.testbed.host.address6.ip), port, protocols)


def _station(story: Story, container: str, network: str) -> Station:
    return Station.of(story.settings(container, network))


def _bridge(story: Story, network: str) -> str:
    key = story.docker("network", "inspect", "--format={{.Id}}", network)
    [bridge] = [one["bridge"] for one in story.status()["networks"] if one["id"] == key]
    return str(bridge)


def _answered(
    story: Story, peers: Peers, asked: Mapping[str, set[str]], within_s: float = _TIME_TO_ANSWER_S
) -> dict[str, set[str]]:
    """Which of the targets answered to whom, all asked at once; the host and the outside have their names."""

    def ask(name: str) -> set[str]:
        targets = sorted(asked[name])
        answers = peers.ask(_place(story, name), *targets, within_s=within_s)
        return {target for target, answer in zip(targets, answers, strict=True) if " sees " in answer}

    with ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip(asked, pool.map(ask, asked), strict=True))


def _place(story: Story, name: str) -> str | Namespace:
    return {"host": story.testbed.host, "outside": story.testbed.outside}.get(name, name)


@contextmanager
def _bridge_netfilter(story: Story, value: int) -> Iterator[None]:
    """Whether frames that only cross a bridge pass the filters of IP. The engine puts it on; others may put it off."""
    keys = [f"net.bridge.bridge-nf-call-{name}" for name in ("iptables", "ip6tables")]
    before = [story.testbed.host.run(["sysctl", "-n", key]).out.strip() for key in keys]
    story.testbed.host.run(["sysctl", "-qw", *(f"{key}={value}" for key in keys)])
    try:
        yield
    finally:
        story.testbed.host.run(["sysctl", "-qw", *(f"{key}={old}" for key, old in zip(keys, before, strict=True))])


def _lead_into(story: Story, bridge: str, station: Station) -> None:
    """The host knows the way to a container on a bridge where it has no address itself."""
    for address in (station.ip4, station.ip6):
        story.testbed.host.ip(
            f"route add {address} dev {bridge}", f"neigh add {address} lladdr {station.mac} dev {bridge}"
        )


@contextmanager
def _routes_to(story: Story, *subnets: str) -> Iterator[None]:
    """The world outside knows the way to the containers: it sends what is for them to the host."""
    host, outside = story.testbed.host, story.testbed.outside
    lines = [f"{subnet} via {(host.address6 if ':' in subnet else host.address).ip}" for subnet in subnets]
    outside.ip(*(f"route add {line}" for line in lines))
    try:
        yield
    finally:
        outside.ip(*(f"route del {line}" for line in lines))


def test_networks_are_closed_to_each_other_to_docker_s_and_to_a_neighbour_with_a_route(story: Story) -> None:
    """Only what was published is open, and only at an address of the host."""
    story.network("one", *_subnets(1))
    story.network("two", *_subnets(2))
    routed = [f"com.docker.network.bridge.gateway_mode_ipv{version}=routed" for version in (4, 6)]
    story.network("straight", *_subnets(3), *(word for mode in routed for word in ("-o", mode)))
    story.docker("network", "create", "--ipv6", "--subnet=10.88.0.0/24", "--subnet=fd88::/64", "docks")
    story.container("web", *_PORTS, network="one")
    story.container("db1", network="two")
    story.container("mid", network="one")
    story.docker("network", "connect", "two", "mid")
    story.container("plain", network="straight")
    story.container("dock", "-p", "9090:80", network="docks")
    web, db1, plain = (_station(story, *names) for names in (("web", "one"), ("db1", "two"), ("plain", "straight")))
    mid, dock = _station(story, "mid", "one"), _station(story, "dock", "docks")
    closed = {"web": web, "db1": db1, "plain": plain, "dock": dock}
    ours = {name: _at(station, 80) for name, station in closed.items() if name != "dock"}
    published, of_docker = _host_at(story, 8080), _host_at(story, 9090, ("tcp",))
    asked = {
        "web": ours["db1"] | ours["plain"] | _at(dock, 80) | _at(mid, 80) | published | of_docker,
        "db1": ours["web"] | ours["plain"] | _at(dock, 80) | _at(mid, 80) | published | of_docker,
        "plain": ours["web"] | ours["db1"] | _at(dock, 80) | _at(mid, 80) | published | of_docker,
        "dock": ours["web"] | ours["db1"] | ours["plain"] | _at(mid, 80) | published | of_docker,
        "outside": ours["web"] | ours["db1"] | ours["plain"] | _at(mid, 80) | published | of_docker,
    }
    everybody = dict.fromkeys(asked, published | of_docker)
    subnets = [f"10.77.{number}.0/24" for number in (1, 2, 3)] + [f"fd77:{number}::/64" for number in (1, 2, 3)]

    with Peers(story.testbed) as peers, _routes_to(story, *subnets):
        for name in (*closed, "mid"):
            peers.serve(name, 80)
        # Docker's bridge looks for others with its link-local address first, and finds no neighbours meanwhile.
        story.soon(lambda: _answered(story, peers, {"outside": of_docker}) == {"outside": of_docker}, within_s=10)
        for value in _BRIDGE_NETFILTER:
            with _bridge_netfilter(story, value):
                answered = _answered(story, peers, asked)
                assert answered == everybody | {"web": everybody["web"] | _at(mid, 80)}, f"with br_netfilter {value}"


def test_containers_of_a_network_without_icc_reach_all_but_each_other(story: Story) -> None:
    """By frames of any kind; at a port that is published they do, their own one too."""
    story.network("mynet", *_subnets(1), "-o", "com.docker.network.bridge.enable_icc=false")
    story.container("web", *_PORTS)
    story.container("db1")
    web, db1 = _station(story, "web", "mynet"), _station(story, "db1", "mynet")
    gateway = (IPv4Address("10.77.1.1"), IPv6Address("fd77:1::1"))
    open_to_all = _host_at(story, 8080) | _at(gateway, 7000) | _at((GATEWAY.ip, GATEWAY6.ip), 7000)
    asked = {"web": open_to_all | _at(db1, 80), "db1": open_to_all | _at(web, 80), "outside": _host_at(story, 8080)}
    direct = _frames_of_any_kind(db1, web)
    by_gateway = replace(web, mac=link_mac(story.testbed.host, _bridge(story, "mynet")))

    with (
        Peers(story.testbed) as peers,
        Wire(story.testbed, "db1") as sender,
        Wire(story.testbed, "web") as wire,
        Mailbox(story.testbed, "web", 4000) as box,
    ):
        for place in ("web", "db1"):
            peers.serve(place, 80)
        peers.serve(story.testbed.host, 7000, name="host")
        peers.serve(story.testbed.outside, 7000, name="outside")
        for value in _BRIDGE_NETFILTER:
            with _bridge_netfilter(story, value):
                assert _answered(story, peers, asked) == {
                    "web": open_to_all,
                    "db1": open_to_all,
                    "outside": _host_at(story, 8080),
                }, f"with br_netfilter {value}"
                wire.seen()
                sender.send(*direct.values(), *(datagram(db1, by_gateway, version) for version in (4, 6)))
                seen = wire.seen()
                assert [name for name, frame in direct.items() if frame in seen] == [], f"with br_netfilter {value}"
                assert box.seen() == set(), f"with br_netfilter {value}"


def test_containers_of_a_network_with_icc_reach_each_other_by_frames_of_any_kind(story: Story) -> None:
    story.network("mynet", *_subnets(1))
    story.container("web")
    story.container("db1")
    direct = _frames_of_any_kind(_station(story, "db1", "mynet"), _station(story, "web", "mynet"))

    with Wire(story.testbed, "db1") as sender, Wire(story.testbed, "web") as wire:
        sender.send(*direct.values())
        seen = wire.seen(until=list(direct.values())[-1])

    assert [name for name, frame in direct.items() if frame not in seen] == []


def _frames_of_any_kind(sender: Station, receiver: Station) -> dict[str, bytes]:
    return {
        "no IP": ether(sender.mac, receiver.mac, 0x88B5, b"an experiment"),
        "no IP, to all": ether(sender.mac, BROADCAST, 0x88B5, b"an experiment"),
        "IPv4 to all on the wire": datagram(sender, replace(receiver, mac=BROADCAST), data=b"to all"),
        "IPv6 to all on the wire": datagram(sender, replace(receiver, mac=ALL_NODES.mac), 6, data=b"to all"),
        "IPv4 to all": datagram(sender, EVERYBODY, data=b"broadcast"),
        "IPv4": datagram(sender, receiver),
        "IPv6": datagram(sender, receiver, 6),
        "IPv6 link-local": datagram(
            replace(sender, ip6=sender.link_local), replace(receiver, ip6=receiver.link_local), 6
        ),
    }


def test_no_frame_reaches_the_host_s_loopback(story: Story) -> None:
    """
    Neither services of the host there, nor ports published there; the guard is off, so that it is not what helps.

    From 127.0.0.0/8 nothing arrives either: there are services that trust whoever comes from there.
    """
    story.network("mynet", *_subnets(1), "-o", "mdnp.guard=off")
    story.container("web", "-p", "127.0.0.1:8080:80/udp", "-p", "8081:81/udp")
    host, outside = story.testbed.host, story.testbed.outside
    web = _station(story, "web", "mynet")
    gateway = Station(link_mac(host, _bridge(story, "mynet")), IPv4Address("10.77.1.1"), IPv6Address("fd77:1::1"))
    world = Station(link_mac(outside, "wire"), GATEWAY.ip, GATEWAY6.ip)
    uplink = Station(link_mac(host, "eth0"), host.address.ip, host.address6.ip)

    with (
        Mailbox(story.testbed, host, 7000, "127.0.0.1") as loopback4,
        Mailbox(story.testbed, host, 7000, "::1") as loopback6,
        Mailbox(story.testbed, host, 7001) as service,
        Mailbox(story.testbed, "web", 80) as published,
        Wire(story.testbed, "web") as inside,
        Wire(story.testbed, outside, "wire") as far,
    ):
        for wire, sender, way in ((inside, web, gateway), (far, world, uplink)):
            to_loopback = replace(way, ip4=IPv4Address("127.0.0.1"), ip6=IPv6Address("::1"))
            for version in (4, 6):
                wire.send(
                    datagram(sender, to_loopback, version, ports=(4000, 7000)),
                    datagram(sender, to_loopback, version, ports=(4000, 8080)),
                    datagram(sender, to_loopback, version, ports=(4000, 8081)),
                )
            for source in ("127.0.0.1", "127.0.0.2"):
                liar = replace(sender, ip4=IPv4Address(source))
                wire.send(datagram(liar, way, ports=(4001, 7001), data=source.encode()))
            wire.send(datagram(replace(sender, ip6=IPv6Address("::1")), way, 6, ports=(4001, 7001), data=b"::1"))
            wire.send(datagram(sender, way, ports=(4002, 7001), data=b"from itself"))
            assert service.seen(until=b"from itself") == {b"from itself"}
        service.send(b"from the host", "127.0.0.1", 8080)

        assert published.seen(until=b"from the host") == {b"from the host"}
        assert loopback4.seen() | loopback6.seen() == set()


def test_an_internal_network_has_no_way_out_and_none_in(story: Story) -> None:
    """Whatever its containers send to the bridge. On a network with a way out each of these frames arrives."""
    story.network("inner", "--internal", *_subnets(1), "-o", "mdnp.guard=off")
    story.network("outer", *_subnets(2), "-o", "mdnp.guard=off")
    for name, network in (("web", "inner"), ("db1", "inner"), ("way", "outer")):
        story.container(name, *_PORTS * (name == "way"), network=network)
    web, way = _station(story, "web", "inner"), _station(story, "way", "outer")
    host, outside = story.testbed.host, story.testbed.outside
    bridges = {network: Station(link_mac(host, _bridge(story, network))) for network in ("inner", "outer")}
    _lead_into(story, _bridge(story, "inner"), web)

    with (
        Peers(story.testbed) as peers,
        Mailbox(story.testbed, host, 7000) as on_host,
        Mailbox(story.testbed, outside, 7000) as far,
        Mailbox(story.testbed, "way", 81) as on_way,
        Mailbox(story.testbed, "web", 82) as on_web,
        Wire(story.testbed, "web") as inside,
        Wire(story.testbed, "way") as open_wire,
        _routes_to(story, "10.77.1.0/24", "fd77:1::/64"),
    ):
        peers.serve("web", 80)
        peers.serve("way", 80)
        asked = {name: _at(web, 80) for name in ("db1", "way", "outside")} | {
            "web": _host_at(story, 8080) | _at(way, 80)
        }
        for value in _BRIDGE_NETFILTER:
            with _bridge_netfilter(story, value):
                answered = _answered(story, peers, asked)
                assert answered == {"db1": _at(web, 80), "way": set(), "outside": set(), "web": set()}
                inside.send(*_ways_out(story, web, bridges["inner"]).values())
                inside.send(
                    *(datagram(web, replace(way, mac=bridges["inner"].mac), one, ports=(1, 81)) for one in (4, 6))
                )
                for sender in (far, on_way):
                    for address in (web.ip4, web.ip6):
                        sender.send(b"from elsewhere", str(address), 82)
                arrived = on_host.seen() | far.seen() | on_way.seen() | on_web.seen()
                assert arrived == set(), f"with br_netfilter {value}"
        expected = _ways_out(story, way, bridges["outer"])
        open_wire.send(*expected.values())
        assert on_host.seen() | far.seen() == set(expected)


def _ways_out(story: Story, sender: Station, bridge: Station) -> dict[bytes, bytes]:
    """Datagrams to port 7000 of the host and the world, by what they say."""
    host = story.testbed.host
    local = replace(sender, ip6=sender.link_local)
    receivers = {
        b"host": replace(bridge, ip4=host.address.ip, ip6=host.address6.ip),
        b"world": replace(bridge, ip4=GATEWAY.ip, ip6=GATEWAY6.ip),
        b"gateway": replace(bridge, ip4=IPv4Address("10.77.2.1"), ip6=IPv6Address("fd77:2::1")),
    }
    frames = {
        b"%s %d" % (name, version): (sender, receivers[name], version) for name in receivers for version in (4, 6)
    }
    frames |= {
        b"broadcast": (sender, EVERYBODY, 4),
        b"all nodes": (sender, ALL_NODES, 6),
        b"all nodes from link-local": (local, ALL_NODES, 6),
        b"link-local": (local, replace(bridge, ip6=bridge.link_local), 6),
    }
    return {
        data: datagram(source, receiver, version, ports=(4000, 7000), data=data)
        for data, (source, receiver, version) in frames.items()
    }
