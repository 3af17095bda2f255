"""
The bodies of Docker's requests. Names are Docker's own, since they are the JSON keys.

Unknown fields are ignored: a newer engine may send more. Go writes an empty slice or map as `null`.
"""

from typing import Any

import msgspec


class IPAMData(msgspec.Struct, frozen=True):
    """`Pool`, `Gateway` and each of `AuxAddresses` are "address/prefix length"; without one the key may be missing."""

    Pool: str
    Gateway: str = ""
    AuxAddresses: dict[str, str] | None = None


class GwAllocCheck(msgspec.Struct, frozen=True):
    Options: dict[str, Any] | None = None


class CreateNetwork(msgspec.Struct, frozen=True):
    NetworkID: str
    Options: dict[str, Any] | None = None
    IPv4Data: list[IPAMData] | None = None
    IPv6Data: list[IPAMData] | None = None


class OnNetwork(msgspec.Struct, frozen=True):
    """DeleteNetwork, FreeNetwork."""

    NetworkID: str


class AllocateNetwork(msgspec.Struct, frozen=True):
    NetworkID: str
    Options: dict[str, str] | None = None


class AskedInterface(msgspec.Struct, frozen=True):
    """Empty strings for what Docker leaves open."""

    Address: str = ""
    AddressIPv6: str = ""
    MacAddress: str = ""


class CreateEndpoint(msgspec.Struct, frozen=True):
    NetworkID: str
    EndpointID: str
    Interface: AskedInterface | None = None
    Options: dict[str, Any] | None = None


class OnEndpoint(msgspec.Struct, frozen=True):
    """DeleteEndpoint, EndpointOperInfo, Leave, RevokeExternalConnectivity."""

    NetworkID: str
    EndpointID: str


class Join(msgspec.Struct, frozen=True):
    NetworkID: str
    EndpointID: str
    SandboxKey: str = ""
    Options: dict[str, Any] | None = None


class PortBinding(msgspec.Struct, frozen=True):
    """
    `Proto` is the IP protocol number; `HostIP` "" is every address of the host; one port is taken from `HostPort` to
    `HostPortEnd`, and `HostPort` 0 asks for any.
    """

    Proto: int = 6
    Port: int = 0
    HostIP: str = ""
    HostPort: int = 0
    HostPortEnd: int = 0


class ExternalConnectivityOptions(msgspec.Struct, frozen=True):
    """`no_proxy_6to4`: another network of the container has its IPv6 way out."""

    portmap: list[PortBinding] | None = msgspec.field(name="com.docker.network.portmap", default=None)
    no_proxy_6to4: bool = msgspec.field(name="com.docker.network.driver.private.no_proxy_6to4", default=False)


class ProgramExternalConnectivity(msgspec.Struct, frozen=True):
    NetworkID: str
    EndpointID: str
    Options: ExternalConnectivityOptions | None = None


class Discovery(msgspec.Struct, frozen=True):
    """DiscoverNew, DiscoverDelete: swarm tells of its nodes. We need none of it."""

    DiscoveryType: int
    DiscoveryData: dict[str, Any] | None = None


class RequestPool(msgspec.Struct, frozen=True):
    """`Pool` empty: one of our choice. `SubPool` is `--ip-range`, `Options` are `--ipam-opt`."""

    AddressSpace: str = ""
    Pool: str = ""
    SubPool: str = ""
    Options: dict[str, str] | None = None
    V6: bool = False


class OnPool(msgspec.Struct, frozen=True):
    """ReleasePool."""

    PoolID: str


class RequestAddress(msgspec.Struct, frozen=True):
    """`Address` is bare, or empty for the next one."""

    PoolID: str
    Address: str = ""
    Options: dict[str, str] | None = None


class OnAddress(msgspec.Struct, frozen=True):
    """ReleaseAddress."""

    PoolID: str
    Address: str
