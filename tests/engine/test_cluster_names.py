"""Names across three hosts with engines of several versions: who is known by what name, where, and when no more."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import product

import pytest

from rig.answering import ADDRESS, ADDRESS6
from rig.cluster import LEASE_S, Cluster
from rig.host import GATEWAY
from rig.nameserver import Nameserver
from tests.engine import dig
from tests.engine.dig import Said
from tests.engine.fleet import Box, Fleet, soon

pytestmark = pytest.mark.engine

_GREEN = ("--subnet=10.60.0.0/24",)
_WITHDRAWN_S = 5 * LEASE_S
_WWW = "www.example.com"
_OUTSIDE = (_WWW, "A", _WWW, "AAAA", "absent.example.com", "A", "com", "A", _WWW, "MX", "big.example.com", "A")


@dataclass(frozen=True)
class Named:
    """
    The network `blue` with a container on each host: all have the alias `web`, `a1` and `c1` are of the Compose service
    `shop`, `b1` has the hostname `bee`, and its port 80 is published. `green` has the container `a3`, and its alias.
    """

    fleet: Fleet
    boxes: list[Box]
    stranger: Box
    resolver: Nameserver


def ask(box: Box, *asked: str, tcp: bool = False, at: str = dig.EMBEDDED, within_s: float = 3.0) -> list[Said]:
    """What is answered in the container, to names and types in turn."""
    command = dig.command(*asked, tcp=tcp, at=at, within_s=within_s)
    return dig.read(box.host.testbed.sandbox(box.name, command).checked().out)


def data(box: Box, name: str, kind: str = "A", *, within_s: float = 3.0) -> tuple[str, ...]:
    [said] = ask(box, name, kind, within_s=within_s)
    return said.data


def four(*boxes: Box) -> tuple[str, ...]:
    return tuple(sorted(box.addresses[0] for box in boxes))


def knows(boxes: Sequence[Box], name: str, expected: tuple[str, ...], *, within_s: float = 10.0) -> None:
    """Soon all of the boxes have these addresses of a name."""
    said: dict[str, tuple[str, ...]] = {}

    def all_do() -> bool:
        said.update({box.name: data(box, name) for box in boxes})
        return set(said.values()) == {expected}

    soon(all_do, lambda: f"{name} to be {expected}: {said}", within_s)


@pytest.fixture(scope="module")
def named(engines: Cluster) -> Iterator[Named]:
    engines.begin()
    resolver = Nameserver(engines.underlay, GATEWAY.ip)
    fleet = Fleet(engines)
    fleet.network("blue")
    fleet.network("green", *_GREEN)
    shop = ("--label", "com.docker.compose.service=shop")
    web = ("--network-alias", "web")
    boxes = [
        fleet.box(0, "a1", *web, *shop),
        fleet.box(1, "b1", *web, "--hostname=bee", "-p", "80"),
        fleet.box(2, "c1", *web, *shop),
    ]
    stranger = fleet.box(0, "a3", "--network-alias=hidden", network="green")
    for box in boxes:
        knows(boxes, box.name, four(box))
    yield Named(fleet, boxes, stranger, resolver)
    resolver.process.kill()
    engines.reset()


def test_each_container_is_known_on_every_host_by_each_form_of_its_name(named: Named) -> None:
    for asker, box, tcp in product(named.boxes, named.boxes, (False, True)):
        forms = (box.name, f"{box.name}.blue", f"{box.name}.blue.mdnp", box.name.upper())
        asked = [word for form in forms for kind in ("A", "AAAA") for word in (form, kind)]
        said = ask(asker, *asked, tcp=tcp)

        assert [one.data for one in said] == [(address,) for _ in forms for address in box.addresses], (asker, box)
        assert {one.code for one in said} == {"NOERROR"}


def test_an_address_has_its_name(named: Named) -> None:
    for asker, box, address in ((a, b, c) for a, b in product(named.boxes, named.boxes) for c in b.addresses):
        assert data(asker, ip_address(address).reverse_pointer, "PTR") == (f"{box.name}.blue",), (asker.name, address)


def test_an_alias_and_a_service_have_the_addresses_of_all_hosts(named: Named) -> None:
    a1, b1, c1 = named.boxes
    for asker in named.boxes:
        for form in ("web", "web.blue", "web.blue.mdnp"):
            assert data(asker, form) == four(a1, b1, c1), asker.name
        assert data(asker, "shop") == four(a1, c1)
        assert data(asker, "bee") == four(b1)
        assert data(asker, "_80._tcp.b1", "SRV") == ("0 0 80 b1.blue.mdnp",)
        assert data(asker, "_tcp.b1", "SRV") == ("0 0 80 b1.blue.mdnp",)


def test_what_is_not_there_is_told_apart_and_goes_to_nobody_else(named: Named) -> None:
    asker = named.boxes[0]
    before = len(named.resolver.asked)

    said = ask(
        asker, "nobody.blue.mdnp", "A", "b1", "MX", "b1.blue.mdnp", "TXT", "mdnp", "A", "9.9.50.10.in-addr.arpa", "PTR"
    )

    assert [one.code for one in said] == ["NXDOMAIN", "NOERROR", "NOERROR", "NOERROR", "NXDOMAIN"]
    assert all(not one.data for one in said)
    assert named.resolver.asked[before:] == []
    assert ask(asker, "nobody.blue", "A")[0].code == "NXDOMAIN"  # the host's resolver says so, as with Docker alone
    assert named.resolver.asked[before:] == ["nobody.blue A"]


def test_names_of_a_network_are_for_its_containers_only(named: Named) -> None:
    for asker in named.boxes:
        for form in ("a3", "hidden", "a3.green", "a3.green.mdnp"):
            [said] = ask(asker, form, "A")
            assert (said.code, said.data) == ("NXDOMAIN", ()), (asker.name, form)
    assert ask(named.stranger, "b1", "A", "b1.blue", "A")[0].data == ()
    assert data(named.stranger, "hidden") == four(named.stranger)


def test_what_docker_answers_itself_is_unchanged(named: Named) -> None:
    """Beside a network without names, on the same engine: local names and outside names, by UDP and TCP."""
    for number, box in enumerate(named.boxes[:2]):
        host = named.fleet[number]
        host.network("plain", "--ipam-driver=mdnp", "--subnet=10.61.0.0/24")
        plain = named.fleet.box(number, f"{box.name}-plain", "--network-alias=near", network="plain")
        near = named.fleet.box(number, f"{box.name}-near", "--network-alias=near")
        for tcp in (False, True):
            with_names = ask(near, *_OUTSIDE, tcp=tcp)
            assert with_names == ask(plain, *_OUTSIDE, tcp=tcp)
            assert with_names[0].data == (ADDRESS,)
            assert with_names[1].data == (ADDRESS6,)
        local = ask(near, "near", "A", near.name, "A", f"{near.name}.blue", "A")
        as_ever = ask(plain, "near", "A", plain.name, "A", f"{plain.name}.plain", "A")
        assert [one.data for one in local] == [four(near)] * 3
        assert [(one.code, one.ttls, one.authoritative) for one in local] == [
            (one.code, one.ttls, one.authoritative) for one in as_ever
        ]
        plain.remove()
        near.remove()
        host.docker("network", "rm", "plain")


def test_a_name_does_not_wait_for_a_resolver_that_is_dead(named: Named) -> None:
    with named.resolver.silent():
        for asker in named.boxes:
            assert data(asker, "web", within_s=1.0) == four(*named.boxes)
            assert ask(asker, _WWW, "A", within_s=0.5)[0].code == "NONE"


def test_the_gateway_answers_too(named: Named) -> None:
    for asker in named.boxes:
        said = ask(asker, "web", "A", "b1.blue.mdnp", "A", _WWW, "A", "nobody.blue.mdnp", "A", at="10.50.0.1")
        assert [one.data for one in said] == [four(*named.boxes), four(named.boxes[1]), (ADDRESS,), ()]
        assert said[3].code == "NXDOMAIN"
    assert ask(named.stranger, "b1", "A", at="10.50.0.1", within_s=0.5) == [Said("NONE")]


def test_a_container_with_a_resolver_of_its_own(named: Named) -> None:
    """`--dns` names who is asked for all that neither Docker nor we know."""
    for number in range(2):
        box = named.fleet.box(number, f"own{number}", f"--dns={GATEWAY.ip}", "--dns-search=example.com")
        assert data(box, "c1") == four(named.boxes[2])
        assert data(box, _WWW) == (ADDRESS,)
        box.remove()
        via = named.fleet.box(number, f"via{number}", "--dns=10.50.0.1")
        assert data(via, "c1") == four(named.boxes[2])
        assert data(via, _WWW) == (ADDRESS,)
        via.remove()


def test_an_internal_network_has_names_and_nothing_else(named: Named) -> None:
    fleet = named.fleet
    fleet.network("inner", "--internal", "--subnet=10.62.0.0/24")
    boxes = fleet.boxes("a5", "b5", "c5", network="inner")
    for box in boxes:
        knows(boxes, box.name, four(box))
        knows(boxes, f"{box.name}.inner.mdnp", four(box))
    for box in boxes:
        assert ask(box, _WWW, "A")[0].data == ()
        box.remove()


def test_a_second_network_brings_its_names_and_takes_them_away(named: Named) -> None:
    for number, box in enumerate(named.boxes):
        host = named.fleet[number]
        host.docker("network", "connect", "green", box.name)
        knows([box], "hidden", four(named.stranger))
        assert data(box, "web") == four(*named.boxes)
        host.docker("network", "disconnect", "green", box.name)
        knows([box], "hidden", ())


def test_names_follow_starts_stops_renames_and_moves(named: Named) -> None:
    fleet, boxes = named.fleet, named.boxes
    new = fleet.box(1, "b9", "--network-alias=late")
    knows(boxes, "b9", four(new))
    fleet[1].docker("rename", "b9", "b8")
    knows(boxes, "b8", four(new))
    knows(boxes, "b9", ())
    fleet[1].docker("stop", "-t0", "b8")
    knows(boxes, "b8", ())
    knows(boxes, "late", ())
    fleet[1].docker("start", "b8")
    knows(boxes, "b8", four(fleet.found(1, "b8")))
    fleet[1].docker("rm", "-f", "b8")
    moved = fleet.box(2, "b8", "--network-alias=late")
    knows(boxes, "b8", four(moved))
    knows(boxes, "late", four(moved))
    moved.remove()


def test_a_daemon_that_dies_takes_no_names_of_docker_s_with_it(named: Named) -> None:
    for number, box in enumerate(named.boxes[:2]):
        near = named.fleet.box(number, f"near{number}")
        plugin = named.fleet.cluster.nodes[number].plugin
        plugin.kill()
        assert data(box, near.name, within_s=1.0) == four(near)
        assert data(box, _WWW, within_s=1.0) == (ADDRESS,)
        plugin.start()
        knows([box], "c1", four(named.boxes[2]))
        knows(named.boxes, near.name, four(near))
        near.remove()


def test_names_go_on_without_etcd_and_a_daemon_that_starts_meanwhile_has_them(named: Named) -> None:
    fleet, boxes = named.fleet, named.boxes
    with fleet.cluster.without_etcd():
        fleet.all_miss_etcd()
        near = fleet.box(0, "a7")
        knows([near, *boxes], "web", four(*boxes))
        knows([boxes[0]], "a7.blue.mdnp", four(near))
        fleet.cluster.nodes[0].plugin.restart()
        knows([near, *boxes], "web", four(*boxes))
    knows(boxes, "a7", four(near))
    near.remove()


def test_the_names_of_a_dead_host_go_with_its_lease_and_come_back_with_it(named: Named) -> None:
    fleet, (a1, b1, c1) = named.fleet, named.boxes
    fleet.cluster.unplug(fleet.cluster.nodes[2].host)
    knows([a1, b1], "web", four(a1, b1), within_s=_WITHDRAWN_S)
    knows([a1, b1], "c1", ())
    assert data(c1, "c1") == four(c1)
    fleet.cluster.heal()
    knows([a1, b1], "web", four(a1, b1, c1), within_s=_WITHDRAWN_S)


def test_the_host_itself_asks_for_the_names_of_all_its_networks(named: Named) -> None:
    node = named.fleet.cluster.nodes[0]
    node.plugin.stop()
    node.plugin = named.fleet.cluster.plugin_on(node.host, options=["--host-dns=127.0.0.153"])
    node.plugin.start()
    names = ("web.blue.mdnp", "A", "hidden.green.mdnp", "A", "nobody.blue.mdnp", "A", _WWW, "A")
    backwards = ip_address(named.boxes[1].addresses[0]).reverse_pointer

    def said() -> list[Said]:
        command = dig.command(*names, backwards, "PTR", at="127.0.0.153", within_s=1.0)
        return dig.read(node.host.run(command).out)

    expected = [four(*named.boxes), four(named.stranger), (), (ADDRESS,), ("b1.blue.mdnp",)]
    soon(lambda: [one.data for one in said()] == expected, lambda: str(said()))
    assert said()[2].code == "NXDOMAIN"
    assert "names" in named.fleet[0].status()
    assert "names: answered for 2 containers" in node.plugin.cli("status")
