"""
What the kernel tells of changes behind our back: netlink notices, read in the event loop.

Most are dropped after their header: a container's start makes dozens of them, and hardly one is about us.

A change of nf_tables bears the netlink port id of the socket that asked for it, and the kernel gives no port id twice
at a time. So what came through a socket of this process is our own doing. The pid that the end
of a transaction tells (NFTA_GEN_PROC_PID) says less: it is a thread's, counted in the first pid namespace.
"""

import asyncio
import ctypes
import fcntl
import functools
import logging
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path

from mdnp.dataplane.naming import FORWARD_CHAIN, GROUP, TABLE
from mdnp.kernel import Doubt, Gone, Notice, netlink, routes, rows
from mdnp.model.errors import KernelError

log = logging.getLogger(__name__)

# include/uapi/linux/{netlink,rtnetlink,if_addr,sockios}.h
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_SO_RCVBUFFORCE = 33
_SIOCGIFNAME = 0x8910
_NETLINK_ROUTE = 0
_RTNLGRP_LINK, _RTNLGRP_IPV4_IFADDR, _RTNLGRP_IPV6_IFADDR = 1, 5, 9
_RTNLGRP_NEIGH, _RTNLGRP_IPV4_ROUTE, _RTNLGRP_IPV4_RULE, _RTNLGRP_IPV6_ROUTE, _RTNLGRP_IPV6_RULE = 3, 7, 8, 11, 19
_GROUPS = (
    _RTNLGRP_LINK,
    _RTNLGRP_IPV4_IFADDR,
    _RTNLGRP_IPV6_IFADDR,
    _RTNLGRP_NEIGH,
    _RTNLGRP_IPV4_ROUTE,
    _RTNLGRP_IPV6_ROUTE,
    _RTNLGRP_IPV4_RULE,
    _RTNLGRP_IPV6_RULE,
)
_RTM_NEWLINK, _RTM_DELLINK, _RTM_DELADDR, _RTM_DELROUTE, _RTM_DELNEIGH, _RTM_DELRULE = 16, 17, 21, 25, 29, 33
_IFA_ADDRESS, _IFA_LABEL = 1, 3
_IFF_UP = 0x01
_IFF_RUNNING = 0x40

# include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h
_NETLINK_NETFILTER = 12
_NFNLGRP_NFTABLES = 7
_NFNL_SUBSYS_NFTABLES = 10
_NEWGEN = 15
_TABLE_GONE = (2, 26)  # DELTABLE, DESTROYTABLE: a notice repeats the word of the request
_CHAIN_CHANGED = (3, 5, 27)
_RULE_CHANGED = (6, 8, 28)
_NFTA_TABLE = 1  # has the table's name in every message but NEWGEN
_NFTA_RULE_CHAIN = 2
_NFTA_CHAIN_NAME = 3
_WATCHED = (FORWARD_CHAIN, "FORWARD")  # Docker's chain, and where the jump to it stands
_FILTER = "filter"  # the table in which iptables-nft keeps Docker's chain
_IPTABLES = {2: "iptables", 10: "ip6tables"}

# include/uapi/linux/{filter,bpf_common}.h
_SO_ATTACH_FILTER = 26
_BPF = struct.Struct("HBBI")  # sock_filter: code, jump if true, if false, operand
_BPF_LOAD_HALF, _BPF_JUMP_EQUAL, _BPF_RETURN = 0x28, 0x15, 0x06
_RTM_NEWNEIGH, _RTM_NEWROUTE = 28, 24

_ADDR = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_NFTABLES = struct.Struct("=BBH")  # nfgenmsg: family, version, the generation's low bits
_IFREQ = struct.Struct("=16xI20x")  # ifreq with an index
_NAME_SIZE = 16

_BUFFER = 4 << 20  # for what comes while the loop is busy: some thousand messages
_DATAGRAM = 1 << 16
_AT_ONCE = 100  # datagrams, about 1 ms: then others have their turn in the loop
_STRANGER_S = 0.5
# What comes is read a moment later, all at once: a call of Docker makes some ten notices, and is answered first.
_GATHER_S = 0.02


class Notices:
    """
    The notices of one network namespace: that of the thread that calls `open`. What they say is told in the thread of
    the loop that `listen` is given.
    """

    def __init__(self, ears: "list[_Ear]") -> None:
        self._ears = ears
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathering: dict[_Ear, asyncio.TimerHandle] = {}

    @classmethod
    def open(cls) -> "Notices":
        """Hear from now on. Without nf_tables in the kernel, links and addresses are heard still."""
        try:
            links = _subscribe(_NETLINK_ROUTE, _GROUPS)
            _keep_out_the_rest(links)
        except OSError as error:
            raise KernelError(f"listening to changes of links failed: {error}") from error
        ears = [_Ear(links, lambda data: parse_links(data, functools.partial(_name_of, links)))]
        try:
            nftables = _subscribe(_NETLINK_NETFILTER, (_NFNLGRP_NFTABLES,))
        except OSError as error:
            log.warning("changes of nftables will be found late, since the kernel does not tell of them: %s", error)
        else:
            own = _OwnSockets()
            ears.append(_Ear(nftables, lambda data: parse_nftables(data, own.have)))
        return cls(ears)

    def listen(self, loop: asyncio.AbstractEventLoop, heard: Callable[[Notice], None]) -> None:
        self._loop = loop
        for ear in self._ears:
            self._await(ear, heard, loop)

    def _await(self, ear: "_Ear", heard: Callable[[Notice], None], loop: asyncio.AbstractEventLoop) -> None:
        def gather() -> None:
            loop.remove_reader(ear.socket)
            self._gathering[ear] = loop.call_later(0 if ear.behind else _GATHER_S, tell)

        def tell() -> None:
            del self._gathering[ear]
            loop.add_reader(ear.socket, gather)
            for notice in ear.hear():
                heard(notice)

        loop.add_reader(ear.socket, gather)

    def close(self) -> None:
        for waiting in self._gathering.values():
            waiting.cancel()
        for ear in self._ears:
            if self._loop:
                self._loop.remove_reader(ear.socket)
            ear.socket.close()
        self._ears = []


@dataclass(eq=False)
class _Ear:
    socket: socket.socket
    parse: Callable[[bytes], list[Notice]]
    lost: bool = False
    behind: bool = False  # more had come than was read at once

    def hear(self) -> list[Notice]:
        """What has come, each notice once."""
        heard: dict[Notice, None] = {}
        self.behind = True
        for _ in range(_AT_ONCE):
            try:
                heard |= dict.fromkeys(self.parse(self.socket.recv(_DATAGRAM)))
            except BlockingIOError:
                # A socket that overflowed gets nothing more until it has been read empty, so we look only then.
                if self.lost:
                    heard[Doubt("notices were lost")] = None
                self.lost = self.behind = False
                break
            except OSError:  # whatever its number, a message found no place or no memory
                self.lost = True
        return list(heard)


def parse_links(data: bytes, name_of: Callable[[int], str | None]) -> list[Notice]:
    """What a datagram of rtnetlink says. `name_of` finds a link's name by its index, if the link is still there."""
    found: list[Notice | None] = []
    for kind, _port, body in netlink.messages(data):
        if kind == _RTM_NEWLINK:
            found.append(_changed_link(body))
        elif kind == _RTM_DELLINK:
            found.append(_deleted_link(body))
        elif kind in _DELETED:
            found.append(_DELETED[kind](body, name_of))
    return [notice for notice in found if notice]


def parse_nftables(data: bytes, is_own: Callable[[int], bool]) -> list[Notice]:
    """What a datagram of nf_tables says. `is_own` tells whether a port id is of a socket of ours."""
    reasons = ((_nftables_reason(kind, body), port) for kind, port, body in netlink.messages(data))
    return list(dict.fromkeys(Doubt(reason) for reason, port in reasons if reason and not is_own(port)))


def _changed_link(body: memoryview) -> Notice | None:
    """
    A link that somebody set down. One that dies goes down as well, which the kernel tells with both flags as changed:
    that is left to the notice of its death. A new link of ours is up when it is first told of.
    """
    if len(body) < netlink.LINK.size:
        return None
    _family, _type, _index, flags, changed = netlink.LINK.unpack_from(body)
    if flags & _IFF_UP or changed & (_IFF_UP | _IFF_RUNNING) != _IFF_UP:
        return None
    name = _our_link(body)
    return Doubt(f"link {name} is down") if name else None


def _deleted_link(body: memoryview) -> Notice | None:
    name = _our_link(body)
    return Gone(("link", name)) if name else None


def _our_link(body: memoryview) -> str | None:
    """The name of a link of ours. A bridge's notices about its ports have no group, so they are nobody's."""
    attributes = netlink.attributes(body[netlink.LINK.size :])
    if int.from_bytes(attributes.get(netlink.IFLA_GROUP, b""), sys.byteorder) != GROUP:
        return None
    return netlink.text(attributes.get(netlink.IFLA_IFNAME, b""))


def _deleted_addr(body: memoryview, name_of: Callable[[int], str | None]) -> Notice | None:
    """The key is the one of `objects.Addr`. A label is the link's name, with a colon and more if the user chose it."""
    if len(body) < _ADDR.size:
        return None
    _family, prefix_length, _flags, _scope, index = _ADDR.unpack_from(body)
    attributes = netlink.attributes(body[_ADDR.size :])
    name = netlink.text(attributes.get(_IFA_LABEL, b"")).partition(":")[0] or name_of(index)
    try:
        address = ip_interface((bytes(attributes.get(_IFA_ADDRESS, b"")), prefix_length))
    except ValueError:
        return None
    return Gone(("addr", name, str(address))) if name else None


def _deleted_row(body: memoryview, name_of: Callable[[int], str | None]) -> Notice | None:
    row = rows.parse(body, name_of)
    return Gone(row.key) if row else None


def _deleted_route(body: memoryview, name_of: Callable[[int], str | None]) -> Notice | None:
    route = routes.parse_route(body, name_of)
    return Gone(route.key) if route else None


def _deleted_rule(body: memoryview, _name_of: Callable[[int], str | None]) -> Notice | None:
    rule = routes.parse_rule(body)
    return Gone(rule.key) if rule else None


_DELETED = {
    _RTM_DELADDR: _deleted_addr,
    _RTM_DELNEIGH: _deleted_row,
    _RTM_DELROUTE: _deleted_route,
    _RTM_DELRULE: _deleted_rule,
}


def _nftables_reason(kind: int, body: memoryview) -> str | None:
    subsystem, message = divmod(kind, 256)
    if subsystem != _NFNL_SUBSYS_NFTABLES or message == _NEWGEN or len(body) < _NFTABLES.size:
        return None
    attributes = netlink.attributes(body[_NFTABLES.size :])
    table = netlink.text(attributes.get(_NFTA_TABLE, b""))
    if table == TABLE:
        return f"table {TABLE} was changed"
    program = _IPTABLES.get(body[0])
    return _filter_reason(program, message, attributes) if program and table == _FILTER else None


def _filter_reason(program: str, message: int, attributes: dict[int, memoryview]) -> str | None:
    if message in _TABLE_GONE:
        return f"{program}: table {_FILTER} was deleted"
    if message in _CHAIN_CHANGED:
        chain = attributes.get(_NFTA_CHAIN_NAME, b"")
    elif message in _RULE_CHANGED:
        chain = attributes.get(_NFTA_RULE_CHAIN, b"")
    else:
        return None
    name = netlink.text(chain)
    return f"{program}: chain {name} was changed" if name in _WATCHED else None


def _subscribe(protocol: int, groups: tuple[int, ...]) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    try:
        opened.setblocking(False)
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:  # beyond net.core.rmem_max only root may go
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        opened.bind((0, 0))
        for group in groups:
            opened.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    except OSError:
        opened.close()
        raise
    return opened


def _keep_out_the_rest(opened: socket.socket) -> None:
    """
    Have the kernel drop what is only of neighbours and routes that come: a busy host resolves neighbours all the time,
    a router learns a whole table of routes, and a cluster that is told adds rows by the thousand.
    """
    # Classic BPF on the message: its type is at 4, which BPF reads as of the network's byte order.
    kinds = [socket.htons(kind) for kind in (_RTM_NEWNEIGH, _RTM_NEWROUTE)]
    program = [
        _BPF.pack(_BPF_LOAD_HALF, 0, 0, 4),
        *(_BPF.pack(_BPF_JUMP_EQUAL, len(kinds) - place, 0, kind) for place, kind in enumerate(kinds)),
        _BPF.pack(_BPF_RETURN, 0, 0, 0xFFFFFFFF),
        _BPF.pack(_BPF_RETURN, 0, 0, 0),
    ]
    kept = ctypes.create_string_buffer(b"".join(program))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(kept)))


def _name_of(where: socket.socket, index: int) -> str | None:
    """A link's name in the namespace of the socket, which need not be this thread's as for `socket.if_indextoname`."""
    try:
        return netlink.text(fcntl.ioctl(where, _SIOCGIFNAME, _IFREQ.pack(index))[:_NAME_SIZE])
    except OSError:
        return None


class _OwnSockets:
    """
    The nf_tables sockets of this process, found among its descriptors when an unknown port id comes.

    The last stranger is remembered for a moment: a flush sends hundreds of datagrams, and each search takes some
    milliseconds where thousands of sockets are open. Not longer, since a port id that was let go is given anew.
    """

    def __init__(self) -> None:
        self._own: dict[int, int] = {}
        self._stranger = 0
        self._forget_at = 0.0

    def have(self, port: int) -> bool:
        if port == self._stranger and time.monotonic() < self._forget_at:
            return False
        known = self._own.get(port)
        if known is None or _port_of(known) != port:
            self._own = {one: descriptor for descriptor in _descriptors() if (one := _port_of(descriptor))}
        if port not in self._own:
            self._stranger, self._forget_at = port, time.monotonic() + _STRANGER_S
        return port in self._own


def _descriptors() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:  # then our own changes are taken for somebody's, which costs a look
        return []


def _port_of(descriptor: int) -> int | None:
    """
    The port id of an nf_tables socket, None for all else.

    The descriptor is another's, who may close it meanwhile. It is never duplicated: closing a duplicate of SQLite's
    would drop the locks on the database.
    """
    with suppress(OSError):
        borrowed = socket.socket(fileno=descriptor)
        try:
            if (borrowed.family, borrowed.proto) == (socket.AF_NETLINK, _NETLINK_NETFILTER):
                port: int = borrowed.getsockname()[0]
                return port
        finally:
            borrowed.detach()
    return None
