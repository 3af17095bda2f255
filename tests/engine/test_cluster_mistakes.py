"""What can be set up wrongly in a cluster: each is said, with what to do, and nothing is lost by it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import truth
from rig.cluster import Cluster, Node
from rig.etcd import Etcd, authority
from tests.engine.fleet import BLUE, OVERLAY, Fleet, soon
from tests.engine.peers import Peers

pytestmark = pytest.mark.engine

_GREEN = ("network", "create", "-d", "mdnp", *OVERLAY, "--subnet=10.60.0.0/24", "green")


@pytest.fixture
def fleet(cluster: Cluster) -> Fleet:
    return Fleet(cluster)


def _instead(fleet: Fleet, number: int, *, etcd: str = "", env: dict[str, str] | None = None) -> Node:
    """A host whose plugin is given something else; it is not started."""
    node = fleet.cluster.nodes[number]
    node.plugin.stop()
    node.plugin = fleet.cluster.plugin_on(node.host, etcd=etcd)
    node.plugin.env.update(env or {})
    return node


def _trouble(fleet: Fleet, number: int) -> str:
    return fleet[number].plugin.cli("status", check=False)


def test_a_daemon_starts_without_its_etcd_and_joins_when_that_comes(fleet: Fleet) -> None:
    fleet.cluster.etcd.stop()
    for node in fleet.cluster:
        node.plugin.restart()

    fleet[0].network("alone", "--ipam-driver=mdnp")
    fleet[0].container("one", network="alone")
    said = fleet[0].refused(*_GREEN)
    assert fleet.cluster.etcd.url.removeprefix("http://") in said

    fleet.cluster.etcd.start()
    fleet.joined()
    fleet.network()
    fleet.reach(fleet.boxes("a1", "b1", "c1"))


def test_a_host_without_an_etcd_says_what_an_overlay_needs(fleet: Fleet) -> None:
    node = fleet.cluster.nodes[0]
    node.plugin.stop()
    node.plugin.command = tuple(one for one in node.plugin.command if not str(one).startswith("--etcd="))
    node.plugin.start()

    assert "--etcd" in fleet[0].refused(*_GREEN)


def test_data_of_another_version_is_refused(fleet: Fleet) -> None:
    for node in fleet.cluster:
        node.plugin.stop()
    fleet.cluster.etcd.ctl("del", "", "--prefix")
    fleet.cluster.etcd.ctl("put", f"{truth.KEYS}/format", json.dumps({"version": 2}))

    fleet.cluster.start()

    soon(lambda: "version" in _trouble(fleet, 0), lambda: f"status to say it: {_trouble(fleet, 0)}")
    assert "version" in fleet[0].refused(*_GREEN)
    assert set(truth.entries(fleet.cluster, "hosts")) == set()


@pytest.fixture
def guarded(fleet: Fleet, tmp_path: Path) -> Iterator[Etcd]:
    """An etcd that wants a certificate, beside the other."""
    keys = authority(tmp_path / "right", str(fleet.cluster.address.ip))
    etcd = Etcd(fleet.cluster.place, "guarded", address=str(fleet.cluster.address.ip), port=3379, keys=keys)
    etcd.start()
    yield etcd
    etcd.stop()
    shutil.rmtree(fleet.cluster.run.folder / "guarded.etcd")


def _keys(etcd: Etcd) -> dict[str, str]:
    assert etcd.keys is not None
    client = etcd.keys.client
    return {
        "MDNP_ETCD_CA": str(etcd.keys.ca.cert),
        "MDNP_ETCD_CERT": str(client.cert),
        "MDNP_ETCD_KEY": str(client.key),
    }


def test_an_etcd_with_tls_takes_hosts_with_certificates_and_no_others(
    fleet: Fleet, guarded: Etcd, tmp_path: Path
) -> None:
    wrong = authority(tmp_path / "wrong", str(fleet.cluster.address.ip))
    for number in range(3):
        _instead(fleet, number, etcd=guarded.url, env=_keys(guarded))
    fleet.cluster.start()

    fleet.joined()
    fleet.network()
    fleet.reach(fleet.boxes("a1", "b1"))

    for env in (
        {"MDNP_ETCD_CA": str(wrong.ca.cert)},
        {"MDNP_ETCD_CERT": str(wrong.client.cert), "MDNP_ETCD_KEY": str(wrong.client.key)},
    ):
        node = _instead(fleet, 2, etcd=guarded.url, env={**_keys(guarded), **env})
        node.plugin.start()
        assert "certificate" in fleet[2].refused(*_GREEN).lower()


def test_two_hosts_with_one_identity_are_not_both_let_in(fleet: Fleet) -> None:
    """The state folder of one was copied to the other, as with an image of a machine."""
    fleet.network()
    a1 = fleet.box(0, "a1")
    first, second = fleet.cluster.nodes[0], fleet.cluster.nodes[2]
    identity = {one["name"]: one["id"] for one in fleet.mdnp(0, "host", "ls")}["a"]
    second.plugin.stop()
    second.host.forget_plugin()
    first.plugin.stop()
    shutil.copytree(first.host.state, second.host.state, dirs_exist_ok=True)
    first.plugin.start()
    soon(
        lambda: {one["id"]: one["liveness"] for one in fleet.mdnp(1, "host", "ls")}[identity] == "alive", "a to be back"
    )

    second.plugin.start()

    soon(lambda: identity in _trouble(fleet, 2), lambda: f"status to say it: {_trouble(fleet, 2)}")
    assert truth.entries(fleet.cluster, "alive")[identity]["name"] == "a"
    fleet.reach([a1, fleet.box(1, "b1")])
    second.plugin.stop()
    second.host.forget_plugin()


def test_one_tunnel_address_on_two_hosts_is_not_let_in_twice(fleet: Fleet) -> None:
    address = fleet.cluster.nodes[0].host.address.ip
    node = fleet.cluster.nodes[2]
    node.plugin.stop()
    node.host.forget_plugin()
    node.host.ip(f"address add {address}/32 dev lo")
    try:
        node.plugin = fleet.cluster.plugin_on(node.host, address=address)
        node.plugin.start()

        soon(lambda: str(address) in _trouble(fleet, 2), lambda: f"status to say it: {_trouble(fleet, 2)}")
        assert str(address) in fleet[2].refused(*_GREEN)
        fleet[0].network("blue", *OVERLAY, *BLUE)
    finally:
        node.host.ip(f"address del {address}/32 dev lo")


def test_a_vni_or_a_port_that_somebody_else_uses_is_named(fleet: Fleet) -> None:
    fleet[0].network("blue", *OVERLAY, *BLUE)
    [segment] = truth.entries(fleet.cluster, "segments").values()
    host = fleet[1].testbed.host
    blue = ("network", "create", "-d", "mdnp", *OVERLAY, *BLUE, "blue")

    host.ip(
        f"link add theirs type vxlan id {segment['vni']} dstport 4789 local {host.address.ip}", "link set theirs up"
    )
    said = fleet[1].refused(*blue)
    assert str(segment["vni"]) in said
    host.ip("link del theirs")

    with Peers(fleet[1].testbed) as peers:
        peers.hold(host, "udp:0.0.0.0:4789")
        said = fleet[1].refused(*blue)
        assert "4789" in said
    fleet[1].docker(*blue)
    fleet.reach(fleet.boxes("a1", "b1"))
