"""
An etcd in memory, for tests of everything above, in the words of the contract. Several members share one.

It passes the suite that the real one passes.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from mdnp.cluster import (
    HEARTBEAT_S,
    LIMIT_S,
    Batch,
    Change,
    ClusterUnavailable,
    Compacted,
    Delete,
    Entry,
    Event,
    LeaseGone,
    Put,
    Snapshot,
    Unchanged,
)


class FakeCluster:
    """
    `away` says that no server answers (see `go`); `frozen` that connections stay and nothing comes. `requests` counts
    the calls that were answered. `expire` is a test's way to let the time of a lease run out.
    """

    def __init__(self, cluster: int = 1) -> None:
        self.cluster = cluster
        self.away = False
        self.frozen = False
        self.requests = 0
        self.revision = 1
        self.entries: dict[str, Entry] = {}
        self.leases: dict[int, set[str]] = {}
        self._history: list[Batch] = []
        self._compacted = 0
        self._news = asyncio.Event()
        self._granted = 0
        self._breaks = 0

    async def snapshot(self, prefix: str) -> Snapshot:
        await self._answer()
        found = {key: entry for key, entry in sorted(self.entries.items()) if key.startswith(prefix)}
        return Snapshot(self.cluster, self.revision, found)

    async def commit(self, conditions: Sequence[Unchanged], changes: Sequence[Change]) -> int | None:
        await self._answer()
        if len({one.key for one in changes}) < len(changes):
            raise ClusterUnavailable("etcdserver: duplicate key given in txn request")
        if not all(self._revision_of(one.key) == one.revision for one in conditions):
            return None
        if gone := {one.lease for one in changes if isinstance(one, Put) and one.lease} - set(self.leases):
            raise LeaseGone(f"leases {gone} have ended")
        self._apply(changes)
        return self.revision

    async def grant(self, ttl_s: int) -> int:  # noqa: ARG002  # time passes by `expire`
        await self._answer()
        self._granted += 1
        self.leases[self._granted] = set()
        return self._granted

    async def keep_alive(self, lease: int) -> None:
        await self._answer()
        if lease not in self.leases:
            raise LeaseGone(f"lease {lease} has ended")

    async def revoke(self, lease: int) -> None:
        await self._answer()
        self.expire(lease)

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Batch]:
        await self._answer()
        if not self._compacted <= after <= self.revision:
            raise Compacted(f"revision {after} is none of {self._compacted} to {self.revision}")
        breaks = self._breaks
        while True:
            if self.away or breaks != self._breaks:
                raise ClusterUnavailable("the connection broke")
            news = self._news
            for batch in [one for one in self._history if one.revision > after]:
                after = batch.revision
                events = tuple(one for one in batch.events if one.key.startswith(prefix))
                if events:
                    yield Batch(batch.revision, events)
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await news.wait()
            except TimeoutError:
                await self._answer()
                yield Batch(after)

    async def close(self) -> None:
        await asyncio.sleep(0)

    def expire(self, *leases: int) -> None:
        """The time of these leases, or of all, runs out; a frozen server does that when it thaws."""
        for lease in leases or tuple(self.leases):
            keys = self.leases.pop(lease, set())
            self._apply([Delete(key) for key in sorted(keys)])

    def compact(self) -> None:
        self._compacted = self.revision
        self._history.clear()

    def lose(self, restored: Mapping[str, Entry] | None = None) -> None:
        """
        All data is gone, or what a backup has is there; watches break.

        The id stays, as that of an etcd which begins anew under its name and URL; set `cluster` for another.
        """
        self.revision = max((one.revision for one in (restored or {}).values()), default=1)
        self.entries = dict(restored or {})
        self.leases.clear()
        self._history = [one for one in self._history if one.revision <= self.revision]
        self._compacted = min(self._compacted, self.revision)
        self.break_watches()

    def go(self) -> None:
        """No server answers any more, and watches break; `away` is set."""
        self.away = True
        self.break_watches()

    def break_watches(self) -> None:
        self._breaks += 1
        self._wake()

    def _apply(self, changes: Sequence[Change]) -> None:
        events = [event for change in changes if (event := self._change(change))]
        if events:
            self.revision += 1
            self._history.append(Batch(self.revision, tuple(events)))
            self._wake()

    def _change(self, change: Change) -> Event | None:
        for keys in self.leases.values():
            keys.discard(change.key)
        if isinstance(change, Put):
            if change.lease:
                self.leases[change.lease].add(change.key)
            entry = Entry(change.value, self.revision + 1)
            self.entries[change.key] = entry
            return Event(change.key, entry)
        return Event(change.key, None) if self.entries.pop(change.key, None) else None

    def _revision_of(self, key: str) -> int:
        entry = self.entries.get(key)
        return entry.revision if entry else 0

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.frozen:
            await asyncio.sleep(LIMIT_S)
        if self.away or self.frozen:
            raise ClusterUnavailable("no server answers")
        self.requests += 1
