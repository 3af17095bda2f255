"""A network across three hosts with engines of several versions: everything that containers do on it."""

import json
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import permutations
from typing import Any

import pytest

from rig import truth
from rig.cluster import Cluster
from rig.host import GATEWAY, GATEWAY6, Host
from tests.engine.conftest import Story
from tests.engine.fleet import GROUPS, Box, Fleet, soon
from tests.engine.frames import Mailbox, Wire, datagram
from tests.engine.peers import Peers, target

pytestmark = pytest.mark.engine

_PROTOCOLS = ("tcp", "udp")
_ENCAPSULATION = 50
_HEADERS = {4: 28, 6: 48}  # of IP and UDP
_VXLAN_PORT = 4789


@dataclass(frozen=True)
class Blue:
    """
    The network `blue` with two containers on each host, which serve port 80 and are called by their host's letter; that
    port of the first is published as 8080. And `green` with a container on two of them.
    """

    fleet: Fleet
    first: list[Box]
    second: list[Box]
    green: list[Box]
    peers: tuple[Peers, ...]

    def ask(self, box: Box, *targets: str, **options: Any) -> list[str]:
        return self.peers[box.number].ask(box.name, *targets, **options)


@pytest.fixture(scope="module")
def blue(engines: Cluster) -> Iterator[Blue]:
    engines.begin()
    fleet = Fleet(engines)
    fleet.network("blue")
    fleet.network("green", "--subnet=10.60.0.0/24")
    first = fleet.boxes("a1", "b1", "c1", options=("-p", "8080:80", "-p", "8080:80/udp"))
    second = fleet.boxes("a2", "b2", "c2")
    green = fleet.boxes("a3", "b3", network="green")
    with ExitStack() as stack:
        peers = tuple(stack.enter_context(Peers(host.testbed)) for host in fleet.hosts)
        for box in (*first, *second):
            peers[box.number].serve(box.name, 80)
        peers[0].serve(engines.underlay, 7000, name="world")
        yield Blue(fleet, first, second, green, peers)
    engines.reset()


def _at(box: Box, port: int = 80) -> list[str]:
    return [target(protocol, address, port) for protocol in _PROTOCOLS for address in box.addresses]


def _seen_by(box: Box, seen: Box) -> list[str]:
    """What `seen` answers when `box` asks at `_at(seen)`: it sees the very address."""
    return [f"{seen.name} sees {address}" for _ in _PROTOCOLS for address in box.addresses]


def _own_address(story: Story, link: str = "mdh-") -> set[str]:
    """A host's own addresses in its segments."""
    rows = json.loads(story.testbed.host.run(["ip", "-json", "address", "show"]).out)
    infos = [info for row in rows if row["ifname"].startswith(link) for info in row["addr_info"]]
    return {info["local"] for info in infos if info["scope"] == "global"}


def test_everybody_reaches_everybody_by_address(blue: Blue) -> None:
    blue.fleet.reach([*blue.first, *blue.second])
    blue.fleet.reach(blue.green)

    addresses = [address for box in (*blue.first, *blue.second) for address in box.addresses]
    assert len(set(addresses)) == 12


def test_streams_and_datagrams_cross_and_show_the_very_address(blue: Blue) -> None:
    for asking, asked in permutations(blue.first, 2):
        assert blue.ask(asking, *_at(asked)) == _seen_by(asking, asked)
        many = [f"{answer} and 3000000 bytes" for answer in _seen_by(asking, asked)[:2]]
        assert blue.ask(asking, *_at(asked)[:2], load=3_000_000) == many


def test_a_packet_of_the_mtu_crosses_whole_and_one_byte_more_does_not(blue: Blue) -> None:
    """The MTU is what the underlay carries, less the encapsulation: the largest packet fills the wire."""
    a1, _, c1 = blue.first
    mtu = int(a1.host.inside("a1", "cat /sys/class/net/eth0/mtu"))

    assert mtu == 1500 - _ENCAPSULATION
    for address in c1.addresses:
        asked, largest = target("udp", address, 80), mtu - _HEADERS[ip_address(address).version]
        [answer] = blue.ask(a1, asked, load=largest, whole=True)
        assert answer.endswith(f" and {largest} bytes")
        assert blue.ask(a1, asked, load=largest + 1, whole=True) == ["too big"]


def test_what_is_for_a_group_comes_to_all_that_joined_it_on_all_hosts(blue: Blue) -> None:
    """As mDNS does it."""
    listening = [blue.peers[box.number].listen(box.name, *GROUPS) for box in (*blue.first, *blue.second)]

    blue.peers[1].shout("b1", "who has a printer?", *GROUPS)

    heard = {
        f"{blue.first[1].station.ip4} who has a printer?",
        f"{blue.first[1].station.link_local} who has a printer?",
    }
    for one in listening:
        soon(lambda one=one: one.heard == heard, lambda one=one: f"{heard}: {one.heard}")  # type: ignore[misc]


def test_a_container_has_one_interface_and_goes_out_by_its_own_host(blue: Blue) -> None:
    world = [target(protocol, address, 7000) for protocol in _PROTOCOLS for address in (GATEWAY.ip, GATEWAY6.ip)]
    for box in blue.first:
        host = box.host.testbed.host

        assert box.host.interfaces(box.name) == {"eth0"}
        assert blue.ask(box, *world) == [f"world sees {one}" for _ in _PROTOCOLS for one in _addresses_of(host)]


def test_each_host_publishes_ports_of_its_own_containers(blue: Blue) -> None:
    """From the outside, from the host by its loopback and by its own address, and from containers of other hosts."""
    for box in blue.first:
        host, peers = box.host.testbed.host, blue.peers[box.number]
        own = [target(protocol, one, 8080) for protocol in _PROTOCOLS for one in _addresses_of(host)]
        loopback = [target(protocol, one, 8080) for protocol in _PROTOCOLS for one in ("127.0.0.1", "::1")]
        other = blue.first[box.number - 1]
        others = [f"{box.name} sees {one}" for _ in _PROTOCOLS for one in _addresses_of(other.host.testbed.host)]

        world = [f"{box.name} sees {one}" for _ in _PROTOCOLS for one in (GATEWAY.ip, GATEWAY6.ip)]
        assert peers.ask(host.underlay, *own) == world
        assert [one.split()[0] for one in peers.ask(host, *own, *loopback)] == [box.name] * 8
        assert blue.ask(other, *own) == others
        assert [one.split()[0] for one in blue.ask(blue.second[box.number], *own)] == [box.name] * 4


def test_a_host_reaches_containers_on_all_hosts_from_an_address_of_its_own(blue: Blue) -> None:
    for story, peers in zip(blue.fleet.hosts, blue.peers, strict=True):
        own = _own_address(story)
        assert len(own) == 3  # two families of blue, one of green
        for box in (*blue.first, *blue.second):
            answers = peers.ask(story.testbed.host, *_at(box))
            assert {one.split()[0] for one in answers} == {box.name}, answers
            assert {one.split()[2] for one in answers} <= own, answers


def test_a_host_s_own_address_answers_to_containers_on_other_hosts(blue: Blue) -> None:
    for box in blue.first:
        others = {one for story in blue.fleet.hosts if story != box.host for one in _own_address(story)}
        assert box.silent({one for one in others if not one.startswith("10.60.")}) == set()


def test_networks_are_closed_to_each_other_over_hosts_too(blue: Blue) -> None:
    every4 = {str(box.station.ip4) for box in (*blue.first, *blue.second)}
    green4 = {str(box.station.ip4) for box in blue.green}

    assert blue.green[0].silent(every4) == every4
    for box in blue.first:
        assert box.silent(green4) == green4


def test_nobody_takes_another_s_address_over_a_tunnel(blue: Blue) -> None:
    """What the guard of the sender's host drops arrives nowhere."""
    evil, friend, victim = blue.second[0], blue.first[2], blue.first[1]
    victim_bed = victim.host.testbed
    with Wire(evil.host.testbed, evil.name, "eth0") as wire, Mailbox(victim_bed, victim.name, 4000) as box:
        false = replace(evil.station, ip4=friend.station.ip4, ip6=friend.station.ip6)
        for version in (4, 6):
            wire.send(datagram(false, victim.station, version, data=b"harm"))
            wire.send(datagram(replace(false, mac=friend.station.mac), victim.station, version, data=b"harm"))
        wire.send(datagram(evil.station, victim.station, data=b"honest"))

        assert box.seen(until=b"honest") == {b"honest"}


def test_tunnels_are_open_to_the_hosts_of_the_cluster_alone(blue: Blue) -> None:
    """The same frame in the same tunnel, from a stranger and from a member."""
    victim, friend = blue.first[1], blue.first[2]
    here, there = victim.host.testbed, friend.host.testbed
    segments = truth.entries(blue.fleet.cluster, "segments")
    [vni] = [one["vni"] for key, one in segments.items() if key.startswith("10.50")]
    to = (str(here.host.address.ip), _VXLAN_PORT)
    with (
        Mailbox(here, victim.name, 4000) as box,
        Mailbox(here, here.outside, 50000, str(GATEWAY.ip)) as stranger,
        Mailbox(there, there.host, 50000, str(there.host.address.ip)) as member,
    ):
        stranger.send(_tunnelled(vni, datagram(friend.station, victim.station, data=b"harm")), *to)
        member.send(_tunnelled(vni, datagram(friend.station, victim.station, data=b"known")), *to)

        assert box.seen(until=b"known") == {b"known"}


def test_every_host_has_the_rows_of_all_others_and_no_more(blue: Blue) -> None:
    soon(lambda: not truth.faults(blue.fleet.cluster), lambda: "\n".join(truth.faults(blue.fleet.cluster)))


def test_a_row_that_somebody_deletes_is_put_back_and_counted(blue: Blue) -> None:
    story, remote = blue.fleet[0], blue.first[2]
    [link] = {one["ifname"] for one in _links(story, "mdb-") if _has_neighbour(story, one["ifname"], remote)}
    before = story.status()["repaired"]

    story.testbed.host.ip(f"neigh del {remote.station.ip4} dev {link}")

    soon(lambda: _has_neighbour(story, link, remote), "the neighbour to be back")
    assert story.status()["repaired"] > before


def _addresses_of(host: Host) -> tuple[str, str]:
    return str(host.address.ip), str(host.address6.ip)


def _tunnelled(vni: int, frame: bytes) -> bytes:
    """RFC 7348."""
    return struct.pack("!II", 0x08000000, vni << 8) + frame


def _links(story: Story, prefix: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(story.testbed.host.run(["ip", "-json", "link", "show"]).out)
    return [row for row in rows if row["ifname"].startswith(prefix)]


def _has_neighbour(story: Story, link: str, remote: Box) -> bool:
    said = story.testbed.host.run(["ip", "neigh", "show", str(remote.station.ip4), "dev", link, "nud", "permanent"])
    return remote.station.mac in said.out
