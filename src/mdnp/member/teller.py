"""Tells the others what this host promised, and joins segments: whatever differs in etcd of it is mended."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from mdnp.cluster import HEARTBEAT_S, Change, Delete, Put, Unchanged
from mdnp.member import About, told
from mdnp.member.claims import Claims
from mdnp.member.records import SEGMENTS, VNIS, decoded, host_key, key, members_prefix, segment_key, value, vni_key
from mdnp.member.rows import DoneRow, HostRow, MemberRow, Row, SegmentRow, VniRow
from mdnp.member.seat import Council, Doubted, within_limit
from mdnp.member.segments import check_agreement, check_overlap, choose_vni
from mdnp.model.errors import Conflict, StoreUnavailable
from mdnp.model.host import Host
from mdnp.model.segment import Segment, SegmentID, segment_of
from mdnp.store import Store

log = logging.getLogger(__name__)

# How often what stands in etcd is compared without a reason.
_INTERVAL_S = 30.0
# A refusal of the store is tried again after this.
_AGAIN_S = 2.0
# How long a segment that was joined may wait for its network to be promised.
_JOINING_S = 60.0
_TOGETHER = 100  # changes of one commit
_FEW = 3  # members of a segment that may leave within one round trip


class Teller:
    def __init__(self, council: Council, store: Store) -> None:
        self._council = council
        self._store = store
        self._wake = asyncio.Event()
        self.claims = Claims(council, store, self.tell)
        self._joining: dict[SegmentID, float] = {}  # until when
        self._left: set[SegmentID] = set()  # by us, and perhaps empty now
        self.reports: dict[str, str] = {}

    def tell(self) -> None:
        self._wake.set()

    async def run(self, me: Host, epoch: int) -> None:
        """Mend what differs, now, when asked, and now and then; until our seat is lost (ClusterUnavailable)."""
        afresh = True
        while True:
            self._wake.clear()
            try:
                await self._mend(me, epoch, afresh=afresh)
            except StoreUnavailable as error:
                log.warning("what other hosts asked for is answered later: %s", error)
                await asyncio.sleep(_AGAIN_S)
                continue
            afresh = not await self._woken()

    @property
    def pending(self) -> int:
        """How many of our rows differ in etcd, as far as we know."""
        return len(told.missing(self._rows(), self._present()))

    async def join(self, wanted: Segment) -> Segment:
        self._joining[wanted.id] = asyncio.get_running_loop().time() + _JOINING_S
        try:
            async with within_limit(f"segment {wanted.id}"):
                await self._council.asked()  # a daemon that was just started answers too
                return await self._join(wanted)
        except BaseException:
            self.leave(wanted.id)
            raise

    def leave(self, segment: SegmentID) -> None:
        self._joining.pop(segment, None)
        self.tell()

    async def _woken(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(_INTERVAL_S):
                await self._wake.wait()
                return True
        return False

    async def _mend(self, me: Host, epoch: int, *, afresh: bool) -> None:
        await self._mend_segments()
        await self._mend_rows()
        await self.claims.mend(afresh=afresh)
        # Last: it says that all else is told.
        host = HostRow(me.id, me.name, me.vtep, epoch)
        entry = self._council.view.entry(key(host))
        if entry is None or entry.value != value(host):
            await self._commit([_put(host)])
        await self._clear_segments(afresh=afresh)

    async def _mend_segments(self) -> None:
        """Segments of our networks that etcd has lost are put there again; who has another says so."""
        for network in told.overlays(self._store.promises):
            if not network.vni:
                continue
            segment = told.segment_told(network)
            known = self._council.view.segments.get(segment.id)
            if known is None:
                await self._put_segment(segment, 0)
            self._compare(segment, known)

    def _compare(self, ours: Segment, known: Segment | None) -> None:
        other = self._council.view.vnis.get(ours.vni, ours.id)
        text = ""
        if known is not None and known.vni != ours.vni:
            text = (
                f"segment {ours.id} has VNI {known.vni} on other hosts and {ours.vni} here: nothing passes between them"
            )
        elif other != ours.id:
            text = f"VNI {ours.vni} of segment {ours.id} is also that of {other}: their frames would mix"
        if text:
            self._council.remark(About.SEGMENT, ours.id, f"{text}; remove the network here and create it again")
        else:
            self._council.settled(About.SEGMENT, ours.id)

    async def _mend_rows(self) -> None:
        changes = told.missing(self._rows(), self._present())
        for start in range(0, len(changes), _TOGETHER):
            await self._commit(changes[start : start + _TOGETHER])
        gone = (decoded(change.key, b"") for change in changes if isinstance(change, Delete))
        self._left |= {row.segment for row in gone if isinstance(row, MemberRow)}

    def _rows(self) -> list[Row]:
        now = asyncio.get_running_loop().time()
        promised = {segment_of(one) for one in told.overlays(self._store.promises)}
        self._joining = {one: until for one, until in self._joining.items() if one not in promised and until > now}
        return told.rows(self._council.me, self._store.promises, self._joining, self.reports)

    def _present(self) -> dict[str, bytes]:
        """Our own rows in etcd, but for the host's; of declared networks those that we have something new to say of."""
        view = self._council.view
        unsaid = {key(DoneRow(name, view.me, "")) for name in view.networks if name not in self.reports}
        keys = view.keys_of(view.me) - unsaid - {host_key(view.me)}
        return {one: entry.value for one in keys if (entry := view.entry(one)) is not None}

    async def _commit(self, changes: Sequence[Change]) -> None:
        """
        Rows that only we write; returns when the view has them, or will have them later. Errors: Doubted when we are
        not who writes them.
        """
        revision = await self._council.commit([], changes)
        if revision is None:
            raise Doubted("another one has our seat, or the epoch changed")
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                await self._council.reached(revision)

    async def _join(self, wanted: Segment) -> Segment:
        self._council.seated()
        found = self._seen(wanted.id)
        while True:
            if found.known is not None:
                check_agreement(wanted, found.known)
            else:
                self._council.check_agreed()
                check_overlap(wanted.id, found.segments)
            segment = found.known or replace(wanted, vni=choose_vni(wanted.id, found.vnis))
            revision = await self._put_segment(segment, found.revision, found.members)
            if revision:
                break
            found = await self._read(wanted.id)
        if found.known is None:
            await self._check_first(segment, revision)
        return segment

    async def _put_segment(self, segment: Segment, revision: int, members: int = 0) -> int | None:
        """
        The segment and our membership, if its row was last written by this revision; 0: it is a new one. It has that
        many members: where few leave, the last may just be taking the segment away, and sees by its revision that it is
        wanted. More are too many to write one row.
        """
        conditions = [Unchanged(segment_key(segment.id), revision)]
        changes: list[Change] = [_put(MemberRow(segment.id, self._council.me))]
        if members < _FEW:
            changes.append(_put(SegmentRow(segment)))
        if revision == 0:
            conditions.append(Unchanged(vni_key(segment.vni), 0))
            changes.append(_put(VniRow(segment.vni, segment.id)))
        return await self._council.commit(conditions, changes)

    async def _check_first(self, segment: Segment, revision: int) -> None:
        """No other host made an overlapping segment just before: that one stays. Errors: Conflict."""
        found = await self._read(segment.id)
        earlier = [one for one, at in found.revisions.items() if at < revision]
        try:
            check_overlap(segment.id, earlier)
        except Conflict:
            await self._remove(segment, found.revision)
            raise

    def _seen(self, segment: SegmentID) -> "_Segments":
        view = self._council.view
        revisions = {one: view.revision_of(segment_key(one)) for one in view.segments}
        return _Segments(segment, view.segments, revisions, view.vnis, len(view.members.get(segment, ())))

    async def _read(self, segment: SegmentID) -> "_Segments":
        """The segments as they are in etcd now, where the view may be behind."""
        segments: dict[SegmentID, Segment] = {}
        revisions: dict[SegmentID, int] = {}
        vnis: set[int] = set()
        for row, revision in [*await self._council.read(SEGMENTS), *await self._council.read(VNIS)]:
            if isinstance(row, SegmentRow):
                segments[row.segment.id], revisions[row.segment.id] = row.segment, revision
            elif isinstance(row, VniRow):
                vnis.add(row.vni)
        members = await self._council.read(members_prefix(segment))
        return _Segments(segment, segments, revisions, vnis, len(members))

    async def _clear_segments(self, *, afresh: bool) -> None:
        """Segments that nobody has a network of: who leaves last takes them away, or else whoever looks."""
        view = self._council.view
        if view.unseeded():
            return
        looked_at = set(view.segments) if afresh else self._left & view.segments.keys()
        self._left.clear()
        for one in looked_at:
            # Before the members are asked for: whoever joins after that finds another revision.
            segment, revision = view.segments.get(one), view.revision_of(segment_key(one))
            if segment is None or view.members.get(one) or one in self._joining:
                continue
            if not await self._council.read(members_prefix(one)):
                log.info("segment %s: nobody has a network of it any more", one)
                await self._remove(segment, revision)

    async def _remove(self, segment: Segment, revision: int) -> None:
        changes = [Delete(segment_key(segment.id))]
        if self._council.view.vnis.get(segment.vni, segment.id) == segment.id:
            changes.append(Delete(vni_key(segment.vni)))
        await self._council.commit([Unchanged(segment_key(segment.id), revision)], changes)


@dataclass(frozen=True)
class _Segments:
    """All segments with the revisions of their rows, and the VNIs taken; seen for the sake of one of them."""

    of: SegmentID
    segments: Mapping[SegmentID, Segment]
    revisions: Mapping[SegmentID, int]
    vnis: Collection[int]
    members: int

    @property
    def known(self) -> Segment | None:
        return self.segments.get(self.of)

    @property
    def revision(self) -> int:
        return self.revisions.get(self.of, 0)


def _put(row: Row) -> Put:
    return Put(key(row), value(row))
