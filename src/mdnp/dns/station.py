"""A server of names at one place, which runs until it is closed."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import astuple
from typing import Protocol

from mdnp.dns import Scopes, Served
from mdnp.dns.sockets import Pair

log = logging.getLogger(__name__)


class Serving(Protocol):
    @property
    def served(self) -> Served: ...

    async def serve(self, datagrams: socket.socket, streams: socket.socket) -> None:
        """Until cancelled."""


Serve = Callable[[Scopes], Serving]


class Station:
    """To be made in the loop; it has the sockets from then on."""

    def __init__(self, name: str, pair: Pair, server: Serving) -> None:
        self._name = name
        self._pair = pair
        self._server = server
        self._task = asyncio.create_task(self._run())

    @property
    def runs(self) -> bool:
        return not self._task.done()

    @property
    def served(self) -> Served:
        return self._server.served

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._server.serve(self._pair.datagrams, self._pair.streams)
        except Exception:
            # Whoever has the station makes another; the others go on.
            log.exception("the server of names at %s ended", self._name)
        finally:
            self._pair.close()


def summed(counts: Iterable[Served]) -> Served:
    return Served(*map(sum, zip(*map(astuple, counts), strict=True)))


async def wait(event: asyncio.Event, limit_s: float) -> None:
    """For the event, or until the time is over."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return
