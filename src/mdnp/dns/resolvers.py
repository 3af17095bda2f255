"""The servers that this host itself asks for names, as resolv.conf(5) tells them, for what is not ours."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from socket import SocketKind

from mdnp.dns import Unanswered, packets
from mdnp.dns.upstream import Forwarder, Together
from mdnp.model.network import IPAddress

PATH = Path("/etc/resolv.conf")

_PORT = 53
_MOST_SERVERS = 3  # MAXNS of glibc
_TIMEOUT_S, _LEAST_TIMEOUT_S, _MOST_TIMEOUT_S = 2, 1, 5  # glibc's own is 5: but who asks us waits no longer than that
_ATTEMPTS, _MOST_ATTEMPTS = 2, 3
_LOOK_S = 1.0
_NEXT = {packets.SERVFAIL, packets.NOTIMP, packets.REFUSED}  # for which glibc asks the next server


@dataclass(frozen=True)
class ResolvConf:
    servers: tuple[IPAddress, ...] = ()
    timeout_s: int = _TIMEOUT_S
    attempts: int = _ATTEMPTS


@dataclass(frozen=True)
class Standing:
    """Who is asked, and why nobody is if so."""

    servers: tuple[IPAddress, ...]
    trouble: str = ""


def read(text: str) -> ResolvConf:
    """What cannot be read is passed over, as glibc does it; a link-local address has its zone (fe80::1%eth0)."""
    servers: list[IPAddress] = []
    options: dict[str, int] = {}
    for line in text.splitlines():
        match line.split():  # a comment has its sign at the start of the line
            case ["nameserver", server, *_]:
                servers += _address(server)
            case ["options", *words]:
                options |= _numbers(words)
    return ResolvConf(
        tuple(dict.fromkeys(servers))[:_MOST_SERVERS],
        min(max(options.get("timeout", _TIMEOUT_S), _LEAST_TIMEOUT_S), _MOST_TIMEOUT_S),
        min(max(options.get("attempts", _ATTEMPTS), 1), _MOST_ATTEMPTS),
    )


def _address(text: str) -> list[IPAddress]:
    try:
        return [ip_address(text)]
    except ValueError:
        return []


def _numbers(words: list[str]) -> dict[str, int]:
    pairs = [word.partition(":") for word in words]
    return {name: int(number) for name, _, number in pairs if number.isascii() and number.isdigit()}


class HostResolvers:
    """
    An upstream that follows the file: at a question, once a second at most. The server that answered last is asked
    first. `own` says which addresses are served by us: to ask there would be to ask ourselves.
    """

    def __init__(
        self,
        own: Callable[[IPAddress], bool],
        path: Path = PATH,
        *,
        port: int = _PORT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = own
        self._path = path
        self._port = port
        self._clock = clock
        self._together = Together()
        self._looked = -_LOOK_S
        self._stamp: tuple[int, int, int] | None = None
        self._conf = ResolvConf()
        self._trouble = ""
        self._forwarders: dict[IPAddress, Forwarder] = {}

    @property
    def standing(self) -> Standing:
        self._look()
        servers = self._servers()
        return Standing(tuple(servers), "" if servers else self._why())

    async def ask(self, query: bytes, *, stream: bool) -> bytes:
        self._look()
        return await self._together.ask(query, stream=stream, upstream=self._ask_in_turn)

    def close(self) -> None:
        for forwarder in self._forwarders.values():
            forwarder.close()
        self._forwarders = {}

    async def _ask_in_turn(self, query: bytes, stream: bool) -> bytes:
        failures: dict[IPAddress, bytes] = {}
        trouble = self._why()
        for server in self._servers() * self._conf.attempts:
            if server in failures:
                continue
            try:
                answer = await self._forwarder(server).ask(query, stream=stream)
            except Unanswered as error:
                trouble = str(error)
                continue
            if packets.rcode(answer) not in _NEXT:
                self._prefer(server)
                return answer
            failures[server] = answer
        if not failures:
            raise Unanswered(trouble)
        return next(iter(failures.values()))

    def _servers(self) -> list[IPAddress]:
        """Asked now for each question: an address becomes ours when a network is made."""
        return [server for server in self._conf.servers if not self._own(server)]

    def _why(self) -> str:
        if self._trouble:
            return self._trouble
        if self._conf.servers:
            return f"all servers in {self._path} are mdnp itself; name another there for what is not in its networks"
        return f"{self._path} names no server; add a line `nameserver ADDRESS` for names outside of the networks"

    def _prefer(self, server: IPAddress) -> None:
        if server in self._conf.servers[1:]:
            others = (other for other in self._conf.servers if other != server)
            self._conf = ResolvConf((server, *others), self._conf.timeout_s, self._conf.attempts)

    def _forwarder(self, server: IPAddress) -> Forwarder:
        if server not in self._forwarders:
            self._forwarders[server] = Forwarder(
                lambda kind: _dial(server, self._port, kind),
                (str(server), self._port),
                timeout_s=self._conf.timeout_s,
                per_socket=1,
            )
        return self._forwarders[server]

    def _look(self) -> None:
        if self._clock() - self._looked < _LOOK_S:
            return
        self._looked = self._clock()
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
            if stamp == self._stamp:
                return
            self._conf, self._stamp, self._trouble = read(self._path.read_text(errors="replace")), stamp, ""
        except OSError as error:
            self._conf, self._stamp = ResolvConf(), None
            self._trouble = f"{self._path} cannot be read: {error.strerror}; names outside of the networks stay unknown"
        self._forwarders = {}  # what still waits at these is answered yet


def _dial(server: IPAddress, port: int, kind: SocketKind) -> socket.socket:
    family = socket.AF_INET if server.version == 4 else socket.AF_INET6
    opened = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if kind is SocketKind.SOCK_DGRAM:
            opened.connect((str(server), port))
    except OSError:
        opened.close()
        raise
    return opened
