"""
The ports of the host that this process holds, so that a conflict shows and nobody else takes them.

What arrives at most of them never gets here: the kernel translates it before. The rest is carried (`proxy`).

Under systemd the sockets stand in its FD store as well, and the next daemon goes on holding them: a port is never free
in between, and who connects meanwhile waits in the queue.
"""

import asyncio
import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, ip_address
from itertools import islice
from pathlib import Path

from mdnp.dataplane.objects import HostPort
from mdnp.kernel.proxy import Carrier, Connections, Datagrams, tell_local_address
from mdnp.model.errors import InUse, KernelError
from mdnp.model.network import IPAddress
from mdnp.model.port import HostSocket, Protocol, Target
from mdnp.systemd import FDStore

log = logging.getLogger(__name__)

_SOCKETS = {
    Protocol.TCP: (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    Protocol.UDP: (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    Protocol.SCTP: (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_BACKLOG = 1024
_CLOSE_S = 5.0
# Who has a port is sought this far and no further: a host may have a million connections and files.
_ROWS = 20_000  # of /proc/net, where those that listen stand first
_SEARCH_S = 0.3
_ANY4 = IPv4Address(0)
_NAME = "port/"  # what the names in the FD store begin with


class Ports:
    """
    Called by one thread at a time, and not by that of the loop, for which `release` and `close` wait. The sockets are
    of the network namespace of the thread that calls.
    """

    def __init__(self, fds: FDStore | None = None) -> None:
        self._fds = fds or FDStore()
        self._held: dict[HostPort, Callable[[], None]] = {}  # each with what lets go of it

    @property
    def held(self) -> list[HostPort]:
        return list(self._held)

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Go on holding, and carrying, what the last daemon left in the FD store; converging finds it held."""
        for one in self._fds.take(_NAME):
            port = _named(one.name)
            if port is None or not _is_held_by(one.socket, port):
                log.warning("a socket that was inherited as %s is not what that says: it is closed", one.name)
                self._fds.remove(one.name)
                one.socket.close()
            else:
                one.socket.setblocking(False)
                self._keep(port, one.socket, loop)

    def hold(self, port: HostPort, loop: asyncio.AbstractEventLoop) -> None:
        """
        Hold a port; in `loop` what arrives is carried if it has a proxy.

        Errors: InUse says who has it, as far as that can be found; KernelError.
        """
        if port in self._held:
            return
        if port.proxy and port.socket.protocol is Protocol.SCTP:
            raise KernelError(
                f"{port.socket} cannot be carried to {port.proxy}: SCTP reaches a container only by an address of its"
                " own family; give the container one, or publish on an address of the other family"
            )
        self.settle()
        try:
            held = _open(port)
        except OSError as error:
            raise self._refusal(port.socket, error) from error
        if held is None:
            self._hold_without_socket(port)
        else:
            self._fds.put(_name(port), held)
            self._keep(port, held, loop)

    def release(self, port: HostPort) -> None:
        """Let go of a port, which `settle` makes free; of one that is not held (with this proxy): nothing."""
        let_go = self._held.pop(port, None)
        if let_go is not None:
            self._fds.remove(_name(port))
            let_go()

    def settle(self) -> None:
        """Return when the ports that were released are free."""
        self._fds.settle()

    def close(self) -> None:
        """Let go of all, but in the FD store: there they wait for the next daemon."""
        while self._held:
            _, let_go = self._held.popitem()
            let_go()

    def _keep(self, port: HostPort, held: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        if port.proxy is None:
            self._held[port] = held.close
        else:
            carrier = _carrier(port.socket.protocol, held, port.proxy)
            self._held[port] = partial(_stop, carrier, port.socket, loop)
            loop.call_soon_threadsafe(carrier.start)

    def _hold_without_socket(self, port: HostPort) -> None:
        if other := self._clashing(port.socket):
            raise _held_for_another(port.socket, other)
        self._held[port] = lambda: None

    def _clashing(self, wanted: HostSocket) -> HostSocket | None:
        return next((port.socket for port in self._held if port.socket.clashes(wanted)), None)

    def _refusal(self, wanted: HostSocket, error: OSError) -> KernelError:
        match error.errno:
            case errno.EADDRINUSE if other := self._clashing(wanted):
                return _held_for_another(wanted, other)
            case errno.EADDRINUSE:
                return InUse(f"{wanted} is in use by {_owner(wanted)}: stop it, or publish another port")
            case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
                return KernelError(
                    f"the host has no address {wanted.address}: publish on one that it has, or on all of them"
                )
            case errno.EMFILE | errno.ENFILE:
                return KernelError(f"{wanted} cannot be held: {error.strerror}; raise the limit (LimitNOFILE)")
        return KernelError(f"{wanted} cannot be held: {error.strerror}")


def _name(port: HostPort) -> str:
    """A port in full, as port/tcp/0.0.0.0/8080 or port/tcp/__/8080/172.18.0.2/80: a name must not have colons."""
    places: list[HostSocket | Target] = [port.socket] if port.proxy is None else [port.socket, port.proxy]
    words = [word for place in places for word in (str(place.address), str(place.port))]
    return _NAME + "/".join([port.socket.protocol, *words]).replace(":", "_")


def _named(name: str) -> HostPort | None:
    try:
        protocol, address, port, *target = name.removeprefix(_NAME).replace("_", ":").split("/")
        proxy = Target(ip_address(target[0]), int(target[1])) if target else None
        return HostPort(HostSocket(Protocol(protocol), ip_address(address), int(port)), proxy)
    except (ValueError, IndexError):
        return None


def _is_held_by(one: socket.socket, port: HostPort) -> bool:
    """Whether a socket is what `_open` makes for a port."""
    if one.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    address, number, *_ = one.getsockname()
    listens = bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    return (one.type, one.proto, ip_address(address), number, listens) == (
        *_SOCKETS[port.socket.protocol],
        port.socket.address,
        port.socket.port,
        port.socket.protocol is Protocol.TCP and port.proxy is not None,
    )


def _held_for_another(wanted: HostSocket, other: HostSocket) -> InUse:
    return InUse(f"{wanted} is in use: mdnp publishes {other} already; publish another port")


def _carrier(protocol: Protocol, held: socket.socket, target: Target) -> Carrier:
    return Connections(held, target) if protocol is Protocol.TCP else Datagrams(held, target)


def _stop(carrier: Carrier, port: HostSocket, loop: asyncio.AbstractEventLoop) -> None:
    """Until the port is free."""
    try:
        asyncio.run_coroutine_threadsafe(carrier.close(), loop).result(_CLOSE_S)
    except TimeoutError as error:
        raise KernelError(f"{port}: the daemon's event loop did not let go of it in {_CLOSE_S:g} s") from error


def _open(port: HostPort) -> socket.socket | None:
    """A socket that has the port; None where there can be none, so that nobody else can take the port either."""
    address = port.socket.address
    try:
        opened = socket.socket(
            socket.AF_INET if address.version == 4 else socket.AF_INET6, *_SOCKETS[port.socket.protocol]
        )
    except OSError as error:
        if _has_no_such_sockets(error, address):
            return None
        raise
    try:
        opened.setblocking(False)
        if address.version == 6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _bind(opened, port)
    except OSError:
        opened.close()
        raise
    return opened


def _has_no_such_sockets(error: OSError, address: IPAddress) -> bool:
    """A kernel without SCTP, or without IPv6 where every address of the host is meant."""
    return error.errno == errno.EPROTONOSUPPORT or (error.errno == errno.EAFNOSUPPORT and address.is_unspecified)


def _bind(unbound: socket.socket, port: HostPort) -> None:
    place = (str(port.socket.address), port.socket.port)
    match port.socket.protocol:
        case Protocol.TCP:
            _bind_tcp(unbound, place, listens=port.proxy is not None)
        case Protocol.UDP:
            if port.proxy:
                tell_local_address(unbound)
            else:  # nobody reads it: the kernel shall keep as little of it as it can
                unbound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            unbound.bind(place)
        case Protocol.SCTP:
            unbound.bind(place)


def _bind_tcp(unbound: socket.socket, place: tuple[str, int], *, listens: bool) -> None:
    """
    Take a port whatever connections of it ended lately, and leave it to nobody.

    A connection that was carried stands for a minute in TIME_WAIT, and keeps whoever has no SO_REUSEADDR from the port.
    But two sockets that have it both get the port while neither listens. So it is taken with SO_REUSEADDR, and
    listening shuts others out, bound before or after. Without a proxy it must not go on listening, or who arrives here
    would wait for ever where nobody accepts, in place of being refused; then the kernel keeps the port for a socket
    that stopped listening, and without SO_REUSEADDR that shuts others out as well: so it goes first.
    """
    unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    unbound.bind(place)
    unbound.listen(_BACKLOG)
    if not listens:
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        unbound.shutdown(socket.SHUT_RDWR)


def _owner(wanted: HostSocket) -> str:
    """Who has the port, in words."""
    with suppress(OSError, ValueError):
        inode = _inode(wanted)
        pid = inode and _holder(f"socket:[{inode}]")
        if pid:
            return f"{Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()} (pid {pid})"
    return "another process"


def _inode(wanted: HostSocket) -> str | None:
    """
    Of the socket that is in the way: one of the same family before one of both.

    A bound TCP socket that neither listens nor is connected does not show.
    """
    files = [f"{wanted.protocol}", f"{wanted.protocol}6"] if wanted.address.version == 4 else [f"{wanted.protocol}6"]
    return next((inode for file in files for inode in _inodes(Path("/proc/thread-self/net", file), wanted)), None)


def _inodes(file: Path, wanted: HostSocket) -> Iterator[str]:
    """Of the sockets that clash, who listens first; a connection that has ended is nobody's and has the inode 0."""
    port = f":{wanted.port:04X}"
    with suppress(OSError, ValueError), file.open() as lines:
        for line in islice(lines, 1, _ROWS):
            _slot, local, _, _, _, _, _, _, _, inode, *_ = line.split()
            if local.endswith(port) and inode != "0" and _clashes(_address(local.removesuffix(port)), wanted):
                yield inode


def _address(digits: str) -> IPAddress:
    """The kernel prints each four bytes as one number of the machine's."""
    numbers = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    return ip_address(b"".join(number.to_bytes(4, sys.byteorder) for number in numbers))


def _clashes(address: IPAddress, wanted: HostSocket) -> bool:
    """Whether a socket at the address is in the way. One of IPv6 may be of both families: the kernel does not say."""
    if address.version == 6:
        as_ipv4 = _ANY4 if address.is_unspecified and wanted.address.version == 4 else address.ipv4_mapped
        address = as_ipv4 or address
    return HostSocket(wanted.protocol, address, wanted.port).clashes(wanted)


def _holder(link: str) -> int | None:
    """The process that has a file of this name open, the lowest number first: a server's parent before its children."""
    until = time.monotonic() + _SEARCH_S
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        if pid == os.getpid():  # ours are known, and not in the way
            continue
        for file in _files(pid):
            if file == link:
                return pid
            if time.monotonic() > until:
                return None
    return None


def _files(pid: int) -> Iterator[str]:
    """The names of what a process has open; processes and files vanish meanwhile."""
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                yield str(entry.readlink())
