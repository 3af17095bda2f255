"""The real Compose: that of the newest engine's distribution, as a client of any engine of the rig."""

import os
from collections.abc import Mapping
from pathlib import Path

from rig.command import PATIENCE, Result, run
from rig.engine import Engine
from rig.rootfs import root_of

_PROGRAM = "usr/libexec/docker/cli-plugins/docker-compose"
_FROM = "28.5"


class Compose:
    """A project of one file on an engine. `env` is what the file asks for."""

    def __init__(self, engine: Engine, file: Path, env: Mapping[str, str]) -> None:
        # It talks with the engine and needs nothing but a C library, so it runs outside of the engine's cell.
        self._command = [str(root_of(_FROM) / _PROGRAM), "--progress=plain", f"--file={file}"]
        self._env = engine.host.rig.env({**os.environ, "DOCKER_HOST": engine.url, **env})

    def __call__(self, *arguments: str, timeout: float = PATIENCE) -> str:
        """Run it; what it printed. Errors: CommandFailed."""
        return self.attempt(*arguments, timeout=timeout).checked().out

    def attempt(self, *arguments: str, timeout: float = PATIENCE) -> Result:
        """As a call, for one that may fail."""
        return run([*self._command, *arguments], check=False, timeout=timeout, env=self._env)
