"""
How soon a container that joins on one host answers a ping from a container on another.

Two real daemons with real kernels in namespaces, and a real etcd; no engine: what it does between the calls is done
here, and told apart. The container that asks does so every millisecond from before the Join, and repeats a question for
a neighbour each 2 ms instead of each second, for that second would be all that is seen.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bench.docker import Docker, set_up, take_down
from bench.inside import Pinger
from bench.member import Member
from rig.etcd import Etcd
from rig.host import GATEWAY, Namespace, Underlay
from rig.sandbox import Run

_JOINS = 120
_WARM_UP = 5
_ANSWER_S = 10.0


@dataclass(frozen=True)
class _Moments:
    """Of one join, by perf_counter."""

    created: float  # CreateEndpoint is called; others may know of it from now on
    joining: float
    joined: float  # it is answered
    set_up: float  # as far as the engine and the container are concerned, the container is on the network
    answered: float  # the first ping, as the other container sees it


def run() -> list[dict[str, Any]]:
    """A row for each stretch of the way; times in ms."""
    with Run() as rig:
        underlay = Underlay(rig)
        etcd = Etcd(underlay, address=str(GATEWAY.ip))
        etcd.start()
        places = [_Place(underlay, label, etcd.url) for label in ("a", "b")]
        measured = asyncio.run(_measure(*places))
    return [
        _row("Join: called to answered", [one.joined - one.joining for one in measured]),
        _row("Join called to first ping answered", [one.answered - one.joining for one in measured]),
        _row("container set up to first ping answered", [max(0.0, one.answered - one.set_up) for one in measured]),
        _row("CreateEndpoint called to first ping answered", [one.answered - one.created for one in measured]),
    ]


class _Place(Member):
    """With a container's namespace."""

    def __init__(self, underlay: Underlay, label: str, etcd: str) -> None:
        super().__init__(underlay, label, etcd)
        self.sandbox = Namespace(underlay.rig, f"{label}-in")


async def _measure(here: _Place, there: _Place) -> list[_Moments]:
    """Containers join on `there` one after the other; the one that asks is `here`."""
    docker, other = await here.network(), await there.network()
    set_up(await docker.attach(), here.host, here.sandbox)
    here.sandbox.run(["sysctl", "-qw", "net.ipv4.neigh.eth0.retrans_time_ms=2"])
    pinger = Pinger(here.sandbox.path)
    with ThreadPoolExecutor(1) as beside:
        moments = [await _join(other, there, pinger, beside) for _ in range(_WARM_UP + _JOINS)]
    pinger.close()
    return moments[_WARM_UP:]


async def _join(docker: Docker, there: _Place, pinger: Pinger, beside: ThreadPoolExecutor) -> _Moments:
    loop = asyncio.get_running_loop()
    created = time.perf_counter()
    one = await docker.create_endpoint()
    first = loop.run_in_executor(beside, pinger.first_answer, one.ip, _ANSWER_S)
    joining = time.perf_counter()
    await docker.join(one)
    joined = time.perf_counter()
    set_up(one, there.host, there.sandbox)
    ready = time.perf_counter()
    answered = await first
    take_down(one, there.host, there.sandbox)
    await docker.detach(one)
    return _Moments(created, joining, joined, ready, answered)


def _row(stretch: str, taken: Sequence[float]) -> dict[str, Any]:
    centiles = statistics.quantiles(taken, n=100, method="inclusive")
    return {
        "stretch": stretch,
        "joins": len(taken),
        "p50_ms": round(centiles[49] * 1000, 1),
        "p99_ms": round(centiles[98] * 1000, 1),
        "max_ms": round(max(taken) * 1000, 1),
    }


if __name__ == "__main__":
    for each in run():
        print(each)
