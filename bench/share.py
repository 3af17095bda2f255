"""
What of a container's start and end is the plugin's own time, from its metrics: each call from its whole body to its
answer, and in it the time in the kernel and on the disk. One container after the other on a real engine.
"""

import os
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.api import Api
from rig.engine import Engine
from rig.host import Host, Underlay
from rig.image import IMAGE
from rig.sandbox import Run
from rig.testbed import Testbed

_ENGINE = os.environ.get("ENGINE") or "28.5"
_CONTAINERS = 100
_WARM_UP = 5
_CONFIG = {"Image": IMAGE, "Cmd": ["sleep", "100000"], "StopSignal": "KILL", "HostConfig": {"NetworkMode": "bench"}}
_PUBLISHED = {"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"NetworkMode": "bench", "PortBindings": {"80/tcp": [{}]}}}
_SUM = re.compile(r"^mdnp_(\w+)_duration_seconds_sum(?:{([^}]*)})? (\S+)$", re.MULTILINE)

_Sums = Mapping[str, float]  # seconds so far, by what took them


def run() -> list[dict[str, Any]]:
    """A row for each kind of container: ms of the plugin for one start and end of it."""
    with Run() as rig:
        host = Host(Underlay(rig))
        engine = Engine(host, _ENGINE)
        engine.start()
        plugin = Testbed(host, engine).plugin()
        plugin.start()
        docker, ours = Api(host.docker_socket), Api(host.runtime / "admin.sock")
        pool = {"Driver": "mdnp", "Config": [{"Subnet": "10.84.0.0/16"}]}
        docker.ask("POST", "/networks/create", {"Name": "bench", "Driver": "mdnp", "IPAM": pool})
        rows = [
            _row(what, [_one(docker, ours, {**_CONFIG, **more}) for _ in range(_WARM_UP + _CONTAINERS)][_WARM_UP:])
            for what, more in (("run", {}), ("run -p", _PUBLISHED))
        ]
        docker.close()
        ours.close()
        engine.clear()
        engine.close()
        return rows


def _one(docker: Api, ours: Api, config: Mapping[str, object]) -> _Sums:
    before = _sums(ours)
    identity = docker.ask("POST", "/containers/create", config)["Id"]
    docker.ask("POST", f"/containers/{identity}/start")
    docker.ask("DELETE", f"/containers/{identity}?force=true")
    after = _sums(ours)
    return {what: after[what] - before.get(what, 0.0) for what in after}


def _sums(ours: Api) -> _Sums:
    found: dict[str, float] = {}
    for what, labels, seconds in _SUM.findall(ours.text("/metrics")):
        found[what] = found.get(what, 0.0) + float(seconds)
        if what == "call":
            verb = labels.split('verb="')[1].rstrip('"')
            found[verb] = found.get(verb, 0.0) + float(seconds)
    return found


def _row(what: str, taken: Sequence[_Sums]) -> dict[str, Any]:
    def ms(part: str) -> list[float]:
        return [one.get(part, 0.0) * 1000 for one in taken]

    calls = statistics.quantiles(ms("call"), n=100, method="inclusive")
    return {
        "what": what,
        "engine": _ENGINE,
        "containers": len(taken),
        "p50_ms": round(calls[49], 2),
        "p99_ms": round(calls[98], 2),
        "kernel_ms": round(statistics.median(ms("kernel_perform")), 2),
        "disk_ms": round(statistics.median(ms("store_commit")), 2),
        "create_ms": round(statistics.median(ms("CreateEndpoint")), 2),
        "join_ms": round(statistics.median(ms("Join")), 2),
        "leave_ms": round(statistics.median(ms("Leave")), 2),
        "delete_ms": round(statistics.median(ms("DeleteEndpoint")), 2),
    }


if __name__ == "__main__":
    for each in run():
        print(each)
