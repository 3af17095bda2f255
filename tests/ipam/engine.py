"""An engine that lists what a test says."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network

from mdnp.engine import EngineUnavailable, ListedEndpoint, ListedNetwork, Listing


def listing(
    *subnets: str,
    held: Mapping[str, str] | Sequence[str] = (),
    networks: Mapping[str, str] | Sequence[str] = (),
    endpoints: Mapping[str, str] | Sequence[str] = (),
) -> Listing:
    """
    `held` are addresses with their container's name, or without any, `endpoints` and `networks` their ids
    likewise.
    """
    addresses = {ip_address(address): name for address, name in _named(held).items()}
    return Listing(
        frozenset(map(ip_network, subnets)),
        addresses,
        {identity: ListedEndpoint(identity, container=name) for identity, name in _named(endpoints).items()},
        {identity: ListedNetwork(identity, name=name) for identity, name in _named(networks).items()},
    )


def _named(held: Mapping[str, str] | Sequence[str]) -> Mapping[str, str]:
    return held if isinstance(held, Mapping) else dict.fromkeys(held, "")


async def nothing() -> None:
    """Nothing happens meanwhile."""


class FakeEngine:
    """
    Answers with `listings` in turn, the last one for ever; None stands for an engine that cannot be asked. `meanwhile`
    happens after each listing was made and before it arrives.
    """

    def __init__(self, *listings: Listing | None) -> None:
        self.listings = list(listings)
        self.meanwhile: Callable[[], Awaitable[None]] = nothing
        self.asked = 0
        self.asked_twice = asyncio.Event()

    async def list(self) -> Listing:
        self.asked += 1
        if self.asked == 2:
            self.asked_twice.set()
        made = self.listings.pop(0) if len(self.listings) > 1 else self.listings[0]
        await self.meanwhile()
        if made is None:
            raise EngineUnavailable("Docker cannot be asked at /run/docker.sock: it does not run")
        return made

    async def version(self) -> str:
        if self.listings[0] is None:
            raise EngineUnavailable("Docker cannot be asked at /run/docker.sock: it does not run")
        return "28.5.2"

    async def close(self) -> None: ...
