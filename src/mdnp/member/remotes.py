"""
Where frames are sent: of the endpoints that hosts tell of, one for each address and each MAC of a segment. Pure.

Two hosts tell the same address while a container moves, or when something went wrong. The newest generation has it;
where it is ours we never send it away, for our container is here. A change costs what it touches.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mdnp.member.rows import EndpointRow
from mdnp.model.host import HostID
from mdnp.model.mac import MAC
from mdnp.model.network import IPAddress
from mdnp.model.segment import RemoteEndpoint, RemoteID, SegmentID

_Key = TypeVar("_Key", bound=Hashable)
_Index = dict[_Key, set[RemoteID]]


@dataclass(frozen=True)
class Contest:
    """Endpoints of several hosts that have the same address or MAC, the one that is sent to first."""

    segment: SegmentID
    what: IPAddress | MAC
    rows: tuple[EndpointRow, ...]


class Remotes:
    """`told` are the rows of all hosts, ours too; those of a host count while it is `shown`."""

    def __init__(self, me: HostID) -> None:
        self._me = me
        self._vteps: dict[HostID, IPAddress] = {}
        self._rows: dict[RemoteID, EndpointRow] = {}
        self._of_host: _Index[HostID] = {}
        self._by_address: _Index[tuple[SegmentID, IPAddress]] = {}
        self._by_mac: _Index[tuple[SegmentID, MAC]] = {}
        self._contested: set[tuple[SegmentID, IPAddress | MAC]] = set()
        self._remotes: dict[RemoteID, RemoteEndpoint] = {}
        self._by_segment: dict[SegmentID, dict[RemoteID, RemoteEndpoint]] = {}

    @property
    def remotes(self) -> Mapping[RemoteID, RemoteEndpoint]:
        return self._remotes

    def of(self, segment: SegmentID) -> Collection[RemoteEndpoint]:
        return self._by_segment.get(segment, {}).values()

    def rows_of(self, host: HostID) -> list[EndpointRow]:
        return [self._rows[one] for one in self._of_host.get(host, ())]

    def newest_generation(self, segment: SegmentID, addresses: Iterable[IPAddress]) -> int:
        """Of the rows of all hosts, shown or not; 0 if there is none."""
        found = (one for address in addresses for one in self._by_address.get((segment, address), ()))
        return max((self._rows[one].generation for one in found), default=0)

    def tell(self, identity: RemoteID, row: EndpointRow | None) -> set[RemoteID]:
        """The row is this now, or gone; what changed of the remotes."""
        before = self._rows.pop(identity, None)
        if before is not None:
            self._file(before, identity, present=False)
        if row is not None:
            self._rows[identity] = row
            self._file(row, identity, present=True)
        return self._settle([one for one in (before, row) if one is not None])

    def show(self, host: HostID, vtep: IPAddress | None) -> set[RemoteID]:
        """The host's endpoints are behind this VTEP now; None: they are withdrawn."""
        if self._vteps.get(host) == vtep:
            return set()
        if vtep is None:
            del self._vteps[host]
        else:
            self._vteps[host] = vtep
        return self._settle(self.rows_of(host))

    def contests(self) -> list[Contest]:
        found = []
        for segment, what in self._contested:
            rows = sorted((self._rows[one] for one in self._rivals(segment, what)), key=self._rank, reverse=True)
            found.append(Contest(segment, what, tuple(rows)))
        return found

    def _file(self, row: EndpointRow, identity: RemoteID, *, present: bool) -> None:
        _mark(self._of_host, row.host, identity, present=present)
        _mark(self._by_mac, (row.segment, row.mac), identity, present=present)
        for address in row.addresses:
            _mark(self._by_address, (row.segment, address), identity, present=present)

    def _settle(self, rows: Iterable[EndpointRow]) -> set[RemoteID]:
        """Find anew who has what these rows have or had."""
        places: set[tuple[SegmentID, IPAddress | MAC]] = set()
        touched: set[RemoteID] = set()
        for row in rows:
            touched.add(row.id)
            places.update((row.segment, what) for what in (row.mac, *row.addresses))
        for place in places:
            touched |= self._all(*place)
            self._note_contest(*place)
        return {one for one in touched if self._decide(one)}

    def _decide(self, identity: RemoteID) -> bool:
        """Whether this changed what is sent there."""
        before = self._remotes.get(identity)
        now = self._remote(identity)
        if now == before:
            return False
        if now is not None:
            self._remotes[identity] = now
            self._by_segment.setdefault(now.segment, {})[identity] = now
        elif before is not None:
            del self._remotes[identity]
            del self._by_segment[before.segment][identity]
            if not self._by_segment[before.segment]:
                del self._by_segment[before.segment]
        return True

    def _remote(self, identity: RemoteID) -> RemoteEndpoint | None:
        row = self._rows.get(identity)
        if row is None or row.host == self._me or not self._shown(row):
            return None
        addresses = tuple(one for one in row.addresses if self._has(row, one))
        if not self._has(row, row.mac) or (row.addresses and not addresses):
            return None
        return RemoteEndpoint(
            identity,
            row.segment,
            row.host,
            self._vteps[row.host],
            row.mac,
            addresses,
            row.generation,
            row.names,
            row.ports,
        )

    def _has(self, row: EndpointRow, what: IPAddress | MAC) -> bool:
        return max((self._rows[one] for one in self._rivals(row.segment, what)), key=self._rank) == row

    def _rank(self, row: EndpointRow) -> tuple[bool, int, str]:
        return row.host == self._me, row.generation, row.id

    def _rivals(self, segment: SegmentID, what: IPAddress | MAC) -> list[RemoteID]:
        return [one for one in self._all(segment, what) if self._shown(self._rows[one])]

    def _all(self, segment: SegmentID, what: IPAddress | MAC) -> set[RemoteID]:
        if isinstance(what, str):
            return self._by_mac.get((segment, what), set())
        return self._by_address.get((segment, what), set())

    def _shown(self, row: EndpointRow) -> bool:
        return row.host == self._me or row.host in self._vteps

    def _note_contest(self, segment: SegmentID, what: IPAddress | MAC) -> None:
        rows = [self._rows[one] for one in self._rivals(segment, what)]
        several = len({row.host for row in rows}) > 1
        if isinstance(what, str):  # a derived MAC is the address's, and an address is told of by itself
            several = several and not set.intersection(*(set(row.addresses) for row in rows))
        if several:
            self._contested.add((segment, what))
        else:
            self._contested.discard((segment, what))


def _mark(index: _Index[_Key], key: _Key, identity: RemoteID, *, present: bool) -> None:
    if present:
        index.setdefault(key, set()).add(identity)
        return
    index[key].discard(identity)
    if not index[key]:
        del index[key]
