"""
Kernel objects as values: what should be there, and what was seen there.

Each object has a `key`, which names the place that it takes in the kernel: two objects of one key cannot both be.
Desired objects say what is wanted; `Link` is what can be read back of those that are links. They print in the words
of `ip`, `bridge`, `nft`, `sysctl` and `iptables`; a port that is held has no such word. Links stand in `links`, what
leads frames and packets to other hosts in `rows`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Literal

from mdnp.dataplane.links import Bridge, Key, Link, Peer, PortFlags, Presence, Tunnel, Veth, Vxlan
from mdnp.dataplane.naming import FORWARD_CHAIN, RULE_COMMENT, TABLE
from mdnp.dataplane.rows import Family, Fdb, Lookup, Neigh, PoolRoute
from mdnp.model.network import IPInterface
from mdnp.model.port import HostSocket, Target

__all__ = [
    "Accept",
    "Addr",
    "Bridge",
    "Element",
    "Family",
    "Fdb",
    "HostPort",
    "Jump",
    "Key",
    "Link",
    "Lookup",
    "MadeLink",
    "Neigh",
    "Object",
    "Peer",
    "PoolRoute",
    "PortFlags",
    "Presence",
    "Row",
    "Rule",
    "Sysctl",
    "Table",
    "TableFamily",
    "Tunnel",
    "Veth",
    "Vxlan",
    "Way",
    "forward_chain",
    "program_of",
]

TableFamily = Literal["inet", "bridge"]


@dataclass(frozen=True)
class Addr:
    """An address on a bridge of ours, or on our own end in a segment."""

    link: str
    address: IPInterface

    @property
    def key(self) -> Key:
        return ("addr", self.link, str(self.address))

    def __str__(self) -> str:
        return f"addr {self.address} dev {self.link}"


class Way(StrEnum):
    """By which side a packet passes a link, in the words of iptables."""

    IN = "-i"
    OUT = "-o"


@dataclass(frozen=True)
class Accept:
    """
    A rule that lets traffic pass which enters or leaves by a bridge; `link` may end in `+`, any rest of a name.

    Docker sets the policy of FORWARD to DROP, and with br_netfilter on even frames between two ports of one bridge
    walk through FORWARD. `DOCKER-USER` is the chain that Docker leaves to others. What this opens too far, our own
    table drops.
    """

    family: Family
    way: Way
    link: str
    copies: int = 1  # how often it was seen

    @property
    def key(self) -> Key:
        return ("accept", str(self.family), self.way, self.link)

    @property
    def chain(self) -> Key:
        """Docker's chain; where it is missing nothing drops the traffic, and the rule is not wanted."""
        return forward_chain(self.family)

    @property
    def program(self) -> str:
        return program_of(self.family)

    @property
    def stands_in(self) -> str:
        return FORWARD_CHAIN

    @property
    def arguments(self) -> tuple[str, ...]:
        """The rule as the program takes and lists it, without the chain."""
        return (self.way.value, self.link, "-m", "comment", "--comment", RULE_COMMENT, "-j", "ACCEPT")

    def __str__(self) -> str:
        return f"{self.program} {self.stands_in} {' '.join(self.arguments)}"


@dataclass(frozen=True)
class Jump:
    """
    A rule that leads FORWARD to `DOCKER-USER`, wanted while Docker's own is missing.

    Docker makes its jump when it starts, and not again when somebody has flushed FORWARD, whose policy stays DROP.
    """

    family: Family
    copies: int = 1  # how often it was seen

    @property
    def key(self) -> Key:
        return ("jump", str(self.family))

    @property
    def chain(self) -> Key:
        return forward_chain(self.family)

    @property
    def program(self) -> str:
        return program_of(self.family)

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("-m", "comment", "--comment", RULE_COMMENT, "-j", FORWARD_CHAIN)

    @property
    def stands_in(self) -> str:
        return "FORWARD"

    def __str__(self) -> str:
        return f"{self.program} {self.stands_in} {' '.join(self.arguments)}"


def forward_chain(family: Family) -> Key:
    return (str(family), FORWARD_CHAIN)


def program_of(family: Family) -> str:
    return {4: "iptables", 6: "ip6tables"}[family]


@dataclass(frozen=True)
class Sysctl:
    """A setting of the network namespace. It is made, and never taken back: others may rely on it by then."""

    name: str  # its path below /proc/sys, since a link's name may have dots
    value: str

    @property
    def key(self) -> Key:
        return ("sysctl", self.name)

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


@dataclass(frozen=True)
class Table:
    """
    Our nft table of a family: its chains, rules and the declarations of its sets, which are constant.

    `text` are its contents as `nft -f` reads them, of one that was seen "" when it is not as we made it.
    """

    family: TableFamily
    text: str = field(repr=False)

    @property
    def key(self) -> Key:
        return ("table", self.family)

    def __str__(self) -> str:
        return f"table {self.family} {TABLE}"


@dataclass(frozen=True)
class Element:
    """An element of a set or map of ours, its parts as nft prints them; `value` is what a map leads to."""

    family: TableFamily
    set: str
    parts: tuple[str, ...]
    value: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return ("element", self.family, self.set, *self.parts)

    def __str__(self) -> str:
        leads = f" : {' . '.join(self.value)}" if self.value else ""
        return f"element {self.family} {TABLE} {self.set} {{ {' . '.join(self.parts)}{leads} }}"


@dataclass(frozen=True)
class HostPort:
    """
    A port of the host, held by the daemon so that a conflict shows and nobody else takes it.

    Where the kernel cannot translate (from ::1, or from one family to the other) the daemon itself carries what
    arrives there to the `proxy`.
    """

    socket: HostSocket
    proxy: Target | None = None

    @cached_property  # asked for at each comparison, and the text of an address of IPv6 is slow to make
    def key(self) -> Key:
        return ("port", self.socket.protocol, str(self.socket.address), str(self.socket.port))

    def __str__(self) -> str:
        return f"port {self.socket}" + (f" proxy {self.proxy}" if self.proxy else "")


MadeLink = Bridge | Veth | Vxlan | Peer
Rule = Accept | Jump
Row = Fdb | Neigh
Object = MadeLink | Addr | Rule | Sysctl | Table | Element | HostPort | Row | PoolRoute | Lookup
