"""A host: a network namespace with the test build of the daemon in it, as a process that can be killed and started."""

import asyncio
import ctypes
import fcntl
import json
import os
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

from mdnp.config import Settings
from mdnp.dataplane.naming import DOOMED_GROUP, GROUP, ROUTE_PROTOCOL, ROUTE_TABLE
from mdnp.model.port import Protocol
from mdnp.model.supernet import parse_supernet
from mdnp.store.sqlite import FILE
from tests.engine_api.dockerd import CONTAINERS, NETWORKS, Dockerd
from tests.faults import daemon
from tests.faults.commons import VTEP, keys_of_others
from tests.faults.points import Fault, Faults, Switch

PATIENCE_S = 20.0
_TICK_S = 0.002
_OK = 200
_ANSWER_S = 20.0

_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_libc = ctypes.CDLL(None, use_errno=True)

_KINDS = {Protocol.TCP: socket.SOCK_STREAM, Protocol.UDP: socket.SOCK_DGRAM}


class Gone(Exception):
    """The connection broke before the answer."""


class Door:
    """HTTP over a unix socket, with no more of it than that takes, on one connection that is kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """Status and what the JSON of the answer says. Errors: Gone."""
        head = f"{method} {path} HTTP/1.1\r\nHost: mdnp\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(_ANSWER_S)
                self._socket.connect(str(self._path))
            self._socket.sendall(head.encode() + body)
            return self._answer(self._socket)
        except (Gone, ConnectionError) as error:
            self.close()
            raise Gone from error

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _answer(self, opened: socket.socket) -> tuple[int, Any]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += _received(opened)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += _received(opened)
        return int(head.split()[1]), json.loads(body)


def _received(opened: socket.socket) -> bytes:
    data = opened.recv(65536)
    if not data:
        raise Gone
    return data


class Host:
    """
    Made in a process that has no threads, which it takes into a network namespace of its own. Until the faults have
    struck, a daemon that is started has them. With `iptables` Docker's chain is there, but no way to it; without, the
    programs are not. With a `cluster` it is in one with another host.
    """

    def __init__(
        self, folder: Path, faults: Sequence[Fault] = (), *, iptables: bool = True, cluster: bool = False
    ) -> None:
        self.switch = Switch(folder / "trace")
        self.log = folder / "log"
        self.iptables = iptables
        self.commons = folder / "etcd" if cluster else None
        self._faults = faults
        self._dockerd = folder / "docker.sock"
        self._settings = Settings(
            socket=folder / "mdnp.sock",
            state_dir=folder / "state",
            runtime_dir=folder / "run",
            docker_host=f"unix://{self._dockerd}",
            address_pools=(parse_supernet("base=10.64.0.0/16,size=24"),),
            grace=0,
            host_address=ip_address(VTEP) if cluster else None,
        )
        self._plugin = Door(self._settings.socket)
        self._admin = Door(self._settings.admin_socket)
        self._pid = 0
        self.boot()

    def boot(self) -> None:
        """A kernel in which nothing is ours."""
        assert not self.runs
        if _libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _set_up("lo")
        if self.commons:
            subprocess.run(["ip", "addr", "add", f"{VTEP}/32", "dev", "lo"], check=True)
        for program in ("iptables", "ip6tables") if self.iptables else ():
            subprocess.run([program, "-N", "DOCKER-USER"], check=True)

    @property
    def state(self) -> Path:
        return self._settings.state_dir

    @property
    def runs(self) -> bool:
        if self._pid and os.waitpid(self._pid, os.WNOHANG) != (0, 0):
            self._pid = 0
        return self._pid != 0

    def start(self) -> bool:
        """Until it can be called; False if it ends instead."""
        self._close_doors()
        faults = Faults(self.switch, () if self.switch.struck else self._faults)
        self._pid = _forked(lambda: self._serve(faults))
        while self.runs:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self._settings.socket)) == 0 and self._is_member():
                    return True
            time.sleep(_TICK_S)
        return False

    def _is_member(self) -> bool:
        """Of the cluster, where it is in one. A daemon that cannot read its kernel does not say."""
        if not self.commons:
            return True
        try:
            code, status = self._admin.call("GET", "/status")
        except (Gone, OSError):
            return False
        return code != _OK or bool(status["cluster"]["connected"])

    def litter(self) -> None:
        """What a daemon left that was killed, and nobody has promised: a bridge, a veth, and one that was to die."""
        for link in (
            f"mdb-litter group {GROUP} type bridge",
            f"mdv-litter1 group {GROUP} type veth peer mdp-litter1",
            f"mdv-litter2 group {DOOMED_GROUP} type veth peer mdp-litter2",
        ):
            subprocess.run(["ip", "link", "add", *link.split()], check=True)

    def await_mirror(self) -> None:
        """What the other host told is written down: it is a moment after it was heard."""

        def written() -> bool:
            with closing(sqlite3.connect(f"file:{self.state / FILE}?mode=ro", uri=True)) as connection:
                known = {key for (key,) in connection.execute("SELECT key FROM known")}
            return keys_of_others() <= known

        until(written, "the mirror of what the other host told")

    def litter_rows(self, tunnel: str, bridge: str, own_end: str) -> None:
        """What was there of a remote endpoint and a pool that are no more, by the links of an overlay."""
        for command in (
            f"bridge fdb add 02:6d:0a:32:63:77 dev {tunnel} dst 192.0.2.77 self permanent",
            f"ip neigh add 10.50.99.77 lladdr 02:6d:0a:32:63:77 dev {bridge} nud permanent protocol {ROUTE_PROTOCOL}",
            f"ip route add 10.77.0.0/16 dev {own_end} table {ROUTE_TABLE} protocol {ROUTE_PROTOCOL}",
        ):
            subprocess.run(command.split(), check=True)

    def delete_link(self, name: str) -> None:
        """As one goes whose other end was in a sandbox that died. Until the daemon has heard of it, and looked."""
        self.switch.begin(armed=False)
        subprocess.run(["ip", "link", "del", name], check=True)
        until(lambda: "kernel.observe.done" in self.switch.trace, "a look after the link")

    def kill(self) -> None:
        if self.runs:
            os.kill(self._pid, signal.SIGKILL)
            self.wait()

    def wait(self) -> int | None:
        """For its end; the exit code, or the signal's negative. None if that was seen before."""
        if not self._pid:
            return None
        until(lambda: os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None, "its end")
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        self._close_doors()
        return os.waitstatus_to_exitcode(status)

    def stop(self) -> int | None:
        """SIGTERM; the exit code."""
        self._close_doors()
        os.kill(self._pid, signal.SIGTERM)
        return self.wait()

    def call(self, verb: str, body: bytes) -> tuple[int, Any]:
        """A call of Docker's. Errors: Gone."""
        return self._plugin.call("POST", f"/{verb}", body)

    def shown(self, path: str) -> Any:
        """What an operator is shown."""
        status, view = self._admin.call("GET", path)
        assert status == 200, f"GET {path}: {status} {view}"
        return view

    def collect(self) -> tuple[int, Any]:
        """`mdnp gc`: status and view. Errors: Gone."""
        return self._admin.call("POST", "/gc")

    @contextmanager
    def docker(self, networks: Any, containers: Any) -> Iterator[None]:
        """Docker's API can be asked, and lists these."""
        self._close_doors()
        pid = _forked(lambda: asyncio.run(_serve_docker(self._dockerd, networks, containers)))
        try:
            until(lambda: _accepts(self._dockerd), "Docker's API")
            yield
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._dockerd.unlink()

    def has_link(self, name: str) -> bool:
        return any(found == name for _, found in socket.if_nameindex())

    @property
    def links(self) -> list[str]:
        """All but the loopback."""
        return sorted(name for _, name in socket.if_nameindex() if name != "lo")

    def is_taken(self, protocol: Protocol, address: str, port: int) -> bool:
        """Whether somebody has this port of the host."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, _KINDS[protocol]) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return True
            return False

    def _serve(self, faults: Faults) -> int:
        log = os.open(self.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(log, stream)
        if not self.iptables:
            os.environ["PATH"] = ""
        return daemon.serve(self._settings, faults, self.commons)

    def _close_doors(self) -> None:
        self._plugin.close()
        self._admin.close()


def until(holds: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, f"waited {within_s:g} s for {what}"
        time.sleep(_TICK_S)


def _forked(work: Callable[[], int | None]) -> int:
    """A child that does this and nothing else, and dies with its parent; its pid."""
    pid = os.fork()
    if pid == 0:
        _work(work)
    return pid


def _work(work: Callable[[], int | None]) -> NoReturn:
    code = 70
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.alarm(0)
        code = work() or 0
    except BaseException:  # noqa: BLE001  # whatever it is, a child must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


async def _serve_docker(path: Path, networks: Any, containers: Any) -> None:
    dockerd = Dockerd(path)
    dockerd.says(NETWORKS, networks)
    dockerd.says(CONTAINERS, containers)
    await dockerd.start()
    await asyncio.Event().wait()


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _set_up(link: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name = link.encode().ljust(16, b"\0")
        request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("=16sH22x", name, 0))
        (flags,) = struct.unpack_from("=H", request, 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("=16sH22x", name, flags | _IFF_UP))
