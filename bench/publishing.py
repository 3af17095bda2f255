"""
One more published endpoint beside 10 and beside 900: the nft transaction alone, and the whole calls over the socket.

Both sizes are measured in turn, so that the machine's moods fall on both.
"""

import asyncio
import ctypes
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from bench.client import Client, daemon
from bench.crowd import attach, endpoint, network, of, publish
from mdnp.dataplane import bridge, rules
from mdnp.dataplane.objects import Element
from mdnp.dataplane.steps import NOBODY, Add, Delete, Step
from mdnp.kernel.tables import Tables
from mdnp.model.endpoint import Endpoint

_SIZES = (10, 900)
_ROUNDS = 5
_SAMPLES = 60  # of each size in a round
_CLONE_NEWNET = 0x40000000

Result = TypeVar("Result")


def run() -> list[dict[str, Any]]:
    """A row for each size; times in ms, medians of the rounds' medians. The ratio is to the first row."""
    transactions = _transactions()
    with ExitStack() as stack:
        paths = {size: stack.enter_context(daemon()) for size in _SIZES}
        calls = asyncio.run(_calls(paths))
    rows: list[dict[str, Any]] = []
    for size in _SIZES:
        row: dict[str, Any] = {"endpoints": size}
        for name, rounds in {"transaction": transactions[size], **calls[size]}.items():
            row[f"{name}_ms"] = round(statistics.median(rounds) * 1000, 3)
            row[f"{name}_min"], row[f"{name}_max"] = (round(pick(rounds) * 1000, 3) for pick in (min, max))
            row[f"{name}_ratio"] = round(row[f"{name}_ms"] / (rows[0] if rows else row)[f"{name}_ms"], 2)
        rows.append(row)
    return rows


class _Place:
    """A network namespace of its own, with our tables and the elements of published endpoints."""

    def __init__(self, endpoints: int) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._tables = self._in(_unshared)
        self._in(lambda: self._tables.perform(_rules_of(endpoints)))

    def take(self, step: Callable[[Tables], None]) -> float:
        def timed() -> float:
            start = time.perf_counter()
            step(self._tables)
            return time.perf_counter() - start

        return self._in(timed)

    def close(self) -> None:
        self._in(self._tables.close)
        self._thread.shutdown()

    def _in(self, work: Callable[[], Result]) -> Result:
        return self._thread.submit(work).result()


def _transactions() -> dict[int, list[float]]:
    """The median time, by size and round, of the transaction that adds an endpoint's elements, and of its undoing."""
    places = {size: _Place(size) for size in _SIZES}
    try:
        return {
            size: [statistics.median(one) for one in rounds]
            for size, rounds in _in_turn(lambda size, number: _add_and_delete(places[size], number)).items()
        }
    finally:
        for place in places.values():
            place.close()


def _in_turn(sample: Callable[[int, int], list[float]]) -> dict[int, list[list[float]]]:
    rounds: dict[int, list[list[float]]] = {size: [] for size in _SIZES}
    for _ in range(_ROUNDS):
        for size in _SIZES:
            rounds[size].append([])
        for number in range(_SAMPLES):
            for size in _SIZES:
                rounds[size][-1] += sample(size, number)
    return rounds


def _add_and_delete(place: _Place, number: int) -> list[float]:
    elements = _elements(endpoint(1000 + number))
    return [
        place.take(lambda tables: tables.perform([Add(one, NOBODY) for one in elements])),
        place.take(lambda tables: tables.perform([Delete(one, NOBODY) for one in elements])),
    ]


def _unshared() -> Tables:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return Tables()


def _rules_of(endpoints: int) -> list[Step]:
    elements = [one for number in range(endpoints) for one in _elements(endpoint(number))]
    shared = [one for one in rules.plan_network(network()) if isinstance(one, Element)]
    return [*(Add(one, NOBODY) for one in rules.TABLES), *(Add(one, NOBODY) for one in (*shared, *elements))]


def _elements(one: Endpoint) -> list[Element]:
    plan = (*bridge.plan_endpoint(network(), one), *rules.plan_endpoint(network(), one))
    return [each for each in plan if isinstance(each, Element)]


async def _calls(paths: dict[int, Path]) -> dict[int, dict[str, list[float]]]:
    """The median times of ProgramExternalConnectivity and of Revoke…, by size and round."""
    clients = {size: await Client.open(path) for size, path in paths.items()}
    for size, client in clients.items():
        await attach(client, size, more=1)
    measured: dict[int, dict[str, list[float]]] = {size: {"program": [], "revoke": []} for size in _SIZES}
    for _ in range(_ROUNDS):
        times = {size: await _round(client, size) for size, client in clients.items()}
        for size, (program, revoke) in times.items():
            measured[size]["program"].append(program)
            measured[size]["revoke"].append(revoke)
    for client in clients.values():
        client.close()
    return measured


async def _round(client: Client, probe: int) -> tuple[float, float]:
    program, revoke = [], []
    for _ in range(_SAMPLES):
        start = time.perf_counter()
        await publish(client, probe)
        middle = time.perf_counter()
        await client.call("NetworkDriver.RevokeExternalConnectivity", of(probe))
        program.append(middle - start)
        revoke.append(time.perf_counter() - middle)
    return statistics.median(program), statistics.median(revoke)


if __name__ == "__main__":
    for each in run():
        print(each)
