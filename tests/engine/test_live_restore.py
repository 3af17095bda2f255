"""
The engine goes and comes under running containers (live-restore), and things go of which it tells nobody.

What an engine cannot do here every time, as one of version 29 that sends no RevokeExternalConnectivity after its
restart, a relay between it and the plugin plays.
"""

import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from rig.command import run
from rig.engine import Engine
from rig.host import GATEWAY, Host, Underlay
from rig.plugin import Plugin
from rig.rootfs import chosen
from rig.sandbox import Run
from rig.testbed import Testbed
from tests.engine.conftest import Story
from tests.engine.peers import Peers, target

pytestmark = [pytest.mark.engine, pytest.mark.root]

_OWN = ("--ipam-driver=mdnp", "--ipv6", "--subnet=10.77.0.0/24", "--subnet=fd77::/64")
_DOCKER_S = ("--subnet=10.78.0.0/24",)
_REVOKE = "RevokeExternalConnectivity"
_NOWHERE = "unix:///nowhere/docker.sock"
# An engine that starts takes the jump to DOCKER-USER out of FORWARD, and puts it in again with its next command: in
# those few milliseconds, twice in the story, the policy DROP is all that is left.
_LOST_TO_THE_ENGINE = 2
_COLLECTED_S = 20.0  # two listings three seconds apart, after a grace of one


# --------------------------------------------------------------------------------------------------- the fixtures


class Relay(ThreadingMixIn, UnixStreamServer):
    """Stands where the engine looks for the plugin and hands its calls on, but for the `swallowed` verbs."""

    daemon_threads = True

    def __init__(self, path: Path, behind: Path) -> None:
        path.unlink(missing_ok=True)
        super().__init__(str(path), _Call)
        self.behind = behind
        self.swallowed: set[str] = set()
        self.refused: list[str] = []
        self.away = False  # then every call fails at once; where nobody listened, Docker would try for 15 s
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def answer(self, path: str, body: bytes) -> bytes:
        if self.away:
            self.refused.append(path.rpartition(".")[2])
            return b'HTTP/1.0 503 Away\r\n\r\n{"Err": "away", "Error": "away"}'
        if path.rpartition(".")[2] in self.swallowed:
            return b"HTTP/1.0 200 OK\r\n\r\n{}"
        with socket.socket(socket.AF_UNIX) as plugin:
            plugin.connect(str(self.behind))
            plugin.sendall(f"POST {path} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            return b"".join(iter(lambda: plugin.recv(65536), b""))

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Call(BaseHTTPRequestHandler):
    """One to a connection."""

    server: Relay

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        with suppress(OSError):  # without an answer the connection just ends
            self.wfile.write(self.server.answer(self.path, body))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module", params=chosen())
def testbed(request: pytest.FixtureRequest) -> Iterator[Testbed]:
    with Run() as run:
        host = Host(Underlay(run))
        engine = Engine(host, request.param, live_restore=True)
        engine.start()
        yield Testbed(host, engine)


@pytest.fixture
def relay(testbed: Testbed) -> Iterator[Relay]:
    behind = testbed.host.runtime / "behind"
    behind.mkdir()
    relay = Relay(testbed.host.plugins / "mdnp.sock", behind / "mdnp.sock")
    yield relay
    relay.close()


@pytest.fixture
def plugin(testbed: Testbed, relay: Relay) -> Iterator[Plugin]:
    """It finds soon what nobody has."""
    plugin = testbed.plugin(options=("--socket", str(relay.behind)), env={"MDNP_GRACE": "1"})
    plugin.socket = relay.behind
    plugin.start()
    yield plugin
    relay.away = False
    if not testbed.engine.running:
        testbed.engine.start()
    if not plugin.running:
        plugin.start()
    testbed.engine.clear()
    plugin.stop()
    testbed.host.forget_plugin()


@pytest.fixture
def peers(story: Story) -> Iterator[Peers]:
    with Peers(story.testbed) as peers:
        yield peers


# ---------------------------------------------------------------------------------------------------- the stories


def test_traffic_goes_on_without_the_engine_and_containers_end_in_order_after_it(
    story: Story, relay: Relay, peers: Peers
) -> None:
    host = story.testbed.host
    story.network("mynet", *_OWN)
    names = ["web", "db1", *(f"end{number}" for number in range(6))]
    for number, name in enumerate(names):
        story.container(name, "-p", f"{8080 + number}:80")
    peers.serve("web", 80)
    pings = [peers.ping("db1", story.address("web")), peers.ping("web", str(GATEWAY.ip))]
    clients = [
        peers.poll(story.testbed.outside, target("tcp", address, 8080), every_s=0.05)
        for address in (host.address.ip, host.address6.ip)
    ]

    pid = story.docker("inspect", "--format={{.State.Pid}}", "db1")

    story.engine.restart()
    _end_three(story, peers, names[2:5])
    answered = _answers_names(story.engine, pid)
    story.engine.kill()
    assert (answered, _answers_names(story.engine, pid)) == (True, False)  # the engine answers them itself
    story.plugin.restart()
    story.engine.start()
    relay.swallowed = {_REVOKE}
    _end_three(story, peers, names[5:])

    assert [lost for one in pings if len(lost := one.end()[1]) > _LOST_TO_THE_ENGINE] == []
    assert [one.end()[1] for one in clients] == [[], []]
    assert story.pings("db1", "web")  # by name
    assert story.held("10.77.0.0/24") == {story.address("web"), story.address("db1")}
    assert story.status()["healthy"]


def test_ports_move_with_the_way_out_although_nothing_is_revoked(story: Story, relay: Relay, peers: Peers) -> None:
    own = target("tcp", story.testbed.host.address.ip, 8080)
    story.network("mynet", *_OWN)
    story.network("aaa", "--ipv6", "--subnet=fd78::/64", *_DOCKER_S)
    story.container("web", "-p", "8080:80")
    peers.serve("web", 80)
    story.engine.restart()
    relay.swallowed = {_REVOKE}

    story.docker("network", "connect", "aaa", "web")
    assert story.address("web", "aaa") in {one["address"] for one in story.published()}
    assert peers.ask(story.testbed.outside, own) == [f"web sees {GATEWAY.ip}"]
    story.docker("network", "disconnect", "aaa", "web")
    assert {one["address"] for one in story.published() if one["by"] == "nat"} == {
        story.address("web"),
        story.address("web", field="GlobalIPv6Address"),
    }
    assert peers.ask(story.testbed.outside, own) == [f"web sees {GATEWAY.ip}"]
    assert story.status()["healthy"]


def test_of_containers_that_died_without_the_engine_nothing_is_left(story: Story) -> None:
    """Where addresses are Docker's own, an engine that starts says nothing of them: the plugin asks."""
    story.network("mynet", *_OWN)
    story.network("plain", *_DOCKER_S)
    before = {}
    for number, network in enumerate(("mynet", "plain")):
        for name, restart in (("gone", "no"), ("back", "always")):
            port = 8080 + 2 * number + (name == "back")
            story.container(f"{name}-{network}", f"--restart={restart}", "-p", f"{port}:80", network=network)
            before[f"{name}-{network}"] = _attached(story, f"{name}-{network}", network, port)
    pids = [story.docker("inspect", "--format={{.State.Pid}}", name) for name in before]

    story.engine.kill()
    _kill_in(story.engine, pids)
    story.engine.start()

    back = [("back-mynet", "mynet"), ("back-plain", "plain")]
    story.soon(lambda: len(story.docker("ps", "--quiet").split()) == 2, _COLLECTED_S)
    now = {story.settings(name, network)["EndpointID"] for name, network in back}
    story.soon(lambda: {one["id"] for one in _listed(story, "endpoint")} == now, _COLLECTED_S)
    assert {(one["container"], one["host_port"]) for one in story.published()} == {
        ("back-mynet", 8081),
        ("back-plain", 8083),
    }
    story.soon(lambda: _links_left(story, list(before.values())) == [])
    assert story.held("10.77.0.0/24") == {story.address("back-mynet")}
    assert story.status()["healthy"]
    story.docker("start", "gone-mynet", "gone-plain")
    assert len(_listed(story, "endpoint")) == 4


def test_what_went_unheard_is_told_by_gc_and_removed_by_it_if_docker_can_be_asked(
    story: Story, relay: Relay, peers: Peers
) -> None:
    """The engine has never listed this network while the plugin could ask, so nothing of it goes unasked."""
    docker_host = story.plugin.env["MDNP_DOCKER_HOST"]
    story.plugin.env["MDNP_DOCKER_HOST"] = _NOWHERE
    story.plugin.restart()
    identity = story.network("mynet", *_OWN)
    ends = []
    for number, name in enumerate(("web", "db1")):
        story.container(name, "-p", f"{8080 + number}:80")
        ends.append(_attached(story, name, "mynet", 8080 + number))
    relay.away = True
    story.docker("rm", "-f", "web", "db1")
    story.docker("network", "rm", "mynet")
    story.soon(lambda: relay.refused.count("DeleteEndpoint") == 2)
    relay.away = False
    links = story.links()
    assert links >= {one.link for one in ends}

    for command in (("gc", "--plan"), ("gc",)):
        refused = story.plugin.attempt(*command)
        assert refused.code == 1
        assert _NOWHERE.removeprefix("unix://") in refused.said
    assert story.links() == links
    story.plugin.env["MDNP_DOCKER_HOST"] = docker_host
    story.plugin.restart()

    expected = [f"endpoint {one.id} of {identity}" for one in ends] + [f"network {identity}"]
    planned = story.plugin.cli("gc", "--plan")
    assert [one for one in expected if f"would free {one}, since" not in planned] == []
    assert story.links() == links
    freed = story.plugin.cli("gc")
    assert [one for one in expected if f"freed {one}, since" not in freed] == []
    story.soon(story.is_clean)
    assert [_traces(story, peers, one) for one in ends] == [[], []]


def test_what_an_engine_that_lost_its_state_has_forgotten_goes_on_its_own(story: Story, peers: Peers) -> None:
    story.network("mynet", *_OWN)
    ends = []
    for number, name in enumerate(("web", "db1")):
        story.container(name, "-p", f"{8080 + number}:80")
        ends.append(_attached(story, name, "mynet", 8080 + number))
    story.plugin.cli("gc", "--plan")  # looks, if it has not looked yet
    story.engine.kill()
    for folder in ("network", "containers"):
        shutil.rmtree(story.testbed.host.data_root / folder)

    story.engine.start()

    assert story.docker("ps", "--all", "--quiet") == ""
    story.soon(lambda: story.status()["networks"] == [], _COLLECTED_S)
    story.plugin.cli("gc")  # a pool that no network of this engine was seen to have is left to this
    story.soon(story.is_clean)
    assert [_traces(story, peers, one) for one in ends] == [[], []]


# ------------------------------------------------------------------------------------------------- in few words


@dataclass(frozen=True)
class Attached:
    """An endpoint as it was, and the host port that led to it."""

    id: str
    addresses: tuple[str, ...]
    port: int

    @property
    def link(self) -> str:
        return f"mdv-{self.id[:11]}"


def _attached(story: Story, container: str, network: str, port: int) -> Attached:
    settings = story.settings(container, network)
    addresses = (settings["IPAddress"], settings["GlobalIPv6Address"])
    return Attached(settings["EndpointID"], tuple(one for one in addresses if one), port)


def _end_three(story: Story, peers: Peers, names: list[str]) -> None:
    """Each in another way: nothing of it is left, and its host port is free."""
    ways = [("network", "disconnect", "mynet"), ("stop",), ("rm", "-f")]
    for way, name in zip(ways, names, strict=True):
        [port] = {one["host_port"] for one in story.published() if one["container"] == name}
        attached = _attached(story, name, "mynet", port)
        assert _traces(story, peers, attached) != []
        story.docker(*way, name)
        story.soon(lambda attached=attached: _links_left(story, [attached]) == [])  # type: ignore[misc]
        assert _traces(story, peers, attached) == [], " ".join(way)


def _traces(story: Story, peers: Peers, one: Attached) -> list[str]:
    """What there is of an endpoint: in mdnp's eyes, in nft's, in those of a process that wants its port."""
    rules = story.testbed.host.run(["nft", "list", "ruleset"]).out
    free = peers.free(story.testbed.host, f"tcp:0.0.0.0:{one.port}", f"tcp:[::]:{one.port}")
    held = {row["address"] for pool in story.pools() for row in story.pool(pool["id"])["addresses"]}
    return [
        *(word for word in (one.link, *one.addresses) if re.search(rf"(?<![\w:.]){re.escape(word)}(?![\w:./])", rules)),
        *(f"port {one.port}" for answer in free if answer != "free"),
        *(f"endpoint {row['id']}" for row in _listed(story, "endpoint") if row["id"] == one.id),
        *(f"address {address}" for address in one.addresses if address in held),
        *_links_left(story, [one]),
    ]


def _links_left(story: Story, ends: list[Attached]) -> list[str]:
    return sorted(story.links() & {one.link for one in ends})


def _listed(story: Story, noun: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(story.plugin.cli(noun, "ls", "--json"))
    return rows


def _answers_names(engine: Engine, pid: str) -> bool:
    """Whether who asks for a name in a container gets an answer."""
    inside = ["nsenter", f"--target={engine.cell.holder}", "--pid", "--mount"]
    container = ["nsenter", f"--target={pid}", "--net", "--mount"]
    return run([*inside, *container, "timeout", "2", "nslookup", "web", "127.0.0.11"], check=False).code == 0


def _kill_in(engine: Engine, pids: list[str]) -> None:
    """Processes of containers, by the pids that the engine sees."""
    run(["nsenter", f"--target={engine.cell.holder}", "--pid", "--", "sh", "-c", f"kill -9 {' '.join(pids)}"])
