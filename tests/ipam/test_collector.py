"""Addresses and pools that the engine forgot to give back are freed, and nothing else."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

import pytest

from mdnp.engine import EngineUnavailable, Listing
from mdnp.ipam.keeper import AddressKeeper
from mdnp.model.errors import StoreUnavailable
from mdnp.model.pool import PoolID
from mdnp.orphans import Orphan
from mdnp.orphans.collector import Collector
from mdnp.store import Change, Drop, Name
from tests.ipam.engine import FakeEngine, listing
from tests.ipam.house import House
from tests.world import Clock

POOL = "mdnp-local/10.1.0.0/24"
OTHER = "mdnp-local/10.2.0.0/24"
GRACE_S = 120.0

EMPTY = listing()
IN_USE = listing("10.1.0.0/24")


def collector_of(house: House, *listings: Listing | None) -> tuple[Collector, FakeEngine]:
    """One that looks twice without a pause, long after everything that is there."""
    house.clock.now += GRACE_S + 1
    engine = FakeEngine(*listings)
    return Collector([AddressKeeper(house.store, house.ipam)], engine, house.clock, GRACE_S, apart_s=0), engine


def told(found: list[Orphan]) -> list[str]:
    return [str(one) for one in found]


async def test_what_is_in_neither_listing_is_freed(house: House) -> None:
    await house.pool()
    await house.gateway(POOL)
    for name in ("web", "db", "old"):
        await house.address(POOL, name=name)
    collector, engine = collector_of(house, listing("10.1.0.0/24", held=["10.1.0.2"]))

    found = await collector.collect()

    assert told(found) == [
        f"endpoint 10.1.0.3 of {POOL}",
        f"endpoint 10.1.0.4 of {POOL}",
    ]
    assert (house.held, engine.asked) == ({POOL: ["10.1.0.1", "10.1.0.2"]}, 2)


async def test_what_is_freed_is_freed_on_disk_and_rests(house: House) -> None:
    await house.pool()
    await house.address(POOL, name="web")
    collector, _ = collector_of(house, IN_USE)

    await collector.collect()

    (tenure,) = await house.store.history("web")
    assert tenure.until == house.clock.now
    assert await house.address(POOL) == "10.1.0.2/24"
    await house.restart()
    assert house.held == {POOL: ["10.1.0.2"]}
    assert await house.address(POOL, name="web") == "10.1.0.1/24"


@pytest.mark.parametrize("turned", [False, True])
async def test_what_is_in_one_of_two_listings_is_not_freed(house: House, turned: bool) -> None:
    await house.pool()
    await house.address(POOL)
    with_it = listing("10.1.0.0/24", held=["10.1.0.1"])
    collector, _ = collector_of(house, *((with_it, IN_USE) if turned else (IN_USE, with_it)))

    assert await collector.collect() == []

    assert house.held == {POOL: ["10.1.0.1"]}


async def test_what_is_in_the_other_of_two_listings_is_not_freed(house: House) -> None:
    await house.pool()
    await house.address(POOL)
    await house.address(POOL)
    collector, engine = collector_of(house, *(listing("10.1.0.0/24", held=[f"10.1.0.{last}"]) for last in (1, 2)))

    assert (await collector.collect(), engine.asked) == ([], 2)

    assert house.held == {POOL: ["10.1.0.1", "10.1.0.2"]}


@pytest.mark.parametrize("turned", [False, True])
async def test_a_pool_in_one_of_two_listings_is_not_dropped(house: House, turned: bool) -> None:
    await house.pool()
    await house.gateway(POOL)
    collector, _ = collector_of(house, *((IN_USE, EMPTY) if turned else (EMPTY, IN_USE)))

    assert await collector.collect() == []

    assert (house.holders, house.held) == ({POOL: 1}, {POOL: ["10.1.0.1"]})


async def test_what_is_young_is_not_freed(house: House) -> None:
    await house.pool()
    await house.address(POOL)
    collector, engine = collector_of(house, IN_USE)
    await house.address(POOL)
    house.clock.now += GRACE_S

    assert told(await collector.collect()) == [f"endpoint 10.1.0.1 of {POOL}"]

    assert (house.held, engine.asked) == ({POOL: ["10.1.0.2"]}, 2)


async def test_the_age_counts_from_before_the_listing(house: House) -> None:
    """An engine with a thousand containers takes seconds to list them: a start meanwhile is in no listing."""
    await house.pool()
    collector, engine = collector_of(house, IN_USE)
    await house.address(POOL)
    house.clock.now += GRACE_S - 1

    async def slow() -> None:
        house.clock.now += 2

    engine.meanwhile = slow

    assert await collector.collect() == []


async def test_a_pool_that_is_young_is_not_dropped(house: House) -> None:
    collector, _ = collector_of(house, EMPTY)
    await house.pool()

    assert await collector.collect() == []

    assert house.holders == {POOL: 1}


async def test_a_pool_that_another_network_just_asked_for_is_not_dropped(house: House) -> None:
    await house.pool()
    collector, _ = collector_of(house, EMPTY)
    await house.pool()

    assert await collector.collect() == []

    assert house.holders == {POOL: 2}


async def test_an_address_that_was_given_to_another_between_the_listings_is_not_freed(house: House) -> None:
    await house.pool()
    await house.address(POOL)
    collector, engine = collector_of(house, IN_USE)

    async def given_anew() -> None:
        if engine.asked == 2:
            await house.release(POOL, "10.1.0.1")
            await house.address(POOL, "10.1.0.1")

    engine.meanwhile = given_anew

    assert await collector.collect() == []

    assert house.held == {POOL: ["10.1.0.1"]}


async def test_an_address_that_is_given_to_another_while_others_are_freed_is_not_freed(house: House) -> None:
    await house.pool()
    for _ in range(20):
        await house.address(POOL)
    collector, engine = collector_of(house, IN_USE)

    async def later() -> None:
        house.clock.now += 1
        await house.release(POOL, "10.1.0.20")
        await house.address(POOL, "10.1.0.20")

    collecting = asyncio.create_task(collector.collect())
    await engine.asked_twice.wait()
    await asyncio.gather(collecting, later())
    await house.restart()

    assert house.held == {POOL: ["10.1.0.20"]}


async def test_a_pool_that_another_network_asks_for_while_addresses_are_freed_is_not_dropped(house: House) -> None:
    await house.pool()
    for _ in range(20):
        await house.address(POOL)
    collector, engine = collector_of(house, EMPTY)

    collecting = asyncio.create_task(collector.collect())
    await engine.asked_twice.wait()
    await asyncio.gather(collecting, house.pool())

    assert house.holders == {POOL: 2}


async def test_the_gateway_of_a_listed_network_is_not_freed(house: House) -> None:
    await house.pool()
    await house.gateway(POOL, "10.1.0.254")
    collector, _ = collector_of(house, IN_USE)

    assert await collector.collect() == []


async def test_a_pool_of_no_network_is_dropped_whatever_its_count_says(house: House) -> None:
    await house.pool()
    await house.pool()
    await house.gateway(POOL)
    await house.address(POOL)
    await house.pool("10.2.0.0/24")
    collector, _ = collector_of(house, listing("10.2.0.0/24"))

    found = await collector.collect()

    assert told(found) == [
        f"gateway 10.1.0.1 of {POOL}",
        f"endpoint 10.1.0.2 of {POOL}",
        f"pool {POOL}",
    ]
    assert (house.holders, house.held) == ({OTHER: 1}, {OTHER: []})


async def test_unasked_only_pools_that_this_engine_has_listed_are_touched(house: House) -> None:
    """Another engine on this host may have the others."""
    for network in ("10.1.0.0/24", "10.2.0.0/24"):
        await house.address(await house.pool(network))
    collector, engine = collector_of(house, IN_USE)

    first = await collector.collect(unasked=True)
    engine.listings = [EMPTY]
    second = await collector.collect(unasked=True)
    third = await collector.collect()

    assert [told(found) for found in (first, second, third)] == [
        [f"endpoint 10.1.0.1 of {POOL}"],
        [f"pool {POOL}"],
        [f"endpoint 10.2.0.1 of {OTHER}", f"pool {OTHER}"],
    ]
    assert house.held == {}


async def test_unasked_nothing_is_freed_on_the_word_of_a_clock_that_was_just_set(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """An address of a start under way is then as old as the clock was wrong."""
    steady = Clock()
    engine = FakeEngine(IN_USE)
    keeper = AddressKeeper(house.store, house.ipam)
    collector = Collector([keeper], engine, house.clock, GRACE_S, steady=steady, apart_s=0)
    await house.address(await house.pool())
    house.clock.now += 3600

    founds = []
    for passed_s in (0.0, GRACE_S - 1, 1.0):
        steady.now += passed_s
        house.clock.now += passed_s
        founds.append(told(await collector.collect(unasked=True)))

    assert founds == [[], [], [f"endpoint 10.1.0.1 of {POOL}"]]
    assert caplog.messages[0] == "the clock was set by +3600 s: nothing is freed unasked for 120 s"


async def test_a_clock_that_was_set_back_only_delays(house: House) -> None:
    steady = Clock()
    collector = Collector(
        [AddressKeeper(house.store, house.ipam)], FakeEngine(IN_USE), house.clock, GRACE_S, steady=steady, apart_s=0
    )
    await house.address(await house.pool())
    house.clock.now -= 3600

    founds = []
    for passed_s in (0.0, 3600.0, GRACE_S + 1):
        steady.now += passed_s
        house.clock.now += passed_s
        founds.append(told(await collector.collect(unasked=True)))

    assert founds == [[], [], [f"endpoint 10.1.0.1 of {POOL}"]]


async def test_looking_frees_nothing(house: House) -> None:
    await house.pool()
    await house.address(POOL)
    collector, _ = collector_of(house, EMPTY)
    before = house.state

    found = await collector.find()

    assert told(found) == [f"endpoint 10.1.0.1 of {POOL}", f"pool {POOL}"]
    assert house.state == before


async def test_one_listing_is_enough_when_it_shows_no_orphan(house: House) -> None:
    await house.pool()
    collector, engine = collector_of(house, IN_USE)

    assert (await collector.find(), engine.asked) == ([], 1)


@pytest.mark.parametrize("listings", [[None], [EMPTY, None]], ids=["first", "second"])
async def test_nothing_is_freed_when_docker_cannot_be_asked(house: House, listings: list[Listing | None]) -> None:
    await house.pool()
    await house.address(POOL)
    collector, _ = collector_of(house, *listings)
    before = house.state

    with pytest.raises(EngineUnavailable, match="it does not run"):
        await collector.collect()

    assert house.state == before


async def test_a_disk_that_is_full_ends_a_collection_and_the_next_one_goes_on(house: House) -> None:
    await house.pool()
    await house.address(POOL)
    collector, _ = collector_of(house, EMPTY)
    house.store.full = True
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await collector.collect()
    house.store.full = False

    assert len(await collector.collect()) == 2

    assert (house.holders, house.held) == ({}, {})


async def test_names_that_docker_tells_later_are_kept(house: House) -> None:
    """Engines before 29 do not say for whom they ask."""
    await house.pool()
    await house.address(POOL)
    collector, _ = collector_of(house, listing("10.1.0.0/24", held={"10.1.0.1": "web", "10.9.0.1": "else"}))

    await collector.find()

    assert [one.pool for one in await house.store.history("web")] == [POOL]
    await house.restart()
    await house.release(POOL, "10.1.0.1")
    assert await house.address(POOL, name="web") == "10.1.0.1/24"


async def test_a_name_is_written_down_once_and_again_when_it_changes(house: House) -> None:
    await house.pool()
    await house.address(POOL)
    web, shop = (listing("10.1.0.0/24", held={"10.1.0.1": name}) for name in ("web", "shop"))
    collector, _ = collector_of(house, web, web, shop, shop, web)
    house.store.commits.clear()

    for _ in range(6):
        await collector.find()

    assert [change for changes in house.store.commits for change in changes] == [
        Name(PoolID(POOL), ip_address("10.1.0.1"), name) for name in ("web", "shop", "web")
    ]


async def test_a_name_is_not_given_to_an_address_that_changed_hands_while_docker_listed(house: House) -> None:
    await house.pool()
    await house.address(POOL, "10.1.0.1", name="old")
    collector, engine = collector_of(house, listing("10.1.0.0/24", held={"10.1.0.1": "old"}))

    async def changes_hands() -> None:
        house.clock.now += 1
        await house.release(POOL, "10.1.0.1")
        await house.address(POOL, "10.1.0.1", name="new")

    engine.meanwhile = changes_hands
    await collector.find()

    assert [one.until for one in await house.store.history("new")] == [None]


async def test_it_runs_on_whatever_happens_and_says_once_that_docker_cannot_be_asked(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mdnp.orphans.collector")
    await house.pool()
    await house.address(POOL)
    house.clock.now += 10
    engine = FakeEngine(None, None, IN_USE, EMPTY)
    keeper = AddressKeeper(house.store, house.ipam)
    collector = Collector([keeper], engine, house.clock, 0, apart_s=0, interval_s=0)

    dropped = asyncio.Event()

    def seen(changes: Sequence[Change]) -> bool:
        if any(isinstance(one, Drop) for one in changes):
            dropped.set()
        return False

    house.store.breaks = seen
    running = asyncio.create_task(collector.run())
    await dropped.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert [record.getMessage() for record in caplog.records] == [
        "Docker cannot be asked at /run/docker.sock: it does not run",
        f"freeing endpoint 10.1.0.1 of {POOL}: nobody has it",
        "Docker can be asked again",
        f"freeing pool {POOL}: nobody has it",
    ]
