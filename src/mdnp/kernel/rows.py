"""
Rows of forwarding tables and neighbours, by raw messages: of an overlay there may be tens of thousands.

Of a tunnel's tables all is ours, as the link is. Of the neighbours on its bridge those are ours that bear our protocol,
and of an annex's table the sticky rows.
"""

import errno
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from mdnp.dataplane.naming import ROUTE_PROTOCOL, TUNNEL_PREFIX, is_annex
from mdnp.dataplane.rows import EVERYBODY, Fdb, Neigh
from mdnp.dataplane.steps import Add, Delete
from mdnp.kernel import netlink, rtnetlink
from mdnp.kernel.rtnetlink import Request
from mdnp.model.errors import KernelError
from mdnp.model.mac import MAC

# include/uapi/linux/{rtnetlink,neighbour}.h
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
NEIGHBOUR = struct.Struct("=BxxxiHBB")  # ndmsg: family, index, state, flags, type
NDA_DST, NDA_LLADDR, NDA_PORT, NDA_VNI, NDA_IFINDEX, NDA_MASTER, NDA_PROTOCOL = 1, 2, 6, 7, 8, 9, 12
NTF_SELF, NTF_MASTER, NTF_STICKY = 0x02, 0x04, 0x40
_NUD_NOARP, _NUD_PERMANENT = 0x40, 0x80
_ELSEWHERE = {NDA_PORT, NDA_VNI, NDA_IFINDEX}  # to another port, VNI or by another link than the tunnel's own
_WANTED = frozenset({NDA_DST, NDA_LLADDR, NDA_PROTOCOL, *_ELSEWHERE})
_NDA_CACHEINFO = 3
_HEAD = struct.Struct("=HH")  # nlattr: length, type
_FAMILIES = (socket.AF_INET, socket.AF_INET6)

Row = Fdb | Neigh
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


class Rows:
    """Rows that were seen, so that a look at what is as it was makes nothing anew."""

    def __init__(self) -> None:
        self._known: dict[bytes, Row] = {}

    def observe(
        self, tunnels: Mapping[int, str], bridges: Mapping[int, str], ports: Mapping[int, str] | None = None
    ) -> list[Row]:
        """
        Of tunnels, of bridges, and of ports of annexes, which are among the bridges, all by their indexes; without any
        nothing is asked. A tunnel may be gone of whose bridge the neighbours stand. Errors: KernelError.
        """
        annexes = [index for index, name in bridges.items() if is_annex(name)]
        known, self._known = self._known, {}
        try:
            bodies = [
                *(body for index in tunnels for body in _dump(socket.AF_BRIDGE, index)),
                *(body for index in annexes for body in _dump(socket.AF_BRIDGE, master=index)),
                *(body for family in _FAMILIES if bridges for body in _dump(family)),
            ]
        except OSError as error:
            raise KernelError(f"reading forwarding tables and neighbours failed: {error.strerror or error}") from error
        return list(self._read(bodies, {**tunnels, **(ports or {})}, bridges, known))

    def _read(
        self,
        bodies: Iterable[memoryview],
        ports: Mapping[int, str],
        bridges: Mapping[int, str],
        known: Mapping[bytes, Row],
    ) -> Iterator[Row]:
        for body in bodies:
            family, index, *_rest = NEIGHBOUR.unpack_from(body)
            name = (ports if family == socket.AF_BRIDGE else bridges).get(index)
            if name is None:
                continue
            ageless = _without_ages(body)
            row = known.get(ageless)
            if row is None or row.link != name:
                row = _parse(body, name)
            if row is not None:
                self._known[ageless] = row
                yield row


def parse(body: memoryview, name_of: Callable[[int], str | None]) -> Row | None:
    """
    A row that can be ours: of a tunnel's tables, a sticky one, or a neighbour that bears our protocol. None of what is
    damaged.
    """
    if len(body) < NEIGHBOUR.size:
        return None
    family, index, _state, flags, _type = NEIGHBOUR.unpack_from(body)
    name = name_of(index)
    if name is None or (family == socket.AF_BRIDGE and not (name.startswith(TUNNEL_PREFIX) or flags & NTF_STICKY)):
        return None
    try:
        return _parse(body, name)
    except ValueError:
        return None


def perform(steps: Sequence[Add | Delete]) -> list[tuple[Add | Delete, OSError]]:
    """
    Take all of these steps, which are of rows, and return those that failed. What is gone already counts as removed.
    Errors: OSError when the kernel does not answer.
    """
    indexes = _Indexes()
    due: list[Add | Delete] = []
    requests: list[Request] = []
    failed: list[tuple[Add | Delete, OSError]] = []
    for step in steps:
        row = _row(step)
        index = indexes.of(row.link)
        if index:
            due.append(step)
            requests.append(_request(step, row, index))
        elif isinstance(step, Add):
            failed.append((step, rtnetlink.error_of(errno.ENODEV)))
    numbers = rtnetlink.perform(requests)
    for place, number in numbers.items():
        if not _is_done(due[place], number):
            failed.append((due[place], rtnetlink.error_of(number)))
    return failed


class _Indexes:
    """Of links by their names, each asked for once; 0 of one that is not there."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, name: str) -> int:
        if name not in self._known:
            try:
                self._known[name] = socket.if_nametoindex(name)
            except OSError:
                self._known[name] = 0
        return self._known[name]


def _row(step: Add | Delete) -> Row:
    match step.object:
        case Fdb() | Neigh() as row:
            return row
    raise AssertionError(step)


def _is_done(step: Add | Delete, number: int) -> bool:
    """Of a tunnel that is on no bridge the bridge has no rows."""
    return not isinstance(step, Add) and (number in _GONE or number == errno.EOPNOTSUPP)


def _request(step: Add | Delete, row: Row, index: int) -> Request:
    adds = isinstance(step, Add)
    everybody = isinstance(row, Fdb) and row.mac == EVERYBODY
    flags = rtnetlink.CREATE | (rtnetlink.APPEND if everybody else rtnetlink.REPLACE) if adds else 0
    return Request(_RTM_NEWNEIGH if adds else _RTM_DELNEIGH, flags, _body(row, index))


def _body(row: Row, index: int) -> bytes:
    mac = netlink.attribute(NDA_LLADDR, bytes.fromhex(row.mac.replace(":", "")))
    match row:
        case Neigh(address=address):
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            head = NEIGHBOUR.pack(family, index, _NUD_PERMANENT, 0, 0)
            protocol = netlink.attribute(NDA_PROTOCOL, bytes([ROUTE_PROTOCOL]))
            return head + netlink.attribute(NDA_DST, address.packed) + mac + protocol
        case Fdb(vtep=vtep) if vtep:
            head = NEIGHBOUR.pack(socket.AF_BRIDGE, index, _NUD_PERMANENT, NTF_SELF, 0)
            return head + mac + netlink.attribute(NDA_DST, vtep.packed)
        case Fdb(sticky=sticky):
            flags = NTF_MASTER | NTF_STICKY * sticky
            return NEIGHBOUR.pack(socket.AF_BRIDGE, index, _NUD_NOARP, flags, 0) + mac


def _dump(family: int, index: int = 0, master: int = 0) -> list[memoryview]:
    """All, or those of one link, or of the ports of one bridge."""
    asked = NEIGHBOUR.pack(family, index, 0, 0, 0)
    if master:
        asked += netlink.attribute(NDA_MASTER, master.to_bytes(4, sys.byteorder))
    return rtnetlink.dump(_RTM_GETNEIGH, asked, _RTM_NEWNEIGH, strict=bool(index or master))[0]


def _without_ages(body: memoryview) -> bytes:
    """What differs at each look is left out: when the row was used."""
    at = NEIGHBOUR.size
    while at + _HEAD.size <= len(body):
        length, kind = _HEAD.unpack_from(body, at)
        if kind == _NDA_CACHEINFO:
            return bytes(body[:at]) + bytes(body[at + length :])
        at += max(length + 3 & ~3, _HEAD.size)
    return bytes(body)


def _parse(body: memoryview, name: str) -> Row | None:
    family, _index, state, flags, _type = NEIGHBOUR.unpack_from(body)
    facts = netlink.attributes(body[NEIGHBOUR.size :], _WANTED)
    mac = MAC(facts[NDA_LLADDR].hex(":")) if NDA_LLADDR in facts else EVERYBODY
    if family == socket.AF_BRIDGE:
        return _fdb(name, mac, facts, state, flags)
    if netlink.number(facts.get(NDA_PROTOCOL)) != ROUTE_PROTOCOL:
        return None
    return Neigh(name, ip_address(bytes(facts.get(NDA_DST, b""))), mac, bool(state & _NUD_PERMANENT))


def _fdb(name: str, mac: MAC, facts: Mapping[int, memoryview], state: int, flags: int) -> Fdb | None:
    """What the bridge has of the port's own MAC is nobody's, and of an annex what it learned."""
    if flags & NTF_STICKY:
        return Fdb(name, mac, None, lasting=bool(state & _NUD_NOARP), sticky=True)
    if not name.startswith(TUNNEL_PREFIX):
        return None
    if not flags & NTF_SELF:
        return None if state & _NUD_PERMANENT else Fdb(name, mac, None, lasting=bool(state & _NUD_NOARP))
    if NDA_DST not in facts:
        return None
    lasting = bool(state & _NUD_PERMANENT) and not _ELSEWHERE & facts.keys()
    return Fdb(name, mac, ip_address(bytes(facts[NDA_DST])), lasting)
