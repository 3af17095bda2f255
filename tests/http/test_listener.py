"""The listener, over a real unix socket, with clients that speak bytes."""

import asyncio
import json
import os
import socket
import stat
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mdnp.http import BODY_LIMIT, Listener, Response
from mdnp.model.errors import Conflict, InvalidParameter

TOO_LARGE = Response(413, b'{"Err": "too large", "Error": "too large"}', "application/json")
Heard = tuple[int, str]


@dataclass
class Door:
    """A listener that answers with what it was asked; `/wait` answers when `gate` is set."""

    path: Path
    listener: Listener
    gate: asyncio.Event
    asked: list[str]
    arrived: dict[str, asyncio.Event]


@asynccontextmanager
async def open_door(path: Path, inherited: socket.socket | None = None) -> AsyncIterator[Door]:
    gate, asked = asyncio.Event(), list[str]()
    arrived: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def answer(method: str, target: str, body: bytes) -> Response:
        asked.append(target)
        arrived[target].set()
        if target == "/wait":
            await gate.wait()
        return Response(200, f"{method} {target} {len(body)}".encode(), "application/x-test")

    listener = await Listener.open(path, answer, TOO_LARGE, inherited)
    try:
        yield Door(path, listener, gate, asked, arrived)
    finally:
        gate.set()
        if path in files(path.parent):  # else the test has drained it
            await listener.drain(1)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(tmp_path / "mdnp.sock") as door:
        yield door


class Client:
    """A connection, as Go's client keeps one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, path: Path) -> "Client":
        return cls(*await asyncio.open_unix_connection(str(path)))

    def send(self, target: str, body: bytes = b"", headers: str = "Host: plugin.moby.localhost\r\n") -> None:
        self.writer.write(request(target, body, headers))

    async def hear(self) -> Heard:
        """Status and body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.lower().split("\r\n")
        [length] = [int(line.split(":")[1]) for line in lines if line.startswith("content-length:")]
        return int(head.split()[1]), (await self.reader.readexactly(length)).decode()

    async def ask(self, target: str, body: bytes = b"") -> Heard:
        self.send(target, body)
        return await self.hear()

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


def request(target: str, body: bytes = b"", headers: str = "Host: plugin.moby.localhost\r\n") -> bytes:
    return f"POST {target} HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def raw(path: Path) -> socket.socket:
    """A connection below asyncio, which acts while the loop does nothing."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


async def heard(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""

    def read() -> bytes:
        return b"".join(iter(lambda: connection.recv(65536), b""))

    return await asyncio.to_thread(read)


async def asked(door: Door, target: str) -> None:
    async with asyncio.timeout(5):
        await door.arrived[target].wait()


async def refusal(path: Path) -> tuple[type[Exception], str]:
    with pytest.raises((Conflict, InvalidParameter)) as caught:
        async with open_door(path):
            pass
    return type(caught.value), str(caught.value)


# The socket.


async def test_only_the_owner_may_connect(door: Door) -> None:
    assert stat.S_IMODE(door.path.stat().st_mode) == 0o600
    assert files(door.path.parent) == [door.path]


async def test_the_folder_of_the_socket_is_made(tmp_path: Path) -> None:
    async with open_door(tmp_path / "deep" / "down" / "mdnp.sock") as door:
        client = await Client.connect(door.path)
        assert await client.ask("/one") == (200, "POST /one 0")
        await client.close()


async def test_a_socket_that_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mdnp.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))

    async with open_door(path) as door:
        client = await Client.connect(door.path)
        assert await client.ask("/one") == (200, "POST /one 0")
        await client.close()


async def test_a_socket_that_somebody_serves_is_not_taken(door: Door) -> None:
    kind, words = await refusal(door.path)

    client = await Client.connect(door.path)
    assert (kind, words) == (
        Conflict,
        f"socket {door.path}: another process serves there: stop it first, or choose another path",
    )
    assert await client.ask("/one") == (200, "POST /one 0")
    await client.close()


async def test_a_file_in_the_way_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "mdnp.sock"
    path.write_text("precious")

    assert await refusal(path) == (
        Conflict,
        f"socket {path}: something else than a socket is there: remove it, or choose another path",
    )
    assert path.read_text() == "precious"


@pytest.mark.parametrize("kind", ["folder", "symlink"])
async def test_what_is_no_socket_is_not_touched(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "mdnp.sock", tmp_path / "target"
    target.write_text("precious")
    path.mkdir() if kind == "folder" else path.symlink_to(target)

    said, _ = await refusal(path)

    assert (said, path.is_dir(), path.is_symlink()) == (Conflict, kind == "folder", kind == "symlink")
    assert target.read_text() == "precious"


@pytest.mark.parametrize("length", [98, 92])
async def test_a_path_of_any_length_that_a_socket_can_have_is_served(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("s" * (length - len(str(tmp_path)) - 1))
    assert len(str(path)) == length

    async with open_door(path) as door:
        client = await Client.connect(door.path)
        assert await client.ask("/one") == (200, "POST /one 0")
        await client.close()


async def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("s" * (98 - len(str(tmp_path))))

    assert await refusal(path) == (
        InvalidParameter,
        f"socket {path}: mdnp's sockets have paths of at most 98 bytes",
    )


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for path in (tmp_path / "file" / "mdnp.sock", tmp_path / "file" / "deep" / "mdnp.sock"):
        kind, words = await refusal(path)
        assert (kind, words.startswith(f"socket {path}: ")) == (InvalidParameter, True)


# HTTP, as Docker's client speaks it.


async def test_any_host_header_is_taken(door: Door) -> None:
    client = await Client.connect(door.path)

    for headers in ("Host: \r\n", "Host:\r\n", "Host: /run/docker/plugins/mdnp.sock\r\n"):
        client.send("/one", b"{}", headers)
        assert await client.hear() == (200, "POST /one 2")
    await client.close()


async def test_one_connection_carries_many_calls(door: Door) -> None:
    client = await Client.connect(door.path)

    heard = [await client.ask(f"/{n}", b"x" * n) for n in range(20)]

    assert heard == [(200, f"POST /{n} {n}") for n in range(20)]
    await client.close()


async def test_calls_that_are_sent_at_once_are_answered_in_order(door: Door) -> None:
    client = await Client.connect(door.path)

    client.writer.write(b"".join(request(f"/{n}", b"x" * n) for n in range(10)))

    assert [await client.hear() for _ in range(10)] == [(200, f"POST /{n} {n}") for n in range(10)]
    await client.close()


async def test_a_call_that_waits_holds_up_no_other(door: Door) -> None:
    waiting = await Client.connect(door.path)
    waiting.send("/wait")
    await asked(door, "/wait")
    clients = [await Client.connect(door.path) for _ in range(20)]

    heard = await asyncio.gather(*(client.ask(f"/{n}") for n, client in enumerate(clients)))
    door.gate.set()

    assert heard == [(200, f"POST /{n} 0") for n in range(20)]
    assert await waiting.hear() == (200, "POST /wait 0")
    await asyncio.gather(*(client.close() for client in [waiting, *clients]))


async def test_a_chunked_body_is_read_whole(door: Door) -> None:
    client = await Client.connect(door.path)

    client.writer.write(
        b"POST /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n3\r\nabc\r\n0\r\n\r\n"
    )

    assert await client.hear() == (200, "POST /one 5")
    await client.close()


async def test_a_body_in_many_small_pieces_is_read_whole(door: Door) -> None:
    client = await Client.connect(door.path)

    for byte in request("/one", b"0123456789"):
        client.writer.write(bytes([byte]))
        await asyncio.sleep(0)

    assert await client.hear() == (200, "POST /one 10")
    await client.close()


async def test_the_answer_says_its_length_and_type(door: Door) -> None:
    client = await Client.connect(door.path)

    client.send("/one")
    head = (await client.reader.readuntil(b"\r\n\r\n")).decode().lower()

    assert "content-length: 11\r\n" in head
    assert "content-type: application/x-test\r\n" in head
    await client.close()


async def test_a_body_up_to_the_limit_is_taken(door: Door) -> None:
    client = await Client.connect(door.path)

    assert await client.ask("/one", bytes(BODY_LIMIT)) == (200, f"POST /one {BODY_LIMIT}")
    await client.close()


async def test_a_body_over_the_limit_is_413_in_the_form_of_errors(door: Door) -> None:
    client = await Client.connect(door.path)

    status, body = await client.ask("/one", bytes(BODY_LIMIT + 1))

    assert (status, json.loads(body)) == (413, {"Err": "too large", "Error": "too large"})
    assert door.asked == []
    await client.close()
    other = await Client.connect(door.path)
    assert await other.ask("/two") == (200, "POST /two 0")
    await other.close()


async def test_what_is_no_http_ends_its_own_connection_only(door: Door) -> None:
    for garbage in (b"\0\0\0\0\r\n\r\n", b"HELLO\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\x16\x03\x01"):
        client = await Client.connect(door.path)
        client.writer.write(garbage)
        client.writer.write_eof()
        await client.reader.read()
        await client.close()

    other = await Client.connect(door.path)

    assert await other.ask("/one") == (200, "POST /one 0")
    await other.close()


async def test_a_client_that_hangs_up_during_its_call_disturbs_nobody(door: Door) -> None:
    client = await Client.connect(door.path)
    client.send("/wait")
    await asked(door, "/wait")
    await client.close()
    door.gate.set()

    other = await Client.connect(door.path)

    assert await other.ask("/one") == (200, "POST /one 0")
    await other.close()


# Draining.


async def test_a_call_that_is_being_answered_gets_its_answer_though_the_listener_drains(door: Door) -> None:
    client = await Client.connect(door.path)
    client.send("/wait")
    await asked(door, "/wait")

    drain = asyncio.create_task(door.listener.drain(5))
    await asyncio.sleep(0.1)
    still_draining = not drain.done()
    door.gate.set()

    assert (still_draining, await client.hear()) == (True, (200, "POST /wait 0"))
    await drain
    await client.close()


async def test_a_call_on_a_connection_that_is_not_accepted_yet_is_answered(door: Door) -> None:
    """It stands in the socket's queue when the drain begins."""
    connections = [raw(door.path) for _ in range(5)]
    for number, connection in enumerate(connections):
        connection.sendall(request(f"/{number}"))

    await door.listener.drain(5)

    for number, connection in enumerate(connections):
        answer = await heard(connection)
        assert (answer[:15], answer.endswith(f"POST /{number} 0".encode())) == (b"HTTP/1.1 200 OK", True)
        connection.close()


async def test_a_call_that_was_written_to_a_kept_connection_is_answered(door: Door) -> None:
    """It stands in the connection's queue when the drain begins."""
    kept = raw(door.path)
    kept.sendall(request("/one"))
    await asked(door, "/one")
    await asyncio.to_thread(kept.recv, 65536)
    kept.sendall(request("/two"))

    await door.listener.drain(5)

    assert (await heard(kept)).endswith(b"POST /two 0")
    kept.close()


async def test_a_first_call_that_comes_just_after_the_drain_began_is_answered(door: Door) -> None:
    connection = raw(door.path)
    drain = asyncio.create_task(door.listener.drain(5))
    await asyncio.sleep(0.1)
    connection.sendall(request("/one"))

    answer = await heard(connection)

    assert answer.endswith(b"POST /one 0")
    await drain
    connection.close()


@pytest.mark.parametrize("parts", [[20, 40], [200, 300], [60, 300_000, 700_000]], ids=["head", "body", "large"])
async def test_a_call_that_is_only_partly_here_when_the_drain_begins_is_answered(door: Door, parts: list[int]) -> None:
    """Cut off, it would be repeated without its body."""
    call = request("/one", bytes(1_000_000))
    connection = raw(door.path)
    connection.sendall(request("/zero"))
    await asked(door, "/zero")
    assert (await asyncio.to_thread(connection.recv, 65536)).endswith(b"POST /zero 0")
    start = 0
    drain = None
    for end in [*parts, len(call)]:
        await asyncio.to_thread(connection.sendall, call[start:end])
        start = end
        await asyncio.sleep(0.1)
        drain = drain or asyncio.create_task(door.listener.drain(5))

    assert (await heard(connection)).endswith(b"POST /one 1000000")
    assert drain is not None
    await drain
    connection.close()


async def test_while_it_drains_the_next_write_of_a_kept_connection_fails_before_it_is_sent(door: Door) -> None:
    """Go's client repeats a call whole on a new connection if not a byte of it was sent."""
    kept, waiting = raw(door.path), raw(door.path)
    kept.sendall(request("/one"))
    waiting.sendall(request("/wait"))
    await asked(door, "/wait")
    assert (await asyncio.to_thread(kept.recv, 65536)).endswith(b"POST /one 0")

    drain = asyncio.create_task(door.listener.drain(5))
    await asyncio.sleep(0.1)
    with pytest.raises(BrokenPipeError):
        kept.sendall(request("/two"))
    door.gate.set()
    await drain

    assert (await heard(waiting)).endswith(b"POST /wait 0")
    assert door.asked == ["/one", "/wait"]
    kept.close()
    waiting.close()


async def test_after_the_drain_nobody_is_served(door: Door) -> None:
    kept = raw(door.path)
    kept.sendall(request("/one"))
    await asked(door, "/one")

    await door.listener.drain(5)

    await heard(kept)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        kept.sendall(request("/two"))
    with pytest.raises(FileNotFoundError):
        raw(door.path)
    assert (door.asked, files(door.path.parent)) == (["/one"], [])
    kept.close()


async def test_while_it_drains_whoever_comes_anew_finds_nobody(door: Door) -> None:
    client = await Client.connect(door.path)
    client.send("/wait")
    await asked(door, "/wait")

    drain = asyncio.create_task(door.listener.drain(5))
    for _ in range(100):  # at most a second
        if door.path.exists():
            await asyncio.sleep(0.01)

    with pytest.raises(FileNotFoundError):
        raw(door.path)
    door.gate.set()
    await drain
    await client.close()


async def test_kept_connections_are_closed_before_the_name_goes(door: Door) -> None:
    """A client that finds its kept connection closed must find somebody to open a new one to."""
    kept = await Client.connect(door.path)
    assert await kept.ask("/one") == (200, "POST /one 0")
    busy = await Client.connect(door.path)
    busy.send("/wait")
    await asked(door, "/wait")
    closed: list[bool] = []

    async def look() -> None:
        assert await kept.reader.read() == b""
        closed.append(door.path.exists())

    looking = asyncio.create_task(look())
    drain = asyncio.create_task(door.listener.drain(5))
    await asyncio.wait_for(looking, 1)
    door.gate.set()
    await drain

    assert closed == [True]
    await kept.close()
    await busy.close()


async def test_a_socket_of_a_successor_stays(door: Door) -> None:
    """A new daemon may have replaced the file while the old one still drains."""
    door.path.unlink()
    async with open_door(door.path) as successor:
        await door.listener.drain(5)

        client = await Client.connect(successor.path)
        assert await client.ask("/one") == (200, "POST /one 0")
        await client.close()


@pytest.mark.long
async def test_a_connection_that_says_nothing_holds_up_the_drain_for_a_moment_only(door: Door) -> None:
    silent = raw(door.path)

    async with asyncio.timeout(3):
        await door.listener.drain(60)

    assert await heard(silent) == b""
    silent.close()


async def test_what_does_not_end_is_cut_off_and_told(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    client = await Client.connect(door.path)
    client.send("/wait")
    await asked(door, "/wait")

    async with asyncio.timeout(3):
        await door.listener.drain(0.1)

    assert caplog.messages == [f"{door.path}: 1 calls were cut off after 0.1 s"]
    await client.close()


async def test_draining_twice_is_done(door: Door) -> None:
    await door.listener.drain(1)
    await door.listener.drain(1)

    assert not door.path.exists()


async def test_the_socket_s_temporary_name_of_a_killed_start_is_no_hindrance(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / f".mdnp.sock.{os.getpid()}"))

    async with open_door(tmp_path / "mdnp.sock") as door:
        assert files(tmp_path) == [door.path]
