"""The listener on a TCP port of this host."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from mdnp.http import Listener, Response
from mdnp.model.errors import Conflict, InvalidParameter
from tests.systemd.successor import free_port

TOO_LARGE = Response(413, b"too large", "text/plain")


async def answer(method: str, path: str, _body: bytes) -> Response:
    return Response(200, f"{method} {path}".encode(), "text/plain; version=0.0.4; charset=utf-8")


@asynccontextmanager
async def opened(address: str = "127.0.0.1") -> AsyncIterator[int]:
    port = free_port()
    listener = await Listener.open_loopback(ip_address(address), port, answer, TOO_LARGE)
    try:
        yield port
    finally:
        await listener.drain(1)


async def asked(port: int, host: str | None, address: str = "127.0.0.1") -> tuple[int, str, str]:
    """Status, head and body."""
    reader, writer = await asyncio.open_connection(address, port)
    header = "" if host is None else f"Host: {host}\r\n"
    version = "1.0" if host is None else "1.1"
    writer.write(f"GET /metrics HTTP/{version}\r\n{header}Connection: close\r\n\r\n".encode())
    said = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = said.partition("\r\n\r\n")
    return int(head.split()[1]), head, body


async def test_a_port_answers_and_is_free_afterwards() -> None:
    async with opened() as port:
        status, head, body = await asked(port, f"127.0.0.1:{port}")

    assert (status, body) == (200, "GET /metrics")
    assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
    with pytest.raises(ConnectionRefusedError):
        await asked(port, None)
    again = await Listener.open_loopback(ip_address("127.0.0.1"), port, answer, TOO_LARGE)
    await again.drain(1)


async def test_a_port_of_ipv6_answers() -> None:
    async with opened("::1") as port:
        assert (await asked(port, f"[::1]:{port}", "::1"))[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (None, 200),
        ("127.0.0.1", 200),
        ("127.0.0.1:9677", 200),
        ("[::1]:9677", 200),
        ("[::1]", 200),
        ("localhost", 200),
        ("localhost:9677", 200),
        ("evil.example", 403),
        ("evil.example:9677", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:80", 403),
        ("[evil]", 403),
    ],
)
async def test_a_host_that_is_named_is_refused(host: str | None, status: int) -> None:
    """A page in a browser on this host may have a name that leads to 127.0.0.1, but must call it by that name."""
    async with opened() as port:
        assert (await asked(port, host))[0] == status


async def test_a_port_that_somebody_has_is_refused_with_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(Conflict) as refused:
            await Listener.open_loopback(ip_address("127.0.0.1"), port, answer, TOO_LARGE)

    words = f"port 127.0.0.1:{port}: another process has it: stop that one, or choose another port"
    assert str(refused.value) == words


async def test_an_address_that_this_host_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="Cannot assign requested address: choose another"):
        await Listener.open_loopback(ip_address("192.0.2.1"), free_port(), answer, TOO_LARGE)
