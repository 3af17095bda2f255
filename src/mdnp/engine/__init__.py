"""
What Docker's engine says of itself over its API, asked outside of plugin calls and only if it is there.

Never inside a call: the engine holds locks while it waits for us, and would wait for itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from mdnp.model.errors import MdnpError
from mdnp.model.network import IPAddress, IPNetwork


class EngineUnavailable(MdnpError):
    """Docker cannot be asked now."""


@dataclass(frozen=True)
class Listing:
    """
    The subnets of all Docker networks, of every driver, and all addresses that networks and containers have: gateways,
    auxiliary ones, endpoints' with the container's name ("" for the others).
    """

    subnets: frozenset[IPNetwork]
    addresses: Mapping[IPAddress, str]


class Engine(Protocol):
    async def list(self) -> Listing:
        """Errors: EngineUnavailable, in a second at most when nobody answers."""

    async def close(self) -> None: ...
