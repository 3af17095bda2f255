"""
The links of a network namespace, by one dump, read raw: 1,000 links are read in some 20 ms, which takes pyroute2 most
of a second that nobody else can compute in.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mdnp.kernel import netlink
from mdnp.model.errors import KernelError

# include/uapi/linux/{netlink,rtnetlink}.h
_NETLINK_ROUTE = 0
_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_ERROR = struct.Struct("=i")

# include/uapi/linux/{if_link,if}.h
_IFLA_ADDRESS, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_IFALIAS = 1, 4, 10, 18, 20
_IFLA_INFO_KIND, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 4, 5
_IFLA_BRPORT_MODE = 4
_OF_A_LINK = frozenset(
    {_IFLA_ADDRESS, netlink.IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_IFALIAS, netlink.IFLA_GROUP}
)
_IFF_UP = 1

_DATAGRAM = 1 << 18
_PATIENCE_S = 5.0  # the kernel answers a dump as it is read
# Of a dump during which links came or went the kernel says so: what was read may lack links that are there. Where so
# many start at once that each try meets a change, the last one must do.
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Row:
    """A link as the kernel tells of it. `master` is an index, 0 where there is none; `mac` has colons, or is ""."""

    index: int
    name: str
    kind: str
    mtu: int
    master: int
    mac: str
    up: bool
    group: int
    alias: str
    hairpin: bool


def read() -> list[Row]:
    """Of the network namespace of this thread. Errors: KernelError."""
    for _ in range(_TRIES):
        bodies, whole = dump()
        if whole:
            break
    return [parse(body) for body in bodies]


def dump() -> tuple[Sequence[memoryview], bool]:
    """The bodies of the links' messages, and whether none is missing. Errors: KernelError."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as asking:
            asking.settimeout(_PATIENCE_S)
            asking.bind((0, 0))
            asking.send(_request())
            datagrams = list(_datagrams(asking))
    except OSError as error:
        raise KernelError(f"reading links failed: {error.strerror or error}") from error
    bodies = [body for data in datagrams for kind, _, body in netlink.messages(data) if kind == _RTM_NEWLINK]
    return bodies, not any(map(netlink.is_interrupted, datagrams))


def parse(body: memoryview) -> Row:
    """One message of a dump."""
    _family, _type, index, flags, _changed = netlink.LINK.unpack_from(body)
    facts = netlink.attributes(body[netlink.LINK.size :], _OF_A_LINK)
    info = netlink.attributes(facts.get(_IFLA_LINKINFO, memoryview(b"")))
    return Row(
        index=index,
        name=netlink.text(facts.get(netlink.IFLA_IFNAME, b"")),
        kind=netlink.text(info.get(_IFLA_INFO_KIND, b"")),
        mtu=_number(facts.get(_IFLA_MTU)),
        master=_number(facts.get(_IFLA_MASTER)),
        mac=bytes(facts.get(_IFLA_ADDRESS, b"")).hex(":"),
        up=bool(flags & _IFF_UP),
        group=_number(facts.get(netlink.IFLA_GROUP)),
        alias=netlink.text(facts.get(_IFLA_IFALIAS, b"")),
        hairpin=_hairpin(info),
    )


def _request() -> bytes:
    body = netlink.LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    return netlink.MESSAGE.pack(netlink.MESSAGE.size + len(body), _RTM_GETLINK, flags, 1, 0) + body


def _datagrams(asking: socket.socket) -> Iterator[bytes]:
    """All of an answer, the one with its end too."""
    while True:
        data = asking.recv(_DATAGRAM)
        yield data
        for kind, _port, body in netlink.messages(data):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -_ERROR.unpack_from(body)[0] or errno.EIO
                raise OSError(number, os.strerror(number))


def _number(value: memoryview | None) -> int:
    return int.from_bytes(value, sys.byteorder) if value is not None else 0


def _hairpin(info: dict[int, memoryview]) -> bool:
    """The attributes of a port mean other things below other kinds of masters."""
    if netlink.text(info.get(_IFLA_INFO_SLAVE_KIND, b"")) != "bridge":
        return False
    return bool(_number(netlink.attributes(info[_IFLA_INFO_SLAVE_DATA]).get(_IFLA_BRPORT_MODE)))
