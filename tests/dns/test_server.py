import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import dns.asyncquery
import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dns import Answer, Finder, Kind, Question, Record, Scope, Served, Upstream
from mdnp.dns.askers import Limits
from mdnp.dns.server import Server
from mdnp.dns.upstream import Forwarder
from mdnp.model.network import IPAddress
from tests.dns.ground import (
    HOST,
    Dead,
    Elsewhere,
    Silent,
    Zone,
    addresses,
    answered,
    everybody,
    query,
    serving,
    sockets,
    until,
)

_BLUE = "web.blue.mdnp"
_REVERSE = "7.0.50.10.in-addr.arpa"


def _zone() -> Zone:
    return Zone(
        {
            (_BLUE, Kind.A): addresses(_BLUE, "10.50.0.7", "10.50.0.8"),
            ("many.mdnp", Kind.A): addresses("many.mdnp", *(f"10.50.1.{number}" for number in range(200))),
            ("local", Kind.A): replace(addresses("local", "10.50.0.9"), left=True),
            (_REVERSE, Kind.PTR): Answer((Record(_REVERSE, Kind.PTR, _BLUE),)),
        }
    )


def _server(upstream: Upstream | None = None, *, embedded: bool = False, **limits: float) -> Server:
    return Server(everybody(Scope(_zone(), upstream, embedded)), Limits(**limits))  # type: ignore[arg-type]


async def _udp(name: str, port: int, kind: str = "A", timeout: float = 2, **options: Any) -> dns.message.Message:  # noqa: ASYNC109
    asked = dns.message.make_query(name, kind, **options)
    return await dns.asyncquery.udp(asked, HOST, timeout, port)


async def _tcp(name: str, port: int, kind: str = "A") -> dns.message.Message:
    return await dns.asyncquery.tcp(dns.message.make_query(name, kind), HOST, 2, port)


@contextlib.contextmanager
def _asking(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((HOST, port))
        asking.setblocking(False)
        yield asking


async def _received(asking: socket.socket) -> bytes:
    async with asyncio.timeout(2):
        return await asyncio.get_running_loop().sock_recv(asking, 65535)


async def _answers_to(port: int, *packets: bytes) -> list[bytes]:
    """What comes back before the answer to one more, good question."""
    with _asking(port) as asking:
        for packet in packets:
            asking.send(packet)
        asking.send(query(_BLUE, id=4242))
        answers: list[bytes] = []
        while True:
            answer = await _received(asking)
            if answer[:2] == (4242).to_bytes(2, "big"):
                return answers
            answers.append(answer)


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


async def _next(reader: asyncio.StreamReader) -> dns.message.Message:
    async with asyncio.timeout(2):
        octets = int.from_bytes(await reader.readexactly(2), "big")
        return dns.message.from_wire(await reader.readexactly(octets))


async def test_a_real_resolver_resolves() -> None:
    async with serving(_server()) as port:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port, resolver.lifetime = [HOST], port, 2
        found = await resolver.resolve(_BLUE)
        assert [it.address for it in found] == ["10.50.0.7", "10.50.0.8"]
        assert len(await resolver.resolve("many.mdnp")) == 200  # cut off over UDP, then asked over TCP
        assert [it.target.to_text() for it in await resolver.resolve_address("10.50.0.7")] == [f"{_BLUE}."]
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver.resolve("nobody.blue.mdnp")
        with pytest.raises(dns.resolver.NoAnswer):
            await resolver.resolve(_BLUE, "AAAA")
        with pytest.raises(dns.resolver.NoNameservers):  # nobody stands behind us: refused
            await resolver.resolve("www.example")


async def test_ipv6_is_served() -> None:
    server = _server()
    async with serving(server, "::1") as port:
        asked = dns.message.make_query(_BLUE, "A")
        assert (await dns.asyncquery.udp(asked, "::1", 2, port)).answer
        assert (await dns.asyncquery.tcp(asked, "::1", 2, port)).answer
    assert server.served == Served(zone=2)


@pytest.mark.parametrize("embedded", [False, True])
async def test_what_the_zone_does_not_have_goes_on(embedded: bool) -> None:
    async with Elsewhere(lambda packet, _stream: [answered(packet, "192.0.2.1")]).open() as elsewhere:
        forwarder = Forwarder(elsewhere.dial, elsewhere.address)
        server = _server(forwarder, embedded=embedded)
        async with serving(server) as port:
            with _asking(port) as asking:
                packet = query("WWW.example", use_edns=0)
                asking.send(packet)
                assert await _received(asking) == answered(packet, "192.0.2.1")
            assert (await _tcp("www.example", port)).answer
            assert (await _udp("nobody.mdnp", port)).rcode() == dns.rcode.NXDOMAIN
        assert server.served == Served(zone=1, forwarded=2)
        assert len(elsewhere.asked) == 2
        forwarder.close()


@pytest.mark.parametrize(("embedded", "text"), [(True, "192.0.2.1"), (False, "10.50.0.9")])
async def test_what_dockers_dns_has_is_left_to_it_where_it_stands_behind(embedded: bool, text: str) -> None:
    upstream = Silent()
    upstream.released.set()
    async with serving(_server(upstream, embedded=embedded)) as port:
        (rrset,) = (await _udp("local", port)).answer
        assert [it.address for it in rrset] == [text]


async def test_an_upstream_without_an_answer_is_a_failure() -> None:
    server = _server(Dead())
    async with serving(server) as port:
        assert (await _udp("www.example", port)).rcode() == dns.rcode.SERVFAIL
        assert (await _tcp("www.example", port)).rcode() == dns.rcode.SERVFAIL
    assert server.served == Served(unanswered=2)


@pytest.mark.parametrize(
    ("embedded", "payload", "octets"), [(False, 4000, 1232), (True, 4000, 4000), (False, 0, 512), (True, 0, 512)]
)
async def test_anothers_answer_is_no_longer_than_allowed(embedded: bool, payload: int, octets: int) -> None:
    class Long:
        async def ask(self, query: bytes, *, stream: bool) -> bytes:  # noqa: ARG002  # the contract's
            return answered(query, *(f"192.0.2.{number}" for number in range(200)))

    options: dict[str, Any] = {"use_edns": 0, "payload": payload} if payload else {}
    packet = query("big.example", **options)
    whole = len(answered(packet, *(f"192.0.2.{number}" for number in range(200))))
    async with serving(_server(Long(), embedded=embedded)) as port:
        answer = await _udp("big.example", port, **options)
        assert bool(answer.flags & dns.flags.TC) == (whole > octets)
        assert len((await _tcp("big.example", port)).answer[0]) == 200


async def test_a_slow_upstream_delays_no_zone() -> None:
    upstream = Silent()
    async with serving(_server(upstream)) as port, _connected(port) as (reader, writer):
        with _asking(port) as asking:
            asking.send(query("slow.example"))
            writer.write(_framed(query("slow.example")) + _framed(query(_BLUE)))
            assert (await _udp(_BLUE, port)).answer
            assert (await _next(reader)).question[0].name.to_text() == f"{_BLUE}."
            upstream.released.set()
            assert await _received(asking)
            assert (await _next(reader)).question[0].name.to_text() == "slow.example."


async def test_strangers_get_nothing() -> None:
    server = Server(lambda _address: None)
    async with serving(server) as port:
        with pytest.raises(dns.exception.Timeout):
            await _udp(_BLUE, port, timeout=0.05)
        async with _connected(port) as (reader, _):
            assert await reader.read() == b""
    assert server.served == Served(dropped=2)


async def test_who_asks_is_known_by_address() -> None:
    seen: set[IPAddress] = set()

    def scopes(address: IPAddress) -> Scope | None:
        seen.add(address)
        return Scope(_zone(), None) if address == IPv4Address("127.0.0.3") else None

    async with serving(Server(scopes)) as port:
        asked = dns.message.make_query(_BLUE, "A")
        assert (await dns.asyncquery.udp(asked, HOST, 2, port, source="127.0.0.3")).answer
        assert (await dns.asyncquery.tcp(asked, HOST, 2, port, source="127.0.0.3")).answer
        with pytest.raises(dns.exception.Timeout):
            await dns.asyncquery.udp(asked, HOST, 0.05, port, source="127.0.0.4")
    assert seen == {ip_address("127.0.0.3"), ip_address("127.0.0.4")}


async def test_who_leaves_is_not_answered_on_a_connection_that_it_has() -> None:
    scopes: dict[IPAddress, Scope] = {ip_address(HOST): Scope(_zone(), None)}
    async with serving(Server(scopes.get)) as port, _connected(port) as (reader, writer):
        writer.write(_framed(query(_BLUE)))
        assert (await _next(reader)).answer
        scopes.clear()
        writer.write(_framed(query(_BLUE)))
        assert await reader.read() == b""


async def test_responses_get_no_answer() -> None:
    server = _server()
    async with serving(server) as port:
        assert await _answers_to(port, answered(query(_BLUE), "10.50.0.7"), b"", b"\0" * 11) == []
    assert server.served == Served(zone=1, dropped=3)


async def test_nonsense_is_refused() -> None:
    async with serving(_server()) as port:
        answers = await _answers_to(port, b"\0\7" + b"\0" * 10, query(_BLUE)[:-1], query(_BLUE) + b"\0" * 5000)
        assert [answer[3] & 0xF for answer in answers] == [dns.rcode.FORMERR] * 3


async def test_more_than_the_rate_is_dropped() -> None:
    server = _server(questions_per_s=5)
    async with serving(server) as port, _connected(port) as (reader, writer):
        with _asking(port) as asking:
            for _ in range(9):
                asking.send(query(_BLUE))
            for _ in range(5):
                await _received(asking)
            writer.write(_framed(query(_BLUE)))
            assert await reader.read() == b""
            assert server.served == Served(zone=5, dropped=5)
            await asyncio.sleep(0.25)  # a fifth of a second is one question
            asking.send(query(_BLUE))
            assert await _received(asking)


async def test_only_so_many_questions_of_one_asker_are_under_way() -> None:
    upstream = Silent()
    server = _server(upstream, under_way=2)
    async with serving(server) as port:
        with _asking(port) as asking:
            for number in range(2):
                asking.send(query(f"{number}.example"))
            await until(lambda: len(upstream.waiting) == 2)
            assert await _answers_to(port, query("2.example")) == []
            upstream.released.set()
            for _ in range(2):
                await _received(asking)
            asking.send(query("3.example"))
            await _received(asking)
    assert server.served == Served(zone=1, forwarded=3, dropped=1)


@pytest.mark.parametrize("limits", [{"own_connections": 2}, {"connections": 2}])
async def test_only_so_many_connections_are_kept(limits: dict[str, Any]) -> None:
    server = _server(**limits)
    async with serving(server) as port:
        async with _connected(port) as one, _connected(port) as two:
            for reader, writer in (one, two):
                writer.write(_framed(query(_BLUE)))
                assert (await _next(reader)).answer
            async with _connected(port) as (reader, _):
                assert await reader.read() == b""
        while True:
            try:
                assert (await _tcp(_BLUE, port)).answer
                break
            except EOFError:  # the two have not ended yet
                await asyncio.sleep(0.001)


async def test_a_silent_connection_is_closed() -> None:
    async with serving(_server(idle_s=0.03)) as port:
        async with _connected(port) as (reader, _):
            assert await reader.read() == b""
        async with _connected(port) as (reader, writer):
            writer.write(_framed(query(_BLUE))[:-1])  # and one that never ends its question
            assert await reader.read() == b""


async def test_who_never_reads_is_hung_up_on() -> None:
    server = _server(idle_s=0.05, questions_per_s=100_000)
    with sockets() as (datagrams, streams), socket.socket() as asking:
        streams.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asking.setblocking(False)
        task = asyncio.create_task(server.serve(datagrams, streams))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(asking, streams.getsockname())
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(2):
                while True:
                    await loop.sock_sendall(asking, _framed(query("many.mdnp")) * 10)
                    await asyncio.sleep(0)  # sending does not give way by itself
        task.cancel()
        await asyncio.wait([task])


async def test_who_is_silent_still_gets_what_is_under_way() -> None:
    upstream = Silent()
    async with serving(_server(upstream, idle_s=0.02)) as port, _connected(port) as (reader, writer):
        writer.write(_framed(query("slow.example")))
        await asyncio.sleep(0.05)
        upstream.released.set()
        assert (await _next(reader)).answer
        assert await reader.read() == b""


async def test_who_has_no_more_questions_still_gets_its_answers() -> None:
    upstream = Silent()
    async with serving(_server(upstream)) as port, _connected(port) as (reader, writer):
        writer.write(_framed(query("slow.example")))
        writer.write_eof()
        await until(lambda: bool(upstream.waiting))
        upstream.released.set()
        assert (await _next(reader)).answer


async def test_questions_in_pieces_are_put_together() -> None:
    async with serving(_server()) as port, _connected(port) as (reader, writer):
        for octet in _framed(query(_BLUE)) + _framed(query("many.mdnp")):
            writer.write(bytes([octet]))
            await writer.drain()
            await asyncio.sleep(0)
        assert len((await _next(reader)).answer[0]) == 2
        assert len((await _next(reader)).answer[0]) == 200


@pytest.mark.parametrize(
    "data", [b"\0\0", b"\xff\xff" + b"x" * 5000, _framed(b"short"), _framed(answered(query(_BLUE, id=7)))]
)
async def test_nonsense_over_tcp_ends_the_connection(data: bytes) -> None:
    async with serving(_server()) as port, _connected(port) as (reader, writer):
        writer.write(data)
        with contextlib.suppress(ConnectionResetError):  # what was not read is thrown away
            assert await reader.read() == b""


async def test_an_error_of_ours_is_a_failure_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def find(self, question: Question) -> Answer | None:
            raise LookupError(question.name)

        async def ask(self, query: bytes, *, stream: bool) -> bytes:
            raise LookupError(query, stream)

    broken = Broken()
    finders: dict[str, Finder] = {"127.0.0.1": broken, "127.0.0.2": _zone()}

    def scopes(address: IPAddress) -> Scope | None:
        return Scope(finders[str(address)], broken)

    server = Server(scopes)
    async with serving(server) as port:
        with caplog.at_level(logging.WARNING):
            asked = dns.message.make_query("www.example", "A")
            for source in ("127.0.0.1", "127.0.0.1", "127.0.0.2"):
                answer = await dns.asyncquery.udp(asked, HOST, 2, port, source=source)
                assert answer.rcode() == dns.rcode.SERVFAIL
            with pytest.raises(dns.exception.Timeout):
                await dns.asyncquery.udp(asked, HOST, 0.05, port, source="127.0.0.3")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]  # LookupError, KeyError
    assert server.served == Served(unanswered=3, dropped=1)


async def test_a_zone_that_says_nonsense_is_a_failure() -> None:
    record = Record(_BLUE, Kind.A, ip_address("10.50.0.7"), ttl_s=-1)
    zone = Zone({(_BLUE, Kind.A): Answer((record,))})
    async with serving(Server(everybody(Scope(zone, None)))) as port:
        assert (await _udp(_BLUE, port)).rcode() == dns.rcode.SERVFAIL


async def test_several_pairs_of_sockets_are_served_at_once() -> None:
    server = _server()
    async with serving(server) as one, serving(server) as two:
        assert (await _udp(_BLUE, one)).answer
        assert (await _tcp(_BLUE, two)).answer
    assert server.served == Served(zone=2)


async def test_nothing_is_left_when_it_ends() -> None:
    upstream = Silent()
    server = _server(upstream)
    before = asyncio.all_tasks()
    with sockets() as (datagrams, streams):
        port = streams.getsockname()[1]
        task = asyncio.create_task(server.serve(datagrams, streams))
        async with _connected(port) as (reader, writer), _connected(port):
            with _asking(port) as asking:
                asking.send(query("slow.example"))
                writer.write(_framed(query("slow.example")))
                await until(lambda: len(upstream.waiting) == 2)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                assert await reader.read() == b""
        assert asyncio.all_tasks() == before
        again = asyncio.create_task(server.serve(datagrams, streams))  # the sockets are still the caller's
        assert (await _udp(_BLUE, port)).answer
        again.cancel()
        await asyncio.wait([again])


def test_dnspython_is_loaded_with_the_first_server() -> None:
    code = "import sys, mdnp.daemon, mdnp.dns; print([one for one in sys.modules if one.partition('.')[0] == 'dns'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _bent(packet: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    changed = bytearray(packet)
    for place, octet in changes:
        changed[place % len(changed)] = octet
    return bytes(changed[: len(changed) - cut])


_PACKETS = st.binary(max_size=600) | st.builds(
    _bent,
    st.sampled_from(
        [
            query(_BLUE, id=7),
            query("many.mdnp", id=7, use_edns=0, payload=4096),
            query("www.example", id=7, use_edns=0),
            answered(query(_BLUE, id=7), "10.50.0.7"),
        ]
    ),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=5),
    st.sampled_from([0, 0, 0, 1]),
)


@given(st.lists(_PACKETS, max_size=20), st.booleans())
async def test_raw_packets_crash_nothing_and_are_not_amplified(packets: list[bytes], known: bool) -> None:
    server = Server(everybody(Scope(_zone(), Dead()))) if known else Server(lambda _address: None)
    async with serving(server) as port:
        if not known:
            with _asking(port) as asking:
                for packet in packets:
                    asking.send(packet)
                await until(lambda: server.served.dropped == len(packets))
                with pytest.raises(BlockingIOError):
                    asking.recv(65535)
            return
        questions = [packet for packet in packets if len(packet) >= 12 and not packet[2] & 0x80]
        answers = await _answers_to(port, *packets)
        assert all(len(answer) <= 1232 for answer in answers)
        assert all(answer[2] & 0x80 for answer in answers)
        assert len(answers) <= len(questions)


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=10))
async def test_raw_streams_crash_nothing(pieces: list[bytes]) -> None:
    server = _server(Dead(), idle_s=0.05)
    async with serving(server) as port:
        async with _connected(port) as (reader, writer):
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                writer.write_eof()
                await reader.read()
        assert (await _tcp(_BLUE, port)).answer
