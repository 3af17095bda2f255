"""Hosts that come, die, return and are removed; and networks that are asked for once for all of them."""

import pytest

from rig import truth
from rig.cluster import LEASE_S, Cluster, Node
from rig.image import IMAGE
from tests.engine.fleet import BLUE, Box, Fleet, soon

pytestmark = pytest.mark.engine

# After its lease a host is still kept for a whole lease of ours.
_WITHDRAWN_S = 5 * LEASE_S


@pytest.fixture
def fleet(cluster: Cluster) -> Fleet:
    return Fleet(cluster)


def _must_be_true(fleet: Fleet) -> None:
    soon(lambda: not truth.faults(fleet.cluster), lambda: "\n".join(truth.faults(fleet.cluster)))


def _dies(node: Node, fleet: Fleet) -> None:
    """Nothing of it answers any more, but its containers live on."""
    fleet.cluster.unplug(node.host)
    node.plugin.kill()


def _knows(fleet: Fleet, number: int, box: Box) -> bool:
    """Whether a host has rows of a container elsewhere."""
    said = fleet[number].testbed.host.run(["bridge", "fdb", "show"]).out
    return f"{box.station.mac} " in said


def test_the_hosts_of_a_cluster_are_listed_with_their_addresses_and_their_health(fleet: Fleet) -> None:
    fleet.network()
    fleet.joined()

    listed = {one["name"]: one for one in fleet.mdnp(0, "host", "ls")}
    assert {name: one["vtep"] for name, one in listed.items()} == {
        node.label: str(node.host.address.ip) for node in fleet.cluster
    }
    assert {one["liveness"] for one in listed.values()} == {"alive"}
    inspected = fleet.mdnp(1, "host", "inspect", "c")
    assert inspected["id"] == listed["c"]["id"]


def test_a_host_that_dies_is_withdrawn_and_one_that_returns_is_found_as_it_was(fleet: Fleet) -> None:
    fleet.network()
    boxes = fleet.boxes("a1", "b1", "c1")
    fleet.reach(boxes)
    a1, b1, c1 = boxes

    _dies(fleet.cluster.nodes[0], fleet)

    soon(lambda: not _knows(fleet, 1, a1) and not _knows(fleet, 2, a1), "the dead to be withdrawn", _WITHDRAWN_S)
    fleet.reach([b1, c1])
    listed = {one["name"]: one["liveness"] for one in fleet.mdnp(1, "host", "ls")}
    assert listed["a"] == "gone"

    fleet.cluster.heal()
    fleet.cluster.start()
    fleet.reach(boxes)
    assert fleet.box(0, "a2").addresses not in {box.addresses for box in boxes}
    _must_be_true(fleet)


def test_what_a_removed_host_held_is_anybody_s_and_if_it_returns_it_stands_back(fleet: Fleet) -> None:
    fleet.network()
    fixed = ("--ip=10.50.9.9", "--ip6=fd50::9:9")
    a1 = fleet.box(0, "a1", *fixed)
    own = fleet.box(0, "a2")
    watching, asking = fleet.boxes("c1", "b1")
    fleet.reach([a1, own, watching])
    _dies(fleet.cluster.nodes[0], fleet)
    soon(lambda: not _knows(fleet, 1, a1), "the dead to be withdrawn", _WITHDRAWN_S)

    said = fleet[1].refused("run", "-d", "--name=b2", "--net=blue", f"--ip={own.station.ip4}", IMAGE, "true")
    assert "mdnp host remove" in said
    fleet[1].docker("rm", "-f", "b2")

    fleet[1].plugin.cli("host", "remove", "a", "--yes")
    moved = fleet.box(1, "b2", f"--ip={own.station.ip4}")
    second = fleet.box(1, "b3", *fixed)
    fleet.reach([moved, second, watching, asking])

    fleet.cluster.heal()
    fleet.cluster.start()
    soon(lambda: {one["name"] for one in fleet.mdnp(1, "host", "ls")} == {"a", "b", "c"}, "the host to join anew")
    fleet.reach([moved, second, watching, asking])
    assert watching.silent([*moved.addresses, *second.addresses]) == set()
    fleet[0].docker("rm", "-f", "a1", "a2")
    fleet.reach([fleet.box(0, "a3"), moved, watching])
    _must_be_true(fleet)


def test_a_network_is_made_and_removed_on_all_hosts_by_one_command(fleet: Fleet) -> None:
    """Also on one that joins later, and one that was away when it was removed."""
    late = fleet.cluster.nodes[2]
    late.plugin.stop()
    late.host.forget_plugin()

    fleet[0].plugin.cli("network", "create", "crew", *BLUE)
    soon(lambda: all(_has(fleet, number, "crew") for number in (0, 1)), "both to have it")
    assert not _has(fleet, 2, "crew")

    late.plugin.start()
    soon(lambda: _has(fleet, 2, "crew"), "the late one to have it")
    boxes = fleet.boxes("a1", "b1", "c1", network="crew")
    fleet.reach(boxes)
    _must_be_true(fleet)

    said = fleet[1].plugin.cli("network", "rm", "crew", check=False)
    assert "a1" in said or "in use" in said or "active endpoints" in said
    for box in boxes:
        box.remove()
    late.plugin.stop()
    fleet[1].plugin.cli("network", "rm", "crew", check=False)
    soon(lambda: not any(_has(fleet, number, "crew") for number in (0, 1)), "both to have it no more")
    late.plugin.start()
    soon(lambda: not _has(fleet, 2, "crew"), "the late one to have it no more")


def _has(fleet: Fleet, number: int, network: str) -> bool:
    names = fleet[number].docker("network", "ls", "--format={{.Name}}").split()
    return network in names
