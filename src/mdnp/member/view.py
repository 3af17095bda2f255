"""
What is known of the cluster: a fold of what stands in etcd. Pure.

Where data was lost or restored, etcd says less, or something older, of a host than we know. Until that host has told
everything again for the new epoch (or was removed), what it told before is kept, and what etcd has of it is set aside.
"""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass

from mdnp.cluster import Entry, Event
from mdnp.member import About, DeclaredNetwork, KnownSegment, News, Remark
from mdnp.member.records import ALIVE, REMOVED, Undecodable, decode, host_key, host_of, removed_key
from mdnp.member.remotes import Contest, Remotes
from mdnp.member.rows import (
    AliveRow,
    BlockRow,
    DoneRow,
    EndpointRow,
    EpochRow,
    FormatRow,
    HostRow,
    MemberRow,
    NetworkRow,
    RemovedRow,
    Row,
    SegmentRow,
    VniRow,
)
from mdnp.model.host import HostID
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.segment import RemoteEndpoint, RemoteID, Segment, SegmentID


@dataclass(frozen=True)
class _Stored:
    entry: Entry
    row: Row | None  # None: it cannot be read


class _Changed:
    """What changed and was not told yet."""

    def __init__(self) -> None:
        self.remotes: set[RemoteID] = set()
        self.segments: set[SegmentID] = set()
        self.networks: set[str] = set()

    def taken(self) -> News:
        news = News(frozenset(self.remotes), frozenset(self.segments), frozenset(self.networks))
        for one in (self.remotes, self.segments, self.networks):
            one.clear()
        return news


class View:
    """`me` is this host, whose own rows are never kept nor remote."""

    def __init__(self, me: HostID) -> None:
        self.me = me
        self.epoch = 0  # of the data, as told by `replace`
        self.vtep: IPAddress | None = None  # our own, by `set_vtep`
        self.hosts: dict[HostID, HostRow] = {}
        self.alive: dict[HostID, AliveRow] = {}
        self.removed: set[HostID] = set()
        self.segments: dict[SegmentID, Segment] = {}
        self.vnis: dict[int, SegmentID] = {}
        self.members: dict[SegmentID, set[HostID]] = {}
        self.blocks: dict[IPNetwork, dict[IPNetwork, BlockRow]] = {}
        self._blocks_of: dict[HostID, set[tuple[IPNetwork, IPNetwork]]] = {}
        self._claimed_by: dict[HostID, set[tuple[IPNetwork, IPNetwork]]] = {}
        self.networks: dict[str, DeclaredNetwork] = {}
        self.done: dict[str, dict[HostID, str]] = {}
        self._remotes = Remotes(me)
        self._stored: dict[str, _Stored] = {}
        self._keys_of: dict[HostID, set[str]] = {}
        self._aside: dict[HostID, dict[str, Entry]] = {}  # what etcd has of the hosts whose rows are kept
        self._gone: frozenset[HostID] = frozenset()
        self._vteps: dict[HostID, IPAddress] = {}  # of the hosts whose endpoints and memberships are shown
        self._changed = _Changed()
        self._bad: dict[str, str] = {}
        self._unwritten: dict[str, Entry | None] = {}

    @property
    def remotes(self) -> Mapping[RemoteID, RemoteEndpoint]:
        return self._remotes.remotes

    def remotes_of(self, segment: SegmentID) -> Collection[RemoteEndpoint]:
        return self._remotes.of(segment)

    def members_of(self, segment: SegmentID) -> list[IPAddress]:
        """The VTEPs of the other hosts of a segment, sorted; those of hosts that are gone are not among them."""
        vteps = {self._vteps[one] for one in self.members.get(segment, ()) if one in self._vteps}
        return sorted(vteps, key=lambda one: (one.version, int(one)))

    def endpoints_of(self, host: HostID) -> list[EndpointRow]:
        return self._remotes.rows_of(host)

    def segments_of(self, host: HostID) -> tuple[SegmentID, ...]:
        return tuple(sorted(segment for segment, hosts in self.members.items() if host in hosts))

    def blocks_of(self, host: HostID) -> list[BlockRow]:
        """Those that it hands out from."""
        return [self.blocks[pool][network] for pool, network in self._blocks_of.get(host, ())]

    def claimed_by(self, host: HostID) -> list[BlockRow]:
        """Blocks in which it claims addresses."""
        return [self.blocks[pool][network] for pool, network in self._claimed_by.get(host, ())]

    def known_segments(self) -> tuple[KnownSegment, ...]:
        known = (KnownSegment(one, tuple(sorted(self.members.get(one.id, ())))) for one in self.segments.values())
        return tuple(sorted(known, key=lambda one: one.segment.id))

    def newest_generation(self, segment: SegmentID, addresses: Iterable[IPAddress]) -> int:
        return self._remotes.newest_generation(segment, addresses)

    def entry(self, key: str) -> Entry | None:
        stored = self._stored.get(key)
        return stored.entry if stored else None

    def entries(self) -> dict[str, Entry]:
        """All of them."""
        return {key: one.entry for key, one in self._stored.items()}

    def revision_of(self, key: str) -> int:
        """0: it is not there; for a condition."""
        entry = self.entry(key)
        return entry.revision if entry else 0

    def keys_of(self, host: HostID) -> Set[str]:
        """Of the rows that this host told."""
        return self._keys_of.get(host, set())

    def shared(self, *kinds: type[Row]) -> dict[str, Entry]:
        """All rows of these kinds."""
        return {key: one.entry for key, one in self._stored.items() if isinstance(one.row, kinds)}

    def is_unseeded(self, host: HostID) -> bool:
        """It has not told everything since data was lost or restored, as far as we know."""
        row = self.hosts.get(host)
        return row is not None and host not in self.removed and row.epoch != self.epoch

    def unseeded(self) -> list[HostID]:
        """The other hosts of which that is so, sorted."""
        return sorted(one for one in self.hosts if one != self.me and self.is_unseeded(one))

    def called(self, host: HostID) -> str:
        """A host for people: its name, and its id."""
        row = self.hosts.get(host) or self.alive.get(host)
        return f"{row.name} ({host})" if row else host

    def went_back(self, entries: Mapping[str, Entry], revision: int) -> bool:
        """
        Whether a snapshot is of older data than that which this view followed up to `revision`: a key was written
        earlier than we saw, or is there although it was gone.
        """
        return any(self._is_older(key, entry, revision) for key, entry in entries.items() if not key.startswith(ALIVE))

    def replace(self, entries: Mapping[str, Entry], epoch: int) -> News:
        """The whole of what stands in etcd, whose epoch is this one; what of the outlook changed."""
        self.epoch = epoch
        self._keep(entries)
        for key in [*(key for key in self._stored if key not in entries), *entries]:
            self._take(key, entries.get(key))
        return self._changed.taken()

    def feed(self, events: Iterable[Event]) -> News:
        for event in events:
            self._take(event.key, event.entry)
        return self._changed.taken()

    def set_gone(self, gone: frozenset[HostID]) -> News:
        """These hosts are withdrawn: nothing is sent to them."""
        changed, self._gone = self._gone ^ gone, gone
        for host in changed:
            self._show(host)
        return self._changed.taken()

    def set_vtep(self, vtep: IPAddress | None) -> News:
        """Our own: nothing is sent to who says that it has it too."""
        self.vtep = vtep
        for host in self.hosts:
            self._show(host)
        return self._changed.taken()

    def unwritten(self) -> dict[str, Entry | None]:
        """What changed since this was asked last and should be known when the daemon starts again; not who lives."""
        unwritten, self._unwritten = self._unwritten, {}
        return unwritten

    def remarks(self) -> list[Remark]:
        """What does not fit together."""
        return [
            *(Remark(About.ROW, f"{text}: ignored") for text in self._bad.values()),
            *map(self._contested, self._remotes.contests()),
            *self._shared_vteps(),
        ]

    def _is_older(self, key: str, entry: Entry, revision: int) -> bool:
        host = host_of(key)
        if host is not None and host != self.me and (host in self._aside or self.is_unseeded(host)):
            return False  # what we have of it is of the data before
        seen = self.revision_of(key)
        return entry.revision < seen or (seen == 0 and entry.revision <= revision)

    def _keep(self, entries: Mapping[str, Entry]) -> None:
        """Set aside what etcd has of hosts that did not tell everything for this epoch."""
        kept = {one for one in self.hosts if one != self.me and not self._counts(one, entries)}
        for host in kept - self._aside.keys():
            for key in self._keys_of[host]:
                # A revision of the lost data means nothing now.
                self._write(key, Entry(self._stored[key].entry.value, 0))
        self._aside = {host: {} for host in kept}

    def _counts(self, host: HostID, entries: Mapping[str, Entry]) -> bool:
        return self._has_told(host, entries) or removed_key(host) in entries

    def _has_told(self, host: HostID, entries: Mapping[str, Entry]) -> bool:
        entry = entries.get(host_key(host))
        return entry is not None and _epoch_of(host_key(host), entry) == self.epoch

    def _take(self, key: str, entry: Entry | None) -> None:
        """What stands under the key now, in etcd."""
        host = host_of(key)
        if host is None or host not in self._aside:
            self._change(key, entry)
            if key.startswith(REMOVED):
                self._release(HostID(key.removeprefix(REMOVED)))
            return
        aside = self._aside[host]
        if entry is None:
            aside.pop(key, None)
        else:
            aside[key] = entry
        if self._has_told(host, aside):
            self._release(host)

    def _release(self, host: HostID) -> None:
        """What etcd has of the host counts again."""
        aside = self._aside.pop(host, None)
        if aside is not None:
            for key in [*self.keys_of(host) - aside.keys(), *aside]:
                self._change(key, aside.get(key))

    def _change(self, key: str, entry: Entry | None) -> None:
        before = self._stored.get(key)
        if (before.entry if before else None) == entry:
            return
        self._write(key, entry)
        old, new = before.row if before else None, self._stored[key].row if entry else None
        if new is not None and new != old:
            self._put(new)
        elif new is None and old is not None:
            self._drop(old)

    def _write(self, key: str, entry: Entry | None) -> None:
        if not key.startswith(ALIVE):
            self._unwritten[key] = entry
        self._bad.pop(key, None)
        host = host_of(key)
        if entry is None:
            self._stored.pop(key, None)
            if host is not None:
                self._keys_of[host].discard(key)
            return
        self._stored[key] = _Stored(entry, self._read(key, entry))
        if host is not None:
            self._keys_of.setdefault(host, set()).add(key)

    def _read(self, key: str, entry: Entry) -> Row | None:
        try:
            return decode(key, entry.value)
        except Undecodable as error:
            self._bad[key] = str(error)
            return None

    def _put(self, row: Row) -> None:  # noqa: C901  # one arm for each kind of row
        match row:
            case HostRow(host):
                self.hosts[host] = row
                self._show(host)
            case AliveRow(host):
                self.alive[host] = row
            case RemovedRow(host):
                self.removed.add(host)
                self._show(host)
            case SegmentRow(segment):
                self.segments[segment.id] = segment
            case VniRow(vni, segment_of):
                self.vnis[vni] = segment_of
            case MemberRow(segment_of, host):
                self.members.setdefault(segment_of, set()).add(host)
                self._note_member(segment_of, host)
            case EndpointRow():
                self._changed.remotes |= self._remotes.tell(row.id, row)
            case BlockRow():
                self._put_block(row)
            case NetworkRow(declared):
                self.networks[declared.name] = declared
                self._changed.networks.add(declared.name)
            case DoneRow(name, host, error):
                self.done.setdefault(name, {})[host] = error
            case FormatRow() | EpochRow():
                pass  # whoever connects looks at them

    def _drop(self, row: Row) -> None:  # noqa: C901  # as above
        match row:
            case HostRow(host):
                del self.hosts[host]
                self._show(host)
            case AliveRow(host):
                del self.alive[host]
            case RemovedRow(host):
                self.removed.discard(host)
                self._show(host)
            case SegmentRow(segment):
                del self.segments[segment.id]
            case VniRow(vni):
                del self.vnis[vni]
            case MemberRow(segment_of, host):
                self._note_member(segment_of, host)
                self.members[segment_of].discard(host)
            case EndpointRow():
                self._changed.remotes |= self._remotes.tell(row.id, None)
            case BlockRow():
                self._drop_block(row)
            case NetworkRow(declared):
                del self.networks[declared.name]
                self._changed.networks.add(declared.name)
            case DoneRow(name, host):
                del self.done[name][host]
            case FormatRow() | EpochRow():
                pass

    def _put_block(self, row: BlockRow) -> None:
        before = self.blocks.get(row.pool, {}).get(row.network)
        if before is not None:
            self._drop_block(before)
        self.blocks.setdefault(row.pool, {})[row.network] = row
        place = row.pool, row.network
        self._blocks_of.setdefault(row.owner, set()).add(place)
        for claim in row.claims.values():
            self._claimed_by.setdefault(claim.host, set()).add(place)

    def _drop_block(self, row: BlockRow) -> None:
        del self.blocks[row.pool][row.network]
        place = row.pool, row.network
        self._blocks_of[row.owner].discard(place)
        for claim in row.claims.values():
            self._claimed_by[claim.host].discard(place)

    def _note_member(self, segment: SegmentID, host: HostID) -> None:
        if host in self._vteps:
            self._changed.segments.add(segment)

    def _show(self, host: HostID) -> None:
        """Show what a host tells, or withdraw it, by what is known of the host."""
        hidden = host == self.me or host in self.removed or host in self._gone or host not in self.hosts
        vtep = None if hidden else self.hosts[host].vtep
        vtep = None if vtep == self.vtep else vtep
        if vtep == self._vteps.get(host):
            return
        if vtep is None:
            del self._vteps[host]
        else:
            self._vteps[host] = vtep
        self._changed.remotes |= self._remotes.show(host, vtep)
        self._changed.segments.update(self.segments_of(host))

    def _contested(self, contest: Contest) -> Remark:
        about = About.MAC if isinstance(contest.what, str) else About.ADDRESS
        hosts = list(dict.fromkeys(self.called(row.host) for row in contest.rows))
        used = "this host" if contest.rows[0].host == self.me else hosts[0]
        return Remark(
            about,
            f"{'MAC' if about is About.MAC else 'address'} {contest.what} of segment {contest.segment} is on several"
            f" hosts, {', '.join(hosts)}: that of {used} is used; give one of the containers another",
        )

    def _shared_vteps(self) -> list[Remark]:
        by_vtep: dict[IPAddress, list[HostID]] = {}
        for host, row in self.hosts.items():
            if host not in self.removed and host not in self._gone:
                by_vtep.setdefault(row.vtep, []).append(host)
        return [
            Remark(About.HOST, f"VTEP {vtep} is that of several hosts, {', '.join(map(self.called, sorted(hosts)))}")
            for vtep, hosts in by_vtep.items()
            if len(hosts) > 1
        ]


def _epoch_of(key: str, entry: Entry) -> int | None:
    try:
        row = decode(key, entry.value)
    except Undecodable:
        return None
    return row.epoch if isinstance(row, HostRow) else None
