"""
What systemd gives to a service: sockets that outlive it, and an ear for how it is (sd_listen_fds(3), sd_notify(3)).

Both come in the environment, which is read once. Without systemd nothing is inherited and nobody listens: all is as if
this module were not there.
"""

import asyncio
import logging
import os
import select
import socket
import struct
from array import array
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mdnp.model.tcp_address import TcpAddress

log = logging.getLogger(__name__)

# LISTEN_FDNAMES is one string of the next start's environment, and execve refuses one of 128 KiB: with more names the
# daemon could never be started again.
NAMES_LIMIT = 96 * 1024

_FIRST_FD = 3
_VARIABLES = (
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "FDSTORE",
)
_PATIENCE_S = 2.0  # with a systemd that does not read
_BEAT_S = 10.0  # how old what `systemctl status` shows may be


@dataclass(frozen=True)
class Inherited:
    """A socket that was open at our start, and the name that it came with."""

    name: str
    socket: socket.socket


class Ear:
    """Takes what a service tells of itself. Nobody waits for it longer than `patience_s`, and a failure is logged."""

    def __init__(self, address: str = "", patience_s: float = _PATIENCE_S) -> None:
        """`address` is a path, or an abstract one that begins with @; others (vsock) are for whole machines."""
        self.patience_s = patience_s
        self.listens = address[:1] in ("/", "@") and len(address) > 1
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._time_limit = struct.pack("ll", int(patience_s), int(patience_s % 1 * 1e6))

    def tell(self, *assignments: str, fds: Sequence[int] = ()) -> None:
        if not self.listens:
            return
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, self._time_limit)
                one.sendmsg(["\n".join(assignments).encode()], rights, 0, self._address)
        except OSError as error:
            log.warning("systemd does not hear %s: %s", assignments[0], error.strerror)


class FDStore:
    """
    Keeps sockets for the next start, however this process ends. One thread at a time calls.

    `inherited` is what nobody has taken yet, of the store as of systemd's own sockets.
    """

    def __init__(self, ear: Ear | None = None, inherited: Sequence[Inherited] = ()) -> None:
        self._ear = ear or Ear()
        self.inherited = list(inherited)
        self._names = {one.name for one in inherited}
        self._length = sum(len(one.name) + 1 for one in inherited)  # of all names, with what stands between them
        self._removed = False

    def take(self, prefix: str) -> list[Inherited]:
        """Those inherited whose names begin so. They stay in the store."""
        taken = [one for one in self.inherited if one.name.startswith(prefix)]
        self.inherited = [one for one in self.inherited if not one.name.startswith(prefix)]
        return taken

    def put(self, name: str, one: socket.socket) -> None:
        """
        Keep a socket: at most 255 printable characters of ASCII and no colon are a name.

        systemd 246 or newer: others throw out a socket that polls as hung up, as one does that only has a port.
        """
        if not self._ear.listens:
            return
        if self._length + len(name) > NAMES_LIMIT:
            log.warning("systemd is not given %s: so many sockets would keep the next daemon from starting", name)
            return
        self._names.add(name)
        self._length += len(name) + 1
        self._ear.tell("FDSTORE=1", "FDPOLL=0", f"FDNAME={name}", fds=[one.fileno()])

    def remove(self, name: str) -> None:
        """Keep it no more; `settle` waits until it is closed."""
        if name in self._names:
            self._names.remove(name)
            self._length -= len(name) + 1
            self._ear.tell("FDSTOREREMOVE=1", f"FDNAME={name}")
            self._removed = True

    def settle(self) -> None:
        """Wait until what was removed is closed (sd_notify_barrier(3)): a port is free with its last socket only."""
        if not self._removed or not self._ear.listens:
            return
        self._removed = False
        try:
            read, write = os.pipe()
        except OSError as error:
            log.warning("systemd is not waited for: %s", error.strerror)
            return
        self._ear.tell("BARRIER=1", fds=[write])
        os.close(write)
        ends = select.poll()
        ends.register(read, 0)  # the end of the other side is always told
        if not ends.poll(self._ear.patience_s * 1000):
            log.warning("systemd does not answer: ports that were let go of may still be taken")
        os.close(read)


class Systemd:
    """Made by `taken_from`."""

    def __init__(self, ear: Ear, fds: FDStore, watchdog_s: float = 0) -> None:
        """Without a sign of life in each `watchdog_s` seconds systemd ends us; 0: it does not watch."""
        self.fds = fds
        self._ear = ear
        self._watchdog_s = watchdog_s
        self._said = ""
        self._stops = False

    @classmethod
    def taken_from(cls, environment: MutableMapping[str, str]) -> "Systemd":
        """What the environment says; it is taken out of there, since the programs that we call are not meant."""
        given = {name: environment.pop(name, "") for name in _VARIABLES}
        ear = Ear(given["NOTIFY_SOCKET"])
        inherited = _inherited(given) if given["LISTEN_PID"] == str(os.getpid()) else []
        watched = given["WATCHDOG_PID"] in ("", str(os.getpid()))
        return cls(ear, FDStore(ear, inherited), _number(given["WATCHDOG_USEC"]) / 1e6 if watched else 0)

    def listener(self, path: Path, name: str = "") -> socket.socket | None:
        """The unix socket on which systemd listens at `path`; else one of this name, wherever it is."""
        listening = [one for one in self.fds.inherited if _listens(one.socket, socket.AF_UNIX)]
        found = next((one for one in listening if _place(one.socket) == path.resolve()), None)
        if found is None:
            found = next((one for one in listening if one.name == name), None)
            if found is None:
                return None
            log.warning("serving on %s, where %s listens, and not on %s", _place(found.socket), name, path)
        self.fds.inherited.remove(found)
        return found.socket

    def tcp_listener(self, address: TcpAddress) -> socket.socket | None:
        """The socket on which systemd listens at that port, on whichever address."""
        for one in self.fds.inherited:
            if _listens(one.socket, socket.AF_INET, socket.AF_INET6) and one.socket.getsockname()[1] == address.port:
                self.fds.inherited.remove(one)
                return one.socket
        return None

    def close_rest(self) -> None:
        """Let go of what nobody has taken: of an older daemon, or of a unit that names more than we know."""
        rest, self.fds.inherited = self.fds.inherited, []
        for one in rest:
            log.warning("systemd gave a socket %s that has no use here: it is closed", one.name)
            one.socket.close()
            self.fds.remove(one.name)

    async def starting(self, status: str) -> None:
        await self._tell(f"STATUS={status}")

    async def ready(self, status: str) -> None:
        await self._tell("READY=1", f"STATUS={status}")

    async def stopping(self, status: str) -> None:
        self._stops = True
        await self._tell("STOPPING=1", f"STATUS={status}")

    async def run(self, status: Callable[[], str]) -> None:
        """Show how we are, and that the loop runs, until we stop: from then on systemd does not watch."""
        while self._ear.listens:
            await asyncio.sleep(min(self._watchdog_s / 2 or _BEAT_S, _BEAT_S))
            if self._stops:
                return
            alive = ["WATCHDOG=1"] if self._watchdog_s else []
            said, self._said = self._said, status()
            news = [f"STATUS={self._said}"] if self._said != said else []
            if alive or news:
                await self._tell(*alive, *news)

    async def _tell(self, *assignments: str) -> None:
        await asyncio.to_thread(self._ear.tell, *assignments)


def _inherited(given: MutableMapping[str, str]) -> list[Inherited]:
    count = _number(given["LISTEN_FDS"])
    names = given["LISTEN_FDNAMES"].split(":")
    names += ["unknown"] * (count - len(names))
    found = []
    for fd, name in enumerate(names[:count], _FIRST_FD):
        try:
            os.set_inheritable(fd, False)
            found.append(Inherited(name, socket.socket(fileno=fd)))
        except OSError as error:
            log.warning("systemd gave %s, which is no socket: %s", name, error.strerror)
            with suppress(OSError):
                os.close(fd)
    return found


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _listens(one: socket.socket, *families: int) -> bool:
    listens = one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return bool(listens) and one.family in families


def _place(one: socket.socket) -> Path | None:
    address = one.getsockname()
    return Path(address).resolve() if isinstance(address, str) and address.startswith("/") else None
