"""
A recording proxy between an engine and a plugin: `python -m rig.recorder LISTEN FORWARD OUT.jsonl`.

It listens on the unix socket LISTEN, hands every request to the one at FORWARD as it came, and writes one line of JSON
per exchange: path, headers, request, status, reply. Lines are in the order in which requests arrived, so a slow one
holds back the lines of those that came after it. A request that was never answered has the status null.
"""

import asyncio
import json
import signal
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector, web

_PATIENCE = ClientTimeout(total=None)  # the engine has none either
_HOP = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding", "host"})
_UNANSWERED = 502


@dataclass
class Exchange:
    """One request and, once it is there, its reply."""

    path: str
    headers: dict[str, str]
    request: str
    status: int | None = None
    reply: str = ""
    done: bool = False


@dataclass
class Recording:
    """Exchanges in the order of their arrival, written when all before them are written."""

    out: IO[str]
    _waiting: deque[Exchange] = field(default_factory=deque)

    def open(self, exchange: Exchange) -> None:
        self._waiting.append(exchange)

    def close(self, exchange: Exchange) -> None:
        exchange.done = True
        while self._waiting and self._waiting[0].done:
            self._write(self._waiting.popleft())

    def end(self) -> None:
        while self._waiting:
            self._write(self._waiting.popleft())

    def _write(self, exchange: Exchange) -> None:
        values = {key: value for key, value in vars(exchange).items() if key != "done"}
        self.out.write(json.dumps(values) + "\n")
        self.out.flush()


class Recorder:
    """The proxy's one route."""

    def __init__(self, session: ClientSession, recording: Recording) -> None:
        self._session = session
        self._recording = recording

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.text()
        exchange = Exchange(request.path_qs, dict(request.headers), body)
        self._recording.open(exchange)
        try:
            return await self._forward(request, exchange)
        except ClientError as error:
            return web.Response(status=_UNANSWERED, text=f"the recorder got no answer from the plugin: {error}\n")
        finally:
            self._recording.close(exchange)

    async def _forward(self, request: web.Request, exchange: Exchange) -> web.Response:
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
        async with self._session.request(
            request.method,
            f"http://plugin{request.path_qs}",
            data=exchange.request.encode(),
            headers=headers,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        ) as response:
            exchange.reply = await response.text()
            exchange.status = response.status
            kept = {key: value for key, value in response.headers.items() if key.lower() not in _HOP}
            return web.Response(status=response.status, text=exchange.reply, headers=kept)


async def serve(listen: Path, forward: Path, out: Path) -> None:
    """Record until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    with out.open("a", encoding="utf-8") as file:
        recording = Recording(file)
        async with ClientSession(connector=UnixConnector(str(forward)), timeout=_PATIENCE) as session:
            application = web.Application(client_max_size=2**26)
            application.router.add_route("*", "/{path:.*}", Recorder(session, recording).handle)
            runner = web.AppRunner(application)
            await runner.setup()
            await web.UnixSite(runner, str(listen)).start()
            await ended.wait()
            await runner.cleanup()
        recording.end()


def main(listen: Path, forward: Path, out: Path) -> None:
    listen.unlink(missing_ok=True)  # what a killed one has left
    asyncio.run(serve(listen, forward, out))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
