"""Sockets that listen: at a path, which only its owner may open and where nobody else serves, or at a TCP address."""

import errno
import logging
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdnp.model.errors import Conflict, InvalidParameter
from mdnp.model.network import IPAddress
from mdnp.model.tcp_address import TcpAddress

log = logging.getLogger(__name__)

BACKLOG = 1024

_PATH_LIMIT = 98  # sizeof(sun_path) less the final zero and what the name bears until it is in place


@dataclass(frozen=True)
class Name:
    """The file of a socket of ours; by its inode we know later whether it still is."""

    path: Path
    inode: int

    def remove(self) -> None:
        """Take it away first: whoever comes now finds nobody, and tries again with its body unspent."""
        try:
            if self.path.stat().st_ino == self.inode:
                self.path.unlink()
        except FileNotFoundError:
            pass


def at_path(path: Path) -> tuple[socket.socket, Name]:
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise InvalidParameter(f"socket {path}: mdnp's sockets have paths of at most {_PATH_LIMIT} bytes")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_free(path)
        return _bound(path)
    except OSError as error:
        raise InvalidParameter(f"socket {path}: {error.strerror}: choose another path with --socket") from error


def _bound(path: Path) -> tuple[socket.socket, Name]:
    # Bound under another name and moved into place: a client sees the old file, or a socket that listens.
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        waiting.unlink(missing_ok=True)
        bound.bind(str(waiting))
        waiting.chmod(stat.S_IRUSR | stat.S_IWUSR)
        bound.listen(BACKLOG)
        waiting.replace(path)
    except OSError:
        bound.close()
        waiting.unlink(missing_ok=True)
        raise
    return bound, Name(path, path.stat().st_ino)


def _check_free(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"socket {path}: something else than a socket is there: remove it, or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return  # nobody listens: a file that a killed daemon left
    raise Conflict(f"socket {path}: another process serves there: stop it first, or choose another path")


def warn_if_open(inherited: socket.socket) -> None:
    path = Path(inherited.getsockname())
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning("socket %s may be opened by others than its owner (mode %o): set SocketMode=0600", path, mode)


def at_port(address: IPAddress, port: int, place: str) -> socket.socket:
    """A socket that listens at that port, which messages call `place`. Errors as `at_address`."""
    bound = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last daemon are ending yet
        bound.bind((str(address), port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"port {place}: another process has it: stop that one, or choose another port") from error
        raise InvalidParameter(f"port {place}: {error.strerror}: choose another one") from error
    return bound


def at_address(address: TcpAddress) -> socket.socket:
    """A socket that listens there. Errors: InvalidParameter; Conflict when somebody has the port."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InvalidParameter(f"listen {address}: {address.host} is not found: {error.strerror}") from error
    for family, _type, _protocol, _name, where in found:
        with suppress(OSError):
            return _listening(family, where)
    family, _type, _protocol, _name, where = found[0]
    try:
        return _listening(family, where)
    except OSError as error:
        raise _refused(address, error) from error


def _refused(address: TcpAddress, error: OSError) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"listen {address}: another process has the port (`ss -ltnp`): end it, or choose another port")
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidParameter(f"listen {address}: {address.host} is no address of this host (`ip address`)")
    return InvalidParameter(f"listen {address}: {error.strerror}")


def _listening(family: int, where: Any) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sends at once only where TCP is named
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what our last connections left is no hindrance
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(where)
        one.listen(BACKLOG)
    except OSError:
        one.close()
        raise
    return one
