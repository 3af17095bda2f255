"""Frees what the engine forgot to give back: what nobody holds in two listings some seconds apart."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from mdnp.engine import Engine, EngineUnavailable
from mdnp.ipam.driver import IpamDriver
from mdnp.ipam.orphans import Orphan, orphans
from mdnp.model.errors import MdnpError
from mdnp.model.network import IPAddress
from mdnp.model.pool import PoolID
from mdnp.store import Store

log = logging.getLogger(__name__)

# Between the two listings of a collection that somebody waits for. A start that was under way at the first is
# either in the second, or about an allocation that is young.
APART_S = 3.0
_INTERVAL_S = 60.0


class Collector:
    """
    `grace_s` is the age in seconds from which something may be collected: longer than the slowest start of a container
    among many takes from its address to its place in the engine's list.
    """

    def __init__(
        self,
        store: Store,
        ipam: IpamDriver,
        engine: Engine,
        clock: Callable[[], float],
        grace_s: float,
        *,
        apart_s: float = APART_S,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._store = store
        self._ipam = ipam
        self._engine = engine
        self._clock = clock
        self._grace_s = grace_s
        self._apart_s = apart_s
        self._interval_s = interval_s
        self._names: Mapping[IPAddress, str] = {}
        self._seen: set[PoolID] = set()  # pools that this engine has listed while we ran
        self._available = True

    @property
    def names(self) -> Mapping[IPAddress, str]:
        """Who had which address at the last listing, as far as Docker could be asked."""
        return self._names

    async def find(self) -> list[Orphan]:
        """What stands in neither of two listings, and was not touched between them. Errors: EngineUnavailable."""
        first = await self._look()
        if not first:
            return []
        await asyncio.sleep(self._apart_s)
        second = await self._look()
        return [one for one in second if one in first]

    async def collect(self, *, unasked: bool = False) -> list[Orphan]:
        """
        Free what `find` finds. Errors: EngineUnavailable, then nothing is freed on a guess.

        `unasked` leaves alone the pools that this engine has never listed: another one on this host may have them.
        """
        found = [one for one in await self.find() if not unasked or one.pool in self._seen]
        for orphan in found:
            log.warning("freeing %s: nobody holds it", orphan)
            if orphan.allocation is None:
                await self._ipam.drop(orphan.pool, orphan.since)
            else:
                await self._ipam.free(orphan.pool, orphan.allocation)
        return found

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

    def _tell(self, available: bool, text: str) -> None:
        """Once, when it changes: an engine that is stopped is no trouble of ours."""
        if available is not self._available:
            log.info("%s", text)
        self._available = available

    async def _look(self) -> list[Orphan]:
        began = self._clock()
        listing = await self._engine.list()
        self._names = {address: name for address, name in listing.addresses.items() if name}
        await self._ipam.learn(self._names, began)
        pools = self._store.promises.pools
        self._seen |= {one.id for one in pools.values() if one.pool.network in listing.subnets}
        return orphans(pools.values(), self._ipam.allocations(), listing, began - self._grace_s)
