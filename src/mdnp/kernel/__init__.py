"""
The only room that touches the kernel: it looks, and it takes steps. It decides nothing else.

`linux` is the real one, `fake` one in memory that refuses what Linux refuses; one suite of tests runs on both.
What is here already on an add with equal content, or gone already on a delete, counts as done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mdnp.dataplane.objects import Accept, Addr, Key, Link
from mdnp.dataplane.steps import Step
from mdnp.model.errors import KernelError
from mdnp.model.network import IPNetwork

Seen = Link | Addr | Accept


@dataclass(frozen=True)
class Actual:
    """
    What of ours is in the kernel. `chains` are the chains in which an `Accept` can stand; `doomed` says that links
    wait for `reap`.
    """

    objects: Mapping[Key, Seen]
    chains: frozenset[Key] = frozenset()
    doomed: bool = False


@dataclass(frozen=True)
class Route:
    """A route of the host that is not over a link of ours. `gateway` is False for what is directly on the link."""

    to: IPNetwork
    link: str
    gateway: bool


@dataclass(frozen=True)
class Surroundings:
    """
    What the host has besides ours: its routes, the MTU (bytes) of the default route's link if it has one, and its
    resolvers as networks of one address.
    """

    routes: tuple[Route, ...]
    underlay_mtu: int | None
    resolvers: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A step that was not taken, and why."""

    step: Step
    error: KernelError


class Kernel(Protocol):
    """
    Errors: `observe` and `surroundings` raise KernelError. `perform` takes the steps in order, goes on after one that
    fails, and returns those that failed. A step that was cut off by a crash is seen by the next `observe`.
    """

    async def observe(self) -> Actual: ...

    async def surroundings(self) -> Surroundings: ...

    async def perform(self, steps: Sequence[Step]) -> tuple[Failure, ...]: ...

    async def reap(self) -> None:
        """Delete the links that `Doom` marked, all at once. Takes about 20 ms, beside other calls."""

    async def close(self) -> None: ...
