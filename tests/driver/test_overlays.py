"""Overlays over several hosts, by Docker's calls: on real members of a cluster in memory."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from mdnp.cluster import LIMIT_S
from mdnp.cluster import Put as Tell
from mdnp.cluster.fake import FakeCluster
from mdnp.dataplane.steps import Add
from mdnp.member.records import key, value
from mdnp.member.rows import EndpointRow
from mdnp.model.errors import StoreUnavailable
from mdnp.model.host import HostID
from mdnp.model.identity import EndpointID
from mdnp.model.mac import MAC
from mdnp.model.port import Protocol
from mdnp.model.segment import SegmentID
from mdnp.store import Drop, Put
from tests.fleet import SUBNET, Refused, Site, open_fleet, quiet, until
from tests.world import on_endpoint, publish, quick_folder


async def refusal(work: Awaitable[Any]) -> str:
    with pytest.raises(Refused) as caught:
        await work
    return str(caught.value)


def left(site: Site, cluster: FakeCluster) -> list[str]:
    """What there is of overlays on a host, and of the host in the cluster, besides that it lives."""
    promises = site.store.promises
    mine = f"/{site.member.host.id}" if site.member else "?"
    return [
        *promises.networks,
        *promises.endpoints,
        *promises.pools,
        *promises.blocks,
        *map(str, site.kernel.objects.values()),
        *(key for key in cluster.entries if mine in key and not key.startswith(("/mdnp/v1/hosts/", "/mdnp/v1/alive/"))),
        *(key for key, one in cluster.entries.items() if "/blocks/" in key and mine[1:].encode() in one.value),
    ]


async def nothing_left(site: Site, cluster: FakeCluster) -> None:
    await until(lambda: site.settled and not left(site, cluster), f"nothing to be left: {left(site, cluster)}")
    assert site.ipam.allocations() == {}


async def test_hosts_that_make_a_network_of_one_subnet_are_in_one_segment() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create()
        await b.create("other-name")

        first, second = a.promised(), b.promised("other-name")
        assert first.vni == second.vni > 0x6D0000
        assert (first.mtu, second.mtu) == (1450, 1450)
        assert not set(a.blocks) & set(b.blocks)
        await quiet(a, b)
        assert b.neighbours == a.own != set()


async def test_both_families_are_one_segment() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create("blue", SUBNET, "fd50::/64")
        await b.create("blue", SUBNET, "fd50::/64")

        assert [one.version for one in a.promised().host_addresses] == [4, 6]
        assert len(a.blocks) == len(b.blocks) == 2
        assert a.promised().vni == b.promised().vni


async def test_no_two_containers_of_a_segment_have_one_address() -> None:
    async with open_fleet("a", "b", "c") as sites:
        for site in sites:
            await site.create()

        given = await asyncio.gather(*(site.run(f"web{number}") for number in range(20) for site in sites))

        assert len(set(given)) == 60
        await quiet(*sites)


async def test_what_runs_on_a_host_is_known_to_the_others_until_it_is_removed() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create()
        await b.create()

        address = await a.run("web")
        await quiet(a, b)
        assert address in b.neighbours
        await a.kill("web")
        await quiet(a, b)
        assert address not in b.neighbours


async def test_ports_that_are_published_are_told_of_while_they_are() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create()
        await b.create()
        address = await a.run("web")
        _, endpoint, _ = a.containers["web"]
        on = on_endpoint(endpoint, a.networks["blue"][0])

        def told() -> tuple[tuple[Protocol, int], ...]:
            assert b.member
            found = (one for one in b.member.remotes.values() if str(one.addresses[0]) == address)
            return next((one.ports for one in found), ())

        asked = publish((8080, 80), (8081, 80), identity=endpoint, network=on["NetworkID"])
        await a.call("NetworkDriver.ProgramExternalConnectivity", asked)
        await until(lambda: told() == ((Protocol.TCP, 80),), "the port to be told")
        await a.call("NetworkDriver.RevokeExternalConnectivity", on)
        await until(lambda: told() == (), "the port to be told of no more")


@pytest.mark.long
async def test_an_address_of_our_own_blocks_needs_no_etcd() -> None:
    cluster = FakeCluster()
    async with open_fleet("a", "b", cluster=cluster) as (a, b):
        await a.create()
        await b.create()
        await quiet(a, b)
        cluster.away = True
        await until(lambda: not a.connected, "the cluster to be away")

        given = await asyncio.gather(*(a.run(f"web{number}") for number in range(50)))
        for number in range(25):
            await a.kill(f"web{number}")

        assert len(set(given)) == 50
        cluster.away = False
        await quiet(a, b)


@pytest.mark.long
@pytest.mark.parametrize("how", ["away", "frozen"])
async def test_with_etcd_away_a_new_overlay_is_refused_within_a_second_and_others_are_not(how: str) -> None:
    cluster = FakeCluster()
    async with open_fleet("a", cluster=cluster) as (a,):
        setattr(cluster, how, True)
        began = time.monotonic()

        said = await refusal(a.create())

        assert time.monotonic() - began < 3 * LIMIT_S
        assert "etcd" in said or "server" in said
        await a.create("plain", "10.60.0.0/24", options={"mdnp.mode": "bridge"})
        setattr(cluster, how, False)
        await a.remove("plain")
        await nothing_left(a, cluster)


@pytest.mark.long
async def test_while_the_cluster_is_asked_other_verbs_go_on() -> None:
    cluster = FakeCluster()
    async with open_fleet("a", cluster=cluster) as (a,):
        cluster.frozen = True
        asked = asyncio.create_task(refusal(a.create()))
        await asyncio.sleep(0)

        await a.create("plain", "10.60.0.0/24", options={"mdnp.mode": "bridge"})

        assert not asked.done()
        await asked


async def test_without_a_cluster_an_overlay_is_refused_with_what_is_missing() -> None:
    with quick_folder() as folder:
        site = Site("a", 1, folder, None)
        await site.start()

        assert "this host is in no cluster: give mdnp the URLs of its etcd (--etcd" in await refusal(site.create())

        assert (left(site, FakeCluster()), site.ipam.allocations()) == ([], {})
        await site.stop()


async def test_an_overlay_goes_on_without_the_cluster_that_it_had() -> None:
    """The settings lost their etcd: what is known goes on, and nothing new is agreed on."""
    with quick_folder() as folder:
        site = Site("a", 1, folder, FakeCluster())
        await site.start()
        await site.create()
        await site.run("web")
        await site.stop()
        site = _without_cluster(site, folder)
        await site.start()

        assert await site.run("db") != ""
        await site.kill("db")
        await site.kill("web")
        await site.remove()
        assert site.store.promises.networks == {}
        await site.stop()


def _without_cluster(site: Site, folder: Any) -> Site:
    other = Site(site.name, 1, folder, None)
    other.kernel, other.networks, other.containers = site.kernel, site.networks, site.containers
    other._made = 1000  # noqa: SLF001  # other ids than before
    return other


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ({"mdnp.segment": "blue"}, f"mdnp.segment is {SUBNET} there, and blue here"),
        ({"com.docker.network.driver.mtu": "1400"}, "the MTU is 1450 there, and 1400 here"),
        ({"mdnp.multicast": "off"}, "mdnp.multicast is on there, and off here"),
        (
            {"com.docker.network.bridge.enable_icc": "false"},
            "com.docker.network.bridge.enable_icc is on there, and off here",
        ),
    ],
)
async def test_what_differs_from_the_other_hosts_is_refused_and_named(ours: dict[str, str], said: str) -> None:
    cluster = FakeCluster()
    async with open_fleet("a", "b", cluster=cluster) as (a, b):
        await a.create()

        assert said in await refusal(b.create(options=ours))

        await nothing_left(b, cluster)
        await b.create()


async def test_a_segment_s_auxiliary_addresses_and_internality_agree_too() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create(auxiliary=["10.50.0.9"])

        assert "auxiliary addresses is 10.50.0.9 there, and none here" in await refusal(b.create())
        assert "--internal is off there, and on here" in await refusal(b.create(internal=True, auxiliary=["10.50.0.9"]))
        await b.create(auxiliary=["10.50.0.9"])
        assert "held already, by the auxiliary" in await refusal(b.run("web", "10.50.0.9"))


async def test_a_segment_that_overlaps_another_is_refused() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create()

        assert "overlaps the segment 10.50.0.0/16 of other hosts" in await refusal(b.create("blue", "10.50.1.0/24"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"IPv4Data": [], "IPv6Data": []}, "an overlay needs addresses that hosts agree on: give --subnet"),
        ({"IPv4Data": [{"Pool": "0.0.0.0/0"}]}, "an overlay needs addresses that hosts agree on: give --subnet"),
        ({"IPv4Data": [{"Pool": "172.30.0.0/16", "Gateway": "172.30.0.1/16"}]}, "an overlay needs mdnp's own IPAM"),
    ],
)
async def test_addresses_that_are_not_of_mdnp_s_own_ipam_are_refused(body: dict[str, Any], said: str) -> None:
    cluster = FakeCluster()
    async with open_fleet("a", cluster=cluster) as (a,):
        options = {"com.docker.network.generic": {"mdnp.mode": "overlay"}}

        assert said in await refusal(
            a.call("NetworkDriver.CreateNetwork", {"NetworkID": a.identity(), "Options": options, **body})
        )

        assert left(a, cluster) == []


async def test_routed_traffic_finds_no_host_of_an_overlay() -> None:
    async with open_fleet("a") as (a,):
        routed = {"com.docker.network.bridge.gateway_mode_ipv4": "routed"}

        assert "no router can tell on which" in await refusal(a.create(options=routed))


async def test_an_internal_overlay_has_no_gateway_and_no_address_of_the_host() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create(internal=True)
        await b.create(internal=True)

        assert (a.own, b.own) == (set(), set())
        assert a.promised().vni == b.promised().vni
        await a.run("web")
        await quiet(a, b)


async def test_with_the_network_goes_all_that_it_had() -> None:
    cluster = FakeCluster()
    async with open_fleet("a", "b", cluster=cluster) as (a, b):
        await a.create()
        await b.create()
        await a.run("web")
        await a.run("fixed", "10.50.200.1")
        await a.kill("web")
        await a.kill("fixed")

        await a.remove()
        await nothing_left(a, cluster)
        assert any("/segments/" in key for key in cluster.entries)
        await b.remove()

        await nothing_left(b, cluster)
        await until(
            lambda: (
                not [key for key in cluster.entries if key.split("/")[3] in ("segments", "vnis", "blocks", "members")]
            ),
            "the segment to go with the last host",
        )


async def test_a_network_comes_back_after_it_was_removed() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create()
        await b.create()
        for _ in range(3):
            await a.remove()
            await a.create()
        await a.run("web")

        await quiet(a, b)
        assert a.promised().vni == b.promised().vni


async def test_a_repeated_creation_changes_nothing() -> None:
    async with open_fleet("a") as (a,):
        await a.create()
        before = a.promised(), a.blocks, a.ipam.allocations()
        body = _creation(a)

        await a.call("NetworkDriver.CreateNetwork", body)

        assert (a.promised(), a.blocks, a.ipam.allocations()) == before


async def test_creations_of_one_network_at_once_make_it_once() -> None:
    async with open_fleet("a") as (a,):
        pool = (await a.call("IpamDriver.RequestPool", {"AddressSpace": "mdnp-local", "Pool": SUBNET}))["PoolID"]
        identity = a.identity()
        a.networks["blue"] = identity, [pool], []
        body = _creation(a)

        await asyncio.gather(*(a.call("NetworkDriver.CreateNetwork", body) for _ in range(5)))

        assert len(a.blocks) == len(a.own) == 1


def _creation(site: Site) -> dict[str, Any]:
    data = [{"Pool": SUBNET, "Gateway": "10.50.0.1/16"}]
    options = {"com.docker.network.generic": {"mdnp.mode": "overlay"}}
    return {"NetworkID": site.networks["blue"][0], "Options": options, "IPv4Data": data}


async def test_two_networks_of_one_subnet_at_once_are_one_and_a_refusal() -> None:
    async with open_fleet("a") as (a,):
        done = await asyncio.gather(a.create("blue"), a.create("red"), return_exceptions=True)

        refused = [one for one in done if isinstance(one, Refused)]
        assert len(refused) == 1
        assert "overlaps" in str(refused[0])
        assert len(a.blocks) == len(a.own) == 1


async def test_a_kernel_that_refuses_leaves_nothing_here_and_nothing_in_the_cluster() -> None:
    cluster = FakeCluster()
    async with open_fleet("a", cluster=cluster) as (a,):
        a.kernel.refuses = lambda step: "refused" if isinstance(step, Add) and "mdx-" in str(step) else None

        await refusal(a.create())

        a.kernel.refuses = lambda _step: None
        await nothing_left(a, cluster)
        await a.create()


@pytest.mark.parametrize("number", range(8))
async def test_a_disk_that_is_full_leaves_nothing(number: int) -> None:
    """At any of the commits of a creation."""
    cluster = FakeCluster()
    async with open_fleet("a", cluster=cluster) as (a,):
        commits = 0
        commit = a.store.commit

        async def failing(*changes: Any) -> None:
            nonlocal commits
            if any(isinstance(one, Put | Drop) or type(one).__name__ in ("Hold", "Free") for one in changes):
                commits += 1
                a.store.full = commits == number + 1
            try:
                await commit(*changes)
            finally:
                a.store.full = False

        a.store.commit = failing  # type: ignore[method-assign]
        with suppress(Refused):
            await a.create()
            await a.remove()
        a.store.commit = commit  # type: ignore[method-assign]
        # What Docker's releases left, for it repeats none, the collector would take.
        for identity in list(a.store.promises.pools):
            await a.ipam.release_pool(identity)
        for network in list(a.store.promises.networks):
            await a.call("NetworkDriver.DeleteNetwork", {"NetworkID": network})
        await a.ipam.sharing.tend()

        await nothing_left(a, cluster)


async def test_an_endpoint_is_of_a_later_generation_than_any_that_had_its_address() -> None:
    """A host that is not there any more may have told of the address, and may be back."""
    cluster, segment, address = FakeCluster(), SegmentID(SUBNET), "10.50.200.1"
    async with open_fleet("a", cluster=cluster) as (site,):
        member = site.member
        assert member is not None
        await site.create()
        mac = MAC("02:6d:0a:32:c8:01")
        row = EndpointRow(segment, HostID("b" * 16), "db", mac, (ip_address(address),), generation=4)
        await cluster.commit([], [Tell(key(row), value(row))])
        await until(lambda: member.newest_generation(segment, [ip_address(address)]) == 4, "it to be heard")

        await site.run("web", address)

        assert site.store.promises.endpoints[EndpointID(site.containers["web"][1])].generation == 5


async def test_a_container_moves_between_hosts_with_its_address() -> None:
    async with open_fleet("a", "b", "c") as (a, b, c):
        for site in (a, b, c):
            await site.create()
        address = await a.run("web")
        await quiet(a, b, c)

        await a.kill("web")
        assert await b.run("web", address) == address

        await quiet(a, b, c)
        assert address in c.neighbours
        assert address in a.neighbours


async def test_a_fixed_address_that_another_host_has_is_refused_and_says_who() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create()
        await b.create()
        address = await a.run("web")
        await a.run("far", "10.50.200.1")

        assert await refusal(b.run("db", address)) != ""
        said = await refusal(b.run("db", "10.50.200.1"))

        assert "10.50.200.1" in said
        assert "a (" in said or str(a.member.host.id if a.member else "") in said
        assert b.containers == {}
        await quiet(a, b)


@pytest.mark.long
async def test_a_fixed_address_whose_owner_is_dead_is_refused_with_what_to_do() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create()
        await b.create()
        address = await a.run("web")
        await a.stop()

        said = await refusal(b.run("db", address))

        assert "mdnp host remove" in said
        await a.start()


async def test_a_daemon_that_is_killed_goes_on_where_it_was() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create()
        await b.create()
        await a.run("web")
        await a.run("fixed", "10.50.200.1")
        await quiet(a, b)
        before = a.promised(), a.blocks, dict(a.kernel.objects)

        await a.restart()

        assert (a.promised(), a.blocks) == before[:2]
        assert dict(a.kernel.objects) == before[2]
        await quiet(a, b)
        await a.run("db")
        await quiet(a, b)


async def test_a_daemon_that_starts_while_etcd_is_away_goes_on_with_what_it_knew() -> None:
    cluster = FakeCluster()
    async with open_fleet("a", "b", cluster=cluster) as (a, b):
        await a.create()
        await b.create()
        await b.run("web")
        await quiet(a, b)
        before = dict(a.kernel.objects)
        cluster.away = True

        await a.restart(wait=False)

        assert dict(a.kernel.objects) == before
        assert await a.run("db") != ""
        cluster.away = False
        await quiet(a, b)


async def test_a_death_in_the_middle_of_a_creation_leaves_nothing() -> None:
    cluster = FakeCluster()
    async with open_fleet("a", cluster=cluster) as (a,):
        reached, dead = asyncio.Event(), asyncio.Event()
        commit = a.store.commit

        async def stuck(*changes: Any) -> None:
            if dead.is_set():
                raise StoreUnavailable("the daemon is dead")
            if any(isinstance(one, Put) and type(one.record).__name__ == "Network" for one in changes):
                reached.set()
                await asyncio.Event().wait()
            await commit(*changes)

        a.store.commit = stuck  # type: ignore[method-assign]
        creation = asyncio.create_task(a.create())
        await reached.wait()
        assert a.blocks != []
        dead.set()
        await a.stop()
        creation.cancel()
        await asyncio.gather(creation, return_exceptions=True)

        await a.start()
        [pool] = a.store.promises.pools
        await a.ipam.release_pool(pool)  # as the collector does
        await nothing_left(a, cluster)


@pytest.mark.long
async def test_another_host_s_death_takes_no_address_of_its_away() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create()
        await b.create()
        address = await a.run("web")
        await quiet(a, b)
        await a.stop()

        given = {await b.run(f"db{number}") for number in range(300)}

        assert address not in given
        assert not given & a.own
        assert len(given) == 300
        await a.start()
        await quiet(a, b)


async def test_an_overlay_whose_host_was_removed_begins_anew() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create()
        await b.create()
        address = await a.run("web")
        await quiet(a, b)
        assert a.member is not None
        assert b.member is not None
        removed = a.member.host.id
        await a.stop()
        await b.member.remove_host(removed, force=True)

        assert await b.run("web", address) == address
        await a.start()
        await until(lambda: a.connected and bool(a.blocks), "the host to be a new member")

        assert a.member.host.id != removed
        assert ip_address(address) not in [
            one.ip for end in a.store.promises.endpoints.values() for one in end.addresses
        ]
        a.containers.clear()
        await quiet(a, b)
        await a.run("db")
        await quiet(a, b)
        assert ip_interface(f"{next(iter(a.own))}/16") in a.promised().host_addresses
