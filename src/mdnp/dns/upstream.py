"""
Whoever answers what we do not know: questions go on to a server of names and its answers come back as they came.

A question that we pass on may come back to us: the server asks another, which asks us. That must end. Who asks cannot
be told from the packet, which others write anew on their way; so questions that are alike (same name and type) are
counted while they are under way. A few pass at once, since a client that repeats its question means it. More of them,
and any when the first of these has been under way for longer than a client waits, are not passed on: they share the
answer of one that is the same, or have none. So a loop is a few packets that all end with the first's time.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from socket import SocketKind

from mdnp.dns import Unanswered, Upstream
from mdnp.dns import packets as bits
from mdnp.dns.packets import Lifetime
from mdnp.model.errors import KernelError

# Makes a non-blocking socket from which a server is asked: SOCK_DGRAM connected to it, SOCK_STREAM not connected yet.
# Errors: OSError, KernelError.
Dial = Callable[[SocketKind], socket.socket]

EMBEDDED = ("127.0.0.11", 53)  # Docker's embedded DNS, in each sandbox
TIMEOUT_S = 10.0  # the embedded DNS itself asks its servers in turn, for up to 12 s; who asks it waits 5 or 10

_WAITING = 256  # questions that wait at one server
_PER_SOCKET = 512  # questions from one port, before another is taken
_ALIKE = 8  # of one name and type, at once
PATIENCE_S = 6.0  # a client asks again after 5 (resolv.conf(5), timeout), and that still goes on
_RECEIVED_OCTETS = 0xFFFF
_BURST = 64  # answers read before others have their turn
_CONNECT_ERRORS = (OSError, KernelError)

_CACHED_S = 60
_CACHED_ANSWERS, _CACHED_OCTETS = 4096, 2 << 20
_NOT_KEPT_OCTETS = 4096  # an answer longer than this is asked for again


class Together:
    """Passes questions on to an upstream, but few that are alike at once."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._alike: dict[bytes, _Alike] = {}

    async def ask(self, query: bytes, *, stream: bool, upstream: Callable[[bytes, bool], Awaitable[bytes]]) -> bytes:
        """Errors: Unanswered."""
        now = asyncio.get_running_loop().time()
        question = bits.asked(query)
        alike = self._alike.setdefault(question, _Alike(now))
        if len(alike.under_way) >= _ALIKE or now - alike.began > self._patience_s:
            return bits.addressed(await alike.share(query, stream=stream), query)
        flight = alike.begin(query, stream=stream)
        try:
            answer = await upstream(query, stream)
            flight.set_result(answer)
        finally:
            alike.end(flight)
            if not alike.under_way:
                del self._alike[question]
        return answer


class _Alike:
    """Questions of one name and type that are under way; the first of them `began` then."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.under_way: dict[asyncio.Future[bytes | None], tuple[bytes, bool]] = {}

    def begin(self, query: bytes, *, stream: bool) -> "asyncio.Future[bytes | None]":
        flight: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.under_way[flight] = (bits.rest(query), stream)
        return flight

    def end(self, flight: "asyncio.Future[bytes | None]") -> None:
        del self.under_way[flight]
        if not flight.done():
            flight.set_result(None)

    async def share(self, query: bytes, *, stream: bool) -> bytes:
        wanted = (bits.rest(query), stream)
        same = [flight for flight, what in self.under_way.items() if what == wanted]
        answer = await asyncio.shield(same[-1]) if same else None
        if answer is None:
            raise Unanswered("the same question is asked too often at once: perhaps a server that we ask asks us")
        return answer


class Forwarder:
    """
    Asks one server. Over UDP many questions share a socket, told apart by random ids, up to `per_socket`; then another
    port is taken. Where a wrong answer could be sent from outside, each question has a socket of its own: 1.
    """

    def __init__(
        self,
        dial: Dial,
        address: tuple[str, int] = EMBEDDED,
        *,
        timeout_s: float = TIMEOUT_S,
        waiting: int = _WAITING,
        per_socket: int = _PER_SOCKET,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._dial = dial
        self._address = address
        self._timeout_s = timeout_s
        self._most = waiting
        self._per_socket = per_socket
        self._waiting = 0
        self._together = Together(patience_s)
        self._lines: list[_Line] = []  # the last takes questions, the others still wait for answers

    async def ask(self, query: bytes, *, stream: bool) -> bytes:
        return await self._together.ask(query, stream=stream, upstream=self._ask)

    def close(self) -> None:
        """What still waits is not answered. Twice is no error."""
        for line in self._lines:
            line.close()

    async def _ask(self, query: bytes, stream: bool) -> bytes:
        if self._waiting >= self._most:
            raise Unanswered(f"{self._most} questions wait for {self._address[0]} already")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                return await (self._ask_stream(query) if stream else self._ask_datagram(query))
        except TimeoutError:
            raise Unanswered(f"{self._address[0]} does not answer within {self._timeout_s:g} s") from None
        except (*_CONNECT_ERRORS, EOFError) as error:
            raise Unanswered(f"{self._address[0]} cannot be asked: {error}") from error
        finally:
            self._waiting -= 1

    async def _ask_datagram(self, query: bytes) -> bytes:
        if not self._lines or self._lines[-1].spent:
            opened = _Line(self._dial(SocketKind.SOCK_DGRAM), self._per_socket)
            self._lines = [*(line for line in self._lines if line.waits), opened]
        return await self._lines[-1].ask(query)

    async def _ask_stream(self, query: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with self._dial(SocketKind.SOCK_STREAM) as connection:
            await loop.sock_connect(connection, self._address)
            await loop.sock_sendall(connection, len(query).to_bytes(2, "big") + query)
            octets = int.from_bytes(await _exactly(connection, 2), "big")
            answer = await _exactly(connection, octets)
        if not bits.answers(answer, query) or answer[:2] != query[:2]:
            raise EOFError("it answers another question")
        return answer


class _Line:
    """A connected UDP socket and the questions that wait at it; it closes after the last answer of `most` questions."""

    def __init__(self, opened: socket.socket, most: int) -> None:
        self._socket = opened
        self._number = opened.fileno()
        self._left = most
        self._waiting: dict[bytes, tuple[bytes, asyncio.Future[bytes]]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._number, self._receive)

    @property
    def spent(self) -> bool:
        return self._left <= 0

    @property
    def waits(self) -> bool:
        return bool(self._waiting)

    async def ask(self, query: bytes) -> bytes:
        """Errors: OSError."""
        self._left -= 1
        identity = self._identity()
        answered: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[identity] = (query, answered)
        try:
            self._socket.send(identity + query[2:])
            return query[:2] + (await answered)[2:]
        finally:
            del self._waiting[identity]
            if self.spent and not self._waiting:
                self._shut()

    def close(self, error: OSError | None = None) -> None:
        self._shut()
        for _, answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(error or OSError("we asked no longer"))

    def _shut(self) -> None:
        self._left = 0
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._number)
            self._socket.close()

    def _identity(self) -> bytes:
        """One that cannot be guessed, and that no other question at this socket has."""
        while (identity := secrets.token_bytes(2)) in self._waiting:
            pass
        return identity

    def _receive(self) -> None:
        try:
            for _ in range(_BURST):
                self._take(self._socket.recv(_RECEIVED_OCTETS))
        except BlockingIOError:
            pass
        except OSError as error:  # nobody listens there: all that wait are told at once
            self.close(error)

    def _take(self, packet: bytes) -> None:
        query, answered = self._waiting.get(packet[:2], (b"", None))
        if answered is not None and not answered.done() and bits.answers(packet, query):
            answered.set_result(packet)


async def _exactly(connection: socket.socket, octets: int) -> bytes:
    """Errors: EOFError if it ends before."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < octets:
        more = await loop.sock_recv(connection, octets - len(data))
        if not more:
            raise EOFError("it closes the connection")
        data += more
    return data


class Cache:
    """
    Remembers what an upstream answered: as long as its TTLs allow and for a minute at most, with bounds of count and
    size, the least used first to go. Not for the embedded DNS, whose answers stay as they are: it caches nothing.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        answers: int = _CACHED_ANSWERS,
        octets: int = _CACHED_OCTETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstream = upstream
        self._most = answers
        self._most_octets = octets
        self._clock = clock
        self._octets = 0
        self._kept: dict[tuple[bytes, int, tuple[bool, bool]], _Kept] = {}

    async def ask(self, query: bytes, *, stream: bool) -> bytes:
        options = bits.options(query)
        if options is None:
            return await self._upstream.ask(query, stream=stream)
        said = bits.flags(query) & (bits.RECURSION | bits.AUTHENTIC | bits.UNCHECKED)
        key = (bits.asked(query), said, options)
        kept = self._kept.pop(key, None)
        if kept is not None and self._clock() < kept.until:
            self._kept[key] = kept  # the last used is the last
            return bits.addressed(kept.now(self._clock()), query)
        if kept is not None:
            self._octets -= len(kept.answer)
        answer = await self._upstream.ask(query, stream=stream)
        lifetime = bits.lifetime(answer)
        if lifetime is not None and len(answer) <= _NOT_KEPT_OCTETS:
            self._keep(key, _Kept(answer, lifetime, self._clock()))
        return answer

    def _keep(self, key: tuple[bytes, int, tuple[bool, bool]], kept: "_Kept") -> None:
        earlier = self._kept.pop(key, None)
        self._octets += len(kept.answer) - (len(earlier.answer) if earlier else 0)
        self._kept[key] = kept
        while len(self._kept) > self._most or self._octets > self._most_octets:
            self._octets -= len(self._kept.pop(next(iter(self._kept))).answer)


class _Kept:
    def __init__(self, answer: bytes, lifetime: Lifetime, since: float) -> None:
        self.answer = answer
        self.until = since + min(_CACHED_S, lifetime.ttl_s)
        self._places = lifetime.places
        self._since = since

    def now(self, time: float) -> bytes:
        return bits.aged(self.answer, self._places, int(time - self._since))
