"""
What a start takes beside many containers, on Docker's bridge network and on ours: beside 0, 250, 500 and 900 on one
network, and as one on the last of 200 networks. One engine; the containers are on both networks, so that both grow.
"""

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.api import Api
from bench.bed import BRIDGE, NONE, OURS, Bed, bed, created, remove, start

_SIZES = (0, 250, 500, 900)
_NETWORKS = 200
_STARTS = 15
_AT_ONCE = 4
_DRIVERS = (BRIDGE, OURS)


def run() -> list[dict[str, Any]]:
    """A row for each size; medians in ms of what the network adds to a start, and the ratio to the first row."""
    rows: list[dict[str, Any]] = []
    with bed() as one:
        for place, driver in enumerate(_DRIVERS):
            one.network(driver, f"grown-{driver}", f"10.{85 + place}.0.0/16")
        for before, size in zip((0, *_SIZES), _SIZES, strict=False):
            _fill(one, range(before, size))
            rows.append({"beside": f"{size} endpoints", **_starts(one.docker, "grown-")})
        for number in range(_NETWORKS):
            for place, driver in enumerate(_DRIVERS):
                one.network(driver, f"many-{driver}{number}", f"10.{87 + place}.{number}.0/24")
        rows.append({"beside": f"{_NETWORKS} networks", **_starts(one.docker, "many-", str(_NETWORKS - 1))})
    for row in rows:
        for driver in _DRIVERS:
            row[f"{driver}_ratio"] = round(row[f"{driver}_adds"] / rows[0][f"{driver}_adds"], 2)
    return rows


def _fill(one: Bed, numbers: Sequence[int]) -> None:
    def run(number: int) -> None:
        api = one.api()
        identity = created(api, f"grown-{OURS}", f"crowd{number}")
        api.ask("POST", f"/networks/grown-{BRIDGE}/connect", {"Container": identity})
        start(api, identity)
        api.close()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(run, numbers))


def _starts(docker: Api, prefix: str, suffix: str = "") -> dict[str, float]:
    taken: dict[str, list[float]] = {driver: [] for driver in (NONE, *_DRIVERS)}
    for _ in range(_STARTS):
        for driver, times in taken.items():
            times.append(_start(docker, driver if driver == NONE else f"{prefix}{driver}{suffix}"))
    none = statistics.median(taken[NONE])
    return {f"{driver}_adds": round(statistics.median(taken[driver]) - none, 1) for driver in _DRIVERS}


def _start(docker: Api, network: str) -> float:
    identity = created(docker, network)
    began = time.perf_counter()
    start(docker, identity)
    took = (time.perf_counter() - began) * 1000
    remove(docker, identity)
    return took


if __name__ == "__main__":
    for each in run():
        print(each)
