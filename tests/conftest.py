"""What every room's tests may ask for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.world import World, open_world

pytest_plugins = ["rig.fixtures"]

# Derandomized: a run says the same as the last one. `--hypothesis-seed=random` looks further.
settings.register_profile(
    "mdnp", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("mdnp")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "state") as world:
        yield world
