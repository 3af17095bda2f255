"""What a test on a real engine is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rig.command import PATIENCE, Result, run
from rig.engine import Engine
from rig.host import Host, Namespace
from rig.plugin import MDNP, Plugin


@dataclass(frozen=True)
class Testbed:
    """A running engine on a host of its own. Tests share it, so each removes the containers and networks it made."""

    __test__ = False

    host: Host
    engine: Engine

    @property
    def outside(self) -> Namespace:
        """What stands for the rest of the world: the far end of the host's uplink, at rig.host.GATEWAY and GATEWAY6."""
        return self.host.underlay

    def sandbox(self, container: str, command: Sequence[str | Path], *, timeout: float = PATIENCE) -> Result:
        """
        Run a command of the machine's in the network namespace of a container, as a privileged process in it could.

        Its end is not checked.
        """
        return run(["nsenter", f"--net={self.key(container)}", "--", *map(str, command)], check=False, timeout=timeout)

    def key(self, container: str) -> Path:
        """The network namespace of a container."""
        return Path(self.engine.docker("inspect", "--format={{.NetworkSettings.SandboxKey}}", container))

    def plugin(
        self,
        command: Sequence[str | Path] = (MDNP, "serve"),
        *,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        activated: bool = False,
    ) -> Plugin:
        """A plugin on the host, not yet started. The fixture `plugin` stops it again."""
        return Plugin(self.host, command, options=options, env=env, activated=activated)
