"""The host as one value, for the page."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from mdnp.admin.topology import Seen, topology
from mdnp.admin.views import Facts
from mdnp.dataplane.objects import Addr
from mdnp.dataplane.steps import HOST, Add, Owner
from mdnp.engine.directory import Health, Names
from mdnp.ipam.allocator import Counts
from mdnp.kernel import Traffic
from mdnp.model.endpoint import Phase
from mdnp.model.pool import Pool, PoolID, PoolPromise
from mdnp.model.port import Publication
from mdnp.reconcile import desired
from mdnp.reconcile.diff import Difference
from mdnp.store import Promises
from tests.world import BRIDGE, DB, DB_LINK, NET, OTHER_NET, WEB, WEB_LINK, WEB_MAC, a_network, a_port, an_endpoint

FACTS = Facts("9.9.9", 61.04, 2, "", Health("28.5.2"))
MYNET = a_network(NET, "10.1.0.0/24 10.1.0.1/24", "fd00::/64")
INNER = a_network(OTHER_NET, "10.2.0.0/24 10.2.0.1/24", internal=True)
WEB_END = an_endpoint(phase=Phase.JOINED, ports=[Publication(a_port(80, 8080, address="127.0.0.1"), 8080)])
DB_END = an_endpoint(DB, "10.1.0.3/24")
PROMISES = Promises({NET: MYNET, OTHER_NET: INNER}, {WEB: WEB_END, DB: DB_END}, {})  # type: ignore[dict-item]
SEEN = Seen(Difference(()), {WEB_LINK: 3}, {WEB_LINK: Traffic(rx_bytes=100, tx_bytes=20)}, 12.34567)
NAMES = Names({NET: "mynet"}, {WEB: "web"})
ADDRESS = Add(Addr(BRIDGE, ip_interface("10.1.0.1/24")), Owner(NET))


def view(
    promises: Promises = PROMISES,
    seen: Seen = SEEN,
    names: Names = NAMES,
    facts: Facts = FACTS,
    counts: Mapping[PoolID, Counts] | None = None,
) -> dict[str, Any]:
    return topology(host="here", promises=promises, seen=seen, names=names, counts=counts or {}, facts=facts)


def test_the_whole_host_is_one_value() -> None:
    web = {
        "id": WEB,
        "container": "web",
        "addresses": ["10.1.0.2/24"],
        "mac": WEB_MAC,
        "phase": "joined",
        "host_end": WEB_LINK,
        "rx_bytes": 100,
        "tx_bytes": 20,
        "guard_drops": 3,
        "ports": [{"protocol": "tcp", "host_address": "127.0.0.1", "host_port": 8080, "port": 80, "by": "nat"}],
    }
    db = {
        **web,
        "id": DB,
        "container": "",
        "addresses": ["10.1.0.3/24"],
        "phase": "created",
        "host_end": DB_LINK,
        "rx_bytes": None,
        "tx_bytes": None,
        "guard_drops": 0,
        "ports": [],
    }
    mynet = {
        "id": NET,
        "name": "mynet",
        "kind": "bridge",
        "bridge": BRIDGE,
        "annexes": 0,
        "mtu": 1500,
        "internal": False,
        "gateway": "self",
        "routing_ipv4": "nat",
        "routing_ipv6": "nat",
        "icc": True,
        "guard": True,
        "subnets": [
            {"pool": "10.1.0.0/24", "gateway": "10.1.0.1", "addresses": None},
            {"pool": "fd00::/64", "gateway": None, "addresses": None},
        ],
        "endpoints": [web, db],
    }
    inner = {
        **mynet,
        "id": OTHER_NET,
        "name": "",
        "bridge": f"mdb-{OTHER_NET[:11]}",
        "internal": True,
        "subnets": [{"pool": "10.2.0.0/24", "gateway": None, "addresses": None}],
        "endpoints": [],
    }

    assert view() == {
        "host": "here",
        "version": "9.9.9",
        "uptime_s": 61.0,
        "clock_s": 12.346,
        "docker": {"version": "28.5.2", "trouble": ""},
        "store": {"trouble": ""},
        "healthy": True,
        "repaired": 2,
        "trouble": "",
        "orphans": 0,
        "drift": [],
        "lost": [],
        "networks": [mynet, inner],
    }


def test_what_differs_is_told_with_whose_it_is() -> None:
    lost = next(one for one in desired.of_endpoint(MYNET, WEB_END).values() if one.owner == WEB)
    host = Add(Addr("lo", ip_interface("10.9.0.1/24")), HOST)
    seen = replace(SEEN, difference=Difference((ADDRESS, host), (lost,)))

    shown = view(seen=seen)

    assert not shown["healthy"]
    assert shown["drift"] == [
        {"step": f"ip addr add 10.1.0.1/24 dev {BRIDGE}", "network": NET, "endpoint": None, "container": ""},
        {"step": "ip addr add 10.9.0.1/24 dev lo", "network": None, "endpoint": None, "container": ""},
    ]
    assert shown["lost"] == [{"object": str(lost.object), "network": NET, "endpoint": WEB, "container": "web"}]


def test_a_store_that_cannot_be_written_is_no_health() -> None:
    shown = view(facts=replace(FACTS, store_trouble="the disk is full"))

    assert (shown["healthy"], shown["store"]) == (False, {"trouble": "the disk is full"})


@pytest.mark.parametrize(
    ("names", "container"),
    [
        (Names(containers={WEB: "web"}, holders={ip_interface("10.1.0.2/24").ip: "old"}), "web"),
        (Names(holders={ip_interface("10.1.0.2/24").ip: "old"}), "old"),
        (Names(), ""),
    ],
)
def test_a_container_is_known_by_its_endpoint_or_else_by_its_address(names: Names, container: str) -> None:
    [mynet, _inner] = view(names=names)["networks"]

    assert {one["id"]: one["container"] for one in mynet["endpoints"]}[WEB] == container


def test_pools_are_as_full_as_their_fullest_range_and_vast_ones_have_no_size() -> None:
    ranges = [
        PoolPromise("local", Pool(ip_network("10.1.0.0/24")), 0.0),
        PoolPromise("local", Pool(ip_network("10.1.0.0/24"), ip_network("10.1.0.0/29")), 0.0),
        PoolPromise("local", Pool(ip_network("fd00::/64")), 0.0),
    ]
    counts = (
        Counts(254, 3, 1, 0, 250, 0),
        Counts(7, 6, 1, 0, 0, 0),
        Counts(2**64 - 1, 1, 1, 2, 2**64 - 5, 0),
    )
    promises = replace(PROMISES, pools={one.id: one for one in ranges})

    [mynet, _inner] = view(promises, counts=dict(zip(promises.pools, counts, strict=True)))["networks"]

    assert [one["addresses"] for one in mynet["subnets"]] == [
        {"size": 7, "used": 6, "reserved": 1, "resting": 0, "nearly_full": True},
        {"size": None, "used": 1, "reserved": 1, "resting": 2, "nearly_full": False},
    ]


def test_without_a_guard_nothing_is_counted_as_dropped() -> None:
    unguarded = replace(MYNET, options=replace(MYNET.options, guard=False))
    promises = replace(PROMISES, networks={MYNET.id: unguarded, INNER.id: INNER})

    [mynet, _inner] = view(promises)["networks"]

    assert [one["guard_drops"] for one in mynet["endpoints"]] == [None, None]
