"""Endpoints for which a network's bridge has no room."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dataplane.objects import Bridge
from mdnp.dataplane.steps import Add, Step
from mdnp.driver.annexes import MOST, choose
from mdnp.model.identity import EndpointID, NetworkID
from tests.world import (
    NET,
    OTHER_NET,
    World,
    build_world,
    create_endpoint,
    create_network,
    join,
    on_endpoint,
    on_network,
    open_world,
    quick_folder,
)

ROOM = 3


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 5))
def test_the_first_bridge_with_room_is_chosen(taken: list[int], room: int) -> None:
    chosen = choose(taken, room)

    full = Counter(taken)
    assert full[chosen] < room
    assert all(full[earlier] >= room for earlier in range(chosen))


@pytest.fixture
async def small() -> AsyncIterator[World]:
    """Its bridges take three endpoints each."""
    with quick_folder() as folder:
        async with open_world(folder) as made:
            yield build_world(made.store, made.kernel, room=ROOM)


def identity(number: int) -> str:
    return f"{number:011x}".ljust(64, "e")


async def attach(world: World, *numbers: int, network: str = NET) -> None:
    third = 1 if network == NET else 2
    bodies = [create_endpoint(identity(one), f"10.{third}.0.{one}/24", network=network) for one in numbers]
    await asyncio.gather(*(world.ok("CreateEndpoint", body) for body in bodies))


def bridges(world: World) -> dict[str, int]:
    """How many endpoints are on each bridge, in the kernel."""
    links = world.kernel.links.values()
    return dict(Counter(str(one.master) for one in links if one.name.startswith("mdv-")))


async def test_a_network_grows_annexes_as_its_endpoints_need_them(small: World) -> None:
    await small.ok("CreateNetwork", create_network())

    for number in range(2, 10):
        await attach(small, number)

    assert bridges(small) == {"mdb-a1a1a1a1a1a": 3, "mdb-a1a1a1a1-1": 3, "mdb-a1a1a1a1-2": 2}
    assert small.store.promises.networks[NetworkID(NET)].annexes == 2
    assert small.kept == small.planned


async def test_endpoints_that_come_at_once_overfill_no_bridge(small: World) -> None:
    await small.ok("CreateNetwork", create_network())
    await small.ok("CreateNetwork", create_network(OTHER_NET, "10.2.0.0/24 10.2.0.1/24"))

    await asyncio.gather(attach(small, *range(2, 22)), attach(small, *range(102, 107), network=OTHER_NET))

    placed = bridges(small)
    assert max(placed.values()) == ROOM
    assert sum(placed.values()) == 25
    assert [one.annexes for one in small.store.promises.networks.values()] == [6, 1]
    assert small.kept == small.planned


async def test_room_that_became_free_is_taken_first(small: World) -> None:
    await small.ok("CreateNetwork", create_network())
    await attach(small, *range(2, 9))

    await small.ok("DeleteEndpoint", on_endpoint(identity(3)))
    await attach(small, 20, 21)

    endpoints = small.store.promises.endpoints
    assert [endpoints[EndpointID(identity(one))].annex for one in (20, 21)] == [0, 2]


async def test_annexes_stay_until_their_network_goes(small: World) -> None:
    await small.ok("CreateNetwork", create_network())
    await attach(small, *range(2, 6))
    await small.ok("DeleteEndpoint", on_endpoint(identity(5)))
    assert small.store.promises.networks[NetworkID(NET)].annexes == 1

    await small.ok("DeleteNetwork", on_network())
    await small.reconciler.bury()

    assert small.kernel.names == set()
    assert small.elements("annexes", "bridges", "own", "closed", "sealed", "returns") == []


async def test_an_annex_that_the_kernel_refuses_is_not_promised(small: World) -> None:
    def refuses(step: Step) -> str | None:
        annex = isinstance(step, Add) and isinstance(step.object, Bridge) and step.object.name.endswith("-1")
        return "Too many" if annex else None

    await small.ok("CreateNetwork", create_network())
    await attach(small, *range(2, 5))
    small.kernel.refuses = refuses

    status, words = await small.refused("CreateEndpoint", create_endpoint(identity(5), "10.1.0.5/24"))

    assert (status, "Too many" in words) == (500, True)
    assert small.store.promises.networks[NetworkID(NET)].annexes == 0
    assert EndpointID(identity(5)) not in small.store.promises.endpoints
    small.kernel.refuses = lambda _step: None
    await attach(small, 5)
    assert small.kept == small.planned


async def test_a_network_whose_bridges_are_all_full_takes_no_more(small: World) -> None:
    """The joints take ports of the own bridge, and what is left for them is counted."""
    await small.ok("CreateNetwork", create_network(NET, "10.1.0.0/24 10.1.0.1/24"))
    most = ROOM * (MOST + 1)
    await attach(small, *range(2, 2 + most))

    status, words = await small.refused("CreateEndpoint", create_endpoint(identity(200), "10.1.0.200/24"))

    assert (status, f"has {most} endpoints, and its bridges no room for more" in words) == (409, True)


async def test_annexes_of_two_networks_never_share_a_name(small: World) -> None:
    alike = NET[:8] + OTHER_NET[8:]
    await small.ok("CreateNetwork", create_network())
    await small.ok("CreateNetwork", create_network(alike, "10.2.0.0/24 10.2.0.1/24"))
    await attach(small, *range(2, 6))
    await attach(small, *range(102, 105), network=alike)

    body = create_endpoint(identity(105), "10.2.0.105/24", network=alike)
    status, words = await small.refused("CreateEndpoint", body)

    assert (status, f"mdb-a1a1a1a1-1 is network {NET}'s" in words) == (409, True)


async def test_an_endpoint_keeps_its_place_when_it_is_asked_for_again_and_after_a_restart(small: World) -> None:
    await small.ok("CreateNetwork", create_network())
    await attach(small, *range(2, 6))
    before = (bridges(small), small.kernel.taken.copy())

    await attach(small, 5)
    after = small.restarted()
    await after.reconciler.converge()

    assert (bridges(small), small.kernel.taken) == before


async def test_a_row_that_somebody_took_away_is_put_back_and_one_of_a_lost_link_is_not(small: World) -> None:
    await small.ok("CreateNetwork", create_network())
    await attach(small, *range(2, 7))
    for number in range(2, 7):
        await small.ok("Join", join(identity(number)))
    small.kernel.objects = {key: one for key, one in small.kernel.objects.items() if key[0] != "fdb"}
    small.kernel.vanish(f"mdv-{identity(6)[:11]}")

    outcome = await small.reconciler.repair()

    row = f"bridge fdb replace 02:6d:0a:01:00:05 dev mdv-{identity(5)[:11]} master static sticky"
    assert list(map(str, outcome.steps)) == [row]
    assert outcome.failures == ()
