"""
The only room that touches the kernel: it looks, and it takes steps. It decides nothing else.

`linux` is the real one, `fake` one in memory that refuses what Linux refuses; one suite of tests runs on both.
What is here already on an add with equal content, or gone already on a delete, counts as done.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mdnp.dataplane.objects import (
    Addr,
    Element,
    HostPort,
    Key,
    Link,
    Lookup,
    PoolRoute,
    Row,
    Rule,
    Sysctl,
    Table,
)
from mdnp.dataplane.steps import Add, Delete, Step
from mdnp.model.errors import KernelError
from mdnp.model.network import IPAddress, IPNetwork

Seen = Link | Addr | Rule | Sysctl | Table | Element | HostPort | Row | PoolRoute | Lookup


@dataclass(frozen=True)
class Actual:
    """
    What of ours is in the kernel. `chains` are those of Docker's that are there for others' rules, `unreached` those of
    them to which nobody else leads traffic; `doomed` says that links wait for `reap`. `uplinks` are bridges that are
    not ours and lead to other hosts. `dropped` counts the frames that the guard dropped, by host end.
    """

    objects: Mapping[Key, Seen]
    chains: frozenset[Key] = frozenset()
    unreached: frozenset[Key] = frozenset()
    doomed: bool = False
    uplinks: frozenset[str] = frozenset()
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """
    A route of the host that is not over a link of ours. `gateway` is False for what is directly on the link, whose MTU
    in bytes is `mtu`.
    """

    to: IPNetwork
    link: str
    gateway: bool
    mtu: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Surroundings:
    """
    What the host has besides ours: its routes, the MTU (bytes) of the default route's link if it has one, and its
    resolvers as networks of one address.
    """

    routes: tuple[Route, ...]
    underlay_mtu: int | None
    resolvers: tuple[IPNetwork, ...] = ()

    def mtu_at(self, address: IPAddress) -> int | None:
        """Of the link that has this address of the host: the one with the network that it is of."""
        around = [route for route in self.routes if not route.gateway and route.mtu and address in route.to]
        nearest = max(around, key=lambda route: route.to.prefixlen, default=None)
        return nearest.mtu if nearest else self.underlay_mtu


@dataclass(frozen=True)
class Traffic:
    """
    What went over an endpoint's link since it was made, as its container sees it: `rx` is what the container received,
    which is what the host end sent. A veth counts as dropped what its other end could not take.
    """

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True)
class Failure:
    """A step that was not taken, and why."""

    step: Step
    error: KernelError


@dataclass(frozen=True)
class Gone:
    """A notice: what took this place is not there any more, as the kernel says."""

    key: Key


@dataclass(frozen=True)
class Doubt:
    """A notice: something of ours may have been changed by somebody else."""

    reason: str


Notice = Gone | Doubt


def stands_alone(step: Step) -> bool:
    """
    Whether a step is tried although one of its owner's failed: a port that is taken says nothing of others, and rows go
    to the kernel many at a time.
    """
    return (isinstance(step, Add) and isinstance(step.object, HostPort)) or is_row(step)


def is_row(step: Step) -> bool:
    return isinstance(step, Add | Delete) and isinstance(step.object, Row)


def vni_in_use(vni: int, port: int, link: str) -> str:
    """What to say of it; `link` has it, "" if it is in another network namespace (its socket stays in ours)."""
    by = f"the VXLAN link {link}" if link else "a VXLAN link in another network namespace of this host"
    return f"VNI {vni} on UDP port {port} is in use by {by}: remove that, or set another vxlan_port on every host"


def tunnel_port_in_use(port: int) -> str:
    return (
        f"UDP port {port} of overlays is in use by another program of this host: stop that (ss -ulpn 'sport = :{port}'"
        " may name it), or set another vxlan_port on every host"
    )


class Kernel(Protocol):
    """
    Errors: `observe`, `surroundings`, `traffic` and `local_ports` raise KernelError. `perform` takes the steps in order
    and returns those that failed: after one that fails it goes on with other owners' steps, while the rest of that
    owner's stands on what is not there, but for ports and rows. Steps of nft that stand together are one transaction;
    rows that stand together are sent together, and each fails for itself. A step that was cut off by a crash is seen by
    the next `observe`.
    """

    async def observe(self) -> Actual: ...

    async def surroundings(self) -> Surroundings: ...

    async def perform(self, steps: Sequence[Step]) -> tuple[Failure, ...]: ...

    async def local_ports(self) -> range:
        """The ports from which the host takes one when any will do."""

    async def traffic(self) -> Mapping[str, Traffic]:
        """Of each host end of ours, by its name; by one dump, beside steps that are taken."""

    async def listen(self, heard: Callable[[Notice], None]) -> None:
        """Tell of changes from now on. Not of all (legacy iptables tells nothing), and of some that are ours."""

    async def reap(self) -> None:
        """Delete the links that `Doom` marked, all at once. Takes about 20 ms, beside other calls."""

    async def close(self) -> None: ...
