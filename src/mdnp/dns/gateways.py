"""
Names at the gateway: a server at the address of each gateway of ours, for who asks there (`--dns`, or by hand).

It is asked at port 53, and has another one (`kernel.signpost` leads there). Its sockets hear only what comes by the
network's own bridge, so that who asks is known by the address that he asks from, which the guard holds true.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from mdnp.dataplane import naming
from mdnp.dns import Scope, Scopes, Served
from mdnp.dns.sockets import Pair, open_pair
from mdnp.dns.standing import Place
from mdnp.dns.station import Serve, Station, summed, wait
from mdnp.kernel.signpost import Signpost, Signposts
from mdnp.model.errors import KernelError
from mdnp.model.identity import NetworkID
from mdnp.model.network import IPAddress, IPNetwork, Network
from mdnp.model.port import Protocol

log = logging.getLogger(__name__)

_AGAIN_S = 5.0


@dataclass(frozen=True)
class _Gateway:
    """`pools` are those of its network, from which its containers ask."""

    network: NetworkID
    link: str
    address: IPAddress
    pools: tuple[IPNetwork, ...]

    def __str__(self) -> str:
        return f"{self.address} on {self.link}"


@dataclass(frozen=True)
class _Open:
    """`index` is that of the link: its sockets are of no use on one that was made anew."""

    station: Station
    index: int
    signposts: tuple[Signpost, ...]


class Gateways:
    """
    `scopes_of` says who may know what on a network; `serve` makes a server of that. What fails, and what was ended by
    others, is tried again every `again_s` seconds.
    """

    def __init__(
        self, scopes_of: Callable[[NetworkID], Scopes], serve: Serve, signposts: Signposts, again_s: float = _AGAIN_S
    ) -> None:
        self._scopes_of = scopes_of
        self._serve = serve
        self._signposts = signposts
        self._again_s = again_s
        self._wanted: frozenset[_Gateway] = frozenset()
        self._open: dict[_Gateway, _Open] = {}
        self._failed: dict[_Gateway, str] = {}
        self._standing_up: frozenset[Signpost] = frozenset()
        self._trouble = ""
        self._ended = Served()
        self._woken = asyncio.Event()

    def want(self, networks: Iterable[Network]) -> None:
        """Serve at the gateways of those that have names, and at no others. Returns at once."""
        wanted = frozenset(gateway for network in networks for gateway in _gateways(network))
        if wanted != self._wanted:
            self._wanted = wanted
            self._woken.set()

    @property
    def standing(self) -> tuple[Place, ...]:
        return tuple(Place(str(one), self._trouble_of(one)) for one in sorted(self._wanted, key=str))

    @property
    def served(self) -> Served:
        """Of all, also of those that ended."""
        return summed([self._ended, *(one.station.served for one in self._open.values())])

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._woken.clear()
                await self._settle()
                await wait(self._woken, self._again_s)
        finally:
            self._signposts.close()
            await self._close(list(self._open))

    async def _settle(self) -> None:
        """Signposts lead to what is open: they go before it, and come after it."""
        over = [one for one, known in self._open.items() if one not in self._wanted or not _is_well(one, known)]
        staying = frozenset(post for one, known in self._open.items() if one not in over for post in known.signposts)
        await self._put_up(staying)
        await self._close(over)
        self._failed = {}
        for one in self._wanted - self._open.keys():
            self._begin(one)
        await self._put_up(frozenset(post for one in self._open.values() for post in one.signposts))

    def _begin(self, gateway: _Gateway) -> None:
        try:
            index = socket.if_nametoindex(gateway.link)
            pair = open_pair(gateway.address, link=gateway.link)
        except OSError as error:
            log.debug("no server of names at %s: %s", gateway, error)
            self._failed[gateway] = f"{error.strerror}: its bridge is not there, or the host takes no such addresses"
            return
        station = Station(str(gateway), pair, self._serve(self._scopes(gateway)))
        self._open[gateway] = _Open(station, index, _signposts(gateway, pair))

    async def _put_up(self, signposts: frozenset[Signpost]) -> None:
        if signposts == self._standing_up and not self._trouble:
            return
        try:
            await asyncio.to_thread(self._signposts.put_up, signposts)
            self._standing_up, self._trouble = signposts, ""
        except KernelError as error:
            if str(error) != self._trouble:
                log.warning("nobody is led to the servers of names at gateways: %s", error)
            self._trouble = str(error)

    async def _close(self, gateways: list[_Gateway]) -> None:
        for one in gateways:
            station = self._open.pop(one).station
            await station.close()
            self._ended = summed([self._ended, station.served])

    def _scopes(self, gateway: _Gateway) -> Scopes:
        """Nobody asks from outside of the network's pools."""
        scopes = self._scopes_of(gateway.network)

        def scope(address: IPAddress) -> Scope | None:
            return scopes(address) if any(address in pool for pool in gateway.pools) else None

        return scope

    def _trouble_of(self, gateway: _Gateway) -> str:
        known = self._open.get(gateway)
        if known and self._standing_up.issuperset(known.signposts):
            return ""
        return self._failed.get(gateway, self._trouble or "it was not begun yet")


def _gateways(network: Network) -> tuple[_Gateway, ...]:
    if not (network.options.has_names and network.has_gateway):
        return ()
    pools = tuple(subnet.pool for subnet in network.subnets)
    addresses = [subnet.gateway.ip for subnet in network.subnets if subnet.gateway]
    return tuple(_Gateway(network.id, naming.bridge(network), one, pools) for one in addresses)


def _is_well(gateway: _Gateway, known: _Open) -> bool:
    with suppress(OSError):
        return known.station.runs and socket.if_nametoindex(gateway.link) == known.index
    return False


def _signposts(gateway: _Gateway, pair: Pair) -> tuple[Signpost, ...]:
    protocols = zip((Protocol.UDP, Protocol.TCP), pair.ports, strict=True)
    return tuple(Signpost(gateway.link, gateway.address, protocol, port) for protocol, port in protocols)
