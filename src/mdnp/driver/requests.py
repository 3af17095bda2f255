"""What the verbs are asked and what they answer, as values."""

from dataclasses import dataclass, field

from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.mac import MAC
from mdnp.model.network import IPAddress, IPInterface, IPNetwork, Subnet
from mdnp.model.options import NetworkOptions
from mdnp.model.port import PortRequest


@dataclass(frozen=True)
class NetworkRequest:
    """`reserved` are Docker's auxiliary addresses, which no container gets."""

    id: NetworkID
    subnets: tuple[Subnet, ...]
    internal: bool
    options: NetworkOptions
    reserved: tuple[IPAddress, ...] = ()


@dataclass(frozen=True)
class EndpointRequest:
    """`mac` and `addresses` are those that Docker chose; what it left open is ours to choose."""

    network_id: NetworkID
    id: EndpointID
    mac: MAC | None
    addresses: tuple[IPInterface, ...]
    allowed: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True)
class PublishRequest:
    """
    The endpoint is its sandbox's way out now, with these ports to publish. `carried` lets the daemon carry from one
    family of addresses to the other.
    """

    network_id: NetworkID
    endpoint_id: EndpointID
    ports: tuple[PortRequest, ...]
    carried: bool = True


@dataclass(frozen=True)
class Attachment:
    """
    What Docker needs to put the link into the sandbox: its name now, the prefix of its name there, and the gateways.

    `gateway_service` asks Docker for a second interface on its docker_gwbridge.
    """

    link: str
    prefix: str
    gateways: tuple[IPAddress, ...] = field(default=())
    gateway_service: bool = False
