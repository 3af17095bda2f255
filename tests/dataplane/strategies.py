"""Networks and endpoints of every kind, for hypothesis."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

from hypothesis import strategies as st

from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.network import Network
from mdnp.model.options import GatewayMode, NetworkOptions, Routing
from mdnp.model.port import PortRequest, Protocol, Publication
from tests.world import ANY4, NET, WEB, a_network, an_endpoint

SUBNETS = {4: "10.1.0.0/24 10.1.0.1/24", 6: "fd00::/64 fd00::1/64"}
ADDRESSES = {4: "10.1.0.2/24", 6: "fd00::2/64"}
HOST_ADDRESSES = (None, "192.0.2.1", "127.0.0.1", "2001:db8::1", "::1")

families = st.sampled_from([(), (4,), (6,), (4, 6)])
ports = st.integers(1, 65535)
switches = st.booleans()


@st.composite
def networks(draw: st.DrawFn) -> Network:
    internal = draw(switches)
    routings = st.sampled_from([Routing.NAT, Routing.ISOLATED] if internal else [Routing.NAT, Routing.ROUTED])
    options = NetworkOptions(
        gateway=draw(st.sampled_from(GatewayMode)),
        bridge_name=draw(st.sampled_from([None, "lab0", "a.dotted.name"])),
        icc=draw(switches),
        masquerade=draw(switches),
        host_binding=draw(st.sampled_from([None, *map(IPv4Address, (ANY4, "127.0.0.1", "192.0.2.9"))])),
        routing_ipv4=draw(routings),
        routing_ipv6=draw(routings),
        guard=draw(switches),
    )
    return of_families(draw(families), internal=internal, options=options)


def of_families(versions: tuple[int, ...], *, internal: bool = False, options: NetworkOptions | None = None) -> Network:
    network = a_network(NET, *(SUBNETS[one] for one in versions), internal=internal, options=options)
    return network if versions else Network(network.id, (), network.internal, network.options, network.mtu)


@st.composite
def requests(draw: st.DrawFn) -> PortRequest:
    host = draw(st.sampled_from([None, *(ip_address(one) for one in HOST_ADDRESSES if one)]))
    first = draw(st.just(0) | ports)
    last = draw(st.integers(first, min(first + 9, 65535))) if first else 0
    return PortRequest(draw(st.sampled_from(Protocol)), draw(ports), host, first, last)


@st.composite
def publications(draw: st.DrawFn) -> Publication:
    request = draw(requests())
    host_port = draw(ports if request.ephemeral else st.integers(request.first, request.last))
    return Publication(request, host_port, draw(switches))


@st.composite
def endpoints(draw: st.DrawFn, network: Network) -> Endpoint:
    """One on the network, with an address in each of its subnets or in none, as IPAM gives them."""
    versions = [subnet.pool.version for subnet in network.subnets]
    addresses = [ADDRESSES[one] for one in versions]
    allowed = st.lists(st.sampled_from(["10.9.0.9/32", "10.9.8.0/24", "fd09::9/128", "fd09:8::/64"]), unique=True)
    endpoint = an_endpoint(
        WEB,
        *addresses,
        phase=draw(st.sampled_from(Phase)),
        allowed=draw(allowed),
        ports=draw(st.lists(publications(), max_size=4, unique_by=lambda one: one.host_port)),
    )
    return endpoint if addresses else replace(endpoint, addresses=())


@st.composite
def on_networks(draw: st.DrawFn) -> tuple[Network, Endpoint]:
    network = draw(networks())
    return network, draw(endpoints(network))
