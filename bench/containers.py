"""
Containers on Docker's bridge network and on ours, on one real engine in turn: what the network adds to a start.

A start without a network (`none`) is measured in the same round and taken away, so that what is compared is what each
driver adds. All is asked over the engine's API, as `docker run` does, without the time of the command itself.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

from bench.api import Api
from rig.engine import Engine
from rig.host import Host, Underlay
from rig.image import IMAGE
from rig.sandbox import Run
from rig.testbed import Testbed

_ENGINE = os.environ.get("ENGINE") or "28.5"
_ROUNDS = 30
_WARM_UP = 3
_AT_ONCE = 20
_BURSTS = 5
_NONE, _BRIDGE, _OURS = "none", "bridge", "mdnp"

_Taken = dict[tuple[str, str], list[float]]


def run() -> list[dict[str, Any]]:
    """A row for each measure: medians in ms, what each driver adds, and the ratio of ours to Docker's bridge."""
    with Run() as rig:
        host = Host(Underlay(rig))
        engine = Engine(host, _ENGINE)
        engine.start()
        plugin = Testbed(host, engine).plugin()
        plugin.start()
        api = Api(host.docker_socket)
        _networks(api)
        taken: _Taken = {}
        for number in range(_WARM_UP + _ROUNDS):
            into: _Taken = taken if number >= _WARM_UP else {}
            for network in _in_turn(number):
                _one(api, network, into)
        for number in range(_BURSTS):
            for network in _in_turn(number):
                _burst(host, network, taken)
        api.close()
        engine.clear()
        engine.close()
    return [_row(measure, taken) for measure in ("run", "run -p", "connect", "disconnect", f"{_AT_ONCE} at once")]


def _networks(api: Api) -> None:
    for name, driver, subnet in ((_BRIDGE, "bridge", "10.81.0.0/16"), (_OURS, "mdnp", "10.82.0.0/16")):
        ipam = {"Driver": "mdnp" if driver == "mdnp" else "default", "Config": [{"Subnet": subnet}]}
        api.ask("POST", "/networks/create", {"Name": f"bench-{name}", "Driver": driver, "IPAM": ipam})


def _in_turn(number: int) -> Sequence[str]:
    """Another goes first each time, so that none always runs behind the same."""
    order = (_NONE, _BRIDGE, _OURS)
    shift = number % len(order)
    return (*order[shift:], *order[:shift])


def _one(api: Api, network: str, taken: _Taken) -> None:
    """A start without and with a published port, and a second network for a container that runs."""
    _start(api, network, taken, "run")
    if network == _NONE:
        return
    _start(api, network, taken, "run -p", published=True)
    guest = _created(api, "bridge")  # Docker's default network, to which others can be added
    api.ask("POST", f"/containers/{guest}/start")
    place = f"/networks/bench-{network}"
    _timed(taken, network, "connect", lambda: api.ask("POST", f"{place}/connect", {"Container": guest}))
    _timed(taken, network, "disconnect", lambda: api.ask("POST", f"{place}/disconnect", {"Container": guest}))
    api.ask("DELETE", f"/containers/{guest}?force=true")


def _start(api: Api, network: str, taken: _Taken, measure: str, *, published: bool = False) -> None:
    identity = _created(api, network if network == _NONE else f"bench-{network}", published=published)
    _timed(taken, network, measure, lambda: api.ask("POST", f"/containers/{identity}/start"))
    api.ask("DELETE", f"/containers/{identity}?force=true")


def _burst(host: Host, network: str, taken: _Taken) -> None:
    api = Api(host.docker_socket)
    identities = [_created(api, network if network == _NONE else f"bench-{network}") for _ in range(_AT_ONCE)]

    def start(identity: str) -> None:
        own = Api(host.docker_socket)
        own.ask("POST", f"/containers/{identity}/start")
        own.close()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        _timed(taken, network, f"{_AT_ONCE} at once", lambda: list(pool.map(start, identities)))
    for identity in identities:
        api.ask("DELETE", f"/containers/{identity}?force=true")
    api.close()


_NUMBERS = count(1)


def _created(api: Api, network: str, *, published: bool = False) -> str:
    config: dict[str, Any] = {"Image": IMAGE, "Cmd": ["sleep", "100000"], "StopSignal": "KILL"}
    settings: dict[str, Any] = {"NetworkMode": network}
    if published:
        config["ExposedPorts"] = {"80/tcp": {}}
        settings["PortBindings"] = {"80/tcp": [{"HostIp": "", "HostPort": str(20000 + next(_NUMBERS))}]}
    made: Mapping[str, str] = api.ask("POST", "/containers/create", {**config, "HostConfig": settings})
    return made["Id"]


def _timed(taken: _Taken, network: str, measure: str, act: Callable[[], object]) -> None:
    began = time.perf_counter()
    act()
    taken.setdefault((measure, network), []).append((time.perf_counter() - began) * 1000)


def _row(measure: str, taken: _Taken) -> dict[str, Any]:
    base = taken.get((measure, _NONE)) or (taken["run", _NONE] if measure == "run -p" else [0.0])
    none = statistics.median(base)
    bridge, ours = (statistics.median(taken[measure, network]) for network in (_BRIDGE, _OURS))
    return {
        "measure": measure,
        "engine": _ENGINE,
        "times": len(taken[measure, _OURS]),
        "none_ms": round(none, 1),
        "bridge_ms": round(bridge, 1),
        "mdnp_ms": round(ours, 1),
        "mdnp_p90": round(statistics.quantiles(taken[measure, _OURS], n=10, method="inclusive")[8], 1),
        "bridge_adds": round(bridge - none, 1),
        "mdnp_adds": round(ours - none, 1),
        "ratio": round((ours - none) / (bridge - none), 2),
    }


if __name__ == "__main__":
    for each in run():
        print(each)
