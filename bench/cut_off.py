"""
Attaching to an overlay network and detaching from it while etcd is up, stopped for the whole run, and frozen.

Three hosts, each in a cluster of its own, in turn, so that the machine's moods fall on all.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.docker import Docker
from bench.member import Member
from rig.etcd import PORT, Etcd
from rig.host import GATEWAY, Underlay
from rig.sandbox import Run

_ROUNDS = 100
_WARM_UP = 5
_PORTS_APART = 10
_STATES: Mapping[str, Callable[[Etcd], None]] = {"up": lambda _: None, "stopped": Etcd.stop, "frozen": Etcd.freeze}

_Taken = tuple[float, float] | None  # the times to attach and to detach in seconds; None if one failed


def run() -> list[dict[str, Any]]:
    """A row for each state of etcd; times in ms. The ratios are of the medians, to the first row."""
    with Run() as rig:
        measured = asyncio.run(_measure(Underlay(rig)))
    rows: list[dict[str, Any]] = []
    for state, taken in measured.items():
        well = [one for one in taken if one is not None]
        row: dict[str, Any] = {"etcd": state, "rounds": len(taken), "failed": len(taken) - len(well)}
        for name, times in zip(("attach", "detach"), zip(*well, strict=True), strict=True):
            row[f"{name}_ms"] = round(statistics.median(times) * 1000, 2)
            row[f"{name}_p99"] = round(statistics.quantiles(times, n=100, method="inclusive")[98] * 1000, 2)
            row[f"{name}_ratio"] = round(row[f"{name}_ms"] / (rows[0] if rows else row)[f"{name}_ms"], 2)
        rows.append(row)
    return rows


async def _measure(underlay: Underlay) -> dict[str, list[_Taken]]:
    etcds = {state: _etcd(underlay, state, PORT + number * _PORTS_APART) for number, state in enumerate(_STATES)}
    dockers = {state: await Member(underlay, state, etcd.url).network() for state, etcd in etcds.items()}
    for docker in dockers.values():
        for _ in range(_WARM_UP):
            await docker.detach(await docker.attach())
    for state, etcd in etcds.items():
        _STATES[state](etcd)
    taken: dict[str, list[_Taken]] = {state: [] for state in dockers}
    for _ in range(_ROUNDS):
        for state, docker in dockers.items():
            taken[state].append(await _once(docker))
    return taken


def _etcd(underlay: Underlay, name: str, port: int) -> Etcd:
    etcd = Etcd(underlay, name, address=str(GATEWAY.ip), port=port)
    etcd.start()
    return etcd


async def _once(docker: Docker) -> _Taken:
    try:
        start = time.perf_counter()
        one = await docker.attach()
        middle = time.perf_counter()
        await docker.detach(one)
        return middle - start, time.perf_counter() - middle
    except RuntimeError as error:
        print(f"# {error}", flush=True)
        return None


if __name__ == "__main__":
    for each in run():
        print(each)
