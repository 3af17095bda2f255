"""Bridge networks on real engines: what a user of Docker does, and what must be true then."""

import json
import sys
from typing import Any

import pytest

from rig.image import IMAGE
from rig.testbed import Testbed
from tests.engine.conftest import Story

pytestmark = pytest.mark.engine


def test_containers_of_a_network_reach_each_other_and_the_gateway(story: Story) -> None:
    story.network()
    story.container("web")
    story.container("db1")

    gateway = json.loads(story.docker("network", "inspect", "mynet"))[0]["IPAM"]["Config"][0]["Gateway"]

    assert story.pings("web", "db1")
    assert story.pings("db1", story.address("web"))
    assert story.pings("web", gateway.split("/")[0])
    assert story.interfaces("web") == {"eth0"}
    assert story.status()["healthy"]


def test_each_endpoint_has_a_veth_of_its_own_that_goes_with_it(story: Story) -> None:
    story.network()
    bridge_only = story.links()
    story.container("web")
    story.container("db1")

    assert len(story.links() - bridge_only) == 2
    story.docker("rm", "-f", "web", "db1")
    story.soon(lambda: story.links() == bridge_only)
    story.docker("network", "rm", "mynet")
    story.must_be_clean()


def test_connect_disconnect_restart_and_rm(story: Story) -> None:
    story.network("one")
    story.network("two")
    story.container("web", network="one")
    story.container("db1", network="two")

    story.docker("network", "connect", "two", "web")
    assert story.pings("web", "db1")
    assert story.interfaces("web") == {"eth0", "eth1"}
    story.docker("network", "disconnect", "two", "web")
    assert story.interfaces("web") == {"eth0"}
    story.docker("network", "connect", "two", "web")
    story.docker("restart", "-t", "0", "web", "db1")
    assert story.pings("web", "db1")
    assert story.pings("db1", "web")


def test_static_address_mac_and_gateway(story: Story) -> None:
    story.network("mynet", "--subnet=10.77.0.0/24", "--gateway=10.77.0.254")
    story.container("web", "--ip=10.77.0.77", "--mac-address=02:42:0a:4d:00:4d")
    story.container("db1")

    shown = story.inside("web", "ip addr show eth0; ip route")

    assert "10.77.0.77/24" in shown
    assert "02:42:0a:4d:00:4d" in shown
    assert "default via 10.77.0.254" in shown
    assert story.pings("db1", "10.77.0.77")
    assert story.pings("db1", "10.77.0.254")


def test_the_mac_that_docker_shows_is_the_link_s_and_follows_the_address(story: Story) -> None:
    story.network("mynet", "--subnet=10.77.0.0/24")
    story.container("web", "--ip=10.77.0.9")
    first = story.address("web", field="MacAddress")

    assert first == "02:6d:0a:4d:00:09"
    assert first in story.inside("web", "ip link show eth0")
    story.docker("rm", "-f", "web")
    story.container("web", "--ip=10.77.0.9")
    assert story.address("web", field="MacAddress") == first


def test_two_networks_on_one_container(story: Story) -> None:
    story.network("one", "--subnet=10.77.1.0/24")
    story.network("two", "--subnet=10.77.2.0/24")
    story.container("mid", network="one")
    story.docker("network", "connect", "two", "mid")
    story.container("web", network="one")
    story.container("db1", network="two")

    assert story.pings("web", "mid")
    assert story.pings("db1", "mid")
    assert story.inside("mid", "ip route").count("default") == 1


def test_twenty_containers_at_once(story: Story) -> None:
    story.network()
    names = [f"many{number}" for number in range(20)]

    results = story.engine.parallel(
        *(["run", "-d", "--name", name, "--net=mynet", IMAGE, "sleep", "100000"] for name in names)
    )

    assert [result.said for result in results if result.code] == []
    addresses = {story.address(name) for name in names}
    assert len(addresses) == 20
    assert story.pings("many0", "many19")
    story.docker("rm", "-f", *names)
    story.soon(lambda: len(story.links()) == 1)


@pytest.mark.parametrize("families", ["both", "only6"])
def test_ipv6(story: Story, families: str) -> None:
    if families == "only6":
        if story.engine.version == "20.10":
            pytest.skip("networks without IPv4 came with Docker 28")
        story.network("mynet", "--ipv4=false", "--ipv6", "--subnet=fd77::/64")
    else:
        story.network("mynet", "--ipv6", "--subnet=fd77::/64", "--subnet=10.77.0.0/24")
    story.container("web")
    story.container("db1")

    assert story.pings("web", story.address("db1", field="GlobalIPv6Address"), "-6")
    assert story.pings("web", "fd77::1", "-6")
    assert "default via fd77::1" in story.inside("web", "ip -6 route")
    if families == "both":
        assert story.pings("web", story.address("db1"))


def test_no_addresses_at_all(story: Story) -> None:
    story.network("mynet", "--ipam-driver=null")
    story.container("web", "--cap-add=NET_ADMIN")
    story.container("db1", "--cap-add=NET_ADMIN")

    story.inside("web", "ip addr add 10.78.0.1/24 dev eth0")
    story.inside("db1", "ip addr add 10.78.0.2/24 dev eth0")

    assert story.interfaces("web") == {"eth0"}
    assert story.pings("web", "10.78.0.2")


def test_an_internal_network_has_no_way_out(story: Story) -> None:
    story.network("mynet", "--internal")
    story.container("web")
    story.container("db1")

    assert story.pings("web", "db1")
    assert story.interfaces("web") == {"eth0"}
    assert "default" not in story.inside("web", "ip route")
    [network] = story.status()["networks"]
    assert story.testbed.host.run(["ip", "-4", "addr", "show", "dev", network["bridge"]]).out == ""


def test_a_network_without_a_gateway(story: Story) -> None:
    story.network("mynet", "-o", "mdnp.gateway=none")
    story.container("web")
    story.container("db1")

    assert story.pings("web", "db1")
    assert story.interfaces("web") == {"eth0"}
    assert "default" not in story.inside("web", "ip route")


def test_docker_s_own_gateway_beside_our_interface(story: Story) -> None:
    """The example of the notes that this project grew out of: two interfaces, both running and carrying traffic."""
    story.network("mynet", "-o", "mdnp.gateway=docker", "-o", "com.docker.network.container_iface_prefix=krish-mdnp")
    story.container("web", "-p", "8080:80")
    story.container("db1")

    assert story.interfaces("web") == {"eth0", "krish-mdnp0"}
    shown = story.inside("web", "ifconfig")
    assert shown.count("RUNNING") == 3  # lo too
    assert story.pings("web", story.address("db1"))
    assert story.pings("web", "192.0.2.1")  # the machine behind the host's default route
    assert "0.0.0.0:8080" in story.docker("port", "web")
    story.inside("web", "mkdir -p /www && echo hello >/www/index.html && httpd -p 80 -h /www")
    page = f"http://{story.testbed.host.address.ip}:8080/"
    fetch = f"import urllib.request as request; print(request.urlopen('{page}', timeout=5).read())"
    assert story.testbed.host.run([sys.executable, "-c", fetch]).out == "b'hello\\n'\n"


def test_the_mtu_is_the_underlay_s_or_the_one_asked_for(story: Story) -> None:
    host = story.testbed.host
    host.ip("link set eth0 mtu 1400")
    try:
        story.network("small")
        story.network("large", "-o", "com.docker.network.driver.mtu=9000")
    finally:
        host.ip("link set eth0 mtu 1500")
    story.container("web", network="small")
    story.container("db1", network="large")

    assert "mtu 1400" in story.inside("web", "ip link show eth0")
    assert "mtu 9000" in story.inside("db1", "ip link show eth0")
    assert [network["mtu"] for network in story.status()["networks"]] == [1400, 9000]


def test_a_bridge_with_a_name_of_the_user_s(story: Story) -> None:
    story.network("mynet", "-o", "com.docker.network.bridge.name=lab0")
    story.container("web")
    story.container("db1")

    assert story.pings("web", "db1")
    assert "lab0" in story.testbed.host.run(["ip", "link", "show", "type", "bridge"]).out
    story.docker("rm", "-f", "web", "db1")
    story.docker("network", "rm", "mynet")
    assert "lab0" not in story.testbed.host.run(["ip", "link", "show", "type", "bridge"]).out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "mdnp.gatway=docker"], "unknown option mdnp.gatway: did you mean mdnp.gateway?"),
        (["-o", "com.docker.network.driver.mtu=12"], "expected bytes from 68 to 65535"),
        (["-o", "mdnp.mode=macvlan"], "mdnp.mode=macvlan: not built yet"),
        (["-o", "mdnp.mode=overlay"], "an overlay needs a cluster, and this host is in no cluster"),
        (["--subnet=10.77.0.0/25"], "overlaps"),  # Docker's own IPAM sees this one first
        (["--subnet=192.0.2.128/25"], "directly on the host's link eth0"),
        (["-o", "com.docker.network.bridge.name=docker0"], "a link docker0 exists that is not mdnp's"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(story: Story, options: list[str], words: str) -> None:
    story.network("mynet", "--subnet=10.77.0.0/24")
    before = story.links(), story.rules(), story.docker("network", "ls", "-q")

    said = story.refused("network", "create", "-d", "mdnp", *options, "other")

    assert words in said
    assert (story.links(), story.rules(), story.docker("network", "ls", "-q")) == before
    assert story.status()["healthy"]


def test_a_full_disk_is_told_and_nothing_is_half_made(story: Story, testbed: Testbed) -> None:
    story.plugin.stop()
    host = testbed.host
    host.run(["mount", "-t", "tmpfs", "-o", "size=512k", "mdnp-test", host.state])
    try:
        story.plugin.start()
        host.run(["sh", "-c", f"dd if=/dev/zero of={host.state}/filler bs=4k 2>/dev/null || true"])

        said = story.refused("network", "create", "-d", "mdnp", "mynet")

        assert "full" in said
        story.must_be_clean()
        host.run(["rm", f"{host.state}/filler"])
        story.network()
        story.docker("network", "rm", "mynet")
    finally:
        story.plugin.stop()
        host.run(["umount", host.state])
        story.plugin.start()


def test_a_node_of_a_swarm_works_the_same(story: Story) -> None:
    story.docker("swarm", "init", f"--advertise-addr={story.testbed.host.address.ip}")
    try:
        story.network()
        story.container("web")
        story.container("db1")

        assert story.pings("web", "db1")
        story.docker("rm", "-f", "web", "db1")
        story.docker("network", "rm", "mynet")
    finally:
        story.docker("swarm", "leave", "--force")


def test_the_drift_that_somebody_makes_is_repaired(story: Story) -> None:
    story.network("mynet", "--subnet=10.77.0.0/24")
    story.container("web")
    story.container("db1")
    [network] = story.status()["networks"]
    host = story.testbed.host
    views: list[dict[str, Any]] = []

    def is_seen_before_it_is_repaired() -> bool:
        host.ip(f"addr flush dev {network['bridge']}", f"link set {network['bridge']} down")
        host.run(["iptables", "-F", "DOCKER-USER"])
        views.append(story.status())
        return f"ip addr add 10.77.0.1/24 dev {network['bridge']}" in views[-1]["drift"]

    story.soon(is_seen_before_it_is_repaired, 60)
    assert not views[-1]["healthy"]
    story.plugin.restart()
    assert story.status()["healthy"]
    assert story.pings("web", "db1")
    assert story.pings("web", "10.77.0.1")


def test_a_joined_endpoint_whose_link_vanished_is_lost_and_its_restart_mends_it(story: Story) -> None:
    story.network()
    story.container("web")
    [link] = [name for name in story.links() if name.startswith("mdv-")]
    story.testbed.host.ip(f"link del {link}")

    view = story.status()
    assert [link in line for line in view["lost"]] == [True]
    story.docker("restart", "-t", "0", "web")
    assert story.status()["healthy"]
