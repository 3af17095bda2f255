"""
Kernel objects as values: what should be there, and what was seen there.

Each object has a `key`, which names the place that it takes in the kernel: two objects of one key cannot both be.
Desired objects (`Bridge`, `Veth`, `Addr`, `Accept`) say what is wanted; `Link` is what can be read back of the
first two. They print in the words of `ip` and `iptables`.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from mdnp.dataplane.naming import FORWARD_CHAIN, GROUP, RULE_COMMENT
from mdnp.model.mac import MAC
from mdnp.model.network import IPInterface

Key = tuple[str, ...]
Family = Literal[4, 6]


class Presence(Enum):
    """What it means when a desired object is not there."""

    MUST = "must"  # drift: it is made
    HELD = "held"  # lost: its other half was in a sandbox, and we cannot rebuild that
    MAY = "may"  # nothing: it may be gone already


@dataclass(frozen=True)
class Bridge:
    """A bridge with the network's gateway address on it, or none."""

    name: str
    mac: MAC
    mtu: int
    alias: str

    @property
    def key(self) -> Key:
        return ("link", self.name)

    def link(self) -> "Link":
        return Link(self.name, "bridge", self.mtu, master=None, mac=self.mac, alias=self.alias)

    def __str__(self) -> str:
        return f"link {self.name} address {self.mac} mtu {self.mtu} group {GROUP} alias '{self.alias}' up type bridge"


@dataclass(frozen=True)
class Veth:
    """A pair of links: one end on a bridge of the host, the other for the sandbox. `mac` is the sandbox end's."""

    host_end: str
    sandbox_end: str
    mac: MAC
    mtu: int
    bridge: str
    alias: str
    presence: Presence = Presence.MUST

    @property
    def key(self) -> Key:
        return ("link", self.host_end)

    def link(self) -> "Link":
        return Link(self.host_end, "veth", self.mtu, master=self.bridge, alias=self.alias)

    def __str__(self) -> str:
        return (
            f"link {self.host_end} mtu {self.mtu} master {self.bridge} group {GROUP} alias '{self.alias}' up"
            f" type veth peer {self.sandbox_end} address {self.mac} mtu {self.mtu}"
        )


@dataclass(frozen=True)
class Link:
    """
    A link of ours as it was seen. `mac` is None where it is the kernel's choice (a host end's).

    The alias does not count in a comparison: the kernel takes it only after the link is made, and a crash in between
    leaves a link that is ours by its group and does its work.
    """

    name: str
    kind: str
    mtu: int
    master: str | None = None
    mac: MAC | None = None
    up: bool = True
    group: int = GROUP
    alias: str = field(default="", compare=False)

    @property
    def key(self) -> Key:
        return ("link", self.name)

    def __str__(self) -> str:
        return f"link {self.name}"


@dataclass(frozen=True)
class Addr:
    """An address on a bridge of ours."""

    link: str
    address: IPInterface

    @property
    def key(self) -> Key:
        return ("addr", self.link, str(self.address))

    def __str__(self) -> str:
        return f"addr {self.address} dev {self.link}"


@dataclass(frozen=True)
class Accept:
    """
    A rule that lets traffic pass which enters and leaves by one bridge.

    Docker sets the policy of FORWARD to DROP, and with br_netfilter on even frames between two ports of one bridge
    walk through FORWARD. `DOCKER-USER` is the chain that Docker leaves to others.
    """

    family: Family
    link: str

    @property
    def key(self) -> Key:
        return ("accept", str(self.family), self.link)

    @property
    def chain(self) -> Key:
        """The chain it stands in; without that chain nothing drops the traffic, and the rule is not wanted."""
        return (str(self.family), FORWARD_CHAIN)

    @property
    def program(self) -> str:
        return {4: "iptables", 6: "ip6tables"}[self.family]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The rule as the program takes and lists it, without the chain."""
        return ("-i", self.link, "-o", self.link, "-m", "comment", "--comment", RULE_COMMENT, "-j", "ACCEPT")

    def __str__(self) -> str:
        return f"{self.program} {FORWARD_CHAIN} {' '.join(self.arguments)}"


Object = Bridge | Veth | Addr | Accept
