"""Which address a call is answered with, when it is free again, and who keeps it."""

from ipaddress import ip_interface, ip_network

import pytest

from mdnp.ipam.allocator import REST_S, Counts
from mdnp.store import Hold
from tests.ipam.house import GATEWAY, House, request_address

POOL = "mdnp-local/10.1.0.0/24"
SMALL = "mdnp-local/10.2.0.0/30"


async def small(house: House) -> tuple[str, str]:
    """A pool of two addresses, both held."""
    await house.pool("10.2.0.0/30")
    return await house.address(SMALL), await house.address(SMALL)


@pytest.mark.parametrize(
    ("network", "sub_pool", "expected"),
    [
        ("10.1.0.0/24", "", "10.1.0.1/24"),
        ("10.1.0.0/24", "10.1.0.64/26", "10.1.0.1/24"),
        ("10.1.0.2/31", "", "10.1.0.2/31"),
        ("10.1.0.7/32", "", "10.1.0.7/32"),
        ("fd00:1::/64", "", "fd00:1::1/64"),
        ("fd00:1::4/127", "", "fd00:1::4/127"),
        ("10.0.0.0/8", "", "10.0.0.1/8"),
    ],
)
async def test_the_gateway_is_the_first_usable_address_of_the_network(
    house: House, network: str, sub_pool: str, expected: str
) -> None:
    pool = await house.pool(network, sub_pool)

    assert await house.gateway(pool) == expected


async def test_the_gateway_can_be_asked_for(house: House) -> None:
    await house.pool()

    assert await house.gateway(POOL, "10.1.0.254") == "10.1.0.254/24"
    assert await house.address(POOL) == "10.1.0.1/24"


async def test_the_gateway_is_nobody_else_s(house: House) -> None:
    await house.pool()
    await house.gateway(POOL)

    assert await house.address(POOL) == "10.1.0.2/24"
    assert await house.refused("RequestAddress", request_address(POOL, "10.1.0.1")) == (
        409,
        "address 10.1.0.1: held already, by the gateway; choose another",
    )


async def test_a_gateway_on_an_endpoint_s_address_is_refused(house: House) -> None:
    await house.pool()
    await house.address(POOL, "10.1.0.1", name="web")

    assert await house.refused("RequestAddress", request_address(POOL, "", GATEWAY)) == (
        409,
        "address 10.1.0.1: held already, by the endpoint web; choose another",
    )


async def test_networks_that_share_a_pool_share_its_gateway(house: House) -> None:
    await house.pool()
    first = await house.gateway(POOL)
    await house.pool()

    second = await house.gateway(POOL)
    asked = await house.gateway(POOL, "10.1.0.1")

    assert (first, second, asked) == ("10.1.0.1/24",) * 3
    assert house.held == {POOL: ["10.1.0.1"]}


async def test_a_shared_gateway_goes_with_the_last_network(house: House) -> None:
    await house.pool()
    await house.gateway(POOL)
    await house.pool()
    await house.gateway(POOL)

    await house.release(POOL, "10.1.0.1")
    await house.release_pool(POOL)
    after_one = house.held
    await house.release(POOL, "10.1.0.1")
    after_both = house.held

    assert (after_one, after_both) == ({POOL: ["10.1.0.1"]}, {POOL: []})


async def test_a_second_gateway_of_a_network_alone_is_refused(house: House) -> None:
    await house.pool()
    await house.gateway(POOL)

    assert await house.refused("RequestAddress", request_address(POOL, "", GATEWAY)) == (
        409,
        "address 10.1.0.1: held already, by the gateway; choose another",
    )


async def test_a_network_on_a_shared_pool_may_have_a_gateway_of_its_own(house: House) -> None:
    await house.pool()
    await house.gateway(POOL)
    await house.pool()

    assert await house.gateway(POOL, "10.1.0.254") == "10.1.0.254/24"

    assert house.held == {POOL: ["10.1.0.1", "10.1.0.254"]}


async def test_addresses_asked_for_are_given_and_not_given_again(house: House) -> None:
    """Static ones and auxiliary ones: before 29 nothing tells them apart."""
    await house.pool()
    await house.address(POOL, "10.1.0.1")
    await house.address(POOL, "10.1.0.3", name="db")

    assert [await house.address(POOL) for _ in range(2)] == ["10.1.0.2/24", "10.1.0.4/24"]


async def test_only_the_sub_pool_is_given_to_whoever_asks_for_none(house: House) -> None:
    pool = await house.pool("10.1.0.0/24", "10.1.0.8/30")
    await house.gateway(pool)
    await house.address(pool, "10.1.0.9")
    await house.address(pool, "10.1.0.77")

    given = [await house.address(pool) for _ in range(3)]

    assert given == ["10.1.0.8/24", "10.1.0.10/24", "10.1.0.11/24"]
    status, text = await house.refused("RequestAddress", request_address(pool))
    assert (status, text.partition(";")[0]) == (
        409,
        "pool 10.1.0.0/24: all 4 addresses of 10.1.0.8/30 are held (endpoint 4)",
    )


async def test_an_ipv6_pool_is_served_alike(house: House) -> None:
    pool = await house.pool("fd00:1::/126", v6=True)
    await house.gateway(pool)

    given = [await house.address(pool), await house.address(pool, "fd00:1:0:0::3")]

    assert given == ["fd00:1::2/126", "fd00:1::3/126"]
    status, text = await house.refused("RequestAddress", request_address(pool))
    assert (status, text.partition(";")[0]) == (
        409,
        "pool fd00:1::/126: all 3 addresses of fd00:1::/126 are held (gateway 1, endpoint 2)",
    )


async def test_an_address_given_back_waits_until_the_others_had_their_turn(house: House) -> None:
    await house.pool("10.2.0.0/29")
    pool = "mdnp-local/10.2.0.0/29"
    first = await house.address(pool)
    await house.release(pool, first)

    given = [await house.address(pool) for _ in range(6)]

    assert given == [f"10.2.0.{last}/29" for last in (2, 3, 4, 5, 6, 1)]


async def test_the_longest_rested_goes_first_when_nothing_else_is_left(house: House) -> None:
    first, second = await small(house)
    await house.release(SMALL, second)
    house.clock.now += 1
    await house.release(SMALL, first)

    assert [await house.address(SMALL) for _ in range(2)] == [second, first]


async def test_an_address_rests_for_a_minute(house: House) -> None:
    await house.pool()
    await house.release(POOL, await house.address(POOL))
    resting = house.ipam.counts()

    house.clock.now += REST_S

    assert resting == {POOL: Counts(size=254, used=0, reserved=0, resting=1, free=253, outside=0)}
    assert house.ipam.counts() == {POOL: Counts(size=254, used=0, reserved=0, resting=0, free=254, outside=0)}


async def test_a_resting_address_can_be_asked_for(house: House) -> None:
    await house.pool()
    await house.release(POOL, await house.address(POOL))

    assert await house.address(POOL, "10.1.0.1") == "10.1.0.1/24"


async def test_a_name_gets_its_address_again(house: House) -> None:
    await house.pool()
    web = await house.address(POOL, name="web")
    await house.address(POOL, name="db")
    await house.release(POOL, web)
    house.clock.now += 10 * REST_S

    assert [await house.address(POOL, name=name) for name in ("new", "web")] == ["10.1.0.3/24", web]


async def test_a_name_that_was_given_a_static_address_keeps_it(house: House) -> None:
    await house.pool()
    await house.release(POOL, await house.address(POOL, "10.1.0.77", name="web"))

    assert await house.address(POOL, name="web") == "10.1.0.77/24"


async def test_a_name_loses_its_address_to_one_that_asks_for_it(house: House) -> None:
    await house.pool()
    web = await house.address(POOL, name="web")
    await house.release(POOL, web)
    await house.address(POOL, "10.1.0.1", name="db")

    assert await house.address(POOL, name="web") == "10.1.0.2/24"


async def test_names_are_each_pool_s_own(house: House) -> None:
    await house.pool()
    await house.pool("10.2.0.0/24")
    await house.release(POOL, await house.address(POOL, "10.1.0.9", name="web"))

    assert await house.address("mdnp-local/10.2.0.0/24", name="web") == "10.2.0.1/24"


async def test_a_name_gets_its_address_again_when_its_network_is_made_again(house: House) -> None:
    """`docker compose down` and `up`: the same subnet, the same addresses."""
    await house.pool()
    await house.gateway(POOL)
    given = {name: await house.address(POOL, name=name) for name in ("web", "db", "cache")}
    for address in [*given.values(), "10.1.0.1"]:
        await house.release(POOL, address)
    await house.release_pool(POOL)

    await house.pool()
    await house.gateway(POOL)
    again = {name: await house.address(POOL, name=name) for name in ("cache", "web", "new", "db")}

    assert again == {**given, "new": "10.1.0.5/24"}


async def test_what_was_held_in_a_pool_that_goes_is_kept_for_its_name(house: House) -> None:
    """Docker does not wait for the release of endpoints that it lost."""
    await house.pool()
    await house.address(POOL, "10.1.0.9", name="web")
    await house.release_pool(POOL)

    await house.pool()

    assert house.held == {POOL: []}
    assert await house.address(POOL, name="web") == "10.1.0.9/24"


async def test_another_pool_of_the_same_network_begins_anew(house: House) -> None:
    await house.pool()
    await house.release(POOL, await house.address(POOL, "10.1.0.9", name="web"))
    await house.release_pool(POOL)

    pool = await house.pool("10.1.0.0/24", "10.1.0.0/28")

    assert await house.address(pool, name="web") == "10.1.0.1/24"


async def test_the_names_of_endpoints_stand_in_the_history(house: House) -> None:
    await house.pool()
    web = await house.address(POOL, name="web")
    house.clock.now += 5
    await house.release(POOL, web)
    house.clock.now += 5
    await house.address(POOL, "10.1.0.1", name="db")

    tenures = await house.store.history("10.1.0.1")

    assert [(one.allocation.purpose.name, one.allocation.allocated_at, one.until) for one in tenures] == [
        ("web", 1000.0, 1005.0),
        ("db", 1010.0, None),
    ]


async def test_an_address_that_cannot_be_written_down_is_free_again(house: House) -> None:
    await house.pool("10.2.0.0/30")
    house.store.full = True
    refusals = [
        await house.refused("RequestAddress", request_address(SMALL, address, options))
        for address, options in [("", None), ("10.2.0.1", None), ("10.2.0.2", GATEWAY)]
    ]
    house.store.full = False

    assert refusals == [(503, "cannot write the state: database or disk is full; nothing was changed")] * 3
    assert await house.gateway(SMALL) == "10.2.0.1/30"
    assert await house.address(SMALL) == "10.2.0.2/30"


async def test_an_address_that_rests_rests_on_when_its_next_holder_cannot_be_written_down(house: House) -> None:
    first, second = await small(house)
    await house.release(SMALL, first)
    house.store.full = True
    status, _ = await house.refused("RequestAddress", request_address(SMALL))
    house.store.full = False

    assert status == 503
    assert house.ipam.counts()[SMALL] == Counts(size=2, used=1, reserved=0, resting=1, free=0, outside=0)  # type: ignore[index]
    assert (await house.address(SMALL), house.held) == (first, {SMALL: [text[:8] for text in (first, second)]})


async def test_a_release_that_cannot_be_written_down_leaves_the_address_its_holder_s(house: House) -> None:
    first, _ = await small(house)
    body = {"PoolID": SMALL, "Address": first.partition("/")[0]}
    house.store.full = True
    refusals = [await house.refused("ReleaseAddress", body) for _ in range(2)]
    house.store.full = False
    full = await house.refused("RequestAddress", request_address(SMALL))

    await house.ok("ReleaseAddress", body)

    assert [status for status, _ in [*refusals, full]] == [503, 503, 409]
    assert await house.address(SMALL) == first


async def test_the_promise_is_on_disk_before_the_answer(house: House) -> None:
    await house.pool()
    house.store.commits.clear()

    await house.address(POOL)

    assert [type(change) for changes in house.store.commits for change in changes] == [Hold]
    assert any("'10.1.0.1'" in row for row in house.rows)


async def test_an_engine_from_29_on_says_who_holds_an_address(house: House) -> None:
    """And only for endpoints: of a gateway, and of an auxiliary address, nobody is the holder."""
    pool = await house.pool()
    gateway = await house.gateway(pool)
    held = [gateway, await house.address(pool, name="web"), await house.address(pool, "10.1.0.9", name="db")]
    held.append(await house.address(pool))  # before 29
    network = ip_network("10.1.0.0/24")

    names = [house.ipam.holder(network, ip_interface(one).ip) for one in held]
    await house.release(pool, held[1])

    assert names == ["", "web", "db", ""]
    assert house.ipam.holder(network, ip_interface(held[1]).ip) == ""
    assert house.ipam.holder(ip_network("10.2.0.0/24"), ip_interface(held[2]).ip) == ""
