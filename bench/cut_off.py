"""
Attaching to an overlay network and detaching from it while etcd is up, stopped for the whole run, and frozen.

Three hosts, each with an etcd of its own, in turn, so that the machine's moods fall on all.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.client import Client
from bench.docker import Docker
from rig.etcd import Etcd
from rig.host import Host, Underlay
from rig.plugin import Plugin
from rig.sandbox import Run

_ROUNDS = 100
_WARM_UP = 5
_STATES: Mapping[str, Callable[[Etcd], None]] = {"up": lambda _: None, "stopped": Etcd.stop, "frozen": Etcd.freeze}
_NETWORK, _SUBNET = 1, "10.64.0.0/16"
_OVERLAY = {"mdnp.mode": "overlay"}


def run() -> list[dict[str, Any]]:
    """A row for each state of etcd; times in ms. The ratio is of the medians, to the first row."""
    with Run() as rig:
        underlay = Underlay(rig)
        measured = asyncio.run(_measure({state: _Place(underlay, state) for state in _STATES}))
    rows: list[dict[str, Any]] = []
    for state, (attached, detached, failed) in measured.items():
        row: dict[str, Any] = {"etcd": state, "failed": failed}
        for name, taken in (("attach", attached), ("detach", detached)):
            row[f"{name}_ms"] = round(statistics.median(taken) * 1000, 2)
            row[f"{name}_p99"] = round(statistics.quantiles(taken, n=100, method="inclusive")[98] * 1000, 2)
            row[f"{name}_ratio"] = round(row[f"{name}_ms"] / (rows[0] if rows else row)[f"{name}_ms"], 2)
        rows.append(row)
    return rows


class _Place:
    """A host with a daemon, and an etcd beside it."""

    def __init__(self, underlay: Underlay, state: str) -> None:
        self._host = Host(underlay, state)
        self.etcd = Etcd(self._host, state)
        self.etcd.start()
        # Its tunnels would otherwise begin at the loopback, which is on the way to this etcd.
        options = [f"--etcd={self.etcd.url}", f"--host-address={self._host.address.ip}", "--log-level=error"]
        self._plugin = Plugin(self._host, options=options)
        self._plugin.start()

    async def network(self) -> Docker:
        client = await Client.open(self._plugin.socket)
        return await Docker.create_network(client, _NETWORK, _SUBNET, _OVERLAY)


_Measured = tuple[list[float], list[float], int]  # times to attach and to detach, and how many failed


async def _measure(places: Mapping[str, _Place]) -> dict[str, _Measured]:
    dockers = {state: await place.network() for state, place in places.items()}
    for docker in dockers.values():
        for _ in range(_WARM_UP):
            await docker.detach(await docker.attach())
    for state, place in places.items():
        _STATES[state](place.etcd)
    taken: dict[str, list[tuple[float, float] | None]] = {state: [] for state in places}
    for _ in range(_ROUNDS):
        for state, docker in dockers.items():
            taken[state].append(await _once(docker))
    return {state: _sorted(each) for state, each in taken.items()}


async def _once(docker: Docker) -> tuple[float, float] | None:
    """The times to attach and to detach; None if one failed."""
    try:
        start = time.perf_counter()
        one = await docker.attach()
        middle = time.perf_counter()
        await docker.detach(one)
        return middle - start, time.perf_counter() - middle
    except RuntimeError as error:
        print(f"# {error}", flush=True)
        return None


def _sorted(taken: list[tuple[float, float] | None]) -> _Measured:
    well = [one for one in taken if one is not None]
    return [attached for attached, _ in well], [detached for _, detached in well], len(taken) - len(well)


if __name__ == "__main__":
    for each in run():
        print(each)
