"""
Three hosts hand out of one pool in any order, at once, while they are killed and the cluster goes away: no address is
ever held by two, and nothing is left when all was given back.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mdnp.model.errors import MdnpError
from mdnp.model.host import HostID
from tests.ipam.commons import Commons, Plot
from tests.world import Clock, quick_folder

pytestmark = pytest.mark.long

Result = TypeVar("Result")
HOSTS = ("a", "b", "c")
hosts = st.integers(0, len(HOSTS) - 1)


class Hosts(RuleBasedStateMachine):
    """`given` are the addresses that Docker has of each host."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.leaving = ExitStack()
        folder = self.leaving.enter_context(quick_folder())
        self.commons, self.clock = Commons(), Clock()
        self.plots = [Plot(self.commons, HostID(host), folder, self.clock) for host in HOSTS]
        self.given: list[set[str]] = [set() for _ in HOSTS]
        self.member = [False for _ in HOSTS]
        for plot in self.plots:
            self.run(plot.start())

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def asked(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        try:
            return self.run(work)
        except MdnpError:
            return None

    @initialize()
    def begin(self) -> None:
        self.create(0)

    @rule(number=hosts)
    def create(self, number: int) -> None:
        if not self.member[number]:
            self.member[number] = self.asked(self.plots[number].create("10.50.0.0/25")) is not None
            if not self.member[number]:
                self.run(self.undo(self.plots[number]))

    async def undo(self, plot: Plot) -> None:
        for network in plot.ipam.sharing._ledger.shared:  # noqa: SLF001  # as the driver does
            plot.ipam.sharing._ledger.share(network, shared=False)  # noqa: SLF001
        await plot.ipam.sharing.tend()
        if plot.ipam.knows(plot.pool):
            await plot.ipam.release_pool(plot.pool)
        await plot.seat.mend()

    @rule(number=hosts)
    def remove(self, number: int) -> None:
        if self.member[number]:
            self.run(self.plots[number].remove())
            self.member[number] = False
            self.given[number].clear()

    @rule(number=hosts, count=st.integers(1, 20))
    def addresses(self, number: int, count: int) -> None:
        async def some() -> list[str | BaseException]:
            return await asyncio.gather(*(self.plots[number].address() for _ in range(count)), return_exceptions=True)

        if self.member[number]:
            found = [one for one in self.run(some()) if isinstance(one, str)]
            assert len(set(found)) == len(found)
            self.given[number] |= set(found)

    @rule(number=hosts, last=st.integers(2, 126))
    def fixed(self, number: int, last: int) -> None:
        if self.member[number]:
            given = self.asked(self.plots[number].address(f"10.50.0.{last}"))
            self.given[number] |= {given} if given else set()

    @rule(number=hosts, data=st.data())
    def release(self, number: int, data: st.DataObject) -> None:
        if self.given[number]:
            some = data.draw(st.lists(st.sampled_from(sorted(self.given[number])), unique=True))
            for address in some:
                self.run(self.plots[number].release(address))
            self.given[number] -= set(some)

    @rule(number=hosts)
    def death(self, number: int) -> None:
        self.run(self.plots[number].restart())

    @rule(away=st.booleans())
    def etcd(self, away: bool) -> None:
        self.commons.away = away
        for plot in self.plots:
            self.run(plot.seat.mend())

    @precondition(lambda self: not self.commons.away)
    @rule(number=hosts)
    def tend(self, number: int) -> None:
        self.clock.now += 70

        async def work() -> None:
            await self.plots[number].ipam.sharing.tend()
            await self.plots[number].seat.mend()

        self.run(work())

    @invariant()
    def no_address_is_held_by_two(self) -> None:
        every = [address for given in self.given for address in given]
        assert len(set(every)) == len(every)
        for plot, given in zip(self.plots, self.given, strict=True):
            assert set(plot.held("endpoint")) == given
        own = [address for plot in self.plots for address in plot.held("host")]
        assert len({*own, *every}) == len(own) + len(every)

    @invariant()
    def no_block_is_of_two(self) -> None:
        blocks = [block for plot in self.plots for block in plot.blocks]
        assert len(set(blocks)) == len(blocks)

    def teardown(self) -> None:
        try:
            self.commons.away = False
            for number in range(len(HOSTS)):
                self.remove(number)
            for plot in self.plots:
                self.run(plot.seat.mend())
            assert (self.commons.owners, self.commons.claims) == ({}, {})
            assert [plot.blocks for plot in self.plots] == [[], [], []]
        finally:
            for plot in self.plots:
                self.run(plot.store.close())
            self.runner.close()
            self.leaving.close()


TestHosts = Hosts.TestCase
TestHosts.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
