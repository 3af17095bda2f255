"""
Names across hosts: the zone of each network, and the servers that answer from it.

Docker's embedded DNS (127.0.0.11 in each sandbox) answers for the containers of its own host. It is never fought: what
it knows itself is left to it, what it does not know and we do is answered here, and all else goes on to it. `zone` and
`messages` are pure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from mdnp.model.names import Names
from mdnp.model.network import IPAddress
from mdnp.model.port import Protocol as Transport

SUFFIX = "mdnp"  # of names that are ours beyond doubt: NAME.NETWORK.mdnp
TTL_S = 2  # how long an answer may be remembered: what it says is right again within this


class Kind(IntEnum):
    """The types of records that a zone has (RFC 1035, 3596, 2782), and ANY for all of them."""

    A = 1
    SOA = 6
    PTR = 12
    AAAA = 28
    SRV = 33
    ANY = 255


@dataclass(frozen=True)
class Resident:
    """
    An endpoint as a zone has it, of whatever host; `here` is this host. `ports` are those of the container that are
    published.
    """

    addresses: tuple[IPAddress, ...]
    names: Names
    ports: tuple[tuple[Transport, int], ...] = ()
    here: bool = False


@dataclass(frozen=True)
class Question:
    """`name` in lower case and without the last dot; `kind` as on the wire, also what `Kind` does not have."""

    name: str
    kind: int


@dataclass(frozen=True)
class Target:
    """Where a service is (SRV)."""

    name: str
    port: int


@dataclass(frozen=True)
class Record:
    """The data of A and AAAA is an address, of PTR a name, of SRV a target."""

    name: str
    kind: Kind
    data: IPAddress | str | Target
    ttl_s: int = TTL_S


@dataclass(frozen=True)
class Answer:
    """
    What a zone says. Without records the name exists and has none of this kind (NODATA), unless `exists` is False
    (NXDOMAIN). `left` says that Docker's embedded DNS answers this itself, with all that there is: where that one
    stands behind us, it is left to it.
    """

    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    exists: bool = True
    left: bool = False


class Finder(Protocol):
    """All that whoever asks may know: the zones of its networks."""

    def find(self, question: Question) -> Answer | None:
        """None: the question is about nothing of ours, and may go on to others."""


class Upstream(Protocol):
    """Who answers what no zone of ours has."""

    async def ask(self, query: bytes, *, stream: bool) -> bytes:
        """
        The answer to a well-formed query, with its id, as it came; `stream`: asked over TCP, and so without a limit.

        Errors: Unanswered, in seconds.
        """


class Unanswered(Exception):
    """Nobody answered, or too many questions are waiting."""


@dataclass(frozen=True)
class Scope:
    """
    What is answered to whoever asks. `upstream` None: what is not ours is refused. `embedded`: the upstream is Docker's
    embedded DNS, to which answers are left that it has itself.
    """

    finder: Finder
    upstream: Upstream | None
    embedded: bool = False


# Who asks from an address; None for a stranger, who is not answered at all.
Scopes = Callable[[IPAddress], Scope | None]


@dataclass(frozen=True)
class Served:
    """What a server did since its start: for the metrics."""

    zone: int = 0
    forwarded: int = 0
    unanswered: int = 0
    dropped: int = 0
