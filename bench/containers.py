"""
Containers on Docker's bridge network, on ours and on the least that a remote driver can be (`bench.floor`), on one real
engine in turn: what the network adds to a container.

The same container without a network (`none`) is measured in each round, and what is compared are the differences to it
in that round. All is asked over the engine's API, as `docker run` and the others do, without the time of the command.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count, permutations
from typing import Any

from bench import floor
from bench.api import Api
from bench.bed import BRIDGE, ENGINE, NONE, OURS, Bed, bed, created, published, remove, start
from bench.progress import told

_ROUNDS = 30
_WARM_UP = 3
_AT_ONCE = 20
_BURSTS = 8
_PORTS = count(20001)

_FLOOR = floor.NAME
_WAYS = (NONE, BRIDGE, _FLOOR, OURS)
_ORDERS = [*permutations(_WAYS)]
_STRIDE = 7  # through the orders; it has no factor in common with their number, so that it meets all
_SETTLED_S = 0.1  # in which that dies which dies after the answer, so that it falls on nobody else
_SUBNETS = {BRIDGE: "10.81.0.0/16", OURS: "10.82.0.0/16", _FLOOR: "10.83.0.0/16"}
_PUBLISHING = (BRIDGE, OURS)
_BURST = f"{_AT_ONCE} at once"
# Each with what the same is called without a network, if it can be without.
_MEASURES: Mapping[str, str | None] = {
    "run": "run",
    "run -p": "run",
    "start": "start",
    "start -p": "start",
    "connect": None,
    "disconnect": None,
    _BURST: _BURST,
}

_Taken = dict[tuple[str, str], list[float]]  # ms in each round, by measure and way


def run() -> list[dict[str, Any]]:
    """A row for each measure: what each driver adds, in ms, and the ratios to Docker's bridge."""
    taken: _Taken = {}
    with bed() as one:
        floor.started(one.host)
        for driver, subnet in _SUBNETS.items():
            one.network(driver, f"bench-{driver}", subnet)
        for number in told("rounds", range(_WARM_UP + _ROUNDS)):
            into: _Taken = taken if number >= _WARM_UP else {}
            for way in _in_turn(number):
                _round(one.docker, way, into)
        for number in told(_BURST, range(1 + _BURSTS)):
            into = taken if number else {}
            for way in _in_turn(number):
                _burst(one, way, into)
    return [_row(measure, taken) for measure in _MEASURES]


def _in_turn(number: int) -> Sequence[str]:
    """In another order each time, so that none always runs behind the same."""
    return _ORDERS[number * _STRIDE % len(_ORDERS)]


def _network(way: str) -> str:
    return way if way == NONE else f"bench-{way}"


def _round(docker: Api, way: str, taken: _Taken) -> None:
    """A container that ends at once, one that stays, both with a published port, and a second network for one."""
    for suffix in ("", " -p") if way in _PUBLISHING else ("",):
        _run(docker, way, taken, f"run{suffix}")
        _start(docker, way, taken, f"start{suffix}")
    if way == NONE:
        return
    guest = created(docker, "bridge")  # Docker's default network, to which others can be added
    start(docker, guest)
    for verb in ("connect", "disconnect"):
        attach = partial(docker.ask, "POST", f"/networks/{_network(way)}/{verb}", {"Container": guest})
        _timed(taken, way, verb, attach)
    remove(docker, guest)


def _run(docker: Api, way: str, taken: _Taken, measure: str) -> None:
    """As `docker run --rm` of a command that ends at once."""
    more = {**_more(measure), "Cmd": ["true"]}

    def whole() -> None:
        identity = created(docker, _network(way), more=more)
        start(docker, identity)
        docker.ask("POST", f"/containers/{identity}/wait")
        docker.ask("DELETE", f"/containers/{identity}")

    _timed(taken, way, measure, whole)


def _start(docker: Api, way: str, taken: _Taken, measure: str) -> None:
    identity = created(docker, _network(way), more=_more(measure))
    _timed(taken, way, measure, lambda: start(docker, identity))
    remove(docker, identity)


def _more(measure: str) -> Mapping[str, Any]:
    return published(str(next(_PORTS))) if measure.endswith("-p") else {}


def _burst(one: Bed, way: str, taken: _Taken) -> None:
    identities = [created(one.docker, _network(way)) for _ in range(_AT_ONCE)]
    apis = [one.api() for _ in identities]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        _timed(taken, way, _BURST, lambda: list(pool.map(start, apis, identities)))
    for api, identity in zip(apis, identities, strict=True):
        remove(api, identity)
        api.close()


def _timed(taken: _Taken, way: str, measure: str, act: Callable[[], object]) -> None:
    time.sleep(_SETTLED_S)
    began = time.perf_counter()
    act()
    taken.setdefault((measure, way), []).append((time.perf_counter() - began) * 1000)


def _row(measure: str, taken: _Taken) -> dict[str, Any]:
    bare = _MEASURES[measure]
    none = taken[bare, NONE] if bare else [0.0] * len(taken[measure, OURS])
    adds = {
        way: [one - base for one, base in zip(taken[measure, way], none, strict=True)]
        for way in _WAYS
        if way != NONE and (measure, way) in taken
    }
    medians = {way: statistics.median(each) for way, each in adds.items()}
    deciles = statistics.quantiles(adds[OURS], n=10, method="inclusive")
    least = medians.get(_FLOOR)
    return {
        "measure": measure,
        "engine": ENGINE,
        "times": len(none),
        "none_ms": round(statistics.median(none), 1),
        "bridge_adds": round(medians[BRIDGE], 1),
        "floor_adds": None if least is None else round(least, 1),
        "mdnp_adds": round(medians[OURS], 1),
        "mdnp_p10": round(deciles[0], 1),
        "mdnp_p90": round(deciles[8], 1),
        "ratio": round(medians[OURS] / medians[BRIDGE], 2),
        "ratio_floor": None if least is None else round(least / medians[BRIDGE], 2),
    }


if __name__ == "__main__":
    for each in run():
        print(each)
