"""
The grounds that the suite of the cluster room stands on: one contract, a cluster in memory and a real etcd.

`Ground` is what happens to a cluster, beside what its members do.
"""

import asyncio
from pathlib import Path
from typing import Protocol

from mdnp.cluster import Cluster, Entry
from mdnp.cluster.access import Access, connect
from mdnp.cluster.fake import FakeCluster
from mdnp.model.etcd_url import parse_etcd_url
from rig.etcd import Etcd


class Ground(Protocol):
    cluster: Cluster

    async def compact(self) -> None:
        """Forget all that was before now."""

    async def freeze(self) -> None:
        """Connections stay, and nothing comes."""

    async def thaw(self) -> None: ...

    async def go(self) -> None:
        """It ends, and its data stay."""

    async def come_back(self) -> None: ...

    async def expire(self, lease: int) -> None:
        """Nobody keeps the lease alive until its time is over."""

    async def pass_time(self, seconds: float) -> None:
        """For what etcd counts."""

    async def lose(self) -> None:
        """All data are gone; it is there again at once."""

    async def save(self) -> None: ...

    async def restore(self) -> None:
        """Back to what was saved, as a cluster of another id."""


class Memory:
    def __init__(self) -> None:
        self.fake = FakeCluster()
        self.cluster: Cluster = self.fake
        self._saved: dict[str, Entry] = {}

    async def compact(self) -> None:
        self.fake.compact()

    async def freeze(self) -> None:
        self.fake.frozen = True

    async def thaw(self) -> None:
        self.fake.frozen = False

    async def go(self) -> None:
        self.fake.go()

    async def come_back(self) -> None:
        self.fake.away = False

    async def expire(self, lease: int) -> None:
        self.fake.expire(lease)

    async def pass_time(self, seconds: float) -> None:
        """Time passes by `expire`."""

    async def lose(self) -> None:
        self.fake.lose()

    async def save(self) -> None:
        self._saved = dict(self.fake.entries)

    async def restore(self) -> None:
        self.fake.cluster += 1
        self.fake.lose(self._saved)


class Real:
    """An etcd of its own, started. What is done to it takes a thread, since the clients' loop must go on meanwhile."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.cluster = client(etcd)
        self._saved = Path()

    async def compact(self) -> None:
        await asyncio.to_thread(self.etcd.compact)

    async def freeze(self) -> None:
        self.etcd.freeze()

    async def thaw(self) -> None:
        self.etcd.thaw()

    async def go(self) -> None:
        await asyncio.to_thread(self.etcd.kill)

    async def come_back(self) -> None:
        await asyncio.to_thread(self.etcd.start)

    async def expire(self, lease: int) -> None:
        """It does so by itself."""

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def lose(self) -> None:
        await asyncio.to_thread(self.etcd.lose)

    async def save(self) -> None:
        self._saved = await asyncio.to_thread(self.etcd.save)

    async def restore(self) -> None:
        await asyncio.to_thread(self.etcd.restore, self._saved, cluster="another")


def client(*etcds: Etcd, access: Access | None = None) -> Cluster:
    """A client of these members, in the order given."""
    return connect([parse_etcd_url(one.url) for one in etcds], access or Access())
