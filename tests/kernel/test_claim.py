"""A second daemon does not begin where one serves already, whatever its state folder; others do not keep one away."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mdnp.kernel.claim import claim
from mdnp.model.errors import Conflict
from tests.kernel.grounds import own_namespace

pytestmark = pytest.mark.root

_NOBODY = 65534


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with own_namespace():
        yield


def test_where_one_serves_a_second_is_refused_until_it_ends() -> None:
    with claim(), pytest.raises(Conflict, match=rf"another mdnp .* \(pid {os.getpid()}\)"):
        claim()
    claim().close()


def test_another_network_namespace_is_another_host() -> None:
    with claim(), own_namespace(), claim():
        pass


def test_who_is_not_root_keeps_nobody_from_starting(caplog: pytest.LogCaptureFixture) -> None:
    with _taken_by_nobody(), claim():
        assert "somebody has taken the name @mdnp" in caplog.text


@contextmanager
def _taken_by_nobody() -> Iterator[None]:
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setuid(_NOBODY)
            with claim():
                os.write(tell, b".")
                signal.pause()
        finally:
            os._exit(1)
    try:
        assert os.read(ready, 1) == b"."
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(tell)
