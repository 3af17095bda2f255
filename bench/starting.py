"""
How long a daemon takes from its process's start to its first answer over the socket: with an empty store, and beside 10
and beside 1,000 published endpoints.

All is in the store and in the kernel, as after an upgrade; ports are held anew, for no supervisor kept them. The sizes
are measured in turn, so that the machine's moods fall on all.
"""

import asyncio
import socket
import statistics
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from bench.client import Client, House, house
from bench.crowd import attach, of

_SIZES = (0, 10, 1000)
_ROUNDS = 7
_PATIENCE_S = 60.0


def run() -> list[dict[str, Any]]:
    """A row for each size; times in ms, the median of the rounds. The ratio is to the first row."""
    with ExitStack() as stack:
        houses = {size: stack.enter_context(house()) for size in _SIZES}
        for size, one in houses.items():
            with one.daemon() as path:
                if size:
                    asyncio.run(_crowd(path, size))
        times: dict[int, list[float]] = {size: [] for size in _SIZES}
        for _ in range(_ROUNDS):
            for size, one in houses.items():
                times[size].append(_start(one, size))
    rows: list[dict[str, Any]] = []
    for size, rounds in times.items():
        row: dict[str, Any] = {"endpoints": size, "start_ms": round(statistics.median(rounds) * 1000)}
        row["start_min"], row["start_max"] = (round(pick(rounds) * 1000) for pick in (min, max))
        row["start_ratio"] = round(row["start_ms"] / (rows[0] if rows else row)["start_ms"], 2)
        rows.append(row)
    return rows


async def _crowd(path: Path, size: int) -> None:
    client = await Client.open(path)
    await attach(client, size)
    client.close()


def _start(one: House, size: int) -> float:
    began = time.perf_counter()
    process = one.spawn()
    try:
        _wait(one)
        asyncio.run(_ask(one, size))
        return time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


def _wait(one: House) -> None:
    """Until somebody listens."""
    deadline = time.perf_counter() + _PATIENCE_S
    while time.perf_counter() < deadline:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(one.socket))
            return
        time.sleep(0.001)
    raise TimeoutError("the daemon does not start")


async def _ask(one: House, size: int) -> None:
    """What takes the state, where there is any."""
    client = await Client.open(one.socket)
    if size:
        await client.call("NetworkDriver.EndpointOperInfo", of(0))
    else:
        await client.call("NetworkDriver.GetCapabilities", {})
    client.close()


if __name__ == "__main__":
    for each in run():
        print(each)
