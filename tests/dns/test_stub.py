"""The server of names at an address of loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from mdnp.dns.standing import Place
from mdnp.dns.stub import Stub
from mdnp.model.network import IPAddress
from tests.dns.plain import KNOWN, Plain, ask

ADDRESSES = [ip_address("127.0.0.153"), ip_address("::1")]
SOON_S = 0.01


def free_port(address: IPAddress) -> int:
    with a_socket(address, socket.SOCK_STREAM) as one:
        one.bind((str(address), 0))
        return int(one.getsockname()[1])


def a_socket(address: IPAddress, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return socket.socket(family, kind | socket.SOCK_NONBLOCK)


@asynccontextmanager
async def running(address: IPAddress, port: int) -> AsyncIterator[Stub]:
    stub = Stub(address, lambda: KNOWN, Plain, port=port, again_s=SOON_S)
    task = asyncio.create_task(stub.run())
    try:
        await asyncio.sleep(0)
        yield stub
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def said(address: IPAddress, port: int, kind: socket.SocketKind, data: bytes = b"?") -> str:
    return await ask(a_socket(address, kind), str(address), port, data, limit_s=1.0)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize("address", ADDRESSES, ids=str)
async def test_the_host_asks_at_the_address(address: IPAddress, kind: socket.SocketKind) -> None:
    port = free_port(address)
    async with running(address, port) as stub:
        assert await said(address, port, kind) in ("127.0.0.1", "127.0.0.153", "::1")
        assert stub.standing == Place(str(address))
    assert await said(address, port, kind) == ""
    assert stub.served.zone == 1


async def test_where_another_has_the_port_it_says_so_and_begins_when_he_is_gone() -> None:
    address = ADDRESSES[0]
    port = free_port(address)
    with a_socket(address, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", port))  # noqa: S104  # as a published port is bound
        async with running(address, port) as stub:
            assert "another process serves names" in stub.standing.trouble
            other.close()
            while stub.standing.trouble:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(SOON_S)
            assert await said(address, port, socket.SOCK_DGRAM) == "127.0.0.1"


async def test_a_server_that_fails_is_begun_anew() -> None:
    address = ADDRESSES[0]
    port = free_port(address)
    async with running(address, port) as stub:
        assert await said(address, port, socket.SOCK_DGRAM)
        await ask(a_socket(address, socket.SOCK_DGRAM), str(address), port, b"end", limit_s=SOON_S)
        while not await said(address, port, socket.SOCK_DGRAM):  # noqa: ASYNC110  # nor this
            await asyncio.sleep(SOON_S)
        assert stub.served.zone == 2
