"""`converge` makes the kernel agree with the store, from memory or after a look; `run` does it by itself."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dataplane.naming import DOOMED_GROUP
from mdnp.dataplane.objects import Addr, Element, HostPort, Jump, Link, Sysctl, Table, Way, forward_chain
from mdnp.dataplane.rules import TABLES
from mdnp.dataplane.steps import HOST, Add, Delete, Doom, Owner, Set, Step
from mdnp.kernel import Doubt, Gone
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.errors import InUse, KernelError
from mdnp.model.network import Network
from mdnp.model.options import NetworkOptions, Routing
from mdnp.model.port import Publication
from mdnp.store import Drop, Put
from tests.dataplane.strategies import endpoints, networks
from tests.world import (
    ANY4,
    BRIDGE,
    DB,
    DB_LINK,
    NET,
    OTHER_NET,
    WEB,
    WEB_LINK,
    WEB_MAC,
    World,
    a_network,
    a_port,
    a_socket,
    an_endpoint,
    build_world,
    open_world,
    quick_folder,
)

NETWORK, ENDPOINT = a_network(), an_endpoint()
PUBLISHED = an_endpoint(ports=[Publication(a_port(80, 8080), 8080)])
OTHER = an_endpoint(DB, "10.1.0.3/24")
RecordChange = Put | Drop
HEEDED_S = 0.15  # from a notice until it was looked at, or passed over
DELETE_RULES = [
    f"{program} -D DOCKER-USER {way} mdb-+ -m comment --comment mdnp -j ACCEPT"
    for program in ("iptables", "ip6tables")
    for way in ("-i", "-o")
]
FORWARD = "net/ipv4/ip_forward"


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
    assert ({step.owner for step in first.steps}, second.steps) == ({HOST, Owner(NET), Owner(WEB)}, ())
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

    assert world.taken == [
        f"ip link set {WEB_LINK} group {DOOMED_GROUP}",
        f'nft delete element bridge mdnp guarded {{ "{WEB_LINK}" }}',
        f'nft delete element bridge mdnp macs {{ "{WEB_LINK}" . {WEB_MAC} }}',
        f'nft delete element bridge mdnp addresses4 {{ "{WEB_LINK}" . 10.1.0.2 }}',
    ]
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
            lambda world: world.kernel.objects.pop(("accept", "6", "-i", "mdb-+")),
            [DELETE_RULES[2].replace("-D", "-I")],
        ),
        (
            lambda world: world.kernel.objects.pop(("element", "inet", "nat4", f'"{BRIDGE}"')),
            [f'nft add element inet mdnp nat4 {{ "{BRIDGE}" }}'],
        ),
        (
            lambda world: world.kernel.objects.update({("table", "inet"): Table("inet", "")}),
            ["nft add table inet mdnp with its chains and rules"],
        ),
        (lambda world: world.kernel.settings.update({FORWARD: "0"}), [f"sysctl -w {FORWARD}=1"]),
    ],
    ids=["mtu", "down", "master", "addr", "rule", "element", "table", "setting"],
)
async def test_drift_is_repaired_by_just_what_it_takes(
    settled: World, damage: Callable[[World], object], repair: list[str]
) -> None:
    damage(settled)

    difference, _ = await settled.reconciler.compare()
    await settled.reconciler.converge()

    assert [str(step) for step in difference.steps] == repair
    assert settled.taken == repair
    assert settled.kept == settled.planned
    assert settled.reconciler.repaired == 1


async def test_after_a_flush_of_the_ruleset_all_of_it_is_back(settled: World) -> None:
    before = settled.kept
    for table in TABLES:
        settled.kernel.flush(table)

    await settled.reconciler.converge()

    assert settled.kept == settled.planned == before
    assert settled.taken_on(Table) == [f"nft add {table} with its chains and rules" for table in TABLES]


async def test_a_bridge_that_somebody_deleted_comes_back_with_all_that_was_on_it(settled: World) -> None:
    settled.kernel.vanish(BRIDGE)

    await settled.reconciler.converge()

    assert [line.split(" mtu ")[0] for line in settled.taken] == [
        f"ip link add {BRIDGE} address 02:6d:0a:01:00:01",
        f"sysctl -w net/ipv6/conf/{BRIDGE}/accept_ra=0",
        f"sysctl -w net/ipv6/conf/{BRIDGE}/accept_dad=0",
        f"sysctl -w net/ipv4/conf/{BRIDGE}/route_localnet=1",
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

    taken = fresh.taken
    elements = [line for line in taken if line.startswith("nft delete element ")]
    assert taken == [
        f"ip link set {WEB_LINK} group {DOOMED_GROUP}",
        f"ip link set {DB_LINK} group {DOOMED_GROUP}",
        *elements,
        *(f"nft delete {table}" for table in TABLES),
        *DELETE_RULES,
        f"ip link del {BRIDGE}",
    ]
    assert (fresh.kernel.objects, fresh.kernel.names) == ({}, set())
    assert fresh.reconciler.repaired == 0


async def test_an_operator_s_address_on_our_bridge_stays(settled: World) -> None:
    extra = Addr(BRIDGE, ip_interface("10.9.0.1/24"))
    settled.kernel.objects[extra.key] = extra

    outcome = await settled.reconciler.converge()

    assert (outcome.steps, settled.kernel.objects[extra.key]) == ((), extra)


async def test_a_missing_chain_is_no_failure_and_its_return_brings_the_rule(settled: World) -> None:
    chain = forward_chain(4)
    settled.kernel.chains.remove(chain)
    for way in Way:
        del settled.kernel.objects["accept", "4", way, "mdb-+"]
    without = await settled.reconciler.converge()

    settled.kernel.chains.add(chain)
    with_it = await settled.reconciler.converge()

    assert (without.steps, without.failures) == ((), ())
    assert [str(step) for step in with_it.steps] == [line.replace("-D", "-I") for line in DELETE_RULES[:2]]


async def test_a_step_that_fails_from_memory_is_tried_again_after_a_look(settled: World) -> None:
    """Somebody deleted the bridge behind our back; a new endpoint cannot stand on it until it is back."""
    settled.kernel.vanish(BRIDGE)
    await settled.store.commit(Put(an_endpoint("e5" * 32, "10.1.0.4/24")))

    outcome = await settled.reconciler.converge(Owner("e5" * 32))

    assert (outcome.failures, settled.kept) == ((), settled.planned)


async def test_a_step_that_fails_twice_is_in_the_outcome_of_its_owner_alone(settled: World) -> None:
    refuse(settled, Add, name="link add mdv-e5")
    await settled.store.commit(Put(an_endpoint("e5" * 32, "10.1.0.4/24")), Put(an_endpoint("f6" * 32, "10.1.0.5/24")))

    outcome = await settled.reconciler.converge(Owner("e5" * 32), Owner("f6" * 32))

    failure = outcome.failure_of(Owner("e5" * 32))
    assert failure is not None
    assert str(failure.error).endswith("refused by the test")
    assert outcome.failure_of(Owner("f6" * 32), Owner(NET), HOST) is None
    assert outcome.failure_of(Owner("f6" * 32), Owner("e5" * 32)) == failure
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

    difference, seen = await settled.reconciler.compare()

    assert seen.objects.keys() >= settled.kernel.objects.keys()
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


# What is the host's.


async def test_what_is_the_host_s_is_made_with_the_first_network(world: World) -> None:
    await world.reconciler.converge()
    await world.store.commit(Put(NETWORK))

    await world.reconciler.converge(Owner(NET))

    assert {step.owner for step in world.kernel.taken} == {HOST, Owner(NET)}
    assert {"table", "accept"} <= {key[0] for key in world.kernel.objects}
    assert world.kernel.settings[FORWARD] == "1"


async def test_what_is_the_host_s_goes_with_the_last_network_and_settings_stay(settled: World) -> None:
    other = a_network(OTHER_NET, "10.2.0.0/24 10.2.0.1/24")
    await settled.store.commit(Put(other))
    await settled.reconciler.converge(Owner(OTHER_NET))
    await settled.store.commit(Drop(OTHER), Drop(ENDPOINT), Drop(NETWORK))
    await settled.reconciler.converge(*map(Owner, (WEB, DB, NET)))
    with_one_left = settled.kept
    settled.kernel.taken.clear()

    await settled.store.commit(Drop(other))
    await settled.reconciler.converge(Owner(OTHER_NET))

    assert {("table", "inet"), ("table", "bridge"), ("accept", "4", "-i", "mdb-+")} <= with_one_left.keys()
    assert (settled.kernel.objects, settled.kernel.settings[FORWARD]) == ({}, "1")
    assert settled.taken[-7:-1] == [*(f"nft delete {table}" for table in TABLES), *DELETE_RULES]


async def test_the_host_forwards_from_the_first_network_that_needs_it(world: World) -> None:
    await world.store.commit(Put(a_network(OTHER_NET, "10.2.0.0/24", internal=True)))
    await world.reconciler.converge(Owner(OTHER_NET))
    without = dict(world.kernel.settings)

    await world.store.commit(Put(NETWORK))
    await world.reconciler.converge(Owner(NET))

    assert (without[FORWARD], world.kernel.settings[FORWARD]) == ("0", "1")


async def test_settings_of_ipv6_are_not_wanted_where_the_kernel_has_none(world: World) -> None:
    del world.kernel.settings["net/ipv6/conf/all/forwarding"]
    await world.store.commit(Put(a_network(NET, "10.1.0.0/24 10.1.0.1/24", "fd00::/64 fd00::1/64")))

    outcome = await world.reconciler.converge()

    assert outcome.failures == ()
    assert world.taken_on(Sysctl) == [f"sysctl -w {FORWARD}=1", f"sysctl -w net/ipv4/conf/{BRIDGE}/route_localnet=1"]


async def test_a_bridge_that_leads_to_other_hosts_is_known_from_the_next_look_on(settled: World) -> None:
    settled.kernel.uplinks = frozenset({"br0"})
    await settled.reconciler.converge()
    with_it = settled.elements("uplinks")

    settled.kernel.uplinks = frozenset()
    await settled.reconciler.converge()

    assert (with_it, settled.elements("uplinks")) == (['element inet mdnp uplinks { "br0" }'], [])
    assert settled.reconciler.repaired == 0


async def test_our_jump_goes_when_docker_s_own_is_back(settled: World) -> None:
    settled.kernel.unreached.add(forward_chain(6))
    await settled.reconciler.converge()
    with_ours = settled.taken_on(Jump)

    settled.kernel.unreached.clear()
    await settled.reconciler.converge()

    rule = "FORWARD -m comment --comment mdnp -j DOCKER-USER"
    assert (with_ours, settled.taken_on(Jump)) == ([f"ip6tables -I {rule}"], [f"ip6tables -D {rule}"])


@st.composite
def lives(draw: st.DrawFn) -> tuple[Network, list[Endpoint]]:
    """A network, and what is promised of an endpoint on it, one after the other."""
    network = draw(networks())
    return network, [replace(one, phase=Phase.CREATED) for one in draw(st.lists(endpoints(network), max_size=4))]


@pytest.mark.long
@given(lives())
def test_after_whatever_verbs_did_from_memory_a_look_finds_nothing_to_do(life: tuple[Network, list[Endpoint]]) -> None:
    network, story = life

    async def live() -> None:
        with quick_folder() as folder:
            async with open_world(folder) as world:
                await world.reconciler.converge()
                await become(world, Put(network))
                for endpoint in story:
                    await become(world, Put(endpoint))
                    assert world.kept == world.planned
                assert (await world.reconciler.converge()).steps == ()
                for endpoint in story[:1]:
                    await become(world, Drop(endpoint))
                await become(world, Drop(network))
                assert (world.kept, world.kernel.observed) == ({}, 2)
                assert (await world.reconciler.converge()).steps == ()

    asyncio.run(live())


async def become(world: World, change: RecordChange) -> None:
    await world.store.commit(change)
    outcome = await world.reconciler.converge(Owner(change.record.id))
    assert (outcome.failures, outcome.lost) == ((), ())


# What others have.


async def test_a_port_that_somebody_else_has_is_in_the_outcome_and_no_reason_to_look_again(settled: World) -> None:
    settled.kernel.taken_ports.add(a_socket(ANY4, 8080))
    await settled.store.commit(Put(PUBLISHED))
    observed = settled.kernel.observed

    outcome = await settled.reconciler.converge(Owner(WEB))

    failure = outcome.failure_of(Owner(WEB))
    assert failure is not None
    assert isinstance(failure.error, InUse)
    assert settled.kernel.observed == observed
    assert settled.elements("ports4") == []


async def test_what_follows_a_failure_of_its_owner_waits_for_the_next_time(settled: World) -> None:
    """No traffic is led to a port that is not held."""
    settled.kernel.taken_ports.add(a_socket(ANY4, 8080))
    await settled.store.commit(Put(PUBLISHED))
    await settled.reconciler.converge(Owner(WEB))
    before = settled.elements("ports4")

    settled.kernel.taken_ports.clear()
    await settled.reconciler.converge(Owner(WEB))

    assert (before, settled.elements("ports4")) == ([], ["element inet mdnp ports4 { tcp . 8080 : 10.1.0.2 . 80 }"])
    assert settled.kept == settled.planned


async def test_who_has_the_port_is_said_as_long_as_it_lasts(settled: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    settled.kernel.taken_ports.add(a_socket(ANY4, 8080))
    await settled.store.commit(Put(PUBLISHED))
    await settled.reconciler.converge()
    trouble = settled.reconciler.trouble
    await settled.reconciler.converge()

    settled.kernel.taken_ports.clear()
    await settled.reconciler.converge()

    assert trouble == "tcp 0.0.0.0:8080 is in use by another process"
    assert settled.reconciler.trouble == ""
    assert caplog.messages == [f"not in sync: {trouble}", "in sync again"]


async def test_for_whom_a_place_is_wanted_is_known(settled: World) -> None:
    await settled.store.commit(Put(PUBLISHED))
    await settled.reconciler.converge(Owner(WEB))
    port = HostPort(a_socket(ANY4, 8080)).key
    asked = [settled.reconciler.owner(key) for key in (port, ("link", BRIDGE), ("table", "inet"), ("link", "eth0"))]

    await settled.store.commit(Put(ENDPOINT))
    await settled.reconciler.converge(Owner(WEB))

    assert (asked, settled.reconciler.owner(port)) == ([WEB, NET, HOST, None], None)


# What the kernel tells.


async def test_a_notice_of_something_of_ours_that_is_gone_has_it_back(settled: World) -> None:
    observed = settled.kernel.observed
    async with running(settled):
        settled.kernel.vanish(WEB_LINK)
        settled.reconciler.hear(Gone(("link", WEB_LINK)))

        await eventually(lambda: WEB_LINK in settled.links)

    assert settled.kept == settled.planned
    assert (settled.kernel.observed, settled.reconciler.repaired) == (observed + 1, 1)


async def test_a_notice_that_something_may_have_changed_leads_to_one_look(settled: World) -> None:
    observed = settled.kernel.observed
    async with running(settled):
        for table in TABLES:
            settled.kernel.flush(table)
        for _ in range(50):
            settled.reconciler.hear(Doubt("table mdnp was changed"))

        await eventually(lambda: settled.kept == settled.planned)
        await asyncio.sleep(HEEDED_S)

    assert settled.kernel.observed == observed + 1


@pytest.mark.parametrize(
    "notice", [Gone(("link", "eth7")), Gone(("addr", "eth7", "192.0.2.1/24")), Gone(("link", "mdv-nobody"))]
)
async def test_a_notice_about_what_is_not_ours_is_passed_over(settled: World, notice: Gone) -> None:
    observed = settled.kernel.observed
    async with running(settled):
        settled.reconciler.hear(notice)
        await asyncio.sleep(HEEDED_S)

    assert settled.kernel.observed == observed


async def test_a_notice_about_what_we_removed_ourselves_is_passed_over(settled: World) -> None:
    observed = settled.kernel.observed
    async with running(settled):
        for record in (ENDPOINT, OTHER, NETWORK):
            await settled.store.commit(Drop(record))
            await settled.reconciler.converge(Owner(record.id))
            for name in {WEB_LINK, DB_LINK, BRIDGE} - set(settled.links):
                settled.reconciler.hear(Gone(("link", name)))
        settled.reconciler.hear(Gone(("addr", BRIDGE, "10.1.0.1/24")))
        await eventually(lambda: settled.kernel.names == set())
        await asyncio.sleep(HEEDED_S)

    assert (settled.kernel.observed, settled.kernel.objects) == (observed, {})


async def test_a_notice_that_comes_before_our_own_step_is_remembered_is_passed_over(settled: World) -> None:
    """The kernel tells while the step is taken."""
    observed = settled.kernel.observed

    def tell(step: Step) -> None:
        if isinstance(step, Delete) and isinstance(step.object, Link):
            settled.reconciler.hear(Gone(step.object.key))

    settled.kernel.refuses = tell
    async with running(settled):
        await settled.store.commit(Drop(ENDPOINT), Drop(OTHER), Drop(NETWORK))
        await settled.reconciler.converge(*map(Owner, (WEB, DB, NET)))
        await asyncio.sleep(HEEDED_S)

    assert (settled.kernel.observed, settled.kernel.objects) == (observed, {})


async def test_what_others_tell_does_not_wait_until_a_notice_is_looked_into(
    settled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(link: str) -> bool:
        return link not in settled.links

    monkeypatch.setattr("mdnp.reconcile.converge._SETTLE_S", 3600.0)
    async with running(settled):
        settled.reconciler.hear(Gone(("link", "eth7")))
        for record, link in ((ENDPOINT, WEB_LINK), (OTHER, DB_LINK)):
            await settled.store.commit(Drop(record))
            settled.reconciler.changed([Owner(record.id)])

            await eventually(partial(gone, link))


async def test_a_notice_that_came_during_a_look_leads_to_another(settled: World) -> None:
    """What was read may be older than the change."""
    async with running(settled):
        settled.reconciler.doubt()
        await asyncio.sleep(0)
        settled.kernel.vanish(WEB_LINK)
        settled.reconciler.hear(Gone(("link", WEB_LINK)))

        await eventually(lambda: WEB_LINK in settled.links)


async def test_a_joined_endpoint_s_link_of_which_a_notice_tells_is_lost_and_looked_for_once(settled: World) -> None:
    await settled.store.commit(Put(replace(ENDPOINT, phase=Phase.JOINED)))
    await settled.reconciler.converge(Owner(WEB))
    observed = settled.kernel.observed
    async with running(settled):
        settled.kernel.vanish(WEB_LINK)
        for _ in range(2):
            settled.reconciler.hear(Gone(("link", WEB_LINK)))
            await asyncio.sleep(HEEDED_S)

    assert (settled.reconciler.lost, settled.kernel.observed) == ({Owner(WEB)}, observed + 1)


# What was repaired.


async def test_what_verbs_asked_for_is_no_repair(world: World) -> None:
    for record in (NETWORK, ENDPOINT, OTHER, PUBLISHED, ENDPOINT):
        await world.store.commit(Put(record))
        await world.reconciler.converge(Owner(record.id))
    for record in (ENDPOINT, OTHER, NETWORK):
        await world.store.commit(Drop(record))
        await world.reconciler.converge(Owner(record.id))

    assert (world.reconciler.repaired, world.kernel.objects) == (0, {})


@pytest.mark.parametrize("first", [True, False])
async def test_what_a_verb_promised_is_no_repair_though_a_look_makes_it_true(world: World, first: bool) -> None:
    """The engine's activation, the timer or a notice has us look between a verb's promise and its own steps."""
    await world.reconciler.converge()
    changes: list[RecordChange] = [
        Put(NETWORK),
        Put(ENDPOINT),
        Put(PUBLISHED),
        Put(ENDPOINT),
        Drop(ENDPOINT),
        Drop(NETWORK),
    ]
    for change in changes:
        await world.store.commit(change)
        world.reconciler.doubt()
        await world.reconciler.converge(*[Owner(change.record.id)] * first)
        await world.reconciler.converge(Owner(change.record.id))

    assert (world.reconciler.repaired, world.kernel.objects) == (0, {})


async def test_what_a_start_finds_is_no_repair(settled: World) -> None:
    settled.kernel.vanish(WEB_LINK)
    fresh = build_world(settled.store, settled.kernel)

    await fresh.reconciler.converge()
    afterwards = fresh.reconciler.repaired
    fresh.kernel.vanish(WEB_LINK)
    await fresh.reconciler.converge()

    assert (afterwards, fresh.reconciler.repaired) == (0, 1)


async def test_a_thing_that_is_replaced_is_one_repair(settled: World) -> None:
    await settled.store.commit(Put(PUBLISHED))
    await settled.reconciler.converge(Owner(WEB))
    wrong = Element("inet", "ports4", ("tcp", "8080"), ("10.1.0.66", "80"))
    settled.kernel.objects[wrong.key] = wrong

    await settled.reconciler.converge()

    assert settled.taken_on(Element)[-2:] == [
        f"nft delete {wrong}",
        "nft add element inet mdnp ports4 { tcp . 8080 : 10.1.0.2 . 80 }",
    ]
    assert settled.reconciler.repaired == 1


async def test_what_could_not_be_repaired_is_counted_when_it_is(settled: World) -> None:
    refuse(settled, Set)
    changed(settled, BRIDGE, mtu=1400)
    await settled.reconciler.converge()
    before = settled.reconciler.repaired

    accept_all(settled)
    await settled.reconciler.converge()

    assert (before, settled.reconciler.repaired) == (0, 1)


@pytest.mark.parametrize("kind", [Add, Delete, Doom])
async def test_a_verb_s_own_step_that_fails_at_first_is_no_repair(world: World, kind: type[Step]) -> None:
    """Taken again after a look, it is still what the verb asked for."""
    await world.reconciler.converge()
    refused: list[Step] = []

    def first(step: Step) -> str | None:
        """The first step of the kind that a verb takes."""
        if isinstance(step, kind) and not refused:
            refused.append(step)
        return "refused by the test" if refused and step is refused[0] else None

    world.kernel.refuses = first
    times = 0
    for change in (Put(NETWORK), Put(PUBLISHED), Drop(PUBLISHED), Drop(NETWORK)):
        refused.clear()
        await world.store.commit(change)
        await world.reconciler.converge(Owner(change.record.id))
        times += len(refused)

    assert times > 0
    assert (world.reconciler.repaired, world.kernel.objects) == (0, {})


async def test_a_place_that_two_had_is_let_go_of_when_both_go(world: World) -> None:
    """Docker gave an address away that it had forgotten: for a while two endpoints open one port of it."""
    routed = a_network(options=NetworkOptions(routing_ipv4=Routing.ROUTED))
    port = Publication(a_port(80, 8080), 8080)
    one, other = an_endpoint(ports=[port]), an_endpoint(DB, ports=[port])
    for record in (routed, one, other):
        await world.store.commit(Put(record))
        await world.reconciler.converge(Owner(record.id))
    opened = world.elements("open4")

    await world.store.commit(Drop(one), Drop(other), Drop(routed))
    await world.reconciler.converge(*map(Owner, (WEB, DB, NET)))

    assert (opened, world.kernel.objects) == (["element inet mdnp open4 { 10.1.0.2 . tcp . 80 }"], {})


@pytest.mark.parametrize("goes", [WEB, DB])
async def test_a_place_that_two_had_stays_the_other_s_when_one_goes(world: World, goes: str) -> None:
    routed = a_network(options=NetworkOptions(routing_ipv4=Routing.ROUTED))
    port = Publication(a_port(80, 8080), 8080)
    for record in (routed, an_endpoint(ports=[port]), an_endpoint(DB, ports=[port])):
        await world.store.commit(Put(record))
        await world.reconciler.converge(Owner(record.id))

    await world.store.commit(Drop(an_endpoint(goes)))
    await world.reconciler.converge(Owner(goes))

    assert world.elements("open4") == ["element inet mdnp open4 { 10.1.0.2 . tcp . 80 }"]
    assert world.kept == world.planned


@pytest.mark.parametrize("ticks", range(6))
async def test_who_is_cancelled_while_there_is_something_to_do_ends(world: World, ticks: int) -> None:
    running = asyncio.create_task(world.reconciler.run())
    for _ in range(3):
        await asyncio.sleep(0)

    world.reconciler.doubt()
    for _ in range(ticks):
        await asyncio.sleep(0)
    running.cancel()

    await asyncio.wait({running}, timeout=5)
    assert running.cancelled()
