"""mdnp's IPAM on real engines: with its own networks and with Docker's own drivers."""

import json
from collections.abc import Mapping

import pytest

from rig.image import IMAGE
from rig.rootfs import chosen
from tests.engine.conftest import Story

pytestmark = pytest.mark.engine

_GRACE_S = 5
_PATIENT_S = 300  # an engine waits fifteen seconds for each call to a plugin that is away


@pytest.fixture
def plugin_env(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """
    With the mark `collects`, what nobody holds is found soon.

    Not for tests that start many containers at once: a start that takes longer than the grace loses its address.
    """
    return {"MDNP_GRACE": str(_GRACE_S)} if request.node.get_closest_marker("collects") else {}


def ours(story: Story, name: str, *options: str, driver: str = "mdnp") -> None:
    story.docker("network", "create", "-d", driver, "--ipam-driver=mdnp", *options, name)


def once(story: Story) -> None:
    """For what no engine does differently, and each takes a minute for."""
    if story.engine.version != chosen()[-1]:
        pytest.skip(f"told once, with engine {chosen()[-1]}: a minute of waiting for a plugin that is away")


def subnets(story: Story, name: str) -> list[str]:
    config = json.loads(story.docker("network", "inspect", name))[0]["IPAM"]["Config"]
    return [one["Subnet"] for one in config]


def test_automatic_pools_differ_and_avoid_the_host_s_routes(story: Story) -> None:
    story.testbed.host.ip("route add 10.0.0.0/18 dev eth0")
    try:
        ours(story, "one")
        ours(story, "two")
    finally:
        story.testbed.host.ip("route del 10.0.0.0/18 dev eth0")
    story.container("web", network="one")
    story.container("db1", network="one")

    assert subnets(story, "one") == ["10.0.64.0/20"]
    assert subnets(story, "two") == ["10.0.80.0/20"]
    assert story.pings("web", "db1")
    assert story.held("10.0.64.0/20") == {story.address("web", "one"), story.address("db1", "one")}


def test_automatic_pools_of_both_families(story: Story) -> None:
    ours(story, "mynet", "--ipv6")
    story.container("web")
    story.container("db1")

    pool4, pool6 = subnets(story, "mynet")

    assert (pool4, pool6[:2], pool6[-3:]) == ("10.0.0.0/20", "fd", "/64")
    assert story.pings("web", story.address("db1", field="GlobalIPv6Address"), "-6")
    assert story.held(pool6) == {story.address(name, field="GlobalIPv6Address") for name in ("web", "db1")}


def test_chosen_addresses_ranges_and_gateways(story: Story) -> None:
    ours(
        story,
        "mynet",
        "--subnet=10.77.0.0/24",
        "--ip-range=10.77.0.128/25",
        "--gateway=10.77.0.254",
        "--aux-address=nas=10.77.0.129",
    )
    story.container("web", "--ip=10.77.0.7")
    story.container("db1")
    story.container("db2")

    assert [story.address(name) for name in ("web", "db1", "db2")] == ["10.77.0.7", "10.77.0.128", "10.77.0.130"]
    assert "default via 10.77.0.254" in story.inside("web", "ip route")
    assert story.pings("web", "db2")
    said = story.refused("run", "--rm", "--net=mynet", "--ip=10.77.0.128", IMAGE, "true")
    assert "address 10.77.0.128: held already" in said


@pytest.mark.parametrize("driver", ["bridge", "macvlan"])
def test_docker_s_own_drivers(story: Story, driver: str) -> None:
    options = ["-o", "parent=eth0"] if driver == "macvlan" else []
    ours(story, "mynet", "--subnet=10.77.0.0/24", *options, driver=driver)
    story.container("web")
    story.container("db1")

    assert {story.address("web"), story.address("db1")} == {"10.77.0.2", "10.77.0.3"}
    assert story.pings("web", "db1")
    assert story.held("10.77.0.0/24") == {"10.77.0.2", "10.77.0.3"}
    story.docker("rm", "-f", "web", "db1")
    assert story.held("10.77.0.0/24") == set()


def test_an_exhausted_pool_says_so_and_is_used_again(story: Story) -> None:
    ours(story, "mynet", "--subnet=10.77.0.0/29")
    for number in range(5):
        story.container(f"web{number}")

    said = story.refused("run", "--rm", "--net=mynet", IMAGE, "true")

    assert "all 6 addresses of 10.77.0.0/29 are held (gateway 1, endpoint 5)" in said
    freed = story.address("web3")
    story.docker("rm", "-f", "web3")
    story.container("again")
    assert story.address("again") == freed


def test_thirty_containers_at_once_have_thirty_addresses(story: Story) -> None:
    ours(story, "mynet", "--subnet=10.77.0.0/24")
    names = [f"many{number}" for number in range(30)]

    results = story.engine.parallel(
        *(["run", "-d", "--stop-signal=KILL", "--name", name, "--net=mynet", IMAGE, "sleep", "1000"] for name in names),
        timeout=_PATIENT_S,
    )

    assert [result.said for result in results if result.code] == []
    assert {story.address(name) for name in names} == story.held("10.77.0.0/24")
    assert len(story.held("10.77.0.0/24")) == 30
    story.docker("rm", "-f", *names)
    assert story.held("10.77.0.0/24") == set()


def test_overlap_is_refused_with_the_owner(story: Story) -> None:
    ours(story, "mynet", "--subnet=10.77.0.0/24")

    said = story.refused("network", "create", "-d", "mdnp", "--ipam-driver=mdnp", "--subnet=10.77.0.0/16", "other")

    [network] = story.status()["networks"]
    assert f"overlaps 10.77.0.0/24 of network {network['id'][:12]}" in said
    said = story.refused("network", "create", "-d", "mdnp", "--ipam-driver=mdnp", "--subnet=10.77.0.0/24", "same")
    assert f"overlaps 10.77.0.0/24 of network {network['id'][:12]}" in said
    assert [pool["networks"] for pool in story.pools()] == [1]


def test_no_automatic_pool_where_everything_is_routed(story: Story) -> None:
    """A clear error and no endless loop: an engine from 27 on asks again while it dislikes the answer."""
    routes = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
    story.testbed.host.ip(*(f"route add {route} dev eth0" for route in routes))
    try:
        said = story.refused("network", "create", "-d", "mdnp", "--ipam-driver=mdnp", "mynet")
    finally:
        story.testbed.host.ip(*(f"route del {route} dev eth0" for route in routes))

    assert "no free network is left in 10.0.0.0/8 (/20)" in said
    assert "10.0.0.0/8 (route on eth0)" in said
    story.must_be_clean()


def test_an_engine_restart_keeps_the_pools_right(story: Story) -> None:
    ours(story, "mynet", "--subnet=10.77.0.0/24")
    story.container("web", "--restart=always", "--ip=10.77.0.9")
    story.container("db1", "--restart=always")
    story.container("once")

    story.engine.restart()

    story.soon(lambda: story.pings("db1", "10.77.0.9"), within_s=30)
    assert story.held("10.77.0.0/24") == {story.address("web"), story.address("db1")}


@pytest.mark.collects
def test_an_engine_that_was_killed_leaks_no_address(story: Story) -> None:
    ours(story, "mynet", "--subnet=10.77.0.0/24")
    story.container("web", "--restart=always", "--ip=10.77.0.9")
    story.container("db1", "--restart=always")
    story.container("once")

    story.engine.kill()
    story.engine.start()

    story.soon(lambda: story.pings("db1", "10.77.0.9"), within_s=60)
    story.soon(lambda: story.held("10.77.0.0/24") == {story.address("web"), story.address("db1")}, within_s=30)


@pytest.mark.collects
def test_containers_that_go_while_the_plugin_is_down_leak_no_address(story: Story) -> None:
    once(story)
    ours(story, "mynet", "--subnet=10.77.0.0/24")
    story.container("web")
    story.container("db1")
    story.plugin.stop()

    story.engine.docker("rm", "-f", "web", timeout=_PATIENT_S)
    story.plugin.start()

    story.soon(lambda: story.held("10.77.0.0/24") == {story.address("db1")}, within_s=60)
    assert story.plugin.cli("gc") == "# Docker has all that was promised to it\n"
    story.container("again", "--ip=10.77.0.2")


@pytest.mark.collects
def test_a_pool_whose_network_went_while_the_plugin_was_down_is_collected_on_demand(story: Story) -> None:
    once(story)
    ours(story, "mynet", "--subnet=10.77.0.0/24", driver="bridge")
    story.plugin.stop()
    story.engine.docker("network", "rm", "mynet", timeout=_PATIENT_S)
    story.plugin.start()
    story.soon(lambda: "would free pool mdnp-local/10.77.0.0/24" in story.plugin.cli("gc", "--plan"), within_s=30)

    said = story.plugin.cli("gc")

    assert "freed pool mdnp-local/10.77.0.0/24" in said
    assert story.pools() == []


def test_the_history_knows_who_held_an_address(story: Story) -> None:
    ours(story, "mynet", "--subnet=10.77.0.0/24")
    story.container("web", "--ip=10.77.0.9")
    story.plugin.cli("gc", "--plan")  # asks Docker, which tells the names
    story.docker("rm", "-f", "web")

    by_address = json.loads(story.plugin.cli("history", "10.77.0.9", "--json"))
    by_name = json.loads(story.plugin.cli("history", "web", "--json"))

    assert [(one["address"], one["name"], one["until"] is None) for one in by_address] == [("10.77.0.9", "web", False)]
    assert by_name == by_address
