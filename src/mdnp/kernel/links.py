"""
The links of a network namespace, by one dump, read raw: 1,000 links are read in some 20 ms, which takes pyroute2 most
of a second that nobody else can compute in.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from mdnp.dataplane.links import PortFlags, Tunnel
from mdnp.kernel import netlink, rtnetlink
from mdnp.model.errors import KernelError

# include/uapi/linux/rtnetlink.h
_RTM_NEWLINK, _RTM_GETLINK = 16, 18

# include/uapi/linux/{if_link,if}.h
_IFLA_ADDRESS, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_IFALIAS = 1, 4, 10, 18, 20
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_IFLA_BRPORT_MODE = 4
# Of `PortFlags`; IFLA_BRPORT_UNICAST_FLOOD is what ip calls flood.
PORT_FLAGS = {"learning": 8, "flood": 9, "mcast_flood": 27, "bcast_flood": 30, "neigh_suppress": 32}
IFLA_VXLAN_ID, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT, IFLA_VXLAN_LOCAL6 = 1, 4, 7, 15, 17
_OF_A_LINK = frozenset(
    {_IFLA_ADDRESS, netlink.IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_IFALIAS, netlink.IFLA_GROUP}
)
_IFF_UP = 1

# Of a dump during which links came or went the kernel says so: what was read may lack links that are there. Where so
# many start at once that each try meets a change, the last one must do.
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Row:
    """
    A link as the kernel tells of it. `master` is an index, 0 where there is none; `mac` has colons, or is ""; `tunnel`
    is that of a VXLAN link, and `flags` those of its bridge port.
    """

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
    tunnel: Tunnel | None = None
    flags: PortFlags | None = None


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
        return rtnetlink.dump(_RTM_GETLINK, netlink.LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _RTM_NEWLINK)
    except OSError as error:
        raise KernelError(f"reading links failed: {error.strerror or error}") from error


def parse(body: memoryview) -> Row:
    """One message of a dump."""
    _family, _type, index, flags, _changed = netlink.LINK.unpack_from(body)
    facts = netlink.attributes(body[netlink.LINK.size :], _OF_A_LINK)
    info = netlink.attributes(facts.get(_IFLA_LINKINFO, memoryview(b"")))
    kind = netlink.text(info.get(_IFLA_INFO_KIND, b""))
    port = _port(info)
    return Row(
        index=index,
        name=netlink.text(facts.get(netlink.IFLA_IFNAME, b"")),
        kind=kind,
        mtu=netlink.number(facts.get(_IFLA_MTU)),
        master=netlink.number(facts.get(_IFLA_MASTER)),
        mac=bytes(facts.get(_IFLA_ADDRESS, b"")).hex(":"),
        up=bool(flags & _IFF_UP),
        group=netlink.number(facts.get(netlink.IFLA_GROUP)),
        alias=netlink.text(facts.get(_IFLA_IFALIAS, b"")),
        hairpin=bool(netlink.number(port.get(_IFLA_BRPORT_MODE))),
        tunnel=_tunnel(info.get(_IFLA_INFO_DATA)) if kind == "vxlan" else None,
        flags=_flags(port) if kind == "vxlan" and port else None,
    )


def _port(info: dict[int, memoryview]) -> dict[int, memoryview]:
    """The attributes of a port mean other things below other kinds of masters."""
    if netlink.text(info.get(_IFLA_INFO_SLAVE_KIND, b"")) != "bridge":
        return {}
    return netlink.attributes(info[_IFLA_INFO_SLAVE_DATA])


def _flags(port: dict[int, memoryview]) -> PortFlags:
    return PortFlags(**{name: bool(netlink.number(port.get(one))) for name, one in PORT_FLAGS.items()})


def _tunnel(data: memoryview | None) -> Tunnel | None:
    """None of one without an address of its own, which is not ours."""
    facts = netlink.attributes(data) if data is not None else {}
    local = facts.get(IFLA_VXLAN_LOCAL) or facts.get(IFLA_VXLAN_LOCAL6)
    if local is None:
        return None
    return Tunnel(
        vni=netlink.number(facts.get(IFLA_VXLAN_ID)),
        local=ip_address(bytes(local)),
        port=int.from_bytes(facts.get(IFLA_VXLAN_PORT, b""), "big"),
        learning=bool(netlink.number(facts.get(IFLA_VXLAN_LEARNING))),
    )
