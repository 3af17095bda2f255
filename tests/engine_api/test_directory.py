"""Docker's names, remembered."""

import asyncio

from mdnp.engine import Listing
from mdnp.engine.directory import Directory, Health, Names
from tests.ipam.engine import FakeEngine, listing
from tests.world import DB, NET, WEB, Clock

BEFORE = listing(networks={NET: "shop"}, endpoints={WEB: "web"})
AFTER = listing(networks={NET: "shop"}, endpoints={WEB: "web", DB: "db"})


class Silent(FakeEngine):
    """Accepts, and does not answer."""

    async def list(self) -> Listing:
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError

    async def version(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError


async def test_what_is_known_is_not_asked_for() -> None:
    engine = FakeEngine(BEFORE)
    directory = Directory(engine, Clock())

    first = await directory.names([NET], [WEB])
    second = await directory.names([NET], [WEB])

    assert first == second == Names({NET: "shop"}, {WEB: "web"})
    assert engine.asked == 1


async def test_what_is_new_is_asked_for_at_once_and_what_was_not_told_some_seconds_later() -> None:
    clock, engine = Clock(), FakeEngine(BEFORE, BEFORE, AFTER)
    directory = Directory(engine, clock)
    await directory.names([NET], [WEB])

    looks = [(await directory.names([NET], [WEB, DB])).containers for _ in range(3)]
    asked = engine.asked
    clock.now += 5
    later = await directory.names([NET], [WEB, DB])

    assert (looks, asked) == ([{WEB: "web"}] * 3, 2)
    assert (later.containers, engine.asked) == ({WEB: "web", DB: "db"}, 3)


async def test_a_listing_for_another_reason_makes_the_names_new() -> None:
    directory = Directory(FakeEngine(BEFORE, listing(endpoints={WEB: "renamed"})), Clock())
    await directory.names([], [WEB])

    await directory.list()

    assert (await directory.names([], [WEB])).containers == {WEB: "renamed"}


async def test_names_outlive_the_engine() -> None:
    clock = Clock()
    directory = Directory(FakeEngine(BEFORE, None), clock)
    await directory.names([], [WEB])
    clock.now += 5

    assert (await directory.names([], [WEB, DB])).containers == {WEB: "web"}


async def test_an_engine_that_could_not_be_asked_is_asked_again_at_the_next_look() -> None:
    directory = Directory(FakeEngine(None, BEFORE), Clock())

    looks = [(await directory.names([NET], [WEB])).containers for _ in range(2)]

    assert looks == [{}, {WEB: "web"}]


async def test_an_engine_that_does_not_answer_is_not_waited_for() -> None:
    directory = Directory(Silent(), Clock(), wait_s=0.01)

    assert await directory.names([NET], [WEB]) == Names()
    assert await directory.health() == Health("", "Docker does not answer in 0.01 s")


async def test_the_health_of_the_engine_is_its_version_or_why_there_is_none() -> None:
    assert await Directory(FakeEngine(BEFORE)).health() == Health("28.5.2")
    assert await Directory(FakeEngine(None)).health() == Health(
        "", "Docker cannot be asked at /run/docker.sock: it does not run"
    )
