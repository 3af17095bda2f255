"""
systemd's part in the life of a daemon, played without systemd.

It listens in the daemon's place, starts it with the sockets, hears what it tells and keeps what it is given to keep.
What is done here was seen to be done by systemd 252, as pid 1 of a namespace: a kept socket is handed out at each start
and stays until it is taken back; one that polls as hung up is thrown out, unless it came with FDPOLL=0.
"""

import os
import select
import socket
import sys
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.command import RigError

NAME = "mdnp.socket"  # as systemd calls a unit's socket if the unit says nothing else

_BACKLOG = 4096  # systemd's
_FDS = 253  # of one message
_ROOM = 4096
_HEARD, _CLOSE = b"X_HEARD=1", b"X_CLOSE=1"  # our own
_HEAR_S = 10.0

# The pid is known to the process alone, before it becomes the daemon; sockets are numbered from 3 on.
_LAUNCH = """
import fcntl, os, sys
fds, names, *command = sys.argv[1:]
fds = [int(fd) for fd in fds.split(",")]
above = [fcntl.fcntl(fd, fcntl.F_DUPFD, 3 + len(fds)) for fd in fds]
for place, fd in enumerate(above, 3):
    os.dup2(fd, place)
os.closerange(3 + len(fds), max(fds + above) + 1)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.execvp(command[0], command)
"""


@dataclass(frozen=True)
class Kept:
    """A socket in the FD store."""

    name: str
    socket: socket.socket


class Supervisor:
    """
    `listening` stands at `path` until `close`, whether a daemon runs or not; `said` is all that was told, in order.

    Only the process of `started` is heard, as with NotifyAccess=main, and each word only after `lag_s` seconds.
    """

    def __init__(self, path: Path, notify: Path) -> None:
        self.listening = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self.listening.bind(str(path))
        path.chmod(0o600)
        self.listening.listen(_BACKLOG)
        self.kept: list[Kept] = []
        self.said: list[str] = []
        self.ready = threading.Event()
        self.lag_s = 0.0
        self.env: Mapping[str, str] = {"NOTIFY_SOCKET": str(notify)}
        self._pid = 0
        self._heard = threading.Event()
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.unlink(missing_ok=True)
        self._ear.bind(str(notify))
        self._ear.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._mouth.connect(str(notify))
        self._thread = threading.Thread(target=self._hear, name="supervisor", daemon=True)
        self._thread.start()

    def launch(self, command: Sequence[str | Path]) -> tuple[list[str], list[int]]:
        """`command` as it is started with the sockets, and these, which it must be given under their numbers here."""
        self.settle()
        sockets = {self.listening.fileno(): NAME} | {one.socket.fileno(): one.name for one in self.kept}
        numbers, names = ",".join(map(str, sockets)), ":".join(sockets.values())
        return [sys.executable, "-ISc", _LAUNCH, numbers, names, *map(str, command)], list(sockets)

    def settle(self) -> None:
        """Hear all that was told so far."""
        self._heard.clear()
        self._mouth.send(_HEARD)
        if not self._heard.wait(_HEAR_S):
            raise RigError("the supervisor does not hear")

    def started(self, pid: int) -> None:
        self.ready.clear()
        self._pid = pid

    @property
    def status(self) -> str:
        return next((line.partition("=")[2] for line in reversed(self.said) if line.startswith("STATUS=")), "")

    def close(self) -> None:
        if self._thread.is_alive():
            self._mouth.send(_CLOSE)
            self._thread.join()
        for one in (self.listening, self._ear, self._mouth, *(kept.socket for kept in self.kept)):
            one.close()
        self.kept.clear()

    def _hear(self) -> None:
        room = socket.CMSG_SPACE(_FDS * array("i").itemsize) + socket.CMSG_SPACE(3 * array("i").itemsize)
        while True:
            message, ancillary, _flags, _address = self._ear.recvmsg(_ROOM, room, socket.MSG_CMSG_CLOEXEC)
            if message == _CLOSE:
                return
            if message == _HEARD:
                self._heard.set()
                continue
            time.sleep(self.lag_s)
            fds, pid = _fds(ancillary), _pid(ancillary)
            if pid == self._pid:
                self._heed(message.decode().split("\n"), fds)
            for fd in fds:
                os.close(fd)  # of a barrier, its end; of what is kept, a copy

    def _heed(self, lines: list[str], fds: Sequence[int]) -> None:
        self.said += lines
        fields = dict(line.split("=", 1) for line in lines)
        if "FDSTORE" in fields:
            for fd in fds:
                self._keep(fields.get("FDNAME", "stored"), fd, polled=fields.get("FDPOLL") != "0")
        if "FDSTOREREMOVE" in fields:
            for one in [one for one in self.kept if one.name == fields["FDNAME"]]:
                self.kept.remove(one)
                one.socket.close()
        if "READY" in fields:
            self.ready.set()

    def _keep(self, name: str, fd: int, *, polled: bool) -> None:
        if polled and _hung_up(fd):
            return
        if not any(os.path.sameopenfile(fd, one.socket.fileno()) for one in self.kept):
            self.kept.append(Kept(name, socket.socket(fileno=os.dup(fd))))


def _hung_up(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


def _fds(ancillary: list[Any]) -> list[int]:
    found = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data)
    return list(found)


def _pid(ancillary: list[Any]) -> int:
    """Of the sender, as the kernel says."""
    found = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            found.frombytes(data)
    return found[0]
