"""
This host as a member of the cluster: what it knows of the others, and what it tells them.

The store is this host's truth, etcd is how hosts learn of each other: what others told is mirrored into the store, so
that a host cut off goes on with what it knew; what is to be told is derived from the promises and compared with what
stands in etcd, so that nothing is queued and nothing forgotten. `records`, `view`, `told`, `blocks` and `segments` are
pure; `session` has the effects.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mdnp.model.host import Host, HostID
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.segment import Block, RemoteEndpoint, RemoteID, Segment, SegmentID


class Liveness(StrEnum):
    ALIVE = "alive"
    GONE = "gone"  # its lease ended, and our own session was healthy for a whole lease since
    UNKNOWN = "unknown"  # its lease ended, or etcd is away: nothing is withdrawn yet


@dataclass(frozen=True)
class KnownHost:
    """
    Another host, or this one. `segments` are those in which it has a network, `endpoints` counts what it tells of them;
    `seeded` says that it has told everything since etcd's data was lost or restored last.
    """

    host: Host
    liveness: Liveness
    segments: tuple[SegmentID, ...] = ()
    blocks: tuple[Block, ...] = ()
    endpoints: int = 0
    seeded: bool = True


class About(StrEnum):
    """What a remark is about."""

    ADDRESS = "address"  # two hosts tell the same
    MAC = "mac"
    BLOCK = "block"
    CLAIM = "claim"
    SEGMENT = "segment"
    HOST = "host"  # two of one identity or one VTEP, a clock that differs
    ROW = "row"  # what cannot be read


@dataclass(frozen=True, order=True)
class Remark:
    """What should be looked at: what hosts tell and does not fit together. It is reported, and nothing is guessed."""

    about: About
    text: str


@dataclass(frozen=True)
class News:
    """
    What of the outlook changed: remote endpoints that came, changed or went, segments whose members did, and the names
    of declared networks.
    """

    remotes: frozenset[RemoteID] = frozenset()
    segments: frozenset[SegmentID] = frozenset()
    networks: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.remotes or self.segments or self.networks)

    def __or__(self, other: "News") -> "News":
        return News(self.remotes | other.remotes, self.segments | other.segments, self.networks | other.networks)


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

    def leave(self, segment: SegmentID) -> None:
        """What `join` joined got no network after all."""

    def newest_generation(self, segment: SegmentID, addresses: Collection[IPAddress]) -> int:
        """The largest generation of any host's endpoint with one of these addresses, gone hosts included; 0: none."""

    async def claim_block(self, pool: IPNetwork, within: IPNetwork) -> Block:
        """
        A block of the pool inside `within` that nobody has, now ours, in the store too. To give one back, drop it from
        the store, and `tell`.

        Errors: Exhausted, StoreUnavailable also.
        """

    async def claim_address(self, pool: IPNetwork, address: IPAddress) -> None:
        """
        An address outside our blocks: of a block that nobody has, or whose owner agrees. It is given back by not being
        held any more, and `tell`: hold it (so that `Allocations.outside` has it) before this is called, and let go when
        this fails.

        Errors: Conflict that names who has it, or the owner that does not answer and what to do.
        """

    def tell(self) -> None:
        """What we promised has changed: what stands in etcd of us is compared and mended soon, outside of the call."""


@dataclass(frozen=True)
class Foreign:
    """An address of our blocks that is kept for another host, which asked for it."""

    pool: IPNetwork
    address: IPAddress
    host: HostID


class Allocations(Protocol):
    """What a member asks of the addresses that this host hands out. Errors: StoreUnavailable; then nothing changed."""

    async def hold_foreign(self, foreign: Foreign) -> bool:
        """
        Keep an address for another host, on disk when this returns; even while it rests, as a container of ours would
        get it. False when it is held here. One that is kept for that host already is no error.
        """

    async def let_go_foreign(self, foreign: Foreign) -> None:
        """That host does not have it any more: it rests from now on. One that is not kept is no error."""

    def foreign(self) -> Iterable[Foreign]:
        """All that is kept for others."""

    def outside(self) -> Iterable[tuple[IPNetwork, IPAddress]]:
        """
        Pool and address of all that is held for endpoints or for this host, or is being asked for, in cluster-wide
        pools outside of our blocks; gateways and auxiliary addresses are each host's own.
        """

    async def lose_block(self, block: Block) -> None:
        """
        Another host has it too, since etcd's data was lost. It is out of the store: nothing is handed out from it any
        more, what is held stays.
        """


class Presence(Protocol):
    """Our networks in segments, for a member that was removed from the cluster by `mdnp host remove`."""

    async def withdraw(self) -> None:
        """
        Our addresses may be other hosts' by now: forget the endpoints on overlay networks, in the kernel too, free what
        they and this host held there, drop our blocks. The networks stay. May come twice.
        """

    async def enter(self) -> None:
        """We are a new member: each overlay network takes a block again, and this host its address in the segment."""


@dataclass(frozen=True)
class DeclaredSubnet:
    """As a user writes it for `docker network create`; what is empty was not given."""

    pool: str
    gateway: str = ""
    ip_range: str = ""
    auxiliary: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DeclaredNetwork:
    """A network that every host of the cluster makes in its Docker, by `mdnp network create`."""

    name: str
    subnets: tuple[DeclaredSubnet, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownSegment:
    segment: Segment
    hosts: tuple[HostID, ...]


@dataclass(frozen=True)
class Standing:
    """
    How we stand in the cluster. `trouble` says why we are not in it, and what to do; empty when all is well.
    `healthy_s` is how long the session has been healthy, in seconds; None while it is not. `waiting` names the hosts
    that have not told everything since etcd's data was lost or restored. `pending` counts our rows that etcd does not
    have yet. `requests` counts calls to etcd by kind.
    """

    host: HostID
    name: str
    vtep: IPAddress | None
    connected: bool
    trouble: str
    healthy_s: float | None
    revision: int
    epoch: int
    waiting: tuple[str, ...]
    pending: int
    requests: Mapping[str, int]
    hosts: tuple[KnownHost, ...]
    segments: tuple[KnownSegment, ...]
    remarks: tuple[Remark, ...]


class Registry(Protocol):
    """The operator's side: reading what is known, hosts, and networks of the whole cluster."""

    def standing(self) -> Standing: ...

    async def remove_host(self, host: HostID, *, force: bool = False) -> None:
        """
        Take a host that will not return out of the cluster: its rows go, its blocks and addresses are free.

        Errors: NotFound; Conflict while it is alive and `force` is not set; ClusterUnavailable.
        """

    @property
    def declared(self) -> Mapping[str, DeclaredNetwork]: ...

    def outcomes(self, name: str) -> Mapping[HostID, str]:
        """What each host made of a declared network: empty when it is there, else the error."""

    async def declare(self, network: DeclaredNetwork) -> None:
        """Errors: Conflict when one of this name differs; InvalidParameter; ClusterUnavailable."""

    async def undeclare(self, name: str) -> None:
        """Errors: NotFound, ClusterUnavailable."""

    def report(self, name: str, error: str | None) -> None:
        """What we made of a declared network; None: there is nothing to say of it any more."""
