"""The checks of the cluster by values: a host that is well in it, and what is found when one fact is another."""

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from mdnp.config import Settings
from mdnp.doctor import Daemon, Etcd, Unknown, facts
from mdnp.model.errors import MdnpError
from mdnp.model.etcd_url import parse_etcd_url
from tests.doctor.wards import ETCD, HOSTS, LINKS, MEMBER, OVERLAY, TUNNEL, VNI, WELL, found, spoiled, told

OTHER = "http://192.0.2.10:2379"
FLANNEL = {"ifname": "flannel.1", "mtu": 1450, "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 1, "port": 4789}}}


def networks(**changes: Any) -> Daemon:
    return replace(told(), networks=[{**OVERLAY, **changes}])


def vni(number: int) -> dict[str, Any]:
    """Somebody else's tunnel."""
    return {**FLANNEL, "linkinfo": {"info_kind": "vxlan", "info_data": {"id": number, "port": 4789}}}


def test_a_host_that_is_well_in_its_cluster_has_no_finding() -> None:
    assert found(MEMBER) == {}


@pytest.mark.parametrize(
    ("changes", "check", "says"),
    [
        (
            {"etcd": {ETCD: Etcd(trouble="connection refused")}},
            "etcd-reachable",
            f"trouble: etcd {ETCD}: connection ref",
        ),
        (
            {"etcd": {ETCD: Etcd(7), OTHER: Etcd(trouble="no answer in time")}},
            "etcd-reachable",
            f"warning: etcd {OTHER}: no answer in time",
        ),
        (
            {"etcd": {ETCD: Etcd(7), OTHER: Etcd(8)}},
            "etcd-reachable",
            "trouble: the servers in `etcd` are of 2 clusters",
        ),
        (
            {"daemon": told(trouble="host2 (192.0.2.3) has our identity")},
            "host-identity",
            "trouble: host2 (192.0.2.3) has our identity",
        ),
        (
            {"addresses": [one for one in MEMBER.addresses if one["ifname"] != "eth0"]},  # type: ignore[union-attr]
            "vtep-address",
            "trouble: no link of this host has 192.0.2.2, the address of its tunnels",
        ),
        (
            {"daemon": replace(told(), hosts=[{**one, "liveness": "alive"} for one in HOSTS])},
            "vtep-address",
            "trouble: host2, host3 have the same address 192.0.2.3 for their tunnels",
        ),
        (
            {"daemon": told(host={"id": "1", "name": "host1", "vtep": ""})},
            "vtep-address",
            "trouble: no address of this host is known for its tunnels",
        ),
        (
            {"features": {"veth": "", "vxlan": "Unknown device type."}},
            "vxlan",
            "trouble: vxlan: Unknown device type.",
        ),
        ({"links": [*LINKS]}, "vxlan-port", "trouble: a program has UDP port 4789"),
        (
            {"links": [*LINKS, TUNNEL, vni(VNI)]},
            "vxlan-port",
            f"trouble: flannel.1 has UDP port 4789 and VNI {VNI}, which a network of ours needs",
        ),
        (
            {"daemon": networks(mtu=1500)},
            "underlay-mtu",
            "trouble: mdb-a1000000000 has MTU 1500, and eth0 with 1500 carries 1450 in a tunnel",
        ),
        (
            {"daemon": told(waiting=["host2"])},
            "cluster-epoch",
            "trouble: etcd lost its data or was restored, and host2 has not told yet what it has",
        ),
        (
            {"daemon": told(remarks=[{"about": "block", "text": "10.1.0.0/28 has two owners"}])},
            "cluster-remarks",
            "trouble: block: 10.1.0.0/28 has two owners",
        ),
        (
            {"daemon": told(remarks=[{"about": "host", "text": "the clock of host2 differs by 9 s"}])},
            "clock-skew",
            "warning: the clock of host2 differs by 9 s",
        ),
        (
            {
                "daemon": told(
                    networks=[{"name": "blue", "hosts": [{"name": "host2", "state": "failed", "error": "no room"}]}]
                )
            },
            "cluster-networks",
            "trouble: network blue is not on host2: no room",
        ),
    ],
)
def test_one_fact_that_is_another_is_found_by_its_check_alone(changes: Any, check: str, says: str) -> None:
    spoilt = found(replace(MEMBER, **changes))

    assert list(spoilt) == [check]
    assert spoilt[check].startswith(says)


@pytest.mark.parametrize(
    "changes",
    [
        {"links": [*LINKS, TUNNEL, FLANNEL]},  # the kernel lets links of one port share it
        {"links": [*LINKS], "asked": frozenset()},  # no network of a segment yet
        {"daemon": networks(mtu=1450)},
    ],
)
def test_what_does_no_harm_is_no_finding(changes: Any) -> None:
    assert found(replace(MEMBER, **changes)) == {}


def test_a_host_in_no_cluster_is_asked_for_nothing_of_it() -> None:
    without = {"features": {"veth": "", "vxlan": "Unknown device type."}, "asked": frozenset({("00000000", 4789)})}

    assert found(spoiled(**without)) == {}


def test_without_the_daemon_what_is_set_is_looked_at() -> None:
    settings = Settings(etcd=(parse_etcd_url(ETCD),), host_address=ip_address("192.0.2.77"))

    spoilt = found(
        replace(WELL, etcd=MEMBER.etcd, features=MEMBER.features, daemon=Unknown("nobody"), settings=settings)
    )

    assert spoilt["vtep-address"] == "trouble: no link of this host has 192.0.2.77, the address of its tunnels"
    assert spoilt["host-identity"] == "unknown: could not be looked at: nobody"


def test_without_the_daemon_an_address_that_is_not_set_is_no_finding() -> None:
    settings = Settings(etcd=(parse_etcd_url(ETCD),))

    spoilt = found(
        replace(WELL, etcd=MEMBER.etcd, features=MEMBER.features, daemon=Unknown("nobody"), settings=settings)
    )

    assert "vtep-address" not in spoilt


def _nobody(_path: str) -> object:
    raise MdnpError("nobody")


def test_each_server_is_asked_by_itself(tmp_path: Path) -> None:
    async def closed_port() -> int:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return port

    url = parse_etcd_url(f"http://127.0.0.1:{asyncio.run(closed_port())}")
    settings = Settings(tmp_path / "mdnp.sock", tmp_path, tmp_path, f"unix://{tmp_path}/docker.sock", etcd=(url,))

    seen = facts.gather(settings, _nobody, configuration="", root=tmp_path)

    assert seen.etcd == {str(url): Etcd(trouble="connection refused: nobody listens there")}
