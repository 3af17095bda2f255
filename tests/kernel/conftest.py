"""The kernels under test."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from mdnp.kernel import Kernel
from tests.kernel.grounds import Ground, Linux, Memory, own_namespace


@pytest.fixture(params=["fake", pytest.param("linux", marks=pytest.mark.root)])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with ExitStack() as stack:
        if request.param == "linux":
            stack.enter_context(own_namespace())
            yield Linux()
        else:
            yield Memory()


@pytest.fixture
async def kernel(ground: Ground) -> AsyncIterator[Kernel]:
    yield ground.kernel
    await ground.kernel.close()
    ground.close()
