"""
What this host promised: the only memory there is. Everything else can be thrown away and read again.

A promise is on disk before it is answered. Reading is from memory; writing goes through `commit`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mdnp.model.allocation import Allocation, Freed, Record
from mdnp.model.endpoint import Endpoint
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.names import Called
from mdnp.model.network import IPAddress, Network
from mdnp.model.pool import PoolID, PoolPromise
from mdnp.model.segment import Block


@dataclass(frozen=True)
class Promises:
    """
    Views of what is promised now; they follow the store. `called` is no promise, but what Docker told last: what is
    called may be gone already.
    """

    networks: Mapping[NetworkID, Network]
    endpoints: Mapping[EndpointID, Endpoint]
    pools: Mapping[PoolID, PoolPromise]
    blocks: Mapping[str, Block] = field(default_factory=dict)
    called: Mapping[str, Called] = field(default_factory=dict)


@dataclass(frozen=True)
class Put:
    """Record a promise, or replace the one with its id."""

    record: Network | Endpoint | PoolPromise | Block | Called


@dataclass(frozen=True)
class Drop:
    """Take a promise back. One that is not there is no error."""

    record: Network | Endpoint | PoolPromise | Block | Called


@dataclass(frozen=True)
class Hold:
    """Record that an address of a pool was handed out."""

    pool: PoolID
    allocation: Allocation


@dataclass(frozen=True)
class Free:
    """Record that it was given back. It stays in the history."""

    pool: PoolID
    freed: Freed


@dataclass(frozen=True)
class Name:
    """Record the name of the endpoint that holds an address, learned after it was handed out."""

    pool: PoolID
    address: IPAddress
    name: str


@dataclass(frozen=True)
class Fact:
    """Keep a value of this host under a name, instead of what was kept there."""

    name: str
    value: str


@dataclass(frozen=True)
class Known:
    """
    What other hosts told, as it stands in etcd: the value of a key and the revision that wrote it, or None for one that
    is gone.
    """

    key: str
    value: bytes | None
    revision: int = 0


Change = Put | Drop | Hold | Free | Name | Fact | Known


@dataclass(frozen=True)
class Tenure:
    """A line of the history: who held an address of which pool, from when, and until when (None: still)."""

    pool: PoolID
    allocation: Allocation
    until: float | None


class Store(Protocol):
    @property
    def promises(self) -> Promises: ...

    @property
    def trouble(self) -> str:
        """Why the last commit could not be written; empty when it could."""

    async def commit(self, *changes: Change) -> None:
        """
        Make the changes, all or none; on disk when it returns.

        Errors: StoreUnavailable when it cannot be written (a full disk), Conflict when an endpoint's network is not
        there or an address is held already; nothing has changed then, on disk or in memory.
        """

    async def allocations(self, pool: PoolID) -> Sequence[Record]:
        """What is held in a pool, and of each address not held the last time it was. Read from disk: for the start."""

    async def history(self, name: str) -> Sequence[Tenure]:
        """The tenures of an address or of an endpoint's name, the oldest first. Read from disk."""

    async def fact(self, name: str, first: str) -> str:
        """What was decided once for this host: what is kept under `name`, or `first`, kept from now on."""

    async def close(self) -> None: ...


class Mirror(Protocol):
    """What is kept by `Known`. Errors: StoreUnavailable."""

    async def known(self) -> Sequence[Known]:
        """All that other hosts told, as it was written down last. Read from disk: for the start."""

    async def forget_known(self) -> None: ...


class Memory(Store, Mirror, Protocol):
    """Both sides of the store."""
