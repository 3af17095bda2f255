"""What an operator is told of a cluster: that it is well, and what it is when it is not."""

import json

import pytest

from rig.cluster import Cluster
from tests.engine.fleet import Fleet, soon

pytestmark = pytest.mark.engine

# Those that look at what a network across hosts brings along, and the host's own that could mistake it for a fault.
_OF_CLUSTER = (
    *("etcd-reachable", "host-identity", "vtep-address", "vxlan", "vxlan-port", "underlay-mtu", "cluster-epoch"),
    *("cluster-remarks", "cluster-networks", "clock-skew"),
)
_OF_HOST = ("kernel-in-sync", "subnet-overlap", "sysctls", "forward-policy", "br-netfilter", "foreign-rules", "mtu")


@pytest.fixture
def fleet(cluster: Cluster) -> Fleet:
    return Fleet(cluster)


def _found(fleet: Fleet, number: int, *names: str) -> dict[str, str]:
    """What the doctor does not find well, by check."""
    said = json.loads(fleet[number].plugin.cli("doctor", *names, "--json", check=False))
    return {one["name"]: one["findings"][0]["what"] for one in said["checks"] if one["verdict"] != "ok"}


def test_a_cluster_that_is_well_is_found_well_and_one_whose_etcd_is_away_is_not(fleet: Fleet) -> None:
    fleet.network()
    fleet.reach(fleet.boxes("a1", "b1", "c1"))

    for number in range(3):
        soon(lambda number=number: fleet.mdnp(number, "status")["healthy"], f"host {number} to be well")  # type: ignore[misc]
        assert _found(fleet, number, *_OF_CLUSTER, *_OF_HOST) == {}

    fleet.cluster.etcd.stop()
    soon(lambda: not fleet.mdnp(0, "status")["cluster"]["connected"], "the status to say so")
    assert set(_found(fleet, 0, *_OF_CLUSTER, *_OF_HOST)) == {"etcd-reachable"}
    metrics = (
        fleet[0]
        .testbed.host.run(
            [
                "curl",
                "-sS",
                "--unix-socket",
                fleet[0].plugin.env["MDNP_RUNTIME_DIR"] + "/admin.sock",
                "http://mdnp/metrics",
            ]
        )
        .out
    )
    assert "\nmdnp_cluster_up 0\n" in metrics


def test_a_trace_names_the_tunnel_and_the_host_at_its_other_end(fleet: Fleet) -> None:
    fleet.network()
    boxes = fleet.boxes("a1", "b1")
    fleet.reach(boxes)
    address = boxes[1].station.ip4
    vtep = fleet.cluster.nodes[1].host.address.ip

    said = fleet[0].plugin.cli("trace", "a1", str(address))

    assert f"to host b ({vtep})" in said
    assert "# answered in" in said
