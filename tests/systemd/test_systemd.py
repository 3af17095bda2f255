"""What systemd gives to a service and hears from it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mdnp.model.tcp_address import TcpAddress
from mdnp.systemd import NAMES_LIMIT, Ear, FDStore, Inherited, Systemd
from rig.supervisor import Supervisor
from tests.systemd.successor import free_port, names, next_store

# Says what it was given, and what is left of it in its environment.
_SERVICE = """
import json, os
from mdnp.systemd import Systemd
systemd = Systemd.taken_from(os.environ)
print(json.dumps({
    "sockets": [[one.name, one.socket.fileno(), one.socket.getsockname()] for one in systemd.fds.inherited],
    "inheritable": [one.name for one in systemd.fds.inherited if one.socket.get_inheritable()],
    "left": sorted(name for name in os.environ if name.startswith(("LISTEN", "NOTIFY", "WATCHDOG"))),
}))
"""


def started_by(supervisor: Supervisor, **env: str) -> dict[str, Any]:
    """What a service finds."""
    command, fds = supervisor.launch([sys.executable, "-c", _SERVICE])
    whole = {**os.environ, **supervisor.env, "PYTHONPATH": "src", **env}
    done = subprocess.run(command, pass_fds=fds, env=whole, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def a_port() -> Iterator[socket.socket]:
    """A socket that has a port of the host, and polls as hung up."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", free_port()))  # one that the kernel chose would go when it no longer listens
        one.listen()
        one.shutdown(socket.SHUT_RDWR)
        yield one


def is_free(port: int) -> bool:
    with socket.socket() as one, suppress(OSError):
        one.bind(("127.0.0.1", port))
        return True
    return False


def listening(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(path))
    one.listen()
    return one


# The environment.


def test_sockets_come_with_their_names_and_go_to_no_child(supervisor: Supervisor, tmp_path: Path) -> None:
    with a_port() as port:
        FDStore(Ear(str(tmp_path / "notify"))).put("port/one", port)
        found = started_by(supervisor, WATCHDOG_USEC="1000000")

        assert found == {
            "sockets": [["mdnp.socket", 3, str(tmp_path / "mdnp.sock")], ["port/one", 4, list(port.getsockname())]],
            "inheritable": [],
            "left": [],
        }


def test_what_is_meant_for_another_process_is_not_taken() -> None:
    environment = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "mdnp.socket", "HOME": "/"}

    systemd = Systemd.taken_from(environment)

    assert (systemd.fds.inherited, environment) == ([], {"HOME": "/"})


@pytest.mark.parametrize("count", ["", "0", "-1", "many"])
def test_a_count_that_is_none_gives_nothing(count: str) -> None:
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}

    assert Systemd.taken_from(environment).fds.inherited == []


async def test_without_systemd_nothing_happens(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    systemd = Systemd.taken_from({})
    with a_port() as port:
        systemd.fds.put("port/one", port)
        systemd.fds.remove("port/one")
        systemd.fds.settle()
        await systemd.ready("well")
        await systemd.run(lambda: "well")
        await systemd.stopping("well")
        systemd.close_rest()

    assert (systemd.listener(tmp_path / "mdnp.sock", "mdnp.socket"), caplog.messages) == (None, [])


# The ear.


@pytest.mark.parametrize("abstract", [False, True])
def test_what_is_told_arrives(tmp_path: Path, abstract: bool) -> None:
    address = f"@mdnp-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address.replace("@", "\0"))
        Ear(address).tell("READY=1", "STATUS=3 networks")

        assert heard.recv(100) == b"READY=1\nSTATUS=3 networks"


@pytest.mark.parametrize("address", ["", "@", "vsock:2:1234", "relative"])
def test_who_cannot_be_told_is_not(address: str, caplog: pytest.LogCaptureFixture) -> None:
    Ear(address).tell("READY=1")

    assert caplog.messages == []


def test_that_nobody_hears_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Ear(str(tmp_path / "notify")).tell("READY=1")

    assert caplog.messages == ["systemd does not hear READY=1: No such file or directory"]


def test_who_does_not_listen_any_more_is_not_waited_for_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear(str(tmp_path / "deaf"), 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        while not caplog.messages:
            ear.tell("WATCHDOG=1")

    assert caplog.messages == ["systemd does not hear WATCHDOG=1: Resource temporarily unavailable"]


# The FD store.


def test_what_is_put_outlives_who_put_it(supervisor: Supervisor) -> None:
    with a_port() as port:
        number = port.getsockname()[1]
        next_store(supervisor).put("port/one", port)
        kept = names(supervisor)

    [one] = next_store(supervisor).take("port/")
    assert (kept, one.socket.getsockname(), is_free(number)) == (["port/one"], ("127.0.0.1", number), False)
    one.socket.close()


def test_what_was_removed_is_closed_when_it_has_settled(supervisor: Supervisor) -> None:
    store = next_store(supervisor)
    for _ in range(50):
        with a_port() as port:
            number = port.getsockname()[1]
            store.put("port/one", port)
        store.remove("port/one")
        store.settle()
        assert is_free(number)


def test_what_the_last_one_put_can_be_removed(supervisor: Supervisor) -> None:
    with a_port() as port:
        next_store(supervisor).put("port/one", port)
        store = next_store(supervisor)
        for one in store.take("port/"):
            one.socket.close()
        store.remove("port/one")

    assert names(supervisor) == []


def test_only_what_is_asked_for_is_taken() -> None:
    with a_port() as one, a_port() as two:
        store = FDStore(None, [Inherited("port/one", one), Inherited("dns/two", two)])

        assert [it.name for it in store.take("port/")] == ["port/one"]
        assert [it.name for it in store.inherited] == ["dns/two"]


def test_no_more_is_kept_than_the_next_start_can_be_given(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    """One string of its environment has all the names."""
    store = next_store(supervisor)
    length = 200
    with a_port() as first:
        store.put("a" * length, first)
        ports = [first.dup() for _ in range(3)]
        store.remove("a" * length)
        fitting = NAMES_LIMIT // (length + 1)
        for number in range(fitting + 2):
            store.put(f"{number:0{length}}", first)
        for port in ports:
            port.close()

    assert len(caplog.messages) == 2
    assert "so many sockets would keep the next daemon from starting" in caplog.messages[0]


def test_a_supervisor_that_does_not_answer_is_not_waited_for_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf, a_port() as port:
        deaf.bind(str(tmp_path / "deaf"))
        store = FDStore(Ear(str(tmp_path / "deaf"), 0.05), [Inherited("port/one", port)])
        store.remove("port/one")
        store.settle()

    assert caplog.messages == ["systemd does not answer: ports that were let go of may still be taken"]


# Listeners.


def test_the_listener_at_the_path_is_ours_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with listening(tmp_path / "other") as other, listening(tmp_path / "mdnp.sock") as ours:
        systemd = Systemd(Ear(), FDStore(None, [Inherited("mdnp.socket", other), Inherited("x", ours)]))

        assert systemd.listener(tmp_path / "link" / "mdnp.sock", "mdnp.socket") is ours
        assert [one.socket for one in systemd.fds.inherited] == [other]


def test_else_the_one_of_the_name_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with listening(tmp_path / "elsewhere") as ours:
        systemd = Systemd(Ear(), FDStore(None, [Inherited("mdnp.socket", ours)]))

        assert systemd.listener(tmp_path / "mdnp.sock", "mdnp.socket") is ours
    assert caplog.messages == [
        f"serving on {tmp_path}/elsewhere, where mdnp.socket listens, and not on {tmp_path}/mdnp.sock"
    ]


def test_what_does_not_listen_is_no_listener(tmp_path: Path) -> None:
    path = tmp_path / "mdnp.sock"
    with socket.socket(socket.AF_UNIX) as bound, socket.socket() as tcp:
        bound.bind(str(path))
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        systemd = Systemd(Ear(), FDStore(None, [Inherited("mdnp.socket", bound), Inherited("mdnp.socket", tcp)]))

        assert systemd.listener(path, "mdnp.socket") is None


def test_what_nobody_takes_is_closed_and_removed(supervisor: Supervisor, caplog: pytest.LogCaptureFixture) -> None:
    with a_port() as port:
        number = port.getsockname()[1]
        next_store(supervisor).put("dns/one", port)
        store = next_store(supervisor)
    Systemd(Ear(), store).close_rest()
    store.settle()

    assert (names(supervisor), is_free(number)) == ([], True)
    assert caplog.messages == ["systemd gave a socket dns/one that has no use here: it is closed"]


# How we are.


async def test_how_it_goes_is_told_in_order(supervisor: Supervisor) -> None:
    systemd = Systemd.taken_from(dict(supervisor.env))
    await systemd.ready("3 networks")
    await systemd.stopping("answering")
    await asyncio.to_thread(supervisor.settle)

    assert supervisor.said == ["READY=1", "STATUS=3 networks", "STOPPING=1", "STATUS=answering"]


@pytest.mark.parametrize(
    ("watcher", "signs"), [("", True), (str(os.getpid()), True), ("1", False)], ids=["any", "us", "other"]
)
async def test_a_sign_of_life_comes_twice_in_the_time_that_it_is_waited_for(
    supervisor: Supervisor, watcher: str, signs: bool
) -> None:
    given = {**supervisor.env, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": watcher}
    running = asyncio.create_task(Systemd.taken_from(given).run(lambda: "well"))
    await asyncio.sleep(0.28)
    running.cancel()
    await asyncio.to_thread(supervisor.settle)

    told = supervisor.said.count("WATCHDOG=1")
    assert (told >= 2, supervisor.said.count("STATUS=well")) == ((True, 1) if signs else (False, 0))


async def test_who_stops_says_nothing_more(supervisor: Supervisor) -> None:
    systemd = Systemd.taken_from({**supervisor.env, "WATCHDOG_USEC": "10000"})
    running = asyncio.create_task(systemd.run(lambda: "well"))
    await systemd.stopping("answering")
    async with asyncio.timeout(5):
        await running
    await asyncio.to_thread(supervisor.settle)

    assert supervisor.said[-2:] == ["STOPPING=1", "STATUS=answering"]


def test_a_socket_of_tcp_is_known_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held, socket.create_server(("127.0.0.1", 0)) as other:
        given = [Inherited("mdnp.socket", one) for one in (other, held)]
        systemd = Systemd(Ear(), FDStore(inherited=given))
        address = TcpAddress("127.0.0.1", held.getsockname()[1])

        assert systemd.tcp_listener(address) is held
        assert systemd.tcp_listener(address) is None
        assert [one.socket for one in systemd.fds.inherited] == [other]
