"""Ports: what Docker asks to be published, and what was published for it."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from mdnp.model.errors import InvalidParameter
from mdnp.model.network import IPAddress


class Protocol(StrEnum):
    """The transports whose ports Docker publishes."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


@dataclass(frozen=True)
class PortRequest:
    """
    A port of a container to publish. `host_address` None is every address of the host.

    One host port is taken from `first` to `last`; both 0: any that is free.
    """

    protocol: Protocol
    port: int
    host_address: IPAddress | None = None
    first: int = 0
    last: int = 0

    @property
    def ephemeral(self) -> bool:
        return self.first == 0

    def __str__(self) -> str:
        """As users write it: 127.0.0.1:8080-8090:80/tcp."""
        host = "" if self.host_address is None else f"{bracketed(self.host_address)}:"
        ports = "" if self.ephemeral else f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return f"{host}{ports}:{self.port}/{self.protocol}"


@dataclass(frozen=True)
class Publication:
    """
    What was published for a request: the host port that was chosen for it.

    `carried` lets the daemon itself carry between families, where the container has no address of the host's family;
    Docker forbids it where another network of the container has that family's way out.
    """

    request: PortRequest
    host_port: int
    carried: bool = True


@dataclass(frozen=True)
class HostSocket:
    """A port of the host: an unspecified address (0.0.0.0, ::) is every address of its family."""

    protocol: Protocol
    address: IPAddress
    port: int

    def __str__(self) -> str:
        return f"{self.protocol} {bracketed(self.address)}:{self.port}"

    def clashes(self, other: "HostSocket") -> bool:
        """Whether the two cannot both be held."""
        return (self.protocol, self.port, self.address.version) == (
            other.protocol,
            other.port,
            other.address.version,
        ) and (self.address == other.address or self.address.is_unspecified or other.address.is_unspecified)


@dataclass(frozen=True)
class Target:
    """Where what is published leads: a port of a container."""

    address: IPAddress
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.address)}:{self.port}"


def bracketed(address: IPAddress) -> str:
    """As it stands before a port."""
    return f"[{address}]" if address.version == 6 else str(address)


def parse_host_address(text: str) -> IPAddress | None:
    """The address of the host at which to publish; None, for all of them, if it is empty."""
    if not text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        raise InvalidParameter(f"host address {text[:80]!r} of a port: expected an address as 192.0.2.1") from None
    if getattr(address, "scope_id", None):
        raise InvalidParameter(f"host address {text[:80]} of a port: leave out the zone")
    return address
