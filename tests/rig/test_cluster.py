"""A cluster of engines on one underlay, and what breaks in it. Plugins are not started here."""

import os
from collections.abc import Iterator

import pytest

from rig.cluster import Cluster
from rig.command import until
from rig.host import Namespace

pytest_plugins = ["rig.fixtures"]
pytestmark = [pytest.mark.engine, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: Docker engines")]


@pytest.fixture
def hosts(engines: Cluster) -> Iterator[list[Namespace]]:
    """Those of the cluster, then the place of etcd."""
    yield [*(node.host for node in engines), engines.place]
    engines.heal()


def _reach(hosts: list[Namespace], cluster: Cluster) -> set[tuple[int, int]]:
    addresses = [*(node.host.address.ip for node in cluster), cluster.address.ip]
    return {
        (number, other)
        for number, host in enumerate(hosts)
        for other, address in enumerate(addresses)
        if number != other and host.run(["busybox", "ping", "-c", "1", "-W", "1", str(address)], check=False).code == 0
    }


def _pairs(*left: int) -> set[tuple[int, int]]:
    return {(one, other) for one in left for other in left if one != other}


def test_each_host_runs_an_engine_of_its_own(engines: Cluster) -> None:
    running = [node.engine.docker("version", "--format={{.Server.Version}}") for node in engines]

    assert all(full.startswith(node.engine.version) for full, node in zip(running, engines, strict=True))
    assert len({node.engine.docker("info", "--format={{.ID}}") for node in engines}) == len(running)


def test_a_host_without_its_plug_reaches_nobody(engines: Cluster, hosts: list[Namespace]) -> None:
    assert _reach(hosts, engines) == _pairs(0, 1, 2, 3)

    engines.unplug(hosts[1])

    assert _reach(hosts, engines) == _pairs(0, 2, 3)
    engines.heal()
    # A neighbour that was not found meanwhile is looked for again once a second.
    until(lambda: _reach(hosts, engines) == _pairs(0, 1, 2, 3), "all to reach each other again")


def test_a_cut_is_between_two_alone(engines: Cluster, hosts: list[Namespace]) -> None:
    engines.cut(hosts[0], hosts[3])

    assert _reach(hosts, engines) == _pairs(0, 1, 2, 3) - _pairs(0, 3)
    engines.heal()
    assert _reach(hosts, engines) == _pairs(0, 1, 2, 3)
