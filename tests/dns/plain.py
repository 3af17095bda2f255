"""Servers that say who asked, for tests of where they stand."""

import asyncio
import socket
from ipaddress import ip_address

from mdnp.dns import Scope, Scopes, Served

KNOWN = Scope(finder=None, upstream=None)  # type: ignore[arg-type]  # nobody looks


class Plain:
    """Answers each datagram, and each connection, of whom it knows with the address that he has."""

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes
        self.served = Served()

    async def serve(self, datagrams: socket.socket, streams: socket.socket) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(self._of_datagrams(datagrams))
            both.create_task(self._of_streams(streams))

    async def _of_datagrams(self, datagrams: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data, source = await loop.sock_recvfrom(datagrams, 512)
            if data == b"end":
                raise ValueError("a fault")
            if self._knows(source[0]):
                await loop.sock_sendto(datagrams, source[0].encode(), source)

    async def _of_streams(self, streams: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, source = await loop.sock_accept(streams)
            with accepted:
                if self._knows(source[0]):
                    await loop.sock_sendall(accepted, source[0].encode())

    def _knows(self, address: str) -> bool:
        known = self._scopes(ip_address(address)) is not None
        counts = (self.served.zone + known, 0, 0, self.served.dropped + (not known))
        self.served = Served(*counts)
        return known


async def ask(one: socket.socket, address: str, port: int = 53, data: bytes = b"?", limit_s: float = 5.0) -> str:
    """What is said to who asks by a socket; "" if nothing is."""
    loop = asyncio.get_running_loop()
    with one:
        try:
            async with asyncio.timeout(limit_s):
                await loop.sock_connect(one, (address, port))
                if one.type == socket.SOCK_DGRAM:
                    await loop.sock_sendall(one, data)
                return (await loop.sock_recv(one, 512)).decode()
        except (TimeoutError, OSError):
            return ""
