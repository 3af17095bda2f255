"""What the tests of addresses may ask for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.ipam.house import House, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path / "state") as house:
        yield house
