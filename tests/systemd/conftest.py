"""A supervisor that hears the process of the tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.supervisor import Supervisor


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "mdnp.sock", tmp_path / "notify")
    supervisor.started(os.getpid())
    yield supervisor
    supervisor.close()
