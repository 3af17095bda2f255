"""
`Reconciler.converge`: the one function that makes the kernel agree with the store.

A verb calls it for its own records, the start and the timer for everything; undo is to take a promise back and call it
again. What the kernel looks like is remembered, and read anew only in doubt: reading everything takes a quarter of a
millisecond per link, which a container's start must not pay for all the others.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mdnp.dataplane.objects import Key
from mdnp.dataplane.steps import Add, Doom, Owner, Step
from mdnp.kernel import Failure, Kernel
from mdnp.model.errors import KernelError
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.reconcile import desired
from mdnp.reconcile.desired import Desired, Owned
from mdnp.reconcile.diff import Difference, diff
from mdnp.reconcile.memory import Memory
from mdnp.store import Store

log = logging.getLogger(__name__)

# Veths that are dropped within this time die together (a deletion waits 17 ms in the kernel, for one or for a hundred).
_GATHER_S = 0.005
# What nobody tells us of is found this often: legacy iptables sends no notice of a flush.
CHECK_INTERVAL_S = 30.0


@dataclass(frozen=True)
class Outcome:
    """What converging did: the steps taken, those that failed, and what cannot be rebuilt."""

    steps: tuple[Step, ...] = ()
    failures: tuple[Failure, ...] = ()
    lost: tuple[Owned, ...] = ()

    def error_of(self, owner: Owner) -> KernelError | None:
        return next((failure.error for failure in self.failures if failure.step.owner == owner), None)


class Reconciler:
    """One for each daemon. `run` runs beside it: it repairs what drifts, and buries what a verb left to die."""

    def __init__(self, store: Store, kernel: Kernel, check_interval_s: float = CHECK_INTERVAL_S) -> None:
        self._store = store
        self._kernel = kernel
        self._check_interval_s = check_interval_s
        self._memory: Memory | None = None
        self._desired: dict[Key, Owned] = {}
        self._keys: dict[Owner, list[Key]] = {}
        self._doomed: set[Key] = set()
        self._trouble = ""
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()

    async def converge(self, *owners: Owner) -> Outcome:
        """
        Make the kernel agree with what is promised to `owners`, or to all.

        A step that fails puts the memory in doubt: then everything is looked at and tried once more, since the kernel
        may have been changed behind our back. What fails again is in the outcome. KernelError is raised only when the
        kernel cannot be read.
        """
        async with self._lock:
            from_memory = self._memory is not None and bool(owners)
            outcome = await self._attempt(owners)
            if outcome.failures and from_memory:
                outcome = await self._attempt(())
            return outcome

    async def compare(self) -> Difference:
        """Desired less actual, looked up anew, with no step taken."""
        async with self._lock:
            return diff(self._plan_all(), await self._kernel.observe())

    def doubt(self) -> None:
        """Something may have changed the kernel behind our back: look before the next step, and soon."""
        self._memory = None
        self._wake.set()

    async def run(self) -> None:
        """Repair and bury, until cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), self._check_interval_s)
                await asyncio.sleep(_GATHER_S)
            except TimeoutError:
                self._memory = None
            self._wake.clear()
            await self._tend()

    async def bury(self) -> None:
        """Delete what was left to die."""
        doomed, self._doomed = self._doomed, set()
        if doomed:
            try:
                await self._kernel.reap()
            except KernelError:
                self._doomed |= doomed
                raise

    async def _tend(self) -> None:
        try:
            await self.bury()
            if self._memory is None:
                await self.converge()
        except KernelError as error:
            log.warning("will try again in %s s: %s", self._check_interval_s, error)

    async def _attempt(self, owners: Sequence[Owner]) -> Outcome:
        memory, keys = await self._replan(owners)
        difference = diff(self._desired, memory.actual, keys)
        await self._clear_way(difference.steps)
        failures = await self._kernel.perform(difference.steps) if difference.steps else ()
        return self._settle(memory, difference, failures)

    async def _replan(self, owners: Sequence[Owner]) -> tuple[Memory, list[Key] | None]:
        """Bring what we want and what we know up to date; the keys to compare at, or None for everywhere."""
        if self._memory is None or not owners:
            seen = await self._kernel.observe()
            if seen.doomed:
                await self._kernel.reap()
            self._memory = Memory(seen)
            self._desired = self._plan_all()
            self._keys = _by_owner(self._desired)
            return self._memory, None
        before = [key for owner in owners for key in self._keys.pop(owner, ())]
        for key in before:
            del self._desired[key]
        after = self._plan(owners)
        self._desired |= after
        self._keys |= _by_owner(after)
        return self._memory, list(dict.fromkeys([*before, *after]))

    def _plan_all(self) -> dict[Key, Owned]:
        promises = self._store.promises
        return self._plan([*map(Owner, promises.networks), *map(Owner, promises.endpoints)])

    def _plan(self, owners: Iterable[Owner]) -> dict[Key, Owned]:
        planned: dict[Key, Owned] = {}
        promises = self._store.promises
        for owner in owners:
            network = promises.networks.get(NetworkID(owner))
            if network:
                planned |= desired.of_network(network)
            endpoint = promises.endpoints.get(EndpointID(owner))
            if endpoint:
                planned |= desired.of_endpoint(promises.networks[endpoint.network_id], endpoint)
        return planned

    async def _clear_way(self, steps: Iterable[Step]) -> None:
        """A link that is to be made again may still be dying under its name."""
        if any(isinstance(step, Add) and step.object.key in self._doomed for step in steps):
            await self.bury()

    def _settle(self, memory: Memory, difference: Difference, failures: tuple[Failure, ...]) -> Outcome:
        failed = {failure.step for failure in failures}
        taken = tuple(step for step in difference.steps if step not in failed)
        for step in taken:
            log.info("%s", step)
            memory.follow(step)
            if isinstance(step, Doom):
                self._doomed.add(step.link.key)
                self._wake.set()
        self._report(failures)
        return Outcome(taken, failures, difference.lost)

    def _report(self, failures: tuple[Failure, ...]) -> None:
        """Say a trouble once, and its end."""
        if failures:
            self._memory = None
        trouble = "; ".join(str(failure.error) for failure in failures)
        if trouble != self._trouble:
            log.warning("not in sync: %s" if trouble else "in sync again%s", trouble)
        self._trouble = trouble


def _by_owner(planned: Desired) -> dict[Owner, list[Key]]:
    keys: dict[Owner, list[Key]] = {}
    for key, owned in planned.items():
        keys.setdefault(owned.owner, []).append(key)
    return keys
