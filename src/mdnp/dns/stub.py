"""
Names for the host itself: a server at an address of loopback, to which the host's resolver is led
(`mdnp install --host-dns`).
"""

import asyncio
import errno
import logging
from collections.abc import Callable

from mdnp.dns import Scope, Served
from mdnp.dns.sockets import PORT, open_pair
from mdnp.dns.standing import Place
from mdnp.dns.station import Serve, Station, summed, wait
from mdnp.model.network import IPAddress

log = logging.getLogger(__name__)

_AGAIN_S = 5.0


class Stub:
    """
    Where the port is another's, the server begins when it is free. `scope` is asked for with each question; its
    upstream must not be on loopback: whoever serves names there may ask us, as systemd-resolved does, for ever.
    """

    def __init__(
        self,
        address: IPAddress,
        scope: Callable[[], Scope],
        serve: Serve,
        *,
        port: int = PORT,
        again_s: float = _AGAIN_S,
    ) -> None:
        self._address = address
        self._scope = scope
        self._serve = serve
        self._port = port
        self._again_s = again_s
        self._station: Station | None = None
        self._trouble = "it was not begun yet"
        self._ended = Served()

    @property
    def standing(self) -> Place:
        return Place(str(self._address), self._trouble)

    @property
    def served(self) -> Served:
        return summed([self._ended, *([self._station.served] if self._station else [])])

    async def run(self) -> None:
        """Until cancelled."""
        never = asyncio.Event()
        try:
            while True:
                if self._station is None or not self._station.runs:
                    await self._close()
                    self._begin()
                await wait(never, self._again_s)
        finally:
            await self._close()

    def _begin(self) -> None:
        try:
            pair = open_pair(self._address, self._port)
        except OSError as error:
            trouble = _in_words(error)
            if trouble != self._trouble:
                log.warning("no server of names at %s: %s", self._address, trouble)
            self._trouble = trouble
            return
        self._station = Station(str(self._address), pair, self._serve(self._scope_of))
        self._trouble = ""

    async def _close(self) -> None:
        station, self._station = self._station, None
        if station is not None:
            await station.close()
            self._ended = summed([self._ended, station.served])

    def _scope_of(self, address: IPAddress) -> Scope | None:
        """Nobody beyond this host can ask from loopback."""
        return self._scope() if address.is_loopback else None


def _in_words(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"another process serves names at port {PORT} of this address, or of all addresses of the host"
    return f"{error.strerror}"
