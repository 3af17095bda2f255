"""
Plans what an overlay has besides a bridge: the tunnel to the other hosts of its segment, the host's own address there,
and the rows that lead to what others tell of.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mdnp.dataplane import bridge, naming
from mdnp.dataplane.links import Peer, PortFlags, Tunnel, Veth, Vxlan
from mdnp.dataplane.objects import Addr, Element, Object, Row, Sysctl
from mdnp.dataplane.rows import EVERYBODY, Family, Fdb, Lookup, Neigh, PoolRoute
from mdnp.model.endpoint import Endpoint
from mdnp.model.mac import MAC, derived_mac
from mdnp.model.network import IPAddress, IPInterface, Network
from mdnp.model.options import Mode
from mdnp.model.segment import RemoteEndpoint

_FAMILIES: tuple[Family, ...] = (4, 6)


@dataclass(frozen=True)
class Underlay:
    """
    What carries a network's tunnel: our VTEP, None while it is not known; the UDP port; and the VTEPs of the other
    hosts that have a network of its segment.
    """

    vtep: IPAddress | None = None
    port: int = 4789
    members: tuple[IPAddress, ...] = ()


def plan_host(networks: Iterable[Network]) -> tuple[Object, ...]:
    """While this host has an address of its own in a segment."""
    families = {address.version for network in networks if is_overlay(network) for address in network.host_addresses}
    return tuple(Lookup(family) for family in _FAMILIES if family in families)


def plan_network(network: Network, underlay: Underlay) -> tuple[Object, ...]:
    """Without an agreed VNI or a VTEP of ours there is no tunnel, and the rest stands."""
    own = _own(network) if network.host_addresses else ()
    if not (network.vni and underlay.vtep):
        return (*own,)
    return (*_tunnel(network, underlay.vtep, underlay), *own)


def plan_endpoint(network: Network, endpoint: Endpoint) -> tuple[Object, ...]:
    """Who is here is not asked for elsewhere."""
    return tuple(_here(network, address.ip) for address in endpoint.addresses)


def plan_remote(network: Network, remote: RemoteEndpoint) -> tuple[Object, ...]:
    """Three rows for an address: with two of them it does not work."""
    tunnel, name = naming.tunnel(network), naming.bridge(network)
    rows: tuple[Row, ...] = (
        Fdb(tunnel, remote.mac, remote.vtep),
        Fdb(tunnel, remote.mac),
        *(Neigh(name, address, remote.mac) for address in remote.addresses),
    )
    if network.options.icc or not remote.is_host:
        return rows
    return (*rows, *_without_icc(network, remote.mac, remote.addresses))


def is_overlay(network: Network) -> bool:
    return network.options.mode is Mode.OVERLAY


def own_mac(network: Network) -> MAC:
    """The MAC of the host's own address in the segment."""
    return derived_mac(network.host_addresses, network.id)


def _tunnel(network: Network, vtep: IPAddress, underlay: Underlay) -> Iterator[Object]:
    name, vni = naming.tunnel(network), f"{network.vni:#x}"
    multicast = network.options.multicast
    yield _inet("tunnels", str(underlay.port))
    yield _inet("vnis", vni)
    for member in underlay.members:
        yield _inet(f"vteps{member.version}", vni, str(member))
    if network.has_gateway:
        yield _bridge("anycast", _name(name), bridge.mac(network))
    yield Vxlan(
        name,
        Tunnel(network.vni, vtep, underlay.port),
        network.mtu,
        naming.bridge(network),
        naming.tunnel_alias(network.id),
        PortFlags(mcast_flood=multicast, bcast_flood=multicast),
    )
    # What the host itself would send on each link that is up, as MLD reports.
    yield Sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1")
    if multicast:
        yield from (Fdb(name, EVERYBODY, member) for member in underlay.members)


def _own(network: Network) -> Iterator[Object]:
    own, inner, below = naming.own_end(network), naming.inner_end(network), naming.bridge(network)
    mac, alias = own_mac(network), naming.own_alias(network.id)
    yield _inet("bridges", _name(own))
    if not network.options.icc:
        yield from _without_icc(network, mac, (one.ip for one in network.host_addresses))
    yield Veth(inner, own, mac, network.mtu, below, alias)
    yield Peer(own, mac, network.mtu, alias)
    yield from _own_settings(own, inner, below)
    for address in network.host_addresses:
        yield _here(network, address.ip)
        yield Addr(own, _alone(address))
        subnet = network.subnet_of(address)
        if subnet:
            yield PoolRoute(subnet.pool, own, address.ip)


def _own_settings(own: str, inner: str, below: str) -> Iterator[Sysctl]:
    # To whom the host sends by its own end, the containers, also comes in by the bridge: the way back would be wrong.
    yield Sysctl(f"net/ipv4/conf/{below}/rp_filter", "2")
    # An address has one MAC: Linux answers for each of its addresses on every link (arp_ignore 0), and asks in the name
    # of the gateway by the own end (arp_announce 0), whose MAC containers would then take for the gateway's.
    yield Sysctl(f"net/ipv4/conf/{below}/arp_ignore", "1")
    yield Sysctl(f"net/ipv4/conf/{own}/arp_ignore", "1")
    yield Sysctl(f"net/ipv4/conf/{own}/arp_announce", "2")
    # As for a bridge (`rules`).
    yield Sysctl(f"net/ipv4/conf/{own}/route_localnet", "1")
    yield Sysctl(f"net/ipv6/conf/{own}/accept_ra", "0")
    yield Sysctl(f"net/ipv6/conf/{own}/accept_dad", "0")
    yield Sysctl(f"net/ipv6/conf/{inner}/disable_ipv6", "1")


def _without_icc(network: Network, mac: MAC, addresses: Iterable[IPAddress]) -> Iterator[Element]:
    """Containers that do not reach each other reach the hosts still."""
    name = _name(naming.bridge(network))
    yield _bridge("hosts", mac)
    yield from (_inet(f"hosts{address.version}", name, name, str(address)) for address in addresses)


def _here(network: Network, address: IPAddress) -> Element:
    """As a number where nft has no word for the place in the packet (`rules`)."""
    written = str(address) if address.version == 4 else f"{int(address):#x}"
    return _bridge(f"here{address.version}", _name(naming.tunnel(network)), written)


def _alone(address: IPInterface) -> IPInterface:
    """Without its pool, which is the bridge's, or the kernel would make a second route to it."""
    return type(address)(address.ip)


def _inet(name: str, *parts: str) -> Element:
    return Element("inet", name, parts)


def _bridge(name: str, *parts: str) -> Element:
    return Element("bridge", name, parts)


def _name(link: str) -> str:
    return f'"{link}"'
