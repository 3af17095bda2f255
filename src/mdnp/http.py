"""
Listeners: HTTP over a unix socket that only its owner may open, or over TCP with TLS on both sides; replaced safely and
drained without losing a call.

Docker's client repeats a call whose connection breaks, but with the body that the first attempt consumed: a careless
stop fails a `docker run`. So a drain lets everything that was sent be answered, and makes the next write of a kept
connection fail before it is sent (`shutdown(SHUT_RD)` on a unix socket), which Go's client repeats whole on a new
connection. If the socket is systemd's, that one stands in its queue until the next daemon accepts it.

TCP has no such means: a write succeeds although the other side has closed, and the call is lost with its body. So over
TCP a connection carries one call, and its answer says so. None is kept, so none has to be closed between two calls.
Whoever comes while we go is refused or reset before the end of his handshake, when not a byte of his call was sent.
"""

import asyncio
import contextlib
import fcntl
import logging
import socket
import ssl
import struct
import termios
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiohttp import web

from mdnp import tls
from mdnp.model.network import IPAddress
from mdnp.model.port import bracketed
from mdnp.model.tcp_address import TcpAddress
from mdnp.places import BACKLOG, Name, at_address, at_path, at_port, warn_if_open

log = logging.getLogger(__name__)

# Answers a method, a path and a body.
Answerer = Callable[[str, str, bytes], Awaitable["Response"]]

# A container that publishes all 65535 ports sends about 7 MB of them.
BODY_LIMIT = 8 * 1024 * 1024
# Idle connections are the client's to close: one that we close while it sends its next call breaks that call.
_SILENT = logging.getLogger(f"{__name__}.access")
_SILENT.disabled = True  # each verb logs what it changes
_KEEP_ALIVE_S = 10 * 365 * 24 * 3600.0
_NOTICE_S = 0.05  # enough for a client to see that a connection it keeps was closed
_ACCEPT_S = 0.05  # enough for who found our socket's name before it went to be in its queue
_ACCEPT_AGAIN_S = 1.0  # when descriptors or memory have run out
_SPEAK_S = 1.0  # for a call that is being sent, or about to be
_CUT_S = 0.05  # for what was cut off to end
_HANDSHAKE_S = 5.0  # for a handshake, or for one that is refused to hang up
_TURNS = 5  # of the loop, until a call that was the last bytes of a connection has begun


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


_NAMED = Response(403, b'{"error": "ask by an address, as 127.0.0.1, or by localhost"}', "application/json")


class _Connection(web.RequestHandler):
    """
    A connection that, once it drains, stays open for answers after its reading side has ended.

    It is speaking while a call is on its way; one that was just opened is about to send its first. A `single` one
    carries no second call.
    """

    def __init__(self, server: "_Server", **settings: Any) -> None:
        super().__init__(server, **settings)
        self._changed = server.changed
        self._speaking = True
        self.single = False
        self.leaves = False  # ends by itself, after the answer that is under way
        self.draining = False
        self.ended = False
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.single = transport.get_extra_info("ssl_object") is not None

    def data_received(self, data: bytes) -> None:
        self._speaking = True
        self._changed.set()
        super().data_received(data)

    def received_whole(self) -> None:
        """The last call is here with all of its body."""
        self._speaking = False
        self._changed.set()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio keeps the transport open on True
        self.ended = True
        self._changed.set()
        return self.draining and not self.single  # TLS knows no half of a connection

    def connection_lost(self, exc: BaseException | None) -> None:
        self.draining = self.ended = self.gone = True
        self._changed.set()
        super().connection_lost(exc)

    def stop_reading(self) -> None:
        if not self.draining and self.transport is not None and not self.transport.is_closing():
            if not self.single:
                self.transport.get_extra_info("socket").shutdown(socket.SHUT_RD)
            elif self._speaking:
                self.force_close()
        self.draining = True
        self.ended = self.ended or self.single

    def stop_between_calls(self) -> None:
        """A part of a call that was cut off would be repeated without a body."""
        if self.ended or not (self._speaking or self._unread()):
            self.stop_reading()

    def _unread(self) -> int:
        """The bytes that the kernel has for us."""
        if self.transport is None or self.transport.is_closing() or self.single:
            return 0
        found = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
        count: int = struct.unpack("i", found)[0]
        return count


class _Server(web.Server):
    def __init__(self, respond: Any, changed: asyncio.Event, request_factory: Any) -> None:
        super().__init__(respond, request_factory=request_factory)
        self.changed = changed

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, logger=_SILENT, access_log=_SILENT, keepalive_timeout=_KEEP_ALIVE_S)

    @property
    def open(self) -> list[_Connection]:
        return [one for one in self.connections if isinstance(one, _Connection)]


class _Entrance:
    """
    Where connections come in. Not a server of asyncio's: when that is closed it drops whom it has just accepted (its
    Server._attach), and it changes the queue of a socket that is not ours.
    """

    def __init__(self, listening: socket.socket, server: _Server, secured: ssl.SSLContext | None) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._server = server
        self._secured = secured
        self._coming: set[asyncio.Task[Any]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def open(self) -> None:
        asyncio.get_running_loop().add_reader(self._listening, self.accept)

    def accept(self) -> None:
        """Accept who is in the queue."""
        if self._listening.fileno() < 0:
            return
        loop = asyncio.get_running_loop()
        try:
            for _ in range(BACKLOG):
                client, address = self._listening.accept()
                task = loop.create_task(self._admit(client, address))
                self._coming.add(task)
                task.add_done_callback(self._coming.discard)
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("accepting: %s", error.strerror)
            loop.remove_reader(self._listening)
            self._pause = loop.call_later(_ACCEPT_AGAIN_S, self.open)

    async def close(self) -> None:
        """Accept nobody more. When this returns, whoever was accepted is among the server's connections."""
        if self._listening.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
        if self._pause is not None:
            self._pause.cancel()
        if self._coming:
            _, late = await asyncio.wait(self._coming, timeout=_SPEAK_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _admit(self, client: socket.socket, address: Any) -> None:
        loop = asyncio.get_running_loop()
        if self._secured is None:
            await loop.connect_accepted_socket(self._server, client)
            return
        who = TcpAddress(*address[:2]).authority
        handshake = tls.Handshake(lambda why: log.warning("%s is refused: %s", who, why))
        handshake.begin()
        try:
            await loop.connect_accepted_socket(
                self._server,
                client,
                ssl=self._secured,
                ssl_handshake_timeout=_HANDSHAKE_S,
                ssl_shutdown_timeout=_SPEAK_S,
            )
        except OSError as error:
            if handshake.error is None:
                log.info("%s did not shake hands: %s", who, str(error) or "it hung up")


class Listener:
    """Made by `open`; answers until `drain`."""

    def __init__(
        self,
        place: str,
        listening: socket.socket,
        answer: Answerer,
        too_large: Response,
        *,
        owned: bool = False,
        name: Name | None = None,
        secured: ssl.SSLContext | None = None,
    ) -> None:
        self._place = place
        self._owned = owned
        self._name = name
        self._secured = secured
        self._answer = answer
        self._too_large = too_large
        self._by_address = False  # a request for a host that is named is refused
        self._under_way = 0
        self._retiring = False  # answers say that their connection is not kept
        self._changed = asyncio.Event()
        self._server = _Server(self._respond, self._changed, self._request)
        self._entrance = _Entrance(listening, self._server, secured)
        self._entrance.open()

    @classmethod
    async def open(
        cls, path: Path, answer: Answerer, too_large: Response, inherited: socket.socket | None = None
    ) -> "Listener":
        """
        Listen at `path`, mode 0600. A socket file that nobody serves any more is replaced.

        If a listening socket is `inherited`, it is served in place of one of our own; it and its file stay when we end.

        Errors: Conflict when somebody serves there, or something else than a socket is there; InvalidParameter for a
        path that no socket can have.
        """
        if inherited is not None:
            await asyncio.to_thread(warn_if_open, inherited)
            return cls(str(path), inherited, answer, too_large)
        bound, name = await asyncio.to_thread(at_path, path)
        return cls(str(path), bound, answer, too_large, owned=True, name=name)

    @classmethod
    async def open_tcp(
        cls,
        address: TcpAddress,
        secured: ssl.SSLContext,
        answer: Answerer,
        too_large: Response,
        inherited: socket.socket | None = None,
    ) -> "Listener":
        """
        Listen at `address` for who satisfies `secured`; each connection carries one call. As `open` if a socket is
        `inherited`.

        Errors: Conflict when somebody has the port; InvalidParameter when the address is not this host's.
        """
        if inherited is not None:
            return cls(str(address), inherited, answer, too_large, secured=secured)
        bound = await asyncio.to_thread(at_address, address)
        return cls(str(address), bound, answer, too_large, owned=True, secured=secured)

    @classmethod
    async def open_loopback(cls, address: IPAddress, port: int, answer: Answerer, too_large: Response) -> "Listener":
        """
        Listen on a TCP port of a loopback address. A request for a host that is named is refused, but for localhost: a
        page of any site that is open in a browser on this host could otherwise read here, under a name that leads here.

        Errors: Conflict when the port is taken; InvalidParameter where it cannot be had.
        """
        place = f"{bracketed(address)}:{port}"
        listener = cls(place, at_port(address, port, place), answer, too_large)
        listener._by_address = True
        return listener

    async def drain(self, limit_s: float) -> None:
        """
        Stop accepting, answer what was sent, close. After `limit_s` seconds what is left is cut off, and logged.

        Who waits in the queue of our own socket is accepted and answered, for with the socket that queue is gone. Who
        waits in an inherited one's is left to the next daemon.
        """
        self._retiring = True
        if self._name is not None:
            if self._server.open:
                await self._retire(self._server.open)
            self._name.remove()
            await asyncio.sleep(_ACCEPT_S)
        if self._owned:
            self._entrance.accept()
        await self._entrance.close()
        try:
            async with asyncio.timeout(limit_s):
                await self._quiet()
        except TimeoutError:
            log.warning("%s: %d calls were cut off after %s s", self._place, self._under_way, limit_s)
        if self._secured is not None:
            await self._part()
        for connection in self._server.open:
            connection.close()
        await self._server.shutdown(timeout=_CUT_S)

    async def _retire(self, kept: Sequence[_Connection]) -> None:
        """
        Close the connections that are kept, while our name still stands and others are accepted.

        A client whose kept connection fails it opens a new one for the same call. If it found no name then, its body
        would be spent: the engine would repeat the call without one.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SPEAK_S):
                await self._until(lambda: self._all_closed(kept))
        await asyncio.sleep(_NOTICE_S)

    def _all_closed(self, connections: Sequence[_Connection]) -> bool:
        for connection in connections:
            connection.stop_between_calls()
            if connection.ended and not connection.leaves:
                connection.force_close()
        return all(one.gone or one.leaves for one in connections)

    async def _part(self) -> None:
        """Until who was answered has read it and closed: a connection that ends with something unread is reset."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SPEAK_S):
                await self._until(lambda: not any(one.leaves for one in self._server.open))

    async def _quiet(self) -> None:
        """Until every connection's reading side has ended and every call that came has its answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SPEAK_S):
                await self._until(self._all_draining)
        for connection in self._server.open:
            connection.stop_reading()
        await self._until(lambda: all(one.ended for one in self._server.open))
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        await self._until(lambda: not self._under_way)

    def _all_draining(self) -> bool:
        """Stop reading wherever no call is on its way; whether that is everywhere by now."""
        for connection in self._server.open:
            connection.stop_between_calls()
        return all(one.draining for one in self._server.open)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    def _request(self, message, payload, protocol, writer, task):  # type: ignore[no-untyped-def]  # aiohttp's factory
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_LIMIT)

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        self._under_way += 1
        if isinstance(request.protocol, _Connection):
            request.protocol.leaves = True
        try:
            body = await _body(request)
            if self._by_address and not _is_address(request.host):
                response = _NAMED
            else:
                response = await self._answer(request.method, request.path, body)
        except web.HTTPRequestEntityTooLarge:
            response = self._too_large
        finally:
            self._under_way -= 1
            self._changed.set()
        answer = web.Response(
            status=response.status,
            body=response.body,
            headers={"Content-Type": response.content_type, **response.headers},
        )
        if self._retiring or self._secured is not None:
            answer.force_close()
        elif isinstance(request.protocol, _Connection):
            request.protocol.leaves = False
        return answer


def _is_address(host: str) -> bool:
    """Of a Host header, with or without its port: whether it is localhost or an address. Some clients send none."""
    name = host.removesuffix("]").partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return name in ("", "localhost") or bool(ip_address(name.removeprefix("[")))
    except ValueError:
        return False


async def _body(request: web.BaseRequest) -> bytes:
    try:
        return await request.read()
    finally:
        if isinstance(request.protocol, _Connection):
            request.protocol.received_whole()
