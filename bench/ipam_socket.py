"""RequestAddress and ReleaseAddress over the plugin's socket, every answer on disk: one client, and sixteen at once."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MDNP = Path(sys.executable).parent / "mdnp"
_CLIENTS = (1, 16)
_PAIRS = 1500  # of a request and a release, by all clients of a round together
_ROUNDS = 5
_POOL = "10.64.0.0/16"


class Client:
    """One kept connection, as the engine has, and no more of HTTP than that takes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, path: Path) -> "Client":
        return cls(*await asyncio.open_unix_connection(str(path)))

    async def call(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        head = f"POST /IpamDriver.{verb} HTTP/1.1\r\nHost: plugin\r\nContent-Length: {len(data)}\r\n\r\n"
        self._writer.write(head.encode() + data)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        reply: dict[str, Any] = json.loads(await self._reader.readexactly(length))
        if "Error" in reply:
            raise RuntimeError(reply["Error"])
        return reply

    def close(self) -> None:
        self._writer.close()


def run() -> list[dict[str, Any]]:
    """A row for each number of clients: pairs a second, and the time of a call in ms; medians of the rounds."""
    with _daemon() as path:
        return asyncio.run(_measure(path))


@contextmanager
def _daemon() -> Iterator[Path]:
    """The real daemon in a network namespace of its own, with its state on this machine's disk."""
    with tempfile.TemporaryDirectory(prefix="mdnp-bench-") as name:
        folder = Path(name)
        path = folder / "mdnp.sock"
        command = ["unshare", "-n", _MDNP, "serve", "--socket", path, "--state-dir", folder / "state"]
        environment = {**os.environ, "MDNP_RUNTIME_DIR": str(folder / "run"), "MDNP_LOG_LEVEL": "error"}
        process = subprocess.Popen([*map(str, command)], env=environment)
        try:
            deadline = time.monotonic() + 20
            while not path.exists() and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.02)
            yield path
        finally:
            process.terminate()
            process.wait(20)


async def _measure(path: Path) -> list[dict[str, Any]]:
    first = await Client.open(path)
    pool = (await first.call("RequestPool", {"AddressSpace": "bench", "Pool": _POOL}))["PoolID"]
    await _round(path, pool, 4)  # warm-up
    rounds: dict[int, list[tuple[float, list[float]]]] = {clients: [] for clients in _CLIENTS}
    for _ in range(_ROUNDS):
        for clients in _CLIENTS:  # in turn, so that the machine's moods fall on all
            rounds[clients].append(await _round(path, pool, clients))
    first.close()
    return [_row(clients, measured) for clients, measured in rounds.items()]


async def _round(path: Path, pool: str, clients: int) -> tuple[float, list[float]]:
    """The time of the whole round, and of each call."""
    opened = [await Client.open(path) for _ in range(clients)]
    calls: list[float] = []
    start = time.perf_counter()
    await asyncio.gather(*(_work(client, pool, _PAIRS // clients, calls) for client in opened))
    took = time.perf_counter() - start
    for client in opened:
        client.close()
    return took, calls


async def _work(client: Client, pool: str, pairs: int, calls: list[float]) -> None:
    for _ in range(pairs):
        start = time.perf_counter()
        address = (await client.call("RequestAddress", {"PoolID": pool}))["Address"]
        middle = time.perf_counter()
        await client.call("ReleaseAddress", {"PoolID": pool, "Address": address.partition("/")[0]})
        calls += [middle - start, time.perf_counter() - middle]


def _row(clients: int, measured: list[tuple[float, list[float]]]) -> dict[str, Any]:
    rates = [len(calls) / took for took, calls in measured]
    centiles = [statistics.quantiles(calls, n=100) for _, calls in measured]
    return {
        "clients": clients,
        "calls_per_s": round(statistics.median(rates)),
        "calls_per_s_min": round(min(rates)),
        "calls_per_s_max": round(max(rates)),
        "p50_ms": round(statistics.median(one[49] for one in centiles) * 1000, 3),
        "p99_ms": round(statistics.median(one[98] for one in centiles) * 1000, 3),
    }


if __name__ == "__main__":
    for row in run():
        print(row)
