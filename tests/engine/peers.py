"""
Peers: small programs that stories run in namespaces, to tell who sees whom.

    peers = Peers(story.testbed)                       (a context manager: what it started ends with it)
    peers.serve("web", 80)                             in a container: TCP and UDP, both families, all its addresses
    peers.serve(testbed.outside, 7000, name="world")   or in a namespace
    peers.ask(testbed.outside, "tcp:192.0.2.2:8080")   ["web sees 192.0.2.1"], or the reason: "refused", "silence", ...

Run as a program, this file needs nothing but the standard library, so that it starts in a moment.
"""

import argparse
import errno
import json
import os
import re
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rig.command import Result
    from rig.host import Namespace
    from rig.process import Process
    from rig.testbed import Testbed

# ---------------------------------------------------------------------------------------------- the story's side

_READY = "ready"
_PATIENCE_S = 10.0


class Peers:
    """Starts peers in containers (by name) and in namespaces; all that still run end with it."""

    def __init__(self, testbed: "Testbed") -> None:
        self._testbed = testbed
        self._stack = ExitStack()
        self._numbers = count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def serve(self, place: "str | Namespace", *ports: int, name: str = "", address: str = "::") -> "Process":
        """Answer every client on these TCP and UDP ports with `NAME sees ADDRESS`; by default on all addresses."""
        return self._start(place, "serve", name or _label(place), address, *map(str, ports))

    def hold(self, place: "str | Namespace", *targets: str) -> "Process":
        """A process that is in the way: it has bound the targets and does nothing with them."""
        return self._start(place, "hold", *targets)

    def ask(
        self,
        place: "str | Namespace",
        *targets: str,
        within_s: float = 3.0,
        source_port: int = 0,
        load: int = 1,
        whole: bool = False,
    ) -> list[str]:
        """
        What the servers at `targets` (tcp:192.0.2.2:80, udp:[::1]:80) answered, asked all at once.

        Without an answer, why: refused, reset, unreachable, silence, closed, too big. `load` bytes are sent; if there
        is more than one, the server says how many came. `whole`: nobody may break a packet into fragments.
        """
        options = [f"--within={within_s}", f"--source-port={source_port}", f"--load={load}", *["--whole"] * whole]
        return self._told(place, "ask", *options, *targets)

    def listen(self, place: "str | Namespace", *groups: str) -> "Hearing":
        """Join multicast groups (udp:224.0.0.251:5353) on eth0: the datagrams that arrive, each as `SENDER TEXT`."""
        return Hearing(self._start(place, "listen", *groups))

    def shout(self, place: "str | Namespace", text: str, *groups: str) -> None:
        """Send a datagram to each group, from eth0."""
        self._told(place, "shout", text, *groups)

    def free(self, place: "str | Namespace", *targets: str) -> list[str]:
        """Whether a process there can bind each target: `free`, or why not: `in use`, `no such address`."""
        return self._told(place, "bind", *targets)

    def poll(self, place: "str | Namespace", target: str, every_s: float = 0.005) -> "Poll":
        """Ask `target` again and again, each time by a new connection, until told to end."""
        return Poll(self._start(place, "poll", f"--every={every_s}", target))

    def echo(self, place: "str | Namespace", port: int) -> "Process":
        """Send back to every TCP client what it sends."""
        return self._start(place, "echo", str(port))

    def stream(self, place: "str | Namespace", target: str) -> "Stream":
        """Send numbers to an echo, and read them back, over one connection until told to end."""
        return Stream(self._start(place, "stream", target))

    def ping(self, place: "str | Namespace", address: str) -> "Pings":
        """Ten pings a second, until told to end."""
        log = self._log()
        command = self._entered(place, ["busybox", "ping", "-i", "0.1", address])
        process = self._testbed.host.rig.spawn(command, log=log)
        self._stack.callback(process.kill)
        return Pings(process)

    def hear(self, place: "str | Namespace", what: str) -> "Hearing":
        """Listen for `echo` (ping, both families) or `sctp` (INIT): who sent it, and for SCTP to which port."""
        return Hearing(self._start(place, "hear", what))

    def send_init(self, place: "str | Namespace", address: str, port: int) -> None:
        """Send the first packet of an SCTP association. This kernel has no SCTP, so it is made by hand."""
        self._told(place, "init", address, str(port))

    def run(self, place: "str | Namespace", command: Sequence[str]) -> "Result":
        """Run any command of the machine's there; its end is not checked."""
        if isinstance(place, str):
            return self._testbed.sandbox(place, command)
        return place.run(command, check=False)

    def _told(self, place: "str | Namespace", *arguments: str) -> list[str]:
        told: list[str] = json.loads(self.run(place, _program(arguments)).checked().out)
        return told

    def _log(self) -> Path:
        return self._testbed.host.log / f"peer-{next(self._numbers)}-{time.monotonic_ns()}.log"

    def _start(self, place: "str | Namespace", *arguments: str) -> "Process":
        log = self._log()
        process = self._testbed.host.rig.spawn(self._entered(place, _program(arguments)), log=log)
        self._stack.callback(process.kill)
        _wait(lambda: _READY in log.read_text() or not process.running)
        if not process.running:
            raise AssertionError(f"a peer does not start: {process.tail()}")
        return process

    def _entered(self, place: "str | Namespace", command: list[str]) -> list[str]:
        if isinstance(place, str):
            key = self._testbed.engine.docker("inspect", "--format={{.NetworkSettings.SandboxKey}}", place)
            return ["nsenter", f"--net={key}", "--", *command]
        return place.enter(command)


@dataclass(frozen=True)
class Poll:
    """A client that asks again and again."""

    process: "Process"

    def end(self) -> tuple[int, list[str]]:
        """Stop it: how often it was answered, and what went wrong between."""
        self.process.stop()
        answered, faults = json.loads(self.process.log.read_text().splitlines()[-1])
        return answered, faults


@dataclass(frozen=True)
class Stream:
    """A connection that is never silent."""

    process: "Process"

    def end(self) -> tuple[int, int, str]:
        """End it in order: the bytes sent, those that came back, and what went wrong."""
        self.process.stop()
        sent, received, fault = json.loads(self.process.log.read_text().splitlines()[-1])
        return sent, received, fault


@dataclass(frozen=True)
class Pings:
    """One who pings."""

    process: "Process"
    began: float = field(default_factory=time.monotonic)

    def end(self) -> tuple[float, list[int]]:
        """Stop it: how many were answered in a second, and the numbers of those that were not."""
        seconds = time.monotonic() - self.began
        os.kill(self.process.pid, signal.SIGINT)  # then it writes down all that it heard
        self.process.wait(_PATIENCE_S)
        answered = {int(number) for number in re.findall(r"seq=(\d+)", self.process.log.read_text())}
        return len(answered) / seconds, sorted(set(range(max(answered, default=0))) - answered)


@dataclass(frozen=True)
class Hearing:
    """A listener on the raw wire."""

    process: "Process"

    @property
    def heard(self) -> set[str]:
        """`ADDRESS` for each ping's sender, `ADDRESS PORT` for each SCTP INIT, `ADDRESS TEXT` for each datagram."""
        return set(self.process.log.read_text().splitlines()) - {_READY}


def target(protocol: str, address: object, port: int) -> str:
    """As `Peers.ask` and its like read it: tcp:192.0.2.2:80, udp:[::1]:80."""
    return f"{protocol}:{f'[{address}]' if ':' in str(address) else address}:{port}"


def _label(place: "str | Namespace") -> str:
    return place if isinstance(place, str) else place.label


def _program(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *arguments]


def _wait(true: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"a peer was not ready within {_PATIENCE_S:g} s")
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------------ the programs

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_REASONS = {
    errno.EADDRINUSE: "in use",
    errno.EADDRNOTAVAIL: "no such address",
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "prohibited",
    errno.EPERM: "prohibited",
    errno.EMSGSIZE: "too big",
}
_SCTP = 132
# Don't fragment, and don't care what was heard of the path (IP_PMTUDISC_PROBE; the module socket has no names for it).
_WHOLE = {
    socket.AF_INET: [(socket.IPPROTO_IP, 10, 3)],
    socket.AF_INET6: [(socket.IPPROTO_IPV6, 23, 3), (socket.IPPROTO_IPV6, 62, 1)],
}
_INTERFACE = "eth0"
_STREAM_INTERVAL_S = 0.01
_NUMBERS = 512  # in a chunk


@dataclass(frozen=True)
class _Target:
    protocol: str
    address: str
    port: int

    @classmethod
    def read(cls, text: str) -> Self:
        protocol, _, rest = text.partition(":")
        address, _, port = rest.rpartition(":")
        return cls(protocol, address.strip("[]"), int(port))

    @property
    def family(self) -> socket.AddressFamily:
        return _family(self.address)

    def opened(self) -> socket.socket:
        return socket.socket(self.family, _KINDS[self.protocol])

    def bound(self) -> socket.socket:
        """Bound with SO_REUSEADDR, so that only a live holder is in the way and no connection that ended lately."""
        held = self.opened()
        if self.protocol == "tcp":
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.bind((self.address, self.port))
        return held


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _serve(name: str, address: str, ports: Iterable[int]) -> None:
    for port in ports:
        for kind, run in ((socket.SOCK_STREAM, _serve_tcp), (socket.SOCK_DGRAM, _serve_udp)):
            server = socket.socket(_family(address), kind)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if server.family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.bind((address, port))
            if kind == socket.SOCK_STREAM:
                server.listen(512)
            threading.Thread(target=run, args=(name, server)).start()
    _say(_READY)


def _serve_tcp(name: str, server: socket.socket) -> None:
    while True:
        connection, peer = server.accept()
        threading.Thread(target=_answer_tcp, args=(name, connection, peer)).start()


def _answer_tcp(name: str, connection: socket.socket, peer: tuple[Any, ...]) -> None:
    """After the client has ended its side: so what was sent is read first, and both directions are used."""
    with connection, suppress(OSError):
        length = 0
        while data := connection.recv(65536):
            length += len(data)
        connection.sendall(_answer(name, peer, length))


def _serve_udp(name: str, server: socket.socket) -> None:
    while True:
        with suppress(OSError):
            data, peer = server.recvfrom(65536)
            server.sendto(_answer(name, peer, len(data)), peer)


def _answer(name: str, peer: tuple[Any, ...], length: int) -> bytes:
    address = str(peer[0]).removeprefix("::ffff:")
    return f"{name} sees {address}{f' and {length} bytes' if length > 1 else ''}".encode()


@dataclass(frozen=True)
class _Question:
    within_s: float
    source_port: int = 0
    load: int = 1
    whole: bool = False


def _ask(target: _Target, question: _Question) -> str:
    source_port, load = question.source_port, question.load
    with target.opened() as client:
        client.settimeout(question.within_s)
        for option in _WHOLE[target.family] if question.whole else []:
            client.setsockopt(*option)
        try:
            if source_port:
                _bind_to(client, source_port)
            client.connect((target.address, target.port))
            client.sendall(b"?" * load)
            if target.protocol == "tcp":
                client.shutdown(socket.SHUT_WR)
            return client.recv(4096).decode() or "closed"
        except TimeoutError:
            return "silence"
        except OSError as error:
            return _reason(error)


def _bind_to(client: socket.socket, source_port: int) -> None:
    """Of one family only, so that clients of both can have the same port."""
    if client.family == socket.AF_INET6:
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    client.bind(("", source_port))


def _ask_all(targets: Sequence[_Target], question: _Question) -> list[str]:
    with ThreadPoolExecutor(len(targets)) as pool:
        return list(pool.map(lambda target: _ask(target, question), targets))


def _poll(target: _Target, every_s: float) -> None:
    ended: list[int] = []  # no Event: set by a handler while its own thread begins to wait, it would wait for ever
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    answered, faults = 0, []
    _say(_READY)
    began = time.monotonic()
    while not ended:
        answer = _ask(target, _Question(2.0))
        if " sees " in answer:
            answered += 1
        else:
            faults.append(f"after {time.monotonic() - began:.3f} s: {answer}")
        time.sleep(every_s)
    _say(json.dumps([answered, faults]))


def _echo_to_all(port: int) -> None:
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    _say(_READY)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_echo_tcp, args=(connection,)).start()


def _echo_tcp(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data)


def _stream(target: _Target) -> None:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    received = bytearray()
    sent: list[bytes] = []
    fault = ""
    with target.opened() as client:
        client.settimeout(_PATIENCE_S)
        client.connect((target.address, target.port))
        sender = threading.Thread(target=_send_numbers, args=(client, sent, ended))
        sender.start()
        _say(_READY)
        try:
            while data := client.recv(65536):
                received += data
        except OSError as error:
            fault = _reason(error)
        ended.set()
        sender.join()
    if b"".join(sent) != received:
        fault = fault or "not what was sent"
    _say(json.dumps([sum(map(len, sent)), len(received), fault]))


def _send_numbers(client: socket.socket, sent: list[bytes], ended: threading.Event) -> None:
    with suppress(OSError):
        while not ended.wait(_STREAM_INTERVAL_S):
            first = len(sent) * _NUMBERS
            chunk = struct.pack(f"!{_NUMBERS}Q", *range(first, first + _NUMBERS))
            sent.append(chunk)
            client.sendall(chunk)
        client.shutdown(socket.SHUT_WR)


def _hold(targets: Iterable[_Target]) -> None:
    held = [target.bound() for target in targets]
    for one in held:
        if one.type == socket.SOCK_STREAM:
            one.listen()
    _say(_READY)
    signal.pause()


def _bind(target: _Target) -> str:
    try:
        with target.bound() as held:
            if target.protocol == "tcp":
                held.listen()
    except OSError as error:
        return _reason(error)
    return "free"


def _hear(what: str) -> None:
    protocols = {"echo": (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6), "sctp": (_SCTP, _SCTP)}[what]
    read = {"echo": _echo, "sctp": _init_port}[what]
    wires = [
        socket.socket(family, socket.SOCK_RAW, protocol)
        for family, protocol in zip((socket.AF_INET, socket.AF_INET6), protocols, strict=True)
    ]
    _say(_READY)
    while True:
        for wire in select.select(wires, [], [])[0]:
            packet, peer = wire.recvfrom(65536)
            # Of IPv4 the whole packet comes, of IPv6 what is after the header.
            body = packet[4 * (packet[0] & 15) :] if wire.family == socket.AF_INET else packet
            heard = read(body)
            if heard is not None:
                _say(f"{peer[0]} {heard}".strip())


def _listen(groups: Iterable[_Target]) -> None:
    for group in groups:
        server = socket.socket(group.family, socket.SOCK_DGRAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        number = socket.if_nametoindex(_INTERFACE)
        address = socket.inet_pton(group.family, group.address)
        if group.family == socket.AF_INET:
            server.bind((group.address, group.port))
            joined = address + bytes(4) + struct.pack("@I", number)
            server.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        else:
            server.bind((group.address, group.port, 0, number))
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, address + struct.pack("@I", number))
        threading.Thread(target=_retell, args=(server,), daemon=True).start()
    _say(_READY)
    signal.pause()


def _retell(server: socket.socket) -> None:
    while True:
        data, peer = server.recvfrom(65536)
        _say(f"{peer[0].partition('%')[0]} {data.decode()}")


def _shout(text: str, groups: Iterable[_Target]) -> None:
    for group in groups:
        with group.opened() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _INTERFACE.encode())
            client.sendto(text.encode(), (group.address, group.port))
    _say("[]")


def _echo(body: bytes) -> str | None:
    """Echo requests only: 8 in ICMP, 128 in ICMPv6."""
    return "" if body[0] in (8, 128) else None


def _init_port(body: bytes) -> str | None:
    """The destination port of a packet that begins with INIT (chunk 1)."""
    return str(struct.unpack_from("!H", body, 2)[0]) if len(body) > 12 and body[12] == 1 else None


def _init(address: str, port: int) -> None:
    """An SCTP packet with one INIT chunk (RFC 9260): conntrack drops it if the checksum is wrong."""
    with socket.socket(_family(address), socket.SOCK_RAW, _SCTP) as wire:
        chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 0x6D646E70, 65536, 1, 1, 1)
        head = struct.pack("!HHI", 40000 + port % 1000, port, 0)
        checksum = struct.pack("<I", _crc32c(head + bytes(4) + chunk))
        wire.sendto(head + checksum + chunk, (address, 0))
    _say("[]")


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, str(error))


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- what a program says is its result


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    serve.add_argument("name")
    serve.add_argument("address")
    serve.add_argument("ports", type=int, nargs="+")
    ask = commands.add_parser("ask")
    ask.add_argument("--within", type=float)
    ask.add_argument("--source-port", type=int)
    ask.add_argument("--load", type=int)
    ask.add_argument("--whole", action="store_true")
    ask.add_argument("targets", type=_Target.read, nargs="+")
    commands.add_parser("shout").add_argument("text")
    commands.choices["shout"].add_argument("targets", type=_Target.read, nargs="+")
    for name in ("hold", "bind", "listen"):
        commands.add_parser(name).add_argument("targets", type=_Target.read, nargs="+")
    poll = commands.add_parser("poll")
    poll.add_argument("--every", type=float)
    poll.add_argument("target", type=_Target.read)
    commands.add_parser("echo").add_argument("port", type=int)
    commands.add_parser("stream").add_argument("target", type=_Target.read)
    commands.add_parser("hear").add_argument("what")
    init = commands.add_parser("init")
    init.add_argument("address")
    init.add_argument("port", type=int)
    return parser.parse_args()


def _asked(given: argparse.Namespace) -> _Question:
    return _Question(given.within, given.source_port, given.load, given.whole)


def main() -> None:
    given = _read_arguments()
    run: dict[str, Callable[[], object]] = {
        "serve": lambda: _serve(given.name, given.address, given.ports),
        "ask": lambda: _say(json.dumps(_ask_all(given.targets, _asked(given)))),
        "bind": lambda: _say(json.dumps([_bind(target) for target in given.targets])),
        "hold": lambda: _hold(given.targets),
        "poll": lambda: _poll(given.target, given.every),
        "echo": lambda: _echo_to_all(given.port),
        "stream": lambda: _stream(given.target),
        "hear": lambda: _hear(given.what),
        "listen": lambda: _listen(given.targets),
        "shout": lambda: _shout(given.text, given.targets),
        "init": lambda: _init(given.address, given.port),
    }
    run[given.command]()


if __name__ == "__main__":
    main()
