"""Plans a network of mode bridge: a bridge with the gateway's addresses, and a veth pair for each endpoint."""

from mdnp.dataplane import naming
from mdnp.dataplane.objects import Addr, Bridge, Object, Presence, Veth
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.mac import MAC, derived_mac
from mdnp.model.network import IPInterface, Network

_PRESENCE = {Phase.CREATED: Presence.MUST, Phase.JOINED: Presence.HELD, Phase.LEFT: Presence.MAY}


def plan_network(network: Network) -> tuple[Object, ...]:
    name = naming.bridge(network)
    bridge = Bridge(name, mac(network), network.mtu, naming.network_alias(network.id))
    return (bridge, *(Addr(name, gateway) for gateway in _gateways(network)))


def plan_endpoint(network: Network, endpoint: Endpoint) -> tuple[Object, ...]:
    """What leaves an annex for one of its own ports turns round on the network's own bridge, and needs no hairpin."""
    return (
        Veth(
            host_end=naming.host_end(endpoint.id),
            sandbox_end=naming.sandbox_end(endpoint.id),
            mac=endpoint.mac,
            mtu=network.mtu,
            bridge=naming.bridge(network, endpoint.annex),
            alias=naming.endpoint_alias(endpoint.id),
            presence=_PRESENCE[endpoint.phase],
            hairpin=bool(endpoint.ports) and not endpoint.annex,
        ),
    )


def mac(network: Network) -> MAC:
    """
    The MAC of a network's bridge, which is its gateway's.

    One of its own keeps the bridge from taking the lowest of its ports', which would change the gateway's MAC under
    the neighbours whenever a container comes or goes.
    """
    return derived_mac(_gateways(network), network.id)


def _gateways(network: Network) -> tuple[IPInterface, ...]:
    if not network.has_gateway:
        return ()
    return tuple(subnet.gateway for subnet in network.subnets if subnet.gateway)
