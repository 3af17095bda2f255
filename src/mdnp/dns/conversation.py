"""Questions and answers over one TCP connection, each with its length before it (RFC 1035, section 4.2.2; RFC 7766)."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

# What is sent back now, what finds it, or None: whoever asks is not answered.
Outcome = bytes | Callable[[], Awaitable[bytes]] | None


class Conversation:
    """Several questions may be under way; their answers are sent in the order in which they are found."""

    def __init__(self, connection: socket.socket, idle_s: float, longest: int) -> None:
        self._connection = connection
        self._idle_s = idle_s
        self._longest = longest
        self._sending = asyncio.Lock()
        self._gone = False

    async def run(self, outcome: Callable[[bytes], Outcome]) -> None:
        """
        Until the other side has no more questions, is silent for too long, or asks what is not answered: what is under
        way is answered still.
        """
        async with asyncio.TaskGroup() as tasks:
            while not self._gone and (packet := await self._read()):
                await asyncio.sleep(0)  # reading what is there already, and sending, give no way to others
                found = outcome(packet)
                if found is None:
                    return
                if isinstance(found, bytes):
                    await self._send(found)
                else:
                    tasks.create_task(self._send_later(found))

    async def _read(self) -> bytes:
        """Empty at the end, and for a length that no question has."""
        with suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(self._idle_s):
                octets = int.from_bytes(await self._exactly(2), "big")
                return await self._exactly(octets) if octets <= self._longest else b""
        return b""

    async def _exactly(self, octets: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < octets:
            more = await loop.sock_recv(self._connection, octets - len(data))
            if not more:
                return b""
            data += more
        return data

    async def _send_later(self, answer: Callable[[], Awaitable[bytes]]) -> None:
        await self._send(await answer())

    async def _send(self, answer: bytes) -> None:
        """Who does not read is hung up on."""
        try:
            async with self._sending, asyncio.timeout(self._idle_s):
                await asyncio.get_running_loop().sock_sendall(self._connection, len(answer).to_bytes(2, "big") + answer)
        except OSError:
            self._gone = True
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
