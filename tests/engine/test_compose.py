"""The examples of docs/compose, with the real Compose on real engines: up, reached, scaled, down, nothing left."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rig.command import Result
from rig.compose import Compose
from rig.host import GATEWAY, GATEWAY6, Namespace
from rig.image import IMAGE
from tests.engine.conftest import Story

pytestmark = pytest.mark.engine

EXAMPLES = Path(__file__).parents[2] / "docs/compose"

Project = Callable[[str], Compose]


@pytest.fixture
def project(story: Story) -> Iterator[Project]:
    """Takes an example up; it is taken down and leaves nothing."""
    up: list[Compose] = []

    def take_up(name: str) -> Compose:
        compose = Compose(story.engine, EXAMPLES / f"{name}.yaml", {"IMAGE": IMAGE})
        up.append(compose)
        compose("up", "--detach")
        return compose

    yield take_up
    for compose in up:
        compose("down")
    assert story.docker("ps", "--all", "--quiet") == ""
    assert story.docker("network", "ls", "--quiet", "--filter", "type=custom") == ""
    story.must_be_clean()


def curl(place: Namespace, url: str) -> Result:
    return place.run(["curl", "-sS", "-g", "-m", "3", url], check=False)


def soon_serves(story: Story, place: Namespace, url: str, text: str) -> None:
    story.soon(lambda: curl(place, url).out == text)


def inside(compose: Compose, service: str, command: str) -> Result:
    return compose.attempt("exec", "-T", service, "sh", "-c", command)


def page(compose: Compose, service: str, server: str) -> str:
    """What a server says to a service, with the little that an image of one busybox has for that."""
    return inside(compose, service, f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {server} 80").out


def names(compose: Compose, name: str) -> set[str]:
    """The IPv4 addresses that a client is told for a name."""
    lines = inside(compose, "client", f"nslookup {name} 127.0.0.11").out.splitlines()
    found = [line.split()[-1] for line in lines if line.startswith("Address")]
    return {one for one in found if "." in one and ":" not in one}


def ports(story: Story) -> set[int]:
    return {row["host_port"] for row in json.loads(story.plugin.cli("port", "ls", "--json"))}


def test_every_example_is_told_here() -> None:
    told = Path(__file__).read_text()

    assert [one.name for one in EXAMPLES.glob("*.yaml") if f'project("{one.stem}")' not in told] == []


def test_a_web_server_reaches_its_database_by_name_and_only_it_is_reached(story: Story, project: Project) -> None:
    shop = project("web-and-db")
    host = story.testbed.host.address.ip

    soon_serves(story, story.testbed.outside, f"http://{host}:8080/", "shop\n")
    soon_serves(story, story.testbed.host, "http://127.0.0.1:8443/", "shop\n")
    assert curl(story.testbed.outside, f"http://{host}:8443/").code != 0
    story.soon(lambda: inside(shop, "web", "nc -w 2 db 5432").out == "the database\n")
    story.soon(lambda: inside(shop, "web", "nc -w 2 database 5432").out == "the database\n")
    assert ports(story) == {8080, 8443}

    before = story.docker("ps", "--quiet")
    shop("up", "--detach")
    assert story.docker("ps", "--quiet") == before
    shop("restart")
    soon_serves(story, story.testbed.outside, f"http://{host}:8080/", "shop\n")


def test_a_proxy_stands_between_a_front_and_an_internal_back(story: Story, project: Project) -> None:
    shop = project("front-and-back")

    soon_serves(story, story.testbed.outside, f"http://{story.testbed.host.address.ip}:8081/", "proxy\n")
    story.soon(lambda: page(shop, "proxy", "app").endswith("app\n"))
    story.soon(lambda: curl(story.testbed.host, "http://10.91.0.11/").code == 0)
    assert page(shop, "proxy", "10.91.0.11") == ""

    assert inside(shop, "neighbour", f"ping -c 1 -W 2 {GATEWAY.ip}").code == 0
    assert inside(shop, "neighbour", "ping -c 1 -W 1 10.92.0.20").code != 0
    assert "default" not in inside(shop, "app", "ip route").out
    assert "10.91.0.10/24" in inside(shop, "proxy", "ip -4 address").out
    links = json.loads(story.testbed.host.run(["ip", "-json", "link", "show", "dev", "shop-front"]).out)
    assert links[0]["mtu"] == 1400


def test_both_families_have_names_ports_and_a_way_out(story: Story, project: Project) -> None:
    both = project("dual-stack")
    host = story.testbed.host

    for address in (host.address.ip, f"[{host.address6.ip}]"):
        soon_serves(story, story.testbed.outside, f"http://{address}:8082/", "both\n")
    for family, beyond in (("-4", GATEWAY.ip), ("-6", GATEWAY6.ip)):
        assert inside(both, "client", f"ping {family} -c 1 -W 2 web").code == 0
        assert inside(both, "client", f"ping {family} -c 1 -W 2 {beyond}").code == 0
    assert story.address("compose-web-1", "compose_both", "GlobalIPv6Address") == "fd93::10"


def test_replicas_share_a_name_and_take_the_ports_of_a_range(story: Story, project: Project) -> None:
    workers = project("replicas")
    host = story.testbed.host.address.ip

    story.soon(lambda: len(names(workers, "worker")) == 3)
    assert ports(story) == {9000, 9001, 9002}
    urls = [f"http://{host}:{port}/" for port in (9000, 9001, 9002)]
    story.soon(lambda: all(curl(story.testbed.outside, url).code == 0 for url in urls))
    assert len({curl(story.testbed.outside, url).out for url in urls}) == 3

    workers("up", "--detach", "--scale", "worker=5")
    story.soon(lambda: len(names(workers, "worker")) == 5)
    workers("up", "--detach", "--scale", "worker=1")
    story.soon(lambda: len(names(workers, "worker")) == 1 and len(ports(story)) == 1)

    refused = workers.attempt("up", "--detach", "--scale", "worker=11")
    assert refused.code != 0
    assert "no port of the range is free" in refused.said
    assert story.status()["healthy"]


def test_a_changed_option_makes_the_network_anew_and_a_network_made_beforehand_is_shared(
    story: Story, tmp_path: Path
) -> None:
    file = tmp_path / "compose.yaml"
    service = {"image": IMAGE, "command": "sleep 1000000", "stop_signal": "SIGKILL", "networks": ["own", "shared"]}
    own: dict[str, object] = {"driver": "mdnp", "ipam": {"driver": "mdnp"}}
    networks = {"own": own, "shared": {"name": "mynet", "external": True}}
    one, other = (Compose(story.engine, file, {"COMPOSE_PROJECT_NAME": name}) for name in ("one", "other"))
    story.network("mynet", "--ipam-driver=mdnp")

    file.write_text(json.dumps({"services": {"web": service}, "networks": networks}))
    one("up", "--detach")
    other("up", "--detach")
    assert story.pings("one-web-1", "other-web-1")

    own["driver_opts"] = {"com.docker.network.driver.mtu": "1400"}
    file.write_text(json.dumps({"services": {"web": service}, "networks": networks}))
    one("up", "--detach")
    assert "mtu 1400" in story.inside("one-web-1", "ip link")
    assert story.pings("one-web-1", "other-web-1")

    one("down")
    other("down")
    assert [row["name"] for row in json.loads(story.plugin.cli("network", "ls", "--json"))] == ["mynet"]
