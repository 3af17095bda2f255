"""A cluster whose calls are counted by kind."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence

from mdnp.cluster import Batch, Change, Cluster, Snapshot, Unchanged


class CountedCluster:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.requests: Counter[str] = Counter()

    async def snapshot(self, prefix: str) -> Snapshot:
        self.requests["snapshot"] += 1
        return await self._cluster.snapshot(prefix)

    async def commit(self, conditions: Sequence[Unchanged], changes: Sequence[Change]) -> int | None:
        self.requests["commit"] += 1
        return await self._cluster.commit(conditions, changes)

    async def grant(self, ttl_s: int) -> int:
        self.requests["grant"] += 1
        return await self._cluster.grant(ttl_s)

    async def keep_alive(self, lease: int) -> None:
        self.requests["keep_alive"] += 1
        await self._cluster.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        self.requests["revoke"] += 1
        await self._cluster.revoke(lease)

    def watch(self, prefix: str, after: int) -> AsyncIterator[Batch]:
        self.requests["watch"] += 1
        return self._cluster.watch(prefix, after)

    async def close(self) -> None:
        await self._cluster.close()
