"""A managed plugin carries networks, keeps them while it is away, and is upgraded from a registry: on real engines."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mdnp
from rig.command import Result, RigError, until
from rig.host import GATEWAY
from rig.image import IMAGE
from rig.managed import ManagedPlugin, serve_registry
from rig.plugin import MDNP
from rig.rootfs import chosen
from rig.testbed import Testbed
from tools import plugin as build

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

PAGE = f"{IMAGE}\n"
NEXT_VERSION = "999.0.0"


@dataclass(frozen=True)
class Story:
    testbed: Testbed
    plugin: ManagedPlugin

    def docker(self, *arguments: str) -> str:
        return self.testbed.engine.docker(*arguments)

    def attempt(self, *arguments: str, feed: bytes = b"") -> Result:
        return self.testbed.engine.attempt(*arguments, feed=feed)

    def begin(self) -> None:
        """A network with addresses of ours, and two containers on it; one is published."""
        driver = self.plugin.driver
        self.docker("network", "create", f"--driver={driver}", f"--ipam-driver={driver}", "mynet")
        self.container("web", "--publish=8080:80", IMAGE, "httpd", "-f", "-h", "/www")
        self.container("db", IMAGE, "sleep", "100000")

    def container(self, name: str, *arguments: str) -> None:
        self.docker("run", "-d", "--name", name, "--net=mynet", "--restart=always", "--stop-signal=KILL", *arguments)

    def pings(self, container: str, target: str) -> bool:
        said = self.testbed.engine.docker("exec", container, "ping", "-c", "2", "-W", "2", target, check=False)
        return " 0% packet loss" in said

    def page(self) -> str:
        """Of the published port, as the outside gets it."""
        url = f"http://{self.testbed.host.address.ip}:8080/"
        return self.testbed.outside.run(["curl", "-sS", "-m", "3", url], check=False).out

    def status(self) -> dict[str, Any]:
        view: dict[str, Any] = json.loads(self.plugin.cli("status", "--json", check=False))
        return view

    def must_carry(self) -> None:
        until(lambda: self.page() == PAGE, "the published port to answer")
        assert self.pings("db", "web"), "by name, on their network"
        assert self.pings("db", str(GATEWAY.ip)), "the outside"

    def must_be_in_sync(self, endpoints: int = 2) -> None:
        until(lambda: bool(self.status()["healthy"]), "mdnp to be in sync")
        assert [one["endpoints"] for one in self.status()["networks"]] == [endpoints]


def once(story: Story) -> None:
    """For what no engine does differently."""
    if story.testbed.engine.version != chosen()[-1]:
        pytest.skip(f"told once, with engine {chosen()[-1]}: no engine does it differently, and a plugin takes long")


@pytest.fixture(scope="module")
def managed(testbed: Testbed) -> Iterator[ManagedPlugin]:
    plugin = ManagedPlugin(testbed.engine, build.build())
    plugin.install()
    yield plugin
    plugin.remove()
    testbed.host.forget_plugin()


@pytest.fixture
def story(testbed: Testbed, managed: ManagedPlugin) -> Iterator[Story]:
    yield Story(testbed, managed)
    testbed.engine.attempt("plugin", "enable", managed.name)
    testbed.engine.clear()


def test_it_is_asked_to_grant_little_and_has_the_size_that_is_told() -> None:
    told = build.config()
    assert told["linux"] == {"capabilities": ["CAP_NET_ADMIN"]}
    assert "pidhost" not in told
    assert build.size(build.build()).unpacked < 64e6


def test_it_carries_networks_that_the_host_s_mdnp_sees_and_its_own(story: Story) -> None:
    story.begin()
    story.must_carry()
    story.must_be_in_sync()
    assert "in sync" in story.plugin.inside("mdnp", "status").checked().out
    rules = story.testbed.host.run(["iptables", "-S", "DOCKER-USER"]).out
    assert "mdnp" in rules, "of the kind of iptables that Docker has"


def test_the_host_s_doctor_finds_it_well(story: Story) -> None:
    """It sees other folders than the plugin, whose state is Docker's to keep."""
    story.begin()
    host = story.testbed.host
    env = {"MDNP_RUNTIME_DIR": str(host.folder / "mdnp"), "MDNP_DOCKER_HOST": f"unix://{host.docker_socket}"}
    result = host.run([MDNP, "doctor", "--json"], check=False, env=env)
    verdicts = {one["name"]: one["verdict"] for one in json.loads(result.out)["checks"]}
    ours = ("daemon-answers", "plugin-socket", "duplicate-plugin", "docker-answers", "kernel-in-sync", "orphans")
    assert {name: verdicts[name] for name in (*ours, "permissions", "foreign-rules")} == dict.fromkeys(
        (*ours, "permissions", "foreign-rules"), "ok"
    ), result.out


def test_while_it_is_disabled_containers_go_on_and_their_network_stays(story: Story) -> None:
    story.begin()
    story.must_carry()
    assert "in use" in story.attempt("plugin", "disable", "mdnp").said
    story.plugin.disable()
    story.must_carry()
    story.plugin.enable()
    story.must_be_in_sync()
    story.container("new", IMAGE, "sleep", "100000")
    assert story.pings("new", "web")
    story.must_be_in_sync(endpoints=3)


def test_it_is_there_before_the_networks_when_the_engine_starts(story: Story) -> None:
    once(story)
    story.begin()
    story.testbed.engine.restart()
    story.must_carry()
    story.must_be_in_sync()


def test_state_that_went_with_a_removed_plugin_is_found_again_under_running_containers(story: Story) -> None:
    once(story)
    story.begin()
    story.plugin.disable()
    story.plugin.remove()
    story.must_carry()
    story.plugin.install()
    story.must_carry()
    story.must_be_in_sync()
    story.docker("restart", "db")
    story.must_carry()


def test_an_upgrade_from_a_registry_keeps_state_and_running_containers(story: Story) -> None:
    story.plugin.remove()
    registry = serve_registry(story.testbed.engine)
    first = story.plugin.push("1")
    second = story.plugin.push("2", _as_next_version)
    asked = story.attempt("plugin", "install", first, feed=b"n\n").said
    assert [line for line in asked.splitlines() if line.startswith(" - ")] == [
        " - network: [host]",
        " - mount: [/run]",
        " - mount: [/proc/sys/net]",
        " - capabilities: [CAP_NET_ADMIN]",
    ]
    story.docker(
        *("plugin", "install", "--grant-all-permissions", "--alias", story.plugin.name, first),
        *(story.plugin.run_folder, "MDNP_GRACE=77"),
    )
    story.begin()
    story.must_carry()
    before = _version(story), story.status()["networks"], story.plugin.cli("pool", "ls")

    story.plugin.disable()
    story.docker("plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", story.plugin.name, second)
    story.must_carry()
    story.docker("plugin", "set", story.plugin.name, story.plugin.run_folder)  # where a mount is from is forgotten
    story.plugin.enable()
    story.must_carry()
    story.must_be_in_sync()

    assert before[0] == mdnp.__version__
    assert (_version(story), story.status()["networks"], story.plugin.cli("pool", "ls")) == (NEXT_VERSION, *before[1:])
    assert json.loads(story.plugin.cli("config", "--json"))["grace"] == "77", "what was set in the environment stays"
    registry.stop()


def test_a_second_daemon_on_the_host_is_refused_before_it_takes_anything_away(story: Story) -> None:
    once(story)
    story.begin()
    second = story.testbed.plugin()
    with pytest.raises(RigError, match="another mdnp serves this host's networks"):
        second.start()
    story.must_carry()
    story.must_be_in_sync()


def test_it_uses_the_legacy_iptables_where_docker_s_chain_is_theirs(story: Story) -> None:
    once(story)
    host = story.testbed.host
    for program in ("iptables", "ip6tables"):
        host.run([f"{program}-legacy", "-N", "DOCKER-USER"])
        host.run([f"{program}-legacy", "-A", "DOCKER-USER", "-m", "comment", "--comment", "legacy", "-j", "RETURN"])
        assert "legacy" in story.plugin.inside(program, "-S", "DOCKER-USER").checked().out
        host.run([f"{program}-legacy", "-F", "DOCKER-USER"])
        host.run([f"{program}-legacy", "-X", "DOCKER-USER"])
    assert "legacy" not in story.plugin.inside("iptables", "-S", "DOCKER-USER").checked().out


def _version(story: Story) -> str:
    return str(json.loads(story.plugin.cli("version", "--json"))["daemon"])


def _as_next_version(root: Path) -> None:
    [package] = root.glob("usr/lib/python3/dist-packages/mdnp")
    (package / "__init__.py").write_text(f'__version__ = "{NEXT_VERSION}"\n')  # goes before what is compiled
