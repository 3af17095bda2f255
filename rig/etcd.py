"""Real etcds: one, or the members of a cluster, each in a network namespace of the rig's."""

import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from mdnp.install import certificates, file
from mdnp.install.certificates import Paths
from mdnp.model.port import bracketed
from mdnp.model.tcp_address import TcpAddress
from rig.command import Result, RigError, until
from rig.host import Namespace
from rig.process import Process, send

ETCD, ETCDCTL = "etcd", "etcdctl"
PORT = 2379
ROOT = "root"
_READY_S = 30.0
# The machine's disk is shared by all tests; what a killed process has written is there all the same.
_QUICK = ("--unsafe-no-fsync",)


@dataclass(frozen=True)
class User:
    """Who may read and write the keys with a prefix. `password` is "" for one who is known by a certificate's name."""

    name: str
    password: str
    prefix: str


class Etcd:
    """
    A member, which is the whole cluster unless it was `joined` with others. It is not started by being made.

    It listens on `address`, which `namespace` must have, at `port` for clients and at the next one for members. With
    `keys` its clients must come by TLS and show a certificate of that authority (see `authority`). `options` are flags
    of etcd(1) besides.
    """

    def __init__(
        self,
        namespace: Namespace,
        name: str = "etcd",
        *,
        address: str = "127.0.0.1",
        port: int = PORT,
        keys: Paths | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.namespace = namespace
        self.name = name
        self.keys = keys
        self.options = tuple(options)
        host = bracketed(ip_address(address))
        self.url = f"{'https' if keys else 'http'}://{host}:{port}"
        self.peer = f"http://{host}:{port + 1}"
        self.members: tuple[Etcd, ...] = (self,)
        self.process: Process | None = None
        self._password = ""
        self._folder = namespace.rig.folder / f"{name}.etcd"
        self._data = self._folder / "data"
        self._folder.mkdir()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    def start(self, *, wait: bool = True) -> None:
        """Start it on the data that it has, and wait until it serves, which needs most members of its cluster."""
        if self.running:
            raise RigError(f"{self.name} runs already")
        self.process = self.namespace.spawn(self._command(), log=f"{self.name}.log")
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it serves."""
        until(self._serves, f"{self.name} to serve at {self.url}", _READY_S)

    def stop(self) -> None:
        self._running().stop()

    def kill(self) -> None:
        self._running().kill()

    def freeze(self) -> None:
        """Connections stay, and nothing comes."""
        send(self._running().pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Leases that have run out meanwhile end all at once."""
        send(self._running().pid, signal.SIGCONT)

    def lose(self) -> None:
        """Begin anew with nothing. Of a single member the id of the cluster stays: it is made of names and URLs."""
        self.kill()
        shutil.rmtree(self._data)
        self.start()

    def save(self) -> Path:
        """A backup, for `restore`."""
        path = self._folder / "backup.db"
        path.unlink(missing_ok=True)
        self.ctl("snapshot", "save", str(path))
        return path

    def restore(self, backup: Path, *, cluster: str = "etcd-cluster") -> None:
        """
        Go back to a backup, as `etcdctl snapshot restore` does: the revision goes back, leases are as they were.

        With another name than the default, `cluster` makes it one of another id.
        """
        self.kill()
        shutil.rmtree(self._data)
        place = (f"--data-dir={self._data}", f"--name={self.name}", f"--initial-advertise-peer-urls={self.peer}")
        whole = (f"--initial-cluster={self._cluster}", f"--initial-cluster-token={cluster}")
        self.ctl("snapshot", "restore", str(backup), *place, *whole, near=False)
        self.start()

    def compact(self) -> None:
        """Forget all that was before now."""
        said = self.ctl("get", "--write-out=fields", "nothing").out
        revision = next(line.split(":")[1] for line in said.splitlines() if line.startswith('"Revision"'))
        self.ctl("compact", revision.strip())

    def guard(self, *users: User, password: str) -> None:
        """Let only users in: `root`, with `password`, and these."""
        self.ctl("user", "add", f"{ROOT}:{password}")
        self.ctl("user", "grant-role", ROOT, ROOT)
        for one in users:
            secret = (f"{one.name}:{one.password}",) if one.password else (one.name, "--no-password")
            self.ctl("user", "add", *secret)
            self.ctl("role", "add", one.name)
            self.ctl("role", "grant-permission", one.name, "--prefix=true", "readwrite", one.prefix)
            self.ctl("user", "grant-role", one.name, one.name)
        self.ctl("auth", "enable")
        for member in self.members:
            member._password = password  # noqa: SLF001  # our own kind

    def ctl(self, *words: str, check: bool = True, near: bool = True, feed: str = "") -> Result:
        """Run etcdctl(1) on this member, as root if users are asked for; `near` is False for what asks no server."""
        place = (f"--endpoints={self.url}", *self._client_keys()) if near else ()
        who = (f"--user={ROOT}:{self._password}",) if near and self._password else ()
        environment = {"ETCDCTL_API": "3"}
        return self.namespace.run((ETCDCTL, *place, *who, *words), check=check, env=environment, feed=feed.encode())

    @property
    def _cluster(self) -> str:
        return ",".join(f"{one.name}={one.peer}" for one in self.members)

    def _command(self) -> Sequence[str]:
        return (
            *(ETCD, f"--name={self.name}", f"--data-dir={self._data}", *_QUICK),
            *(f"--listen-client-urls={self.url}", f"--advertise-client-urls={self.url}"),
            *(f"--listen-peer-urls={self.peer}", f"--initial-advertise-peer-urls={self.peer}"),
            *(f"--initial-cluster={self._cluster}", "--initial-cluster-state=new"),
            *self._server_keys(),
            *self.options,
        )

    def _server_keys(self) -> Sequence[str]:
        if self.keys is None:
            return ()
        server = self.keys.server
        return (
            *(f"--cert-file={server.cert}", f"--key-file={server.key}"),
            *(f"--trusted-ca-file={self.keys.ca.cert}", "--client-cert-auth"),
        )

    def _client_keys(self) -> Sequence[str]:
        if self.keys is None:
            return ()
        client = self.keys.client
        return f"--cacert={self.keys.ca.cert}", f"--cert={client.cert}", f"--key={client.key}"

    def _serves(self) -> bool:
        if not self._running().running:
            raise RigError(f"{self.name} has ended\n{self._running().tail()}")
        return self.ctl("--command-timeout=1s", "endpoint", "health", check=False).code == 0

    def _running(self) -> Process:
        if self.process is None:
            raise RigError(f"{self.name} was not started")
        return self.process


def joined(*members: Etcd) -> None:
    """Make them the members of one cluster and start them; each must reach the others' addresses."""
    for one in members:
        one.members = members
    for one in members:
        one.start(wait=False)
    for one in members:
        one.wait()


def authority(folder: Path, address: str = "127.0.0.1") -> Paths:
    """A new authority in `folder`, with certificates for a server at `address` and a client, which is named Docker."""
    folder.mkdir()
    file.write(Path("/"), certificates.missing(Path("/"), folder, TcpAddress(address, PORT)))
    return certificates.paths(folder)
