"""mdnp as a managed plugin: one that the engine itself keeps, starts and stops."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from rig.command import PATIENCE, Result
from rig.engine import Engine
from rig.plugin import MDNP
from rig.process import Process

REGISTRY = "127.0.0.1:5000"
_SERVER = Path(__file__).with_name("registry.py")


class ManagedPlugin:
    """
    Made of `folder` (config.json, rootfs) on the engine's host.

    What the plugin takes for the host's /run is the host's folder, where the engine's socket is; so its operator's
    socket is in the folder mdnp there.
    """

    def __init__(self, engine: Engine, folder: Path, name: str = "mdnp") -> None:
        self.engine = engine
        self.name = name
        self.driver = f"{name}:latest"
        # The engine sees only the host's folder, and what a test changes in it must not come back into the next one.
        self.folder = engine.host.folder / "plugin"
        if not self.folder.exists():
            shutil.copytree(folder, self.folder, symlinks=True)

    @property
    def run_folder(self) -> str:
        return f"run.source={self.engine.host.folder}"

    def install(self) -> None:
        """As who builds it does: no registry is asked."""
        self.engine.docker("plugin", "create", self.name, str(self.folder), timeout=2 * PATIENCE)
        self.engine.docker("plugin", "set", self.name, self.run_folder)
        self.enable()

    def enable(self) -> None:
        self.engine.docker("plugin", "enable", self.name)

    def disable(self) -> None:
        """Although there are networks of it."""
        self.engine.docker("plugin", "disable", "--force", self.name)

    def remove(self) -> None:
        """With its state."""
        self.engine.docker("plugin", "rm", "--force", self.name, check=False)

    def push(self, tag: str, change: Callable[[Path], None] | None = None) -> str:
        """Have the registry take it under that tag, `change` having been made to its root file system."""
        if change is not None:
            change(self.folder / "rootfs")
        reference = f"{REGISTRY}/{self.name}:{tag}"
        self.engine.docker("plugin", "create", reference, str(self.folder), timeout=2 * PATIENCE)
        self.engine.docker("plugin", "push", reference, timeout=2 * PATIENCE)
        self.engine.docker("plugin", "rm", reference)
        return reference

    def cli(self, *arguments: str, check: bool = True) -> str:
        """Run the host's `mdnp`; what it printed, with `check` off its errors too."""
        env = {"MDNP_RUNTIME_DIR": str(self.engine.host.folder / "mdnp")}
        result = self.engine.host.run([MDNP, *arguments], check=False, env=env)
        return result.checked().out if check else result.said

    def inside(self, *command: str) -> Result:
        """Run a command in the plugin's own container, as an operator can who has no mdnp on the host."""
        identity = self.engine.docker("plugin", "inspect", "--format={{.Id}}", self.name)
        runc = ["runc", f"--root={self.engine.host.exec_root / 'runtime-runc/plugins.moby'}", "exec", identity]
        # runc looks its container up by its pid, so it must be where the engine is.
        place = ["nsenter", f"--target={self.engine.cell.holder}", "--mount", "--pid", "--uts", "--"]
        return self.engine.host.run([*place, *runc, *command], check=False)


def serve_registry(engine: Engine) -> Process:
    """A registry on the engine's host, which answers when this returns."""
    port = REGISTRY.rpartition(":")[2]
    server = engine.host.spawn([sys.executable, _SERVER, port], log="registry.log")
    engine.host.run(
        ["curl", "-sS", "--retry", "30", "--retry-connrefused", "--retry-delay", "1", f"http://{REGISTRY}/v2/"]
    )
    return server
