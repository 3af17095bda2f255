"""A segment: the layer-2 domain that hosts share, and what of it lives on other hosts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

from mdnp.model.host import HostID
from mdnp.model.mac import MAC
from mdnp.model.names import Names
from mdnp.model.network import IPAddress, IPNetwork, Network
from mdnp.model.port import Protocol

# A segment's identity: its subnets, sorted and joined by a comma ("10.50.0.0/16,fd50::/64").
SegmentID = NewType("SegmentID", str)
# A remote endpoint's, over all segments and hosts.
RemoteID = NewType("RemoteID", str)


@dataclass(frozen=True)
class Segment:
    """
    What all hosts of a segment must agree on. `vni` is the VXLAN network identifier, allocated once; `mtu` is in bytes,
    that of the containers; `gateways` are the anycast addresses with their prefix lengths, `reserved` the auxiliary
    addresses, both as text and sorted.
    """

    id: SegmentID
    vni: int
    label: str
    mtu: int
    gateways: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()
    internal: bool = False
    icc: bool = True
    multicast: bool = True


@dataclass(frozen=True)
class RemoteEndpoint:
    """
    An endpoint of a segment on another host, or that host's own address in the segment. `generation` grows with each
    holder of an address, so that a late word about an earlier one changes nothing. `names` is None while its host has
    not told any.
    """

    id: RemoteID
    segment: SegmentID
    host: HostID
    vtep: IPAddress
    mac: MAC
    addresses: tuple[IPAddress, ...]
    generation: int = 0
    names: Names | None = None
    ports: tuple[tuple[Protocol, int], ...] = ()  # of the container, that are published

    @property
    def is_host(self) -> bool:
        """Whether it is the host's own address: its id ends with "host" instead of an endpoint's id."""
        return self.id.endswith("/host")


@dataclass(frozen=True)
class Block:
    """A part of a cluster-wide pool that this host hands out from; nobody else does."""

    pool: IPNetwork
    network: IPNetwork

    @property
    def id(self) -> str:
        return f"{self.pool} {self.network}"


def segment_of(network: Network) -> SegmentID:
    """The segment that an overlay network is this host's part of."""
    return segment_id(subnet.pool for subnet in network.subnets)


def segment_id(subnets: Iterable[IPNetwork]) -> SegmentID:
    ordered = sorted(subnets, key=lambda one: (one.version, int(one.network_address), one.prefixlen))
    return SegmentID(",".join(map(str, ordered)))
