"""The metrics as Prometheus reads them: what was counted, and what is known at the moment."""

import asyncio
import platform
from collections.abc import Callable

from mdnp.admin import metrics, process
from mdnp.admin.cluster import Cluster
from mdnp.admin.routes import Answer
from mdnp.dns.standing import Standing
from mdnp.engine.directory import Directory
from mdnp.ipam.driver import IpamDriver
from mdnp.kernel import Kernel, Traffic
from mdnp.measures import CONTENT_TYPE, Measures, expose
from mdnp.model.errors import KernelError
from mdnp.orphans.collector import Collector
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Promises, Store


class Exposition:
    """
    The links are read once for each scrape; all else is in memory. The guard's counts are those of the last look at
    the kernel. `database_bytes` tells the size of the database, `naming` how it stands with names, None where there are
    none to answer.
    """

    def __init__(
        self,
        *,
        measures: Measures,
        store: Store,
        kernel: Kernel,
        reconciler: Reconciler,
        ipam: IpamDriver,
        collector: Collector,
        directory: Directory,
        version: str,
        database_bytes: Callable[[], int],
        cluster: Cluster | None = None,
        naming: Callable[[], Standing | None] = lambda: None,
    ) -> None:
        self._measures = measures
        self._store = store
        self._kernel = kernel
        self._reconciler = reconciler
        self._ipam = ipam
        self._collector = collector
        self._directory = directory
        self._build = {"version": version, "python": platform.python_version(), "kernel": platform.release()}
        self._database_bytes = database_bytes
        self._cluster = cluster
        self._naming = naming

    async def answer(self) -> Answer:
        """Written in a thread: a thousand endpoints have 8,000 lines, for which no call should wait."""
        traffic = await self._traffic()
        counted = expose(self._measures.metrics())
        facts = metrics.Facts(
            promises=self._promises(),
            pools=self._ipam.counts(),
            traffic=traffic,
            process=process.read(),
            build=self._build,
            dropped=self._reconciler.dropped,
            names=self._directory.known,
            orphans=self._collector.left,
            repaired=self._reconciler.repaired,
            drift=self._reconciler.drift,
            lost=len(self._reconciler.lost),
            database_bytes=self._database_bytes(),
            cluster=self._cluster.facts if self._cluster else None,
            remotes=len(self._cluster.outlook.remotes) if self._cluster else 0,
            naming=self._naming(),
        )
        known = await asyncio.to_thread(lambda: expose(metrics.metrics(facts)))
        return Answer(200, counted + known, CONTENT_TYPE)

    async def _traffic(self) -> dict[str, Traffic] | None:
        """None where the kernel cannot be read: the rest is told all the same."""
        try:
            return dict(await self._kernel.traffic())
        except KernelError:
            return None

    def _promises(self) -> Promises:
        """As they are now: the store's change under the thread's hands."""
        promises = self._store.promises
        return Promises(dict(promises.networks), dict(promises.endpoints), dict(promises.pools), dict(promises.blocks))
