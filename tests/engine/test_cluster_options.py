"""An overlay with options: what they close or open is closed or open over hosts too."""

from collections.abc import Iterator

import pytest

from rig import truth
from rig.cluster import Cluster, at_once
from rig.host import GATEWAY
from tests.engine.fleet import BLUE, Box, Fleet, soon
from tests.engine.peers import Peers, target

pytestmark = pytest.mark.engine

_ICC = "com.docker.network.bridge.enable_icc=false"


@pytest.fixture
def fleet(cluster: Cluster) -> Iterator[Fleet]:
    """What a story makes is seen in the kernels as it should be."""
    fleet = Fleet(cluster)
    yield fleet
    soon(lambda: not truth.faults(cluster), lambda: "\n".join(truth.faults(cluster)))


def _outside(box: Box) -> bool:
    return box.silent([str(GATEWAY.ip)]) == set()


def test_an_internal_network_joins_its_hosts_and_leads_nowhere_else(fleet: Fleet) -> None:
    fleet.network("blue", *BLUE, "--internal")
    boxes = fleet.boxes("a1", "b1", "c1")

    fleet.reach(boxes)
    assert [_outside(box) for box in boxes] == [False] * 3
    assert "default" not in boxes[0].host.inside("a1", "ip route")


def test_without_icc_containers_reach_the_outside_and_not_each_other(fleet: Fleet) -> None:
    """Neither those of their own host nor those of others; the hosts reach them all."""
    fleet.network("blue", *BLUE, "-o", _ICC)
    boxes = fleet.boxes("a1", "a2", "b1")
    every = {address for box in boxes for address in box.addresses}
    hosts = [story.testbed.host for story in fleet.hosts]

    for host in hosts:
        soon(lambda host=host: not truth.silent(host.path, every), f"all to answer host {host.label}")  # type: ignore[misc]
    for box in boxes:
        assert box.silent(every - {*box.addresses}) == every - {*box.addresses}
    assert [_outside(box) for box in boxes] == [True] * 3


def test_with_docker_s_gateway_there_is_a_second_interface_for_the_way_out(fleet: Fleet) -> None:
    fleet.network("blue", "--subnet=10.50.0.0/16", "-o", "mdnp.gateway=docker")
    boxes = fleet.boxes("a1", "b1", options=("-p", "8080:80"))

    fleet.reach(boxes)
    for box in boxes:
        assert box.host.interfaces(box.name) == {"eth0", "eth1"}
        assert _outside(box)


@pytest.mark.parametrize("value", [0, 1])
def test_frames_cross_whether_or_not_bridged_frames_pass_the_filters_of_ip(fleet: Fleet, value: int) -> None:
    """And a port is reached at every address of its host."""
    keys = [f"net.bridge.bridge-nf-call-{name}={value}" for name in ("iptables", "ip6tables")]
    fleet.network()
    boxes = fleet.boxes("a1", "b1", options=("-p", "8080:80"))
    at_once(lambda node: node.host.run(["sysctl", "-qw", *keys]), fleet.cluster.nodes)
    try:
        fleet.reach(boxes)
        host = fleet[0].testbed.host
        places = (host.address.ip, host.address6.ip, "127.0.0.1", "::1", *boxes[0].addresses)
        with Peers(fleet[0].testbed) as here, Peers(fleet[1].testbed) as there:
            here.serve("a1", 80)
            asked = [target("tcp", one, 80 if str(one) in boxes[0].addresses else 8080) for one in places]
            assert [one.split()[0] for one in here.ask(host, *asked)] == ["a1"] * len(asked)
            assert [one.split()[0] for one in here.ask("a1", *asked[:2])] == ["a1"] * 2
            assert [one.split()[0] for one in there.ask("b1", *asked[:2], *asked[4:])] == ["a1"] * 4
    finally:
        on = [key.replace(f"={value}", "=1") for key in keys]
        at_once(lambda node: node.host.run(["sysctl", "-qw", *on]), fleet.cluster.nodes)
