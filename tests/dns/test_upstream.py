import asyncio
import socket
from collections.abc import Sequence
from socket import SocketKind
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from mdnp.dns import Unanswered
from mdnp.dns.upstream import Cache, Forwarder
from mdnp.model.errors import KernelError
from tests.dns.ground import Elsewhere, answered, query, until


def _always(packet: bytes, _stream: bool) -> Sequence[bytes]:
    return [answered(packet, "192.0.2.1")]


def _never(_packet: bytes, _stream: bool) -> Sequence[bytes]:
    return []


def _forwarder(elsewhere: Elsewhere, **options: float) -> Forwarder:
    return Forwarder(elsewhere.dial, elsewhere.address, **{"timeout_s": 2.0, **options})  # type: ignore[arg-type]


async def _all_asked(elsewhere: Elsewhere, count: int) -> None:
    await until(lambda: len(elsewhere.asked) >= count)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_comes_back_as_it_came(stream: bool) -> None:
    asked = query("WWW.example", id=7, use_edns=0, options=[dns.edns.CookieOption(b"12345678", b"")])
    async with Elsewhere(_always).open() as elsewhere:
        forwarder = _forwarder(elsewhere)
        assert await forwarder.ask(asked, stream=stream) == answered(asked, "192.0.2.1")
        assert elsewhere.asked[0][2:] == asked[2:]
        forwarder.close()


async def test_questions_go_on_with_ids_of_our_own() -> None:
    async with Elsewhere(_always).open() as elsewhere:
        forwarder = _forwarder(elsewhere)
        for _ in range(8):
            await forwarder.ask(query("www.example", id=7), stream=False)
        assert len({packet[:2] for packet in elsewhere.asked}) > 1
        forwarder.close()


@pytest.mark.parametrize(("per_socket", "ports"), [(1, 6), (3, 2), (100, 1)])
async def test_a_port_is_used_for_so_many_questions(per_socket: int, ports: int) -> None:
    async with Elsewhere(_always).open() as elsewhere:
        forwarder = _forwarder(elsewhere, per_socket=per_socket)
        await asyncio.gather(*(forwarder.ask(query(f"{number}.example"), stream=False) for number in range(6)))
        assert len(set(elsewhere.sources)) == ports
        forwarder.close()


async def test_wrong_answers_are_passed_over() -> None:
    def handler(packet: bytes, _stream: bool) -> Sequence[bytes]:
        wrong_id = bytes([packet[0] ^ 1]) + packet[1:]
        other = packet[:2] + query("other.example")[2:]
        right = answered(packet, "192.0.2.1")
        return [answered(wrong_id), answered(other, "192.0.2.66"), packet, b"", b"\0" * 5, right, right]

    async with Elsewhere(handler).open() as elsewhere:
        forwarder = _forwarder(elsewhere)
        asked = query("www.example")
        assert await forwarder.ask(asked, stream=False) == answered(asked, "192.0.2.1")
        forwarder.close()


async def test_answers_find_their_questions_in_any_order() -> None:
    held: list[bytes] = []

    def handler(packet: bytes, _stream: bool) -> Sequence[bytes]:
        held.append(packet)
        return [answered(one, f"192.0.2.{len(one)}") for one in reversed(held)] if len(held) == 5 else []

    async with Elsewhere(handler).open() as elsewhere:
        forwarder = _forwarder(elsewhere)
        asked = [query("w" * number + ".example", id=number) for number in range(1, 6)]
        found = await asyncio.gather(*(forwarder.ask(one, stream=False) for one in asked))
        assert found == [answered(one, f"192.0.2.{len(one)}") for one in asked]
        forwarder.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_nobody_answers_in_time(stream: bool) -> None:
    async with Elsewhere(_never).open() as elsewhere:
        forwarder = _forwarder(elsewhere, timeout_s=0.02)
        with pytest.raises(Unanswered, match=r"127\.0\.0\.1"):
            await forwarder.ask(query("www.example"), stream=stream)
        forwarder.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_closed_port_is_told_at_once(stream: bool) -> None:
    elsewhere = Elsewhere(_always)
    async with elsewhere.open():
        pass
    forwarder = _forwarder(elsewhere, timeout_s=30)
    with pytest.raises(Unanswered, match="cannot be asked"):
        await forwarder.ask(query("www.example"), stream=stream)
    forwarder.close()


async def test_a_server_that_is_back_is_asked_from_a_new_socket() -> None:
    async with Elsewhere(_always).open() as elsewhere:
        forwarder = _forwarder(elsewhere)
        port, elsewhere.port = elsewhere.port, 1  # where nobody listens
        with pytest.raises(Unanswered):
            await forwarder.ask(query("www.example"), stream=False)
        elsewhere.port = port
        assert await forwarder.ask(query("www.example"), stream=False)
        forwarder.close()


async def test_a_sandbox_that_is_gone_answers_nothing() -> None:
    def dial(_kind: SocketKind) -> socket.socket:
        raise KernelError("no such namespace")

    with pytest.raises(Unanswered, match="no such namespace"):
        await Forwarder(dial).ask(query("www.example"), stream=False)


@pytest.mark.parametrize("answer", [b"", b"\0" * 12, answered(query("other.example", id=7))])
async def test_nonsense_over_tcp_is_no_answer(answer: bytes) -> None:
    async with Elsewhere(lambda _packet, _stream: [answer]).open() as elsewhere:
        with pytest.raises(Unanswered, match=r"127\.0\.0\.1"):
            await _forwarder(elsewhere, timeout_s=0.2).ask(query("www.example"), stream=True)


async def test_no_more_than_so_many_questions_wait() -> None:
    async with Elsewhere(_never).open() as elsewhere:
        forwarder = _forwarder(elsewhere, waiting=3)
        waiting = [asyncio.ensure_future(forwarder.ask(query(f"{n}.example"), stream=False)) for n in range(3)]
        await _all_asked(elsewhere, 3)
        with pytest.raises(Unanswered, match="3 questions wait"):
            await forwarder.ask(query("one-more.example"), stream=False)
        forwarder.close()
        assert all(isinstance(one, Unanswered) for one in await asyncio.gather(*waiting, return_exceptions=True))


async def test_who_no_longer_waits_leaves_nothing_behind() -> None:
    async with Elsewhere(_never).open() as elsewhere:
        forwarder = _forwarder(elsewhere, waiting=1, per_socket=1)
        for number in range(3):
            task = asyncio.ensure_future(forwarder.ask(query("www.example"), stream=False))
            await _all_asked(elsewhere, number + 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elsewhere.handler = _always
        assert await forwarder.ask(query("www.example"), stream=False)


async def test_closing_ends_what_waits_on_every_socket() -> None:
    async with Elsewhere(_never).open() as elsewhere:
        forwarder = _forwarder(elsewhere, timeout_s=30, per_socket=1)
        waiting = [asyncio.ensure_future(forwarder.ask(query(f"{n}.example"), stream=False)) for n in range(3)]
        await _all_asked(elsewhere, 3)
        forwarder.close()
        forwarder.close()
        assert all(isinstance(one, Unanswered) for one in await asyncio.gather(*waiting, return_exceptions=True))


async def test_alike_questions_share_an_answer_beyond_a_few() -> None:
    async with Elsewhere(_never).open() as elsewhere:
        forwarder = _forwarder(elsewhere)
        asked = [query("WwW.example" if number % 2 else "www.example", id=number) for number in range(50)]
        waiting = [asyncio.ensure_future(forwarder.ask(one, stream=False)) for one in asked]
        await _all_asked(elsewhere, 8)
        elsewhere.handler = _always
        await forwarder.ask(query("other.example"), stream=False)
        assert len(elsewhere.asked) == 9
        forwarder._lines[0]._take(answered(elsewhere.asked[7], "192.0.2.1"))  # noqa: SLF001  # as if it came late
        forwarder.close()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert answers[8:] == [answered(one, "192.0.2.1") for one in asked[8:]]


async def test_a_loop_ends() -> None:
    """The server that we ask asks us: without an end, and with every question written anew."""
    forwarder: Forwarder
    tasks: set[asyncio.Future[bytes]] = set()

    def handler(_packet: bytes, _stream: bool) -> Sequence[bytes]:
        again = query("www.example", use_edns=0, payload=512 + len(elsewhere.asked))
        tasks.add(asyncio.ensure_future(forwarder.ask(again, stream=False)))
        return []

    async with Elsewhere(handler).open() as elsewhere:
        forwarder = _forwarder(elsewhere, timeout_s=0.1, patience_s=0.05)
        with pytest.raises(Unanswered):
            await forwarder.ask(query("www.example"), stream=False)
        while running := [task for task in tasks if not task.done()]:
            await asyncio.wait(running)
        assert len(elsewhere.asked) == 8
        assert all(isinstance(task.exception(), Unanswered) for task in tasks)
        elsewhere.handler = _always
        assert await forwarder.ask(query("www.example"), stream=False)
        forwarder.close()


async def test_a_question_that_lasts_longer_than_a_client_waits_is_not_asked_anew() -> None:
    async with Elsewhere(_never).open() as elsewhere:
        forwarder = _forwarder(elsewhere, timeout_s=0.2, patience_s=0.0)
        asked = query("www.example")
        first = asyncio.ensure_future(forwarder.ask(asked, stream=False))
        await _all_asked(elsewhere, 1)
        with pytest.raises(Unanswered, match="perhaps a server that we ask asks us"):
            await forwarder.ask(query("www.example", use_edns=0), stream=False)
        with pytest.raises(Unanswered):
            await forwarder.ask(asked, stream=False)
        assert len(elsewhere.asked) == 1
        with pytest.raises(Unanswered):
            await first
        forwarder.close()


class _Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class _Counting:
    """An upstream that counts."""

    def __init__(self, ttl_s: int = 30, count: int = 1) -> None:
        self.asked = 0
        self._ttl_s = ttl_s
        self._texts = [f"192.0.2.{number}" for number in range(count)]

    async def ask(self, query: bytes, *, stream: bool) -> bytes:  # noqa: ARG002  # the contract's
        self.asked += 1
        return answered(query, *self._texts, ttl_s=self._ttl_s)


async def _ttl(cache: Cache, name: str = "www.example", **options: Any) -> int:
    return dns.message.from_wire(await cache.ask(query(name, **options), stream=False)).answer[0].ttl


async def test_what_was_answered_is_remembered_and_grows_old() -> None:
    upstream, clock = _Counting(), _Clock()
    cache = Cache(upstream, clock=clock)
    assert await _ttl(cache) == 30
    clock.now_s += 20.5
    assert await _ttl(cache, "WWW.example") == 10
    assert upstream.asked == 1
    clock.now_s += 9.5
    assert await _ttl(cache) == 30
    assert upstream.asked == 2


async def test_nothing_is_remembered_for_more_than_a_minute() -> None:
    upstream, clock = _Counting(ttl_s=86400), _Clock()
    cache = Cache(upstream, clock=clock)
    assert await _ttl(cache) == 86400
    clock.now_s += 59
    assert await _ttl(cache) == 86341
    clock.now_s += 1
    assert await _ttl(cache) == 86400
    assert upstream.asked == 2


async def test_who_asks_for_more_gets_an_answer_of_its_own() -> None:
    upstream = _Counting()
    cache = Cache(upstream, clock=_Clock())
    variants: list[dict[str, Any]] = [
        {},
        {"use_edns": 0},
        {"use_edns": 0, "want_dnssec": True},
        {"flags": dns.flags.RD | dns.flags.CD},
        {"flags": dns.flags.RD | dns.flags.AD},
        {"flags": 0},
    ]
    for number, options in enumerate(variants * 2):
        await _ttl(cache, **options)
        assert upstream.asked == min(number + 1, len(variants))
    for _ in range(2):  # a cookie's answer is only for whoever sent it
        await _ttl(cache, use_edns=0, options=[dns.edns.CookieOption(b"12345678", b"")])
    assert upstream.asked == len(variants) + 2


async def test_failures_are_not_remembered() -> None:
    class Failing:
        asked = 0

        async def ask(self, query: bytes, *, stream: bool) -> bytes:  # noqa: ARG002  # the contract's
            self.asked += 1
            response = dns.message.make_response(dns.message.from_wire(query))
            response.set_rcode(dns.rcode.SERVFAIL)
            return response.to_wire()

    upstream = Failing()
    cache = Cache(upstream, clock=_Clock())
    for _ in range(2):
        await cache.ask(query("www.example"), stream=False)
    assert upstream.asked == 2


async def test_a_cache_has_bounds_and_the_least_used_goes_first() -> None:
    upstream = _Counting()
    cache = Cache(upstream, answers=2, clock=_Clock())
    for name in ("a", "b", "a", "c", "a", "c"):
        await _ttl(cache, name)
    assert upstream.asked == 3
    await _ttl(cache, "b")
    assert upstream.asked == 4


async def test_a_cache_has_a_bound_of_octets() -> None:
    upstream = _Counting(count=20)
    size = len(answered(query("a"), *(f"192.0.2.{number}" for number in range(20))))
    cache = Cache(upstream, octets=2 * size, clock=_Clock())
    for name in ("a", "b", "c", "c", "b"):
        await _ttl(cache, name)
    assert upstream.asked == 3
    await _ttl(cache, "a")
    assert upstream.asked == 4
