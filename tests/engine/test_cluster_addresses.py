"""Addresses across hosts: each is held once, whoever asks for it and wherever; and what hosts must agree on."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import truth
from rig.cluster import Cluster, at_once
from rig.compose import Compose
from rig.image import IMAGE
from tests.engine.fleet import BLUE, GROUPS, OVERLAY, Box, Fleet, soon
from tests.engine.peers import Peers, target

pytestmark = pytest.mark.engine

_EACH = 20
_COMPOSE = """
services:
  web:
    image: ${IMAGE}
    command: httpd -f -h /www
    stop_signal: KILL
    networks: [blue]
networks:
  blue: {external: true}
"""


@pytest.fixture
def fleet(cluster: Cluster) -> Iterator[Fleet]:
    """Afterwards, with the containers and the networks gone, nothing is left of them on any host or in etcd."""
    yield Fleet(cluster)
    cluster.each(lambda node: node.engine.clear())
    soon(lambda: not truth.left(cluster), lambda: "\n".join(truth.left(cluster)))


def _must_be_true(fleet: Fleet) -> None:
    soon(lambda: not truth.faults(fleet.cluster), lambda: "\n".join(truth.faults(fleet.cluster)))


def test_a_container_moves_to_another_host_with_its_address(fleet: Fleet) -> None:
    """One that was asked for, in nobody's block; and there and back one that the first host gave from its own."""
    fleet.network()
    [watching] = fleet.boxes("c1")
    given = fleet.box(0, "given")
    asked = fleet.box(0, "asked", "--ip=10.50.77.7", "--ip6=fd50::77:7")
    for box, numbers in ((asked, (1,)), (given, (1, 0))):
        here = box
        _is_reached(watching, here)
        for number in numbers:
            here.remove()
            ip4, ip6 = box.addresses
            here = fleet.box(number, "mover", f"--ip={ip4}", f"--ip6={ip6}")
            assert here.addresses == box.addresses
            _is_reached(watching, here)
        here.remove()
    _must_be_true(fleet)


def _is_reached(watching: Box, box: Box) -> None:
    soon(lambda: watching.silent(box.addresses) == set(), f"{box.addresses} on {box.host.testbed.host.label} to answer")


def test_sixty_containers_at_once_get_addresses_of_their_own(fleet: Fleet) -> None:
    """More than half of what the pool has, so that blocks are asked for while the containers start."""
    fleet.network("blue", "--subnet=10.50.0.0/25")

    def start(number: int) -> list[str]:
        started = [["run", "-d", "--net=blue", "--stop-signal=KILL", IMAGE, "sleep", "100000"]] * _EACH
        return [one.checked().out.strip() for one in fleet[number].engine.parallel(*started)]

    at_once(start, range(3))

    listed = [address for host in fleet.hosts for address in _addresses(host.docker("network", "inspect", "blue"))]
    assert len(listed) == 3 * _EACH
    assert [address for address, times in Counter(listed).items() if times > 1] == []
    _must_be_true(fleet)


def _addresses(said: str) -> list[str]:
    [network] = json.loads(said)
    return [one["IPv4Address"] for one in network["Containers"].values()]


def test_an_address_that_one_host_has_no_other_gives(fleet: Fleet) -> None:
    fleet.network()
    own = fleet.box(0, "own")
    fleet.box(0, "asked", "--ip=10.50.200.9")

    for address in (str(own.station.ip4), "10.50.200.9"):
        for host in fleet.hosts[1:]:
            said = host.refused("run", "-d", "--name=second", "--net=blue", f"--ip={address}", IMAGE, "true")
            assert address in said
            assert fleet[0].testbed.host.name in said or " a" in said
            host.docker("rm", "-f", "second")
    _must_be_true(fleet)


def test_hosts_must_agree_on_their_segment(fleet: Fleet) -> None:
    fleet[0].network("blue", *OVERLAY, "--subnet=10.50.0.0/16")
    differences = {
        "crimson": ["-o", "mdnp.segment=crimson"],
        "1300": ["-o", "com.docker.network.driver.mtu=1300"],
        "multicast": ["-o", "mdnp.multicast=off"],
        "icc": ["-o", "com.docker.network.bridge.enable_icc=false"],
        "internal": ["--internal"],
        "10.50.0.9": ["--gateway=10.50.0.9"],
    }

    for named, options in differences.items():
        said = fleet[1].refused("network", "create", "-d", "mdnp", *OVERLAY, "--subnet=10.50.0.0/16", *options, "blue")
        assert named in said, said

    fleet[1].network("blue", *OVERLAY, "--subnet=10.50.0.0/16")
    _must_be_true(fleet)


def test_what_cannot_be_a_segment_is_refused_with_the_reason(fleet: Fleet) -> None:
    fleet.network("blue", "--subnet=10.50.0.0/16")
    cases = {
        "another segment's": ([*OVERLAY, "--subnet=10.50.8.0/24"], "10.50.0.0/16"),
        "of another ipam": (["-o", "mdnp.mode=overlay", "--subnet=10.60.0.0/24"], "--ipam-driver"),
        "automatic": (list(OVERLAY), "--subnet"),
        "secret": ([*OVERLAY, "--subnet=10.60.0.0/24", "-o", "encrypted"], "encrypted"),
    }
    for host in fleet.hosts[:2]:  # an engine of each version
        for case, (options, named) in cases.items():
            said = host.refused("network", "create", "-d", "mdnp", *options, "other")
            assert named in said, f"{case}: {said}"


def test_multicast_off_carries_none(fleet: Fleet) -> None:
    """Neighbours are found all the same: they are known, and not asked for."""
    fleet.network("blue", *BLUE, "-o", "mdnp.multicast=off")
    boxes = fleet.boxes("a1", "b1", "a2")
    with Peers(fleet[0].testbed) as here, Peers(fleet[1].testbed) as there:
        near, far = here.listen("a2", *GROUPS), there.listen("b1", *GROUPS)

        here.shout("a1", "anybody?", *GROUPS)

        soon(lambda: len(near.heard) == 2, lambda: f"the neighbour to hear it: {near.heard}")
        fleet.reach(boxes)
        assert far.heard == set()
    _must_be_true(fleet)


def test_compose_projects_of_two_hosts_meet_on_an_external_network(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(_COMPOSE)
    fleet.network()
    projects = [Compose(host.engine, tmp_path / "compose.yaml", {"IMAGE": IMAGE}) for host in fleet.hosts[:2]]

    at_once(lambda project: project("--project-name=shop", "up", "--detach"), projects)

    boxes = [fleet.found(number, "shop-web-1") for number in (0, 1)]
    fleet.reach(boxes)
    at_once(lambda project: project("--project-name=shop", "down"), projects)
    _must_be_true(fleet)


def test_the_underlay_may_be_ipv6(fleet: Fleet) -> None:
    cluster = fleet.cluster
    for node in cluster:
        node.plugin.stop()
        node.plugin = cluster.plugin_on(node.host, address=node.host.address6.ip)
    cluster.start()
    fleet.network()
    boxes = fleet.boxes("a1", "b1", "c1", options=("-p", "8080:80"))

    fleet.reach(boxes)
    assert {box.host.inside(box.name, "cat /sys/class/net/eth0/mtu") for box in boxes} == {"1430"}
    with Peers(fleet[0].testbed) as here, Peers(fleet[1].testbed) as there:
        there.serve("b1", 80)
        largest = 1430 - 48
        asked = target("udp", boxes[1].station.ip6, 80)
        assert here.ask("a1", asked, load=largest, whole=True) == [
            f"b1 sees {boxes[0].station.ip6} and {largest} bytes"
        ]


def test_one_mac_on_two_hosts_is_reported(fleet: Fleet) -> None:
    fleet.network()
    mac = "02:11:22:33:44:55"
    for number in (0, 1):
        fleet.box(number, "twin", f"--mac-address={mac}")

    soon(lambda: any(mac in host.plugin.cli("status", check=False) for host in fleet.hosts[:2]), "a host to say it")
