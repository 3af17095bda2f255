"""Docker's messages as the driver's values."""

from collections.abc import Mapping
from typing import Any

from mdnp.driver.requests import EndpointRequest, NetworkRequest
from mdnp.model.errors import InvalidParameter
from mdnp.model.identity import endpoint_id, network_id
from mdnp.model.mac import parse_mac
from mdnp.model.network import IPInterface, Subnet, parse_interface, parse_subnet
from mdnp.model.options import NetworkOptions, check_endpoint_options, parse_network_options
from mdnp.wire.messages import AskedInterface, CreateEndpoint, CreateNetwork, PortBinding

_GENERIC = "com.docker.network.generic"
_INTERNAL = "com.docker.network.internal"
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 132: "sctp"}


def network_options(options: Mapping[str, Any] | None) -> tuple[NetworkOptions, bool]:
    """The user's options, and whether the network is internal."""
    given = options or {}
    generic = given.get(_GENERIC) or {}
    if not isinstance(generic, dict):
        raise InvalidParameter(f"option {_GENERIC}: expected a map")
    internal = given.get(_INTERNAL)
    if internal is not None and not isinstance(internal, bool):
        raise InvalidParameter(f"option {_INTERNAL}: expected true or false")
    return parse_network_options(generic), bool(internal)


def network_request(body: CreateNetwork) -> NetworkRequest:
    options, internal = network_options(body.Options)
    data = [*(body.IPv4Data or ()), *(body.IPv6Data or ())]
    subnets: list[Subnet] = []
    for one in data:
        subnet = parse_subnet(one.Pool, one.Gateway)
        if subnet:
            subnets.append(subnet)
    return NetworkRequest(network_id(body.NetworkID), tuple(subnets), internal, options)


def endpoint_request(body: CreateEndpoint) -> EndpointRequest:
    check_endpoint_options(body.Options or {})
    asked = body.Interface or AskedInterface()
    return EndpointRequest(
        network_id=network_id(body.NetworkID),
        id=endpoint_id(body.EndpointID),
        mac=parse_mac(asked.MacAddress) if asked.MacAddress else None,
        addresses=_addresses(asked),
    )


def described(ports: list[PortBinding] | None) -> tuple[str, ...]:
    """Ports to publish, as people write them: 8080:80/tcp."""
    return tuple(f"{one.HostPort or ''}:{one.Port}/{_PROTOCOLS.get(one.Proto, one.Proto)}" for one in ports or ())


def _addresses(asked: AskedInterface) -> tuple[IPInterface, ...]:
    fields = {"Address": asked.Address, "AddressIPv6": asked.AddressIPv6}
    return tuple(parse_interface(text, field) for field, text in fields.items() if text)
