"""
What this host promised: the only memory there is. Everything else can be thrown away and read again.

A promise is on disk before it is answered. Reading is from memory; writing goes through `commit`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from mdnp.model.endpoint import Endpoint
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.network import Network


@dataclass(frozen=True)
class Promises:
    """Views of what is promised now; they follow the store."""

    networks: Mapping[NetworkID, Network]
    endpoints: Mapping[EndpointID, Endpoint]


@dataclass(frozen=True)
class Put:
    """Record a promise, or replace the one with its id."""

    record: Network | Endpoint


@dataclass(frozen=True)
class Drop:
    """Take a promise back. One that is not there is no error."""

    record: Network | Endpoint


Change = Put | Drop


class Store(Protocol):
    @property
    def promises(self) -> Promises: ...

    async def commit(self, *changes: Change) -> None:
        """
        Make the changes, all or none; on disk when it returns.

        Errors: StoreUnavailable when it cannot be written (a full disk), Conflict when an endpoint's network is not
        there; nothing has changed then, on disk or in memory.
        """

    async def close(self) -> None: ...
