"""The ports that the daemon holds, on the machine's loopback, against other processes that want them too."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from mdnp.dataplane.objects import HostPort
from mdnp.kernel.ports import Ports
from mdnp.model.errors import InUse, KernelError
from mdnp.model.port import HostSocket, Protocol, Target
from mdnp.systemd import FDStore

ANY4 = "0.0.0.0"  # noqa: S104  # every address of the host is what is meant
NOWHERE = Target(ip_address("127.0.0.1"), 9)

_TYPES = {Protocol.TCP: socket.SOCK_STREAM, Protocol.UDP: socket.SOCK_DGRAM}

# Binds as it is told, says how that went, and stays until its input ends.
_OTHER = """
import errno, socket, sys
open("/proc/self/comm", "w").write("nginx")
family, kind, address, port, options, listens, v6only = sys.argv[1:]
one = socket.socket(int(family), int(kind))
if int(family) == socket.AF_INET6:
    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
for option in options.split():
    one.setsockopt(socket.SOL_SOCKET, int(option), 1)
try:
    one.bind((address, int(port)))
    if listens == "1":
        one.listen()
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
else:
    print(one.getsockname()[1], flush=True)
sys.stdin.read()
"""


@dataclass
class Other:
    """Another process. It says the port that it took, or why it did not."""

    pid: int
    said: str

    @property
    def port(self) -> int:
        return int(self.said)


@contextmanager
def other(
    address: str,
    port: int = 0,
    protocol: Protocol = Protocol.TCP,
    *,
    options: tuple[int, ...] = (),
    listens: bool = True,
    v6only: bool = True,
) -> Iterator[Other]:
    """Another process, called nginx, that takes a port."""
    listens = listens and protocol is Protocol.TCP
    arguments = [
        str(int(_family(address))),
        str(int(_TYPES[protocol])),
        address,
        str(port),
        " ".join(str(option) for option in options),
        str(int(listens)),
        str(int(v6only)),
    ]
    command = [sys.executable, "-I", "-S", "-c", _OTHER, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Other(process.pid, process.stdout.readline().strip())
        finally:
            process.stdin.close()


def free(address: str, protocol: Protocol = Protocol.TCP, proxy: Target | None = None) -> HostPort:
    """A port that nobody has."""
    with socket.socket(_family(address), _TYPES.get(protocol, socket.SOCK_STREAM)) as one:
        one.bind((address, 0))
        return HostPort(HostSocket(protocol, ip_address(address), one.getsockname()[1]), proxy)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6


@pytest.fixture
async def ports() -> AsyncIterator[Ports]:
    ports = Ports(FDStore())
    yield ports
    await asyncio.to_thread(ports.close)


async def hold(ports: Ports, port: HostPort) -> None:
    await asyncio.to_thread(ports.hold, port, asyncio.get_running_loop())


async def release(ports: Ports, port: HostPort) -> None:
    await asyncio.to_thread(ports.release, port)


async def refused(ports: Ports, port: HostPort) -> KernelError:
    with pytest.raises(KernelError) as caught:
        await hold(ports, port)
    assert port not in ports.held
    return caught.value


def leave_time_wait(port: HostPort) -> None:
    """A connection to the port that ended at the host's side first, and so stays there for a minute."""
    address = str(port.socket.address)
    with socket.socket(_family(address)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port.socket.port))
        listener.listen()
        with socket.create_connection((address, port.socket.port)) as client:
            listener.accept()[0].close()
            client.recv(1)


def states(port: HostPort) -> set[str]:
    """Of the machine's TCP sockets of this local port, as /proc/net has them."""
    found = rows("tcp" if port.socket.address.version == 4 else "tcp6")
    return {row[3] for row in found if row[1].endswith(f":{port.socket.port:04X}")}


def rows(file: str) -> list[list[str]]:
    return [line.split() for line in Path("/proc/thread-self/net", file).read_text().splitlines()[1:]]


@pytest.mark.parametrize("protocol", Protocol)
async def test_what_is_held_is_told_until_it_is_released(ports: Ports, protocol: Protocol) -> None:
    one, two = free("127.0.0.1", protocol), free("::1", protocol)

    await hold(ports, one)
    await hold(ports, two)
    both = ports.held
    await release(ports, one)

    assert (both, ports.held) == ([one, two], [two])


@pytest.mark.parametrize("proxy", [None, NOWHERE])
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
async def test_a_second_hold_is_done_already(ports: Ports, protocol: Protocol, proxy: Target | None) -> None:
    port = free("127.0.0.1", protocol, proxy)

    await hold(ports, port)
    await hold(ports, port)

    assert ports.held == [port]


@pytest.mark.parametrize("proxy", [None, NOWHERE])
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_released_port_is_free_at_once(
    ports: Ports, address: str, protocol: Protocol, proxy: Target | None
) -> None:
    port = free(address, protocol, proxy)

    await hold(ports, port)
    await release(ports, port)

    with socket.socket(_family(address), _TYPES[protocol]) as one:
        one.bind((address, port.socket.port))


async def test_closing_releases_all(ports: Ports) -> None:
    held = [free("127.0.0.1"), free("127.0.0.1", Protocol.UDP), free("::1", proxy=NOWHERE)]
    for port in held:
        await hold(ports, port)

    await asyncio.to_thread(ports.close)

    assert ports.held == []
    for port in held:
        await hold(ports, port)


async def test_to_release_what_is_not_held_is_nothing(ports: Ports) -> None:
    port = free("127.0.0.1")
    await hold(ports, port)

    await release(ports, free("127.0.0.1"))
    await release(ports, replace(port, proxy=NOWHERE))

    assert ports.held == [port]


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("127.0.0.1", "127.0.0.1"), (ANY4, "127.0.0.1"), ("127.0.0.1", ANY4), ("::1", "::1"), ("::1", "::")],
)
async def test_a_port_in_use_names_who_has_it(ports: Ports, theirs: str, ours: str, protocol: Protocol) -> None:
    with other(theirs, protocol=protocol) as nginx:
        port = HostPort(HostSocket(protocol, ip_address(ours), nginx.port))
        error = await refused(ports, port)

    assert isinstance(error, InUse)
    assert str(error) == f"{port.socket} is in use by nginx (pid {nginx.pid}): stop it, or publish another port"


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
@pytest.mark.parametrize("theirs", ["::", "::ffff:127.0.0.1"])
async def test_a_socket_of_both_families_is_named(ports: Ports, theirs: str, protocol: Protocol) -> None:
    with other(theirs, protocol=protocol, v6only=False) as nginx:
        error = await refused(ports, HostPort(HostSocket(protocol, ip_address(ANY4), nginx.port)))

    assert isinstance(error, InUse)
    assert f"in use by nginx (pid {nginx.pid})" in str(error)


async def test_the_one_in_the_way_is_named_and_not_one_on_another_address(ports: Ports) -> None:
    """The kernel lists them in an order of its own, so there are many beside."""
    with ExitStack() as stack:
        nginx = stack.enter_context(other("127.0.0.1"))
        for number in range(2, 40):
            beside = stack.enter_context(socket.socket())
            beside.bind((f"127.0.0.{number}", nginx.port))
            beside.listen()
        error = await refused(ports, HostPort(HostSocket(Protocol.TCP, ip_address("127.0.0.1"), nginx.port)))

    assert f"(pid {nginx.pid})" in str(error)


async def test_one_that_ended_is_not_taken_for_the_one_in_the_way(ports: Ports) -> None:
    port = free("127.0.0.1")
    leave_time_wait(port)
    with other("::", port.socket.port, options=(socket.SO_REUSEADDR,), v6only=False) as nginx:
        error = await refused(ports, port)

    assert f"(pid {nginx.pid})" in str(error)


async def test_what_is_held_of_the_other_family_is_not_in_the_way(ports: Ports) -> None:
    held = free("::", proxy=NOWHERE)
    port = HostPort(replace(held.socket, address=ip_address("127.0.0.1")))
    await hold(ports, held)
    with other("127.0.0.1", port.socket.port, listens=False):
        error = await refused(ports, port)

    assert "in use by another process" in str(error)


async def test_who_does_not_show_is_another_process(ports: Ports) -> None:
    """The kernel lists no TCP socket that is bound and does not listen."""
    with other("127.0.0.1", listens=False) as nginx:
        error = await refused(ports, HostPort(HostSocket(Protocol.TCP, ip_address("127.0.0.1"), nginx.port)))

    assert isinstance(error, InUse)
    assert "is in use by another process: stop it, or publish another port" in str(error)


@pytest.mark.parametrize("protocol", Protocol)
async def test_a_port_that_is_held_for_another_is_in_use(ports: Ports, protocol: Protocol) -> None:
    port = free("127.0.0.1", protocol)
    everywhere = HostPort(replace(port.socket, address=ip_address(ANY4)))
    await hold(ports, port)

    error = await refused(ports, everywhere)

    assert isinstance(error, InUse)
    assert str(error) == (f"{everywhere.socket} is in use: mdnp publishes {port.socket} already; publish another port")


@pytest.mark.parametrize("proxy", [None, NOWHERE])
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
async def test_both_families_are_held_side_by_side(ports: Ports, protocol: Protocol, proxy: Target | None) -> None:
    ipv4 = free(ANY4, protocol, proxy)
    ipv6 = replace(ipv4, socket=replace(ipv4.socket, address=ip_address("::")))

    await hold(ports, ipv6)
    await hold(ports, ipv4)

    assert ports.held == [ipv6, ipv4]


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)])
@pytest.mark.parametrize("proxy", [None, NOWHERE])
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
async def test_another_process_does_not_get_a_held_port(
    ports: Ports, protocol: Protocol, proxy: Target | None, options: tuple[int, ...]
) -> None:
    port = free("127.0.0.1", protocol, proxy)
    await hold(ports, port)

    with other(ANY4, port.socket.port, protocol, options=options) as nginx:
        assert nginx.said == "EADDRINUSE"


@pytest.mark.parametrize("proxy", [None, NOWHERE])
async def test_who_was_bound_before_does_not_get_to_listen(ports: Ports, proxy: Target | None) -> None:
    """With SO_REUSEADDR, as most servers are in the moment before they listen."""
    port = free("127.0.0.1", proxy=proxy)
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port.socket.port))
        await hold(ports, port)

        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            bound.listen()


@pytest.mark.parametrize("proxy", [None, NOWHERE])
@pytest.mark.parametrize(("address", "everywhere"), [("127.0.0.1", ANY4), ("::1", "::")])
async def test_connections_that_ended_lately_are_not_in_the_way(
    ports: Ports, address: str, everywhere: str, proxy: Target | None
) -> None:
    port = free(address, proxy=proxy)
    leave_time_wait(port)

    with socket.socket(_family(address)) as plain, pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
        plain.bind((address, port.socket.port))
    await hold(ports, port)
    await release(ports, port)
    await hold(ports, replace(port, socket=replace(port.socket, address=ip_address(everywhere))))

    assert "06" in states(port)


async def test_a_port_that_is_not_carried_refuses_who_comes_here(ports: Ports) -> None:
    port = free("127.0.0.1")
    await hold(ports, port)

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port.socket.port)


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::77"])
async def test_an_address_that_the_host_does_not_have_is_refused(
    ports: Ports, address: str, protocol: Protocol
) -> None:
    error = await refused(ports, HostPort(HostSocket(protocol, ip_address(address), 8080)))

    assert not isinstance(error, InUse)
    assert str(error) == f"the host has no address {address}: publish on one that it has, or on all of them"


async def test_any_other_refusal_says_why(ports: Ports) -> None:
    """A link-local address needs its link, which is not part of it."""
    error = await refused(ports, HostPort(HostSocket(Protocol.TCP, ip_address("fe80::77"), 8080)))

    assert str(error) == "tcp [fe80::77]:8080 cannot be held: Invalid argument"


async def test_sctp_cannot_be_carried(ports: Ports) -> None:
    error = await refused(ports, free("127.0.0.1", Protocol.SCTP, NOWHERE))

    assert "SCTP reaches a container only by an address of its own family" in str(error)


@asynccontextmanager
async def greeter() -> AsyncIterator[Target]:
    """Says hello and ends the connection."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield Target(ip_address("127.0.0.1"), server.sockets[0].getsockname()[1])


async def said_at(port: HostPort) -> bytes:
    reader, writer = await asyncio.open_connection(str(port.socket.address), port.socket.port)
    heard = await reader.read()
    writer.close()
    await writer.wait_closed()
    return heard


async def test_what_arrives_at_a_held_port_is_carried_until_it_is_released(ports: Ports) -> None:
    async with greeter() as target:
        port = free("::1", proxy=target)
        await hold(ports, port)
        heard = await said_at(port)
        await release(ports, port)

        with pytest.raises(ConnectionRefusedError):
            await said_at(port)

    assert heard == b"hello"


async def test_a_port_that_was_carried_is_held_at_once_with_and_without_a_proxy(ports: Ports) -> None:
    async with greeter() as target:
        carried = free("::1", proxy=target)
        await hold(ports, carried)
        await said_at(carried)
        for port in (carried, replace(carried, proxy=None), carried):
            await release(ports, carried)
            await hold(ports, port)
            await release(ports, port)
        still = states(carried)

    assert "06" in still


async def test_datagrams_at_a_held_port_are_carried_and_answered_from_where_they_came(ports: Ports) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        for one in (server, client):
            one.setblocking(False)
        server.bind(("127.0.0.1", 0))
        port = free(ANY4, Protocol.UDP, Target(ip_address("127.0.0.1"), server.getsockname()[1]))
        await hold(ports, port)
        client.bind(("127.0.0.1", 0))
        client.connect(("127.0.0.5", port.socket.port))
        client.send(b"question")

        async with asyncio.timeout(5):
            question, seen = await loop.sock_recvfrom(server, 100)
            server.sendto(b"answer", seen)
            answer = await loop.sock_recv(client, 100)

    assert (question, answer) == (b"question", b"answer")


async def test_of_datagrams_that_nobody_reads_little_is_kept(ports: Ports) -> None:
    port = free("127.0.0.1", Protocol.UDP)
    await hold(ports, port)

    with socket.socket(type=socket.SOCK_DGRAM) as client:
        for _ in range(100):
            client.sendto(bytes(1000), ("127.0.0.1", port.socket.port))

    [row] = [row for row in rows("udp") if row[1].endswith(f":{port.socket.port:04X}")]
    assert int(row[4].split(":")[1], 16) < 10_000
