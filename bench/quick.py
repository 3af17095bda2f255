"""
`make bench-quick`: what an endpoint costs the daemon, beside the figures that were kept; 1 if something got worse.

Only what carries over to another machine: counts, memory, and times as multiples of those of a fixed piece of work in
Python and of system calls, done in turn with what is measured. No engine, no disk: the state is in memory.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.api import Api
from bench.client import Client, House, house
from bench.docker import Docker
from bench.machine import machine
from bench.progress import told
from bench.table import table

KEPT = Path(__file__).parent.parent / "docs/bench/quick.json"

_MEMORY = Path("/dev/shm")  # noqa: S108 -- for what must not wait for a disk
_STARTS = 9
_WORKS = 10  # before a start and after it
_ROUNDS = 120
_CYCLES = 4  # of a round, few, so that the machine is in one mood while it lasts
_WARM_UP = 20
_COUNTED = 20
_ENDPOINTS = 100
_TRACED = 50
_WAITING = {"futex", "epoll_wait", "poll"}  # as often as the machine's mood wants it
_PUBLISHED = {"Proto": 6, "Port": 80, "HostPort": 20080, "HostPortEnd": 20080}
_STEPS = re.compile(r"^mdnp_kernel_steps_total{[^}]*} (\S+)$", re.MULTILINE)
_PLANS = re.compile(r"^mdnp_kernel_perform_duration_seconds_count (\S+)$", re.MULTILINE)
_COMMITS = re.compile(r"^mdnp_store_commit_duration_seconds_count (\S+)$", re.MULTILINE)
_IMPORTS = """
import os, sys
import mdnp.cli.main, mdnp.daemon
files = {one.__file__ for one in list(sys.modules.values()) if getattr(one, "__file__", None)}
print(len(files), sum(map(os.path.getsize, files)) >> 10)
"""


@dataclass(frozen=True)
class Figure:
    """What is measured, and by which part of the kept figure it may grow before that is told."""

    name: str
    unit: str
    tolerance: float


# Times may grow by about what runs on a loaded machine differed by; counts and memory differed by less.
FIGURES: Sequence[Figure] = (
    Figure("cycle, plans to the kernel", "plans", 0.02),
    Figure("cycle, steps in the kernel", "steps", 0.02),
    Figure("cycle, commits", "commits", 0.02),
    Figure("cycle, system calls", "calls but waits", 0.05),
    Figure("cycle, computed", "of the work", 0.15),
    Figure("cycle, time", "of the work", 0.30),
    Figure("cycle with a port, computed", "of the work", 0.15),
    Figure("cycle with a port, time", "of the work", 0.30),
    Figure("start, computed", "of the work", 0.20),
    Figure("imports, files", "files", 0.02),
    Figure("imports, size", "KiB", 0.02),
    Figure("memory, idle", "MiB", 0.03),
    Figure(f"memory, {_ENDPOINTS} endpoints", "MiB", 0.03),
)

Figures = Mapping[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.quick", description="compare with the figures that were kept")
    parser.add_argument("--keep", action="store_true", help="keep the new figures")
    keep = parser.parse_args().keep
    if os.geteuid():
        sys.exit("bench: needs root, for a network namespace of its own")
    if not (keep or KEPT.exists()):
        sys.exit("bench: no figures are kept: make bench-quick KEEP=1")
    now = measure()
    if keep:
        print(table(rows({}, now)))
        KEPT.write_text(json.dumps({"machine": machine(), "figures": now}, indent=2) + "\n")
        print("# kept, in docs/bench/quick.json")
    else:
        _compare(json.loads(KEPT.read_text()), now)


def _compare(kept: Mapping[str, Any], now: Figures) -> None:
    """What seems to be worse is measured again: it must be so twice."""
    if worse(kept["figures"], now):
        print("# once more, for something seems to be worse", flush=True)
        now = better(now, measure())
    print(table(rows(kept["figures"], now)))
    if kept["machine"]["python"] != platform.python_version():
        print(f"# the kept figures are of Python {kept['machine']['python']}: times and memory may differ by that")
    found = worse(kept["figures"], now)
    for line in found:
        print(f"# worse: {line}")
    if found:
        sys.exit(1)
    print(f"# nothing got worse since {kept['machine']['commit']}")


def rows(kept: Figures, now: Figures) -> list[dict[str, Any]]:
    """A row for each figure that was measured now."""
    return [
        {
            "figure": one.name,
            "unit": one.unit,
            "kept": kept.get(one.name),
            "now": now[one.name],
            "ratio": round(now[one.name] / kept[one.name], 2) if kept.get(one.name) else None,
            "allowed": 1 + one.tolerance,
        }
        for one in FIGURES
        if one.name in now
    ]


def better(first: Figures, second: Figures) -> dict[str, float]:
    """The smaller of two figures each: others can only make them larger."""
    return {name: min(value, second[name]) for name, value in first.items() if name in second}


def worse(kept: Figures, now: Figures) -> list[str]:
    """In words, what grew beyond its tolerance. What only one of them has is not compared."""
    return [
        f"{one.name}: {now[one.name]:g} {one.unit}, was {kept[one.name]:g}"
        for one in FIGURES
        if one.name in now and one.name in kept and now[one.name] > kept[one.name] * (1 + one.tolerance)
    ]


def measure() -> dict[str, float]:
    """By the names of `FIGURES`; system calls only where there is strace."""
    with house(_MEMORY) as one:
        found = {"start, computed": _start(one), **_imports()}
        with one.daemon() as path:
            found["memory, idle"] = _rss_mib(one)
            found |= asyncio.run(_cycles(one, path))
    return {figure.name: round(found[figure.name], 3) for figure in FIGURES if figure.name in found}


def _start(one: House) -> float:
    """What the daemon computes until it answers, as a multiple of the work's."""
    ratios = []
    for _ in told("starts", range(1 + _STARTS)):
        works = [_work() for _ in range(_WORKS)]
        with one.daemon() as path:
            asyncio.run(_answered(path))
            spent = one.cpu_s()
        works += [_work() for _ in range(_WORKS)]
        ratios.append(spent / statistics.mean(each.computed for each in works))
    return statistics.median(ratios[1:])


async def _answered(path: Path) -> None:
    client = await Client.open(path)
    await client.call("IpamDriver.GetDefaultAddressSpaces", {})
    client.close()


def _imports() -> Figures:
    said = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=True).stdout.split()
    return {"imports, files": int(said[0]), "imports, size": int(said[1])}


def _rss_mib(one: House) -> float:
    status = Path(f"/proc/{one.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def _cycles(one: House, path: Path) -> Figures:
    """An endpoint comes and goes: as often as the figures need."""
    client = await Client.open(path)
    docker = await Docker.create_network(client, 1, "10.64.0.0/16")
    await _times(docker, _WARM_UP)
    found = await _counted(one, docker)
    for name, ports in (("cycle", False), ("cycle with a port", True)):
        taken = [await _round(one, docker, ports=ports) for _ in told(name, range(_ROUNDS))]
        found[f"{name}, computed"] = statistics.median(each.computed for each in taken)
        # The lower quartile: when others wait for a processor or a lock of the kernel's, so does a cycle.
        found[f"{name}, time"] = statistics.quantiles([each.passed for each in taken], n=4)[0]
    with _traced(one.pid) as calls:
        await _times(docker, _TRACED)
    if calls:
        found["cycle, system calls"] = calls[0] / _TRACED
    for _ in range(_ENDPOINTS):
        await docker.attach()
    found[f"memory, {_ENDPOINTS} endpoints"] = _rss_mib(one)
    client.close()
    return found


async def _counted(one: House, docker: Docker) -> dict[str, float]:
    """From the daemon's metrics. The deletions after the answers are no steps."""
    metrics = Api(one.admin)
    before = metrics.text("/metrics")
    await _times(docker, _COUNTED)
    after = metrics.text("/metrics")
    metrics.close()
    counted = {"plans to the kernel": _PLANS, "steps in the kernel": _STEPS, "commits": _COMMITS}
    return {
        f"cycle, {what}": (_sum(pattern, after) - _sum(pattern, before)) / _COUNTED for what, pattern in counted.items()
    }


def _sum(pattern: re.Pattern[str], text: str) -> float:
    return sum(map(float, pattern.findall(text)))


async def _times(docker: Docker, number: int, *, ports: bool = False) -> None:
    for _ in range(number):
        attached = await docker.attach()
        if ports:
            await docker.publish(attached, [_PUBLISHED])
        await docker.detach(attached)


@dataclass(frozen=True)
class _Taken:
    """Seconds, or multiples of the work's."""

    computed: float
    passed: float


async def _round(one: House, docker: Docker, *, ports: bool) -> _Taken:
    """The work before and after, so that what changes meanwhile falls on both."""
    before = _work()
    computed, began = one.cpu_s(), time.perf_counter()
    await _times(docker, _CYCLES, ports=ports)
    passed, computed = time.perf_counter() - began, one.cpu_s() - computed
    after = _work()
    return _Taken(
        2 * computed / _CYCLES / (before.computed + after.computed),
        2 * passed / _CYCLES / (before.passed + after.passed),
    )


def _work() -> _Taken:
    """A fixed piece of work, of the kinds that a daemon in Python has: some 4 ms on a machine of 2024."""
    computed, began = time.process_time(), time.perf_counter()
    body = {"NetworkID": "0" * 64, "Options": {str(number): [number] for number in range(20)}}
    reader, writer = os.pipe()
    for _ in range(100):
        said = json.dumps(body).encode()
        os.write(writer, said)
        found = json.loads(os.read(reader, len(said)))
        sorted(found["Options"].items(), key=lambda item: item[1], reverse=True)
        Path("/proc/self/stat").read_bytes()
    os.close(reader)
    os.close(writer)
    return _Taken(time.process_time() - computed, time.perf_counter() - began)


@contextmanager
def _traced(pid: int) -> Iterator[list[int]]:
    """The system calls of all its threads, when that has ended; nothing where there is no strace."""
    calls: list[int] = []
    if shutil.which("strace") is None:
        yield calls
        return
    tracer = subprocess.Popen(
        ["strace", "--summary-only", "--follow-forks", "--attach", str(pid)], stderr=subprocess.PIPE, text=True
    )
    time.sleep(0.5)
    try:
        yield calls
    finally:
        tracer.send_signal(signal.SIGINT)
        said = tracer.communicate()[1]
    calls.append(counted(said))


def counted(summary: str) -> int:
    """The calls in a summary of strace's, but for those that only wait."""
    rows = [line.split() for line in summary.splitlines()]
    return sum(int(row[3]) for row in rows if len(row) > 4 and row[3].isdigit() and row[-1] not in {*_WAITING, "total"})


if __name__ == "__main__":
    main()
