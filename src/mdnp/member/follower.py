"""Follows what stands in etcd, by a snapshot and a watch from there, and writes it down for the next start."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import replace

import msgspec

from mdnp.cluster import Batch, Compacted, Entry, Event, Put, Snapshot, Unchanged
from mdnp.member import About, News
from mdnp.member.epochs import Past, goes_on, next_epoch
from mdnp.member.records import ALIVE, EPOCH, FORMAT, ROOT, VERSION, decoded, removed_key, value, vni_key
from mdnp.member.rows import AliveRow, EpochRow, FormatRow, NetworkRow, RemovedRow, SegmentRow, VniRow
from mdnp.member.seat import Council, Lapsed
from mdnp.member.view import View
from mdnp.member.vigil import Vigil
from mdnp.model.errors import MdnpError, StoreUnavailable
from mdnp.model.host import HostID
from mdnp.store import Change, Fact, Known, Memory

log = logging.getLogger(__name__)

_FACT = "cluster"  # of Past
# What comes within this is written down together: it is only for a start while etcd is away.
_GATHER_S = 1.0
_TOGETHER = 500  # rows written down at once: Docker's promises wait behind them
_SKEW_S = 5.0
_TRIES = 10


class Removed(MdnpError):
    """This host was taken out of the cluster."""


class Refused(MdnpError):
    """We cannot be in the cluster as things are; the text says why, and what to do."""


class Follower:
    """`changed` is told what of the outlook changed; `clock` gives seconds since 1970; `draw` gives random names."""

    def __init__(
        self,
        council: Council,
        memory: Memory,
        vigil: Vigil,
        *,
        changed: Callable[[News], None],
        clock: Callable[[], float],
        draw: Callable[[], str],
    ) -> None:
        self._council = council
        self._memory = memory
        self._vigil = vigil
        self._changed = changed
        self._clock = clock
        self._draw = draw
        self._past = Past()
        self._follows = False  # the view is what stood in etcd at its revision
        self._last: Event | None = None  # that wrote a key, of those that the watch told: other data has not got it
        self._is_other = False  # etcd has another past than the one that we followed
        self._epoch = Entry(b"", 0)
        self._unwritten: dict[str, Entry | None] = {}
        self._dirty = asyncio.Event()

    @property
    def epoch(self) -> int:
        return self._past.number

    @property
    def epoch_revision(self) -> int:
        return self._epoch.revision

    async def load(self) -> None:
        """What was written down last."""
        text = await self._memory.fact(_FACT, "{}")
        self._past = msgspec.json.decode(text, type=Past)
        view = self._council.view
        view.epoch = self._past.number
        view.feed(Event(one.key, Entry(one.value or b"", one.revision)) for one in await self._memory.known())
        view.unwritten()

    async def catch_up(self) -> None:
        """
        Bring the view to what stands in etcd now, or to where a watch goes on.

        Errors: ClusterUnavailable; Refused for data of another version; Removed.
        """
        if not (self._follows and await self._goes_on()):
            self._follows = False
            for _ in range(_TRIES):
                if await self._take_snapshot():
                    break
            else:
                raise Lapsed("etcd's data changes epoch again and again: look for two clusters behind its addresses")
            self._follows = True
        self._check_removed()

    async def follow(self) -> AsyncGenerator[Batch, None]:
        """
        What happened, when the view has it. Errors: ClusterUnavailable when the watch breaks, Lapsed when the data may
        be other; Removed.
        """
        watch = self._council.cluster.watch(ROOT, self._council.revision)
        try:
            async for batch in watch:
                self._take(batch)
                yield batch
        except Compacted as error:
            self._follows = False
            raise Lapsed(str(error)) from error
        finally:
            await _end(watch)

    def doubt(self) -> None:
        """Somebody wrote what we did not see: look at everything again."""
        self._follows = False

    def rename(self, me: HostID) -> None:
        """We are another host from now on, to whom all that we knew is as before."""
        before, entries = self._council.view, self._council.view.entries()
        view = self._council.view = View(me)
        news = view.set_vtep(before.vtep) | view.replace(entries, before.epoch)
        self._follows = False
        self._dirty.set()
        self.tell(news | News(frozenset(before.remotes), frozenset(before.members)))

    def tell(self, news: News) -> None:
        if news:
            self._changed(news)

    def look(self) -> None:
        """Withdraw hosts that are gone by now, and show those that came back."""
        view = self._council.view
        known = view.hosts.keys() - {view.me}
        self.tell(view.set_gone(self._vigil.look(known, view.alive, _now())))

    async def keep_written(self) -> None:
        """Write down what changed, now and then, until cancelled."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(_GATHER_S)
            await self.write_down()

    async def write_down(self) -> None:
        """What cannot be written now is tried again with the next."""
        self._dirty.clear()
        self._unwritten.update(self._council.view.unwritten())
        try:
            while self._unwritten:
                some = dict(list(self._unwritten.items())[:_TOGETHER])
                await self._memory.commit(*map(_known, some, some.values()))
                self._unwritten = {
                    key: entry for key, entry in self._unwritten.items() if some.get(key, 0) is not entry
                }
            past = replace(self._past, revision=self._council.revision)
            await self._memory.commit(Fact(_FACT, msgspec.json.encode(past).decode()))
        except StoreUnavailable as error:
            log.warning("what other hosts told will be written down later: %s", error)

    async def _goes_on(self) -> bool:
        """Whether the data is the one that we followed, by one small question."""
        found = await self._council.cluster.snapshot(EPOCH)
        entry = found.entries.get(EPOCH)
        same = found.cluster == self._past.cluster and found.revision >= self._council.revision
        return same and entry == self._epoch and await self._has_the_past()

    async def _has_the_past(self) -> bool:
        """
        Whether what we heard last is where it was in etcd's history. After a restore other events may have come up to
        the revision that we had followed to.
        """
        last = self._last
        if last is None or last.entry is None:
            return False
        watch = self._council.cluster.watch(ROOT, last.entry.revision - 1)
        try:
            first = await anext(watch)
        except Compacted:
            return False
        finally:
            await _end(watch)
        self._is_other = last not in first.events
        return not self._is_other

    async def _take_snapshot(self) -> bool:
        """False: something had to be put right first, look again."""
        snapshot = await self._council.cluster.snapshot(ROOT)
        _check_format(snapshot)
        found = decoded(EPOCH, snapshot.entries[EPOCH].value) if EPOCH in snapshot.entries else None
        epoch = found if isinstance(found, EpochRow) else None
        if epoch is None or not self._fits(epoch, snapshot):
            await self._begin_epoch(snapshot, epoch)
            return False
        if self._past.number and epoch != self._past.epoch:
            await self._restore(snapshot.entries)
            self._past = Past(epoch.number, epoch.cluster, epoch.drawn)
            self._is_other = False
            return False
        self._past = Past(epoch.number, epoch.cluster, epoch.drawn, snapshot.revision)
        self._epoch = snapshot.entries[EPOCH]
        self._last = None
        news = self._council.view.replace(snapshot.entries, epoch.number)
        self._council.follow(snapshot.revision)
        self._dirty.set()
        self.tell(news)
        return True

    def _fits(self, found: EpochRow, snapshot: Snapshot) -> bool:
        view, past = self._council.view, self._past
        # Revisions are of one epoch's data.
        same = view.epoch == past.number
        seen = replace(past, revision=max(past.revision, self._council.revision) if same else 0)
        went_back = same and (self._is_other or view.went_back(snapshot.entries, seen.revision))
        return goes_on(found, seen, snapshot.cluster, snapshot.revision, went_back=went_back)

    async def _begin_epoch(self, snapshot: Snapshot, found: EpochRow | None) -> None:
        """The first one wins, and then it is everybody's."""
        epoch = next_epoch(found, self._past, snapshot.cluster, self._draw())
        if self._past.number:
            log.critical("etcd's data was lost or restored: epoch %d begins, and each host tells anew", epoch.number)
        before = [Unchanged(key, _revision(snapshot.entries, key)) for key in (EPOCH, FORMAT)]
        changes = [Put(EPOCH, value(epoch)), Put(FORMAT, value(FormatRow(VERSION)))]
        await self._council.cluster.commit(before, changes)

    async def _restore(self, entries: Mapping[str, Entry]) -> None:
        """What no host tells by itself and we remember is put where it is missing."""
        shared = self._council.view.shared(RemovedRow, NetworkRow, SegmentRow)
        for key, entry in shared.items():
            if key in entries:
                continue
            put = {key: entry.value}
            row = decoded(key, entry.value)
            if isinstance(row, SegmentRow):
                put[vni_key(row.segment.vni)] = value(VniRow(row.segment.vni, row.segment.id))
            conditions = [Unchanged(one, 0) for one in put]
            if await self._council.cluster.commit(conditions, [Put(one, text) for one, text in put.items()]) is None:
                log.info("%s was put there again by another host", key)

    def _take(self, batch: Batch) -> None:
        keys = {event.key for event in batch.events}
        if keys & {EPOCH, FORMAT}:
            # Without a look at the others: where all is deleted at once, nothing of it counts.
            self._follows = False
            raise Lapsed("the epoch changed")
        news = self._council.view.feed(batch.events)
        self._last = next((one for one in reversed(batch.events) if one.entry), self._last)
        self._council.follow(batch.revision)
        if batch.events:
            self._dirty.set()
        self.tell(news)
        self.look()
        self._note_clocks(batch)
        self._check_removed()

    def _note_clocks(self, batch: Batch) -> None:
        """Nothing is decided by them; people compare logs."""
        for event in batch.events:
            if not event.key.startswith(ALIVE) or event.entry is None:
                continue
            row = decoded(event.key, event.entry.value)
            if not isinstance(row, AliveRow) or row.host == self._council.me:
                continue
            skew = row.clock - self._clock()
            if abs(skew) > _SKEW_S:
                text = f"the clock of host {row.name} ({row.host}) differs by {skew:+.0f} s from ours: set it by NTP"
                self._council.remark(About.HOST, f"clock {row.host}", text)
            else:
                self._council.settled(About.HOST, f"clock {row.host}")

    def _check_removed(self) -> None:
        if self._council.me in self._council.view.removed:
            raise Removed(f"{removed_key(self._council.me)} is there")


def _check_format(snapshot: Snapshot) -> None:
    entry = snapshot.entries.get(FORMAT)
    if entry is None:
        return
    row = decoded(FORMAT, entry.value)
    version = row.version if isinstance(row, FormatRow) else entry.value[:40].decode(errors="replace")
    if version != VERSION:
        raise Refused(
            f"wrong cluster data version: etcd has version {version} of mdnp's data, and this mdnp knows {VERSION}:"
            " install the version of the other hosts. Nothing was changed"
        )


async def _end(watch: AsyncIterator[Batch]) -> None:
    """A connection that nobody reads any more."""
    if isinstance(watch, AsyncGenerator):
        await watch.aclose()


def _known(key: str, entry: Entry | None) -> Change:
    return Known(key, entry.value, entry.revision) if entry else Known(key, None)


def _revision(entries: Mapping[str, Entry], key: str) -> int:
    return entries[key].revision if key in entries else 0


def _now() -> float:
    return asyncio.get_running_loop().time()
