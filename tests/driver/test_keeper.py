"""Networks and endpoints that Docker does not have are found, and taken back only where that is sure."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from mdnp.driver.keeper import NetworkKeeper, orphans
from mdnp.engine import EngineUnavailable, Listing
from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import StoreUnavailable
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.network import Network
from mdnp.orphans import Orphan
from mdnp.orphans.collector import Collector
from mdnp.store import Promises
from tests.ipam.engine import FakeEngine, listing
from tests.world import (
    BRIDGE,
    DB,
    NET,
    OTHER_NET,
    WEB,
    WEB_LINK,
    World,
    a_network,
    an_endpoint,
    create_endpoint,
    create_network,
    join,
    on_endpoint,
    publish,
)

BEFORE = 100.0
GRACE_S = 120.0
NETWORK, OTHER = replace(a_network(), since=10.0), replace(a_network(OTHER_NET, "10.2.0.0/24"), since=20.0)
ENDPOINT, SECOND = replace(an_endpoint(), since=11.0), replace(an_endpoint(DB, "10.1.0.3/24"), since=12.0)


def promises(networks: Iterable[Network] = (), endpoints: Iterable[Endpoint] = ()) -> Promises:
    return Promises({one.id: one for one in networks}, {one.id: one for one in endpoints}, {})


def told(found: Iterable[Orphan]) -> list[str]:
    return [str(one) for one in found]


# What is an orphan.


def test_what_is_listed_is_no_orphan() -> None:
    everything = promises([NETWORK, OTHER], [ENDPOINT, SECOND])

    assert orphans(everything, listing(networks=[NET, OTHER_NET], endpoints=[WEB, DB]), BEFORE) == []


def test_an_endpoint_that_is_not_listed_is_an_orphan_of_its_network() -> None:
    found = orphans(promises([NETWORK], [ENDPOINT, SECOND]), listing(networks=[NET], endpoints=[DB]), BEFORE)

    assert found == [Orphan("endpoint", WEB, NET, 11.0, ENDPOINT)]
    assert told(found) == [f"endpoint {WEB} of {NET}"]


def test_a_network_that_is_not_listed_is_an_orphan() -> None:
    found = orphans(promises([NETWORK, OTHER]), listing(networks=[OTHER_NET]), BEFORE)

    assert found == [Orphan("network", NET, "", 10.0, NETWORK)]
    assert told(found) == [f"network {NET}"]


def test_endpoints_come_before_their_network() -> None:
    found = orphans(promises([NETWORK], [ENDPOINT, SECOND]), listing(), BEFORE)

    assert told(found) == [f"endpoint {WEB} of {NET}", f"endpoint {DB} of {NET}", f"network {NET}"]


@pytest.mark.parametrize("kept", [{"endpoints": [DB]}, {}])
def test_a_network_is_not_taken_away_under_an_endpoint_that_stays(kept: Mapping[str, list[str]]) -> None:
    """It is listed, or young: a container that is being started on it."""
    second = SECOND if kept else replace(SECOND, since=BEFORE)

    found = orphans(promises([NETWORK], [ENDPOINT, second]), listing(**kept), BEFORE)

    assert told(found) == [f"endpoint {WEB} of {NET}"]


def test_what_is_young_is_no_orphan() -> None:
    young = promises([replace(NETWORK, since=BEFORE)], [replace(ENDPOINT, since=BEFORE)])
    old = promises([replace(NETWORK, since=BEFORE - 0.1)], [replace(ENDPOINT, since=BEFORE - 0.1)])

    assert (orphans(young, listing(), BEFORE), len(orphans(old, listing(), BEFORE))) == ([], 2)


# What is taken back.


@pytest.fixture
async def house(world: World) -> World:
    """Two networks, two joined endpoints on one of them."""
    await world.with_endpoint()
    await world.ok("Join", join())
    await world.ok("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24"))
    await world.ok("Join", join(DB, sandbox="/var/run/docker/netns/db"))
    await world.ok("CreateNetwork", create_network(OTHER_NET, "10.2.0.0/24 10.2.0.1/24"))
    return world


def keeper_of(world: World) -> NetworkKeeper:
    return NetworkKeeper(world.store, world.driver)


def collector_of(world: World, *listings: Listing | None) -> tuple[Collector, FakeEngine]:
    """One that looks twice without a pause, long after everything that is there."""
    world.clock.now += GRACE_S + 1
    engine = FakeEngine(*listings)
    return Collector([keeper_of(world)], engine, world.clock, GRACE_S, apart_s=0), engine


async def test_what_is_in_neither_listing_is_taken_back_with_all_that_it_had(house: World) -> None:
    await house.ok("ProgramExternalConnectivity", publish((8080, 80)))
    collector, engine = collector_of(house, listing(networks=[NET], endpoints=[DB]))

    found = await collector.collect()
    await house.reconciler.bury()

    assert told(found) == [f"endpoint {WEB} of {NET}", f"network {OTHER_NET}"]
    assert (house.promised, engine.asked) == (([NET], [DB]), 2)
    assert (house.kept, house.ports) == (house.planned, [])
    assert WEB_LINK not in house.kernel.names


async def test_a_network_goes_after_its_endpoints(house: World) -> None:
    collector, _ = collector_of(house, listing())

    await collector.collect()

    assert (house.promised, house.kept) == (([], []), {})


@pytest.mark.parametrize("turned", [False, True])
async def test_what_is_in_one_of_two_listings_stays(house: World, turned: bool) -> None:
    having = listing(networks=[NET, OTHER_NET], endpoints=[WEB, DB])
    collector, _ = collector_of(house, *((having, listing()) if turned else (listing(), having)))

    assert await collector.collect() == []

    assert house.promised == ([NET, OTHER_NET], [WEB, DB])


async def test_what_is_young_stays(house: World) -> None:
    collector, _ = collector_of(house, listing(networks=[NET, OTHER_NET], endpoints=[WEB, DB]))
    await house.ok("CreateEndpoint", create_endpoint("e5" * 32, "10.1.0.4/24"))

    assert await collector.collect() == []

    house.clock.now += GRACE_S + 1
    assert told(await collector.collect()) == [f"endpoint {'e5' * 32} of {NET}"]


async def test_what_changed_while_docker_listed_stays(house: World) -> None:
    """A container that left and joined again, or published a port: Docker has it."""
    collector, engine = collector_of(house, listing(networks=[NET, OTHER_NET]))

    async def lives() -> None:
        if engine.asked == 2:
            await house.ok("ProgramExternalConnectivity", publish((8080, 80)))
            await house.ok("Leave", on_endpoint(DB))

    engine.meanwhile = lives

    assert await collector.collect() == []

    assert house.promised[1] == [WEB, DB]


async def test_what_changed_after_docker_listed_stays(house: World) -> None:
    collector, _ = collector_of(house, listing(networks=[NET, OTHER_NET]))
    found = await collector.find()
    await house.ok("ProgramExternalConnectivity", publish((8080, 80)))

    for orphan in found:
        await keeper_of(house).free(orphan)

    assert told(found) == [f"endpoint {WEB} of {NET}", f"endpoint {DB} of {NET}"]
    assert (house.promised[1], house.kept) == ([WEB], house.planned)


async def test_a_network_to_which_an_endpoint_came_after_docker_listed_stays(house: World) -> None:
    collector, _ = collector_of(house, listing(networks=[NET], endpoints=[WEB, DB]))
    [orphan] = await collector.find()
    await house.ok("CreateEndpoint", create_endpoint("e5" * 32, "10.2.0.2/24", network=OTHER_NET))

    await keeper_of(house).free(orphan)

    assert house.promised == ([NET, OTHER_NET], [WEB, DB, "e5" * 32])


async def test_a_network_and_an_endpoint_that_comes_to_it_at_once_leave_nothing_half_done(house: World) -> None:
    collector, _ = collector_of(house, listing(networks=[NET], endpoints=[WEB, DB]))
    [orphan] = await collector.find()

    freed, created = await asyncio.gather(
        keeper_of(house).free(orphan),
        house.call("CreateEndpoint", create_endpoint("e5" * 32, "10.2.0.2/24", network=OTHER_NET)),
        return_exceptions=True,
    )

    assert freed is None or isinstance(freed, Exception)
    assert not isinstance(created, BaseException)
    assert (OTHER_NET in house.promised[0]) is (created.status == 200)
    assert house.kept == house.planned


async def test_what_is_gone_already_is_no_error(house: World) -> None:
    collector, _ = collector_of(house, listing(networks=[NET, OTHER_NET]))
    found = await collector.find()
    await house.ok("DeleteEndpoint", on_endpoint())

    for orphan in found:
        await keeper_of(house).free(orphan)

    assert house.promised[1] == []


async def test_looking_takes_nothing_back(house: World) -> None:
    collector, _ = collector_of(house, listing())
    before = house.promised, house.kept

    found = await collector.find()

    assert (len(found), house.promised, house.kept) == (4, *before)


@pytest.mark.parametrize("listings", [[None], [listing(), None]], ids=["first", "second"])
async def test_nothing_is_taken_back_when_docker_cannot_be_asked(house: World, listings: list[Listing | None]) -> None:
    collector, _ = collector_of(house, *listings)

    with pytest.raises(EngineUnavailable):
        await collector.collect()

    assert house.promised == ([NET, OTHER_NET], [WEB, DB])


async def test_a_disk_that_is_full_takes_nothing_back_and_the_next_collection_goes_on(house: World) -> None:
    collector, _ = collector_of(house, listing())
    house.store.full = True
    with pytest.raises(StoreUnavailable):
        await collector.collect()
    before = house.promised
    house.store.full = False

    await collector.collect()

    assert (before, house.promised) == (([NET, OTHER_NET], [WEB, DB]), ([], []))


async def test_a_kernel_that_refuses_keeps_nothing_from_being_taken_back(house: World) -> None:
    collector, _ = collector_of(house, listing())
    house.kernel.refuses = lambda _step: "refused by the test"

    await collector.collect()
    left = set(house.kept)
    house.kernel.refuses = lambda _step: None
    await house.reconciler.converge()

    assert ("link", BRIDGE) in left
    assert (house.promised, house.kept) == (([], []), {})


# Whose it is.


async def test_unasked_only_networks_that_this_engine_has_listed_are_touched(house: World) -> None:
    """Another engine on this host may have the others, and their containers."""
    await join_other(house)
    collector, engine = collector_of(house, listing(networks=[NET]))

    first = await collector.collect(unasked=True)
    engine.listings = [listing()]
    second = await collector.collect(unasked=True)
    third = await collector.collect()

    assert [told(found) for found in (first, second, third)] == [
        [f"endpoint {WEB} of {NET}", f"endpoint {DB} of {NET}"],
        [f"network {NET}"],
        [f"endpoint {'e5' * 32} of {OTHER_NET}", f"network {OTHER_NET}"],
    ]
    assert (house.promised, house.kept) == (([], []), {})


async def join_other(house: World) -> None:
    await house.ok("CreateEndpoint", create_endpoint("e5" * 32, "10.2.0.2/24", network=OTHER_NET))
    await house.ok("Join", join("e5" * 32, OTHER_NET))


async def test_unasked_what_was_never_used_is_taken_back_though_it_was_never_listed(house: World) -> None:
    """Our answer never arrived: nothing came after it."""
    await house.ok("CreateEndpoint", create_endpoint("e5" * 32, "10.1.0.4/24"))
    collector, _ = collector_of(house, listing())

    found = await collector.collect(unasked=True)

    assert told(found) == [f"endpoint {'e5' * 32} of {NET}", f"network {OTHER_NET}"]
    assert (house.promised, house.kept) == (([NET], [WEB, DB]), house.planned)


async def test_that_a_network_was_listed_is_known_after_a_restart(house: World) -> None:
    await join_other(house)
    collector, _ = collector_of(house, listing(networks=[NET], endpoints=[WEB, DB]))
    await collector.find()

    started = house.restarted()
    await started.reconciler.converge()
    later, _ = collector_of(started, listing())

    assert told(await later.collect(unasked=True)) == [
        f"endpoint {WEB} of {NET}",
        f"endpoint {DB} of {NET}",
        f"network {NET}",
    ]
    assert started.promised == ([OTHER_NET], ["e5" * 32])


async def test_that_a_network_is_listed_is_written_down_once(house: World) -> None:
    collector, _ = collector_of(house, listing(networks=[NET, OTHER_NET], endpoints=[WEB, DB]))
    house.store.commits.clear()

    for _ in range(3):
        await collector.find()

    assert [len(changes) for changes in house.store.commits] == [2]
    assert all(one.listed for one in house.store.promises.networks.values())


async def test_a_network_that_was_listed_is_the_same_when_it_is_asked_for_again(house: World) -> None:
    collector, _ = collector_of(house, listing(networks=[NET], endpoints=[WEB, DB]))
    await collector.find()

    await house.ok("CreateNetwork", create_network())

    assert house.store.promises.networks[NetworkID(NET)].listed


async def test_since_when_is_kept_through_the_life_of_an_endpoint(house: World) -> None:
    house.clock.now += 500
    for verb, body in (
        ("CreateEndpoint", create_endpoint()),
        ("Join", join(sandbox="/var/run/docker/netns/second")),
        ("ProgramExternalConnectivity", publish((8080, 80))),
        ("Leave", on_endpoint()),
    ):
        await house.ok(verb, body)

    assert house.store.promises.endpoints[EndpointID(WEB)].since == 1000.0
    assert house.store.promises.networks[NetworkID(NET)].since == 1000.0
