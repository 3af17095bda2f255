"""Ports of the host that outlive the daemon, on the machine's loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest

from mdnp.dataplane.objects import HostPort
from mdnp.kernel.ports import Ports
from mdnp.model.port import HostSocket, Protocol, Target
from mdnp.systemd import Ear, FDStore, Inherited
from rig.supervisor import Supervisor
from tests.kernel.test_ports import NOWHERE, greeter, hold, release, said_at
from tests.systemd.successor import free_port, names, next_store

ANY4, ANY6 = "0.0.0.0", "::"  # noqa: S104  # every address of the host
TARGET6 = Target(ip_address("fd00:7::2"), 53)
KINDS = {Protocol.TCP: socket.SOCK_STREAM, Protocol.UDP: socket.SOCK_DGRAM, Protocol.SCTP: socket.SOCK_STREAM}


@asynccontextmanager
async def daemon(supervisor: Supervisor) -> AsyncIterator[Ports]:
    """The ports of a daemon that has adopted what the one before left."""
    ports = Ports(next_store(supervisor))
    ports.adopt(asyncio.get_running_loop())
    try:
        yield ports
    finally:
        await asyncio.to_thread(ports.close)


def free(address: str, protocol: Protocol = Protocol.TCP, proxy: Target | None = None) -> HostPort:
    return HostPort(HostSocket(protocol, ip_address(address), free_port()), proxy)


def is_free(port: HostPort, options: Sequence[int] = ()) -> bool:
    version6 = port.socket.address.version == 6
    with socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, KINDS[port.socket.protocol]) as one:
        for option in options:
            one.setsockopt(socket.SOL_SOCKET, option, 1)
        if version6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            one.bind((str(port.socket.address), port.socket.port))
        except OSError:
            return False
    return True


async def test_the_next_daemon_holds_what_the_last_one_held(supervisor: Supervisor) -> None:
    ports = [
        free("127.0.0.1"),
        free(ANY6),
        free("::1", proxy=NOWHERE),
        free(ANY4, Protocol.UDP, TARGET6),
        free("::1", Protocol.UDP, NOWHERE),
        free("127.0.0.1", Protocol.UDP),
    ]
    async with daemon(supervisor) as first:
        for port in ports:
            await hold(first, port)

    for _ in range(2):
        async with daemon(supervisor) as following:
            assert set(following.held) == set(ports)


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)])
@pytest.mark.parametrize("proxy", [None, NOWHERE])
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
async def test_between_two_daemons_nobody_gets_the_port(
    supervisor: Supervisor, protocol: Protocol, proxy: Target | None, options: tuple[int, ...]
) -> None:
    port = free("127.0.0.1", protocol, proxy)
    async with daemon(supervisor) as first:
        await hold(first, port)

    between = is_free(port, options)
    async with daemon(supervisor):
        after = is_free(port, options)

    assert (between, after) == (False, False)


@pytest.mark.parametrize("proxy", [None, NOWHERE])
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
async def test_what_is_released_is_free_when_it_has_settled(
    supervisor: Supervisor, protocol: Protocol, proxy: Target | None
) -> None:
    port = free("127.0.0.1", protocol, proxy)
    async with daemon(supervisor) as first:
        await hold(first, port)
    async with daemon(supervisor) as second:
        for _ in range(20):
            await release(second, port)
            await asyncio.to_thread(second.settle)
            assert is_free(port)
            await hold(second, port)

    assert len(names(supervisor)) == 1


async def test_a_port_is_held_for_another_use_at_once(supervisor: Supervisor) -> None:
    """Without a word of settling in between: who holds waits by itself."""
    port = free("127.0.0.1")
    async with daemon(supervisor) as ports:
        for proxy in (None, NOWHERE) * 10:
            await hold(ports, replace(port, proxy=proxy))
            await release(ports, replace(port, proxy=proxy))

    assert names(supervisor) == []


async def test_who_connects_between_two_daemons_waits_and_is_carried(supervisor: Supervisor) -> None:
    async with greeter() as target:
        port = free("::1", proxy=target)
        async with daemon(supervisor) as first:
            await hold(first, port)
            before = await said_at(port)
        waiting = asyncio.create_task(said_at(port))
        await asyncio.sleep(0.05)
        waited = not waiting.done()
        async with daemon(supervisor):
            async with asyncio.timeout(5):
                between = await waiting
            after = await said_at(port)

    assert (before, waited, between, after) == (b"hello", True, b"hello", b"hello")


async def test_datagrams_between_two_daemons_are_carried(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        server.setblocking(False)
        server.bind(("127.0.0.1", 0))
        port = free("127.0.0.1", Protocol.UDP, Target(ip_address("127.0.0.1"), server.getsockname()[1]))
        async with daemon(supervisor) as first:
            await hold(first, port)
        client.sendto(b"question", ("127.0.0.1", port.socket.port))
        async with daemon(supervisor), asyncio.timeout(5):
            question = await loop.sock_recv(server, 100)

    assert question == b"question"


@pytest.mark.parametrize(
    "name",
    ["port/", "port/tcp", "port/tcp/127.0.0.1/1", "port/icmp/127.0.0.1/1", "port/tcp/127.0.0.1/1/127.0.0.1"],
)
async def test_what_is_not_what_its_name_says_is_closed(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    port = free("127.0.0.1")
    with socket.socket() as strange:
        strange.bind(("127.0.0.1", port.socket.port))
        next_store(supervisor).put(name, strange)

    async with daemon(supervisor) as ports:
        await asyncio.to_thread(ports.settle)
        assert (ports.held, names(supervisor), is_free(port)) == ([], [], True)
    assert caplog.messages == [f"a socket that was inherited as {name} is not what that says: it is closed"]


async def test_a_socket_of_another_kind_is_closed(supervisor: Supervisor) -> None:
    port = free("127.0.0.1", proxy=NOWHERE)
    name = f"port/tcp/127.0.0.1/{port.socket.port}/127.0.0.1/9"
    ones = [socket.socket(type=socket.SOCK_DGRAM), socket.socket(), socket.socket(socket.AF_UNIX)]
    ones[0].bind(("127.0.0.1", port.socket.port))
    ones[1].bind(("127.0.0.1", port.socket.port))  # and does not listen, as one with a proxy does
    store = FDStore(Ear(supervisor.env["NOTIFY_SOCKET"]), [Inherited(name, one) for one in ones])
    ports = Ports(store)

    ports.adopt(asyncio.get_running_loop())

    assert (ports.held, [one.fileno() for one in ones]) == ([], [-1, -1, -1])
