"""Plans a network of mode bridge: a bridge with the gateway's addresses, and a veth pair for each endpoint."""

from mdnp.dataplane import naming
from mdnp.dataplane.objects import Accept, Addr, Bridge, Object, Presence, Veth
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.mac import derived_mac
from mdnp.model.network import IPInterface, Network

_PRESENCE = {Phase.CREATED: Presence.MUST, Phase.JOINED: Presence.HELD, Phase.LEFT: Presence.MAY}


def plan_network(network: Network) -> tuple[Object, ...]:
    name = naming.bridge(network)
    gateways = _gateways(network)
    # A MAC of its own keeps the bridge from taking the lowest of its ports', which would change the gateway's MAC
    # under the neighbours whenever a container comes or goes.
    mac = derived_mac(gateways, network.id)
    bridge = Bridge(name, mac, network.mtu, naming.network_alias(network.id))
    return (bridge, *(Addr(name, gateway) for gateway in gateways), Accept(4, name), Accept(6, name))


def plan_endpoint(network: Network, endpoint: Endpoint) -> tuple[Object, ...]:
    return (
        Veth(
            host_end=naming.host_end(endpoint.id),
            sandbox_end=naming.sandbox_end(endpoint.id),
            mac=endpoint.mac,
            mtu=network.mtu,
            bridge=naming.bridge(network),
            alias=naming.endpoint_alias(endpoint.id),
            presence=_PRESENCE[endpoint.phase],
        ),
    )


def _gateways(network: Network) -> tuple[IPInterface, ...]:
    if not network.has_gateway:
        return ()
    return tuple(subnet.gateway for subnet in network.subnets if subnet.gateway)
