"""
Containers on Docker's bridge network and on ours, on one real engine in turn: what the network adds to a start.

A start without a network (`none`) is measured in the same round and taken away, so that what is compared is what each
driver adds. All is asked over the engine's API, as `docker start` does, without the time of the command itself.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any

from bench.api import Api
from bench.bed import BRIDGE, ENGINE, NONE, OURS, Bed, bed, created, published, remove, start

_ROUNDS = 30
_WARM_UP = 3
_AT_ONCE = 20
_BURSTS = 5
_PORTS = count(20001)

_Taken = dict[tuple[str, str], list[float]]


def run() -> list[dict[str, Any]]:
    """A row for each measure: medians in ms, what each driver adds, and the ratio of ours to Docker's bridge."""
    taken: _Taken = {}
    with bed() as one:
        for driver, subnet in ((BRIDGE, "10.81.0.0/16"), (OURS, "10.82.0.0/16")):
            one.network(driver, f"bench-{driver}", subnet)
        for number in range(_WARM_UP + _ROUNDS):
            into: _Taken = taken if number >= _WARM_UP else {}
            for driver in _in_turn(number):
                _round(one.docker, driver, into)
        for number in range(_BURSTS):
            for driver in _in_turn(number):
                _burst(one, driver, taken)
    return [_row(measure, taken) for measure in ("start", "start -p", "connect", "disconnect", f"{_AT_ONCE} at once")]


def _in_turn(number: int) -> Sequence[str]:
    """Another goes first each time, so that none always runs behind the same."""
    order = (NONE, BRIDGE, OURS)
    shift = number % len(order)
    return (*order[shift:], *order[:shift])


def _network(driver: str) -> str:
    return driver if driver == NONE else f"bench-{driver}"


def _round(docker: Api, driver: str, taken: _Taken) -> None:
    """A start without and with a published port, and a second network for a container that runs."""
    _run(docker, driver, taken, "start")
    if driver == NONE:
        return
    _run(docker, driver, taken, "start -p")
    guest = created(docker, "bridge")  # Docker's default network, to which others can be added
    start(docker, guest)
    for verb in ("connect", "disconnect"):
        attach = partial(docker.ask, "POST", f"/networks/{_network(driver)}/{verb}", {"Container": guest})
        _timed(taken, driver, verb, attach)
    remove(docker, guest)


def _run(docker: Api, driver: str, taken: _Taken, measure: str) -> None:
    more = published(str(next(_PORTS))) if measure == "start -p" else {}
    identity = created(docker, _network(driver), more=more)
    _timed(taken, driver, measure, lambda: start(docker, identity))
    remove(docker, identity)


def _burst(one: Bed, driver: str, taken: _Taken) -> None:
    identities = [created(one.docker, _network(driver)) for _ in range(_AT_ONCE)]
    apis = [one.api() for _ in identities]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        _timed(taken, driver, f"{_AT_ONCE} at once", lambda: list(pool.map(start, apis, identities)))
    for api, identity in zip(apis, identities, strict=True):
        remove(api, identity)
        api.close()


def _timed(taken: _Taken, driver: str, measure: str, act: Callable[[], object]) -> None:
    began = time.perf_counter()
    act()
    taken.setdefault((measure, driver), []).append((time.perf_counter() - began) * 1000)


def _row(measure: str, taken: _Taken) -> dict[str, Any]:
    base = taken.get((measure, NONE)) or (taken["start", NONE] if measure == "start -p" else [0.0])
    none = statistics.median(base)
    bridge, ours = (statistics.median(taken[measure, driver]) for driver in (BRIDGE, OURS))
    return {
        "measure": measure,
        "engine": ENGINE,
        "times": len(taken[measure, OURS]),
        "none_ms": round(none, 1),
        "bridge_ms": round(bridge, 1),
        "mdnp_ms": round(ours, 1),
        "mdnp_p90": round(statistics.quantiles(taken[measure, OURS], n=10, method="inclusive")[8], 1),
        "bridge_adds": round(bridge - none, 1),
        "mdnp_adds": round(ours - none, 1),
        "ratio": round((ours - none) / (bridge - none), 2),
    }


if __name__ == "__main__":
    for each in run():
        print(each)
