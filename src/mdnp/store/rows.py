"""Records as rows of the database, and back. Pure."""

from ipaddress import ip_interface, ip_network

import msgspec

from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.mac import MAC
from mdnp.model.network import Network, Subnet
from mdnp.model.options import NetworkOptions

Row = tuple[str | int, ...]

PUT_NETWORK = "INSERT OR REPLACE INTO network VALUES (?, ?, ?, ?, ?)"
PUT_ENDPOINT = "INSERT OR REPLACE INTO endpoint VALUES (?, ?, ?, ?, ?, ?, ?)"


def network_row(network: Network) -> Row:
    subnets = [
        {"pool": str(subnet.pool), "gateway": str(subnet.gateway) if subnet.gateway else None}
        for subnet in network.subnets
    ]
    return (network.id, int(network.internal), network.mtu, _text(network.options), _text(subnets))


def network_of(row: Row) -> Network:
    identity, internal, mtu, options, subnets = row
    return Network(
        id=NetworkID(str(identity)),
        subnets=tuple(
            Subnet(ip_network(one["pool"]), ip_interface(one["gateway"]) if one["gateway"] else None)
            for one in msgspec.json.decode(str(subnets))
        ),
        internal=bool(internal),
        options=msgspec.json.decode(str(options), type=NetworkOptions),
        mtu=int(mtu),
    )


def endpoint_row(endpoint: Endpoint) -> Row:
    addresses = _text([str(address) for address in endpoint.addresses])
    given = int(endpoint.mac_given)
    return (
        endpoint.id,
        endpoint.network_id,
        endpoint.mac,
        given,
        addresses,
        endpoint.phase.value,
        endpoint.sandbox,
    )


def endpoint_of(row: Row) -> Endpoint:
    identity, network, mac, given, addresses, phase, sandbox = map(str, row)
    return Endpoint(
        id=EndpointID(identity),
        network_id=NetworkID(network),
        mac=MAC(mac),
        mac_given=given == "1",
        addresses=tuple(ip_interface(text) for text in msgspec.json.decode(addresses)),
        phase=Phase(phase),
        sandbox=sandbox,
    )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
