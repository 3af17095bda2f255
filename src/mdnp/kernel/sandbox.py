"""
Doorways of Linux: sockets and an nft table of ours in a sandbox's network namespace.

A socket belongs for good to the namespace of the thread that makes it, whoever uses it later. So a thread is made that
enters the namespace, makes it and ends: no thread ever has to find its way back.
"""

import asyncio
import ctypes
import errno
import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from typing import TypeVar

from mdnp.dataplane.naming import MARK, TABLE
from mdnp.kernel import nfnetlink, redirect
from mdnp.kernel.doorway import Doorway
from mdnp.model.errors import KernelError

_CLONE_NEWNET = 0x40000000
_BACKLOG = 128
_ADDRESS = str(redirect.EMBEDDED)


T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)  # os.setns is of Python 3.12


class LinuxDoorways:
    def exists(self, sandbox: str) -> bool:
        # All namespaces are of one file system. A file from which one has gone is left by Docker for a while.
        found, ours = _identity(sandbox), _identity("/proc/self/ns/net")
        return found is not None and ours is not None and found[0] == ours[0]

    async def open(self, sandbox: str) -> Doorway:
        opening = asyncio.ensure_future(asyncio.to_thread(LinuxDoorway, sandbox))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_forget)
            raise


class LinuxDoorway:
    """Takes three sockets and a descriptor of the namespace, which stays for as long as any of them is open."""

    def __init__(self, sandbox: str) -> None:
        self._sandbox = sandbox
        with ExitStack() as stack:
            try:
                self._namespace = os.open(sandbox, os.O_RDONLY)
                stack.callback(os.close, self._namespace)
                self._identity = _identity(f"/proc/self/fd/{self._namespace}")
                made = _inside(self._namespace, _sockets)
            except OSError as error:
                raise KernelError(_not_entered(sandbox, error)) from error
            for one in made:
                stack.enter_context(one)
            self.datagrams, self.streams, self._owner = made
            try:
                nfnetlink.transact(self._owner, redirect.install(*(one.getsockname()[1] for one in made[:2])))
            except OSError as error:
                raise KernelError(_not_installed(sandbox, error)) from error
            self._opened = stack.pop_all()

    def dial(self, kind: socket.SocketKind) -> socket.socket:
        try:
            return _inside(self._namespace, lambda: _asking(kind))
        except OSError as error:
            why = error.strerror or error
            raise KernelError(f"no socket in the sandbox {self._sandbox} to ask its embedded DNS: {why}") from error

    def stands(self) -> bool:
        return _identity(self._sandbox) == self._identity

    def withdraw(self) -> None:
        with suppress(OSError):
            nfnetlink.transact(self._owner, redirect.withdraw())

    def close(self) -> None:
        self._owner.close()  # and the rules with it
        self._opened.close()
        self._namespace = -1  # the number may be that of another file soon


def _sockets() -> tuple[socket.socket, socket.socket, socket.socket]:
    """For datagrams, for streams, and the one that owns the table."""
    with ExitStack() as stack:
        datagrams, streams = (stack.enter_context(_listening(kind)) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
        owner = stack.enter_context(nfnetlink.opened())
        stack.pop_all()
    return datagrams, streams, owner


def _listening(kind: socket.SocketKind) -> socket.socket:
    listening = socket.socket(socket.AF_INET, kind)
    try:
        listening.setblocking(False)
        # Then nothing that comes from elsewhere gets to it, nor an answer out, whatever the sandbox's settings are.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        listening.bind((_ADDRESS, 0))
        if kind == socket.SOCK_STREAM:
            listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _asking(kind: socket.SocketKind) -> socket.socket:
    asking = socket.socket(socket.AF_INET, kind)
    try:
        asking.setblocking(False)
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        if kind == socket.SOCK_DGRAM:
            asking.connect((_ADDRESS, redirect.DNS_PORT))
    except OSError:
        asking.close()
        raise
    return asking


def _inside(namespace: int, work: Callable[[], T]) -> T:
    """What `work` makes in a thread of its own in the namespace. Errors: OSError."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            _enter(namespace)
            done.set_result(work())
        except OSError as error:
            done.set_exception(error)

    try:
        Thread(target=run, name="mdnp-sandbox", daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    return done.result()


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise _error(ctypes.get_errno())


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _forget(opening: "asyncio.Future[LinuxDoorway]") -> None:
    """Nobody waits for it any more."""
    if not opening.cancelled() and not opening.exception():
        opening.result().close()


def _not_entered(sandbox: str, error: OSError) -> str:
    why = f"the sandbox {sandbox} cannot be entered: {error.strerror or error}"
    return f"{why}; the daemon needs CAP_SYS_ADMIN for it" if error.errno == errno.EPERM else why


def _not_installed(sandbox: str, error: OSError) -> str:
    why = f"no rule in the sandbox {sandbox} leads questions of names to mdnp: "
    match error.errno:
        case errno.EOPNOTSUPP | errno.EINVAL | errno.EPROTONOSUPPORT:
            return f"{why}the kernel is too old for nft tables with an owner: Linux 5.12 has them"
        case errno.ENOENT:
            return f"{why}the kernel has no module for rules that track no connection: nft_ct"
        case errno.EEXIST:
            return f"{why}somebody made a table ip {TABLE} there: remove it by `nft delete table ip {TABLE}`"
        case errno.EPERM:
            return f"{why}another process owns the table ip {TABLE} there; is a second mdnp running?"
    return f"{why}{error.strerror or error}"
