"""What other hosts told is made to stand in the kernel, owner by owner, and costs no verb anything."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dataplane import naming
from mdnp.dataplane.objects import Fdb, Key, Link, Neigh, PoolRoute, PortFlags, Row, Sysctl
from mdnp.dataplane.overlay import Underlay
from mdnp.dataplane.steps import Add, Delete, Owner, Step
from mdnp.kernel import Actual, Seen
from mdnp.kernel.fake import FakeKernel
from mdnp.model.errors import InUse
from mdnp.model.network import Network
from mdnp.model.options import Mode, NetworkOptions
from mdnp.model.port import HostSocket, Protocol
from mdnp.model.segment import RemoteEndpoint
from mdnp.reconcile import desired
from mdnp.reconcile.converge import Reconciler
from mdnp.reconcile.desired import Desired
from mdnp.reconcile.diff import diff
from mdnp.store import Drop, Put
from mdnp.store.sqlite import SqliteStore
from tests.overlays import Told, a_remote, an_overlay
from tests.reconcile.test_converge import eventually
from tests.world import NET, OTHER_NET, WEB, an_endpoint, as_seen, quick_folder, text

NETWORK = an_overlay()
ELSEWHERE = an_overlay(OTHER_NET, "10.60.0.0/16 10.60.0.1/16", own=["10.60.0.20/16"], vni=9)
REMOTES = [a_remote(f"{one}", f"10.50.1.{one}", f"fd50::1:{one}") for one in range(2, 8)]
FAR = a_remote("far", "10.60.1.2", segment="10.60.0.0/16")
MDX, MDB = naming.tunnel(NETWORK), naming.bridge(NETWORK)
SEGMENT = Owner("10.50.0.0/16,fd50::/64")
WEB_HERE = an_endpoint(WEB, "10.50.0.5/16", "fd50::5/64")


@dataclass
class Place:
    """A host of a cluster on a kernel in memory."""

    kernel: FakeKernel
    store: SqliteStore
    outlook: Told
    reconciler: Reconciler

    @property
    def rows(self) -> set[Row]:
        return {one for one in self.kernel.objects.values() if isinstance(one, Row)}

    @property
    def taken(self) -> list[str]:
        """Since the last time."""
        steps = text(self.kernel.taken)
        self.kernel.taken.clear()
        return steps

    @property
    def planned(self) -> dict[Key, Seen]:
        """By the planners alone."""
        promises = self.store.promises
        outlook, networks = self.outlook, list(promises.networks.values())
        seen = Actual({}, frozenset(self.kernel.chains))
        plans: list[Desired] = [desired.of_host(networks, seen)]
        for network in networks:
            underlay = Underlay(outlook.vtep, outlook.port, outlook.members)
            plans.append(desired.of_network(network, underlay))
            remotes = [one for one in outlook.endpoints.values() if one.segment == _segment(network)]
            if outlook.vtep and network.vni:
                plans += [desired.of_remote(network, one) for one in remotes]
        plans += [desired.of_endpoint(promises.networks[one.network_id], one) for one in promises.endpoints.values()]
        return {key: as_seen(owned.object) for plan in plans for key, owned in plan.items()}

    @property
    def kept(self) -> dict[Key, Seen]:
        settings = (Sysctl(name, value) for name, value in self.kernel.settings.items())
        planned = self.planned
        return self.kernel.objects | {one.key: one for one in settings if one.key in planned}

    async def converge(self, *owners: str) -> list[str]:
        """The steps taken; none failed."""
        self.kernel.taken.clear()
        outcome = await self.reconciler.converge(*map(Owner, owners))
        assert text([one.step for one in outcome.failures]) == []
        return self.taken

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.reconciler.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _segment(network: Network) -> str:
    return ",".join(str(subnet.pool) for subnet in network.subnets)


@asynccontextmanager
async def a_place(folder: Path) -> AsyncIterator[Place]:
    store = await SqliteStore.open(folder)
    kernel, outlook = FakeKernel(), Told()
    try:
        yield Place(kernel, store, outlook, Reconciler(store, kernel, 3600, outlook=outlook))
    finally:
        await store.close()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """With a network of the segment, an endpoint and the remotes."""
    with quick_folder() as folder:
        async with a_place(folder) as place:
            await place.store.commit(Put(NETWORK), Put(WEB_HERE))
            place.outlook.tell(*REMOTES)
            await place.converge()
            yield place


def rows_of(*remotes: RemoteEndpoint) -> set[Row]:
    everybody = {one for one in desired.of_network(NETWORK, _underlay()).values() if isinstance(one.object, Fdb)}
    of_remotes = [one for remote in remotes for one in desired.of_remote(NETWORK, remote).values()]
    return {one.object for one in (*everybody, *of_remotes) if isinstance(one.object, Row)}


def _underlay() -> Underlay:
    return Underlay(ip_address("192.0.2.1"), 4789, (ip_address("192.0.2.2"),))


def refuse(place: Place, holds: Callable[[Step], object], reason: str = "refused by the test") -> None:
    place.kernel.refuses = lambda step: reason if holds(step) else None


def is_row_of(step: Step, remotes: Iterable[RemoteEndpoint]) -> bool:
    return isinstance(step, Add | Delete) and isinstance(step.object, Row) and step.object in rows_of(*remotes)


async def test_all_that_others_told_stands_after_a_look_at_everything(place: Place) -> None:
    assert place.kept == place.planned
    assert place.rows == rows_of(*REMOTES)


async def test_what_is_told_of_a_remote_costs_its_own_rows(place: Place) -> None:
    observed = place.kernel.observed
    new = a_remote("new", "10.50.9.9", "fd50::9:9")

    came = await place.converge(*place.outlook.tell(new))
    moved = await place.converge(*place.outlook.tell(replace(new, vtep=ip_address("192.0.2.3"))))
    went = await place.converge(*place.outlook.withdraw(new))

    mac = "02:6d:0a:32:09:09"
    assert came == [
        f"bridge fdb replace {mac} dev {MDX} dst 192.0.2.2 self permanent",
        f"bridge fdb replace {mac} dev {MDX} master static",
        f"ip neigh replace 10.50.9.9 lladdr {mac} dev {MDB} nud permanent protocol 109",
        f"ip neigh replace fd50::9:9 lladdr {mac} dev {MDB} nud permanent protocol 109",
    ]
    assert moved == [f"bridge fdb replace {mac} dev {MDX} dst 192.0.2.3 self permanent"]
    assert sorted(line.split()[2] for line in went) == ["del"] * 4
    assert (place.kernel.observed, place.rows) == (observed, rows_of(*REMOTES))


async def test_an_address_that_moves_to_another_endpoint_elsewhere_is_led_there(place: Place) -> None:
    [first, *_] = REMOTES
    heir = replace(a_remote("heir", *map(str, first.addresses), host="c"), vtep=ip_address("192.0.2.3"))

    changed = place.outlook.withdraw(first) + place.outlook.tell(heir)
    steps = await place.converge(*changed)

    assert steps == [f"bridge fdb replace {heir.mac} dev {MDX} dst 192.0.2.3 self permanent"]
    assert place.kept == place.planned


async def test_a_change_of_members_is_told_by_the_segment_or_by_the_network(place: Place) -> None:
    for owner in (SEGMENT, Owner(NET)):
        place.outlook.members = (*place.outlook.members, ip_address(f"192.0.2.{30 + len(place.outlook.members)}"))
        [new] = place.outlook.members[-1:]

        steps = await place.converge(owner)

        assert steps == [
            f"nft add element inet mdnp vteps4 {{ 0x6d0001 . {new} }}",
            f"bridge fdb append 00:00:00:00:00:00 dev {MDX} dst {new} self permanent",
        ]


async def test_with_a_network_come_and_go_the_rows_of_its_segment(place: Place) -> None:
    place.outlook.tell(FAR)
    before = place.rows
    await place.store.commit(Put(ELSEWHERE))

    await place.converge(OTHER_NET)
    came = place.rows - before
    await place.store.commit(Drop(ELSEWHERE))
    steps = await place.converge(OTHER_NET)

    bridge, tunnel = naming.bridge(ELSEWHERE), naming.tunnel(ELSEWHERE)
    everybody = {one for one in came if isinstance(one, Fdb) and one.mac == "00:00:00:00:00:00"}
    assert came - everybody == {
        Fdb(tunnel, FAR.mac, FAR.vtep),
        Fdb(tunnel, FAR.mac),
        Neigh(bridge, FAR.addresses[0], FAR.mac),
    }
    assert [line for line in steps if "fdb" in line or "neigh" in line or "route" in line] == []
    assert (place.rows, place.kept) == (before, place.planned)


async def test_a_network_that_is_made_anew_has_the_rows_again(place: Place) -> None:
    again = replace(NETWORK, id=ELSEWHERE.id)
    await place.store.commit(Drop(WEB_HERE), Drop(NETWORK))
    await place.converge(WEB, NET)
    await place.store.commit(Put(again))

    await place.converge(again.id)

    assert place.kept == place.planned
    assert {one.link for one in place.rows} == {naming.tunnel(again), naming.bridge(again)}


async def test_the_tunnel_waits_for_a_vtep_and_the_rest_stands(place: Place) -> None:
    vtep, place.outlook.vtep = place.outlook.vtep, None

    await place.converge(NET)
    without = place.rows
    links = set(place.kernel.links)
    place.outlook.vtep = vtep
    await place.converge(NET)

    assert (without, MDX in links) == (set(), False)
    assert {naming.own_end(NETWORK), MDB} <= links
    assert (place.rows, place.kept) == (rows_of(*REMOTES), place.planned)


@pytest.mark.parametrize("change", [{"vtep": ip_address("192.0.2.9")}, {"port": 4444}])
async def test_a_tunnel_to_elsewhere_is_made_anew_with_all_its_rows(place: Place, change: dict[str, object]) -> None:
    for name, value in change.items():
        setattr(place.outlook, name, value)

    steps = await place.converge(NET)

    assert [line.split()[:4] for line in steps if "link" in line] == [
        ["ip", "link", "del", MDX],
        ["ip", "link", "add", MDX],
    ]
    assert f"sysctl -w net/ipv6/conf/{MDX}/disable_ipv6=1" in steps
    assert (place.rows, place.kept) == (rows_of(*REMOTES), place.planned)


async def test_one_endpoint_more_plans_nothing_of_the_remotes(place: Place) -> None:
    """And a network that is converged again, as verbs do, nothing either."""
    asked: list[object] = []
    remotes_of = place.outlook.remotes_of
    place.outlook.remotes_of = lambda segment: asked.append(segment) or remotes_of(segment)  # type: ignore[method-assign,func-returns-value]
    await place.store.commit(Put(an_endpoint("d4" * 32, "10.50.0.6/16")))

    await place.converge("d4" * 32)
    await place.converge(NET)
    await place.store.commit(Put(replace(NETWORK, listed=True)))
    await place.converge(NET)

    assert asked == []


# Of many, and of what fails.


@pytest.mark.long
async def test_what_others_told_is_followed_soon_and_together(place: Place) -> None:
    many = [a_remote(f"m{one}", f"10.50.{100 + one // 250}.{1 + one % 250}") for one in range(1200)]
    wanted = rows_of(*REMOTES, *many)
    batches: list[int] = []
    perform = place.kernel.perform

    async def counted(steps: list[Step]) -> object:
        batches.append(len(steps))
        return await perform(steps)

    place.kernel.perform = counted  # type: ignore[method-assign,assignment]
    async with place.running():
        for one in many:
            place.reconciler.changed(place.outlook.tell(one))
        await eventually(lambda: place.rows == wanted)

    assert batches == [1500, 1500, 600]
    assert place.reconciler.repaired == 0


@pytest.mark.long
async def test_a_verb_has_its_turn_between_what_others_told(place: Place) -> None:
    many = [a_remote(f"m{one}", f"10.50.{100 + one // 250}.{1 + one % 250}") for one in range(2000)]
    wanted = rows_of(*REMOTES, *many)
    await place.store.commit(Drop(WEB_HERE))
    asked = asyncio.Event()
    refuse(place, lambda _step: asked.set())
    async with place.running():
        place.reconciler.changed(place.outlook.tell(*many))
        await asked.wait()  # the first of them are with the kernel

        await place.reconciler.converge(Owner(WEB))

        assert len(place.rows) < len(wanted)
        await eventually(lambda: place.rows == wanted)


async def test_a_remote_s_row_that_fails_fails_no_verb_and_is_tried_at_the_next_look(place: Place) -> None:
    bad = a_remote("bad", "10.50.9.9")
    refuse(place, lambda step: is_row_of(step, [bad]))
    await place.reconciler.converge(*place.outlook.tell(bad))
    trouble, observed = place.reconciler.trouble, place.kernel.observed

    await place.store.commit(Put(an_endpoint("d4" * 32, "10.50.0.6/16")))
    outcome = await place.reconciler.converge(Owner("d4" * 32))

    assert "refused by the test" in trouble
    assert (outcome.failures, place.kernel.observed) == ((), observed)
    place.kernel.refuses = lambda _step: None
    await place.converge()
    assert (place.reconciler.trouble, place.kept) == ("", place.planned)


async def test_of_thousands_that_fail_some_are_told_and_the_others_counted(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    many = [a_remote(f"m{one}", f"10.50.9.{one}") for one in range(100)]
    refuse(place, lambda step: is_row_of(step, many))

    await place.reconciler.converge(*place.outlook.tell(*many))

    assert place.reconciler.trouble.endswith("; and 295 more")
    assert place.reconciler.trouble.count("refused by the test") == 5
    assert place.reconciler.drift == 300
    assert len([one for one in caplog.messages if "not in sync" in one]) == 1


async def test_of_many_rows_the_log_has_the_number(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    many = [a_remote(f"m{one}", f"10.50.9.{one}") for one in range(100)]

    await place.reconciler.converge(*place.outlook.tell(*many))

    assert caplog.messages == ["300 rows of forwarding tables and neighbours added or deleted"]


@pytest.mark.parametrize("taken", ["vni", "port"])
async def test_a_vni_or_port_that_somebody_has_fails_the_network_with_what_to_do(taken: str) -> None:
    with quick_folder() as folder:
        async with a_place(folder) as place:
            place.kernel.taken_tunnels = {(NETWORK.vni, 4789): "theirs"} if taken == "vni" else {}
            if taken == "port":
                place.kernel.taken_ports = {HostSocket(Protocol.UDP, ip_address("0.0.0.0"), 4789)}  # noqa: S104
            place.outlook.tell(*REMOTES)
            await place.store.commit(Put(NETWORK))

            outcome = await place.reconciler.converge(Owner(NET))

            failure = outcome.failure_of(Owner(NET))
            assert failure is not None
            assert isinstance(failure.error, InUse)
            assert "set another vxlan_port on every host" in str(failure.error)


# Drift.


def _moved(place: Place) -> None:
    row = next(one for one in rows_of(REMOTES[0]) if isinstance(one, Fdb) and one.mac == REMOTES[0].mac and one.vtep)
    place.kernel.objects[row.key] = replace(row, vtep=ip_address("192.0.2.77"))


def _set(place: Place, name: str, **facts: object) -> None:
    one = place.kernel.links[name]
    place.kernel.objects[one.key] = replace(one, **facts)  # type: ignore[arg-type]  # a link's


DAMAGES: dict[str, tuple[Callable[[Place], object], int]] = {
    "row": (lambda place: place.kernel.objects.pop(Fdb(MDX, REMOTES[0].mac).key), 1),
    "moved": (_moved, 1),
    "aging": (
        lambda place: place.kernel.objects.update({(one := Fdb(MDX, REMOTES[0].mac, lasting=False)).key: one}),
        1,
    ),
    "stray": (lambda place: place.kernel.objects.update({(one := Fdb(MDX, WEB_HERE.mac)).key: one}), 1),
    "learning": (lambda place: _set(place, MDX, flags=replace(_flags(place), learning=True)), 1),
    "nomaster": (lambda place: _set(place, MDX, master=None, flags=None), 1),
    "down": (lambda place: _set(place, naming.own_end(NETWORK), up=False), 1),
    "mac": (lambda place: _set(place, naming.own_end(NETWORK), mac=WEB_HERE.mac), 1),
    "rule": (lambda place: place.kernel.objects.pop(("rule", "4")), 1),
    "route": (lambda place: place.kernel.objects.pop(("route", "10.50.0.0/16")), 1),
    "elsewhere": (
        lambda place: place.kernel.objects.update(
            {(one := PoolRoute(NETWORK.subnets[0].pool, MDB, None)).key: one},
        ),
        1,
    ),
    "tunnel": (lambda place: place.kernel.vanish(MDX), 2 + 1 + 2 * len(REMOTES)),  # the link, a setting, and its rows
}


def _flags(place: Place) -> PortFlags:
    flags = place.kernel.links[MDX].flags
    assert flags
    return flags


@pytest.mark.parametrize("damage", DAMAGES)
async def test_drift_is_mended_by_what_it_takes_and_counted_place_by_place(place: Place, damage: str) -> None:
    harm, places = DAMAGES[damage]
    harm(place)

    steps = await place.converge()

    assert (len(steps), place.reconciler.repaired) == (places, places)
    assert place.kept == place.planned


async def test_what_was_told_meanwhile_is_no_drift(place: Place) -> None:
    """A look comes between the word and its own turn."""
    place.outlook.tell(a_remote("new", "10.50.9.9"))
    place.outlook.withdraw(REMOTES[0])

    await place.converge()

    assert (place.reconciler.repaired, place.kept) == (0, place.planned)


# In any order.

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("tell"), st.sampled_from([*REMOTES, FAR])),
        st.tuples(st.just("withdraw"), st.sampled_from([*REMOTES, FAR])),
        st.tuples(st.just("move"), st.sampled_from(REMOTES)),
        st.tuples(st.just("network"), st.sampled_from([NETWORK, ELSEWHERE])),
        st.tuples(st.just("drop"), st.sampled_from([NETWORK, ELSEWHERE])),
        st.tuples(st.just("vtep"), st.sampled_from(["192.0.2.1", "192.0.2.9", ""])),
        st.tuples(st.just("look"), st.none()),
    ),
    max_size=12,
)


async def _act(place: Place, kind: str, what: object) -> list[Owner]:
    """Do it, and say whom it concerns."""
    owners = [Owner(NET)]
    match kind, what:
        case "tell", RemoteEndpoint() as remote:
            owners = place.outlook.tell(remote)
        case "withdraw", RemoteEndpoint() as remote if remote.id in place.outlook.endpoints:
            owners = place.outlook.withdraw(remote)
        case "move", RemoteEndpoint() as remote:
            owners = place.outlook.tell(replace(remote, vtep=ip_address("192.0.2.3")))
        case (("network" | "drop"), Network() as network):
            await place.store.commit(Put(network) if kind == "network" else Drop(network))
            owners = [Owner(network.id)]
        case "vtep", str() as address:
            place.outlook.vtep = ip_address(address) if address else None
            owners = [Owner(one) for one in place.store.promises.networks]
        case "look", _:
            place.reconciler.doubt()
    return owners


@given(ACTIONS)
def test_whatever_happens_in_whatever_order_what_is_wanted_stands(actions: list[tuple[str, object]]) -> None:
    async def story() -> None:
        with quick_folder() as folder:
            async with a_place(folder) as place:
                for kind, what in actions:
                    owners = await _act(place, kind, what)
                    await place.converge(*(owners or [Owner(NET)]))
                    assert place.kept == place.planned, (kind, what)
                assert place.reconciler.repaired == 0

    asyncio.run(story())


# Broken off at any step.


class Killed(Exception):
    """The daemon, by SIGKILL."""


def kill_after(place: Place, count: int) -> None:
    """Whoever runs it dies after so many steps."""
    left = iter(range(count))

    def refuses(_step: Step) -> None:
        if next(left, None) is None:
            raise Killed

    place.kernel.refuses = refuses


@pytest.mark.parametrize("removed", [False, True], ids=["made", "removed"])
async def test_whatever_step_a_daemon_dies_at_the_next_one_ends_it(removed: bool) -> None:
    for count in itertools.count():
        with quick_folder() as folder:
            async with a_place(folder) as place:
                place.outlook.tell(*REMOTES[:2])
                await place.store.commit(Put(NETWORK), Put(WEB_HERE))
                if removed:
                    await place.converge()
                    await place.store.commit(Drop(WEB_HERE), Drop(NETWORK))
                kill_after(place, count)
                killed = False
                try:
                    await place.reconciler.converge(Owner(WEB), Owner(NET))
                except Killed:
                    killed = True
                place.kernel.refuses = lambda _step: None

                await Reconciler(place.store, place.kernel, 3600, outlook=place.outlook).converge()
                await place.kernel.reap()

                assert place.kept == place.planned, count
        if not killed:
            break
    assert count > 20


# The difference by itself.


def test_what_an_overlay_needs_is_made_in_an_order_that_works() -> None:
    plan = {
        **desired.of_remote(NETWORK, REMOTES[0]),
        **desired.of_network(NETWORK, _underlay()),
        **desired.of_host([NETWORK], Actual({})),
    }

    steps = diff(plan, Actual({})).steps

    kinds = [type(step.object).__name__ for step in steps if isinstance(step, Add)]
    order = list(dict.fromkeys(kinds))
    assert order == [
        "Table",
        "Element",
        "Bridge",
        "Vxlan",
        "Veth",
        "Peer",
        "Sysctl",
        "Addr",
        "Lookup",
        "PoolRoute",
        "Fdb",
        "Neigh",
    ]


def test_when_a_network_goes_its_links_take_with_them_what_stands_on_them() -> None:
    plan = {**desired.of_remote(NETWORK, REMOTES[0]), **desired.of_network(NETWORK, _underlay())}
    seen = {key: as_seen(one.object) for key, one in plan.items()}

    steps = diff({}, Actual(seen)).steps

    removed = [step.object for step in steps if isinstance(step, Delete)]
    assert [one for one in removed if isinstance(one, Fdb | Neigh | PoolRoute)] == []
    names = [one.name for one in removed if isinstance(one, Link)]
    assert sorted(name[:4] for name in names) == ["mdb-", "mdh-", "mdi-", "mdx-"]


def test_a_multicast_that_is_switched_off_is_a_change_of_the_port_and_of_its_rows() -> None:
    quiet = replace(NETWORK, options=NetworkOptions(mode=Mode.OVERLAY, multicast=False))
    seen = {key: as_seen(one.object) for key, one in desired.of_network(NETWORK, _underlay()).items()}

    steps = text(diff(desired.of_network(quiet, _underlay()), Actual(seen)).steps)

    assert steps == [
        f"bridge fdb del 00:00:00:00:00:00 dev {MDX} dst 192.0.2.2 self permanent",
        f"ip link set {MDX} type bridge_slave mcast_flood off bcast_flood off",
    ]
