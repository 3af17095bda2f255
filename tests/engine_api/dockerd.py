"""What of Docker's API is asked, on a unix socket, with the bodies that a test says."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

NETWORKS = "/networks"
CONTAINERS = "/containers/json?all=true"
CREATE = "/networks/create"
EVENTS = "/events"


class Dockerd:
    """
    Answers each path with its status and body; at those in `hangs` it does not answer. `asked` are methods and paths,
    `told` the bodies that came. Who listens for events is sent the `parts` as they are put there, until b"".
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.bodies: dict[str, bytes] = {NETWORKS: b"[]", CONTAINERS: b"[]"}
        self.status: dict[str, int] = {}
        self.hangs: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.told: list[Any] = []
        self.parts: asyncio.Queue[bytes] = asyncio.Queue()
        self._stops = asyncio.Event()
        self._runner: web.ServerRunner | None = None

    def says(self, path: str, value: Any) -> None:
        self.bodies[path] = value if isinstance(value, bytes) else json.dumps(value).encode()

    async def start(self) -> None:
        self._stops.clear()
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def stop(self) -> None:
        """Open connections break, as when an engine is restarted."""
        self._stops.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.socket.unlink(missing_ok=True)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = EVENTS if request.path == EVENTS else request.path_qs
        self.asked.append((request.method, path))
        if request.can_read_body:
            self.told.append(await request.json())
        if path in self.hangs:
            await self._stops.wait()
        if path == EVENTS and path not in self.status:
            return await self._stream(request)
        body = self.bodies.get(path, b'{"message": "page not found"}')
        status = self.status.get(path, 200 if path in self.bodies else 404)
        return web.Response(status=status, body=body, content_type="application/json")

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        stops = asyncio.create_task(self._stops.wait())
        while not stops.done():
            part = asyncio.create_task(self.parts.get())
            await asyncio.wait([part, stops], return_when=asyncio.FIRST_COMPLETED)
            if not part.done() or not part.result():
                part.cancel()
                break
            await stream.write(part.result())
        stops.cancel()
        return stream


@asynccontextmanager
async def running(socket: Path) -> AsyncIterator[Dockerd]:
    dockerd = Dockerd(socket)
    await dockerd.start()
    try:
        yield dockerd
    finally:
        await dockerd.stop()
