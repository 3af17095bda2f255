"""
What leads frames and packets to the other hosts of a segment: rows of forwarding tables and neighbours, and the host's
own way in. As values.

A look and a plan may have tens of thousands of rows, so they keep their keys.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from mdnp.dataplane.links import Key
from mdnp.dataplane.naming import LOOKUP_PRIORITY, ROUTE_PROTOCOL, ROUTE_TABLE
from mdnp.model.mac import MAC
from mdnp.model.network import IPAddress, IPNetwork

Family = Literal[4, 6]

# The MAC under which a VXLAN link keeps where it sends what is for all.
EVERYBODY = MAC("00:00:00:00:00:00")


@dataclass(frozen=True)
class Fdb:
    """
    Where frames for a MAC go. From a tunnel: with `vtep` to which host (`self`, the row of the VXLAN link), without it
    that they go by this link at all (`master`, the row of its bridge). The MAC `EVERYBODY` has a row for each host.

    `sticky` is the row of an endpoint on an annex: a frame of its own that comes back by the joint does not make the
    bridge take it to be there. `lasting` is False of a row that was seen and would age.
    """

    link: str
    mac: MAC
    vtep: IPAddress | None = None
    lasting: bool = True
    sticky: bool = False

    @cached_property
    def key(self) -> Key:
        if self.vtep is None:
            return ("fdb", self.link, "master", self.mac)
        return ("fdb", self.link, "self", self.mac, *([str(self.vtep)] if self.mac == EVERYBODY else []))

    def __str__(self) -> str:
        if self.vtep is None:
            return f"fdb {self.mac} dev {self.link} master static{' sticky' if self.sticky else ''}"
        return f"fdb {self.mac} dev {self.link} dst {self.vtep} self permanent"


@dataclass(frozen=True)
class Neigh:
    """Which MAC an address of another host's has: the bridge answers ARP and ND by it, and the gateway sends by it."""

    link: str
    address: IPAddress
    mac: MAC
    lasting: bool = True

    @cached_property
    def key(self) -> Key:
        return ("neigh", self.link, str(self.address))

    def __str__(self) -> str:
        return f"neigh {self.address} lladdr {self.mac} dev {self.link} nud permanent protocol {ROUTE_PROTOCOL}"


@dataclass(frozen=True)
class PoolRoute:
    """
    The host's own way to the containers of a segment, from its own address there, in a table of our own. `source` is
    None of one that was seen and is otherwise than ours.
    """

    to: IPNetwork
    link: str
    source: IPAddress | None

    @property
    def key(self) -> Key:
        return ("route", str(self.to))

    def __str__(self) -> str:
        source = f" src {self.source}" if self.source else ""
        return f"route {self.to} dev {self.link}{source} proto {ROUTE_PROTOCOL} table {ROUTE_TABLE}"


@dataclass(frozen=True)
class Lookup:
    """
    The rule that sends what the host itself sends through our table; what it forwards goes by the bridges, whose
    gateway's address every host of a segment has. `link` and `priority` are otherwise only of one that was seen.
    """

    family: Family
    link: str = "lo"
    priority: int = LOOKUP_PRIORITY

    @property
    def key(self) -> Key:
        return ("rule", str(self.family))

    def __str__(self) -> str:
        link = f" iif {self.link}" if self.link else ""
        return f"rule pref {self.priority}{link} lookup {ROUTE_TABLE} protocol {ROUTE_PROTOCOL}"
