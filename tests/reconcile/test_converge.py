"""`converge` makes the kernel agree with the store, from memory or after a look; `run` does it by itself."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_interface

import pytest

from mdnp.dataplane.naming import DOOMED_GROUP
from mdnp.dataplane.objects import Accept, Addr, Link
from mdnp.dataplane.steps import Add, Doom, Owner, Set, Step
from mdnp.model.endpoint import Phase
from mdnp.model.errors import KernelError
from mdnp.store import Drop, Put
from tests.world import BRIDGE, DB, DB_LINK, NET, OTHER_NET, WEB, WEB_LINK, World, a_network, an_endpoint, build_world

NETWORK, ENDPOINT = a_network(), an_endpoint()
OTHER = an_endpoint(DB, "10.1.0.3/24")
DELETE_RULES = [
    f"{program} -D DOCKER-USER -i {BRIDGE} -o {BRIDGE} -m comment --comment mdnp -j ACCEPT"
    for program in ("iptables", "ip6tables")
]


@pytest.fixture
async def settled(world: World) -> World:
    """A network with two endpoints, made."""
    await world.store.commit(Put(NETWORK), Put(ENDPOINT), Put(OTHER))
    await world.reconciler.converge()
    assert world.kept == world.planned
    world.kernel.taken.clear()
    return world


def link(world: World, name: str) -> Link:
    return world.kernel.links[name]


def changed(world: World, name: str, **facts: object) -> None:
    """Somebody changes a link of ours."""
    one = link(world, name)
    world.kernel.objects[one.key] = replace(one, **facts)  # type: ignore[arg-type]


def refuse(world: World, *kinds: type[Step], name: str = "", reason: str = "refused by the test") -> None:
    """The kernel refuses steps of these kinds whose text has `name` in it."""
    world.kernel.refuses = lambda step: reason if isinstance(step, kinds) and name in str(step) else None


def accept_all(world: World) -> None:
    world.kernel.refuses = lambda _step: None


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  # the kernel in memory tells nobody of its changes
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    repair = asyncio.create_task(world.reconciler.run())
    try:
        yield
    finally:
        repair.cancel()
        await asyncio.gather(repair, return_exceptions=True)


async def test_what_is_promised_is_made_once(world: World) -> None:
    await world.store.commit(Put(NETWORK), Put(ENDPOINT))

    first = await world.reconciler.converge()
    second = await world.reconciler.converge()

    assert world.kept == world.planned
    assert ([step.owner for step in first.steps], second.steps) == ([Owner(NET)] * 4 + [Owner(WEB)], ())
    assert (first.failures, first.lost) == ((), ())


async def test_converging_for_some_touches_nothing_of_others(world: World) -> None:
    await world.store.commit(Put(NETWORK), Put(ENDPOINT), Put(OTHER))
    await world.reconciler.converge(Owner(NET))
    del world.kernel.objects["addr", BRIDGE, "10.1.0.1/24"]
    world.kernel.vanish(WEB_LINK)
    world.kernel.vanish(DB_LINK)
    world.reconciler.doubt()
    await world.reconciler.converge(Owner(WEB))
    world.kernel.vanish(WEB_LINK)
    world.kernel.vanish(DB_LINK)
    world.kernel.taken.clear()

    await world.store.commit(Drop(ENDPOINT))
    await world.reconciler.converge(Owner(WEB))

    assert world.taken == [f"ip link set {WEB_LINK} group {DOOMED_GROUP}"]
    assert world.links == [BRIDGE]


async def test_converging_from_memory_does_not_read_the_kernel(settled: World) -> None:
    observed = settled.kernel.observed
    await settled.store.commit(Put(an_endpoint("e5" * 32, "10.1.0.4/24")))

    await settled.reconciler.converge(Owner("e5" * 32))

    assert settled.kernel.observed == observed
    assert settled.kept == settled.planned


async def test_the_first_converging_reads_the_kernel_and_repairs_all(settled: World) -> None:
    settled.kernel.vanish(DB_LINK)
    fresh = build_world(settled.store, settled.kernel)

    await fresh.reconciler.converge(Owner(WEB))

    assert fresh.kept == fresh.planned


@pytest.mark.parametrize(
    ("damage", "repair"),
    [
        (lambda world: changed(world, BRIDGE, mtu=1400), [f"ip link set {BRIDGE} mtu 1500"]),
        (lambda world: changed(world, BRIDGE, up=False), [f"ip link set {BRIDGE} up"]),
        (lambda world: changed(world, WEB_LINK, master=None), [f"ip link set {WEB_LINK} master {BRIDGE}"]),
        (
            lambda world: world.kernel.objects.pop(("addr", BRIDGE, "10.1.0.1/24")),
            [f"ip addr add 10.1.0.1/24 dev {BRIDGE}"],
        ),
        (
            lambda world: world.kernel.objects.pop(("accept", "4", BRIDGE)),
            [DELETE_RULES[0].replace("-D", "-I")],
        ),
    ],
    ids=["mtu", "down", "master", "addr", "rule"],
)
async def test_drift_is_repaired_by_just_what_it_takes(
    settled: World, damage: Callable[[World], object], repair: list[str]
) -> None:
    damage(settled)

    difference = await settled.reconciler.compare()
    await settled.reconciler.converge()

    assert [str(step) for step in difference.steps] == repair
    assert settled.taken == repair
    assert settled.kept == settled.planned


async def test_a_bridge_that_somebody_deleted_comes_back_with_all_that_was_on_it(settled: World) -> None:
    settled.kernel.vanish(BRIDGE)

    await settled.reconciler.converge()

    assert [line.split(" mtu ")[0] for line in settled.taken] == [
        f"ip link add {BRIDGE} address 02:6d:0a:01:00:01",
        f"ip addr add 10.1.0.1/24 dev {BRIDGE}",
        f"ip link set {WEB_LINK} master {BRIDGE}",
        f"ip link set {DB_LINK} master {BRIDGE}",
    ]
    assert (settled.kept, link(settled, WEB_LINK).master) == (settled.planned, BRIDGE)


async def test_a_created_endpoint_s_link_that_was_deleted_is_made_again(settled: World) -> None:
    settled.kernel.vanish(WEB_LINK)

    outcome = await settled.reconciler.converge()

    assert (outcome.lost, settled.kept) == ((), settled.planned)


async def test_a_joined_endpoint_s_link_that_vanished_is_reported_and_not_rebuilt(settled: World) -> None:
    await settled.store.commit(Put(replace(ENDPOINT, phase=Phase.JOINED)))
    settled.kernel.vanish(WEB_LINK)

    outcome = await settled.reconciler.converge()

    assert [(one.owner, str(one.object).split()[1]) for one in outcome.lost] == [(Owner(WEB), WEB_LINK)]
    assert (outcome.steps, settled.links) == ((), [BRIDGE, DB_LINK])


async def test_the_link_of_an_endpoint_that_left_may_vanish(settled: World) -> None:
    await settled.store.commit(Put(replace(ENDPOINT, phase=Phase.LEFT)))
    settled.kernel.vanish(WEB_LINK)

    outcome = await settled.reconciler.converge()

    assert (outcome.lost, outcome.steps) == ((), ())


async def test_what_nobody_promised_is_removed_at_the_start(settled: World) -> None:
    await settled.store.commit(Drop(OTHER), Drop(ENDPOINT), Drop(NETWORK))
    fresh = build_world(settled.store, settled.kernel)

    await fresh.reconciler.converge()
    await fresh.reconciler.bury()

    assert fresh.taken == [
        *DELETE_RULES,
        f"ip link set {WEB_LINK} group {DOOMED_GROUP}",
        f"ip link set {DB_LINK} group {DOOMED_GROUP}",
        f"ip link del {BRIDGE}",
    ]
    assert (fresh.kernel.objects, fresh.kernel.names) == ({}, set())


async def test_an_operator_s_address_on_our_bridge_stays(settled: World) -> None:
    extra = Addr(BRIDGE, ip_interface("10.9.0.1/24"))
    settled.kernel.objects[extra.key] = extra

    outcome = await settled.reconciler.converge()

    assert (outcome.steps, settled.kernel.objects[extra.key]) == ((), extra)


async def test_a_missing_chain_is_no_failure_and_its_return_brings_the_rule(settled: World) -> None:
    chain = Accept(4, "").chain
    settled.kernel.chains.remove(chain)
    del settled.kernel.objects["accept", "4", BRIDGE]
    without = await settled.reconciler.converge()

    settled.kernel.chains.add(chain)
    with_it = await settled.reconciler.converge()

    assert (without.steps, without.failures) == ((), ())
    assert [str(step) for step in with_it.steps] == [DELETE_RULES[0].replace("-D", "-I")]


async def test_a_step_that_fails_from_memory_is_tried_again_after_a_look(settled: World) -> None:
    """Somebody deleted the bridge behind our back; a new endpoint cannot stand on it until it is back."""
    settled.kernel.vanish(BRIDGE)
    await settled.store.commit(Put(an_endpoint("e5" * 32, "10.1.0.4/24")))

    outcome = await settled.reconciler.converge(Owner("e5" * 32))

    assert (outcome.failures, settled.kept) == ((), settled.planned)


async def test_a_step_that_fails_twice_is_in_the_outcome_of_its_owner_alone(settled: World) -> None:
    refuse(settled, Add, name="mdv-e5")
    await settled.store.commit(Put(an_endpoint("e5" * 32, "10.1.0.4/24")), Put(an_endpoint("f6" * 32, "10.1.0.5/24")))

    outcome = await settled.reconciler.converge(Owner("e5" * 32), Owner("f6" * 32))

    error = outcome.error_of(Owner("e5" * 32))
    assert isinstance(error, KernelError)
    assert str(error).endswith("refused by the test")
    assert (outcome.error_of(Owner("f6" * 32)), outcome.error_of(Owner(NET))) == (None, None)
    assert "mdv-f6f6f6f6f6f" in settled.links


async def test_after_a_failure_the_kernel_is_looked_at_again(settled: World) -> None:
    refuse(settled, Add)
    await settled.store.commit(Put(an_endpoint("e5" * 32, "10.1.0.4/24")))
    await settled.reconciler.converge(Owner("e5" * 32))
    accept_all(settled)
    settled.kernel.vanish(DB_LINK)

    await settled.reconciler.converge(Owner(WEB))

    assert settled.kept == settled.planned


async def test_trouble_is_said_and_its_end_too(settled: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    refuse(settled, Set)
    changed(settled, BRIDGE, mtu=1400)

    await settled.reconciler.converge()
    accept_all(settled)
    await settled.reconciler.converge()
    await settled.reconciler.converge()

    assert caplog.messages == [
        f"not in sync: ip link set {BRIDGE} mtu 1500: refused by the test",
        "in sync again",
    ]


async def test_trouble_that_lasts_is_said_once(settled: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    refuse(settled, Set)
    changed(settled, BRIDGE, mtu=1400)

    for _ in range(3):
        await settled.reconciler.converge()

    assert caplog.messages == [f"not in sync: ip link set {BRIDGE} mtu 1500: refused by the test"]


async def test_doomed_links_die_together(settled: World) -> None:
    async with running(settled):
        for one in (ENDPOINT, OTHER):
            await settled.store.commit(Drop(one))
            await settled.reconciler.converge(Owner(one.id))
        before = settled.kernel.names

        await eventually(lambda: settled.kernel.names == {BRIDGE})

    assert before == {BRIDGE, WEB_LINK, DB_LINK, f"mdp-{WEB[:11]}", f"mdp-{DB[:11]}"}
    assert settled.kernel.reaped == 1


async def test_a_link_that_is_still_dying_is_buried_before_it_is_made_again(settled: World) -> None:
    await settled.store.commit(Drop(ENDPOINT))
    await settled.reconciler.converge(Owner(WEB))
    await settled.store.commit(Put(ENDPOINT))
    observed = settled.kernel.observed

    outcome = await settled.reconciler.converge(Owner(WEB))

    assert (outcome.failures, settled.kept, settled.kernel.reaped) == ((), settled.planned, 1)
    assert settled.kernel.observed == observed


async def test_links_that_a_killed_daemon_left_to_die_are_buried_at_the_start(settled: World) -> None:
    await settled.store.commit(Drop(ENDPOINT))
    await settled.reconciler.converge(Owner(WEB))
    fresh = build_world(settled.store, settled.kernel)

    await fresh.reconciler.converge()

    assert (fresh.kernel.reaped, fresh.kernel.names) == (1, {BRIDGE, DB_LINK, f"mdp-{DB[:11]}"})


async def test_burying_nothing_does_nothing(settled: World) -> None:
    await settled.reconciler.bury()

    assert settled.kernel.reaped == 0


async def test_doubt_has_the_running_reconciler_look_and_repair(settled: World) -> None:
    async with running(settled):
        settled.kernel.vanish(WEB_LINK)
        settled.reconciler.doubt()

        await eventually(lambda: WEB_LINK in settled.links)

    assert settled.kept == settled.planned


async def test_drift_that_nobody_tells_of_is_found_in_time(settled: World) -> None:
    timed = build_world(settled.store, settled.kernel, check_interval_s=0.01)
    async with running(timed):
        timed.kernel.vanish(WEB_LINK)
        await eventually(lambda: WEB_LINK in timed.links)
        timed.kernel.vanish(DB_LINK)
        await eventually(lambda: DB_LINK in timed.links)

    assert timed.kept == timed.planned


async def test_the_running_reconciler_survives_a_kernel_that_cannot_be_read(settled: World) -> None:
    timed = build_world(settled.store, settled.kernel, check_interval_s=0.01)
    timed.kernel.unreadable = "reading links and addresses failed"
    timed.kernel.vanish(WEB_LINK)
    async with running(timed):
        await asyncio.sleep(0.03)
        timed.kernel.unreadable = ""

        await eventually(lambda: WEB_LINK in timed.links)

    assert timed.kept == timed.planned


async def test_a_kernel_that_cannot_be_read_is_an_error_and_no_step_is_taken(settled: World) -> None:
    settled.kernel.unreadable = "reading links and addresses failed"
    await settled.store.commit(Drop(ENDPOINT))

    with pytest.raises(KernelError, match="reading links"):
        await settled.reconciler.converge()

    assert settled.taken == []


async def test_a_comparison_takes_no_step_and_says_what_is_lost(settled: World) -> None:
    await settled.store.commit(Put(replace(OTHER, phase=Phase.JOINED)))
    settled.kernel.vanish(WEB_LINK)
    settled.kernel.vanish(DB_LINK)

    difference = await settled.reconciler.compare()

    assert [(type(step), step.owner) for step in difference.steps] == [(Add, Owner(WEB))]
    assert [one.owner for one in difference.lost] == [Owner(DB)]
    assert settled.taken == []


async def test_concurrent_convergings_do_not_step_on_each_other(world: World) -> None:
    await world.store.commit(Put(NETWORK), Put(a_network(OTHER_NET, "10.2.0.0/24 10.2.0.1/24")))
    await world.reconciler.converge()
    endpoints = [an_endpoint(f"{n:02}" * 16, f"10.1.0.{n + 2}/24") for n in range(20)]

    async def make(number: int) -> None:
        await world.store.commit(Put(endpoints[number]))
        outcome = await world.reconciler.converge(Owner(endpoints[number].id))
        assert outcome.failures == ()

    await asyncio.gather(*map(make, range(20)))

    assert world.kept == world.planned
    assert not any(isinstance(step, Doom) for step in world.kernel.taken)
