"""
The small proxy: it carries what arrives at a socket of the host to a container, where the kernel cannot translate.

Everything here runs in the event loop, whose thread stands in the network namespace of the sockets. What goes wrong
with one client ends that client and is logged; it never ends the proxy. The loop is given descriptors: of a socket that
is new to it it writes down a text, which asks the kernel for both addresses, and a start may bring thousands.
"""

import asyncio
import logging
import socket
import struct
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from mdnp.model.network import IPAddress
from mdnp.model.port import Target

log = logging.getLogger(__name__)

CONNECTIONS = 512  # at a time and port; two descriptors each
CLIENTS = 1024  # of a UDP port, one descriptor each
IDLE_S = 60.0

_CONNECT_S = 10.0  # a container that is there answers at once
_ACCEPT_AGAIN_S = 1.0  # when descriptors or memory have run out
_CHUNK = 64 * 1024
_DATAGRAM = 65535
_ANCILLARY = 256
_IP_PKTINFO = 8  # the module socket has only the one of IPv6
# A client that went without a word is found after two minutes or so, or it would keep its place for ever.
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
_RESET = struct.pack("ii", 1, 0)
_LINGER = struct.pack("ii", 0, 0)

Ancillary = tuple[tuple[int, int, bytes], ...]
Origin = tuple[Any, Ancillary]  # a client's address, and ours that it spoke to, as the kernel takes it for an answer


class Carrier(Protocol):
    """Both in the loop. `close` returns when the socket is closed and nothing of its clients is left."""

    def start(self) -> None: ...

    async def close(self) -> None: ...


class Connections:
    """
    Carries TCP. The socket listens already; clients beyond the limit wait in its queue.

    Whatever does not end by both sides' own end is reset on both, so that nobody takes a part for the whole.
    """

    def __init__(self, listener: socket.socket, target: Target, limit: int = CONNECTIONS) -> None:
        self._listener = listener
        self._target = target
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._closing = False

    def start(self) -> None:
        """Accept, or go on accepting, as long as there is room."""
        if not self._closing and len(self._tasks) < self._limit:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._arrived)

    async def close(self) -> None:
        self._closing = True
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        if self._pause is not None:
            self._pause.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _arrived(self) -> None:
        """Accept one; the loop calls again while there are more, and others have their turns."""
        loop = asyncio.get_running_loop()
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("accepting for %s: %s", self._target, error)
            loop.remove_reader(self._listener.fileno())
            self._pause = loop.call_later(_ACCEPT_AGAIN_S, self.start)
            return
        task = loop.create_task(self._carry(client))
        self._tasks.add(task)
        task.add_done_callback(partial(self._left, client))
        if len(self._tasks) >= self._limit:
            loop.remove_reader(self._listener.fileno())

    def _left(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        client.close()  # here, since a task that is cancelled before it begins never runs
        self._tasks.discard(task)
        self.start()

    async def _carry(self, client: socket.socket) -> None:
        try:
            _prepare(client)
            with socket.socket(_family(self._target.address), socket.SOCK_STREAM) as target:
                _prepare(target)
                await self._join(client, target)
        except* OSError as errors:
            log.debug("a connection to %s broke: %s", self._target, errors.exceptions)

    async def _join(self, client: socket.socket, target: socket.socket) -> None:
        async with asyncio.timeout(_CONNECT_S):
            await asyncio.get_running_loop().sock_connect(target, _sockaddr(self._target))
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(client, target))
            both.create_task(_pump(target, client))
        for one in (client, target):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)


def _prepare(one: socket.socket) -> None:
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # until both sides have ended
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # waiting for more is the sender's to choose
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE:
        one.setsockopt(socket.IPPROTO_TCP, option, value)


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Carry one way until its end, and the end too."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        await loop.sock_sendall(sink, data)
        await asyncio.sleep(0)  # neither waits while there is data and room: others would never get their turn
    sink.shutdown(socket.SHUT_WR)


@dataclass
class _Client:
    socket: socket.socket
    seen: float


class Datagrams:
    """
    Carries UDP: one connected socket to the target for each client, so that the target tells clients apart and the
    kernel tells their answers apart. The socket has been prepared by `tell_local_address`.
    """

    def __init__(self, bound: socket.socket, target: Target, idle_s: float = IDLE_S, limit: int = CLIENTS) -> None:
        self._socket = bound
        self._target = target
        self._idle_s = idle_s
        self._limit = limit
        self._clients: dict[Origin, _Client] = {}  # the longest idle first
        self._timer: asyncio.TimerHandle | None = None

    @property
    def clients(self) -> int:
        return len(self._clients)

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._asked)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        for origin in list(self._clients):
            self._drop(origin)
        self._socket.close()

    def _asked(self) -> None:
        """One datagram from a client; the loop calls again while there are more, and others have their turns."""
        try:
            data, ancillary, _flags, address = self._socket.recvmsg(_DATAGRAM, _ANCILLARY)
            self._client((address, _answering(ancillary))).socket.send(data)
        except OSError as error:
            self._lost(error)

    def _answered(self, origin: Origin) -> None:
        address, ancillary = origin
        try:
            data = self._client(origin).socket.recv(_DATAGRAM)
            self._socket.sendmsg([data], ancillary, 0, address)
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        """A datagram may get lost. Here also come the ICMP errors of those before: the target may listen later."""
        log.debug("a datagram for %s is lost: %s", self._target, error)

    def _client(self, origin: Origin) -> _Client:
        client = self._clients.pop(origin, None) or self._new(origin)
        client.seen = asyncio.get_running_loop().time()
        self._clients[origin] = client
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._sweep)
        return client

    def _new(self, origin: Origin) -> _Client:
        if len(self._clients) >= self._limit:
            self._drop(next(iter(self._clients)))
        one = socket.socket(_family(self._target.address), socket.SOCK_DGRAM)
        try:
            one.setblocking(False)
            one.connect(_sockaddr(self._target))
        except OSError:
            one.close()
            raise
        asyncio.get_running_loop().add_reader(one.fileno(), self._answered, origin)
        return _Client(one, 0)

    def _sweep(self) -> None:
        """Drop who is idle, and come again when the next may be."""
        self._timer = None
        for origin, client in list(self._clients.items()):
            due = client.seen + self._idle_s
            if due > asyncio.get_running_loop().time():
                self._timer = asyncio.get_running_loop().call_at(due, self._sweep)
                break
            self._drop(origin)

    def _drop(self, origin: Origin) -> None:
        one = self._clients.pop(origin).socket
        asyncio.get_running_loop().remove_reader(one.fileno())
        one.close()


def tell_local_address(unbound: socket.socket) -> None:
    """
    Let each datagram say to which of the host's addresses it came. The answer leaves from that one: a client takes it
    from no other, and the kernel would choose by the route.
    """
    if unbound.family == socket.AF_INET:
        unbound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)


def _answering(ancillary: list[tuple[int, int, bytes]]) -> Ancillary:
    """The same local address for an answer; by which link it leaves is the route's to say."""
    return tuple((level, kind, _without_link(level, data)) for level, kind, data in ancillary)


def _without_link(level: int, data: bytes) -> bytes:
    if level == socket.IPPROTO_IP:  # in_pktinfo: link, local address, address in the header
        return bytes(4) + data[4:8] + bytes(4)
    return data[:16] + bytes(4)  # in6_pktinfo: local address, link


def _family(address: IPAddress) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _sockaddr(target: Target) -> tuple[str, int]:
    return str(target.address), target.port
