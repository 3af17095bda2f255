"""The daemon goes and comes under a supervisor, while it is called and while another process waits for its ports."""

import json
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mdnp.store.sqlite import FILE
from rig.command import until
from rig.host import Host, Underlay
from rig.plugin import Plugin
from rig.process import Process
from rig.supervisor import Supervisor
from tests.ipam.house import request_address, request_pool
from tests.world import WEB, binding, create_endpoint, create_network, join, on_endpoint, publish

pytestmark = pytest.mark.root

POOL = "mdnp-local/10.9.0.0/24"
TCP_PORT, UDP_PORT, UDP = 8080, 5353, 17
RESTARTS = 5
ANSWER_S = 30.0

_hosts = count()

# Tries again and again to take the ports in every way that there is, and to connect to one that the daemon carries.
# It ends when it gets a port or is refused, and says so.
_THIEF = """
import errno, itertools, socket, sys, time
tcp, udp = map(int, sys.argv[1:])
ways = list(itertools.product(
    ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)),
    ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::"), (socket.AF_INET6, "::1")),
    ((), (socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT))))
for turn in itertools.count():
    if turn == 1:
        print("tried every way", flush=True)
    for (kind, port), (family, address), options in ways:
        with socket.socket(family, kind) as one:
            for option in options:
                one.setsockopt(socket.SOL_SOCKET, option, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                one.bind((address, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                print("took", kind.name, address, port, [option.name for option in options], flush=True)
                sys.exit(1)
    if turn % 32 == 0:  # the daemon carries so many at a time; what is on the other side does not matter here
        with socket.socket(socket.AF_INET6) as client:
            client.settimeout(20)
            client.connect(("::1", tcp))
    time.sleep(0.001)
"""


class Broken(Exception):
    """A call that was sent, or begun, and got no answer."""


class Caller:
    """
    Calls as Go's client does: what breaks on a kept connection before anything of it was written is repeated whole on
    a new one, and nothing else is; and a connection whose answer says that it ends is not kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: socket.socket | None = None

    def call(self, verb: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        data = json.dumps(body).encode()
        call = f"POST /{verb} HTTP/1.1\r\nHost: plugin\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
        connection = self._sent_on_kept(call)
        if connection is None:
            connection = self._connected()
            self._send(connection, call)
        self._kept = connection
        try:
            return self._answer(connection)
        except (OSError, EOFError) as error:
            self.close()
            raise Broken(f"{verb}: {error!r}") from error

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _sent_on_kept(self, call: bytes) -> socket.socket | None:
        kept, self._kept = self._kept, None
        if kept is not None:
            try:
                self._send(kept, call)
            except (BrokenPipeError, ConnectionResetError):
                kept.close()
                return None
        return kept

    def _send(self, connection: socket.socket, call: bytes) -> None:
        if connection.send(call) != len(call):
            raise Broken("a part was written")

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(ANSWER_S)
        connection.connect(str(self._path))
        return connection

    def _answer(self, connection: socket.socket) -> tuple[int, dict[str, Any]]:
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += _more(connection)
        head, _, body = heard.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += _more(connection)
        if b"connection: close" in head.lower():
            self.close()
        return int(head.split()[1]), json.loads(body)


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise EOFError("the connection ended")
    return data


@dataclass
class Traffic:
    """What callers at once went through: the calls that were answered, and all that went wrong."""

    answered: int = 0
    broken: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # answered with an error, or nobody there to connect to
    over: bool = False

    def flow(self, path: Path, *, kept: bool) -> None:
        caller = Caller(path)
        while not self.over:
            try:
                self._turn(caller, kept=kept)
            except Broken as error:
                self.broken.append(str(error))
            except OSError as error:
                self.failed.append(f"{error!r}")
        caller.close()

    def _turn(self, caller: Caller, *, kept: bool) -> None:
        """An address is taken and given back, and an endpoint asked about."""
        address = self._ok(caller, "IpamDriver.RequestAddress", request_address(POOL))["Address"]
        if not kept:
            caller.close()
        body = {"PoolID": POOL, "Address": address.partition("/")[0]}
        self._ok(caller, "IpamDriver.ReleaseAddress", body)
        self._ok(caller, "NetworkDriver.EndpointOperInfo", on_endpoint())
        if not kept:
            caller.close()

    def _ok(self, caller: Caller, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        status, reply = caller.call(verb, body)
        if status != 200:
            self.failed.append(f"{verb}: {status} {reply}")
            raise Broken(verb)
        self.answered += 1
        return reply


@contextmanager
def traffic(path: Path) -> Iterator[Traffic]:
    """Three callers that keep their connections, and two that open one for each call or two."""
    flowing = Traffic()
    threads = [
        threading.Thread(target=flowing.flow, args=(path,), kwargs={"kept": number < 3}, daemon=True)
        for number in range(5)
    ]
    for thread in threads:
        thread.start()
    try:
        yield flowing
    finally:
        flowing.over = True
        for thread in threads:
            thread.join(ANSWER_S)


@pytest.fixture
def plugin(underlay: Underlay) -> Iterator[Plugin]:
    """Started by a supervisor on a host of its own, with a pool, and an endpoint that publishes two ports."""
    plugin = Plugin(Host(underlay, f"sd{next(_hosts)}"), activated=True)
    supervisor = supervisor_of(plugin)
    plugin.start()
    try:
        promise(plugin)
        yield plugin
    finally:
        plugin.stop()
        supervisor.close()


def supervisor_of(plugin: Plugin) -> Supervisor:
    assert plugin.supervisor is not None
    return plugin.supervisor


def promise(plugin: Plugin) -> None:
    for verb, body in (
        ("IpamDriver.RequestPool", request_pool("10.9.0.0/24")),
        ("NetworkDriver.CreateNetwork", create_network()),
        ("NetworkDriver.CreateEndpoint", create_endpoint()),
        ("NetworkDriver.Join", join()),
        (
            "NetworkDriver.ProgramExternalConnectivity",
            publish((TCP_PORT, 80), binding(53, UDP_PORT, proto=UDP)),
        ),
    ):
        call(plugin, verb, body)


@contextmanager
def thief(host: Host) -> Iterator[Process]:
    process = host.spawn([sys.executable, "-c", _THIEF, str(TCP_PORT), str(UDP_PORT)], log="thief.log")
    until(lambda: not process.running or "tried every way" in process.tail(), "the thief to try")
    try:
        yield process
    finally:
        process.kill()


def call(plugin: Plugin, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """On a connection of its own."""
    caller = Caller(plugin.socket)
    status, reply = caller.call(verb, body)
    caller.close()
    assert status == 200, (verb, reply)
    return reply


def kept(plugin: Plugin) -> list[str]:
    supervisor = supervisor_of(plugin)
    supervisor.settle()
    return sorted(one.name for one in supervisor.kept)


def restart(plugin: Plugin) -> None:
    plugin.stop()
    plugin.start()


def crash(plugin: Plugin) -> None:
    plugin.kill()
    plugin.start()


def test_restarts_fail_no_call_and_free_no_port(plugin: Plugin) -> None:
    with traffic(plugin.socket) as flowing, thief(plugin.host) as waiting:
        for _ in range(RESTARTS):
            before = flowing.answered
            restart(plugin)
            until(lambda before=before: flowing.answered > before + 100, "calls to be answered")  # type: ignore[misc]
        stole = not waiting.running, waiting.tail()

    assert (flowing.broken, flowing.failed) == ([], [])
    assert not stole[0], stole[1]


def test_crashes_refuse_nobody_and_free_no_port(plugin: Plugin) -> None:
    """Calls that are under way break, and nothing else."""
    with traffic(plugin.socket) as flowing, thief(plugin.host) as waiting:
        for _ in range(RESTARTS):
            before = flowing.answered
            crash(plugin)
            until(lambda before=before: flowing.answered > before + 100, "calls to be answered")  # type: ignore[misc]
        stole = not waiting.running, waiting.tail()

    assert flowing.failed == []
    assert len(flowing.broken) <= 5 * RESTARTS
    assert not stole[0], stole[1]


def test_a_port_is_kept_as_long_as_it_is_published(plugin: Plugin) -> None:
    published = kept(plugin)
    restart(plugin)
    after = kept(plugin)
    with thief(plugin.host) as waiting:
        call(plugin, "NetworkDriver.RevokeExternalConnectivity", on_endpoint())
        until(lambda: not waiting.running, "the thief to take what was let go of")

    assert published == [
        "port/tcp/0.0.0.0/8080",
        "port/tcp/__/8080/10.1.0.2/80",
        "port/udp/0.0.0.0/5353",
        "port/udp/__/5353/10.1.0.2/53",
    ]
    assert (after, kept(plugin)) == (published, [])


def test_a_port_that_was_let_go_of_is_free_when_the_call_is_answered(plugin: Plugin) -> None:
    supervisor_of(plugin).lag_s = 0.05  # a busy systemd
    bind = [sys.executable, "-ISc", f"import socket; socket.socket().bind(('', {TCP_PORT}))"]
    for _ in range(3):
        call(plugin, "NetworkDriver.RevokeExternalConnectivity", on_endpoint())
        plugin.host.run(bind)
        call(plugin, "NetworkDriver.ProgramExternalConnectivity", publish((TCP_PORT, 80)))


def test_what_nobody_wants_any_more_is_let_go_of_at_the_start(plugin: Plugin) -> None:
    """The endpoint's record is gone, as when the last daemon was killed between its commit and the kernel's step."""
    plugin.kill()
    with closing(sqlite3.connect(plugin.host.state / FILE)) as store, store:
        store.execute("DELETE FROM endpoint")

    plugin.start()

    assert kept(plugin) == []


def test_the_supervisor_is_told_how_it_goes(plugin: Plugin) -> None:
    supervisor = supervisor_of(plugin)
    restart(plugin)

    assert supervisor.status.startswith("1 networks, 1 endpoints, 2 published ports; in sync")
    plugin.stop()
    supervisor.settle()
    assert supervisor.said[-2:] == ["STOPPING=1", "STATUS=answering what was asked"]
    assert supervisor.said.count("READY=1") == 2
    assert supervisor.said.count("STATUS=bringing the kernel in sync") == 2
    plugin.start()


def test_the_socket_stays_when_the_daemon_ends(plugin: Plugin) -> None:
    inode = plugin.socket.stat().st_ino
    plugin.stop()
    caller = Caller(plugin.socket)
    answers: list[int] = []
    waiting = threading.Thread(
        target=lambda: answers.append(caller.call("NetworkDriver.EndpointOperInfo", on_endpoint(WEB))[0])
    )
    waiting.start()

    plugin.start()
    waiting.join(ANSWER_S)

    assert (answers, plugin.socket.stat().st_ino) == ([200], inode)
    caller.close()
