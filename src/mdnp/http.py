"""
Listeners: HTTP over a unix socket that only its owner may open, replaced safely and drained without losing a call.

Docker's client repeats a call whose connection breaks, but with the body that the first attempt consumed: a careless
stop fails a `docker run`. So a drain lets everything that was sent be answered, and makes the next write of a kept
connection fail before it is sent (`shutdown(SHUT_RD)` on a unix socket), which Go's client repeats whole on a new
connection.
"""

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from mdnp.model.errors import Conflict, InvalidParameter

log = logging.getLogger(__name__)

# Answers a method, a path and a body.
Answerer = Callable[[str, str, bytes], Awaitable["Response"]]

# A container that publishes all 65535 ports sends about 7 MB of them.
BODY_LIMIT = 8 * 1024 * 1024
# Idle connections are the client's to close: one that we close while it sends its next call breaks that call.
_SILENT = logging.getLogger(f"{__name__}.access")
_SILENT.disabled = True  # each verb logs what it changes
_KEEP_ALIVE_S = 10 * 365 * 24 * 3600.0
_BACKLOG = 1024
_ACCEPT_S = 0.05  # enough for the loop to accept what stands in the socket's queue
_FIRST_CALL_S = 1.0  # a connection that was just opened is about to send its first call
_CUT_S = 0.05  # for what was cut off to end
_TURNS = 5  # of the loop, until a call that was the last bytes of a connection has begun
_PATH_LIMIT = 98  # sizeof(sun_path) less the final zero and what the name bears until it is in place


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes
    content_type: str


class _Connection(web.RequestHandler):
    """A connection that, once it drains, stays open for answers after its reading side has ended."""

    def __init__(self, server: "_Server", **settings: Any) -> None:
        super().__init__(server, **settings)
        self._changed = server.changed
        self._draining = False
        self.served = False
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.served = True
        self._changed.set()
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio keeps the transport open on True
        self.ended = True
        self._changed.set()
        return self._draining

    def connection_lost(self, exc: BaseException | None) -> None:
        self.served = self.ended = True
        self._changed.set()
        super().connection_lost(exc)

    def stop_reading(self) -> None:
        self._draining = True
        if self.transport is not None and not self.transport.is_closing():
            self.transport.get_extra_info("socket").shutdown(socket.SHUT_RD)


class _Server(web.Server):
    def __init__(self, respond: Any, changed: asyncio.Event, request_factory: Any) -> None:
        super().__init__(respond, request_factory=request_factory)
        self.changed = changed

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, logger=_SILENT, access_log=_SILENT, keepalive_timeout=_KEEP_ALIVE_S)

    @property
    def open(self) -> list[_Connection]:
        return [one for one in self.connections if isinstance(one, _Connection)]


class Listener:
    """Made by `open`; answers until `drain`."""

    def __init__(self, path: Path, answer: Answerer, too_large: Response) -> None:
        self._path = path
        self._answer = answer
        self._too_large = too_large
        self._inode = 0
        self._under_way = 0
        self._changed = asyncio.Event()
        self._server = _Server(self._respond, self._changed, self._request)
        self._listening: asyncio.Server | None = None

    @classmethod
    async def open(cls, path: Path, answer: Answerer, too_large: Response) -> "Listener":
        """
        Listen at `path`, mode 0600. A socket file that nobody serves any more is replaced.

        Errors: Conflict when somebody serves there, or something else than a socket is there; InvalidParameter for a
        path that no socket can have.
        """
        listener = cls(path, answer, too_large)
        bound, listener._inode = await asyncio.to_thread(_bind, path)
        loop = asyncio.get_running_loop()
        listener._listening = await loop.create_unix_server(listener._server, sock=bound, backlog=_BACKLOG)
        return listener

    async def drain(self, limit_s: float) -> None:
        """Stop accepting, answer what was sent, close. After `limit_s` seconds what is left is cut off, and logged."""
        self._remove()
        await asyncio.sleep(_ACCEPT_S)
        if self._listening:
            self._listening.close()
        try:
            async with asyncio.timeout(limit_s):
                await self._quiet()
        except TimeoutError:
            log.warning("%s: %d calls were cut off after %s s", self._path, self._under_way, limit_s)
        for connection in self._server.open:
            connection.close()
        await self._server.shutdown(timeout=_CUT_S)

    def _remove(self) -> None:
        """Take the name away first: whoever comes now finds nobody, and tries again with its body unspent."""
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except FileNotFoundError:
            pass

    async def _quiet(self) -> None:
        """Until every connection's reading side has ended and every call that came has its answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_CALL_S):
                await self._until(lambda: all(one.served for one in self._server.open))
        for connection in self._server.open:
            connection.stop_reading()
        await self._until(lambda: all(one.ended for one in self._server.open))
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        await self._until(lambda: not self._under_way)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    def _request(self, message, payload, protocol, writer, task):  # type: ignore[no-untyped-def]  # aiohttp's factory
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_LIMIT)

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        self._under_way += 1
        try:
            response = await self._answer(request.method, request.path, await request.read())
        except web.HTTPRequestEntityTooLarge:
            response = self._too_large
        finally:
            self._under_way -= 1
            self._changed.set()
        return web.Response(status=response.status, body=response.body, content_type=response.content_type)


def _bind(path: Path) -> tuple[socket.socket, int]:
    """The listening socket, and the inode of its file, by which we know later whether the file is still ours."""
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise InvalidParameter(f"socket {path}: mdnp's sockets have paths of at most {_PATH_LIMIT} bytes")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_free(path)
        return _bound(path)
    except OSError as error:
        raise InvalidParameter(f"socket {path}: {error.strerror}: choose another path with --socket") from error


def _bound(path: Path) -> tuple[socket.socket, int]:
    # Bound under another name and moved into place: a client sees the old file, or a socket that listens.
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        waiting.unlink(missing_ok=True)
        bound.bind(str(waiting))
        waiting.chmod(stat.S_IRUSR | stat.S_IWUSR)
        bound.listen(_BACKLOG)
        waiting.replace(path)
    except OSError:
        bound.close()
        waiting.unlink(missing_ok=True)
        raise
    return bound, path.stat().st_ino


def _check_free(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"socket {path}: something else than a socket is there: remove it, or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return  # nobody listens: a file that a killed daemon left
    raise Conflict(f"socket {path}: another process serves there: stop it first, or choose another path")
