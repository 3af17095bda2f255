"""A network, as Docker asked for it and as this host promised it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)

from mdnp.model.errors import InvalidParameter
from mdnp.model.identity import NetworkID
from mdnp.model.options import GatewayMode, NetworkOptions

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
IPInterface = IPv4Interface | IPv6Interface


@dataclass(frozen=True)
class Subnet:
    """
    One pool of a network and the gateway that IPAM chose in it, if it chose one.

    Docker's null IPAM sends 0.0.0.0/0 for "no addresses": that is no subnet, and is never kept as one.
    """

    pool: IPNetwork
    gateway: IPInterface | None = None


@dataclass(frozen=True)
class Network:
    """
    What this host promised about a network. `mtu` is in bytes, decided when the network is made and then kept. `since`
    is when it was promised, in seconds since the epoch; `listed` says that the engine has named it since.

    An overlay has the `vni` of its segment, agreed on by all hosts, else 0; its `host_addresses` are this host's own
    in the segment, by which the host itself reaches containers on other hosts.

    Its `annexes` are how many bridges it has besides its own, for endpoints that found no room there.
    """

    id: NetworkID
    subnets: tuple[Subnet, ...]
    internal: bool
    options: NetworkOptions
    mtu: int
    since: float = field(default=0.0, compare=False)
    listed: bool = field(default=False, compare=False)
    vni: int = field(default=0, compare=False)
    host_addresses: tuple[IPInterface, ...] = field(default=(), compare=False)
    annexes: int = field(default=0, compare=False)

    @property
    def has_gateway(self) -> bool:
        """Whether the host stands in the network with the gateway's address."""
        return needs_gateway(self.options, self.internal)

    @property
    def is_way_out(self) -> bool:
        """Whether traffic goes in and out through our gateway."""
        return not self.internal and self.options.gateway is GatewayMode.SELF

    def pools(self, version: int) -> list[IPNetwork]:
        """The pools of a family, 4 or 6."""
        return [subnet.pool for subnet in self.subnets if subnet.pool.version == version]

    def subnet_of(self, address: IPInterface) -> Subnet | None:
        return next((subnet for subnet in self.subnets if address.ip in subnet.pool), None)


def needs_gateway(options: NetworkOptions, internal: bool) -> bool:
    """Internal networks have no way out, and `mdnp.gateway=none` gives none: no address is spent on a gateway."""
    return not internal and options.gateway is not GatewayMode.NONE


def parse_subnet(pool: str, gateway: str | None) -> Subnet | None:
    """A subnet as Docker's IPAMData has it: a pool, and a gateway with its prefix length. None for null IPAM's 0/0."""
    try:
        network = ip_network(_zoneless(pool))
    except ValueError as error:
        raise InvalidParameter(f"Pool {pool[:80]!r}: expected a network as 10.1.0.0/24 ({_reason(error)})") from error
    if network.prefixlen == 0:
        return None
    if not gateway:
        return Subnet(network)
    interface = parse_interface(gateway, "Gateway")
    if interface.ip not in network or interface.network.prefixlen < network.prefixlen:
        raise InvalidParameter(f"Gateway {gateway}: not in the pool {network}")
    return Subnet(network, interface)


def parse_interface(text: str, field: str) -> IPInterface:
    try:
        return ip_interface(_zoneless(text))
    except ValueError as error:
        raise InvalidParameter(
            f"{field} {text[:80]!r}: expected an address with its prefix length, as 10.1.0.2/24 ({_reason(error)})"
        ) from error


def overlapping(subnets: Iterable[Subnet], pools: Iterable[IPNetwork]) -> tuple[IPNetwork, IPNetwork] | None:
    """The first subnet that shares addresses with one of `pools`, and that pool."""
    others = tuple(pools)
    for subnet in subnets:
        for other in others:
            if subnet.pool.overlaps(other):  # of different families: False
                return subnet.pool, other
    return None


def _zoneless(text: str) -> str:
    if "%" in text:  # which ipaddress takes for a part of the address, and the kernel does not
        raise ValueError("an address of a network has no zone")
    return text


def _reason(error: ValueError) -> str:
    return str(error)[:160]
