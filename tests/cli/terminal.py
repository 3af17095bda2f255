"""Where an operator types, and the daemon's door on a real socket."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mdnp.admin.routes import Admin
from mdnp.cli.main import main
from mdnp.http import Listener, Response


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.out.splitlines()]

    @property
    def value(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Terminal:
    """Where an operator types; the daemon's door is in `runtime_dir`."""

    runtime_dir: Path
    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    async def mdnp(self, *arguments: str) -> Said:
        self.patch.setattr(sys, "argv", ["mdnp", *arguments])
        self.capture.readouterr()
        code = await asyncio.to_thread(_exit_code)
        said = self.capture.readouterr()
        return Said(code, said.out, said.err)


def _exit_code() -> int:
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@asynccontextmanager
async def opened(admin: Admin, terminal: Terminal) -> AsyncIterator[None]:
    """The door, as the daemon opens it."""

    async def answer(method: str, path: str, body: bytes) -> Response:
        answered = await admin.answer(method, path, body)
        return Response(answered.status, answered.body, answered.content_type)

    listener = await Listener.open(terminal.runtime_dir / "admin.sock", answer, Response(413, b"{}", "text/plain"))
    yield
    await listener.drain(1)
