"""A real Docker engine on a test host."""

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPException

from rig import process
from rig.cell import Cell
from rig.command import PATIENCE, Result, RigError, until
from rig.host import Host
from rig.image import IMAGE, image
from rig.process import Process
from rig.rootfs import root_of
from rig.sweep import unmount

_TRIES = 2


class Engine:
    """
    One engine of a given version on `host`, with the image `busybox:rig` in it.

    Its containers are killed with it when the run closes; `stop`, `kill` and `start` are what a test does to it. A
    second engine on the same host takes the first one's place (an upgrade): close the first before.
    """

    def __init__(
        self,
        host: Host,
        version: str,
        *,
        live_restore: bool = False,
        options: Sequence[str] = (),
        storage_driver: str = "overlay2",
    ) -> None:
        self.host = host
        self.version = version
        self.socket = host.docker_socket
        self.url = f"unix://{self.socket}"
        self.log = host.log / "dockerd.log"
        self.options = (f"--storage-driver={storage_driver}", *["--live-restore"] * live_restore, *options)
        self.cell = Cell(host, root_of(version))
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """The engine's pid, as the machine sees it."""
        return self._running().pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self, timeout: float = PATIENCE) -> None:
        """Start the engine and wait until it answers; once more if it dies over what a killed one has left."""
        if self.running:
            raise RigError(f"engine {self.version} on host {self.host.label} runs already")
        if not any(self._comes_up(timeout) for _ in range(_TRIES)):
            raise RigError(f"engine {self.version} does not start\n{process.tail(self.log)}")
        if not self.docker("images", "--quiet", IMAGE):
            self.load(image(), IMAGE)

    def stop(self, timeout: float = PATIENCE) -> None:
        """Ask the engine to end and wait for it. Containers that ignore SIGTERM take their stop time (10 s)."""
        self._running().stop(timeout)
        self._process = None

    def kill(self) -> None:
        """SIGKILL for the engine and its containerd; containers and their shims live on."""
        running = self._running()
        contained = [pid for pid in process.children(running.pid) if process.name(pid) == "containerd"]
        process.kill([running.pid, *contained])
        running.kill()
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """End the engine and all its containers at once and for good, as a power cut does; the data root stays."""
        self.cell.close()
        self._process = None
        for folder in (self.host.exec_root, self.host.data_root):
            unmount(folder)
        self.host.forget_engine()

    def docker(self, *arguments: str, check: bool = True, timeout: float = PATIENCE, feed: bytes = b"") -> str:
        """
        Run the docker command line of the engine's own version; what it printed, without the last line end.

        CommandFailed holds all it said. With `check` off that text is returned instead.
        """
        result = self.attempt(*arguments, timeout=timeout, feed=feed)
        return result.checked().out.strip() if check else result.said.strip()

    def attempt(self, *arguments: str, timeout: float = PATIENCE, feed: bytes = b"") -> Result:
        """As `docker`, for one that may fail. Of the machine's folders it sees only the host's."""
        return self.cell.run(["docker", "--host", self.url, *arguments], check=False, timeout=timeout, feed=feed)

    def parallel(self, *commands: Sequence[str], timeout: float = PATIENCE) -> list[Result]:
        """Run docker commands all at once; how each ended, in the order given. None is checked."""
        with ThreadPoolExecutor(max_workers=len(commands) or 1) as pool:
            return list(pool.map(lambda command: self.attempt(*command, timeout=timeout), commands))

    def load(self, tar: bytes, tag: str) -> None:
        """Make an image of a tar file."""
        self.docker("import", "--change", 'CMD ["sh"]', "-", tag, feed=tar)

    def clear(self) -> None:
        """Remove all containers and all networks but the engine's own."""
        if containers := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *containers)
        if not self._remove_networks():
            # 20.10 can miscount a network's endpoints after many starts at once ("has active endpoints" without any);
            # it counts anew when it starts.
            self.restart()
            if not self._remove_networks():
                raise RigError(f"engine {self.version} does not remove its networks\n{process.tail(self.log)}")

    def _remove_networks(self) -> bool:
        networks = self.docker("network", "ls", "--quiet", "--filter", "type=custom").split()
        return not networks or self.attempt("network", "rm", *networks).code == 0

    def _command(self) -> list[str]:
        return [
            "dockerd",
            f"--host={self.url}",
            f"--data-root={self.host.data_root}",
            f"--exec-root={self.host.exec_root}",
            f"--pidfile={self.host.folder / 'docker.pid'}",
            f"--cgroup-parent=/{self.host.rig.name}",
            *self.options,
        ]

    def _comes_up(self, timeout: float) -> bool:
        """Start the process and wait until it answers (true) or has ended (false)."""
        daemon = self._process = self.cell.spawn(self._command(), log=self.log)
        try:
            until(lambda: self._answers() or not daemon.running, f"engine {self.version} to answer", timeout)
        except RigError as error:
            daemon.kill()
            raise RigError(f"{error}\n{daemon.tail()}") from error
        return daemon.running

    def _running(self) -> Process:
        if self._process is None:
            raise RigError(f"engine {self.version} on host {self.host.label} is not started")
        return self._process

    def _answers(self) -> bool:
        """Whether the API answers a ping."""
        try:
            with closing(_UnixConnection(str(self.socket))) as connection:
                connection.request("GET", "/_ping")
                return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False


class _UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=5.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
