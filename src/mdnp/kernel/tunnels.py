"""VXLAN links, and the peers of veths that stay with the host: made and set."""

import errno
import socket
from contextlib import suppress

from mdnp.dataplane.links import Peer, PortFlags, Tunnel, Vxlan
from mdnp.kernel import facts, links, netlink, tunnel_port_in_use, vni_in_use
from mdnp.model.errors import InUse

# include/uapi/linux/if_link.h
_IFLA_AF_SPEC = 26
_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE = 8, 1


def add(wanted: Vxlan, bridge: int) -> None:
    """
    Down, and up when the flags of its port are set: nothing is flooded or learned in between. The UDP port is bound
    when the link goes up. Errors: OSError, with EEXIST for a name or a VNI in use; InUse for the UDP port, and then the
    link is there.
    """
    links.make(
        facts.name(wanted.name),
        facts.mtu(wanted.mtu),
        facts.master(bridge),
        facts.group(),
        facts.kind("vxlan", *_of_tunnel(wanted.tunnel)),
    )
    index = socket.if_nametoindex(wanted.name)
    with suppress(OSError):  # where IPv6 is switched off
        links.change(index, _without_addresses())
    try:
        links.change(index, facts.alias(wanted.alias), facts.port(wanted.flags), up=True)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InUse(tunnel_port_in_use(wanted.tunnel.port)) from error
        raise


def adopt(peer: Peer, index: int, bridge: int | None) -> None:
    """Make the end of a veth ours, and a port of a bridge if that is given. Errors: OSError."""
    master = [] if bridge is None else [facts.master(bridge)]
    said = (facts.mac(peer.mac), facts.mtu(peer.mtu), *master, facts.group(), facts.alias(peer.alias))
    links.change(index, *said, up=True)


def set_flags(index: int, flags: PortFlags) -> None:
    """Errors: OSError."""
    links.change(index, facts.port(flags))


def vni_in_use_by(tunnel: Tunnel) -> InUse:
    holder = next((row.name for row in links.read() if _clashes(row.tunnel, tunnel)), "")
    return InUse(vni_in_use(tunnel.vni, tunnel.port, holder))


def _clashes(one: Tunnel | None, other: Tunnel) -> bool:
    return one is not None and (one.vni, one.port) == (other.vni, other.port)


def _of_tunnel(tunnel: Tunnel) -> tuple[bytes, ...]:
    local = links.IFLA_VXLAN_LOCAL if tunnel.local.version == 4 else links.IFLA_VXLAN_LOCAL6
    return (
        facts.number(links.IFLA_VXLAN_ID, tunnel.vni),
        netlink.attribute(local, tunnel.local.packed),
        netlink.attribute(links.IFLA_VXLAN_PORT, tunnel.port.to_bytes(2, "big")),
        netlink.attribute(links.IFLA_VXLAN_LEARNING, bytes([tunnel.learning])),
    )


def _without_addresses() -> bytes:
    """No link-local address of IPv6: from a tunnel's, the host would ask the other hosts whether somebody has it."""
    mode = netlink.attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_IN6_ADDR_GEN_MODE_NONE]))
    return netlink.nested(_IFLA_AF_SPEC, netlink.nested(socket.AF_INET6, mode))
