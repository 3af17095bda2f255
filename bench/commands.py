"""
How long the operator's commands take, as whole processes, of a real daemon beside 10 and beside 1,000 endpoints.

The daemon, the interpreter's files and the kernel are warm. All commands and both sizes are measured in turn, so that
the machine's moods fall on all; what command and daemon compute together is told too, which moods change less.
"""

import asyncio
import resource
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.client import Client, House, house
from bench.crowd import attach, endpoint
from mdnp.dataplane import naming

_SIZES = (10, 1000)
_ROUNDS = 15
_AN_ENDPOINT = endpoint(0).id[:12]
_COMMANDS = ("version", "network ls", f"endpoint inspect {_AN_ENDPOINT}", "endpoint ls", "status")
_GOAL_MS = 150


def run() -> list[dict[str, Any]]:
    """A row for each command and size; times in ms, medians of the rounds with the smallest and largest."""
    times: dict[tuple[str, int], list[tuple[float, float]]] = {
        (command, size): [] for command in _COMMANDS for size in _SIZES
    }
    with ExitStack() as stack:
        houses = {size: stack.enter_context(house()) for size in _SIZES}
        for size, one in houses.items():
            asyncio.run(_crowd(stack.enter_context(one.daemon()), size))
            stack.enter_context(one.moved([naming.sandbox_end(endpoint(number).id) for number in range(size)]))
        for round_ in range(_ROUNDS + 1):
            for (command, size), measured in times.items():
                took = _took(houses[size], command)
                if round_ > 0:  # the first warms up
                    measured.append(took)
    return [_row(command, size, measured) for (command, size), measured in times.items()]


async def _crowd(path: Path, size: int) -> None:
    client = await Client.open(path)
    await attach(client, size)
    client.close()


def _took(one: House, command: str) -> tuple[float, float]:
    """By the clock, and computed."""
    computed, began = one.cpu_s() + _children_s(), time.perf_counter()
    one.command(*command.split())
    took = time.perf_counter() - began
    return took, one.cpu_s() + _children_s() - computed


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _row(command: str, size: int, measured: list[tuple[float, float]]) -> dict[str, Any]:
    clock, computed = zip(*measured, strict=True)
    median_ms = statistics.median(clock) * 1000
    return {
        "command": command.removesuffix(f" {_AN_ENDPOINT}"),
        "endpoints": size,
        "median_ms": round(median_ms),
        "min_ms": round(min(clock) * 1000),
        "max_ms": round(max(clock) * 1000),
        "computed_ms": round(statistics.median(computed) * 1000),
        "within_150_ms": median_ms < _GOAL_MS,
    }


if __name__ == "__main__":
    for each in run():
        print(each)
