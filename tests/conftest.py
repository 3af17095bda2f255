"""What every room's tests may ask for."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from tests.world import World, open_world, quick_folder

pytest_plugins = ["rig.fixtures"]

# Derandomized: a run says the same as the last one. `--hypothesis-seed=random` looks further.
for profile, examples in (("mdnp", 50), ("quick", 10)):  # the latter for `make check`
    settings.register_profile(
        profile,
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
    )
settings.load_profile("mdnp")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with quick_folder() as folder:
        async with open_world(folder) as world:
            yield world
