"""Which pools are given out, which are refused, and when they go."""

import asyncio
import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from mdnp.model.pool import PoolID
from mdnp.store import Put
from tests.ipam.house import House, around, open_house, request_pool
from tests.world import NET, OTHER_NET, create_network

POOL = "mdnp-local/10.1.0.0/24"


async def network_on(house: House, identity: str, *subnets: str) -> None:
    await house.ok("CreateNetwork", create_network(identity, *subnets), "NetworkDriver")


async def automatic(house: House, *, v6: bool = False) -> str:
    return str((await house.ok("RequestPool", request_pool(v6=v6)))["Pool"])


async def test_the_same_pool_asked_for_again_is_the_same_and_counts_its_holders(house: House) -> None:
    first = await house.pool()

    again = await house.pool()

    assert (first, again, house.holders) == (POOL, POOL, {POOL: 2})


async def test_a_shared_pool_goes_with_its_last_holder(house: House) -> None:
    await house.pool()
    await house.pool()
    await house.address(POOL)

    await house.release_pool(POOL)
    after_one = house.holders, house.held
    await house.release_pool(POOL)

    assert after_one == ({POOL: 1}, {POOL: ["10.1.0.1"]})
    assert (house.holders, house.held) == ({}, {})


async def test_a_pool_that_was_released_can_be_had_again(house: House) -> None:
    await house.pool()
    await house.address(POOL, "10.1.0.9")
    await house.release_pool(POOL)

    await house.pool()

    assert (house.holders, house.held) == ({POOL: 1}, {POOL: []})


async def test_releasing_a_pool_twice_is_as_once(house: House) -> None:
    await house.pool()
    await house.release_pool(POOL)
    before = house.state

    await house.release_pool(POOL)

    assert house.state == before


@pytest.mark.parametrize(
    ("network", "sub_pool", "space"),
    [
        ("10.1.0.128/25", "", "mdnp-local"),
        ("10.0.0.0/8", "", "mdnp-local"),
        ("10.1.0.7/32", "", "mdnp-local"),
        ("10.1.0.0/24", "10.1.0.64/26", "mdnp-local"),
        ("10.1.0.0/24", "", "mdnp-global"),
    ],
)
async def test_an_overlapping_pool_is_refused_with_the_pool_that_has_it(
    house: House, network: str, sub_pool: str, space: str
) -> None:
    await house.pool()

    assert await house.refused("RequestPool", request_pool(network, sub_pool, space=space)) == (
        409,
        f"pool {network} overlaps 10.1.0.0/24 of pool {POOL}: choose another --subnet, or remove that network",
    )


async def test_an_overlapping_pool_is_refused_with_the_network_that_has_it(house: House) -> None:
    await house.pool("10.7.0.0/24")
    await network_on(house, OTHER_NET, "10.7.0.0/24")
    await house.pool()
    await network_on(house, NET, "10.1.0.0/24")

    assert await house.refused("RequestPool", request_pool("10.1.0.0/16")) == (
        409,
        f"pool 10.1.0.0/16 overlaps 10.1.0.0/24 of network {NET[:12]}: choose another --subnet, or remove that network",
    )


async def test_an_overlapping_ipv6_pool_is_refused(house: House) -> None:
    await house.pool("fd00:1::/64")

    status, text = await house.refused("RequestPool", request_pool("fd00:1::/48", v6=True))

    assert (status, text.partition(": ")[0]) == (
        409,
        "pool fd00:1::/48 overlaps fd00:1::/64 of pool mdnp-local/fd00:1::/64",
    )


async def test_an_overlapping_pool_is_free_when_the_other_has_gone(house: House) -> None:
    await house.pool()
    await house.release_pool(POOL)

    assert await house.pool("10.1.0.0/16") == "mdnp-local/10.1.0.0/16"


async def test_an_explicit_pool_may_hide_a_part_of_a_route(tmp_path: Path) -> None:
    """The mode decides about routes, and the mode first shows in CreateNetwork."""
    async with open_house(tmp_path, surroundings=around("10.0.0.0/8 via", "10.1.0.0/24")) as house:
        assert await house.pool() == POOL


async def test_automatic_pools_differ_from_call_to_call_and_end_in_an_error(house: House) -> None:
    """Docker asks until it is content, and only then gives the others back."""
    given = [await automatic(house) for _ in range(4)]

    status, text = await house.refused("RequestPool", request_pool())

    assert (status, given) == (409, ["10.0.0.0/18", "10.0.64.0/18", "10.0.128.0/18", "10.0.192.0/18"])
    assert text == (
        "no free network is left in 10.0.0.0/16 (/18); in the way: 10.0.0.0/18 (pool mdnp-local/10.0.0.0/18),"
        " 10.0.64.0/18 (pool mdnp-local/10.0.64.0/18), 10.0.128.0/18 (pool mdnp-local/10.0.128.0/18), 10.0.192.0/18"
        " (pool mdnp-local/10.0.192.0/18). Give one with --subnet, or configure address_pools"
    )


async def test_an_automatic_pool_that_was_given_back_is_not_given_out_next(house: House) -> None:
    given = []
    for _ in range(5):
        given.append(await automatic(house))
        await house.release_pool(f"mdnp-local/{given[-1]}")

    assert given == ["10.0.0.0/18", "10.0.64.0/18", "10.0.128.0/18", "10.0.192.0/18", "10.0.0.0/18"]


async def test_the_last_free_automatic_pool_is_given_again_and_again(house: House) -> None:
    for third in (0, 64, 128):
        await house.pool(f"10.0.{third}.0/18")

    given = []
    for _ in range(2):
        given.append(await automatic(house))
        await house.release_pool(f"mdnp-local/{given[-1]}")

    assert given == ["10.0.192.0/18"] * 2


async def test_an_automatic_pool_avoids_routes_resolvers_pools_and_networks(tmp_path: Path) -> None:
    host = around("10.0.3.0/24", "10.0.70.0/24 via", resolvers=["10.0.128.53/32", "fd00:7::53/128"])
    async with open_house(tmp_path, surroundings=host, supernets=["base=10.0.0.0/13,size=18"]) as house:
        await house.pool("10.0.200.0/24")
        await network_on(house, NET, "10.1.0.0/17")

        given = [await automatic(house) for _ in range(3)]

    assert given == ["10.1.128.0/18", "10.1.192.0/18", "10.2.0.0/18"]


async def test_each_family_has_automatic_pools_of_its_own(house: House) -> None:
    given = [await automatic(house, v6=v6) for v6 in (True, False, True, False)]

    assert given == ["fd00:7::/64", "10.0.0.0/18", "fd00:7:0:1::/64", "10.0.64.0/18"]


async def test_what_is_in_the_way_is_named_in_both_errors(tmp_path: Path) -> None:
    host = around("10.0.0.0/15", "0.0.0.0/0 via", resolvers=["10.0.0.53/32"])
    async with open_house(tmp_path, surroundings=host) as house:
        answer = await house.call("RequestPool", request_pool())

        text = (
            "no free network is left in 10.0.0.0/16 (/18); in the way: 0.0.0.0/0 (route on eth0), 10.0.0.0/15 (route on"
            " eth0), 10.0.0.53/32 (resolver). Give one with --subnet, or configure address_pools"
        )
        assert (answer.status, json.loads(answer.body)) == (409, {"Err": text, "Error": text})
        assert await automatic(house, v6=True) == "fd00:7::/64"


async def test_a_kernel_that_cannot_be_read_gives_no_automatic_pool(house: House) -> None:
    """Nobody would know what it overlaps."""
    house.kernel.unreadable = "netlink: no buffer space"
    refusal = await house.refused("RequestPool", request_pool())
    explicit = await house.pool()
    house.kernel.unreadable = ""

    assert refusal == (500, "netlink: no buffer space")
    assert explicit == POOL
    assert await automatic(house) == "10.0.0.0/18"


async def test_a_pool_that_cannot_be_written_down_is_not_given(house: House) -> None:
    house.store.full = True
    refusals = [await house.refused("RequestPool", request_pool(text)) for text in ("10.1.0.0/24", "")]
    house.store.full = False

    assert refusals == [(503, "cannot write the state: database or disk is full; nothing was changed")] * 2
    assert await automatic(house) == "10.0.0.0/18"


async def test_a_second_holder_that_cannot_be_written_down_does_not_count(house: House) -> None:
    await house.pool()
    house.store.full = True
    status, _ = await house.refused("RequestPool", request_pool("10.1.0.0/24"))
    house.store.full = False

    assert (status, house.holders) == (503, {POOL: 1})


@pytest.mark.parametrize("holders", [1, 2])
async def test_a_release_that_cannot_be_written_down_leaves_the_pool_with_all_it_has(
    house: House, holders: int
) -> None:
    for _ in range(holders):
        await house.pool()
    await house.address(POOL, name="web")
    house.store.full = True
    status, _ = await house.refused("ReleasePool", {"PoolID": POOL})
    house.store.full = False

    assert status == 503
    assert await house.address(POOL) == "10.1.0.2/24"
    await house.release_pool(POOL)
    assert house.holders == ({POOL: 1} if holders == 2 else {})


async def test_many_that_ask_for_one_pool_at_once_share_it(house: House) -> None:
    answers = await asyncio.gather(*(house.pool() for _ in range(20)))

    assert (set(answers), house.holders) == ({POOL}, {POOL: 20})


async def test_of_many_that_overlap_one_is_given(house: House) -> None:
    networks = ["10.1.0.0/16", "10.1.0.0/18", "10.1.7.0/24", "10.0.0.0/8"]

    answers = await asyncio.gather(*(house.call("RequestPool", request_pool(one)) for one in networks * 5))

    assert sorted({answer.status for answer in answers}) == [200, 409]
    assert len(house.holders) == 1
    assert sum(answer.status == 200 for answer in answers) == sum(house.holders.values())


async def test_many_automatic_pools_at_once_differ(house: House) -> None:
    answers = await asyncio.gather(*(house.call("RequestPool", request_pool()) for _ in range(6)))

    given = [json.loads(answer.body)["Pool"] for answer in answers if answer.status == 200]
    assert len(set(given)) == len(given) == 4
    assert sorted(answer.status for answer in answers) == [200] * 4 + [409] * 2
    assert {str(one.pool.network) for one in house.store.promises.pools.values()} == set(given)


async def test_a_pool_stands_in_the_views_from_the_moment_it_is_promised_until_it_is_not(house: House) -> None:
    """Who looks while pools come and go sees each promised pool with its counts."""
    seen: list[set[PoolID]] = []
    going = asyncio.create_task(_come_and_go(house))
    while not going.done():
        seen.append(set(house.store.promises.pools) - set(house.ipam.counts()))
        await asyncio.sleep(0)
    await going

    assert {frozenset(missing) for missing in seen} == {frozenset()}


async def _come_and_go(house: House) -> None:
    for _ in range(20):
        await house.pool()
        await house.release_pool(POOL)


async def test_a_pool_of_a_disk_that_fails_only_its_pools_keeps_the_others_going(house: House) -> None:
    await house.pool()
    house.store.breaks = lambda changes: any(isinstance(one, Put) for one in changes)

    status, _ = await house.refused("RequestPool", request_pool("10.2.0.0/24"))

    assert status == 503
    assert ip_network(await house.address(POOL), strict=False) == ip_network("10.1.0.0/24")
