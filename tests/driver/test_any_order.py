"""
Networks and endpoints come and go in any order, links vanish, the kernel refuses, the daemon dies: when it is quiet
again, the kernel has what is promised and nothing else.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mdnp.dataplane import publishing
from mdnp.dataplane.objects import Accept, Addr, Element, Link, Table
from mdnp.dataplane.rules import TABLES
from mdnp.dataplane.steps import Add, Delete, Doom, Set, Step
from mdnp.kernel.fake import FakeKernel
from mdnp.model.endpoint import Phase
from mdnp.model.identity import EndpointID
from mdnp.model.port import HostSocket
from mdnp.store.sqlite import SqliteStore
from tests.world import (
    ANY4,
    ANY6,
    UDP,
    TestedStore,
    World,
    a_socket,
    binding,
    build_world,
    create_endpoint,
    create_network,
    join,
    on_endpoint,
    on_network,
    publish,
    quick_folder,
)

pytestmark = pytest.mark.long

Result = TypeVar("Result")

NETWORKS = ("a1" * 32, "b2" * 32)
ENDPOINTS = ("c3" * 32, "d4" * 32, "e5" * 32)
numbers = st.integers(0, len(NETWORKS) - 1)
ends = st.integers(0, len(ENDPOINTS) - 1)
options = st.sampled_from(
    [
        {},
        {"mdnp.guard": "off", "com.docker.network.bridge.enable_icc": "false"},
        {"mdnp.gateway": "none"},
        {"com.docker.network.bridge.name": "lab0", "com.docker.network.bridge.gateway_mode_ipv4": "routed"},
    ]
)
# One host port that two may ask for, ranges that overlap, and any.
bindings = st.lists(
    st.sampled_from(
        [
            binding(80, 8080),
            binding(80, 8080, ip="127.0.0.1"),
            binding(81, 8080, 8081),
            binding(82, 8080, 8083),
            binding(83),
            binding(53, 8080, proto=UDP),
            binding(84, 8080, ip="::1"),
        ]
    ),
    max_size=3,
)
sockets = st.sampled_from([a_socket(ANY4, 8080), a_socket("127.0.0.1", 8081), a_socket(ANY6, 32768)])
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
        self.published: dict[str, int] = {}

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def asked(self, verb: str, body: dict[str, Any]) -> bool:
        status = self.run(self.world.call(verb, body)).status
        assert status in (200, 400, 409, 500, 503)
        return status == 200

    @rule(number=numbers, options=options)
    def create_network(self, number: int, options: dict[str, str]) -> None:
        network = create_network(NETWORKS[number], f"10.{number}.0.0/24 10.{number}.0.1/24", options=options)
        if self.asked("CreateNetwork", network):
            self.networks.add(NETWORKS[number])

    @rule(number=numbers)
    def delete_network(self, number: int) -> None:
        if self.asked("DeleteNetwork", on_network(NETWORKS[number])):
            self.networks.discard(NETWORKS[number])
            self.endpoints = {end: on for end, on in self.endpoints.items() if on != NETWORKS[number]}
            self.published = {end: count for end, count in self.published.items() if end in self.endpoints}

    @rule(end=ends, number=numbers)
    def create_endpoint(self, end: int, number: int) -> None:
        body = create_endpoint(ENDPOINTS[end], f"10.{number}.0.{end + 2}/24", network=NETWORKS[number])
        if self.asked("CreateEndpoint", body):
            self.endpoints[ENDPOINTS[end]] = NETWORKS[number]

    @rule(end=ends, number=numbers)
    def join(self, end: int, number: int) -> None:
        self.asked("Join", join(ENDPOINTS[end], NETWORKS[number]))

    @rule(end=ends, number=numbers, asked=bindings)
    def publish(self, end: int, number: int, asked: list[dict[str, Any]]) -> None:
        known = self.world.store.promises.endpoints.get(EndpointID(ENDPOINTS[end]))
        self.published.pop(ENDPOINTS[end], None)  # where it fails, nothing is published
        body = publish(*asked, identity=ENDPOINTS[end], network=NETWORKS[number])
        if self.asked("ProgramExternalConnectivity", body) and known:
            way_out = self.store.promises.networks[known.network_id].is_way_out
            self.published[ENDPOINTS[end]] = len(asked) if way_out else 0

    @rule(end=ends)
    def revoke(self, end: int) -> None:
        if self.asked("RevokeExternalConnectivity", on_endpoint(ENDPOINTS[end])):
            self.published.pop(ENDPOINTS[end], None)

    @rule(socket=sockets)
    def somebody_takes_a_port(self, socket: HostSocket) -> None:
        """If nobody has it."""
        held = [key for key in self.world.kernel.objects if key[0] == "port" and key[3] == str(socket.port)]
        if not held:
            self.world.kernel.taken_ports.add(socket)

    @rule()
    def others_let_go_of_their_ports(self) -> None:
        self.world.kernel.taken_ports.clear()

    @rule(which=st.integers(0, 1))
    def somebody_flushes_a_table(self, which: int) -> None:
        self.world.kernel.flush(TABLES[which])

    @rule(end=ends)
    def leave(self, end: int) -> None:
        if self.asked("Leave", on_endpoint(ENDPOINTS[end])):
            self.published.pop(ENDPOINTS[end], None)

    @rule(end=ends)
    def delete_endpoint(self, end: int) -> None:
        if self.asked("DeleteEndpoint", on_endpoint(ENDPOINTS[end])):
            self.endpoints.pop(ENDPOINTS[end], None)
            self.published.pop(ENDPOINTS[end], None)

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
        elif isinstance(one, Table):
            objects[one.key] = replace(one, text="")
        elif isinstance(one, Element) and one.value:
            objects[one.key] = replace(one, value=("10.9.9.9", "9"))
        elif isinstance(one, Accept | Addr | Element):
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
        self.world = self.world.restarted()
        self.run(self.world.reconciler.converge())

    @rule()
    def time_passes(self) -> None:
        self.world.reconciler.doubt()
        self.run(self.world.reconciler.bury())
        self.run(self.world.reconciler.converge())

    @rule()
    def it_is_quiet(self) -> None:
        self.world.kernel.refuses = lambda _step: None
        self.world.kernel.taken_ports.clear()
        outcome = self.run(self.world.reconciler.converge())
        self.run(self.world.reconciler.bury())

        assert outcome.failures == ()
        planned, kept = self.world.planned, self.world.kept
        missing = {key for key, one in planned.items() if kept.get(key) != one}
        assert kept.keys() - planned.keys() == set()
        assert all(key[0] == "link" and key not in kept for key in missing)
        assert {one.object.key for one in outcome.lost} <= missing
        assert len(missing) <= sum(
            one.phase is not Phase.CREATED for one in self.world.store.promises.endpoints.values()
        )
        assert self.world.kernel.names == set(self.world.links) | {
            f"mdp-{name[4:]}" for name in self.world.links if name.startswith("mdv-")
        }
        difference, _ = self.run(self.world.reconciler.compare())
        assert difference.steps == ()

    @invariant()
    def what_was_answered_is_promised(self) -> None:
        """And what is promised beyond it is only what the disk was too full to take back."""
        networks, endpoints = self.world.promised
        assert (self.networks - set(networks), set(self.endpoints) - set(endpoints)) == (set(), set())

    @invariant()
    def what_was_published_is_promised(self) -> None:
        """For as long as the endpoint is not lost; others may have its ports then."""
        lost = self.world.reconciler.lost
        endpoints = self.store.promises.endpoints
        ports = {end: len(endpoints[EndpointID(end)].ports) for end in self.published if end not in lost}
        assert ports == {end: count for end, count in self.published.items() if end not in lost}

    @invariant()
    def no_port_of_the_host_s_is_promised_to_two(self) -> None:
        promises = self.store.promises
        sockets = [
            socket
            for one in promises.endpoints.values()
            for port in one.ports
            for socket in publishing.host_sockets(promises.networks[one.network_id], one, port)
        ]
        clashing = [(a, b) for number, a in enumerate(sockets) for b in sockets[:number] if a.clashes(b)]
        assert clashing == []

    def teardown(self) -> None:
        self.store.full = False
        self.it_is_quiet()
        self.run(self.store.close())
        self.runner.close()
        self.leaving.close()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=40, stateful_step_count=30)
