"""
Fixtures for tests on real engines; enable them with `pytest_plugins = ["rig.fixtures"]`.

RIG_ENGINES="20.10" limits the versions. What cannot be had, because a package or the way to a mirror is missing, is
an error and no skip: a test that silently did not run would look like one that passed.
"""

import os
from collections.abc import Iterator, Mapping

import pytest

from rig.cluster import Cluster
from rig.engine import Engine
from rig.host import Host, Underlay
from rig.plugin import Plugin
from rig.rootfs import chosen
from rig.sandbox import Run
from rig.testbed import Testbed

# For a test that starts an engine, or first makes the root file system of one.
_TIMEOUT = 300


@pytest.fixture(scope="session")
def rig_run() -> Iterator[Run]:
    """The run of this test session, for tests that make hosts of their own."""
    _need_root()
    with Run() as run:
        yield run


@pytest.fixture(scope="session")
def underlay(rig_run: Run) -> Underlay:
    return Underlay(rig_run)


@pytest.fixture(scope="session", params=chosen())
def testbed(request: pytest.FixtureRequest) -> Iterator[Testbed]:
    """A host with a running engine, of each version in turn: it has a run of its own, closed before the next starts."""
    _need_root()
    with Run() as run:
        host = Host(Underlay(run))
        engine = Engine(host, request.param)
        engine.start()
        yield Testbed(host, engine)


@pytest.fixture
def plugin_env() -> Mapping[str, str]:
    """The plugin's environment, for a module to replace."""
    return {}


@pytest.fixture
def plugin(testbed: Testbed, plugin_env: Mapping[str, str]) -> Iterator[Plugin]:
    """The plugin, started on the testbed. Afterwards engine and plugin are as new, whatever the test left."""
    plugin = testbed.plugin(env=plugin_env)
    plugin.start()
    yield plugin
    if not plugin.running:
        plugin.start()  # the engine cannot remove a network without its plugin
    testbed.engine.clear()
    plugin.stop()
    testbed.host.forget_plugin()


@pytest.fixture(scope="session")
def engines() -> Iterator[Cluster]:
    """Three hosts with running engines, and a place for an etcd; of the plugins and etcd nothing runs yet."""
    _need_root()
    with Run() as run:
        cluster = Cluster(run)
        cluster.each(lambda node: node.engine.start())
        yield cluster
        cluster.close()


@pytest.fixture
def cluster(engines: Cluster) -> Iterator[Cluster]:
    """The hosts as one cluster. Afterwards all is as new, whatever the test left."""
    engines.begin()
    yield engines
    engines.reset()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    What meets a real kernel or engine and fails is told again once: of thousands one meets a race in many runs. The
    summary says so. Stories on engines get more time than other tests, if they ask for none themselves.
    """
    for item in items:
        on_engine = item.get_closest_marker("engine")
        if on_engine or item.get_closest_marker("root"):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if on_engine and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_TIMEOUT))


def _need_root() -> None:
    if os.geteuid():
        pytest.skip("needs root: network namespaces and a Docker engine")
