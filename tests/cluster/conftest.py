"""Clusters under test."""

import ctypes
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from rig.etcd import Etcd
from rig.host import Namespace
from rig.sandbox import Run
from tests.cluster.grounds import Ground, Memory, Real

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_names = count()

# Makes an etcd in the namespace of these tests, not yet started.
Maker = Callable[..., Etcd]


@pytest.fixture(scope="session")
def etcd_namespace(rig_run: Run) -> Namespace:
    """One for all tests: gRPC keeps its threads from one to the next."""
    return Namespace(rig_run, "etcd")


@pytest.fixture
def make_etcd(etcd_namespace: Namespace) -> Iterator[Maker]:
    """For the time of a test we are in the etcds' namespace; what was started is killed."""
    made: list[Etcd] = []

    def make(**options: object) -> Etcd:
        made.append(Etcd(etcd_namespace, f"etcd{next(_names)}", **options))  # type: ignore[arg-type]
        return made[-1]

    with _inside(etcd_namespace):
        yield make
    for one in made:
        if one.running:
            one.kill()


@pytest.fixture(params=["fake", pytest.param("etcd", marks=pytest.mark.root)])
async def ground(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    ground: Ground
    if request.param == "fake":
        ground = Memory()
    else:
        etcd = request.getfixturevalue("make_etcd")()
        etcd.start()
        ground = Real(etcd)
    yield ground
    await ground.cluster.close()


@contextmanager
def _inside(namespace: Namespace) -> Iterator[None]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(Path(namespace.path), os.O_RDONLY)
    try:
        _enter(there)
        yield
    finally:
        _enter(before)
        os.close(there)
        os.close(before)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
