"""Network namespaces that the rig makes: the test hosts and the underlay that joins them."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from rig.command import PATIENCE, Result, run
from rig.process import Process
from rig.sandbox import Run
from rig.sweep import NETNS

GATEWAY = IPv4Interface("192.0.2.1/24")
GATEWAY6 = IPv6Interface("2001:db8::1/64")
UPLINK = "eth0"


class Namespace:
    """A network namespace. Commands in it see the machine's files, all but its network."""

    def __init__(self, rig: Run, label: str) -> None:
        self.rig = rig
        self.label = label
        self.name = f"{rig.name}-{label}"
        self.path = NETNS / self.name
        self.log = rig.folder
        run(["ip", "netns", "add", self.name])
        self.ip("link set lo up")

    def enter(self, command: Sequence[str | Path]) -> list[str]:
        """`command` as it is run in here. Not `ip netns exec`, which remounts /sys and so hides the control groups."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, command)]

    def run(
        self,
        command: Sequence[str | Path],
        *,
        check: bool = True,
        timeout: float = PATIENCE,
        env: Mapping[str, str] | None = None,
        feed: bytes = b"",
    ) -> Result:
        """Run `command` in here to its end; `env` is added to our environment."""
        whole = self.rig.env({**os.environ, **(env or {})})
        return run(self.enter(command), check=check, timeout=timeout, env=whole, feed=feed)

    def spawn(
        self,
        command: Sequence[str | Path],
        *,
        log: str | Path,
        env: Mapping[str, str] | None = None,
        fds: Iterable[int] = (),
    ) -> Process:
        """Start `command` in here; it ends with the run at the latest. `log` is a name among our logs, or a path."""
        whole = {**os.environ, **(env or {})}
        return self.rig.spawn(self.enter(command), log=self.log / log, env=whole, fds=fds)

    def ip(self, *lines: str) -> None:
        """Several commands of ip(8), without its name, in one process."""
        run(["ip", "-netns", self.name, "-batch", "-"], feed="\n".join(lines).encode())


class Underlay(Namespace):
    """The wire between the hosts: a bridge in a namespace of its own, which is also everybody's gateway."""

    def __init__(self, rig: Run) -> None:
        super().__init__(rig, "net")
        self._plugged = 1
        self._ends: dict[str, str] = {}
        self.ip(
            "link add wire type bridge",
            f"address add {GATEWAY} dev wire",
            f"address add {GATEWAY6} dev wire nodad",
            "link set wire up",
        )

    def plug(self, host: Namespace) -> tuple[IPv4Interface, IPv6Interface]:
        """Give `host` an uplink with the next addresses and a default route. Links are made here, never outside."""
        self._plugged += 1
        address = IPv4Interface(f"{GATEWAY.ip - 1 + self._plugged}/{GATEWAY.network.prefixlen}")
        address6 = IPv6Interface(f"{GATEWAY6.ip - 1 + self._plugged}/{GATEWAY6.network.prefixlen}")
        end = self._ends[host.name] = f"to{self._plugged}"
        self.ip(
            f"link add {end} type veth peer name {UPLINK} netns {host.name}",
            f"link set {end} master wire up",
        )
        host.ip(
            f"address add {address} dev {UPLINK}",
            f"address add {address6} dev {UPLINK} nodad",
            f"link set {UPLINK} up",
            f"route add default via {GATEWAY.ip}",
            f"route add ::/0 via {GATEWAY6.ip}",
        )
        return address, address6

    def end_of(self, host: Namespace) -> str:
        """The link here that leads to `host`."""
        return self._ends[host.name]


class Host(Namespace):
    """
    A test host: a network namespace with an uplink, and the folders of its engine and its plugin.

    Its folder is a shared mount, so that what the engine mounts in it (the namespaces of containers, in exec/netns)
    is seen outside the engine's own mount namespace too, where the plugin runs.
    """

    def __init__(self, underlay: Underlay, label: str = "a") -> None:
        super().__init__(underlay.rig, label)
        self.underlay = underlay
        self.address, self.address6 = underlay.plug(self)
        self.folder = self.rig.folder / label
        self.folder.mkdir()
        run(["mount", "--bind", str(self.folder), str(self.folder)])
        run(["mount", "--make-shared", str(self.folder)])
        self.log = self._made("log")
        self.plugins = self._made("plugins")  # /run/docker/plugins, as the engine sees it
        self.specs = self._made("specs")  # /etc/docker/plugins, as the engine sees it
        self.exec_root = self._made("exec")
        self.data_root = self._made("data")
        self.state = self._made("state")  # the plugin's promises
        self.runtime = self._made("run")  # the plugin's operator socket
        self.docker_socket = self.folder / "docker.sock"  # the engine's API

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def forget_plugin(self) -> None:
        """Empty the plugin's folders, as on a host that never had one."""
        for folder in (self.state, self.runtime, self.plugins, self.specs):
            _empty(folder)

    def forget_engine(self) -> None:
        """Remove what an engine keeps in /run, as a new start of the machine does."""
        _empty(self.exec_root)
        for name in ("docker.pid", "docker.sock"):
            (self.folder / name).unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
