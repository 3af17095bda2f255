"""A client of the plugin's socket, and the real daemon that it calls."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MDNP = Path(sys.executable).parent / "mdnp"
_START_S = 20.0
_MOVERS = 8


class Client:
    """One kept connection, as the engine has, and no more of HTTP than that takes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, path: Path) -> "Client":
        return cls(*await asyncio.open_unix_connection(str(path)))

    async def call(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        """`verb` with its interface: IpamDriver.RequestPool."""
        data = json.dumps(body).encode()
        head = f"POST /{verb} HTTP/1.1\r\nHost: plugin\r\nContent-Length: {len(data)}\r\n\r\n"
        self._writer.write(head.encode() + data)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        reply: dict[str, Any] = json.loads(await self._reader.readexactly(length))
        if "Error" in reply:
            raise RuntimeError(reply["Error"])
        return reply

    def close(self) -> None:
        self._writer.close()


class House:
    """A network namespace of its own and a folder on this machine's disk, for one daemon after the other."""

    def __init__(self, folder: Path, holder: subprocess.Popen[bytes]) -> None:
        self.socket = folder / "mdnp.sock"
        self.admin = folder / "run/admin.sock"
        self._enter = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        self._command = [*self._enter, _MDNP, "serve", "--socket", self.socket, "--state-dir", folder / "state"]
        self._environment = {**os.environ, "MDNP_RUNTIME_DIR": str(folder / "run"), "MDNP_LOG_LEVEL": "error"}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed comes compiled

    def spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*map(str, self._command)], env=self._environment)

    @contextmanager
    def moved(self, links: Sequence[str]) -> Iterator[None]:
        """The links in a namespace beside, as the engine moves ends of endpoints into containers; they die there."""
        with namespace_holder() as beside:
            lines = [f"link set {link} netns {beside.pid}\n" for link in links]
            # Each waits for the kernel, for one as for several at once.
            movers = [
                subprocess.Popen([*self._enter, "ip", "-batch", "-"], stdin=subprocess.PIPE, text=True)
                for _ in range(_MOVERS)
            ]
            with ThreadPoolExecutor(_MOVERS) as pool:
                list(
                    pool.map(lambda number: movers[number].communicate("".join(lines[number::_MOVERS])), range(_MOVERS))
                )
            yield

    def cpu_s(self) -> float:
        """What the daemon that serves has computed so far."""
        return computed_s(self.pid)

    def command(self, *arguments: str) -> None:
        """Run one of the operator's commands to its end; 1 says that it found trouble, and is no failure of it."""
        done = subprocess.run([_MDNP, *arguments], env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode > 1 or done.stderr:
            raise RuntimeError(f"mdnp {' '.join(arguments)}: {done.stderr}")

    @contextmanager
    def daemon(self) -> Iterator[Path]:
        """A daemon that serves at the path."""
        process = self.spawn()
        self.pid = process.pid
        try:
            deadline = time.monotonic() + _START_S
            while not self.socket.exists() and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.02)
            yield self.socket
        finally:
            process.terminate()
            process.wait(_START_S)


def computed_s(pid: int) -> float:
    """What a process has computed so far, in all its threads."""
    spent = [task.read_text().split()[0] for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(map(int, spent)) / 1e9


@contextmanager
def house(at: Path | None = None) -> Iterator[House]:
    """Its folder is made in another, or where temporary files are."""
    with namespace_holder() as holder, tempfile.TemporaryDirectory(prefix="mdnp-bench-", dir=at) as name:
        yield House(Path(name), holder)


@contextmanager
def namespace_holder() -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps a network namespace of its own."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        while _namespace(holder.pid) == _namespace(os.getpid()):
            time.sleep(0.001)
        yield holder
    finally:
        holder.kill()
        holder.wait()


def _namespace(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net").readlink()


@contextmanager
def daemon() -> Iterator[Path]:
    """The real daemon in a house of its own."""
    with house() as one, one.daemon() as path:
        yield path
