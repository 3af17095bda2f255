"""What was found by looking and by asking, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mdnp.trace.events import Journey, Rule
from mdnp.trace.target import Asked


@dataclass(frozen=True)
class Interface:
    """A link with its addresses (with prefix length). `up` is what was asked of it, `carrier` what it has."""

    name: str
    up: bool
    carrier: bool
    mtu: int
    addresses: tuple[str, ...] = ()
    master: str = ""


@dataclass(frozen=True)
class Way:
    """
    What a routing table answered: by which link, to which next router ("" if there is none), from which address.
    `error` says why there is no way; `local` that the address is the asker's own, `broadcast` that it is everybody's.
    """

    link: str = ""
    gateway: str = ""
    source: str = ""
    local: bool = False
    broadcast: bool = False
    error: str = ""


@dataclass(frozen=True)
class Container:
    """The one that asks. `link` is None if the interface is gone; `expected` are the addresses that Docker gave it."""

    name: str
    network: str
    link: Interface | None
    way: Way
    expected: tuple[str, ...] = ()
    internal: bool = False


@dataclass(frozen=True)
class HostEnd:
    """
    The veth's end on the host and the network's bridge, None if they are gone. Where the end is on an `annex` of the
    network, `joint` is the link on the bridge by which they are joined.
    """

    name: str
    link: Interface | None
    bridge: Interface | None = None
    annex: Interface | None = None
    joint: Interface | None = None


@dataclass(frozen=True)
class Tunnel:
    """The link by which a target on another host is reached: the address of that host's tunnels, and its name or ""."""

    link: str
    vtep: str
    host: str = ""

    @property
    def end(self) -> str:
        return f"host {self.host} ({self.vtep})" if self.host else f"host {self.vtep}"


@dataclass(frozen=True)
class Host:
    """
    What the host says after the probe: its way for the packet as it was routed. `forwarding` are the settings that
    allow it, by sysctl name; `refusing` the route that refuses the target, as `ip route` prints it; `neighbours` have
    NUD states by address and link; `back` is the host's way to the source, and `rp_filter` how strictly sources are
    checked against it (0 not, 1, 2); `containers` names by host end and by address; `links` are the host's. `tunnel` is
    None where the target is on no other host of the segment, as far as is known here.
    """

    way: Way = field(default_factory=Way)
    forwarding: Mapping[str, str] = field(default_factory=dict)
    refusing: str = ""
    back: Way = field(default_factory=Way)
    rp_filter: int = 0
    neighbours: Mapping[tuple[str, str], str] = field(default_factory=dict)
    containers: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, Interface] = field(default_factory=dict)
    tunnel: Tunnel | None = None


class Kind(StrEnum):
    """How the probe ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    ERROR = "error"  # an ICMP error from somebody
    LOCAL = "local"  # the container's own kernel did not send it
    SILENCE = "silence"


@dataclass(frozen=True)
class Answer:
    """`sender` is who said it, as far as the probe can tell; `reason` the error's own words."""

    kind: Kind
    ms: float = 0.0
    sender: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Facts:
    """
    All of one trace. `neighbour` is the NUD state of the next hop in the container after the probe. `hooks` are those
    of base chains by `FAMILY TABLE CHAIN`; `words` rules as iptables lists them; `counted` the rules of legacy iptables
    that dropped meanwhile; `untraced` says why nft could not be heard.
    """

    address: str
    port: int
    asked: Asked
    container: Container
    host_end: HostEnd
    host: Host
    answer: Answer
    neighbour: str = ""
    journeys: tuple[Journey, ...] = ()
    hooks: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[Rule, str] = field(default_factory=dict)
    counted: tuple[str, ...] = ()
    untraced: str = ""
    remarks: tuple[str, ...] = ()
