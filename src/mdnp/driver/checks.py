"""What is asked for, against what is promised already and what the host has. Errors: InvalidParameter, Conflict."""

import logging
from collections.abc import Iterable

from mdnp.dataplane import naming
from mdnp.kernel import Surroundings
from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import Conflict, InvalidParameter, Unsupported
from mdnp.model.identity import EndpointID, short
from mdnp.model.network import Network, overlapping
from mdnp.model.options import BRIDGE_NAME, GATEWAY, GATEWAY_MODE_IPV4, GATEWAY_MODE_IPV6, MODE, Mode, Routing

log = logging.getLogger(__name__)


def check_network(network: Network, others: Iterable[Network], surroundings: Surroundings) -> None:
    """A network that is new, against the others and the host."""
    known = list(others)
    _check_options(network)
    _check_bridge(network, known)
    _check_overlap(network, known)
    _check_routes(network, surroundings)


def check_name(endpoint: Endpoint, others: Iterable[EndpointID]) -> None:
    """Two ids that begin alike would share a link name."""
    named = endpoint.id[: naming.ID_LENGTH]
    for other in others:
        if other.startswith(named):  # of thousands: no name is made of each
            name = naming.host_end(endpoint.id)
            raise Conflict(f"endpoint {short(endpoint.id)}: its link {name} would be endpoint {other}'s")


def check_annexes(network: Network, others: Iterable[Network]) -> None:
    """Two ids that begin alike would share names of annexes."""
    name = naming.bridge(network, 1)
    for other in others:
        if other.annexes and other.id != network.id and naming.bridge(other, 1) == name:
            raise Conflict(
                f"network {short(network.id)} has no room, and {name} is network {other.id}'s: create it again"
            )


def check_addresses(network: Network, endpoint: Endpoint) -> None:
    for address in endpoint.addresses:
        subnet = network.subnet_of(address)
        if subnet is None:
            raise InvalidParameter(f"address {address} is in no subnet of network {short(network.id)}")
        if network.has_gateway and subnet.gateway and subnet.gateway.ip == address.ip:
            raise Conflict(f"address {address} is the gateway's of network {short(network.id)}")


def _check_options(network: Network) -> None:
    """What each option means alone was checked before; here what they mean together."""
    modes = {GATEWAY_MODE_IPV4: network.options.routing_ipv4, GATEWAY_MODE_IPV6: network.options.routing_ipv6}
    for key, routing in modes.items():
        if routing is Routing.ISOLATED and not network.internal:
            raise InvalidParameter(f"option {key}={routing}: only an internal network can be isolated: add --internal")
        if routing is Routing.ROUTED and not network.is_way_out:
            raise InvalidParameter(
                f"option {key}={routing}: this network has no gateway of mdnp's to route by: leave it out, or leave out"
                f" --internal and {GATEWAY}"
            )
        if routing is Routing.ROUTED and network.options.mode is Mode.OVERLAY:
            raise Unsupported(
                f"option {key}={routing}: the containers of an overlay are on several hosts, and no router can tell on"
                f" which: leave it out, or leave out {MODE}={Mode.OVERLAY}"
            )


def _check_bridge(network: Network, others: list[Network]) -> None:
    name = naming.bridge(network)
    if network.options.bridge_name and name.startswith(naming.PREFIXES):
        raise InvalidParameter(
            f"option {BRIDGE_NAME}={name}: names with {', '.join(naming.PREFIXES)} are for links that mdnp names itself"
        )
    for other in others:
        if naming.bridge(other) == name:
            raise Conflict(f"bridge {name} is network {short(other.id)}'s already: choose another name")


def _check_overlap(network: Network, others: list[Network]) -> None:
    for number, subnet in enumerate(network.subnets):
        clash = overlapping([subnet], [one.pool for one in network.subnets[:number]])
        if clash:
            raise Conflict(f"subnet {clash[0]} overlaps {clash[1]} of the same network: choose another --subnet")
    for other in others:
        clash = overlapping(network.subnets, [subnet.pool for subnet in other.subnets])
        if clash:
            raise Conflict(
                f"subnet {clash[0]} overlaps {clash[1]} of network {short(other.id)}: choose another --subnet, or"
                " remove that network; if Docker does not have it any more, `mdnp gc` does"
            )


def _check_routes(network: Network, surroundings: Surroundings) -> None:
    """
    A subnet that is directly on a link of the host would be black-holed.

    A route with a gateway is another matter: taking a piece out of a VPN's 10.0.0.0/8 is what people do on purpose.
    """
    for route in surroundings.routes:
        clash = overlapping(network.subnets, [route.to])
        if clash and not route.gateway:
            raise Conflict(
                f"subnet {clash[0]} overlaps {route.to}, which is directly on the host's link {route.link}: choose"
                " another --subnet"
            )
        if clash:
            log.warning(
                "subnet %s of network %s hides a part of the route to %s", clash[0], short(network.id), route.to
            )
