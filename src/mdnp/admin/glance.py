"""
What the page shows, looked up no more often than it costs: however many look, calls of Docker's go first.

A look at all of the kernel takes a quarter of a millisecond per link, and who starts a container waits meanwhile.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from mdnp.admin import page, views
from mdnp.admin.routes import Answer, failure
from mdnp.admin.topology import Seen, topology
from mdnp.engine.directory import Directory
from mdnp.ipam.driver import IpamDriver
from mdnp.kernel import Kernel, Traffic
from mdnp.model.errors import KernelError
from mdnp.orphans.collector import Collector
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Store

Value = TypeVar("Value")

_LEAST_S = 1.0
_SHARE = 20  # a look is taken again after so many times what it took: it costs 5 % at most
_HEALTH_S = 5.0  # between two questions to Docker whether it is there


class Glance:
    """One for each daemon. Nothing runs while nobody looks."""

    def __init__(
        self,
        *,
        store: Store,
        kernel: Kernel,
        reconciler: Reconciler,
        ipam: IpamDriver,
        collector: Collector,
        directory: Directory,
        version: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._kernel = kernel
        self._reconciler = reconciler
        self._ipam = ipam
        self._collector = collector
        self._directory = directory
        self._version = version
        self._clock = clock
        self._started = clock()
        self._lock = asyncio.Lock()
        self._compared = _Kept(reconciler.compare, clock, _LEAST_S)
        self._traffic = _Kept(self._read, clock, _LEAST_S)
        self._health = _Kept(directory.health, clock, _HEALTH_S)

    async def answer(self) -> Answer:
        """200 with the topology, or 500 with {"error": …} when the kernel cannot be read."""
        try:
            async with self._lock:
                difference, actual = await self._compared.value()
                traffic, clock_s = await self._traffic.value()
                health = await self._health.value()
        except KernelError as error:
            return failure(500, str(error))
        promises = self._store.promises
        names = await self._directory.names(promises.networks, promises.endpoints)
        facts = views.Facts(
            version=self._version,
            uptime_s=self._clock() - self._started,
            repaired=self._reconciler.repaired,
            trouble=self._reconciler.trouble,
            docker=health,
            store_trouble=self._store.trouble,
            orphans=self._collector.left,
        )
        view = topology(
            host=socket.gethostname(),
            promises=promises,
            seen=Seen(difference, actual.dropped, traffic, clock_s),
            names=names,
            counts=self._ipam.counts(),
            facts=facts,
        )
        return Answer(200, msgspec.json.encode(view), headers=page.headers())

    async def _read(self) -> tuple[Mapping[str, Traffic], float]:
        return await self._kernel.traffic(), self._clock()


class _Kept(Generic[Value]):
    """What a look gave. It is taken again after `least_s` seconds, and no sooner than it costs."""

    def __init__(self, look: Callable[[], Awaitable[Value]], clock: Callable[[], float], least_s: float) -> None:
        self._look = look
        self._clock = clock
        self._least_s = least_s
        self._kept: Value | None = None
        self._until = float("-inf")

    async def value(self) -> Value:
        began = self._clock()
        if self._kept is None or began >= self._until:
            self._kept = await self._look()
            ended = self._clock()
            self._until = ended + max(self._least_s, _SHARE * (ended - began))
        return self._kept
