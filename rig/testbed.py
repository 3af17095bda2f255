"""What a test on a real engine is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rig.engine import Engine
from rig.host import Host
from rig.plugin import MDNP, Plugin


@dataclass(frozen=True)
class Testbed:
    """A running engine on a host of its own. Tests share it, so each removes the containers and networks it made."""

    __test__ = False

    host: Host
    engine: Engine

    def plugin(
        self,
        command: Sequence[str | Path] = (MDNP, "serve"),
        *,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Plugin:
        """A plugin on the host, not yet started. The fixture `plugin` stops it again."""
        return Plugin(self.host, command, options=options, env=env)
