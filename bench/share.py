"""
What of a container's start and end is the plugin's own time, from its metrics: each call from its whole body to its
answer, and in it the time in the kernel and on the disk. One container after the other on a real engine.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.api import Api
from bench.bed import ENGINE, OURS, bed, created, published, remove, start

_CONTAINERS = 100
_WARM_UP = 5
_SUM = re.compile(r"^mdnp_(\w+)_duration_seconds_sum(?:{([^}]*)})? (\S+)$", re.MULTILINE)

_Sums = Mapping[str, float]  # seconds so far, by what took them


def run() -> list[dict[str, Any]]:
    """A row for each kind of container: ms of the plugin for one start and end of it."""
    with bed() as one:
        one.network(OURS, "bench", "10.84.0.0/16")
        ours = Api(one.host.runtime / "admin.sock")
        rows = [
            _row(what, [_one(one.docker, ours, more) for _ in range(_WARM_UP + _CONTAINERS)][_WARM_UP:])
            for what, more in (("run", {}), ("run -p", published()))
        ]
        ours.close()
        return rows


def _one(docker: Api, ours: Api, more: Mapping[str, Any]) -> _Sums:
    before = _sums(ours)
    identity = created(docker, "bench", more=more)
    start(docker, identity)
    remove(docker, identity)
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
        "engine": ENGINE,
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
