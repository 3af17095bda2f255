"""A listener whose socket is somebody else's, as systemd's is: it goes, the socket stays, and another one comes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mdnp.http import Listener, Response
from tests.http.test_listener import TOO_LARGE, Client, asked, heard, open_door, raw, request


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mdnp.sock"


@pytest.fixture
def held(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(path))
        path.chmod(0o600)
        held.listen()
        yield held


@asynccontextmanager
async def serving(path: Path, held: socket.socket, name: str = "") -> AsyncIterator[Listener]:
    """A daemon that answers with its name; it is drained at the end."""

    async def answer(_method: str, target: str, _body: bytes) -> Response:
        return Response(200, f"{name} {target}".encode(), "application/x-test")

    listener = await Listener.open(path, answer, TOO_LARGE, held.dup())
    yield listener
    await listener.drain(5)


def number_of(path: Path) -> int:
    return path.stat().st_ino


def open_for_all(path: Path) -> None:
    path.chmod(0o666)


async def test_the_socket_and_its_file_stay(path: Path, held: socket.socket) -> None:
    inode = number_of(path)
    for name in ("first", "second"):
        async with serving(path, held, name):
            client = await Client.connect(path)
            assert await client.ask("/one") == (200, f"{name} /one")
            await client.close()

    assert number_of(path) == inode
    raw(path).close()


async def test_who_is_in_the_queue_waits_for_the_next(path: Path, held: socket.socket) -> None:
    async with serving(path, held, "first"):
        pass
    waiting = [raw(path) for _ in range(5)]
    for one in waiting:
        one.sendall(request("/one"))

    async with serving(path, held, "second"):
        for one in waiting:
            answer = await asyncio.to_thread(one.recv, 65536)
            assert answer.endswith(b"second /one")
            one.close()


@pytest.mark.parametrize("turns", range(8))
async def test_whoever_comes_while_it_goes_is_answered(path: Path, held: socket.socket, turns: int) -> None:
    """By the one that accepted, or by the next one: nobody is accepted and left."""
    async with serving(path, held, "first") as first:
        client = raw(path)
        client.sendall(request("/one"))
        for _ in range(turns):
            await asyncio.sleep(0)
        await first.drain(5)
        async with serving(path, held, "second"):
            answer = await asyncio.to_thread(client.recv, 65536)

    assert answer.split(b"\r\n")[0] == b"HTTP/1.1 200 OK"
    assert answer.endswith(b"/one")
    client.close()


async def test_nobody_is_accepted_once_it_drains(path: Path, held: socket.socket) -> None:
    async with open_door(path, held.dup()) as door:
        client = await Client.connect(path)
        client.send("/wait")
        await asked(door, "/wait")
        drain = asyncio.create_task(door.listener.drain(5))
        await asyncio.sleep(0)
        late = raw(path)
        late.sendall(request("/late"))
        await asyncio.sleep(0.1)
        door.gate.set()
        await drain

        assert (await client.hear(), door.asked) == ((200, "POST /wait 0"), ["/wait"])
        await client.close()
    async with serving(path, held, "second"):
        assert (await asyncio.to_thread(late.recv, 65536)).endswith(b"second /late")
    late.close()


async def test_a_kept_connection_goes_on_with_the_next_one(path: Path, held: socket.socket) -> None:
    async with serving(path, held, "first"):
        kept = raw(path)
        kept.sendall(request("/one"))
        assert (await asyncio.to_thread(kept.recv, 65536)).endswith(b"first /one")

    with pytest.raises(BrokenPipeError):
        kept.sendall(request("/two"))
    assert await heard(kept) == b""
    kept.close()


async def test_a_socket_that_others_may_open_is_told(
    path: Path, held: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    open_for_all(path)
    async with serving(path, held):
        pass

    assert caplog.messages == [f"socket {path} may be opened by others than its owner (mode 666): set SocketMode=0600"]
