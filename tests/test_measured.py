"""The rooms with a clock on them: they do what they did, and it is counted."""

from dataclasses import replace

import pytest

from mdnp.dataplane.objects import Accept, Addr, Element, Way
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom, Set, Step
from mdnp.engine import EngineUnavailable
from mdnp.measured import MeasuredEngine, MeasuredKeeper, MeasuredKernel, MeasuredStore, kind_of
from mdnp.measures import Measures
from mdnp.model.errors import StoreUnavailable
from mdnp.orphans import Orphan
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Put
from tests.admin.door import Engine
from tests.ipam.engine import listing
from tests.kernel.test_kernel import ADDR, BRIDGE, VETH
from tests.world import NET, World, a_network


@pytest.fixture
def measures() -> Measures:
    return Measures()


def test_a_step_is_named_by_what_it_does_to_what() -> None:
    steps: list[Step] = [
        Add(BRIDGE, NOBODY),
        Add(VETH, NOBODY),
        Add(Accept(4, Way.IN, "mdb-+"), NOBODY),
        Delete(BRIDGE.link(), NOBODY),
        Doom(VETH.link(), NOBODY),
        Set(BRIDGE.link(), BRIDGE.link(), NOBODY),
        Delete(Element("inet", "nat4", ("x",)), NOBODY),
        Add(ADDR, NOBODY),
    ]

    assert [" ".join(kind_of(step)) for step in steps] == [
        "add bridge",
        "add veth",
        "add rule",
        "delete bridge",
        "doom veth",
        "set bridge",
        "delete element",
        "add addr",
    ]


async def test_steps_are_counted_by_kind_and_those_that_failed_apart(world: World, measures: Measures) -> None:
    kernel = MeasuredKernel(world.kernel, measures)
    elsewhere = Addr("nowhere", ADDR.address)

    failures = await kernel.perform([Add(BRIDGE, NOBODY), Add(VETH, NOBODY), Add(ADDR, NOBODY), Add(elsewhere, NOBODY)])
    await kernel.observe()

    assert [failure.step for failure in failures] == [Add(elsewhere, NOBODY)]
    taken = [measures.steps.value("add", kind) for kind in ("bridge", "veth", "addr")]
    assert (taken, measures.failed_steps.value("add", "addr")) == ([1, 1, 1], 1)
    assert (measures.performing.count(), measures.looks.count()) == (1, 1)


async def test_commits_are_timed_and_those_that_failed_counted(world: World, measures: Measures) -> None:
    store = MeasuredStore(world.store, measures)

    await store.commit(Put(a_network()))
    world.store.full = True
    with pytest.raises(StoreUnavailable):
        await store.commit(Put(replace(a_network(), mtu=1400)))

    assert (measures.commits.count(), measures.commit_errors.value()) == (1, 1)
    assert list(store.promises.networks) == [NET]


async def test_whether_docker_answered_is_known(measures: Measures) -> None:
    docker = Engine()
    engine = MeasuredEngine(docker, measures)
    never = measures.docker_up

    with pytest.raises(EngineUnavailable):
        await engine.list()
    away = measures.docker_up
    docker.listing = listing()
    await engine.list()

    assert (never, away, measures.docker_up) == (None, False, True)
    assert (measures.unanswered.value(), measures.listings.count()) == (1, 1)


async def test_freed_orphans_are_counted_by_kind(measures: Measures) -> None:
    class Careful:
        def __init__(self) -> None:
            self.freed: list[Orphan] = []

        async def learn(self, *_facts: object) -> None: ...

        def orphans(self, *_facts: object) -> list[Orphan]:
            return []

        def is_engines(self, _orphan: Orphan) -> bool:
            return True

        async def free(self, orphan: Orphan) -> None:
            self.freed.append(orphan)

    keeper = Careful()
    orphan = Orphan("endpoint", "c3", "a1", 0.0, None)

    await MeasuredKeeper(keeper, measures).free(orphan)

    assert (keeper.freed, measures.freed.value("endpoint")) == ([orphan], 1)


async def test_converging_is_timed_for_all_and_for_some(world: World, measures: Measures) -> None:
    reconciler = Reconciler(world.store, world.kernel, measures=measures)

    await reconciler.converge()
    await reconciler.converge(NET)  # type: ignore[arg-type]  # an owner is an id

    assert [measures.converging.count(scope) for scope in ("all", "owners")] == [1, 1]
    assert not reconciler.converging
