"""The daemon as a process of its own, in a network namespace that goes with it, and calls over its socket."""

import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from rig.process import Process, send

MDNP = Path(sys.executable).parent / "mdnp"
START_S = 30.0
ANSWER_S = 20.0


class Gone(Exception):
    """The connection broke before the answer."""


class Door(http.client.HTTPConnection):
    """HTTP over a unix socket, one connection for all calls."""

    def __init__(self, path: Path) -> None:
        super().__init__("mdnp", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(str(self._path))

    def call(self, verb: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        self.send_call(verb, body)
        return self.answer()

    def send_call(self, verb: str, body: Mapping[str, Any]) -> None:
        self.request("POST", f"/IpamDriver.{verb}", json.dumps(body))

    def answer(self) -> tuple[int, dict[str, Any]]:
        """To what was sent. Errors: Gone."""
        try:
            with self.getresponse() as response:
                return response.status, json.loads(response.read())
        except (http.client.HTTPException, ConnectionError) as error:
            raise Gone from error


class Daemon:
    """State is kept in `folder` over restarts."""

    def __init__(self, folder: Path, name: str = "mdnp", **env: str) -> None:
        self.socket = folder / f"{name}.sock"
        self.runtime = folder / f"{name}-run"
        self.log = folder / f"{name}.log"
        self._state = folder / "state"
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MDNP_")},
            "MDNP_RUNTIME_DIR": str(self.runtime),
            "MDNP_DOCKER_HOST": f"unix://{folder}/no-docker.sock",
            "MDNP_LOG_LEVEL": "warning",
            **env,
        }
        self._process: Process | None = None
        self._door = Door(self.socket)

    def start(self) -> None:
        """Until it answers."""
        assert self.attempt() is None, self.said

    def attempt(self) -> int | None:
        """As `start`, for one that may end instead: the exit code."""
        command = ["unshare", "-n", str(MDNP), "serve", "--socket", str(self.socket), "--state-dir", str(self._state)]
        self._process = process = Process(command, log=self.log, env=self._env)
        until = time.monotonic() + START_S
        while process.running and not self._accepts():
            assert time.monotonic() < until, process.tail()
            time.sleep(0.005)
        return None if process.running else process.wait(0)

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def said(self) -> str:
        return self._running.tail()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._door.close()
        return self._running.stop()

    def ask_to_stop(self) -> None:
        send(self._running.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._running.kill()

    def end(self) -> None:
        """If it still runs."""
        self._door.close()
        if self._process is not None:
            self._process.kill()

    def call(self, verb: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        return self._door.call(verb, body)

    def send(self, verb: str, body: Mapping[str, Any]) -> None:
        self._door.send_call(verb, body)

    def answer(self) -> tuple[int, dict[str, Any]]:
        """To what was sent. Errors: Gone."""
        return self._door.answer()

    def door(self) -> "closing[Door]":
        """A connection beside."""
        return closing(Door(self.socket))

    def forget(self) -> None:
        """Whoever answers next needs a new connection."""
        self._door.close()

    def shown(self, path: str) -> Any:
        """What the operator is shown."""
        with closing(Door(self.runtime / "admin.sock")) as door:
            door.request("GET", path)
            with door.getresponse() as response:
                return json.loads(response.read())

    @property
    def _running(self) -> Process:
        assert self._process is not None, "not started"
        return self._process

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0
