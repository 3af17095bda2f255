"""
What a tunnel between two hosts costs: iperf3 and single requests between containers, over each way in turn.

The hosts are namespaces on one machine, joined by a bridge: there is no wire, segments stay large, and all share the
processors. What counts is the ratio to the bare VXLAN link of the same round, so that the machine's moods fall on all.
"""

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from bench import inside, ways
from bench.inside import Pinger, enter
from bench.ways import Way
from rig.cluster import Cluster
from rig.command import run as finish
from rig.sandbox import Run

_ENGINE = "28.5"
_ROUNDS = 5
_SECONDS = 1  # of each stream
_REQUESTS = 3000
_WARM_UP = 300
_IPERF_PORT, _ECHO_PORT = 5201, 5202
_PATIENCE_S = 20.0


def run() -> list[dict[str, Any]]:
    """A row for each measure and way: the median, smallest and largest of the rounds, and the median of the ratios."""
    with Run() as rig, ExitStack() as stack:
        made = _ways(rig)
        for way in made:
            _serve(way, stack)
        measured: dict[tuple[str, str], list[float]] = {}
        for _ in range(_ROUNDS):
            for measure, _, take in _MEASURES:
                for way in made:
                    measured.setdefault((measure, way.name), []).append(take(way))
    return [_row(measure, unit, way.name, measured) for measure, unit, _ in _MEASURES for way in made]


def _ways(rig: Run) -> list[Way]:
    cluster = Cluster(rig, (_ENGINE, _ENGINE), live_restore=False)
    cluster.start()
    return [*ways.by_hand(cluster.underlay), ways.swarm(cluster), ways.mdnp(cluster)]


def _serve(way: Way, stack: ExitStack) -> None:
    """What answers at the far end, and the first answer."""
    pinger = Pinger(way.near.namespace)
    pinger.first_answer(way.far.address, _PATIENCE_S)
    pinger.close()
    for command in (
        ["iperf3", "--server", f"--port={_IPERF_PORT}"],
        [sys.executable, "-m", "bench.inside", str(_ECHO_PORT)],
    ):
        process = subprocess.Popen(
            enter(way.far.namespace, command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
    for port in (_IPERF_PORT, _ECHO_PORT):
        _connected(way, port).close()


def _connected(way: Way, port: int) -> socket.socket:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        connection = inside.made(way.near.namespace, socket.socket)
        try:
            connection.connect((way.far.address, port))
        except ConnectionRefusedError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return connection


def _tcp(way: Way, options: Sequence[str] = ()) -> float:
    """Gbit/s received."""
    return float(_iperf(way, options)["sum_received"]["bits_per_second"]) / 1e9


def _udp(way: Way) -> float:
    """Thousands of packets a second received, of as many as can be sent."""
    total = _iperf(way, ("--udp", "--bitrate=0", "--length=64"))["sum"]
    return float((total["packets"] - total["lost_packets"]) / total["seconds"] / 1000)


def _iperf(way: Way, options: Sequence[str]) -> dict[str, Any]:
    command = ["iperf3", f"--client={way.far.address}", f"--port={_IPERF_PORT}", f"--time={_SECONDS}", "--json"]
    end: dict[str, Any] = json.loads(finish(enter(way.near.namespace, [*command, *options])).out)["end"]
    return end


def _request(way: Way) -> float:
    """Microseconds from a byte sent to the byte that answers it; the median."""
    with _connected(way, _ECHO_PORT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        taken = []
        for _ in range(_WARM_UP + _REQUESTS):
            start = time.perf_counter()
            connection.sendall(b".")
            connection.recv(1)
            taken.append(time.perf_counter() - start)
    return statistics.median(taken[_WARM_UP:]) * 1e6


# What is measured, in what, and how.
_MEASURES: Sequence[tuple[str, str, Callable[[Way], float]]] = (
    ("tcp", "Gbit/s", _tcp),
    ("tcp back", "Gbit/s", partial(_tcp, options=("--reverse",))),
    ("tcp, 8 streams", "Gbit/s", partial(_tcp, options=("--parallel=8",))),
    ("tcp back, 8 streams", "Gbit/s", partial(_tcp, options=("--parallel=8", "--reverse"))),
    ("udp, 64 bytes", "kpackets/s", _udp),
    ("request", "us", _request),
)


def _row(measure: str, unit: str, way: str, measured: dict[tuple[str, str], list[float]]) -> dict[str, Any]:
    rounds, floor = measured[measure, way], measured[measure, "vxlan"]
    return {
        "measure": measure,
        "way": way,
        "median": round(statistics.median(rounds), 2),
        "min": round(min(rounds), 2),
        "max": round(max(rounds), 2),
        "unit": unit,
        "ratio": round(statistics.median(one / bare for one, bare in zip(rounds, floor, strict=True)), 2),
    }


if __name__ == "__main__":
    for each in run():
        print(each)
