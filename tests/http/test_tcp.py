"""The listener on TCP, with clients whose certificates are right, wrong or missing."""

import asyncio
import logging
import socket
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mdnp import tls
from mdnp.http import Answerer, Listener, Response
from mdnp.install import certificates, file
from mdnp.install.certificates import Pair, Paths
from mdnp.model.errors import Conflict, InvalidParameter, MdnpError
from mdnp.model.tcp_address import TcpAddress
from rig.command import until
from tests.http.test_listener import TOO_LARGE, request

HOST = "127.0.0.1"


def made(folder: Path, host: str = HOST) -> Paths:
    """An authority and its certificates, as `mdnp install` makes them."""
    file.write(folder, certificates.missing(folder, Path("/"), TcpAddress(host, 1)))
    return certificates.paths(folder)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return made(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return made(tmp_path_factory.mktemp("strangers"))


def material(where: Paths) -> tls.Material:
    return tls.Material(where.server.cert, where.server.key, where.ca.cert)


def free_address() -> TcpAddress:
    with socket.socket() as one:
        one.bind((HOST, 0))
        return TcpAddress(HOST, one.getsockname()[1])


@dataclass
class Gate:
    """A listener that answers with what it was asked; `/wait` answers when `open` is set."""

    address: TcpAddress
    listener: Listener
    open: asyncio.Event
    asked: list[str]
    arrived: dict[str, asyncio.Event]

    async def was_asked(self, target: str) -> None:
        async with asyncio.timeout(10):
            await self.arrived[target].wait()


@pytest.fixture
async def gate(ours: Paths) -> AsyncIterator[Gate]:
    opened, asked = asyncio.Event(), list[str]()
    arrived: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def answer(method: str, target: str, body: bytes) -> Response:
        asked.append(target)
        arrived[target].set()
        if target == "/wait":
            await opened.wait()
        return Response(200, f"{method} {target} {len(body)}".encode(), "application/x-test")

    address = free_address()
    listener = await Listener.open_tcp(address, tls.context(material(ours), address), answer, TOO_LARGE)
    yield Gate(address, listener, opened, asked, arrived)
    opened.set()
    await listener.drain(1)


def says(words: bytes) -> Answerer:
    async def answer(_method: str, _target: str, _body: bytes) -> Response:
        return Response(200, words, "application/x-test")

    return answer


def trusting(where: Paths, shown: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(where.ca.cert))
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    return context


def connected(address: TcpAddress, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((address.host, address.port), timeout=10)
    try:
        return context.wrap_socket(plain, server_hostname=HOST)
    except Exception:
        plain.close()
        raise


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def told(address: TcpAddress, context: ssl.SSLContext, target: str = "/one", body: bytes = b"") -> bytes:
    with connected(address, context) as connection:
        connection.sendall(request(target, body))
        return rest(connection)


def failure(gate: Gate, context: ssl.SSLContext) -> str:
    """What a caller reads who is refused: the other side's alert."""
    with pytest.raises(ssl.SSLError) as caught:
        told(gate.address, context)
    return str(caught.value.reason)


async def soon(holds: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, holds, "what the test says next", 10)


# Who is answered.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_who_shows_our_authority_s_certificate_is_answered(
    gate: Gate, ours: Paths, version: ssl.TLSVersion
) -> None:
    context = trusting(ours, ours.client)
    context.minimum_version = context.maximum_version = version

    answer = await asyncio.to_thread(told, gate.address, context, "/one", bytes(1_000_000))

    assert answer.endswith(b"POST /one 1000000")
    assert b"connection: close" in answer.lower()  # no call is begun on a connection that we might be closing


async def test_many_are_answered_at_once(gate: Gate, ours: Paths) -> None:
    context = trusting(ours, ours.client)
    waiting = asyncio.create_task(asyncio.to_thread(told, gate.address, context, "/wait"))
    await gate.was_asked("/wait")

    answers = await asyncio.gather(*(asyncio.to_thread(told, gate.address, context, f"/{n}") for n in range(10)))
    gate.open.set()

    assert [answer.split()[-3:] for answer in answers] == [[b"POST", f"/{n}".encode(), b"0"] for n in range(10)]
    assert (await waiting).endswith(b"POST /wait 0")


# Who is refused.


async def test_who_shows_no_certificate_is_refused_and_told_so(
    gate: Gate, ours: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    assert await asyncio.to_thread(failure, gate, trusting(ours)) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"

    [line] = caplog.messages
    assert line.startswith(f"{HOST}:")
    assert line.endswith(" is refused: it shows no certificate")
    assert gate.asked == []


async def test_who_shows_another_authority_s_certificate_is_refused(
    gate: Gate, ours: Paths, strangers: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    context = trusting(ours, strangers.client)

    assert await asyncio.to_thread(failure, gate, context) == "TLSV1_ALERT_UNKNOWN_CA"

    [line] = caplog.messages
    assert line.endswith(" is refused: its certificate is not accepted: unable to get local issuer certificate")
    assert gate.asked == []


async def test_a_certificate_that_is_for_servers_is_no_caller_s(gate: Gate, ours: Paths) -> None:
    assert await asyncio.to_thread(failure, gate, trusting(ours, ours.server)) != ""
    assert gate.asked == []


async def test_tls_1_1_is_refused(gate: Gate, ours: Paths, caplog: pytest.LogCaptureFixture) -> None:
    context = trusting(ours, ours.client)
    context.set_ciphers("ALL:@SECLEVEL=0")  # else this side would not even try
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

    assert await asyncio.to_thread(failure, gate, context) == "TLSV1_ALERT_PROTOCOL_VERSION"

    assert [line.split(" is refused: ")[1] for line in caplog.messages] == ["it speaks an older TLS than 1.2"]


async def test_plain_http_is_refused_with_a_word_of_what_to_do(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    def ask() -> None:
        with socket.create_connection((gate.address.host, gate.address.port), timeout=10) as plain:
            plain.sendall(request("/one"))
            plain.recv(65536)

    await asyncio.to_thread(ask)

    await soon(lambda: bool(caplog.messages))
    assert caplog.messages[0].endswith(
        " is refused: it speaks HTTP without TLS (Docker's Addr must begin with https://)"
    )
    assert gate.asked == []


async def test_a_caller_who_does_not_know_our_authority_is_in_the_log_with_what_to_do(
    gate: Gate, strangers: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    def ask() -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            told(gate.address, trusting(strangers, strangers.client))

    await asyncio.to_thread(ask)

    await soon(lambda: bool(caplog.messages))
    [line] = caplog.messages
    assert line.endswith(" is refused: it does not know the authority of our certificate (its CAFile)")


async def test_who_connects_and_hangs_up_is_one_quiet_line(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    await asyncio.to_thread(lambda: socket.create_connection((HOST, gate.address.port)).close())

    await soon(lambda: bool(caplog.messages))
    [record] = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert record.message.endswith(" did not shake hands: it hung up")


async def test_who_is_refused_and_goes_on_sending_is_cut_off(gate: Gate, ours: Paths) -> None:
    """Not read for ever: he is a stranger."""

    def flood() -> int:
        sent = 0
        with connected(gate.address, trusting(ours)) as connection:
            try:
                while sent < 1 << 30:
                    sent += connection.send(bytes(1 << 16))
            except OSError:
                return sent
        return sent

    assert await asyncio.to_thread(flood) < 1 << 28
    assert gate.asked == []


# Draining.


async def test_a_call_that_is_being_answered_gets_its_answer_though_the_listener_drains(
    gate: Gate, ours: Paths
) -> None:
    asking = asyncio.create_task(asyncio.to_thread(told, gate.address, trusting(ours, ours.client), "/wait"))
    await gate.was_asked("/wait")

    drain = asyncio.create_task(gate.listener.drain(10))
    await asyncio.sleep(0.1)
    still_draining = not drain.done()
    gate.open.set()

    assert ((await asking).endswith(b"POST /wait 0"), still_draining) == (True, True)
    await drain


async def test_who_waits_in_the_queue_when_the_drain_begins_is_answered(gate: Gate, ours: Paths) -> None:
    """He is connected for the kernel; nobody has shaken hands with him."""
    plain = [socket.create_connection((HOST, gate.address.port), timeout=10) for _ in range(5)]

    drain = asyncio.create_task(gate.listener.drain(10))
    context = trusting(ours, ours.client)

    def ask(one: socket.socket, number: int) -> bytes:
        with context.wrap_socket(one, server_hostname=HOST) as connection:
            connection.sendall(request(f"/{number}"))
            return rest(connection)

    answers = await asyncio.gather(*(asyncio.to_thread(ask, one, number) for number, one in enumerate(plain)))
    await drain

    assert [answer[-9:] for answer in answers] == [f"POST /{number} 0".encode()[-9:] for number in range(5)]


@pytest.mark.long
async def test_a_call_that_is_only_partly_here_when_the_drain_begins_is_answered(gate: Gate, ours: Paths) -> None:
    call = request("/one", bytes(1_000_000))
    connection = await asyncio.to_thread(connected, gate.address, trusting(ours, ours.client))
    await asyncio.to_thread(connection.sendall, call[:300])
    await asyncio.sleep(0.1)

    drain = asyncio.create_task(gate.listener.drain(10))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(connection.sendall, call[300:])

    assert (await asyncio.to_thread(rest, connection)).endswith(b"POST /one 1000000")
    await drain
    connection.close()


async def test_while_it_drains_whoever_comes_anew_is_refused_before_he_has_sent_anything(
    gate: Gate, ours: Paths
) -> None:
    """So that his call is repeated whole."""
    asking = asyncio.create_task(asyncio.to_thread(told, gate.address, trusting(ours, ours.client), "/wait"))
    await gate.was_asked("/wait")

    drain = asyncio.create_task(gate.listener.drain(10))
    await asyncio.sleep(0.1)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(connected, gate.address, trusting(ours, ours.client))
    gate.open.set()

    assert (await asking).endswith(b"POST /wait 0")
    await drain


@pytest.mark.long
@pytest.mark.parametrize("secured", [False, True], ids=["without a handshake", "after it"])
async def test_who_says_nothing_holds_up_the_drain_for_a_moment_only(gate: Gate, ours: Paths, secured: bool) -> None:
    silent: socket.socket = socket.create_connection((HOST, gate.address.port), timeout=10)
    if secured:
        silent.close()
        silent = await asyncio.to_thread(connected, gate.address, trusting(ours, ours.client))
    await asyncio.sleep(0.1)

    async with asyncio.timeout(5):
        await gate.listener.drain(60)

    silent.close()


@pytest.mark.long
async def test_what_does_not_end_is_cut_off_and_told(gate: Gate, ours: Paths, caplog: pytest.LogCaptureFixture) -> None:
    connection = await asyncio.to_thread(connected, gate.address, trusting(ours, ours.client))
    await asyncio.to_thread(connection.sendall, request("/wait"))
    await gate.was_asked("/wait")

    await gate.listener.drain(0.1)

    assert caplog.messages == [f"{gate.address}: 1 calls were cut off after 0.1 s"]
    connection.close()


async def test_a_listener_that_comes_after_finds_the_port_free(gate: Gate, ours: Paths) -> None:
    await asyncio.to_thread(told, gate.address, trusting(ours, ours.client))

    await gate.listener.drain(1)

    second = await Listener.open_tcp(
        gate.address, tls.context(material(ours), gate.address), says(b"second"), TOO_LARGE
    )
    assert (await asyncio.to_thread(told, gate.address, trusting(ours, ours.client))).endswith(b"second")
    await second.drain(1)


async def test_who_is_in_the_queue_of_an_inherited_socket_waits_for_the_next(ours: Paths) -> None:
    """As between two daemons under systemd: nobody is refused, and nothing has to be repeated."""
    context = trusting(ours, ours.client)
    with socket.create_server((HOST, 0)) as held:
        address = TcpAddress(HOST, held.getsockname()[1])
        first = await Listener.open_tcp(
            address, tls.context(material(ours), address), says(b"first"), TOO_LARGE, held.dup()
        )
        assert (await asyncio.to_thread(told, address, context)).endswith(b"first")
        await first.drain(1)

        waiting = [asyncio.create_task(asyncio.to_thread(told, address, context)) for _ in range(5)]
        await asyncio.sleep(0.1)
        second = await Listener.open_tcp(
            address, tls.context(material(ours), address), says(b"second"), TOO_LARGE, held.dup()
        )

        assert [(await one)[-6:] for one in waiting] == [b"second"] * 5
        await second.drain(1)


# What prevents the start.


async def refusal(address: TcpAddress, ours: Paths) -> tuple[type[MdnpError], str]:
    with pytest.raises(MdnpError) as caught:
        await Listener.open_tcp(address, tls.context(material(ours), address), says(b"nothing"), TOO_LARGE)
    return caught.type, str(caught.value)


async def test_a_port_in_use_is_told(gate: Gate, ours: Paths) -> None:
    assert await refusal(gate.address, ours) == (
        Conflict,
        f"listen {gate.address}: another process has the port (`ss -ltnp`): end it, or choose another port",
    )


async def test_an_address_that_is_not_the_host_s_is_told(ours: Paths) -> None:
    assert await refusal(TcpAddress("192.0.2.77", 4460), ours) == (
        InvalidParameter,
        "listen tcp://192.0.2.77:4460: 192.0.2.77 is no address of this host (`ip address`)",
    )


async def test_a_name_that_nobody_knows_is_told(ours: Paths) -> None:
    kind, words = await refusal(TcpAddress("nowhere.invalid", 4460), ours)

    assert (kind, words.startswith("listen tcp://nowhere.invalid:4460: nowhere.invalid is not found: ")) == (
        InvalidParameter,
        True,
    )
