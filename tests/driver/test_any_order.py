"""
Networks and endpoints come and go in any order, links vanish, the kernel refuses, the daemon dies: when it is quiet
again, the kernel has what is promised and nothing else.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mdnp.dataplane.objects import Accept, Addr, Link
from mdnp.dataplane.steps import Add, Delete, Doom, Set, Step
from mdnp.kernel.fake import FakeKernel
from mdnp.model.endpoint import Phase
from mdnp.store.sqlite import SqliteStore
from tests.world import (
    TestedStore,
    World,
    build_world,
    create_endpoint,
    create_network,
    join,
    on_endpoint,
    on_network,
    quick_folder,
)

Result = TypeVar("Result")

NETWORKS = ("a1" * 32, "b2" * 32)
ENDPOINTS = ("c3" * 32, "d4" * 32, "e5" * 32)
numbers = st.integers(0, len(NETWORKS) - 1)
ends = st.integers(0, len(ENDPOINTS) - 1)
kinds = st.sets(st.sampled_from([Add, Set, Delete, Doom]), min_size=1)


class AnyOrder(RuleBasedStateMachine):
    """`networks` and `endpoints` are what Docker believes: what was answered with success."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.leaving = ExitStack()
        folder = self.leaving.enter_context(quick_folder())
        self.store = TestedStore(self.run(SqliteStore.open(folder)))
        self.world: World = build_world(self.store, FakeKernel())
        self.networks: set[str] = set()
        self.endpoints: dict[str, str] = {}

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def asked(self, verb: str, body: dict[str, Any]) -> bool:
        status = self.run(self.world.call(verb, body)).status
        assert status in (200, 400, 409, 500, 503)
        return status == 200

    @rule(number=numbers)
    def create_network(self, number: int) -> None:
        network = create_network(NETWORKS[number], f"10.{number}.0.0/24 10.{number}.0.1/24")
        if self.asked("CreateNetwork", network):
            self.networks.add(NETWORKS[number])

    @rule(number=numbers)
    def delete_network(self, number: int) -> None:
        if self.asked("DeleteNetwork", on_network(NETWORKS[number])):
            self.networks.discard(NETWORKS[number])
            self.endpoints = {end: on for end, on in self.endpoints.items() if on != NETWORKS[number]}

    @rule(end=ends, number=numbers)
    def create_endpoint(self, end: int, number: int) -> None:
        body = create_endpoint(ENDPOINTS[end], f"10.{number}.0.{end + 2}/24", network=NETWORKS[number])
        if self.asked("CreateEndpoint", body):
            self.endpoints[ENDPOINTS[end]] = NETWORKS[number]

    @rule(end=ends, number=numbers)
    def join(self, end: int, number: int) -> None:
        self.asked("Join", join(ENDPOINTS[end], NETWORKS[number]))

    @rule(end=ends)
    def leave(self, end: int) -> None:
        self.asked("Leave", on_endpoint(ENDPOINTS[end]))

    @rule(end=ends)
    def delete_endpoint(self, end: int) -> None:
        if self.asked("DeleteEndpoint", on_endpoint(ENDPOINTS[end])):
            self.endpoints.pop(ENDPOINTS[end], None)

    @precondition(lambda self: self.world.links)
    @rule(which=st.integers(0, 10))
    def a_link_vanishes(self, which: int) -> None:
        links = self.world.links
        self.world.kernel.vanish(links[which % len(links)])

    @precondition(lambda self: self.world.kernel.objects)
    @rule(which=st.integers(0, 30))
    def somebody_changes_something(self, which: int) -> None:
        objects = self.world.kernel.objects
        one = list(objects.values())[which % len(objects)]
        if isinstance(one, Link):
            objects[one.key] = replace(one, master=None, mtu=1400, up=False)
        elif isinstance(one, Accept | Addr):
            del objects[one.key]

    @rule(refused=kinds)
    def the_kernel_begins_to_refuse(self, refused: set[type[Step]]) -> None:
        self.world.kernel.refuses = lambda step: "refused by the test" if type(step) in refused else None

    @rule()
    def the_kernel_is_well_again(self) -> None:
        self.world.kernel.refuses = lambda _step: None

    @rule(full=st.booleans())
    def the_disk_is_full_or_not(self, full: bool) -> None:
        self.store.full = full

    @rule()
    def the_daemon_is_killed_and_started(self) -> None:
        self.world = build_world(self.store, self.world.kernel)
        self.run(self.world.reconciler.converge())

    @rule()
    def time_passes(self) -> None:
        self.world.reconciler.doubt()
        self.run(self.world.reconciler.bury())
        self.run(self.world.reconciler.converge())

    @rule()
    def it_is_quiet(self) -> None:
        self.world.kernel.refuses = lambda _step: None
        outcome = self.run(self.world.reconciler.converge())
        self.run(self.world.reconciler.bury())

        assert outcome.failures == ()
        missing = set(self.world.planned) - set(self.world.kept)
        assert set(self.world.kept) - set(self.world.planned) == set()
        assert {f"{one.object.key}" for one in outcome.lost} <= missing
        assert len(missing) <= sum(
            one.phase is not Phase.CREATED for one in self.world.store.promises.endpoints.values()
        )
        assert self.world.kernel.names == set(self.world.links) | {
            f"mdp-{name[4:]}" for name in self.world.links if name.startswith("mdv-")
        }
        assert self.run(self.world.reconciler.compare()).steps == ()

    @invariant()
    def what_was_answered_is_promised(self) -> None:
        """And what is promised beyond it is only what the disk was too full to take back."""
        networks, endpoints = self.world.promised
        assert (self.networks - set(networks), set(self.endpoints) - set(endpoints)) == (set(), set())

    def teardown(self) -> None:
        self.store.full = False
        self.it_is_quiet()
        self.run(self.store.close())
        self.runner.close()
        self.leaving.close()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=40, stateful_step_count=30)
