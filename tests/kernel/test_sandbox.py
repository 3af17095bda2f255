"""Doorways of Linux, in namespaces with rules as Docker makes them for its embedded DNS."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mdnp.kernel.doorway import Doorway
from mdnp.kernel.sandbox import LinuxDoorways
from mdnp.model.errors import KernelError
from tests.overlay.fabric import Namespace, eventually

pytestmark = pytest.mark.root

EMBEDDED = ("127.0.0.11", 53)
UDP, TCP = socket.SOCK_DGRAM, socket.SOCK_STREAM
KINDS = pytest.mark.parametrize("kind", [UDP, TCP])
DOCKERS = """
table ip nat {{
    chain output {{
        type nat hook output priority -100
        ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:{datagrams}
        ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:{streams}
    }}
    chain postrouting {{
        type nat hook postrouting priority 100
        ip saddr 127.0.0.11 udp sport {datagrams} snat to :53
        ip saddr 127.0.0.11 tcp sport {streams} snat to :53
    }}
}}
"""
RULES = """\
table ip mdnp {{
	flags owner

	chain questions {{
		ip daddr 127.0.0.11 udp dport 53 meta mark != 0x6d646e70 notrack udp dport set {datagrams}
		ip daddr 127.0.0.11 tcp dport 53 meta mark != 0x6d646e70 notrack tcp dport set {streams}
	}}

	chain output {{
		type filter hook output priority raw; policy accept;
		oif != "lo" accept
		jump questions
		ip saddr 127.0.0.11 udp sport {datagrams} notrack udp sport set 53
		ip saddr 127.0.0.11 tcp sport {streams} notrack tcp sport set 53
	}}
}}
"""
# Another process that has a doorway and answers, to be killed.
HOLDER = """
import asyncio, sys
from mdnp.kernel.sandbox import LinuxDoorways
from tests.kernel.test_sandbox import answer
async def main():
    doorway = await LinuxDoorways().open(sys.argv[1])
    print("open", flush=True)
    await answer("us", doorway.datagrams, doorway.streams)
asyncio.run(main())
"""


async def answer(name: str, datagrams: socket.socket, streams: socket.socket) -> None:
    """With its name, to all who ask."""
    loop = asyncio.get_running_loop()

    async def over_udp() -> None:
        while True:
            _, source = await loop.sock_recvfrom(datagrams, 512)
            await loop.sock_sendto(datagrams, name.encode(), source)

    async def over_tcp() -> None:
        while True:
            connection, _ = await loop.sock_accept(streams)
            with connection:
                await loop.sock_recv(connection, 512)
                await loop.sock_sendall(connection, name.encode())

    await asyncio.gather(over_udp(), over_tcp())


async def says(asking: socket.socket, *, to: tuple[str, int] = EMBEDDED) -> str:
    """Who answers; "" for nobody."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(2):
            await loop.sock_connect(asking, to)
            await loop.sock_sendall(asking, b"?")
            return (await loop.sock_recv(asking, 512)).decode()
    except (OSError, TimeoutError):
        return ""


async def arrives(at: socket.socket) -> bool:
    try:
        async with asyncio.timeout(0.5):
            return bool(await asyncio.get_running_loop().sock_recv(at, 512))
    except TimeoutError:
        return False


@dataclass
class Sandbox:
    """A container's namespace; its embedded DNS answers with `Docker`, we with `us`."""

    namespace: Namespace

    @property
    def path(self) -> str:
        return self.namespace.path

    async def asks(self, kind: socket.SocketKind, source: str = "", to: tuple[str, int] = EMBEDDED) -> str:
        with self.namespace.socket(socket.AF_INET, kind) as asking:
            if source:
                asking.bind((source, 0))
            return await says(asking, to=to)

    def rules(self) -> str:
        return re.sub(" #.*", "", self.namespace.run("nft list ruleset"))


def bound(namespace: Namespace, kind: socket.SocketKind) -> socket.socket:
    opened = namespace.socket(socket.AF_INET, kind)
    opened.bind((EMBEDDED[0], 0))
    return opened


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    namespace = Namespace()
    with bound(namespace, UDP) as datagrams, bound(namespace, TCP) as streams:
        streams.listen()
        rules = DOCKERS.format(datagrams=datagrams.getsockname()[1], streams=streams.getsockname()[1])
        namespace.run(f"nft -f - <<'E'\n{rules}\nE")
        embedded = asyncio.create_task(answer("Docker", datagrams, streams))
        yield Sandbox(namespace)
        embedded.cancel()
        await asyncio.wait([embedded])
    namespace.close()


@asynccontextmanager
async def doorway(sandbox: Sandbox | Namespace, *, answered: bool = True) -> AsyncIterator[Doorway]:
    opened = await LinuxDoorways().open(sandbox.path)
    async with AsyncExitStack() as stack:
        stack.callback(opened.close)
        if answered:
            answering = asyncio.create_task(answer("us", opened.datagrams, opened.streams))
            stack.push_async_callback(asyncio.wait, [answering])
            stack.callback(answering.cancel)
        yield opened


@contextmanager
def holder(path: str) -> Iterator["subprocess.Popen[bytes]"]:
    search = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, env=search) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            yield process
        finally:
            process.kill()


def port(one: socket.socket) -> int:
    number: int = one.getsockname()[1]
    return number


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_rules_are_what_they_are_said_to_be() -> None:
    namespace = Namespace()
    async with doorway(namespace, answered=False) as opened:
        expected = RULES.format(datagrams=port(opened.datagrams), streams=port(opened.streams))
        assert Sandbox(namespace).rules() == expected
    assert Sandbox(namespace).rules() == ""
    namespace.close()


@KINDS
async def test_questions_come_to_us_whatever_their_source(sandbox: Sandbox, kind: socket.SocketKind) -> None:
    sandbox.namespace.run("ip addr add 10.50.0.2/24 dev lo")
    assert await sandbox.asks(kind) == "Docker"
    async with doorway(sandbox):
        assert await sandbox.asks(kind) == "us"
        assert await sandbox.asks(kind, source="10.50.0.2") == "us"
    assert await sandbox.asks(kind) == "Docker"


@KINDS
async def test_what_is_no_question_to_the_embedded_dns_is_left_alone(sandbox: Sandbox, kind: socket.SocketKind) -> None:
    """A server of names of the container's own, on all its addresses, among them."""
    async with doorway(sandbox):
        with sandbox.namespace.socket(socket.AF_INET, kind) as own:
            own.bind(("0.0.0.0", 53))  # noqa: S104
            own.listen() if kind == TCP else None
            task = asyncio.create_task(answer("own", own, own))
            assert await sandbox.asks(kind, to=("127.0.0.1", 53)) == "own"
            assert await sandbox.asks(kind) == "us"
            task.cancel()
            await asyncio.wait([task])
        assert await sandbox.asks(kind, to=("127.0.0.11", 54)) == ""


@KINDS
async def test_the_embedded_dns_is_asked_from_inside(sandbox: Sandbox, kind: socket.SocketKind) -> None:
    async with doorway(sandbox) as opened:
        with opened.dial(kind) as asking:
            assert await says(asking) == "Docker"


@pytest.mark.parametrize("freed", [False, True])
async def test_nothing_from_elsewhere_gets_to_us(freed: bool) -> None:
    """Not even where the sandbox takes in the loopback network; a socket that is bound to no link would get it."""
    here, there = Namespace(), Namespace()
    here.run(f"ip link add v1 type veth peer v2 netns {there.path}; ip addr add 10.9.0.1/24 dev v1; ip link set v1 up")
    there.run("ip addr add 10.9.0.2/24 dev v2; ip link set v2 up; ip route del local 127.0.0.0/8 dev lo table local")
    there.run("ip route add 127.0.0.11 via 10.9.0.1")
    for namespace, name in ((here, "v1"), (there, "v2")):
        namespace.set(f"net/ipv4/conf/{name}/route_localnet", "1")
        namespace.set(f"net/ipv4/conf/{name}/rp_filter", "0")
    async with doorway(here, answered=False) as opened:
        if freed:
            opened.datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"")
        with there.socket(socket.AF_INET, UDP) as asking:
            asking.sendto(b"?", opened.datagrams.getsockname())
        assert await arrives(opened.datagrams) is freed
    here.close()
    there.close()


async def test_who_asks_again_from_the_same_port_is_answered_by_whoever_answers_now(sandbox: Sandbox) -> None:
    with sandbox.namespace.socket(socket.AF_INET, UDP) as asking:
        assert await says(asking) == "Docker"
        async with doorway(sandbox) as opened:
            assert await says(asking) == "us"
            opened.withdraw()
            assert await says(asking) == "Docker"
            opened.withdraw()
        assert await says(asking) == "Docker"
        async with doorway(sandbox):
            assert await says(asking) == "us"


async def test_what_was_asked_before_is_still_answered(sandbox: Sandbox) -> None:
    loop = asyncio.get_running_loop()
    async with doorway(sandbox, answered=False) as opened:
        with sandbox.namespace.socket(socket.AF_INET, UDP) as asking:
            asking.connect(EMBEDDED)
            asking.send(b"?")
            _, source = await loop.sock_recvfrom(opened.datagrams, 512)
            opened.withdraw()
            opened.datagrams.sendto(b"late", source)
            async with asyncio.timeout(2):
                assert await loop.sock_recv(asking, 512) == b"late"


async def test_when_we_are_killed_docker_answers_at_once(sandbox: Sandbox) -> None:
    with sandbox.namespace.socket(socket.AF_INET, UDP) as asking, holder(sandbox.path) as process:
        assert await says(asking) == "us"

        process.kill()
        process.wait()

        assert await says(asking) == "Docker"
        assert await sandbox.asks(TCP) == "Docker"
        assert "mdnp" not in sandbox.rules()


@pytest.mark.parametrize("end", ["close", "kill"])
async def test_the_namespace_goes_with_its_container_and_us(end: str) -> None:
    outside, inside = Namespace(), Namespace()
    outside.run(f"ip link add v type veth peer eth0 netns {inside.path}")

    def is_gone() -> bool:
        return "v@" not in outside.run("ip -o link")

    if end == "close":
        async with doorway(inside, answered=False) as opened:
            assert opened.stands()
            inside.close()
            await asyncio.sleep(0.05)
            assert not is_gone()
            assert not opened.stands()
    else:
        with holder(inside.path) as process:
            inside.close()
            await asyncio.sleep(0.05)
            assert not is_gone()
            process.kill()
    await eventually(is_gone)
    outside.close()


async def test_who_empties_all_rules_of_the_sandbox_leaves_ours(sandbox: Sandbox) -> None:
    async with doorway(sandbox):
        before = sandbox.rules()
        sandbox.namespace.run("nft flush ruleset")
        assert before.endswith(sandbox.rules())
        assert await sandbox.asks(UDP) == "us"


async def test_it_is_opened_before_the_loopback_link_is_up() -> None:
    sandbox = Sandbox(Namespace())
    sandbox.namespace.run("ip link set lo down")
    async with doorway(sandbox):
        sandbox.namespace.run("ip link set lo up")
        assert await sandbox.asks(UDP) == "us"
    sandbox.namespace.close()


async def test_what_is_a_sandbox_and_whether_it_is_still_the_same(tmp_path: Path) -> None:
    first, second = Namespace(), Namespace()
    path, file = tmp_path / "sandbox", tmp_path / "file"
    file.touch()
    doorways = LinuxDoorways()
    assert not doorways.exists(str(path))
    assert not doorways.exists(str(file))  # as Docker leaves it for a while
    path.symlink_to(first.path)
    assert doorways.exists(str(path))
    opened = await doorways.open(str(path))
    assert opened.stands()
    path.unlink()
    assert not opened.stands()
    path.symlink_to(second.path)
    assert not opened.stands()
    opened.close()
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("path", "why"), [("/nowhere", "No such file or directory"), ("/etc/hosts", "Invalid argument")]
)
async def test_what_is_no_sandbox_is_not_opened(path: str, why: str) -> None:
    before = descriptors()
    with pytest.raises(KernelError, match=f"the sandbox {path} cannot be entered: {why}"):
        await LinuxDoorways().open(path)
    assert descriptors() == before


async def test_a_table_of_our_name_that_is_not_ours_is_not_touched(sandbox: Sandbox) -> None:
    sandbox.namespace.run("nft add table ip mdnp")
    before = descriptors()
    with pytest.raises(
        KernelError, match="somebody made a table ip mdnp there: remove it by `nft delete table ip mdnp`"
    ):
        await LinuxDoorways().open(sandbox.path)
    assert descriptors() == before
    assert await sandbox.asks(UDP) == "Docker"


async def test_two_cannot_have_one_sandbox(sandbox: Sandbox) -> None:
    async with doorway(sandbox):
        with pytest.raises(KernelError, match="another process owns the table ip mdnp there"):
            await LinuxDoorways().open(sandbox.path)
        assert await sandbox.asks(UDP) == "us"


async def test_nothing_is_left_open(sandbox: Sandbox) -> None:
    before = descriptors()
    opened = await LinuxDoorways().open(sandbox.path)
    assert descriptors() == before + 4
    opened.close()
    opened.close()
    opened.withdraw()
    assert descriptors() == before
    with pytest.raises(KernelError, match="no socket in the sandbox"):
        opened.dial(UDP)


async def test_what_nobody_waits_for_any_more_is_closed(sandbox: Sandbox) -> None:
    before = sandbox.rules()
    opening = asyncio.create_task(LinuxDoorways().open(sandbox.path))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])

    await eventually(lambda: sandbox.rules() == before)
    await asyncio.sleep(0.1)
    assert sandbox.rules() == before
