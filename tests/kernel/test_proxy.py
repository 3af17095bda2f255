"""The proxy, between real sockets of the machine's loopback."""

import asyncio
import fcntl
import logging
import resource
import socket
import termios
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

import pytest

from mdnp.kernel.proxy import Carrier, Connections, Datagrams, tell_local_address
from mdnp.model.port import Target

MEGABYTE = 1024 * 1024
LIMIT_S = 10
SENT = 160 * 1024  # fits into the buffers of two sockets, and is carried in three pieces

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Place = tuple[str, int]

families = pytest.mark.parametrize(("host", "address"), [("::1", "127.0.0.1"), ("127.0.0.1", "::1"), ("::1", "::1")])


def bound(address: str, kind: socket.SocketKind, port: int = 0) -> socket.socket:
    one = socket.socket(socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6, kind)
    one.setblocking(False)
    if kind is socket.SOCK_DGRAM:
        tell_local_address(one)
    else:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, port))
    return one


def place(one: socket.socket) -> Place:
    address, port, *_ = one.getsockname()
    return address, port


def target(one: socket.socket) -> Target:
    address, port = place(one)
    return Target(ip_address(address), port)


@asynccontextmanager
async def running(carrier: Carrier) -> AsyncIterator[None]:
    carrier.start()
    try:
        yield
    finally:
        await carrier.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110  # sockets of the kernel tell nobody of their changes
            await asyncio.sleep(0.002)


# TCP


class Container:
    """A server whose connections the test holds in its hands. What is kept here lasts as long as the container."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._accepted: asyncio.Queue[Stream] = asyncio.Queue()
        self._kept: list[Stream] = []

    def keep(self, stream: Stream) -> Stream:
        self._kept.append(stream)
        return stream

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._accepted.put(self.keep((reader, writer)))

    async def accepted(self) -> Stream:
        async with asyncio.timeout(LIMIT_S):
            return await self._accepted.get()

    @property
    def waiting(self) -> int:
        """Connections that nobody took into his hands."""
        return self._accepted.qsize()

    def end(self) -> None:
        for _, writer in self._kept:
            writer.transport.abort()


@dataclass
class Published:
    """A port of the host that is carried to a container."""

    place: Place
    container: Container

    async def connect(self) -> Stream:
        return self.container.keep(await asyncio.open_connection(*self.place))

    async def connected(self) -> tuple[Stream, Stream]:
        """The client's end and the container's."""
        client = await self.connect()
        return client, await self.container.accepted()


@asynccontextmanager
async def running_container(address: str = "127.0.0.1") -> AsyncIterator[Container]:
    listener = bound(address, socket.SOCK_STREAM)
    container = Container(target(listener))
    async with await asyncio.start_server(container.serve, sock=listener):
        try:
            yield container
        finally:
            container.end()


@asynccontextmanager
async def publish(container: Container, host: str = "::1", limit: int = 512) -> AsyncIterator[Published]:
    front = listening(host)
    published = Published(place(front), container)
    async with running(Connections(front, container.target, limit)):
        yield published


def listening(address: str) -> socket.socket:
    one = bound(address, socket.SOCK_STREAM)
    one.listen()
    return one


@pytest.fixture
async def published() -> AsyncIterator[Published]:
    async with running_container() as container, publish(container) as published:
        yield published


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """All of it, and the end."""
    writer.write(data)
    await writer.drain()
    writer.write_eof()


async def heard(work: Awaitable[bytes]) -> bytes:
    async with asyncio.timeout(LIMIT_S):
        return await work


async def is_reset(stream: Stream) -> bool:
    try:
        await heard(stream[0].read())
    except ConnectionResetError:
        return True
    return False


@families
async def test_megabytes_are_carried_both_ways_at_once(host: str, address: str) -> None:
    question, answer = bytes(range(256)) * 4 * 4096, bytes(reversed(range(256))) * 4 * 4096
    async with running_container(address) as container, publish(container, host) as published:
        client, server = await published.connected()

        _, _, asked, answered = await asyncio.gather(
            send(client[1], question), send(server[1], answer), heard(server[0].read()), heard(client[0].read())
        )

    assert (asked == question, answered == answer) == (True, True)


async def test_a_client_that_ended_hears_the_answer_still(published: Published) -> None:
    client, server = await published.connected()

    await send(client[1], b"question")
    asked = await heard(server[0].read())
    await send(server[1], b"answer")

    assert (asked, await heard(client[0].read())) == (b"question", b"answer")


async def test_a_container_that_ended_hears_the_client_still(published: Published) -> None:
    client, server = await published.connected()

    await send(server[1], b"greeting")
    greeted = await heard(client[0].read())
    await send(client[1], b"thanks")

    assert (greeted, await heard(server[0].read())) == (b"greeting", b"thanks")


async def test_what_a_slow_client_has_not_read_when_all_has_ended_is_not_lost(published: Published) -> None:
    client, server = await published.connected()
    answer = bytes(MEGABYTE)

    client[1].write_eof()
    await heard(server[0].read())
    await send(server[1], answer)
    await asyncio.sleep(0.05)  # longer than the proxy needs to come to its end

    assert len(await heard(client[0].read())) == len(answer)


async def test_a_busy_connection_leaves_others_their_turns() -> None:
    with bound("127.0.0.1", socket.SOCK_STREAM) as container, bound("127.0.0.1", socket.SOCK_STREAM) as front:
        for one in (container, front):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MEGABYTE)
            one.listen()
        with socket.create_connection(place(front), timeout=LIMIT_S) as client:
            client.sendall(bytes(SENT))
            async with running(Connections(front, target(container))):
                turns = [0]
                with await accepted_by(container) as server:
                    while turns[-1] < SENT:
                        turns.append(unread(server))
                        await asyncio.sleep(0)

    assert max(after - before for before, after in pairwise(turns)) <= SENT // 2


def unread(one: socket.socket) -> int:
    count = array("i", [0])
    fcntl.ioctl(one, termios.FIONREAD, count)
    return count[0]


async def accepted_by(listener: socket.socket) -> socket.socket:
    async with asyncio.timeout(LIMIT_S):
        one, _ = await asyncio.get_running_loop().sock_accept(listener)
    return one


async def test_a_container_that_does_not_read_holds_its_client_up(published: Published) -> None:
    client, server = await published.connected()
    server[1].transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport reads
    sending = asyncio.create_task(send(client[1], bytes(64 * MEGABYTE)))

    done, _ = await asyncio.wait([sending], timeout=0.3)
    sending.cancel()

    assert done == set()


async def test_a_container_that_refuses_resets_its_client(caplog: pytest.LogCaptureFixture) -> None:
    with bound("127.0.0.1", socket.SOCK_STREAM) as nobody, caplog.at_level(logging.DEBUG, "mdnp.kernel.proxy"):
        front, told = listening("127.0.0.1"), target(nobody)
        where = place(front)
        async with running(Connections(front, told)):
            for _ in range(2):
                reader, writer = await asyncio.open_connection(*where)
                assert await is_reset((reader, writer))
                writer.transport.abort()

    assert f"a connection to {told} broke" in caplog.text


async def test_a_connection_that_breaks_on_one_side_is_reset_on_the_other(published: Published) -> None:
    """An ordinary end would say that all had been said."""
    client, server = await published.connected()
    other_client, other_server = await published.connected()

    reset(server)
    reset(other_client)

    assert (await is_reset(client), await is_reset(other_server)) == (True, True)


def reset(stream: Stream) -> None:
    one = stream[1].get_extra_info("socket")
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream[1].transport.abort()


async def test_closing_ends_its_connections() -> None:
    async with running_container() as container:
        async with publish(container) as published:
            client, server = await published.connected()

        with pytest.raises(ConnectionRefusedError):
            await published.connect()
        assert (await is_reset(client), await is_reset(server)) == (True, True)


async def test_closing_ends_a_connection_that_was_just_accepted() -> None:
    with bound("127.0.0.1", socket.SOCK_STREAM) as nobody:
        front = listening("127.0.0.1")
        carrier = Connections(front, target(nobody))
        with socket.create_connection(place(front)) as client:
            carrier.start()
            for _ in range(2):  # turns of the loop: now it is accepted, and its task has not begun
                await asyncio.sleep(0)
            await carrier.close()

            assert client.recv(1) == b""


@pytest.mark.long
async def test_without_descriptors_clients_wait_until_there_are_some(
    published: Published, caplog: pytest.LogCaptureFixture
) -> None:
    with bound("::1", socket.SOCK_STREAM) as client:
        with no_descriptors():
            await asyncio.get_running_loop().sock_connect(client, published.place)
            await until(lambda: "accepting for" in caplog.text)

        await published.container.accepted()


@contextmanager
def no_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_who_comes_beyond_the_limit_waits_until_another_has_left() -> None:
    async with running_container() as container, publish(container, limit=2) as published:
        (first, _), _ = [await published.connected() for _ in range(2)]
        third = await published.connect()
        third[1].write(b"hello")
        await asyncio.sleep(0.05)
        waiting = container.waiting
        reset(first)
        reader, _ = await container.accepted()

        assert (waiting, await heard(reader.readexactly(5))) == (0, b"hello")


async def test_a_connection_that_has_ended_leaves_no_socket(published: Published) -> None:
    before = descriptors()
    client, server = await published.connected()
    await asyncio.gather(send(client[1], b"question"), send(server[1], b"answer"))
    await asyncio.gather(heard(client[0].read()), heard(server[0].read()))
    for _, writer in (client, server):
        writer.close()
        await writer.wait_closed()

    await until(lambda: descriptors() == before)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# UDP


class Peer:
    """A UDP socket of a client, or of the container's server."""

    def __init__(self, one: socket.socket) -> None:
        self.socket = one
        self.place = place(one)

    async def hear(self) -> tuple[bytes, Place]:
        async with asyncio.timeout(LIMIT_S):
            data, (address, port, *_) = await asyncio.get_running_loop().sock_recvfrom(self.socket, 65536)
        return data, (address, port)

    def say(self, data: bytes, to: Place) -> None:
        self.socket.sendto(data, to)


class Datagram:
    """A UDP port of the host, carried to a server; `client` makes one that speaks to it."""

    def __init__(self, host: str, container: str, stack: AsyncExitStack, idle_s: float, limit: int) -> None:
        self._stack = stack
        self.server = self.peer(container)
        front = bound(host, socket.SOCK_DGRAM)
        self.place = place(front)
        self.carrier = Datagrams(front, target(self.server.socket), idle_s, limit)

    def peer(self, address: str, port: int = 0) -> Peer:
        return Peer(self._stack.enter_context(closing(bound(address, socket.SOCK_DGRAM, port))))

    async def ask(self, client: Peer, data: bytes) -> Place:
        """Whom the server takes for the client."""
        client.say(data, self.place)
        got, seen = await self.server.hear()
        assert got == data
        return seen


@asynccontextmanager
async def publish_udp(
    host: str = "127.0.0.1", container: str = "127.0.0.1", idle_s: float = 60, limit: int = 1024
) -> AsyncIterator[Datagram]:
    async with AsyncExitStack() as stack:
        port = Datagram(host, container, stack, idle_s, limit)
        await stack.enter_async_context(running(port.carrier))
        yield port


@families
async def test_two_clients_are_told_apart(host: str, address: str) -> None:
    async with publish_udp(host, address) as port:
        one, two = port.peer(host), port.peer(host)
        seen = [await port.ask(one, b"one"), await port.ask(two, b"two"), await port.ask(one, b"one again")]

        port.server.say(b"for two", seen[1])
        port.server.say(b"for one", seen[0])
        answers = [await one.hear(), await two.hear()]

    assert seen[0] == seen[2] != seen[1]
    assert answers == [(b"for one", port.place), (b"for two", port.place)]


@pytest.mark.parametrize("size", [0, 1, 60_000])
async def test_a_datagram_is_carried_whole(size: int) -> None:
    async with publish_udp("::1") as port:
        client = port.peer("::1")

        seen = await port.ask(client, b"x" * size)
        port.server.say(b"y" * size, seen)

        assert await client.hear() == (b"y" * size, port.place)


async def test_the_answer_comes_from_the_address_that_was_asked() -> None:
    async with publish_udp("0.0.0.0") as port:  # noqa: S104  # as published ports are
        client = port.peer("127.0.0.1")
        asked = [("127.0.0.5", port.place[1]), ("127.0.0.6", port.place[1])]
        answered = []
        for one in asked:
            client.say(b"question", one)
            _, seen = await port.server.hear()
            port.server.say(b"answer", seen)
            answered.append((await client.hear())[1])

    assert answered == asked


async def test_idle_clients_are_dropped() -> None:
    async with publish_udp(idle_s=0.05) as port:
        one, two = port.peer("127.0.0.1"), port.peer("127.0.0.1")
        before = descriptors()
        for _ in range(2):
            await port.ask(one, b"question")
            await asyncio.sleep(0.02)
            await port.ask(two, b"question")
            await until(lambda: port.carrier.clients == 0)
            assert descriptors() == before


async def test_a_client_that_is_spoken_to_is_not_idle() -> None:
    async with publish_udp(idle_s=0.5) as port:
        asker, listener = port.peer("127.0.0.1"), port.peer("127.0.0.1")
        seen = [await port.ask(asker, b"question"), await port.ask(listener, b"question")]
        while port.carrier.clients == 2:
            port.server.say(b"news", seen[1])
            await asyncio.sleep(0.02)

        assert await port.ask(listener, b"question") == seen[1]


async def test_of_too_many_clients_the_longest_idle_goes() -> None:
    async with publish_udp(limit=2) as port:
        one, two, three = (port.peer("127.0.0.1") for _ in range(3))
        first = await port.ask(one, b"one")
        second = await port.ask(two, b"two")
        await port.ask(one, b"one")
        await port.ask(three, b"three")

        assert port.carrier.clients == 2
        assert await port.ask(one, b"one") == first
        assert await port.ask(two, b"two") != second


async def test_a_server_that_comes_late_is_reached(caplog: pytest.LogCaptureFixture) -> None:
    """Until then the kernel answers with ICMP errors, which come up at some later call, and are nothing to warn of."""
    async with publish_udp() as port:
        client = port.peer("127.0.0.1")
        port.server.socket.close()
        for _ in range(3):
            for _ in range(3):
                client.say(b"too early", port.place)
            await asyncio.sleep(0.01)
        port.server = port.peer(*port.server.place)

        seen = await port.ask(client, b"now")
        port.server.say(b"answer", seen)

        assert await client.hear() == (b"answer", port.place)
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


async def test_a_client_that_went_away_does_not_matter() -> None:
    async with publish_udp() as port:
        gone, client = port.peer("127.0.0.1"), port.peer("127.0.0.1")
        seen = await port.ask(gone, b"question")
        gone.socket.close()
        for _ in range(3):
            port.server.say(b"answer", seen)
            await asyncio.sleep(0.01)

        port.server.say(b"answer", await port.ask(client, b"question"))

        assert await client.hear() == (b"answer", port.place)


async def test_closing_a_udp_port_leaves_no_socket() -> None:
    async with AsyncExitStack() as stack:
        before = descriptors()
        port = Datagram("127.0.0.1", "127.0.0.1", stack, 60, 10)
        port.carrier.start()
        client = port.peer("127.0.0.1")
        await port.ask(client, b"question")
        await port.carrier.close()
        left = descriptors() - before

    assert left == 2  # the client's and the server's
