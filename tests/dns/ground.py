"""What the tests of names stand on: zones as dictionaries, and servers on loopback ports of this process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import ip_address
from socket import SocketKind
from typing import Any

import dns.message
import dns.rdatatype
import dns.rrset

from mdnp.dns import Answer, Kind, Question, Record, Scope, Unanswered
from mdnp.dns.server import Server
from mdnp.model.network import IPAddress

HOST = "127.0.0.1"

# Answers a query, asked over TCP or not, with any number of packets.
Handler = Callable[[bytes, bool], Sequence[bytes]]


def addresses(name: str, *texts: str) -> Answer:
    return Answer(tuple(Record(name, Kind.A, ip_address(text)) for text in texts))


def query(name: str, kind: str = "A", **options: Any) -> bytes:
    """`options` as dnspython has them."""
    return dns.message.make_query(name, kind, **options).to_wire()


def answered(packet: bytes, *texts: str, ttl_s: int = 30, kind: str = "A") -> bytes:
    """An answer to the query, as dnspython writes it."""
    asked = dns.message.from_wire(packet)
    response = dns.message.make_response(asked, recursion_available=True)
    if texts:
        response.answer.append(dns.rrset.from_text(asked.question[0].name, ttl_s, "IN", kind, *texts))
    return response.to_wire(max_size=65535)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not true():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)


class Zone:
    """A Finder: answers by (name, kind), and whole domains in which what is not named does not exist."""

    def __init__(self, known: Mapping[tuple[str, int], Answer] | None = None, domain: str = "mdnp") -> None:
        self.known = dict(known or {})
        self._domain = domain
        self.asked: list[Question] = []

    def find(self, question: Question) -> Answer | None:
        self.asked.append(question)
        found = self.known.get((question.name, question.kind))
        if found is not None:
            return found
        if any(name == question.name for name, _ in self.known):
            return Answer()
        ours = question.name == self._domain or question.name.endswith(f".{self._domain}")
        return Answer(exists=False) if ours else None


class Silent:
    """An upstream that answers when it is told to, or never."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.released = asyncio.Event()

    async def ask(self, query: bytes, *, stream: bool) -> bytes:  # noqa: ARG002  # the contract's
        self.waiting.append(query)
        await self.released.wait()
        return answered(query, "192.0.2.1")


class Dead:
    async def ask(self, query: bytes, *, stream: bool) -> bytes:
        raise Unanswered(f"nobody answers {len(query)} bytes, over {'TCP' if stream else 'UDP'}")


def everybody(scope: Scope) -> Callable[[IPAddress], Scope | None]:
    return lambda _address: scope


@contextmanager
def sockets(host: str = HOST) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Of UDP and TCP on one free port, which listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(20):
        streams = socket.create_server((host, 0), family=family, backlog=64)
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        try:
            datagrams.bind((host, streams.getsockname()[1]))
            break
        except OSError:  # another has that port over UDP
            streams.close()
            datagrams.close()
    with datagrams, streams:
        datagrams.setblocking(False)
        streams.setblocking(False)
        yield datagrams, streams


@asynccontextmanager
async def serving(server: Server, host: str = HOST) -> AsyncIterator[int]:
    """Its port."""
    with sockets(host) as (datagrams, streams):
        task = asyncio.create_task(server.serve(datagrams, streams))
        try:
            yield streams.getsockname()[1]
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Elsewhere:
    """A server of names that is not ours, which answers what a function says; `asked` are the queries that came."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[bytes] = []
        self.sources: list[int] = []
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Elsewhere"]:
        loop = asyncio.get_running_loop()
        with sockets() as (datagrams, streams):
            self.port = streams.getsockname()[1]
            loop.add_reader(datagrams, self._receive, datagrams)
            server = await asyncio.start_server(self._converse, sock=streams)
            try:
                yield self
            finally:
                loop.remove_reader(datagrams)
                server.close()
                await server.wait_closed()

    def dial(self, kind: SocketKind) -> socket.socket:
        opened = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
        if kind is SocketKind.SOCK_DGRAM:
            opened.connect((HOST, self.port))
        return opened

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    def _receive(self, datagrams: socket.socket) -> None:
        packet, source = datagrams.recvfrom(65535)
        self.asked.append(packet)
        self.sources.append(source[1])
        for answer in self.handler(packet, False):
            datagrams.sendto(answer, source)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            self.asked.append(packet)
            for answer in self.handler(packet, True):
                writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
        writer.close()
