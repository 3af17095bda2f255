"""How what was published for an endpoint comes in: by translation, carried by the daemon, or straight. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from mdnp.model.endpoint import Endpoint
from mdnp.model.network import IPAddress, Network
from mdnp.model.options import Routing
from mdnp.model.port import HostSocket, PortRequest, Protocol, Publication, Target

_ANY4 = IPv4Address("0.0.0.0")  # noqa: S104  # every address of the host is what was asked for
_ANY6 = IPv6Address("::")
_LOOPBACK6 = IPv6Address("::1")


@dataclass(frozen=True)
class Translated:
    """
    The kernel translates. `proxied`: the daemon carries besides what comes from ::1, which the kernel cannot send
    anywhere else.
    """

    socket: HostSocket
    target: Target
    proxied: bool


@dataclass(frozen=True)
class Carried:
    """The daemon carries, since the container has no address of the host's family, or the host's is ::1."""

    socket: HostSocket
    target: Target


@dataclass(frozen=True)
class Opened:
    """In a routed network the container's own address is reached; no port of the host is taken."""

    protocol: Protocol
    target: Target


WayIn = Translated | Carried | Opened


def ways_in(network: Network, endpoint: Endpoint) -> list[WayIn]:
    """In the order of the publications; a way that serves two of them once."""
    ways = (way for one in endpoint.ports for way in _ways(network, endpoint, one))
    return list(dict.fromkeys(ways))


def host_sockets(network: Network, endpoint: Endpoint, publication: Publication) -> list[HostSocket]:
    """The ports of the host that a publication takes."""
    return [way.socket for way in _ways(network, endpoint, publication) if not isinstance(way, Opened)]


def reason_for_none(network: Network, endpoint: Endpoint, request: PortRequest) -> str:
    """Why a request has no way in, or "" if it has one."""
    if any(_ways(network, endpoint, Publication(request, 1))):
        return ""
    if not endpoint.addresses:
        return "the container has no address on this network"
    host = request.host_address or _ANY4
    if endpoint.address(host.version):
        return f"{request.protocol} from {host} can be neither translated nor carried: publish on another address"
    lacks = f"the container has no IPv{host.version} address on this network"
    if request.protocol is Protocol.SCTP:
        return f"{lacks}, and {request.protocol} cannot be carried from one family to the other"
    if network.options.routing(10 - host.version) is Routing.ROUTED:
        return f"{lacks}, and the network is routed: the container is reached at its own address"
    return f"{lacks}, and another network of the container has the way out for that family"


def _ways(network: Network, endpoint: Endpoint, publication: Publication) -> Iterator[WayIn]:
    for host in _host_addresses(network, publication.request):
        way = _way(network, endpoint, publication, host)
        if way is not None:
            yield way


def _host_addresses(network: Network, request: PortRequest) -> tuple[IPAddress, ...]:
    if request.host_address is not None:
        return (request.host_address,)
    binding = network.options.host_binding
    if binding is not None and not binding.is_unspecified:
        return (binding,)
    return (_ANY4, _ANY6)


def _way(network: Network, endpoint: Endpoint, publication: Publication, host: IPAddress) -> WayIn | None:
    request = publication.request
    socket = HostSocket(request.protocol, host, publication.host_port)
    address = endpoint.address(host.version)
    if address is not None:
        target = Target(address, request.port)
        if network.options.routing(host.version) is Routing.ROUTED:
            return Opened(request.protocol, target)
        if host == _LOOPBACK6:
            return Carried(socket, target) if request.protocol is not Protocol.SCTP else None
        return Translated(socket, target, host == _ANY6 and request.protocol is not Protocol.SCTP)
    other = endpoint.address(10 - host.version)
    if other is None or not _may_carry(network, publication, other):
        return None
    return Carried(socket, Target(other, request.port))


def _may_carry(network: Network, publication: Publication, to: IPAddress) -> bool:
    """From one family to the other: not SCTP, and not around an address that is reached straight."""
    return (
        publication.carried
        and publication.request.protocol is not Protocol.SCTP
        and network.options.routing(to.version) is not Routing.ROUTED
    )
