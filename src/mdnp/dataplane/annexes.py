"""
Plans what a network has for the endpoints that find no room on its own bridge: annexes, bridges that are each joined to
the own one by a veth, the joint. The host has no place in them: gateway, tunnel and the host's own end stay where they
are, and so do the tracking and translating of connections.
"""

from collections.abc import Iterator

from mdnp.dataplane import bridge, naming
from mdnp.dataplane.objects import Bridge, Element, Fdb, Object, Peer, Sysctl, Veth
from mdnp.model.endpoint import Endpoint
from mdnp.model.mac import derived_mac
from mdnp.model.network import Network


def plan_network(network: Network) -> tuple[Object, ...]:
    numbers = range(1, network.annexes + 1)
    return tuple(one for annex in numbers for one in (*_links(network, annex), *_elements(network, annex)))


def plan_endpoint(endpoint: Endpoint) -> tuple[Object, ...]:
    """Of one on an annex: its own frames that come back by the joint must not lead the bridge to look for it there."""
    return (Fdb(naming.host_end(endpoint.id), endpoint.mac, sticky=True),) if endpoint.annex else ()


def _links(network: Network, annex: int) -> Iterator[Object]:
    name, own = naming.bridge(network, annex), naming.bridge(network)
    upper, lower = naming.upper_end(network, annex), naming.lower_end(network, annex)
    alias = naming.joint_alias(network.id, annex)
    mac = derived_mac((), alias)
    yield Bridge(name, derived_mac((), name), network.mtu, naming.annex_alias(network.id, annex))
    # Linux answers ARP for each of its addresses on every link (arp_ignore 0), with that link's MAC.
    yield Sysctl(f"net/ipv4/conf/{name}/arp_ignore", "8")
    yield from (Sysctl(f"net/ipv6/conf/{link}/disable_ipv6", "1") for link in (name, upper, lower))
    # Where br_netfilter is on, the own bridge translates what an annex sends, and that may lead back there.
    yield Veth(upper, lower, mac, network.mtu, own, alias, hairpin=True)
    yield Peer(lower, mac, network.mtu, alias, bridge=name)


def _elements(network: Network, annex: int) -> Iterator[Element]:
    """What the sets mean, `rules` says."""
    name, upper = f'"{naming.bridge(network, annex)}"', f'"{naming.upper_end(network, annex)}"'
    yield Element("inet", "own", (name, name))
    yield from (Element("inet", each, (name,)) for each in ("bridges", "closed", "sealed", "annexes"))
    yield Element("bridge", "returns", (upper, upper))
    if not network.options.icc:
        yield Element("bridge", "noicc", (upper,))
        yield Element("bridge", "gateways", (upper, bridge.mac(network)))
