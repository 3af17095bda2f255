"""
This host as a member of the cluster: what it knows of the others, and what it tells them.

The store is this host's truth, etcd is how hosts learn of each other: what others told is mirrored into the store, so
that a host cut off goes on with what it knew; what is to be told is derived from the promises and compared with what
stands in etcd, so that nothing is queued and nothing forgotten. `records`, `view`, `told`, `blocks` and `segments` are
pure; `session` has the effects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mdnp.model.host import Host
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.segment import Block, RemoteEndpoint, RemoteID, Segment, SegmentID


class Liveness(StrEnum):
    ALIVE = "alive"
    GONE = "gone"  # its lease ended, and our own session was healthy for a whole lease since
    UNKNOWN = "unknown"  # its lease ended, or etcd is away: nothing is withdrawn yet


@dataclass(frozen=True)
class KnownHost:
    """Another host, or this one. `segments` are those in which it has a network."""

    host: Host
    liveness: Liveness
    segments: tuple[SegmentID, ...] = ()


class Outlook(Protocol):
    """What is known of the other hosts now; it follows what they tell. Hosts that are gone have nothing here."""

    @property
    def vtep(self) -> IPAddress | None:
        """Our own; None while it is not known, and then no tunnel is planned."""

    @property
    def port(self) -> int:
        """The UDP port of our tunnels."""

    @property
    def remotes(self) -> Mapping[RemoteID, RemoteEndpoint]: ...

    def remotes_of(self, segment: SegmentID) -> Sequence[RemoteEndpoint]: ...

    def members_of(self, segment: SegmentID) -> Sequence[IPAddress]:
        """The VTEPs of the other hosts that have a network of this segment, sorted."""


class Alone:
    """The outlook of a host that is in no cluster."""

    vtep: IPAddress | None = None
    port = 4789
    remotes: Mapping[RemoteID, RemoteEndpoint] = {}

    def remotes_of(self, segment: SegmentID) -> Sequence[RemoteEndpoint]:  # noqa: ARG002  # the contract's
        return ()

    def members_of(self, segment: SegmentID) -> Sequence[IPAddress]:  # noqa: ARG002  # the contract's
        return ()


class Membership(Protocol):
    """
    What verbs ask of the cluster inside a call: only what must be agreed on first. Each ends within a second.

    Errors of every call: ClusterUnavailable with what is away and what to do; Conflict.
    """

    @property
    def host(self) -> Host: ...

    async def join(self, wanted: Segment) -> Segment:
        """
        The segment of these subnets, with its VNI; `wanted` has 0 for it. Made if nobody has it yet.

        Errors: Conflict with each difference named when it exists otherwise, or overlaps another.
        """

    async def claim_block(self, pool: IPNetwork, within: IPNetwork) -> Block:
        """A block of the pool inside `within` that nobody has, now ours. Errors: Exhausted also."""

    async def claim_address(self, pool: IPNetwork, address: IPAddress) -> None:
        """
        An address outside our blocks: of a block that nobody has, or whose owner agrees.

        Errors: Conflict that names who has it, or the owner that does not answer and what to do.
        """

    def tell(self) -> None:
        """What we promised has changed: what stands in etcd of us is compared and mended soon, outside of the call."""
