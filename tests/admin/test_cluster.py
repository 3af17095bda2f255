"""What the operator sees and does of a cluster, as values."""

import json
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from mdnp.admin.cluster import Cluster
from mdnp.admin.routes import Admin
from mdnp.member import About, Alone, KnownHost, KnownSegment, Liveness, Remark
from mdnp.model.host import HostID
from mdnp.model.mac import MAC
from mdnp.model.network import IPAddress
from mdnp.model.options import Mode, NetworkOptions
from mdnp.model.pool import Pool, PoolPromise
from mdnp.model.segment import Block, RemoteEndpoint, RemoteID, Segment, SegmentID
from mdnp.store import Put
from tests.admin.door import open_admin
from tests.declared.registry import FakeRegistry, a_host
from tests.world import NET, World, a_network, create_network

SEGMENT = SegmentID("10.50.0.0/16")
POOL = ip_network("10.50.0.0/16")
BLOCK = Block(POOL, ip_network("10.50.3.0/24"))
ONE, TWO, THREE = (a_host(number) for number in (1, 2, 3))
KNOWN = (
    KnownHost(ONE, Liveness.ALIVE, (SEGMENT,), (BLOCK,), endpoints=2),
    KnownHost(TWO, Liveness.ALIVE, (SEGMENT,), endpoints=1),
    KnownHost(THREE, Liveness.GONE),
)
SERVERS = ("http://192.0.2.9:2379",)
REMOTE = RemoteEndpoint(
    RemoteID("x"), SEGMENT, TWO.id, TWO.vtep, MAC("02:6d:0a:32:00:09"), (ip_address("10.50.0.9"),), generation=1
)


class Sight(Alone):
    """Of one remote endpoint."""

    vtep: IPAddress | None = ONE.vtep

    def remotes_of(self, segment: SegmentID) -> tuple[RemoteEndpoint, ...]:
        return (REMOTE,) if segment == SEGMENT else ()

    def members_of(self, segment: SegmentID) -> tuple[IPAddress, ...]:
        return (TWO.vtep,) if segment == SEGMENT else ()


@pytest.fixture
def registry() -> FakeRegistry:
    registry = FakeRegistry(None, *KNOWN)
    segment = Segment(SEGMENT, 0x6D0001, "blue", 1450)
    registry.facts = {"segments": (KnownSegment(segment, (ONE.id, TWO.id)),)}
    return registry


@pytest.fixture
async def admin(world: World, registry: FakeRegistry) -> Admin:
    """Of a host with a network of a segment, and one of its own."""
    overlay = replace(
        a_network(NET, "10.50.0.0/16 10.50.0.1/16", options=NetworkOptions(mode=Mode.OVERLAY), mtu=1450),
        vni=0x6D0001,
        host_addresses=(ip_interface("10.50.3.1/16"),),
    )
    await world.store.commit(Put(PoolPromise("LocalDefault", Pool(POOL), 0.0)), Put(overlay), Put(BLOCK))
    await world.ok("CreateNetwork", create_network("b2" * 32, "10.2.0.0/24 10.2.0.1/24"))
    return await open_admin(world, cluster=Cluster(registry, Sight(), SERVERS, lambda: None))


async def seen(admin: Admin, path: str, method: str = "GET", **body: Any) -> Any:
    answer = await admin.answer(method, path, json.dumps(body).encode() if body else b"")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


async def refused(admin: Admin, path: str, method: str = "GET", **body: Any) -> tuple[int, str]:
    answer = await admin.answer(method, path, json.dumps(body).encode())
    return answer.status, json.loads(answer.body)["error"]


FIRST = {
    "id": ONE.id,
    "name": "host1",
    "vtep": "192.0.2.1",
    "liveness": "alive",
    "here": True,
    "segments": [SEGMENT],
    "endpoints": 2,
    "blocks": ["10.50.3.0/24"],
    "seeded": True,
}
THIRD = {**FIRST, "id": THREE.id, "name": "host3", "vtep": "192.0.2.3", "liveness": "gone", "here": False}
THIRD |= {"segments": [], "endpoints": 0, "blocks": []}


async def test_hosts_are_listed_by_name(admin: Admin) -> None:
    listed = await seen(admin, "/host")

    assert [listed[0], listed[2]] == [FIRST, THIRD]
    assert [one["name"] for one in listed] == ["host1", "host2", "host3"]


async def test_a_host_s_details_have_its_blocks_segments_and_what_is_remarked_of_it(
    admin: Admin, registry: FakeRegistry
) -> None:
    skew = Remark(About.HOST, "the clock of host1 (192.0.2.1) differs by 9 s from ours")
    registry.facts["remarks"] = (skew, Remark(About.MAC, "host2 and host3 have the MAC 02:42:0a:32:00:09"))

    assert await seen(admin, "/host/host1") == {
        **FIRST,
        "blocks": ["10.50.3.0/24 of 10.50.0.0/16"],
        "epoch": 1,
        "segments": ["10.50.0.0/16 (VNI 7143425)"],
        "remarks": [skew.text],
    }


@pytest.mark.parametrize("name", [TWO.id, "host2", "192.0.2.2"])
async def test_a_host_is_found_by_id_name_and_vtep(admin: Admin, name: str) -> None:
    assert (await seen(admin, f"/host/{name}"))["id"] == TWO.id


async def test_a_host_that_is_not_there_or_not_the_only_one_is_told(admin: Admin) -> None:
    assert await refused(admin, "/host/host9") == (404, "no host 'host9': `mdnp host ls` lists them")
    assert await refused(admin, "/host/0000") == (404, "host '0000' names 3: give its id, or more of it")
    assert (await refused(admin, "/host/000"))[1] == "no host '000': `mdnp host ls` lists them"


async def test_a_name_that_looks_like_the_beginning_of_another_s_id_is_a_name(
    admin: Admin, registry: FakeRegistry
) -> None:
    registry.known = (*KNOWN, KnownHost(a_host(9, "0"), Liveness.ALIVE))

    assert (await seen(admin, "/host/0"))["id"] == a_host(9).id


async def test_a_host_is_removed_and_a_living_one_only_by_force(admin: Admin, registry: FakeRegistry) -> None:
    removed = await seen(admin, "/host/host3", "DELETE")
    said = await refused(admin, "/host/host2", "DELETE", force=False)
    await seen(admin, "/host/host2", "DELETE", force=True)

    assert removed == THIRD
    assert said == (404, "host host2 is alive: stop its daemon first")
    assert registry.removed == [(THREE.id, False), (TWO.id, True)]


WELL = {
    "healthy": True,
    "servers": ["http://192.0.2.9:2379"],
    "connected": True,
    "trouble": "",
    "healthy_s": 60.0,
    "epoch": 1,
    "revision": 100,
    "host": {"id": ONE.id, "name": "host1", "vtep": "192.0.2.1"},
    "hosts": {"alive": 2, "known": 3},
    "segments": 1,
    "blocks": 1,
    "pending": 0,
    "waiting": [],
    "remarks": [],
    "networks": [],
}


async def test_the_status_says_how_this_host_stands_in_the_cluster(admin: Admin) -> None:
    assert (await seen(admin, "/status"))["cluster"] == WELL


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        (
            {"connected": False, "healthy_s": None},
            {"connected": False, "healthy_s": None, "trouble": "etcd is not conn"},
        ),
        ({"trouble": "host2 has our VTEP"}, {"trouble": "host2 has our VTEP"}),
        ({"waiting": ("host2",)}, {"waiting": ["host2"]}),
        (
            {"remarks": (Remark(About.BLOCK, "two owners"),)},
            {"remarks": [{"about": "block", "text": "two owners"}]},
        ),
    ],
)
async def test_what_needs_an_operator_in_the_cluster_is_trouble(
    admin: Admin, registry: FakeRegistry, facts: dict[str, Any], shown: dict[str, Any]
) -> None:
    before = (await seen(admin, "/status"))["healthy"]
    registry.facts |= facts

    status = await seen(admin, "/status")

    assert (before, status["healthy"], status["in_sync"], status["cluster"]["healthy"]) == (
        status["in_sync"],
        False,
        status["in_sync"],
        False,
    )
    assert {key: str(status["cluster"][key])[:16] for key in shown} == {key: str(shown[key])[:16] for key in shown}


async def test_a_network_of_a_segment_shows_the_other_hosts(admin: Admin) -> None:
    view = await seen(admin, f"/network/{NET}")

    assert {key: view[key] for key in view if key in ("segment", "vni", "vtep", "udp_port", "hosts", "tunnel")} == {
        "segment": SEGMENT,
        "vni": 0x6D0001,
        "vtep": "192.0.2.1",
        "udp_port": 4789,
        "hosts": ["host1 192.0.2.1", "host2 192.0.2.2"],
        "tunnel": f"mdx-{NET[:11]}",
    }
    assert any(line.startswith(f"link mdx-{NET[:11]} ") and "192.0.2.1" in line for line in view["kernel"])
    assert view["host_addresses"] == ["10.50.3.1/16"]
    assert view["remotes"] == [
        {"host": "host2", "vtep": "192.0.2.2", "mac": "02:6d:0a:32:00:09", "addresses": ["10.50.0.9"]}
    ]


async def test_a_network_of_one_host_shows_nothing_of_others(admin: Admin) -> None:
    assert not {"segment", "vni", "remotes"} & set(await seen(admin, f"/network/{'b2' * 32}"))


async def test_a_shared_pool_has_blocks_and_another_none(admin: Admin) -> None:
    [pool] = await seen(admin, "/pool")

    assert pool["blocks"] == ["10.50.3.0/24"]
    assert (await seen(admin, "/pool/10.50.0.0/16"))["blocks"] == ["10.50.3.0/24"]


def outcome(number: int, state: str, liveness: str = "alive", error: str = "") -> dict[str, str]:
    host = a_host(number)
    return {"id": host.id, "name": host.name, "liveness": liveness, "state": state, "error": error}


async def test_a_network_is_declared_and_what_each_host_made_of_it_is_shown(
    admin: Admin, registry: FakeRegistry
) -> None:
    declared = await seen(admin, "/network", "POST", name="blue", subnets=["10.60.0.0/16"])
    registry.wall.outcomes["blue"] = {ONE.id: "", TWO.id: "10.60.0.0/16 overlaps a route"}

    shown = await seen(admin, "/declared/blue")

    facts = {"name": "blue", "declared": True, "subnets": ["10.60.0.0/16"]}
    pending = [outcome(1, "pending"), outcome(2, "pending"), outcome(3, "pending", "gone")]
    assert declared == {**facts, "hosts": pending}
    assert shown == {
        **facts,
        "hosts": [outcome(1, "made"), outcome(2, "failed", error="10.60.0.0/16 overlaps a route"), pending[2]],
    }
    assert await seen(admin, "/declared") == [shown]
    assert (await seen(admin, "/status"))["cluster"]["healthy"] is False


async def test_a_network_is_withdrawn_and_who_has_it_yet_is_shown(admin: Admin, registry: FakeRegistry) -> None:
    await seen(admin, "/network", "POST", name="blue", subnets=["10.60.0.0/16"])
    in_use = "not removed: network blue has active endpoints"
    registry.wall.outcomes["blue"] = {HostID(ONE.id): "", TWO.id: in_use}

    shown = await seen(admin, "/network/blue", "DELETE")

    assert shown == {
        "name": "blue",
        "declared": False,
        "subnets": [],
        "hosts": [outcome(1, "pending"), outcome(2, "failed", error=in_use), outcome(3, "removed", "gone")],
    }
    assert (await refused(admin, "/network/blue", "DELETE"))[0] == 404


async def test_what_cannot_be_declared_is_told(admin: Admin, registry: FakeRegistry) -> None:
    assert await refused(admin, "/network", "POST", name="blue") == (
        404,
        "network blue: all hosts must agree on its addresses: name each --subnet, as 10.50.0.0/16",
    )
    answer = await admin.answer("POST", "/network", b"{")
    assert answer.status == 404
    registry.facts["connected"] = False
    assert await refused(admin, "/network", "POST", name="blue", subnets=["10.60.0.0/16"]) == (
        503,
        "no etcd answers: http://192.0.2.9:2379: connection refused",
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/host"),
        ("GET", "/host/x"),
        ("DELETE", "/host/x"),
        ("POST", "/network"),
        ("DELETE", "/network/blue"),
        ("GET", "/declared"),
        ("GET", "/declared/blue"),
    ],
)
async def test_without_a_cluster_it_is_told_what_is_missing(world: World, method: str, path: str) -> None:
    admin = await open_admin(world)

    assert await refused(admin, path, method) == (
        404,
        "this host is in no cluster: name its etcd in the setting `etcd` (MDNP_ETCD), and restart the daemon",
    )
    assert "cluster" not in await seen(admin, "/status")
