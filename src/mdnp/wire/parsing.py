"""Docker's messages as the driver's values."""

from collections.abc import Mapping
from typing import Any

from mdnp.driver.requests import EndpointRequest, NetworkRequest, PublishRequest
from mdnp.model.errors import InvalidParameter
from mdnp.model.identity import endpoint_id, network_id
from mdnp.model.mac import parse_mac
from mdnp.model.network import IPInterface, Subnet, parse_interface, parse_subnet
from mdnp.model.options import NetworkOptions, parse_endpoint_options, parse_network_options
from mdnp.model.port import PortRequest, Protocol, parse_host_address
from mdnp.wire.messages import (
    AskedInterface,
    CreateEndpoint,
    CreateNetwork,
    ExternalConnectivityOptions,
    PortBinding,
    ProgramExternalConnectivity,
)

_GENERIC = "com.docker.network.generic"
_INTERNAL = "com.docker.network.internal"
_PROTOCOLS = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}
_PORTS = range(1, 65536)


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
    reserved = (parse_interface(text, "AuxAddress").ip for one in data for text in (one.AuxAddresses or {}).values())
    return NetworkRequest(network_id(body.NetworkID), tuple(subnets), internal, options, tuple(reserved))


def endpoint_request(body: CreateEndpoint) -> EndpointRequest:
    options = parse_endpoint_options(body.Options or {})
    asked = body.Interface or AskedInterface()
    return EndpointRequest(
        network_id=network_id(body.NetworkID),
        id=endpoint_id(body.EndpointID),
        mac=parse_mac(asked.MacAddress) if asked.MacAddress else None,
        addresses=_addresses(asked),
        allowed=options.allowed,
    )


def publish_request(body: ProgramExternalConnectivity) -> PublishRequest:
    options = body.Options or ExternalConnectivityOptions()
    return PublishRequest(
        network_id=network_id(body.NetworkID),
        endpoint_id=endpoint_id(body.EndpointID),
        ports=tuple(map(_port_request, options.portmap or ())),
        carried=not options.no_proxy_6to4,
    )


def _port_request(binding: PortBinding) -> PortRequest:
    protocol = _PROTOCOLS.get(binding.Proto)
    if protocol is None:
        raise InvalidParameter(f"port {binding.Port}: IP protocol {binding.Proto}: expected that of tcp, udp or sctp")
    first, last = binding.HostPort, binding.HostPortEnd or binding.HostPort
    whole = f"host ports {first}-{last} for {binding.Port}/{protocol}"
    if binding.Port not in _PORTS:
        raise InvalidParameter(f"port {binding.Port}/{protocol} of the container: expected 1 to 65535")
    if first == 0 and last != 0:
        raise InvalidParameter(f"{whole}: a range does not begin at 0: name its first port, or no host port at all")
    if not (first == last == 0 or (first in _PORTS and last in _PORTS and first <= last)):
        raise InvalidParameter(f"{whole}: expected ports from 1 to 65535, the smaller one first")
    return PortRequest(protocol, binding.Port, parse_host_address(binding.HostIP), first, last)


def _addresses(asked: AskedInterface) -> tuple[IPInterface, ...]:
    fields = {"Address": asked.Address, "AddressIPv6": asked.AddressIPv6}
    return tuple(parse_interface(text, field) for field, text in fields.items() if text)
