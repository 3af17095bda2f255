"""
What a start takes beside many containers, on Docker's bridge network and on ours: beside 10, 250, 500 and 900 on one
network, and as one on the last of 200 networks. One engine; the containers are on both networks, so that both grow.

A bridge of Linux's has 1,024 ports at most, whoever makes it.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.api import Api
from bench.bed import BRIDGE, NONE, OURS, Bed, bed, created, remove, start
from bench.progress import counted, told

_SIZES = (10, 250, 500, 900)
_NETWORKS = 200
_STARTS = 15
_WARM_UP = 2
_SETTLED_S = 0.1  # in which that dies which dies after the answer, so that it falls on nobody else
_AT_ONCE = 4
_DRIVERS = (BRIDGE, OURS)
# What only costs time: who fills the network is not measured.
_FILLING: Mapping[str, Any] = {
    "HostConfig": {"LogConfig": {"Type": "none"}, "SecurityOpt": ["seccomp=unconfined"], "IpcMode": "none"}
}


def run() -> list[dict[str, Any]]:
    """A row for each size; medians in ms of what the network adds to a start, and the ratio to the first row."""
    rows: list[dict[str, Any]] = []
    with bed() as one:
        for place, driver in enumerate(_DRIVERS):
            one.network(driver, f"grown-{driver}", f"10.{85 + place}.0.0/16")
        for before, size in zip((0, *_SIZES), _SIZES, strict=False):
            _fill(one, range(before, size))
            rows.append({"endpoints": size, "networks": 1, **_starts(one.docker, "grown-")})
        for number in told("networks", range(_NETWORKS)):
            for place, driver in enumerate(_DRIVERS):
                one.network(driver, f"many-{driver}{number}", f"10.{87 + place}.{number}.0/24")
        rows.append(
            {"endpoints": _SIZES[-1], "networks": _NETWORKS, **_starts(one.docker, "many-", str(_NETWORKS - 1))}
        )
    for row in rows:
        for driver in _DRIVERS:
            row[f"{driver}_ratio"] = round(row[f"{driver}_adds"] / rows[0][f"{driver}_adds"], 2)
    return rows


def _fill(one: Bed, numbers: Sequence[int]) -> None:
    def run(number: int) -> None:
        api = one.api()
        identity = created(api, f"grown-{OURS}", f"crowd{number}", _FILLING)
        api.ask("POST", f"/networks/grown-{BRIDGE}/connect", {"Container": identity})
        start(api, identity)
        api.close()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(counted("containers", len(numbers), pool.map(run, numbers)))


def _starts(docker: Api, prefix: str, suffix: str = "") -> dict[str, float]:
    """What the drivers add to a start: each as long as it took beyond one without a network in the same round."""
    adds: dict[str, list[float]] = {driver: [] for driver in _DRIVERS}
    bare: list[float] = []
    for number in told("starts", range(_WARM_UP + _STARTS)):
        none = _start(docker, NONE)
        order = _DRIVERS if number % 2 else _DRIVERS[::-1]
        took = {driver: _start(docker, f"{prefix}{driver}{suffix}") for driver in order}
        if number >= _WARM_UP:
            bare.append(none)
            for driver, one in took.items():
                adds[driver].append(one - none)
    return {
        "none_ms": round(statistics.median(bare), 1),
        **{f"{driver}_adds": round(statistics.median(adds[driver]), 1) for driver in _DRIVERS},
    }


def _start(docker: Api, network: str) -> float:
    identity = created(docker, network)
    time.sleep(_SETTLED_S)
    began = time.perf_counter()
    start(docker, identity)
    took = (time.perf_counter() - began) * 1000
    remove(docker, identity)
    return took


if __name__ == "__main__":
    for each in run():
        print(each)
