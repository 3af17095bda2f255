"""RequestAddress and ReleaseAddress over the plugin's socket, every answer on disk: one client, and sixteen at once."""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

from bench.client import Client, daemon

_CLIENTS = (1, 16)
_PAIRS = 1500  # of a request and a release, by all clients of a round together
_ROUNDS = 5
_POOL = "10.64.0.0/16"


def run() -> list[dict[str, Any]]:
    """A row for each number of clients: pairs a second, and the time of a call in ms; medians of the rounds."""
    with daemon() as path:
        return asyncio.run(_measure(path))


async def _measure(path: Path) -> list[dict[str, Any]]:
    first = await Client.open(path)
    pool = (await first.call("IpamDriver.RequestPool", {"AddressSpace": "bench", "Pool": _POOL}))["PoolID"]
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
        address = (await client.call("IpamDriver.RequestAddress", {"PoolID": pool}))["Address"]
        middle = time.perf_counter()
        await client.call("IpamDriver.ReleaseAddress", {"PoolID": pool, "Address": address.partition("/")[0]})
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
