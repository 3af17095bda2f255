"""Links as values: what should be there, and what can be read back of it."""

from dataclasses import dataclass, field
from enum import Enum

from mdnp.dataplane.naming import GROUP
from mdnp.model.mac import MAC
from mdnp.model.network import IPAddress

Key = tuple[str, ...]


class Presence(Enum):
    """What it means when a desired object is not there."""

    MUST = "must"  # drift: it is made
    HELD = "held"  # lost: its other half was in a sandbox, and we cannot rebuild that
    MAY = "may"  # nothing: it may be gone already


@dataclass(frozen=True)
class Bridge:
    """A bridge with the network's gateway address on it, or none. A network's annexes are bridges too."""

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
    """
    A pair of links: one end on a bridge of the host, the other for the sandbox, or a `Peer`. `mac` is the other end's.

    `hairpin` lets a frame leave by the bridge port through which it came. With br_netfilter on, a bridge translates
    frames itself, and a container reaches its own published port only so.
    """

    host_end: str
    sandbox_end: str
    mac: MAC
    mtu: int
    bridge: str
    alias: str
    presence: Presence = Presence.MUST
    hairpin: bool = False

    @property
    def key(self) -> Key:
        return ("link", self.host_end)

    def link(self) -> "Link":
        return Link(self.host_end, "veth", self.mtu, master=self.bridge, alias=self.alias, hairpin=self.hairpin)

    def __str__(self) -> str:
        return (
            f"link {self.host_end} mtu {self.mtu} master {self.bridge} group {GROUP} alias '{self.alias}' up"
            f" type veth peer {self.sandbox_end} address {self.mac} mtu {self.mtu}"
        )


@dataclass(frozen=True)
class Tunnel:
    """
    How a VXLAN link meets others: its VNI, our address and the UDP port. It should not learn from what comes: rows say
    where everybody is, and nobody can say otherwise by a frame.
    """

    vni: int
    local: IPAddress
    port: int
    learning: bool = False

    def __str__(self) -> str:
        learning = "learning" if self.learning else "nolearning"
        return f"id {self.vni} local {self.local} dstport {self.port} {learning}"


@dataclass(frozen=True)
class PortFlags:
    """
    What a bridge does at the port of a tunnel: it learns nothing there, floods no frame for a MAC that it does not
    know, and answers ARP and ND for others' addresses itself. `mcast_flood` and `bcast_flood` say whether multicast and
    broadcast go to the other hosts.
    """

    mcast_flood: bool = True
    bcast_flood: bool = True
    learning: bool = False
    flood: bool = False
    neigh_suppress: bool = True

    def words(self, was: "PortFlags | None" = None) -> str:
        """Those that differ from what they were, or all."""
        names = ("learning", "flood", "mcast_flood", "bcast_flood", "neigh_suppress")
        return " ".join(
            f"{name} {'on' if getattr(self, name) else 'off'}"
            for name in names
            if was is None or getattr(self, name) is not getattr(was, name)
        )


@dataclass(frozen=True)
class Vxlan:
    """The tunnel of an overlay to the other hosts of its segment, on the network's bridge."""

    name: str
    tunnel: Tunnel
    mtu: int
    bridge: str
    alias: str
    flags: PortFlags

    @property
    def key(self) -> Key:
        return ("link", self.name)

    def link(self) -> "Link":
        return Link(
            self.name,
            "vxlan",
            self.mtu,
            master=self.bridge,
            alias=self.alias,
            tunnel=self.tunnel,
            flags=self.flags,
        )

    def __str__(self) -> str:
        return (
            f"link {self.name} mtu {self.mtu} master {self.bridge} group {GROUP} alias '{self.alias}' up"
            f" type vxlan {self.tunnel} bridge_slave {self.flags.words()}"
        )


@dataclass(frozen=True)
class Peer:
    """
    The other end of a veth that goes to no sandbox. It comes with a `Veth` whose `sandbox_end` it is; to add it is to
    make it ours. By one without a `bridge` the host itself stands in a segment; with one, two bridges are joined.
    """

    name: str
    mac: MAC
    mtu: int
    alias: str
    bridge: str | None = None

    @property
    def key(self) -> Key:
        return ("link", self.name)

    def link(self) -> "Link":
        return Link(self.name, "veth", self.mtu, master=self.bridge, mac=self.mac, alias=self.alias)

    def __str__(self) -> str:
        master = f" master {self.bridge}" if self.bridge else ""
        return f"link {self.name} address {self.mac} mtu {self.mtu}{master} group {GROUP} alias '{self.alias}' up"


@dataclass(frozen=True)
class Link:
    """
    A link of ours as it was seen. `mac` is None where it is the kernel's choice (a host end's). `flags` are those of a
    tunnel's bridge port, None of other ports and of a tunnel that is on no bridge.

    The alias does not count in a comparison: the kernel takes it only after the link is made, and a crash in between
    leaves a link that is ours by its group and does its work.
    """

    name: str
    kind: str
    mtu: int
    master: str | None = None
    mac: MAC | None = None
    up: bool = True
    hairpin: bool = False
    group: int = GROUP
    tunnel: Tunnel | None = None
    flags: PortFlags | None = None
    alias: str = field(default="", compare=False)

    @property
    def key(self) -> Key:
        return ("link", self.name)

    def __str__(self) -> str:
        return f"link {self.name}"
