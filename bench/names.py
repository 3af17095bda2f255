"""
Questions of names over UDP, in a network namespace of their own: what the zone has, and what goes on to a server that
answers at once.

The daemon's own server serves in a process of its own, as does that which it asks. Clients are threads of this process,
each with one question under way. All share the processors; `bare` asks the server behind itself: what the other rows
have of the clients and of the kernel.
"""

import asyncio
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from socket import SocketKind
from typing import Any

import dns.message

from bench.client import namespace_holder
from bench.inside import enter, made
from mdnp.dns import Answer, Kind, Question, Record, Scope
from mdnp.dns.askers import Limits
from mdnp.dns.resolvers import HostResolvers
from mdnp.dns.server import Server
from mdnp.dns.upstream import Forwarder

_CLIENTS = (1, 16)
_QUESTIONS = 4000  # by all clients of a round together
_ROUNDS = 5
_NAMES = 10_000  # that the zone has
_HOST = "127.0.0.1"
_EMBEDDED, _GATEWAY, _BEHIND = 5301, 5302, 5303
_NO_LIMITS = Limits(questions_per_s=1e9)  # one address asks here for all containers of a host
_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class _Way:
    """Names that are asked for at a port, each client its own: who ask the same share answers."""

    what: str
    port: int
    name: str


_WAYS = (
    _Way("zone", _EMBEDDED, "web-{}.blue.mdnp"),
    _Way("forwarded in a sandbox", _EMBEDDED, "www-{}.example"),
    _Way("forwarded to the host's servers", _GATEWAY, "www-{}.example"),
    _Way("bare", _BEHIND, "www-{}.example"),
)


@dataclass(frozen=True)
class _Round:
    took_s: float
    computed_s: float  # by the server that is measured
    questions: list[float]  # the time of each, in seconds


def run() -> list[dict[str, Any]]:
    """A row for each way and number of clients: questions a second, the time of one in ms; medians of the rounds."""
    rounds: dict[tuple[_Way, int], list[_Round]] = {(way, clients): [] for way in _WAYS for clients in _CLIENTS}
    with namespace_holder() as holder:
        namespace = Path(f"/proc/{holder.pid}/ns/net")
        subprocess.run(enter(namespace, ["ip", "link", "set", "lo", "up"]), check=True)
        with _process(namespace, "behind") as behind, _process(namespace, "serve") as server:
            for number in range(_ROUNDS + 1):
                for (way, clients), measured in rounds.items():  # in turn, so that the machine's moods fall on all
                    one = _round(namespace, way, clients, behind if way.port == _BEHIND else server)
                    if number > 0:  # the first warms up
                        measured.append(one)
    return [_row(way, clients, measured) for (way, clients), measured in rounds.items()]


@contextmanager
def _process(namespace: Path, what: str) -> Iterator[int]:
    """This module in the namespace, as one of the servers; its pid."""
    command = enter(namespace, [sys.executable, "-m", "bench.names", what])
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError(f"the server `{what}` does not start")
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _round(namespace: Path, way: _Way, clients: int, server: int) -> _Round:
    sockets = [made(namespace, lambda: _connected(way.port)) for _ in range(clients)]
    questions: list[float] = []
    threads = [
        threading.Thread(target=_ask, args=(one, way.name.format(number), _QUESTIONS // clients, questions.append))
        for number, one in enumerate(sockets)
    ]
    computed, start = _computed_s(server), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    for one in sockets:
        one.close()
    if len(questions) < _QUESTIONS // clients * clients:
        raise RuntimeError(f"{way.what}: {len(questions)} of {_QUESTIONS} questions were answered")
    return _Round(took, _computed_s(server) - computed, questions)


def _connected(port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.settimeout(_TIMEOUT_S)
    opened.connect((_HOST, port))
    return opened


def _ask(opened: socket.socket, name: str, count: int, tell: Callable[[float], None]) -> None:
    query = dns.message.make_query(name, "A", use_edns=0, payload=1232).to_wire()
    for _ in range(count):
        identity = secrets.token_bytes(2)
        start = time.perf_counter()
        opened.send(identity + query[2:])
        answer = opened.recv(4096)
        if answer[:2] != identity or answer[3] & 0xF or answer[6:8] == b"\0\0":
            return
        tell(time.perf_counter() - start)


def _computed_s(pid: int) -> float:
    spent = [task.read_text().split()[0] for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(map(int, spent)) / 1e9


def _row(way: _Way, clients: int, measured: list[_Round]) -> dict[str, Any]:
    rates = [len(one.questions) / one.took_s for one in measured]
    centiles = [statistics.quantiles(one.questions, n=100) for one in measured]
    return {
        "way": way.what,
        "clients": clients,
        "questions_per_s": round(statistics.median(rates)),
        "questions_per_s_min": round(min(rates)),
        "questions_per_s_max": round(max(rates)),
        "p50_ms": round(statistics.median(one[49] for one in centiles) * 1000, 3),
        "p99_ms": round(statistics.median(one[98] for one in centiles) * 1000, 3),
        "computed_us": round(statistics.median(one.computed_s / len(one.questions) for one in measured) * 1e6),
    }


class _Zone:
    """Answers by name from memory, of many."""

    def __init__(self) -> None:
        first = int(ip_address("10.50.0.0"))
        self._answers = {
            name: Answer((Record(name, Kind.A, IPv4Address(first + number)),))
            for number, name in enumerate(f"web-{number}.blue.mdnp" for number in range(_NAMES))
        }

    def find(self, question: Question) -> Answer | None:
        return self._answers.get(question.name)


async def _serve() -> None:
    """The server with what stands behind it in a sandbox, and with what stands behind it at a gateway."""
    zone = _Zone()
    with tempfile.NamedTemporaryFile("w", prefix="mdnp-bench-") as file:
        file.write(f"nameserver {_HOST}\n")
        file.flush()
        embedded = Scope(zone, Forwarder(_dial, (_HOST, _BEHIND)), embedded=True)
        gateway = Scope(zone, HostResolvers(lambda _address: False, Path(file.name), port=_BEHIND))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_served(Server(lambda _address: embedded, _NO_LIMITS), _EMBEDDED))
            tasks.create_task(_served(Server(lambda _address: gateway, _NO_LIMITS), _GATEWAY))
            print("ready", flush=True)


async def _served(server: Server, port: int) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    datagrams.bind((_HOST, port))
    with datagrams, socket.create_server((_HOST, port)) as streams:
        streams.setblocking(False)
        await server.serve(datagrams, streams)


def _dial(kind: SocketKind) -> socket.socket:
    opened = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    opened.connect((_HOST, _BEHIND))
    return opened


def _behind() -> None:
    """Answers each question with the same address, as fast as Python can."""
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4" + ip_address("192.0.2.1").packed
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind((_HOST, _BEHIND))
        print("ready", flush=True)
        while True:
            query, source = opened.recvfrom(4096)
            end = query.index(b"\0", 12) + 5
            opened.sendto(query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + record, source)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["behind"]:
            _behind()
        case ["serve"]:
            asyncio.run(_serve())
        case _:
            for row in run():
                print(row)
