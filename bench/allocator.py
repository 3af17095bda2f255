"""
How fast the allocator decides, alone. `python -m bench.allocator` prints the table.

In CPU time, so that what else runs on the machine counts less. An allocate and release is one operation.
"""

import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from statistics import median
from time import process_time

from mdnp.ipam.allocator import Allocator
from mdnp.model.allocation import Allocation, Freed, Kind, Purpose
from mdnp.model.network import IPAddress
from mdnp.model.pool import Pool

ROUNDS = 5
OPERATIONS = 20_000

Work = Callable[[], None]


def run() -> list[dict[str, object]]:
    """A row per state of a pool; rates are the median of the rounds, in operations per second."""
    return [_row(name, prepare) for name, prepare in _CASES.items()]


def _row(name: str, prepare: Callable[[], Work]) -> dict[str, object]:
    rates = sorted(_rate(prepare()) for _ in range(ROUNDS))
    return {"state": name, "ops_per_s": round(median(rates)), "min": round(rates[0]), "max": round(rates[-1])}


def _rate(work: Work) -> float:
    began = process_time()
    work()
    return OPERATIONS / (process_time() - began)


def _allocator(network: str) -> Allocator:
    return Allocator(Pool(ip_network(network)))


def _filled(network: str, free: int) -> Allocator:
    """All held but `free` addresses, which lie evenly between the others."""
    allocator = _allocator(network)
    size = allocator.counts(0.0).free
    for number in range(size):
        allocation = allocator.allocate(0.0)
        if number * free // size != (number + 1) * free // size:
            allocator.release(Freed(allocation, -1000.0))
    return allocator


def _allocating(allocator: Allocator) -> Work:
    def work() -> None:
        for _ in range(OPERATIONS):
            allocator.allocate(0.0)

    return work


def _cycling(allocator: Allocator, wait_s: float, name: str = "") -> Work:
    """Allocate and release, `wait_s` apart: with a long wait nothing rests, with none everything does."""

    def work() -> None:
        now = 0.0
        for _ in range(OPERATIONS):
            now += wait_s
            allocator.release(Freed(allocator.allocate(now, name), now))

    return work


def _claiming(allocator: Allocator) -> Work:
    hosts = _hosts(allocator.pool)

    def work() -> None:
        for address in hosts:
            allocator.claim(address, Purpose(Kind.ENDPOINT), 0.0)

    return work


def _hosts(pool: Pool) -> list[IPAddress]:
    return [pool.gateway + number for number in range(OPERATIONS)]


def _restoring(network: str) -> Work:
    pool = Pool(ip_network(network))
    records = [Allocation(address, Purpose(Kind.ENDPOINT), 0.0) for address in _hosts(pool)]

    def work() -> None:
        Allocator(pool, records)

    return work


_CASES: dict[str, Callable[[], Work]] = {
    "/16 empty, allocate": lambda: _allocating(_allocator("10.1.0.0/16")),
    "/16 half full (every other), allocate": lambda: _allocating(_filled("10.1.0.0/16", 32_767)),
    "/16 ten left, allocate and release": lambda: _cycling(_filled("10.1.0.0/16", 10), 100.0),
    "/16 ten left, all resting, allocate and release": lambda: _cycling(_filled("10.1.0.0/16", 10), 0.0),
    "/16 ten left, by name, allocate and release": lambda: _cycling(_filled("10.1.0.0/16", 10), 0.0, "web"),
    "/16 empty, claim": lambda: _claiming(_allocator("10.1.0.0/16")),
    "/16 restore, per record": lambda: _restoring("10.1.0.0/16"),
    "/8 empty, allocate": lambda: _allocating(_allocator("10.0.0.0/8")),
    "/64 empty, allocate": lambda: _allocating(_allocator("fd00:1::/64")),
    "/64 empty, allocate and release": lambda: _cycling(_allocator("fd00:1::/64"), 0.0),
}


def _table(rows: list[dict[str, object]]) -> Iterator[str]:
    yield f"{'STATE OF THE POOL':50}{'OPS/S':>10}{'MIN':>10}{'MAX':>10}"
    for row in rows:
        yield f"{row['state']:50}{row['ops_per_s']:>10}{row['min']:>10}{row['max']:>10}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in _table(run()))
