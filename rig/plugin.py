"""The plugin under test, as a process in the network namespace of a test host."""

import socket as sockets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rig.command import PATIENCE, Result, RigError, until
from rig.host import Host
from rig.process import Process
from rig.supervisor import Supervisor

MDNP = Path(sys.executable).parent / "mdnp"


class Plugin:
    """
    A plugin daemon on `host`, which its engine knows by `name`.

    It runs in the machine's mount namespace. Its socket is where an engine looks for it, unless `socket` says another
    place. `command` is called with --socket, --state-dir and then `options`. State is kept over restarts;
    Host.forget_plugin() removes it. `activated` says that a supervisor holds its socket and keeps its others, as
    systemd does.
    """

    def __init__(
        self,
        host: Host,
        command: Sequence[str | Path] = (MDNP, "serve"),
        *,
        name: str = "mdnp",
        socket: Path | None = None,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        activated: bool = False,
    ) -> None:
        self.host = host
        self.name = name
        self.socket = socket or host.plugins / f"{name}.sock"
        self.log = host.log / f"{name}.log"
        self.env = {
            "MDNP_RUNTIME_DIR": str(host.runtime),
            "MDNP_DOCKER_HOST": f"unix://{host.docker_socket}",
            **(env or {}),
        }
        self.command = (*command, "--socket", self.socket, "--state-dir", host.state, *options)
        self.supervisor = Supervisor(self.socket, host.runtime / f"{name}.notify") if activated else None
        if self.supervisor is not None:
            host.rig.defer(self.supervisor.close)
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self, timeout: float = PATIENCE) -> None:
        """Start the daemon and wait until its socket accepts a connection, or until it says that it is ready."""
        if self.running:
            raise RigError(f"plugin {self.name} on host {self.host.label} runs already")
        process = self._process = self._spawn()
        try:
            until(lambda: self._serves() or not process.running, f"{self.name} to serve on {self.socket}", timeout)
        except RigError as error:
            raise RigError(f"{error}\n{process.tail()}") from error
        if not process.running:
            raise RigError(f"{self.name} does not start: exit {process.wait(0)}\n{process.tail()}")

    def stop(self, timeout: float = PATIENCE) -> int:
        """SIGTERM, and wait for the end; the exit code."""
        code = self._running().stop(timeout)
        self._process = None
        return code

    def kill(self) -> None:
        """SIGKILL. The socket file stays, as after a crash."""
        self._running().kill()
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def cli(self, *arguments: str, check: bool = True, timeout: float = PATIENCE) -> str:
        """Run `mdnp` with `arguments` on the host; what it printed, with `check` off its errors too."""
        result = self.attempt(*arguments, timeout=timeout)
        return result.checked().out if check else result.said

    def attempt(self, *arguments: str, timeout: float = PATIENCE) -> Result:
        """As `cli`, for one whose exit code matters."""
        return self.host.run([MDNP, *arguments], check=False, timeout=timeout, env=self.env)

    def _running(self) -> Process:
        if self._process is None:
            raise RigError(f"plugin {self.name} on host {self.host.label} is not started")
        return self._process

    def _spawn(self) -> Process:
        if self.supervisor is None:
            return self.host.spawn(self.command, log=self.log, env=self.env)
        command, fds = self.supervisor.launch(self.command)
        process = self.host.spawn(command, log=self.log, env={**self.env, **self.supervisor.env}, fds=fds)
        self.supervisor.started(process.pid)
        return process

    def _serves(self) -> bool:
        if self.supervisor is not None:
            return self.supervisor.ready.is_set()
        with sockets.socket(sockets.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0
