"""
The contracts of the rooms below, with a clock on them: each passes all on, and counts what it sees.

So kernel, store and engine know nothing of metrics, and whoever uses them neither.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from mdnp.dataplane.objects import Accept, Jump, Link
from mdnp.dataplane.steps import Add, Delete, Step
from mdnp.engine import Engine, EngineUnavailable, Listing
from mdnp.kernel import Actual, Failure, Kernel, Notice, Surroundings, Traffic
from mdnp.measures import Histogram, Measures
from mdnp.model.allocation import Record
from mdnp.model.errors import MdnpError
from mdnp.model.pool import PoolID
from mdnp.orphans import Keeper, Orphan
from mdnp.store import Change, Known, Memory, Promises, Tenure


@contextmanager
def _timed(measure: Histogram) -> Iterator[None]:
    """What fails is not a time of anything."""
    began = time.perf_counter()
    yield
    measure.observe(time.perf_counter() - began)


class MeasuredKernel:
    def __init__(self, kernel: Kernel, measures: Measures) -> None:
        self._kernel = kernel
        self._measures = measures

    async def observe(self) -> Actual:
        with _timed(self._measures.looks):
            return await self._kernel.observe()

    async def surroundings(self) -> Surroundings:
        return await self._kernel.surroundings()

    async def perform(self, steps: Sequence[Step]) -> tuple[Failure, ...]:
        with _timed(self._measures.performing):
            failures = await self._kernel.perform(steps)
        failed = {failure.step for failure in failures}
        for step in steps:
            counter = self._measures.failed_steps if step in failed else self._measures.steps
            counter.add(*kind_of(step))
        return failures

    async def local_ports(self) -> range:
        return await self._kernel.local_ports()

    async def traffic(self) -> Mapping[str, Traffic]:
        return await self._kernel.traffic()

    async def listen(self, heard: Callable[[Notice], None]) -> None:
        await self._kernel.listen(heard)

    async def reap(self) -> None:
        await self._kernel.reap()

    async def close(self) -> None:
        await self._kernel.close()


def kind_of(step: Step) -> tuple[str, str]:
    """A step's kind, and that of its object: "add", "veth"."""
    subject = step.object if isinstance(step, Add | Delete) else step.link
    if isinstance(subject, Accept | Jump):
        return type(step).__name__.lower(), "rule"
    if isinstance(subject, Link):
        return type(step).__name__.lower(), subject.kind or "link"
    return type(step).__name__.lower(), type(subject).__name__.lower()


class MeasuredStore:
    def __init__(self, store: Memory, measures: Measures) -> None:
        self._store = store
        self._measures = measures

    @property
    def promises(self) -> Promises:
        return self._store.promises

    @property
    def trouble(self) -> str:
        return self._store.trouble

    async def commit(self, *changes: Change) -> None:
        try:
            with _timed(self._measures.commits):
                await self._store.commit(*changes)
        except MdnpError:
            self._measures.commit_errors.add()
            raise

    async def allocations(self, pool: PoolID) -> Sequence[Record]:
        return await self._store.allocations(pool)

    async def history(self, name: str) -> Sequence[Tenure]:
        return await self._store.history(name)

    async def fact(self, name: str, first: str) -> str:
        return await self._store.fact(name, first)

    async def known(self) -> Sequence[Known]:
        return await self._store.known()

    async def forget_known(self) -> None:
        await self._store.forget_known()

    async def close(self) -> None:
        await self._store.close()


class MeasuredEngine:
    def __init__(self, engine: Engine, measures: Measures) -> None:
        self._engine = engine
        self._measures = measures

    async def list(self) -> Listing:
        with self._asked(), _timed(self._measures.listings):
            return await self._engine.list()

    async def version(self) -> str:
        with self._asked():
            return await self._engine.version()

    async def close(self) -> None:
        await self._engine.close()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Whether it answered. Who could not wait for it says nothing of that."""
        try:
            yield
        except EngineUnavailable:
            self._measures.unanswered.add()
            self._measures.docker_up = False
            raise
        self._measures.docker_up = True


class MeasuredKeeper:
    def __init__(self, keeper: Keeper, measures: Measures) -> None:
        self._keeper = keeper
        self._measures = measures

    async def learn(self, listing: Listing, began: float) -> None:
        await self._keeper.learn(listing, began)

    def orphans(self, listing: Listing, before: float) -> Sequence[Orphan]:
        return self._keeper.orphans(listing, before)

    def is_engines(self, orphan: Orphan) -> bool:
        return self._keeper.is_engines(orphan)

    async def free(self, orphan: Orphan) -> None:
        await self._keeper.free(orphan)
        self._measures.freed.add(orphan.kind)
