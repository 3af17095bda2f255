"""The rows in etcd, as values: what hosts tell each other. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mdnp.member import DeclaredNetwork
from mdnp.model.host import HostID
from mdnp.model.mac import MAC
from mdnp.model.names import Names
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.port import Protocol
from mdnp.model.segment import RemoteID, Segment, SegmentID


@dataclass(frozen=True)
class FormatRow:
    version: int


@dataclass(frozen=True)
class EpochRow:
    """
    The data of this etcd cluster since its first host, or since data was lost or restored. `drawn` tells it from one of
    the same number that other hosts began: what happened between may be lost too.
    """

    number: int
    cluster: int
    drawn: str


@dataclass(frozen=True)
class HostRow:
    """`epoch` is the one for which the host has told everything; it is written last."""

    host: HostID
    name: str
    vtep: IPAddress
    epoch: int


@dataclass(frozen=True)
class AliveRow:
    """
    On the host's lease. `session` is drawn at each start of its daemon, `machine` differs between machines that have
    one identity by mistake, `clock` are the seconds since the epoch when it was written.
    """

    host: HostID
    session: str
    vtep: IPAddress
    name: str
    machine: str
    clock: float


@dataclass(frozen=True)
class RemovedRow:
    """The tombstone of a host."""

    host: HostID


@dataclass(frozen=True)
class SegmentRow:
    segment: Segment


@dataclass(frozen=True)
class VniRow:
    """So that a VNI has one segment."""

    vni: int
    segment: SegmentID


@dataclass(frozen=True)
class MemberRow:
    """The host has a network of the segment."""

    segment: SegmentID
    host: HostID


@dataclass(frozen=True)
class EndpointRow:
    """
    `given` says that the MAC was the user's. `names` is None where its host does not know any yet, or its network has
    none; `ports` are those of the container that are published.
    """

    segment: SegmentID
    host: HostID
    endpoint: str
    mac: MAC
    addresses: tuple[IPAddress, ...]
    generation: int = 0
    given: bool = False
    names: Names | None = None
    ports: tuple[tuple[Protocol, int], ...] = ()

    @property
    def id(self) -> RemoteID:
        return RemoteID(f"{self.segment.replace('/', '_')}/{self.host}/{self.endpoint}")


@dataclass(frozen=True)
class Claim:
    """An address of a block that `host` asked for; `agreed` says that whoever hands out from the block keeps it so."""

    host: HostID
    agreed: bool


@dataclass(frozen=True)
class BlockRow:
    """`owner` hands out from it; empty: nobody, and it is there for its claims. `generation` counts the owners."""

    pool: IPNetwork
    network: IPNetwork
    owner: HostID
    generation: int = 0
    claims: Mapping[IPAddress, Claim] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkRow:
    network: DeclaredNetwork


@dataclass(frozen=True)
class DoneRow:
    """What a host made of a declared network: nothing to say, or the error."""

    name: str
    host: HostID
    error: str


Row = (
    FormatRow
    | EpochRow
    | HostRow
    | AliveRow
    | RemovedRow
    | SegmentRow
    | VniRow
    | MemberRow
    | EndpointRow
    | BlockRow
    | NetworkRow
    | DoneRow
)
