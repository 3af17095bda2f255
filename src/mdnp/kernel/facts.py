"""What messages of rtnetlink say of a link, as attributes. Pure."""

import sys

from mdnp.dataplane.links import PortFlags
from mdnp.dataplane.naming import GROUP
from mdnp.kernel import netlink
from mdnp.model.mac import MAC

# include/uapi/linux/{if_link,if,veth}.h
IFLA_ADDRESS, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS = 1, 4, 10, 18, 20
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_MODE = 4
# Of `PortFlags`; IFLA_BRPORT_UNICAST_FLOOD is what ip calls flood.
PORT_FLAGS = {"learning": 8, "flood": 9, "mcast_flood": 27, "bcast_flood": 30, "neigh_suppress": 32}
IFF_UP = 1
_VETH_INFO_PEER = 1


def link(*facts: bytes, index: int = 0, up: bool = False) -> bytes:
    """The body of a message about a link; by its index, or by its name among the facts."""
    return netlink.LINK.pack(0, 0, index, IFF_UP * up, IFF_UP * up) + b"".join(facts)


def number(kind: int, value: int) -> bytes:
    return netlink.attribute(kind, value.to_bytes(4, sys.byteorder))


def name(value: str) -> bytes:
    return netlink.attribute(netlink.IFLA_IFNAME, value.encode() + b"\0")


def mac(value: MAC) -> bytes:
    return netlink.attribute(IFLA_ADDRESS, bytes.fromhex(value.replace(":", "")))


def mtu(value: int) -> bytes:
    return number(IFLA_MTU, value)


def master(index: int) -> bytes:
    """0 takes it out of its bridge."""
    return number(IFLA_MASTER, index)


def group(value: int = GROUP) -> bytes:
    return number(netlink.IFLA_GROUP, value)


def alias(value: str) -> bytes:
    return netlink.attribute(IFLA_IFALIAS, value.encode())


def kind(value: str, *data: bytes) -> bytes:
    said = netlink.attribute(IFLA_INFO_KIND, value.encode())
    return netlink.nested(IFLA_LINKINFO, said, *([netlink.nested(IFLA_INFO_DATA, *data)] if data else []))


def peer(*facts: bytes) -> bytes:
    """The other end of a veth, among the data of its kind."""
    return netlink.nested(_VETH_INFO_PEER, link(*facts))


def hairpin(on: bool) -> bytes:  # as the attribute says it
    return _port(netlink.attribute(IFLA_BRPORT_MODE, bytes([on])))


def port(flags: PortFlags) -> bytes:
    return _port(*(netlink.attribute(kind, bytes([getattr(flags, one)])) for one, kind in PORT_FLAGS.items()))


def _port(*attributes: bytes) -> bytes:
    """Of a port of a bridge."""
    return netlink.nested(
        IFLA_LINKINFO,
        netlink.attribute(IFLA_INFO_SLAVE_KIND, b"bridge"),
        netlink.nested(IFLA_INFO_SLAVE_DATA, *attributes),
    )
