"""
What a start takes beside many containers, on Docker's bridge network and on ours: beside 0, 250, 500 and 900 on one
network, and as one on the last of 200 networks. One engine; the containers are on both networks, so that both grow.
"""

import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.api import Api
from rig.engine import Engine
from rig.host import Host, Underlay
from rig.image import IMAGE
from rig.sandbox import Run
from rig.testbed import Testbed

_ENGINE = os.environ.get("ENGINE") or "28.5"
_SIZES = (0, 250, 500, 900)
_NETWORKS = 200
_STARTS = 15
_AT_ONCE = 4
_BRIDGE, _OURS = "bridge", "mdnp"


def run() -> list[dict[str, Any]]:
    """A row for each size; medians in ms of what the network adds to a start, and the ratio to the first row."""
    with Run() as rig:
        host = Host(Underlay(rig))
        engine = Engine(host, _ENGINE)
        engine.start()
        plugin = Testbed(host, engine).plugin()
        plugin.start()
        api = Api(host.docker_socket)
        for name, second in ((_BRIDGE, 85), (_OURS, 86)):
            _network(api, name, f"grown-{name}", f"10.{second}.0.0/16")
        rows: list[dict[str, Any]] = []
        there = 0
        for size in _SIZES:
            _fill(host.docker_socket, range(there, size))
            there = size
            rows.append({"beside": f"{size} endpoints", **_starts(api, "grown-")})
        for number in range(_NETWORKS):
            for name, first in ((_BRIDGE, 87), (_OURS, 88)):
                _network(api, name, f"many-{name}{number}", f"10.{first}.{number}.0/24")
        last = _NETWORKS - 1
        rows.append({"beside": f"{_NETWORKS} networks", **_starts(api, "many-", str(last))})
        api.close()
        engine.kill()
    for row in rows:
        for name in (_BRIDGE, _OURS):
            row[f"{name}_ratio"] = round(row[f"{name}_adds"] / rows[0][f"{name}_adds"], 2)
    return rows


def _network(api: Api, driver: str, name: str, subnet: str) -> None:
    ipam = {"Driver": "mdnp" if driver == _OURS else "default", "Config": [{"Subnet": subnet}]}
    api.ask("POST", "/networks/create", {"Name": name, "Driver": driver, "IPAM": ipam})


def _fill(socket: Path, numbers: Sequence[int]) -> None:
    def start(number: int) -> None:
        api = Api(socket)
        identity = _created(api, f"grown-{_OURS}", f"crowd{number}")
        api.ask("POST", f"/networks/grown-{_BRIDGE}/connect", {"Container": identity})
        api.ask("POST", f"/containers/{identity}/start")
        api.close()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(start, numbers))


def _starts(api: Api, prefix: str, suffix: str = "") -> dict[str, float]:
    taken: dict[str, list[float]] = {"none": [], _BRIDGE: [], _OURS: []}
    for _ in range(_STARTS):
        for name, times in taken.items():
            times.append(_start(api, name if name == "none" else f"{prefix}{name}{suffix}"))
    none = statistics.median(taken["none"])
    return {f"{name}_adds": round(statistics.median(taken[name]) - none, 1) for name in (_BRIDGE, _OURS)}


def _start(api: Api, network: str) -> float:
    identity = _created(api, network)
    began = time.perf_counter()
    api.ask("POST", f"/containers/{identity}/start")
    took = (time.perf_counter() - began) * 1000
    api.ask("DELETE", f"/containers/{identity}?force=true")
    return took


def _created(api: Api, network: str, name: str = "") -> str:
    config = {"Image": IMAGE, "Cmd": ["sleep", "100000"], "StopSignal": "KILL", "HostConfig": {"NetworkMode": network}}
    return str(api.ask("POST", f"/containers/create{f'?name={name}' if name else ''}", config)["Id"])


if __name__ == "__main__":
    for each in run():
        print(each)
