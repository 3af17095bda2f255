"""Many calls at once, disks that fail now and then, and a start from what is on disk."""

import asyncio
import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdnp.ipam.allocator import REST_S
from mdnp.store import Change, Drop, Free, Hold, Put
from mdnp.store.sqlite import FILE
from mdnp.wire.verbs import Answer
from tests.ipam.house import GATEWAY, House, named, open_house, request_address, request_pool

POOL = "mdnp-local/10.1.0.0/24"
SMALL = "mdnp-local/10.2.0.0/28"

Call = tuple[str, Mapping[str, Any]]


def every(number: int, kind: type[Change]) -> Callable[[Sequence[Change]], bool]:
    """Breaks each `number`th commit with a change of this kind."""
    commits = count(1)
    return lambda changes: any(isinstance(one, kind) for one in changes) and next(commits) % number == 0


async def at_once(house: House, *calls: Call) -> list[Answer]:
    return list(await asyncio.gather(*(house.call(verb, body) for verb, body in calls)))


def statuses(answers: Sequence[Answer]) -> dict[int, int]:
    return dict(Counter(answer.status for answer in answers))


def addresses(answers: Sequence[Answer]) -> list[str]:
    """Those that were given, without prefix lengths."""
    return [json.loads(answer.body)["Address"].partition("/")[0] for answer in answers if answer.status == 200]


def release(pool: str, address: str) -> Call:
    return "ReleaseAddress", {"PoolID": pool, "Address": address}


def in_order(texts: Sequence[str]) -> list[str]:
    return sorted(texts, key=lambda text: [int(part) for part in text.split(".")])


async def after_restart(house: House) -> tuple[Any, Any]:
    """What is held and counted, as a start reads it from disk."""
    await house.restart()
    return house.held, house.ipam.counts()


async def test_two_hundred_requests_at_once_get_two_hundred_addresses(house: House) -> None:
    await house.pool()

    answers = await at_once(house, *[("RequestAddress", request_address(POOL))] * 200)

    assert statuses(answers) == {200: 200}
    assert house.held == {POOL: in_order(addresses(answers))}
    assert len(set(addresses(answers))) == 200


async def test_more_requests_than_addresses_get_each_address_once(house: House) -> None:
    await house.pool("10.2.0.0/28")

    answers = await at_once(house, *[("RequestAddress", request_address(SMALL))] * 40)

    assert statuses(answers) == {200: 14, 409: 26}
    assert in_order(addresses(answers)) == [f"10.2.0.{last}" for last in range(1, 15)]


async def test_with_commits_that_fail_nothing_is_given_twice_and_nothing_is_lost(house: House) -> None:
    await house.pool()
    house.store.breaks = every(3, Hold)

    answers = await at_once(house, *[("RequestAddress", request_address(POOL))] * 200)
    house.store.breaks = lambda _changes: False
    rest = await at_once(house, *[("RequestAddress", request_address(POOL))] * 130)

    assert (statuses(answers), statuses(rest)) == ({200: 134, 503: 66}, {200: 120, 409: 10})
    given = in_order(addresses([*answers, *rest]))
    assert given == [f"10.1.0.{last}" for last in range(1, 255)]
    assert (await after_restart(house))[0] == {POOL: given}


async def test_of_many_that_ask_for_one_address_one_gets_it(house: House) -> None:
    await house.pool()

    answers = await at_once(house, *[("RequestAddress", request_address(POOL, "10.1.0.9"))] * 50)

    assert statuses(answers) == {200: 1, 409: 49}


async def test_networks_that_come_together_share_the_gateway(house: House) -> None:
    for _ in range(3):
        await house.pool()

    answers = await at_once(house, *[("RequestAddress", request_address(POOL, "", GATEWAY))] * 3)

    assert addresses(answers) == ["10.1.0.1"] * 3
    assert house.held == {POOL: ["10.1.0.1"]}


async def test_releases_and_requests_at_once_keep_the_account(house: House) -> None:
    await house.pool()
    held = addresses(await at_once(house, *[("RequestAddress", request_address(POOL))] * 100))
    requests = [("RequestAddress", request_address(POOL))] * 50

    answers = await at_once(house, *(call for one in held[:50] for call in (release(POOL, one), requests[0])))

    assert statuses(answers) == {200: 100}
    given = [json.loads(answer.body).get("Address", "").partition("/")[0] for answer in answers[1::2]]
    assert house.held == {POOL: in_order([*held[50:], *given])}
    assert house.ipam.counts()[POOL].resting == 50  # type: ignore[index]


async def test_one_address_released_many_times_at_once_is_free_once(house: House) -> None:
    await house.pool()
    await house.address(POOL, "10.1.0.9", name="web")

    answers = await at_once(house, *[release(POOL, "10.1.0.9")] * 20)

    assert statuses(answers) == {200: 20}
    assert len(await house.store.history("10.1.0.9")) == 1
    assert (house.held, house.ipam.counts()[POOL].resting) == ({POOL: []}, 1)  # type: ignore[index]


async def test_releases_that_fail_leave_what_the_others_freed(house: House) -> None:
    await house.pool()
    held = addresses(await at_once(house, *[("RequestAddress", request_address(POOL))] * 90))
    house.store.breaks = every(3, Free)

    answers = await at_once(house, *(release(POOL, one) for one in held))

    assert statuses(answers) == {200: 60, 503: 30}
    kept = [address for address, answer in zip(held, answers, strict=True) if answer.status == 503]
    assert house.held == {POOL: kept}
    assert (await after_restart(house))[0] == {POOL: kept}


@pytest.mark.parametrize("turned", [False, True])
async def test_a_release_and_the_end_of_its_pool_may_come_at_once(house: House, turned: bool) -> None:
    await house.pool()
    await house.address(POOL, "10.1.0.9")
    calls: list[Call] = [release(POOL, "10.1.0.9"), ("ReleasePool", {"PoolID": POOL})]

    answers = await at_once(house, *(reversed(calls) if turned else calls))

    assert statuses(answers) == {200: 2}
    assert (house.held, await after_restart(house)) == ({}, ({}, {}))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("asked", ["", "10.1.0.9"])
async def test_an_address_asked_for_while_its_pool_ends_is_held_by_nobody(
    house: House, asked: str, turned: bool
) -> None:
    """Neither now nor in the next pool of that identity."""
    await house.pool()
    calls: list[Call] = [("RequestAddress", request_address(POOL, asked)), ("ReleasePool", {"PoolID": POOL})]

    await at_once(house, *(reversed(calls) if turned else calls))
    await house.pool()

    assert house.held == {POOL: []}
    assert (await after_restart(house))[0] == {POOL: []}


async def test_a_pool_whose_end_could_not_be_written_down_goes_on(house: House) -> None:
    await house.pool()
    await house.address(POOL)
    house.store.breaks = lambda changes: any(isinstance(one, Drop) for one in changes)

    answers = await at_once(house, ("ReleasePool", {"PoolID": POOL}), ("RequestAddress", request_address(POOL)))
    house.store.breaks = lambda _changes: False

    assert answers[0].status == 503
    assert house.held[POOL][0] == "10.1.0.1"
    assert (await house.address(POOL, "10.1.0.77"), len(house.held)) == ("10.1.0.77/24", 1)
    await house.release_pool(POOL)
    assert house.held == {}


async def test_a_pool_asked_for_while_it_ends_is_there(house: House) -> None:
    await house.pool()
    await house.address(POOL)

    answers = await at_once(house, ("ReleasePool", {"PoolID": POOL}), ("RequestPool", request_pool("10.1.0.0/24")))

    assert statuses(answers) == {200: 2}
    assert (house.holders, house.held) == ({POOL: 1}, {POOL: []})
    assert await house.address(POOL) == "10.1.0.2/24"


async def test_a_start_goes_on_where_the_daemon_stopped(house: House) -> None:
    await house.pool()
    await house.pool()
    await house.gateway(POOL)
    web, db, old = [await house.address(POOL, name=name) for name in ("web", "db", "old")]
    await house.address(POOL, "10.1.0.200")
    six = await house.pool("fd00:1::/64", v6=True)
    await house.address(six)
    await house.release(POOL, old)
    house.clock.now += REST_S - 1
    await house.release(POOL, db)
    before = house.state

    await house.restart()

    assert house.state == before
    assert house.holders == {POOL: 2, six: 1}
    assert await house.address(POOL, name="db") == db
    house.clock.now += 1
    assert house.ipam.counts()[POOL].resting == 0  # type: ignore[index]
    assert await house.address(POOL, name="old") == old
    assert await house.refused("RequestAddress", request_address(POOL, web.partition("/")[0])) == (
        409,
        "address 10.1.0.2: held already, by the endpoint web; choose another",
    )
    assert await house.address(six) == "fd00:1::2/64"


async def test_a_start_does_not_turn_back_to_addresses_just_given_back(house: House) -> None:
    await house.pool()
    for _ in range(3):
        await house.release(POOL, await house.address(POOL))
        house.clock.now += REST_S

    await house.restart()

    assert await house.address(POOL) == "10.1.0.4/24"


async def test_a_pool_with_a_sub_pool_is_the_same_after_a_start(house: House) -> None:
    pool = await house.pool("10.1.0.0/24", "10.1.0.64/30")
    await house.address(pool)

    await house.restart()

    assert await house.pool("10.1.0.0/24", "10.1.0.64/30") == pool
    assert [await house.address(pool) for _ in range(3)] == [f"10.1.0.{last}/24" for last in (65, 66, 67)]


async def test_an_address_that_was_held_for_long_rests_over_a_start_however_many_came_after_it(house: House) -> None:
    """What ends the history must not end what began long ago and was given back just now."""
    await house.pool()
    await house.address(POOL, "10.1.0.9", name="web")
    await house.store.close()
    with closing(sqlite3.connect(house.folder / FILE)) as connection, connection:
        connection.execute(
            "INSERT INTO allocation (rowid, pool_id, address, kind, name, allocated_at, freed_at)"
            " VALUES (100990, 'another', '10.7.0.1', 'endpoint', '', 1.0, 2.0)"
        )
    await house.start()
    await house.release(POOL, "10.1.0.9")
    for _ in range(12):
        await house.release(POOL, await house.address(POOL))

    await house.restart()

    assert house.ipam.counts()[POOL].resting == 13  # type: ignore[index]
    assert await house.address(POOL, name="web") == "10.1.0.9/24"


async def test_what_is_decided_once_for_a_host_stays(house: House) -> None:
    first = await house.store.fact("ula_global_id", "0123456789")

    await house.restart()

    assert (first, await house.store.fact("ula_global_id", "9876543210")) == ("0123456789", "0123456789")


# Waves of calls that come at once, with commits that fail among them, against what must hold when it is quiet.

POOLS = ["10.1.0.0/29", "10.2.0.0/30"]
names = st.sampled_from(["", "web", "db"])
pools = st.sampled_from([f"mdnp-local/{one}" for one in POOLS])
lasts = st.integers(1, 6)
calls = st.one_of(
    st.builds(lambda network: ("RequestPool", request_pool(network)), st.sampled_from(POOLS)),
    st.builds(lambda pool: ("ReleasePool", {"PoolID": pool}), pools),
    st.builds(lambda pool, name: ("RequestAddress", request_address(pool, "", named(name))), pools, names),
    st.builds(lambda pool: ("RequestAddress", request_address(pool, "", GATEWAY)), pools),
    st.builds(
        lambda pool, last, name: ("RequestAddress", request_address(pool, f"{pool[11:17]}{last}", named(name))),
        pools,
        lasts,
        names,
    ),
    st.builds(lambda pool, last: release(pool, f"{pool[11:17]}{last}"), pools, lasts),
)
broken = st.sampled_from([0, 0, 2, 3])
kinds = st.sampled_from([Put, Drop, Hold, Free])
waves = st.lists(st.tuples(st.lists(calls, max_size=8), broken, kinds), min_size=1, max_size=10)


@pytest.mark.long
@given(waves)
@settings(max_examples=60)
def test_what_is_in_memory_is_on_disk_whatever_came_at_once(story: list[tuple[list[Call], int, type[Change]]]) -> None:
    asyncio.run(_told(story))


async def _told(story: list[tuple[list[Call], int, type[Change]]]) -> None:
    with tempfile.TemporaryDirectory(prefix="mdnp-") as folder:
        async with open_house(Path(folder)) as house:
            for number in range(len(POOLS)):
                await house.pool(POOLS[number])
            for wave, number, kind in story:
                house.store.breaks = every(number, kind) if number else lambda _changes: False
                house.clock.now += 7
                answers = await at_once(house, *wave)
                assert set(statuses(answers)) <= {200, 400, 409, 503}
                assert not any(b"defect" in answer.body for answer in answers)
            before = house.held, house.holders, house.ipam.counts()
            await house.restart()
            assert (house.held, house.holders, house.ipam.counts()) == before
