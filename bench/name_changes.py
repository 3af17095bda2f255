"""
How soon a name is right on all other hosts after its container was started, stopped, renamed or moved.

Three real engines of several versions with an etcd, as in the stories. What is measured begins when the docker command
has returned; containers on the other two hosts ask for the name every few milliseconds, as any program in them does.
"""

import socket
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import dns.message
import dns.rdatatype

from bench.inside import made
from rig.cluster import Cluster, Node, at_once
from rig.image import IMAGE
from rig.sandbox import Run

_EMBEDDED = ("127.0.0.11", 53)
_ROUNDS = 20
_EVERY_S, _ANSWER_S, _LIMIT_S = 0.003, 1.0, 20.0
_NETWORK = ("network", "create", "-d", "mdnp", "--ipam-driver=mdnp", "-o", "mdnp.mode=overlay", "--subnet=10.50.0.0/16")
_RUN = ("run", "-d", "--net=blue", "--stop-signal=KILL")

_Rows = dict[str, list[float]]


def run() -> list[dict[str, Any]]:
    """A row for each kind of change; times in ms, of the host that was right last."""
    with Run() as rig:
        cluster = Cluster(rig)
        cluster.start()
        cluster.each(lambda node: node.engine.docker(*_NETWORK, "blue"))
        askers = at_once(_Asker, cluster.nodes)
        taken: _Rows = {"started": [], "renamed": [], "stopped": [], "started again": [], "moved": []}
        for number in range(_ROUNDS):
            _round(cluster, askers, f"web{number}", taken)
        cluster.close()
    return [_row(change, times) for change, times in taken.items()]


def _round(cluster: Cluster, askers: Sequence["_Asker"], name: str, taken: _Rows) -> None:
    here, there, _ = cluster.nodes
    others, new = askers[1:], f"{name}-new"

    def after(change: str, act: Callable[[], object], name: str, expected: Callable[[], set[str]]) -> None:
        act()
        began = time.perf_counter()
        with ThreadPoolExecutor(len(others) + 1) as pool:
            wanted = pool.submit(expected)  # docker takes its time to say it; others ask meanwhile
            moments = list(pool.map(lambda one: one.right(name, wanted), others))
        taken[change].append(max(moments) - began)

    after("started", lambda: _start(here, name), name, lambda: {_address(here, name)})
    after("renamed", lambda: here.engine.docker("rename", name, new), new, lambda: {_address(here, new)})
    after("stopped", lambda: here.engine.docker("stop", "-t0", new), new, set)
    after("started again", lambda: here.engine.docker("start", new), new, lambda: {_address(here, new)})
    here.engine.docker("rm", "-f", new)
    others = (askers[0], askers[2])
    after("moved", lambda: _start(there, new), new, lambda: {_address(there, new)})
    there.engine.docker("rm", "-f", new)


def _start(node: Node, name: str) -> None:
    node.engine.docker(*_RUN, "--name", name, IMAGE, "sleep", "100000")


def _address(node: Node, name: str) -> str:
    return node.engine.docker("inspect", "--format={{.NetworkSettings.Networks.blue.IPAddress}}", name)


class _Asker:
    """A container that asks."""

    def __init__(self, node: Node) -> None:
        _start(node, "asker")
        path = node.engine.docker("inspect", "--format={{.NetworkSettings.SandboxKey}}", "asker")
        self._socket = made(Path(path), lambda: socket.socket(type=socket.SOCK_DGRAM))
        self._socket.settimeout(_ANSWER_S)

    def right(self, name: str, wanted: Future[set[str]]) -> float:
        """The moment, by perf_counter, at which the name had these addresses; none: it was gone. TimeoutError."""
        said: list[tuple[float, set[str] | None]] = []
        deadline = time.perf_counter() + _LIMIT_S
        while time.perf_counter() < deadline:
            addresses = self._ask(name)
            said.append((time.perf_counter(), addresses))
            if wanted.done() and addresses == wanted.result():
                return next(moment for moment, earlier in said if earlier == addresses)
            time.sleep(_EVERY_S)
        raise TimeoutError(f"{name} is not {wanted.result() or 'gone'} within {_LIMIT_S:g} s")

    def _ask(self, name: str) -> set[str] | None:
        # Below .mdnp what is not there is nobody else's to answer: the rig has no resolver, and Docker would wait.
        query = dns.message.make_query(f"{name}.blue.mdnp", "A")
        self._socket.sendto(query.to_wire(), _EMBEDDED)
        try:
            answer = dns.message.from_wire(self._socket.recv(4096))
        except TimeoutError:
            return None
        if answer.id != query.id:
            return None
        sets = [one for one in answer.answer if one.rdtype == dns.rdatatype.A]
        return {str(IPv4Address(item.address)) for one in sets for item in one}


def _row(change: str, taken: Sequence[float]) -> dict[str, Any]:
    return {
        "change": change,
        "times": len(taken),
        "p50_ms": round(statistics.median(taken) * 1000, 1),
        "max_ms": round(max(taken) * 1000, 1),
    }


if __name__ == "__main__":
    for each in run():
        print(each)
