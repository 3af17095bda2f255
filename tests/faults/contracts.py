"""The contracts of the rooms with effects, each thing done through them a point."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from mdnp.dataplane.steps import Step
from mdnp.kernel import Actual, Failure, Kernel, Notice, Surroundings, Traffic
from mdnp.kernel.linux import _batches, _Failures
from mdnp.model.allocation import Record
from mdnp.model.errors import KernelError, StoreUnavailable
from mdnp.model.names import Called
from mdnp.model.pool import PoolID
from mdnp.store import Change, Drop, Fact, Known, Memory, Promises, Put, Tenure
from tests.faults.points import DONE, Faults, step_point

INJECTED = "an injected fault"


def _is_learned(change: Change) -> bool:
    """Beside the calls, when something comes: what the member hears of other hosts, and what Docker calls things."""
    match change:
        case Known() | Fact() | Put(Called()) | Drop(Called()):
            return True
    return False


class FaultyStore:
    def __init__(self, store: Memory, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    @property
    def promises(self) -> Promises:
        return self._store.promises

    @property
    def trouble(self) -> str:
        return self._store.trouble

    async def commit(self, *changes: Change) -> None:
        if all(map(_is_learned, changes)):
            await self._store.commit(*changes)
            return
        if self._faults.reach("store.commit"):
            raise StoreUnavailable(f"cannot write the state: {INJECTED}; nothing was changed")
        await self._store.commit(*changes)
        self._faults.reach("store.commit" + DONE)

    async def allocations(self, pool: PoolID) -> Sequence[Record]:
        self._begin_to_read()
        found = await self._store.allocations(pool)
        self._faults.reach("store.read" + DONE)
        return found

    async def history(self, name: str) -> Sequence[Tenure]:
        self._begin_to_read()
        found = await self._store.history(name)
        self._faults.reach("store.read" + DONE)
        return found

    async def fact(self, name: str, first: str) -> str:
        self._begin_to_read()
        found = await self._store.fact(name, first)
        self._faults.reach("store.read" + DONE)
        return found

    async def known(self) -> Sequence[Known]:
        self._begin_to_read()
        found = await self._store.known()
        self._faults.reach("store.read" + DONE)
        return found

    async def forget_known(self) -> None:
        await self._store.forget_known()

    async def close(self) -> None:
        await self._store.close()

    def _begin_to_read(self) -> None:
        if self._faults.reach("store.read"):
            raise StoreUnavailable(f"cannot read the state: {INJECTED}")


class FaultyKernel:
    """Takes the steps one by one, but those of nft that are one transaction: there is no point inside of it."""

    def __init__(self, kernel: Kernel, faults: Faults) -> None:
        self._kernel = kernel
        self._faults = faults

    async def observe(self) -> Actual:
        self._begin("kernel.observe")
        seen = await self._kernel.observe()
        self._faults.reach("kernel.observe" + DONE)
        return seen

    async def surroundings(self) -> Surroundings:
        self._begin("kernel.surroundings")
        seen = await self._kernel.surroundings()
        self._faults.reach("kernel.surroundings" + DONE)
        return seen

    async def perform(self, steps: Sequence[Step]) -> tuple[Failure, ...]:
        failures = _Failures()
        for batch in _batches(steps):
            await self._take(batch, failures)
        return tuple(failures.all)

    async def local_ports(self) -> range:
        self._begin("kernel.local_ports")
        ports = await self._kernel.local_ports()
        self._faults.reach("kernel.local_ports" + DONE)
        return ports

    async def traffic(self) -> Mapping[str, Traffic]:
        return await self._kernel.traffic()

    async def listen(self, heard: Callable[[Notice], None]) -> None:
        self._begin("kernel.listen")
        await self._kernel.listen(heard)
        self._faults.reach("kernel.listen" + DONE)

    async def reap(self) -> None:
        self._begin("kernel.reap")
        await self._kernel.reap()
        self._faults.reach("kernel.reap" + DONE)

    async def close(self) -> None:
        await self._kernel.close()

    def _begin(self, point: str) -> None:
        if self._faults.reach(point):
            raise KernelError(f"{point}: {INJECTED}")

    async def _take(self, batch: Sequence[Step], failures: _Failures) -> None:
        """Of a transaction's steps the first of each kind is a point."""
        due = failures.sift(batch)
        refused = [step for step in _firsts(due) if self._faults.reach(step_point(step))]
        rest: list[Step] = []
        for step in due:
            if step in refused:
                failures.add(step, KernelError(f"{step}: {INJECTED}"))
            else:
                rest += failures.sift([step])
        failed = await self._kernel.perform(rest) if rest else ()
        for failure in failed:
            failures.add(failure.step, failure.error)
        not_taken = [failure.step for failure in failed]
        for step in _firsts([step for step in rest if step not in not_taken]):
            self._faults.reach(step_point(step) + DONE)


def _firsts(batch: Sequence[Step]) -> Iterator[Step]:
    """The first of each kind."""
    kinds: set[str] = set()
    for step in batch:
        if step_point(step) not in kinds:
            kinds.add(step_point(step))
            yield step
