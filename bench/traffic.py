"""Traffic over several ways from one container to another, in turn: iperf3 and single requests."""

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from bench import inside
from bench.inside import Pinger, enter
from bench.ways import Way
from rig.command import run as finish

IPERF_PORT, ECHO_PORT = 5201, 5202

_ROUNDS = 5
_SECONDS = 1  # of each stream
_REQUESTS = 3000
_WARM_UP = 300
_PATIENCE_S = 20.0

Taken = Mapping[str, float]  # by unit


def measure(ways: Sequence[Way], floor: str) -> list[dict[str, Any]]:
    """
    A row for each figure and way: the median, smallest and largest of the rounds, and the median of the ratios to the
    way named `floor` in the same round.
    """
    with ExitStack() as stack:
        for way in ways:
            _serve(way, stack)
        measured: dict[tuple[str, str, str], list[float]] = {}
        for _ in range(_ROUNDS):
            for measure, take in _MEASURES.items():
                for way in ways:
                    for unit, value in take(way).items():
                        measured.setdefault((measure, unit, way.name), []).append(value)
    figures = sorted(measured, key=lambda figure: (list(_MEASURES).index(figure[0]), figure[1]))
    return [_row(*figure, measured[figure], measured[*figure[:2], floor]) for figure in figures]


def _serve(way: Way, stack: ExitStack) -> None:
    """What answers at the far end, and the first answer."""
    pinger = Pinger(way.near.namespace)
    pinger.first_answer(way.far.address, _PATIENCE_S)
    pinger.close()
    for command in (
        ["iperf3", "--server", f"--port={IPERF_PORT}"],
        [sys.executable, "-m", "bench.inside", str(ECHO_PORT)],
    ):
        process = subprocess.Popen(
            enter(way.far.namespace, command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
    for port in (IPERF_PORT, ECHO_PORT):
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


def _tcp(way: Way, options: Sequence[str] = ()) -> Taken:
    """What was received."""
    end = _iperf(way, options)
    return _rates("Gbit", end["sum_received"]["bits_per_second"] / 1e9, end)


def _udp(way: Way) -> Taken:
    """Thousands of packets received, of as many as can be sent."""
    end = _iperf(way, ("--udp", "--bitrate=0", "--length=64"))
    total = end["sum"]
    return _rates("kpackets", (total["packets"] - total["lost_packets"]) / total["seconds"] / 1000, end)


def _rates(what: str, a_second: float, end: Mapping[str, Any]) -> Taken:
    """
    A second, and for each second that both ends computed.

    The kernel does most of a packet's work in the process that sends it, or that reads it; so the latter is hardly
    changed by what else the machine does.
    """
    used = end["cpu_utilization_percent"]
    return {
        f"{what}/s": a_second,
        f"{what} per cpu s": a_second / ((used["host_total"] + used["remote_total"]) / 100),
    }


def _iperf(way: Way, options: Sequence[str]) -> dict[str, Any]:
    command = ["iperf3", f"--client={way.far.address}", f"--port={IPERF_PORT}", f"--time={_SECONDS}", "--json"]
    end: dict[str, Any] = json.loads(finish(enter(way.near.namespace, [*command, *options])).out)["end"]
    return end


def _request(way: Way) -> Taken:
    """From a byte sent to the byte that answers it; the median."""
    with _connected(way, ECHO_PORT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        taken = []
        for _ in range(_WARM_UP + _REQUESTS):
            start = time.perf_counter()
            connection.sendall(b".")
            connection.recv(1)
            taken.append(time.perf_counter() - start)
    return {"us": statistics.median(taken[_WARM_UP:]) * 1e6}


_MEASURES: Mapping[str, Callable[[Way], Taken]] = {
    "tcp": _tcp,
    "tcp back": partial(_tcp, options=("--reverse",)),
    "tcp, 8 streams": partial(_tcp, options=("--parallel=8",)),
    "tcp back, 8 streams": partial(_tcp, options=("--parallel=8", "--reverse")),
    "udp, 64 bytes": _udp,
    "request": _request,
}


def _row(measure: str, unit: str, way: str, rounds: Sequence[float], floor: Sequence[float]) -> dict[str, Any]:
    """`floor` are the same rounds of what the ratio is to."""
    return {
        "measure": measure,
        "unit": unit,
        "way": way,
        "median": round(statistics.median(rounds), 2),
        "min": round(min(rounds), 2),
        "max": round(max(rounds), 2),
        "ratio": round(statistics.median(one / least for one, least in zip(rounds, floor, strict=True)), 2),
    }
