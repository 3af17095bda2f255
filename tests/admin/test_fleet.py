"""What the operator sees of real members of a cluster in memory."""

import json
from typing import Any

from mdnp.admin.cluster import Cluster
from mdnp.admin.meter import Meter
from mdnp.admin.routes import Admin
from mdnp.engine.directory import Directory
from mdnp.orphans.collector import Collector
from tests.admin.door import SETTINGS, VERSION, Engine
from tests.fleet import Site, open_fleet, quiet, until


def door(site: Site) -> Admin:
    assert site.member is not None
    directory = Directory(Engine())
    return Admin(
        store=site.store,
        reconciler=site.reconciler,
        ipam=site.ipam,
        collector=Collector([], directory, site.clock, 120),
        directory=directory,
        meter=Meter(site.kernel),
        version=VERSION,
        settings=SETTINGS,
        cluster=Cluster(site.member, site.member, ("http://192.0.2.9:2379",), lambda: None),
    )


async def seen(site: Site, path: str, method: str = "GET") -> Any:
    answer = await door(site).answer(method, path)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


async def test_hosts_segments_blocks_and_remote_endpoints_are_seen() -> None:
    async with open_fleet("a", "b") as (a, b):
        for site in (a, b):
            await site.create()
        address = await b.run("web")
        await quiet(a, b)

        status, hosts = await seen(a, "/status"), await seen(a, "/host")
        network = await seen(a, f"/network/{a.networks['blue'][0]}")
        [pool] = await seen(a, "/pool")

    assert (status["healthy"], status["cluster"]["hosts"]) == (True, {"alive": 2, "known": 2})
    assert {one["name"]: (one["liveness"], one["segments"], len(one["blocks"])) for one in hosts} == {
        name: ("alive", ["10.50.0.0/16"], 1) for name in ("a", "b")
    }
    assert address in [one for row in network["remotes"] for one in row["addresses"] if row["host"] == "b"]
    assert (network["hosts"], network["segment"]) == (["a 192.0.2.1", "b 192.0.2.2"], "10.50.0.0/16")
    assert [line for line in network["kernel"] if line.startswith(f"link {network['tunnel']} ")]
    assert pool["blocks"] == a.blocks


async def test_a_host_that_is_alive_is_not_removed_and_one_that_is_not_known_neither() -> None:
    async with open_fleet("a", "b") as (a, _):
        await until(lambda: a.member is not None and len(a.member.standing().hosts) == 2, "a to know b")
        living = await door(a).answer("DELETE", "/host/b")
        nobody = await door(a).answer("DELETE", "/host/c")

    assert (living.status, nobody.status) == (404, 404)
    assert b"is alive: stop mdnp there first" in living.body
    assert b"no host 'c'" in nobody.body


async def test_a_host_that_is_cut_off_says_so() -> None:
    async with open_fleet("a") as (a,):
        await a.stop()
        await a.start(wait=False)
        status = await seen(a, "/status")

    assert (status["healthy"], status["in_sync"], status["cluster"]["connected"]) == (False, True, False)
    assert status["cluster"]["trouble"]
