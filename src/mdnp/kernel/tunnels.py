"""VXLAN links, and the peers of veths that stay with the host: made and set by raw messages."""

import errno
import socket
import sys
from contextlib import suppress

from mdnp.dataplane.links import Peer, PortFlags, Tunnel, Vxlan
from mdnp.dataplane.naming import GROUP
from mdnp.kernel import links, netlink, rtnetlink, tunnel_port_in_use, vni_in_use
from mdnp.kernel.rtnetlink import Request
from mdnp.model.errors import InUse

# include/uapi/linux/{rtnetlink,if_link,if}.h
_RTM_NEWLINK = 16
_IFLA_ADDRESS, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_AF_SPEC = 1, 4, 10, 18, 20, 26
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE = 8, 1
_IFF_UP = 1


def add(wanted: Vxlan, bridge: int) -> None:
    """
    Down, and up when the flags of its port are set: nothing is flooded or learned in between. The UDP port is bound
    when the link goes up. Errors: OSError, with EEXIST for a name or a VNI in use; InUse for the UDP port, and then the
    link is there.
    """
    name = netlink.attribute(netlink.IFLA_IFNAME, wanted.name.encode() + b"\0")
    info = netlink.nested(_IFLA_LINKINFO, netlink.attribute(_IFLA_INFO_KIND, b"vxlan"), _of_tunnel(wanted.tunnel))
    facts = (_number(_IFLA_MTU, wanted.mtu), _number(_IFLA_MASTER, bridge), _number(netlink.IFLA_GROUP, GROUP))
    body = netlink.LINK.pack(0, 0, 0, 0, 0) + b"".join((name, *facts, info))
    rtnetlink.ask(Request(_RTM_NEWLINK, rtnetlink.CREATE | rtnetlink.EXCL, body))
    index = socket.if_nametoindex(wanted.name)
    with suppress(OSError):  # where IPv6 is switched off
        _set(index, _without_addresses())
    try:
        _set(index, _alias(wanted.alias), _of_port(wanted.flags), up=True)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InUse(tunnel_port_in_use(wanted.tunnel.port)) from error
        raise


def adopt(peer: Peer, index: int, bridge: int | None) -> None:
    """Make the end of a veth ours, and a port of a bridge if that is given. Errors: OSError."""
    mac = netlink.attribute(_IFLA_ADDRESS, bytes.fromhex(peer.mac.replace(":", "")))
    master = b"" if bridge is None else _number(_IFLA_MASTER, bridge)
    facts = (mac, _number(_IFLA_MTU, peer.mtu), master, _number(netlink.IFLA_GROUP, GROUP))
    _set(index, *facts, _alias(peer.alias), up=True)


def set_flags(index: int, flags: PortFlags) -> None:
    """Errors: OSError."""
    _set(index, _of_port(flags))


def vni_in_use_by(tunnel: Tunnel) -> InUse:
    holder = next((row.name for row in links.read() if _clashes(row.tunnel, tunnel)), "")
    return InUse(vni_in_use(tunnel.vni, tunnel.port, holder))


def _clashes(one: Tunnel | None, other: Tunnel) -> bool:
    return one is not None and (one.vni, one.port) == (other.vni, other.port)


def _set(index: int, *facts: bytes, up: bool = False) -> None:
    body = netlink.LINK.pack(0, 0, index, _IFF_UP * up, _IFF_UP * up) + b"".join(facts)
    rtnetlink.ask(Request(_RTM_NEWLINK, 0, body))


def _of_tunnel(tunnel: Tunnel) -> bytes:
    local = links.IFLA_VXLAN_LOCAL if tunnel.local.version == 4 else links.IFLA_VXLAN_LOCAL6
    return netlink.nested(
        _IFLA_INFO_DATA,
        _number(links.IFLA_VXLAN_ID, tunnel.vni),
        netlink.attribute(local, tunnel.local.packed),
        netlink.attribute(links.IFLA_VXLAN_PORT, tunnel.port.to_bytes(2, "big")),
        netlink.attribute(links.IFLA_VXLAN_LEARNING, bytes([tunnel.learning])),
    )


def _of_port(flags: PortFlags) -> bytes:
    attributes = (netlink.attribute(kind, bytes([getattr(flags, name)])) for name, kind in links.PORT_FLAGS.items())
    return netlink.nested(
        _IFLA_LINKINFO,
        netlink.attribute(_IFLA_INFO_SLAVE_KIND, b"bridge"),
        netlink.nested(_IFLA_INFO_SLAVE_DATA, *attributes),
    )


def _without_addresses() -> bytes:
    """No link-local address of IPv6: from a tunnel's, the host would ask the other hosts whether somebody has it."""
    mode = netlink.attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_IN6_ADDR_GEN_MODE_NONE]))
    return netlink.nested(_IFLA_AF_SPEC, netlink.nested(socket.AF_INET6, mode))


def _alias(alias: str) -> bytes:
    return netlink.attribute(_IFLA_IFALIAS, alias.encode())


def _number(kind: int, value: int) -> bytes:
    return netlink.attribute(kind, value.to_bytes(4, sys.byteorder))
