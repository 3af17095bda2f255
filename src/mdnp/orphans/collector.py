"""Asks Docker now and then, and has taken back what stands in neither of two listings some seconds apart."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from mdnp.engine import Engine, EngineUnavailable, Listing
from mdnp.model.errors import MdnpError
from mdnp.orphans import Keeper, Orphan

log = logging.getLogger(__name__)

# Between the two listings of a collection that somebody waits for. A start that was under way at the first is
# either in the second, or about a promise that is young.
APART_S = 3.0
_INTERVAL_S = 60.0
_SET_S = 1.0  # a clock that differs by more was set; what NTP slews away is less between two collections

_Found = tuple[Keeper, Orphan]


class Collector:
    """
    `grace_s` is the age in seconds from which something may be collected: longer than the slowest start of a container
    among many takes from its address to its place in the engine's list. Ages are by `clock`, the host's, for promises
    outlive the daemon; `steady` is one that nobody sets.
    """

    def __init__(
        self,
        keepers: Sequence[Keeper],
        engine: Engine,
        clock: Callable[[], float],
        grace_s: float,
        *,
        steady: Callable[[], float] = time.monotonic,
        apart_s: float = APART_S,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._keepers = keepers
        self._engine = engine
        self._clock = clock
        self._steady = steady
        self._offset = clock() - steady()
        self._ages_hold_from = steady()
        self._grace_s = grace_s
        self._apart_s = apart_s
        self._interval_s = interval_s
        self.left: Sequence[Orphan] = ()  # found by the last collection, and left to whom asks for it
        self._available = True

    async def find(self) -> list[Orphan]:
        """What stands in neither of two listings, and was not touched between them. Errors: EngineUnavailable."""
        return [orphan for _, orphan in await self._find()]

    async def collect(self, *, unasked: bool = False) -> list[Orphan]:
        """
        Free what `find` finds. Errors: EngineUnavailable, then nothing is freed on a guess.

        `unasked` leaves alone what this engine has never listed, for another one on this host may have it; and all,
        for the grace time after the clock was set, for a promise of just now may look old.
        """
        found = await self._find()
        if unasked:
            hold = self._ages_hold()
            freed = [(keeper, orphan) for keeper, orphan in found if hold and keeper.is_engines(orphan)]
        else:
            freed = found
        self.left = [orphan for keeper, orphan in found if (keeper, orphan) not in freed]
        for keeper, orphan in freed:
            log.warning("freeing %s: nobody has it", orphan)
            await keeper.free(orphan)
        return [orphan for _, orphan in freed]

    async def run(self) -> None:
        """Collect now and then, until cancelled."""
        while True:
            await asyncio.sleep(min(self._interval_s, max(1.0, self._grace_s)))
            try:
                await self.collect(unasked=True)
            except EngineUnavailable as error:
                self._tell(False, str(error))
            except MdnpError as error:
                log.warning("collecting will be tried again: %s", error)
            else:
                self._tell(True, "Docker can be asked again")

    async def _find(self) -> list[_Found]:
        first = await self._look()
        if not first:
            return []
        await asyncio.sleep(self._apart_s)
        second = await self._look()
        return [one for one in second if one in first]

    def _ages_hold(self) -> bool:
        now = self._steady()
        before, self._offset = self._offset, self._clock() - now
        set_by = self._offset - before
        if abs(set_by) > _SET_S:
            log.warning("the clock was set by %+.0f s: nothing is freed unasked for %g s", set_by, self._grace_s)
            self._ages_hold_from = now + self._grace_s
        return now >= self._ages_hold_from

    def _tell(self, available: bool, text: str) -> None:
        """Once, when it changes: an engine that is stopped is no trouble of ours."""
        if available is not self._available:
            log.info("%s", text)
        self._available = available

    async def _look(self) -> list[_Found]:
        began = self._clock()
        listing = await self._engine.list()
        for keeper in self._keepers:
            await keeper.learn(listing, began)
        return self._orphans(listing, began - self._grace_s)

    def _orphans(self, listing: Listing, before: float) -> list[_Found]:
        return [(keeper, orphan) for keeper in self._keepers for orphan in keeper.orphans(listing, before)]
