"""What an address was handed out for, since when, and until when."""

from dataclasses import dataclass
from enum import StrEnum

from mdnp.model.network import IPAddress


class Kind(StrEnum):
    """What an address is for."""

    GATEWAY = "gateway"
    AUXILIARY = "auxiliary"  # Docker's --aux-address: somebody else's, not to be given to a container
    ENDPOINT = "endpoint"
    HOST = "host"  # this host's own in a segment
    FOREIGN = "foreign"  # another host's, which asked for it in a block of ours


@dataclass(frozen=True, slots=True)
class Purpose:
    """
    What an address is for, and the endpoint's name where the engine tells it (29 and later); of a foreign one the id of
    the host that has it.
    """

    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        kind = Kind.HOST if self.kind is Kind.FOREIGN else self.kind
        return f"{kind} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Allocation:
    """An address handed out. `allocated_at` is in seconds, of the clock that `now` comes from."""

    address: IPAddress
    purpose: Purpose
    allocated_at: float

    def freed(self, now: float) -> "Freed":
        return Freed(self, now)


@dataclass(frozen=True, slots=True)
class Freed:
    """An address given back: it rests for a while, and is kept for the name that had it. Seconds, as above."""

    allocation: Allocation
    freed_at: float


Record = Allocation | Freed  # what the store keeps of an address; one each, the later replaces the earlier
