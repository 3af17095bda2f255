"""The way in: published ports, from everywhere that a user tries them, and what is said when one cannot be had."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from rig import process
from rig.host import GATEWAY, GATEWAY6, Host, Namespace
from rig.image import IMAGE
from tests.engine.conftest import Story
from tests.engine.peers import Peers, target

pytestmark = pytest.mark.engine

_BOTH = ("--ipv6", "--subnet=10.77.0.0/24", "--subnet=fd77::/64")
_ONLY4 = ("--subnet=10.77.0.0/24",)
_EVERYWHERE = ["0.0.0.0", "::"]  # noqa: S104 -- every address of the host, as Docker writes it
_WORLD_SEEN = [f"web sees {address}" for address in (GATEWAY.ip, GATEWAY6.ip) for _ in range(2)]


@pytest.fixture
def peers(story: Story) -> Iterator[Peers]:
    with Peers(story.testbed) as peers:
        yield peers


# ------------------------------------------------------------------------------------------------- from where


def test_a_published_port_is_reached_from_everywhere_and_remote_clients_keep_their_address(
    story: Story, peers: Peers
) -> None:
    host = story.testbed.host
    story.network("mynet", *_BOTH)
    story.network("other", "--ipv6", "--subnet=10.78.0.0/24", "--subnet=fd78::/64")
    story.container("web", "-p", "8080:80", "-p", "8080:80/udp")
    story.container("db1")
    story.container("far", network="other")
    story.container("old", network="bridge")
    peers.serve("web", 80, 81)
    own = _targets(8080, *_own(host))

    assert peers.ask(story.testbed.outside, *own) == _WORLD_SEEN
    big = peers.ask(story.testbed.outside, own[0], own[1], load=9000)
    assert big == [f"web sees {GATEWAY.ip} and 9000 bytes"] * 2
    for place in (host, "db1", "web", "far"):
        assert _who(peers.ask(place, *own)) == ["web"] * 4, place
    assert _who(peers.ask("old", *own[:2])) == ["web"] * 2  # Docker's default bridge has no IPv6
    assert _who(peers.ask(host, *_targets(8080, "127.0.0.1", "127.1.2.3", "::1"))) == ["web"] * 6
    assert _who(peers.ask(host, *_targets(8080, "10.77.0.1", "fd77::1", "10.78.0.1"))) == ["web"] * 6

    other = [*_targets(81, *_own(host)), *_targets(80, *_own(host))]
    assert set(peers.ask(story.testbed.outside, *other)) == {"refused"}


def test_an_answer_reaches_the_client_from_the_address_that_it_asked(story: Story, peers: Peers) -> None:
    """UDP over an address that the host has besides: a client takes no answer from another one."""
    host = story.testbed.host
    host.ip("address add 192.0.2.77/24 dev eth0", "address add 2001:db8::77/64 dev eth0 nodad")
    try:
        story.network("mynet", *_BOTH)
        story.container("web", "-p", "8080:80/udp", "-p", "192.0.2.77:8081:80", "-p", "[2001:db8::77]:8081:80")
        peers.serve("web", 80)

        seen = peers.ask(story.testbed.outside, "udp:192.0.2.77:8080", "udp:[2001:db8::77]:8080")
        assert seen == [f"web sees {GATEWAY.ip}", f"web sees {GATEWAY6.ip}"]
        assert _who(peers.ask(host, "udp:192.0.2.77:8080", "udp:[2001:db8::77]:8080")) == ["web"] * 2
        seen = peers.ask(story.testbed.outside, "tcp:192.0.2.77:8081", "tcp:[2001:db8::77]:8081")
        assert seen == [f"web sees {GATEWAY.ip}", f"web sees {GATEWAY6.ip}"]
        assert peers.ask(story.testbed.outside, *_targets(8081, *_own(host))[::2]) == ["refused"] * 2
    finally:
        host.ip("address del 192.0.2.77/24 dev eth0", "address del 2001:db8::77/64 dev eth0")


def test_a_port_published_on_one_address_is_open_there_alone(story: Story, peers: Peers) -> None:
    host = story.testbed.host
    story.network("mynet", *_BOTH)
    story.container("web", "-p", "127.0.0.1:8080:80", "-p", "[::1]:8080:80", "-p", f"{host.address.ip}:8081:80")
    story.container("two", "-p", f"{host.address.ip}:8080:80")
    story.container("db1")
    peers.serve("web", 80)
    peers.serve("two", 80)
    own4, own6 = _targets(8080, *_own(host))[::2]

    assert _who(peers.ask(host, "tcp:127.0.0.1:8080", "tcp:[::1]:8080", own4)) == ["web", "web", "two"]
    assert peers.ask(story.testbed.outside, own4, own6) == [f"two sees {GATEWAY.ip}", "refused"]
    assert _who(peers.ask("db1", own4)) == ["two"]
    assert peers.ask("db1", "tcp:127.0.0.1:8080", "tcp:10.77.0.1:8080") == ["refused"] * 2
    assert peers.ask(story.testbed.outside, target("tcp", host.address.ip, 8081)) == [f"web sees {GATEWAY.ip}"]
    assert peers.ask(host, "tcp:127.0.0.1:8081") == ["refused"]


def test_host_binding_is_the_address_of_ports_that_name_none(story: Story, peers: Peers) -> None:
    host = story.testbed.host
    story.network("mynet", *_BOTH, "--opt=com.docker.network.bridge.host_binding_ipv4=127.0.0.1")
    story.container("web", "-p", "8080:80", "-p", f"{host.address.ip}:8081:80")
    peers.serve("web", 80)

    assert {port["host_address"] for port in _ports(story)} == {"127.0.0.1", str(host.address.ip)}
    assert _who(peers.ask(host, "tcp:127.0.0.1:8080")) == ["web"]
    assert peers.ask(story.testbed.outside, *_targets(8080, *_own(host))[::2]) == ["refused"] * 2
    assert peers.ask(story.testbed.outside, target("tcp", host.address.ip, 8081)) == [f"web sees {GATEWAY.ip}"]


def test_what_the_kernel_cannot_translate_is_carried_by_the_daemon(story: Story, peers: Peers) -> None:
    """A container without IPv6 and clients with it; it sees an address of the host then."""
    host = story.testbed.host
    story.network("mynet", *_ONLY4)
    story.container("web", "-p", "8080:80", "-p", "8080:80/udp")
    story.container("quiet", "-p", "8081:80")
    peers.serve("web", 80)
    own6 = _targets(8080, host.address6.ip)
    loopback6 = _targets(8080, "::1")

    assert peers.ask(story.testbed.outside, *own6) == ["web sees 10.77.0.1"] * 2
    assert peers.ask(host, *loopback6, *own6) == ["web sees 10.77.0.1"] * 4
    # Both directions, the end of one before the other's; many at once; one UDP client that asks again.
    assert peers.ask(host, loopback6[0], load=3_000_000) == ["web sees 10.77.0.1 and 3000000 bytes"]
    assert set(peers.ask(host, *(loopback6 * 40))) == {"web sees 10.77.0.1"}
    assert [peers.ask(host, loopback6[1], source_port=40001) for _ in range(2)] == [["web sees 10.77.0.1"]] * 2
    assert peers.ask(host, "tcp:[::1]:8081")[0] in {"closed", "reset", "refused"}  # nobody listens in there
    assert peers.ask(story.testbed.outside, target("tcp", host.address.ip, 8080)) == [f"web sees {GATEWAY.ip}"]
    assert {(port["host_address"], port["by"]) for port in _ports(story)} == {("0.0.0.0", "nat"), ("::", "proxy")}  # noqa: S104


def test_ipv4_clients_reach_a_container_of_ipv6_only(story: Story, peers: Peers) -> None:
    if story.engine.version == "20.10":
        pytest.skip("networks without IPv4 came with Docker 28")
    host = story.testbed.host
    story.network("mynet", "--ipv4=false", "--ipv6", "--subnet=fd77::/64")
    story.container("web", "-p", "8080:80", "-p", "8080:80/udp")
    peers.serve("web", 80)

    seen = peers.ask(story.testbed.outside, *_targets(8080, *_own(host)))
    assert seen == ["web sees fd77::1"] * 2 + _WORLD_SEEN[2:]
    assert _who(peers.ask(host, *_targets(8080, "127.0.0.1", "::1"))) == ["web"] * 4


def test_sctp_is_published(story: Story, peers: Peers) -> None:
    host = story.testbed.host
    story.network("mynet", *_BOTH)
    story.container("web", "-p", "3868:99/sctp")
    arrived = peers.hear("web", "sctp")

    for address in (host.address.ip, host.address6.ip):
        peers.send_init(story.testbed.outside, str(address), 3868)
        peers.send_init(story.testbed.outside, str(address), 3869)

    story.soon(lambda: arrived.heard == {f"{GATEWAY.ip} 99", f"{GATEWAY6.ip} 99"})
    assert {(port["protocol"], port["host_port"], port["port"]) for port in _ports(story)} == {("sctp", 3868, 99)}


def test_in_a_routed_network_published_ports_are_open_at_the_container_itself(story: Story, peers: Peers) -> None:
    modes = [f"--opt=com.docker.network.bridge.gateway_mode_ipv{version}=routed" for version in (4, 6)]
    host = story.testbed.host
    routes = [f"10.77.0.0/24 via {host.address.ip}", f"fd77::/64 via {host.address6.ip}"]
    story.network("mynet", *_BOTH, *modes)
    story.container("web", "-p", "8080:80")
    peers.serve("web", 80, 81)
    web = [story.address("web"), story.address("web", field="GlobalIPv6Address")]

    story.testbed.outside.ip(*(f"route add {route}" for route in routes))
    try:
        open_ports = [target("tcp", address, 80) for address in web]
        assert peers.ask(story.testbed.outside, *open_ports) == _WORLD_SEEN[::2]
        closed = [*_targets(81, *web), *_targets(8080, *web), *(target("udp", address, 80) for address in web)]
        assert set(peers.ask(story.testbed.outside, *closed, within_s=1)) == {"silence"}
        for address in web:
            assert peers.run(story.testbed.outside, ["busybox", "ping", "-c", "1", "-W", "2", address]).code == 0
    finally:
        story.testbed.outside.ip(*(f"route del {route}" for route in routes))
    assert peers.free(host, *_targets(8080, *_EVERYWHERE)) == ["free"] * 4
    assert {(port["address"], port["port"], port["by"]) for port in _ports(story)} == {
        (address, 80, "routed") for address in web
    }


# ------------------------------------------------------------------------------------------------ which port


def test_of_a_range_the_first_free_port_is_taken_until_it_is_full(story: Story, peers: Peers) -> None:
    host = story.testbed.host
    story.network("mynet", *_BOTH)
    peers.hold(host, "tcp:0.0.0.0:8080")
    run = ("--net=mynet", "-p", "8080-8082:80", IMAGE, "sleep", "100000")

    story.docker("run", "-d", "--name=one", *run)
    story.docker("run", "-d", "--name=two", *run)
    before = _state(story)
    said = story.refused("run", "-d", "--name=three", *run)

    assert [_host_port(story, name) for name in ("one", "two")] == [8081, 8082]
    assert "8080-8082" in said
    assert _state(story) == before
    story.docker("rm", "-f", "one")
    story.docker("start", "three")
    assert _host_port(story, "three") == 8081


def test_a_range_to_a_range_is_port_by_port(story: Story, peers: Peers) -> None:
    story.network("mynet", *_BOTH)
    story.container("web", "-p", "9000-9019:80-99")
    peers.serve("web", 80, 89, 99)

    answers = peers.ask(
        story.testbed.outside, *(target("tcp", story.testbed.host.address.ip, port) for port in (9000, 9009, 9019))
    )
    assert answers == _WORLD_SEEN[:1] * 3
    pairs = {(port["host_port"], port["port"]) for port in _ports(story)}
    assert pairs == {(9000 + number, 80 + number) for number in range(20)}


def test_a_port_that_is_left_to_mdnp_is_free_and_the_same_in_both_families(story: Story, peers: Peers) -> None:
    story.network("mynet", *_BOTH)
    story.container("web", "--expose=80", "--expose=80/udp", "-P")
    story.container("two", "-p", "80", "-p", "127.0.0.1::81")
    peers.serve("web", 80)
    ports = _ports(story)
    first, last = map(int, story.testbed.host.run(["sysctl", "-n", "net.ipv4.ip_local_port_range"]).out.split())

    chosen = {(port["endpoint"], port["protocol"], port["port"], port["host_port"]) for port in ports}
    assert len(chosen) == 4
    assert all(first <= port["host_port"] <= last for port in ports)
    assert [port["host_address"] for port in ports if port["port"] == 81] == ["127.0.0.1"]
    [tcp] = {port["host_port"] for port in _ports(story, "web") if port["protocol"] == "tcp"}
    [udp] = {port["host_port"] for port in _ports(story, "web") if port["protocol"] == "udp"}
    own = _own(story.testbed.host)
    answers = peers.ask(
        story.testbed.outside,
        *(target(protocol, address, port) for address in own for protocol, port in (("tcp", tcp), ("udp", udp))),
    )
    assert answers == _WORLD_SEEN


def test_containers_that_start_at_once_get_a_port_each(story: Story) -> None:
    story.network("mynet", *_BOTH)
    publish = ("--net=mynet", "-p", "8080-8085:80")

    results = story.engine.parallel(
        *(["run", "-d", "--name", f"many{number}", *publish, IMAGE, "sleep", "100000"] for number in range(8))
    )

    assert [result.code for result in results].count(0) == 6
    sockets = [(port["host_address"], port["host_port"]) for port in _ports(story)]
    assert sorted(sockets) == [(address, port) for address in _EVERYWHERE for port in range(8080, 8086)]


def test_port_ls_shows_what_docker_ps_cannot(story: Story) -> None:
    story.network("mynet", *_BOTH)
    # One that had the address before, did not come up and is still there.
    story.refused("run", "--name=old", "--net=mynet", "-p", "192.0.2.99:80:80", IMAGE, "true")
    story.container("web", "-p", "8080:80", "-p", "127.0.0.1:5353:53/udp")
    web4, web6 = story.address("web"), story.address("web", field="GlobalIPv6Address")

    rows = {
        (port["protocol"], port["host_address"], port["host_port"], port["address"], port["port"])
        for port in _ports(story)
    }
    assert rows == {
        ("tcp", "0.0.0.0", 8080, web4, 80),  # noqa: S104
        ("tcp", "::", 8080, web6, 80),
        ("udp", "127.0.0.1", 5353, web4, 53),
    }
    settings = story.settings("web")
    assert {port["container"] for port in _ports(story)} == {"web"}
    assert {port["endpoint"] for port in _ports(story)} == {settings["EndpointID"]}
    assert {port["network"] for port in _ports(story)} <= {"mynet", settings["NetworkID"]}
    table = story.plugin.cli("port", "ls")
    assert re.search(r"0\.0\.0\.0:8080|0\.0\.0\.0\s+8080", table)
    assert web4 in table


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("blocked", ["tcp:0.0.0.0:8080", "tcp:[::]:8080", "tcp:127.0.0.1:8080", "udp:[::]:8090"])
def test_a_port_in_use_is_refused_with_its_owner_and_nothing_is_half_open(
    story: Story, peers: Peers, blocked: str
) -> None:
    host = story.testbed.host
    story.network("mynet", *_BOTH)
    before = _state(story)
    holder = peers.hold(host, blocked)

    publish = ("-p", "8070:70", "-p", "8080:80", "-p", "8090:90/udp", "-p", "8100:100")
    said = story.refused("run", "-d", "--name=web", "--net=mynet", *publish, IMAGE, "sleep", "100000")

    assert blocked.rpartition(":")[2] in said
    assert "in use" in said
    assert process.name(holder.pid) in said
    assert str(holder.pid) in said
    story.soon(lambda: _state(story) == before)
    assert _not_bound(story, peers, 8070, 8100)
    assert story.docker("inspect", "--format={{.State.Running}}", "web") == "false"
    assert story.status()["healthy"]

    holder.stop()
    story.docker("start", "web")
    assert {port["host_port"] for port in _ports(story)} == {8070, 8080, 8090, 8100}


def test_a_port_of_another_container_is_refused_with_its_owner(story: Story) -> None:
    story.network("mynet", *_BOTH)
    story.container("web", "-p", "8080:80")
    story.container("old", "-p", "8081:81", network="bridge")
    before = _state(story)

    ours = story.refused("run", "--name=two", "--net=mynet", "-p", "127.0.0.1:8080:80", IMAGE, "true")
    docker_s = story.refused("run", "--name=three", "--net=mynet", "-p", "8081:80", IMAGE, "true")
    foreign = story.refused("run", "--name=four", "--net=bridge", "-p", "8080:80", IMAGE, "true")

    assert "8080" in ours
    assert story.settings("web")["EndpointID"][:12] in ours
    assert "8081" in docker_s
    assert re.search(r"docker-proxy|dockerd", docker_s)
    assert "8080" in foreign  # the port is really bound, so Docker itself sees it
    story.soon(lambda: _state(story) == before)


@pytest.mark.parametrize(
    ("publish", "words"),
    [
        ("192.0.2.99:8080:80", "192.0.2.99"),
        ("[2001:db8::99]:8080:80/udp", "2001:db8::99"),
        ("0-5:80", "0-5"),
    ],
)
def test_what_cannot_be_published_is_refused_with_the_reason(
    story: Story, peers: Peers, publish: str, words: str
) -> None:
    story.network("mynet", *_BOTH)
    before = _state(story)

    said = story.refused("run", "-d", "--name=web", "--net=mynet", "-p", "8070:70", "-p", publish, IMAGE, "true")

    assert words in said
    story.soon(lambda: _state(story) == before)
    assert _not_bound(story, peers, 8070)
    assert story.status()["healthy"]


# ----------------------------------------------------------------------------------------- come, stay and go


def test_a_port_is_bound_while_its_container_is_connected_and_no_longer(story: Story, peers: Peers) -> None:
    host = story.testbed.host
    foreign = _ruleset(host)
    story.network("mynet", *_BOTH)
    before = _published(story)
    publish = ("-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:8081:81", "-p", "[::1]:8081:81")
    bound = [*_targets(8080, *_EVERYWHERE), "tcp:127.0.0.1:8081", "tcp:[::1]:8081"]
    story.container("web", *publish)

    for leave, come in [
        (["stop", "web"], ["start", "web"]),
        (["network", "disconnect", "mynet", "web"], ["network", "connect", "mynet", "web"]),
        (["kill", "web"], ["start", "web"]),
        (["rm", "-f", "web"], []),
    ]:
        assert peers.free(host, *bound) == ["in use"] * len(bound), leave
        assert len(_ports(story)) == len(bound)
        story.docker(*leave)
        if leave[0] in {"stop", "kill"}:  # answered before the engine has taken the network down
            story.soon(lambda: not _ports(story))
        assert peers.free(host, *bound) == ["free"] * len(bound), leave
        assert _published(story) == before, leave
        if come:
            story.docker(*come)

    story.docker("network", "rm", "mynet")
    assert _ruleset(host) == foreign


def test_a_restart_of_the_daemon_is_not_noticed_by_clients(story: Story, peers: Peers) -> None:
    host = story.testbed.host
    story.network("mynet", *_BOTH)
    story.container("web", "-p", "8080:80", "-p", "8080:80/udp")
    story.container("far", "-p", "8090:90", network="mynet")
    peers.serve("web", 80)
    ports, bound = _ports(story), _targets(8080, *_EVERYWHERE)
    own = _targets(8080, *_own(host))
    assert peers.ask(story.testbed.outside, *own) == _WORLD_SEEN  # the container's IPv6 address is ready
    polls = [
        peers.poll(story.testbed.outside, own[0]),
        peers.poll(story.testbed.outside, own[2]),
        peers.poll(story.testbed.outside, own[1]),
        peers.poll(host, "tcp:127.0.0.1:8080"),
        peers.poll("far", own[0]),
    ]

    story.plugin.restart()
    story.plugin.kill()
    story.plugin.start()

    ends = [poll.end() for poll in polls]
    assert [faults for _, faults in ends] == [[]] * len(polls)
    assert all(answered > 20 for answered, _ in ends)
    assert _ports(story) == ports
    story.soon(lambda: peers.free(host, *bound) == ["in use"] * len(bound), within_s=2)
    assert _who(peers.ask(host, "tcp:[::1]:8080", "udp:[::1]:8080")) == ["web"] * 2
    story.docker("rm", "-f", "web", "far")
    assert peers.free(host, *bound) == ["free"] * len(bound)


def test_a_port_that_was_taken_while_the_daemon_was_away_is_told_with_its_owner(story: Story, peers: Peers) -> None:
    host = story.testbed.host
    story.network("mynet", *_BOTH)
    story.container("web", "-p", "8080:80", "-p", "8081:80")
    peers.serve("web", 80)

    story.plugin.stop()
    thief = peers.hold(host, "tcp:0.0.0.0:8080")
    story.plugin.start()

    view = story.status()
    assert not view["healthy"]
    assert f"{process.name(thief.pid)} (pid {thief.pid})" in json.dumps(view)
    assert peers.free(host, "tcp:[::]:8080", "tcp:0.0.0.0:8081", "tcp:[::]:8081") == ["in use"] * 3
    assert _who(peers.ask(host, "tcp:[::1]:8080", "tcp:[::1]:8081")) == ["web"] * 2
    thief.stop()
    story.plugin.restart()
    assert story.status()["healthy"]
    assert peers.free(host, "tcp:0.0.0.0:8080") == ["in use"]


def test_ports_come_back_with_an_engine_that_was_killed(story: Story, peers: Peers) -> None:
    """The engine takes its containers down when it starts, and starts them anew with the ports of the old ones."""
    own = _targets(8080, *_own(story.testbed.host))
    story.network("mynet", *_BOTH)
    story.container("web", "--restart=always", "-p", "8080:80", "-p", "8080:80/udp")
    before = _where(_ports(story))

    story.engine.kill()
    story.engine.start()

    story.soon(lambda: story.docker("inspect", "--format={{.State.Running}}", "web") == "true", within_s=30)
    story.soon(lambda: _where(_ports(story)) == before)
    peers.serve("web", 80)
    assert peers.ask(story.testbed.outside, *own) == _WORLD_SEEN
    assert story.status()["healthy"]


def test_ports_move_to_the_network_that_becomes_the_way_out(story: Story, peers: Peers) -> None:
    own = _targets(8080, *_own(story.testbed.host))
    story.network("aaa", *_BOTH)
    story.network("bbb", "--ipv6", "--subnet=10.78.0.0/24", "--subnet=fd78::/64")
    story.container("web", "-p", "8080:80", "-p", "8080:80/udp", network="aaa")
    story.docker("network", "connect", "bbb", "web")
    peers.serve("web", 80)

    assert peers.ask(story.testbed.outside, *own) == _WORLD_SEEN
    story.docker("network", "disconnect", "aaa", "web")
    assert peers.ask(story.testbed.outside, *own) == _WORLD_SEEN
    assert {port["address"] for port in _ports(story)} == {
        story.address("web", "bbb"),
        story.address("web", "bbb", field="GlobalIPv6Address"),
    }


def test_a_udp_client_that_keeps_its_port_reaches_the_container_of_now(story: Story, peers: Peers) -> None:
    """The kernel remembers where a client's datagrams went; what it remembers of an old container must end."""
    host = story.testbed.host
    story.network("mynet", *_BOTH)
    places: list[tuple[Namespace, list[str]]] = [
        (story.testbed.outside, _targets(5353, *_own(host))[1::2]),
        (host, ["udp:127.0.0.1:5353"]),
    ]

    def ask_all() -> list[str]:
        """Each time from the same source ports."""
        return [answer for place, asked in places for answer in peers.ask(place, *asked, source_port=40000)]

    assert ask_all() == ["refused"] * 3  # too early; the kernel remembers that as well
    for name, address in [("one", "11"), ("two", "12")]:
        story.container(name, f"--ip=10.77.0.{address}", f"--ip6=fd77::{address}", "-p", "5353:53/udp")
        peers.serve(name, 53)
        assert _who(ask_all()) == [name] * 3
        story.docker("rm", "-f", name)
    assert ask_all() == ["refused"] * 3


# ------------------------------------------------------------------------------------------------- in few words


def _ports(story: Story, container: str = "") -> list[dict[str, Any]]:
    """What mdnp says is published: all, or of one container."""
    ports = story.published()
    endpoints = {one["EndpointID"] for one in _endpoints(story, container)} if container else set()
    return [port for port in ports if not container or port["endpoint"] in endpoints]


def _endpoints(story: Story, container: str) -> list[dict[str, Any]]:
    whole = json.loads(story.docker("inspect", container))
    return list(whole[0]["NetworkSettings"]["Networks"].values())


def _host_port(story: Story, container: str) -> int:
    """The one host port of a container."""
    [port] = {port["host_port"] for port in _ports(story, container)}
    return int(port)


def _where(ports: list[dict[str, Any]]) -> set[tuple[str, str, int]]:
    return {(port["protocol"], port["host_address"], port["host_port"]) for port in ports}


def _own(host: Host) -> tuple[object, object]:
    return host.address.ip, host.address6.ip


def _targets(port: int, *addresses: object) -> list[str]:
    """TCP and UDP at each address."""
    return [target(protocol, address, port) for address in addresses for protocol in ("tcp", "udp")]


def _who(answers: list[str]) -> list[str]:
    """Who answered, whatever it saw; or why nobody did."""
    return [answer.partition(" sees ")[0] for answer in answers]


def _state(story: Story) -> tuple[object, list[str]]:
    """All that a refused start must not have changed."""
    return _published(story), story.docker("ps", "--quiet").split()


def _published(story: Story) -> tuple[str, list[dict[str, Any]]]:
    """What is published, in the kernel's eyes and in mdnp's."""
    return _table(story.testbed.host), _ports(story)


def _table(host: Host) -> str:
    """Our table, but for the order of the elements in a set."""
    text = host.run(["nft", "list", "table", "inet", "mdnp"]).out
    return re.sub(r"elements = \{([^}]*)\}", lambda found: str(sorted(found[1].replace(",", " ").split())), text)


def _ruleset(host: Host) -> str:
    """Everybody's rules, without what they counted."""
    return re.sub(r"packets \d+ bytes \d+", "", host.run(["nft", "list", "ruleset"]).out)


def _not_bound(story: Story, peers: Peers, *ports: int) -> bool:
    targets = [one for port in ports for one in _targets(port, *_EVERYWHERE)]
    return peers.free(story.testbed.host, *targets) == ["free"] * len(targets)
