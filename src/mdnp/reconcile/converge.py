"""
`Reconciler.converge`: the one function that makes the kernel agree with the store.

A verb calls it for its own records, a member for what other hosts told, the start and the timer for everything; undo is
to take a promise back and call it again. What the kernel looks like is remembered, and read anew only in doubt: reading
everything takes a tenth of a millisecond per endpoint, which a container's start must not pay for all the others.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice

from mdnp.dataplane.objects import Jump, Key
from mdnp.dataplane.steps import HOST, Add, Delete, Doom, Owner, Step
from mdnp.kernel import Actual, Doubt, Failure, Gone, Kernel, Notice, is_row
from mdnp.measures import Measures
from mdnp.member import Alone, Outlook
from mdnp.model.errors import InUse, KernelError
from mdnp.reconcile.desired import Desired, Owned
from mdnp.reconcile.diff import Difference, diff
from mdnp.reconcile.memory import Memory
from mdnp.reconcile.scope import Scope
from mdnp.reconcile.wanted import Wanted
from mdnp.store import Store

log = logging.getLogger(__name__)

# Veths that are dropped within this time die together (a deletion waits 17 ms in the kernel, for one or for a hundred).
_GATHER_S = 0.005
# From a notice to a look at it: who changes a firewall makes many changes in a row (Docker takes its jump to
# DOCKER-USER out and puts it in again), and what is only half of them is no reason to act.
_SETTLE_S = 0.1
# What nobody tells us of is found this often: legacy iptables sends no notice of a flush.
CHECK_INTERVAL_S = 30.0
# So many owners of what others told at once: a verb waits for no more than these.
_AT_ONCE = 500
# Beyond these, rows are counted in the log and not written one by one, and so are failures.
_ROWS_TOLD, _FAILURES_TOLD = 10, 5


@dataclass(frozen=True)
class Outcome:
    """What converging did: the steps taken, those that failed, and what cannot be rebuilt."""

    steps: tuple[Step, ...] = ()
    failures: tuple[Failure, ...] = ()
    lost: tuple[Owned, ...] = ()

    def failure_of(self, *owners: Owner) -> Failure | None:
        return next((failure for failure in self.failures if failure.step.owner in owners), None)

    @property
    def doubtful(self) -> bool:
        """Whether what failed may be due to a change behind our back."""
        return any(map(_is_doubtful, self.failures))


class Reconciler:
    """One for each daemon. `run` runs beside it: it repairs what drifts, and buries what a verb left to die."""

    def __init__(
        self,
        store: Store,
        kernel: Kernel,
        check_interval_s: float = CHECK_INTERVAL_S,
        measures: Measures | None = None,
        outlook: Outlook | None = None,
    ) -> None:
        self._kernel = kernel
        self._measures = measures or Measures()
        self._scope = Scope(store, outlook or Alone())
        self._check_interval_s = check_interval_s
        self._memory: Memory | None = None
        self._wanted = Wanted()
        self._changed: dict[Owner, None] = {}
        self._doomed: set[Key] = set()
        self._listens = False
        self._heard: list[Notice] = []
        self.trouble = ""  # why what we want is not there, as of the last attempt
        self.drift = 0  # steps that failed and are still needed, as of the last attempt
        self._dropped: Mapping[str, int] = {}
        self._lost: set[Owner] = set()
        self._in_step = False  # everything was looked at once
        self.repaired = 0  # places where others had changed something
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
            began = time.perf_counter()
            try:
                outcome = await self._attempt(owners)
                if outcome.doubtful:
                    steps = (*outcome.steps, *(failure.step for failure in outcome.failures))
                    outcome = await self._attempt((), set(map(_key, steps)))
                return outcome
            finally:
                self._measures.converging.observe(time.perf_counter() - began, "owners" if owners else "all")

    def changed(self, owners: Iterable[Owner]) -> None:
        """
        What other hosts tell has changed of these: remote endpoints, segments, or networks of segments. They are
        converged soon, by `run`; nothing is awaited, and no call of Docker's fails by them.
        """
        self._changed |= dict.fromkeys(owners)
        self._wake.set()

    async def repair(self) -> Outcome:
        """Look at everything now, and make it agree. Errors: KernelError when the kernel cannot be read."""
        self._memory = None
        return await self.converge()

    async def compare(self) -> tuple[Difference, Actual]:
        """Desired less actual, and the actual that was seen for it; with no step taken."""
        async with self._lock:
            seen = await self._kernel.observe()
            self._dropped = seen.dropped
            return diff(self._plan_all(seen).desired, seen), seen

    @property
    def converging(self) -> bool:
        """Whether the kernel is being looked at or changed."""
        return self._lock.locked()

    @property
    def dropped(self) -> Mapping[str, int]:
        """What the guard has dropped, by host end, as of the last look at everything."""
        return self._dropped

    @property
    def lost(self) -> Set[Owner]:
        """Whose links cannot be rebuilt, as far as was looked."""
        return self._lost

    def owner(self, key: Key) -> Owner | None:
        """For whom something is wanted at this place."""
        owned = self._wanted.desired.get(key)
        return owned.owner if owned else None

    async def listen(self) -> None:
        """Have the kernel tell of changes from now on; where it cannot, that is tried again at each look."""
        try:
            await self._kernel.listen(self.hear)
            self._listens = True
        except KernelError as error:
            log.warning("what others change is only seen every %s s: %s", self._check_interval_s, error)

    def hear(self, notice: Notice) -> None:
        """It is looked at a moment later: what we did ourselves is remembered by then."""
        self._heard.append(notice)
        self._wake.set()

    def doubt(self) -> None:
        """Something may have changed the kernel behind our back: look before the next step, and soon."""
        self._memory = None
        self._wake.set()

    async def run(self) -> None:
        """Repair and bury, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._check_interval_s):  # wait_for of 3.11 can lose a cancellation
                    await self._wake.wait()
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
            await self._follow()
            if self._heard:
                await self._wait_for_quiet()
                await self._heed()
            if self._memory is None:
                if not self._listens:
                    await self.listen()
                await self.converge()
        except KernelError as error:
            log.warning("will try again in %s s: %s", self._check_interval_s, error)

    async def _wait_for_quiet(self) -> None:
        """What others tell does not wait for that: rows of ours that went when they told so are noticed as well."""
        until = asyncio.get_running_loop().time() + _SETTLE_S
        while await self._woken(until):
            await self.bury()
            await self._follow()

    async def _woken(self, until: float) -> bool:
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def _follow(self) -> None:
        """Converge what others told, some of it at a time: verbs have their turns in between."""
        while self._changed:
            owners = list(islice(self._changed, _AT_ONCE))
            for owner in owners:
                del self._changed[owner]
            await self.converge(*owners)

    async def _heed(self) -> None:
        """Doubt what is remembered if the kernel told otherwise."""
        async with self._lock:
            heard, self._heard = self._heard, []
            for notice in heard:
                reason = self._contradiction(notice)
                if reason:
                    log.info("looking again: %s", reason)
                    self._memory = None
                    return

    def _contradiction(self, notice: Notice) -> str:
        match notice:
            case Doubt(reason):
                return reason
            case Gone(key) if self._memory is not None and key in self._memory.actual.objects:
                return f"{' '.join(key)} is gone"
        return ""

    async def _attempt(self, owners: Sequence[Owner], tried: Set[Key] = frozenset()) -> Outcome:
        """`tried` are the places of the steps of an attempt before this one."""
        before = self._wanted.desired
        memory, keys = await self._replan(owners)
        difference = diff(self._wanted.desired, memory.actual, keys)
        self._lost = (self._lost - set(owners) if owners else set()) | {one.owner for one in difference.lost}
        await self._clear_way(difference.steps)
        failures = await self._kernel.perform(difference.steps) if difference.steps else ()
        outcome = self._settle(memory, difference, failures)
        told = [one for one in failures if not (owners and isinstance(one.error, InUse))]
        if told or keys is None:  # only a look at everything sees that a trouble has ended
            self._report(told)
        if keys is None:
            self._count_repairs([step for step in outcome.steps if _key(step) not in tried], before)
        return outcome

    def _count_repairs(self, steps: Iterable[Step], before: Desired) -> None:
        """
        Of a look at everything the steps at places where we want what we wanted before: there somebody else was. The
        first look brings the host in sync, and is no repair.
        """
        if self._in_step:
            keys = {_key(step): step for step in steps}
            self.repaired += sum(
                before.get(key) == self._wanted.desired.get(key) or _is_repair(step) for key, step in keys.items()
            )
        self._in_step = True

    async def _replan(self, owners: Sequence[Owner]) -> tuple[Memory, list[Key] | None]:
        """Bring what we want and what we know up to date; the keys to compare at, or None for everywhere."""
        if self._memory is None or not owners:
            seen = await self._kernel.observe()
            self._dropped = seen.dropped
            if seen.doomed:
                await self._kernel.reap()
            self._memory = Memory(seen)
            self._wanted = self._plan_all(seen)
            return self._memory, None
        seen = self._memory.actual
        planned = self._scope.of(owners)
        keys = [key for owner in (HOST, *planned) for key in self._wanted.put(owner, self._scope.plan(owner, seen))]
        return self._memory, list(dict.fromkeys(keys))

    def _plan_all(self, seen: Actual) -> Wanted:
        wanted = Wanted()
        for owner in (HOST, *self._scope.every()):
            wanted.put(owner, self._scope.plan(owner, seen))
        return wanted

    async def _clear_way(self, steps: Iterable[Step]) -> None:
        """A link that is to be made again may still be dying under its name."""
        if any(isinstance(step, Add) and step.object.key in self._doomed for step in steps):
            await self.bury()

    def _settle(self, memory: Memory, difference: Difference, failures: tuple[Failure, ...]) -> Outcome:
        failed = {failure.step for failure in failures}
        taken = tuple(step for step in difference.steps if step not in failed)
        _log(taken)
        for step in taken:
            memory.follow(step)
            if isinstance(step, Doom):
                self._doomed.add(step.link.key)
                self._wake.set()
        return Outcome(taken, failures, difference.lost)

    def _report(self, failures: Sequence[Failure]) -> None:
        """Say a trouble once, and its end. That a port is in use a verb tells its caller, or tries the next one."""
        if any(map(_is_doubtful, failures)):
            self._memory = None
        reasons = list(dict.fromkeys(str(failure.error) for failure in failures))
        more = [f"and {len(reasons) - _FAILURES_TOLD} more"] if len(reasons) > _FAILURES_TOLD else []
        trouble = "; ".join([*reasons[:_FAILURES_TOLD], *more])
        if trouble != self.trouble:
            log.warning("not in sync: %s" if trouble else "in sync again%s", trouble)
        self.trouble = trouble
        self.drift = len(failures)


def _log(taken: Sequence[Step]) -> None:
    rows = sum(map(is_row, taken))
    for step in taken:
        if rows <= _ROWS_TOLD or not is_row(step):
            log.info("%s", step)
    if rows > _ROWS_TOLD:
        log.info("%s rows of forwarding tables and neighbours added or deleted", rows)


def _is_doubtful(failure: Failure) -> bool:
    """
    That others have what we want is known then. Of a row that fails the next look in time will do: what one of many
    hosts tells must not make every verb look at everything.
    """
    return not isinstance(failure.error, InUse) and not is_row(failure.step)


def _is_repair(step: Step) -> bool:
    """A jump of ours is only wanted since somebody removed Docker's."""
    return isinstance(step, Add) and isinstance(step.object, Jump)


def _key(step: Step) -> Key:
    return step.object.key if isinstance(step, Add | Delete) else step.link.key
