"""
More containers on one network than a bridge has ports: 1,500, each with a namespace as its sandbox, attached one after
the other over the socket of a real daemon; and what passes between the first and the last.
"""

import asyncio
import socket
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.client import Client, computed_s
from bench.docker import Attached, Docker, set_up
from bench.inside import Pinger, made
from rig.host import Host, Namespace, Underlay
from rig.plugin import Plugin
from rig.sandbox import Run

_ENDPOINTS = 1500
_BESIDE = (10, 900, 1020, 1490)
_SAMPLES = 10
_ANNEXED = 1000  # the first that finds no room on the bridge
_ASKS = 200
_PORT = 7000
_ANSWER_S = 10.0


def run() -> list[dict[str, Any]]:
    """A row for each figure, in ms."""
    with Run() as rig:
        host = Host(Underlay(rig))
        plugin = Plugin(host, options=["--log-level=error"])
        plugin.start()
        return asyncio.run(_measure(host, plugin))


async def _measure(host: Host, plugin: Plugin) -> list[dict[str, Any]]:
    docker = await Docker.create_network(await Client.open(plugin.socket), 1, "10.64.0.0/16")
    taken: list[float] = []
    computed: list[float] = []
    sandboxes: list[Namespace] = []
    attached: list[Attached] = []
    for number in range(_ENDPOINTS):
        sandboxes.append(Namespace(host.rig, f"c{number}"))
        start, before = time.perf_counter(), computed_s(plugin.pid)
        attached.append(await docker.create_endpoint(f"{number:011x}".ljust(64, "e")))
        await docker.join(attached[-1])
        taken.append(time.perf_counter() - start)
        computed.append(computed_s(plugin.pid) - before)
        set_up(attached[-1], host, sandboxes[-1])
        if number % 100 == 99:
            print(f"# {number + 1} of {_ENDPOINTS} endpoints", file=sys.stderr, flush=True)
    docker.close()
    pings = _pings(sandboxes[-1], attached[0])
    return [
        *(_row(f"attach beside {size}", taken[size : size + _SAMPLES]) for size in _BESIDE),
        *(_row(f"of it the daemon computes, {size}", computed[size : size + _SAMPLES]) for size in _BESIDE),
        _row("attach that needs a further bridge", [taken[_ANNEXED]]),
        _row("first ping, last to first, with ARP", pings[:1]),
        _row("ping, last to first", pings[1:]),
        _row("TCP connection and answer, last to first", _requests(sandboxes[-1], sandboxes[0], attached[0])),
    ]


def _pings(asker: Namespace, asked: Attached) -> list[float]:
    pinger = Pinger(asker.path, every_s=1.0)
    try:
        return [_timed(lambda: pinger.first_answer(asked.ip, _ANSWER_S)) for _ in range(_ASKS)]
    finally:
        pinger.close()


def _requests(asker: Namespace, answerer: Namespace, asked: Attached) -> list[float]:
    with made(answerer.path, lambda: socket.create_server((asked.ip, _PORT))) as listening:
        return [_timed(lambda: _request(asker, listening, asked)) for _ in range(_ASKS)]


def _request(asker: Namespace, listening: socket.socket, asked: Attached) -> None:
    with made(asker.path, lambda: socket.create_connection((asked.ip, _PORT), _ANSWER_S)) as asking:
        answering, _ = listening.accept()
        with answering:
            asking.sendall(b"?")
            answering.sendall(answering.recv(1))
            if asking.recv(1) != b"?":
                raise RuntimeError("another answer than was asked for")


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _row(what: str, taken: Sequence[float]) -> dict[str, Any]:
    return {
        "what": what,
        "samples": len(taken),
        "p50_ms": round(statistics.median(taken) * 1000, 2),
        "max_ms": round(max(taken) * 1000, 2),
    }


if __name__ == "__main__":
    for each in run():
        print(each)
