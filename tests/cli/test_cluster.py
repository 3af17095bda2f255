"""The commands for hosts, and for networks on all of them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mdnp.admin.cluster import Cluster
from mdnp.cli import cluster
from mdnp.member import About, Alone, DeclaredNetwork, DeclaredSubnet, KnownHost, Liveness, Remark
from mdnp.model.host import HostID
from tests.admin.door import open_admin
from tests.cli.terminal import Terminal, opened
from tests.declared.registry import FakeRegistry, a_host
from tests.world import World

ONE, TWO, THREE = (a_host(number) for number in (1, 2, 3))
ALIVE = (KnownHost(ONE, Liveness.ALIVE), KnownHost(TWO, Liveness.ALIVE))
GONE = KnownHost(THREE, Liveness.GONE)
BLUE = DeclaredNetwork("blue", (DeclaredSubnet("10.60.0.0/16"),))


class Hosts(FakeRegistry):
    """What each host tells as soon as something is declared or withdrawn."""

    def __init__(self, *known: KnownHost) -> None:
        super().__init__(None, *known)
        self.says: dict[HostID, str | None] = {}

    async def declare(self, network: DeclaredNetwork) -> None:
        await super().declare(network)
        self._tell(network.name)

    async def undeclare(self, name: str) -> None:
        await super().undeclare(name)
        self._tell(name)

    def _tell(self, name: str) -> None:
        told = {host: said for host, said in self.says.items() if said is not None}
        self.wall.outcomes[name] = told


@pytest.fixture
def hosts() -> Hosts:
    return Hosts(*ALIVE, GONE)


@pytest.fixture
async def door(world: World, terminal: Terminal, hosts: Hosts) -> AsyncIterator[Hosts]:
    admin = await open_admin(world, cluster=Cluster(hosts, Alone(), ("http://192.0.2.9:2379",), lambda: None))
    async with opened(admin, terminal):
        yield hosts


@pytest.mark.usefixtures("door")
async def test_hosts_are_listed(terminal: Terminal) -> None:
    said = await terminal.mdnp("host", "ls")

    assert (said.code, said.lines) == (
        0,
        [
            ["HOST", "ID", "VTEP", "STATE", "SEGMENTS", "ENDPOINTS", "BLOCKS"],
            ["host1", ONE.id, "192.0.2.1", "alive", "0", "0", "0"],
            ["host2", TWO.id, "192.0.2.2", "alive", "0", "0", "0"],
            ["host3", THREE.id, "192.0.2.3", "gone", "0", "0", "0"],
            ["#", "this", "is", "host1"],
        ],
    )
    assert (await terminal.mdnp("host")).out == said.out
    assert [one["name"] for one in (await terminal.mdnp("host", "ls", "--json")).value] == ["host1", "host2", "host3"]


@pytest.mark.usefixtures("door")
async def test_a_host_is_inspected(terminal: Terminal) -> None:
    said = await terminal.mdnp("host", "inspect", "host3")

    assert said.code == 0
    assert ["vtep", "192.0.2.3"] in said.lines
    assert ["liveness", "gone"] in said.lines


async def test_a_host_is_shown_before_it_is_removed_and_only_on_a_yes(
    door: Hosts, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", _Answer("n"))
    refused = await terminal.mdnp("host", "remove", "host3")
    before = list(door.removed)
    removed = await terminal.mdnp("host", "remove", "host3", "--yes")

    assert (refused.code, before) == (1, [])
    assert ["name", "host3"] in refused.lines
    assert (removed.code, door.removed) == (0, [(THREE.id, False)])
    assert removed.out.endswith(f"removed host3 {THREE.id}: its addresses and blocks are free\n")


async def test_a_living_host_is_only_removed_by_force(door: Hosts, terminal: Terminal) -> None:
    refused = await terminal.mdnp("host", "remove", "host2", "--yes")
    await terminal.mdnp("host", "remove", "host2", "--yes", "--force")

    assert (refused.code, refused.err) == (1, "mdnp: host host2 is alive: stop its daemon first\n")
    assert door.removed == [(TWO.id, True)]


async def test_a_network_is_made_on_each_host_that_is_alive(door: Hosts, terminal: Terminal) -> None:
    door.says = {ONE.id: "", TWO.id: ""}

    said = await terminal.mdnp("network", "create", "blue", "--subnet", "10.60.0.0/16")

    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "host1  made",
        "host2  made",
        "host3  pending: the host is not alive (gone); done when it returns",
    ]
    assert door.declared == {"blue": DeclaredNetwork("blue", BLUE.subnets, {"mdnp.mode": "overlay"})}


async def test_all_options_reach_the_daemon(door: Hosts, terminal: Terminal) -> None:
    door.says = {ONE.id: "", TWO.id: ""}

    said = await terminal.mdnp(
        *("network", "create", "blue", "--subnet", "10.60.0.0/16", "--subnet", "fd60::/64", "--gateway", "10.60.0.254"),
        *("--ip-range", "10.60.128.0/17", "--aux-address", "printer=10.60.0.9", "-o", "mdnp.multicast=off"),
        *("--label", "team=a=b", "--internal", "--ipv6", "--json"),
    )

    assert (said.code, said.value["subnets"]) == (0, ["10.60.0.0/16", "fd60::/64"])
    assert door.declared["blue"] == DeclaredNetwork(
        "blue",
        (
            DeclaredSubnet("10.60.0.0/16", "10.60.0.254", "10.60.128.0/17", {"printer": "10.60.0.9"}),
            DeclaredSubnet("fd60::/64"),
        ),
        {"mdnp.mode": "overlay", "mdnp.multicast": "off"},
        internal=True,
        labels={"team": "a=b"},
    )


async def test_a_host_that_cannot_make_it_is_trouble(door: Hosts, terminal: Terminal) -> None:
    door.says = {ONE.id: "", TWO.id: "10.60.0.0/16 overlaps a route"}

    said = await terminal.mdnp("network", "create", "blue", "--subnet", "10.60.0.0/16")

    assert said.code == 1
    assert said.out.splitlines()[1] == "host2  failed: 10.60.0.0/16 overlaps a route"


async def test_a_host_that_says_nothing_is_not_waited_for_for_ever(
    door: Hosts, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_WAIT_S", 0.0)
    door.says = {ONE.id: ""}

    said = await terminal.mdnp("network", "create", "blue", "--subnet", "10.60.0.0/16")

    assert said.code == 1
    assert said.out.splitlines()[1].startswith("host2  pending: nothing heard of it in 0 s")


async def test_what_becomes_known_later_is_shown_then(door: Hosts, terminal: Terminal) -> None:
    door.says = {ONE.id: ""}
    running = asyncio.create_task(terminal.mdnp("network", "create", "blue", "--subnet", "10.60.0.0/16"))
    async with asyncio.timeout(10):
        while "blue" not in door.wall.outcomes:  # noqa: ASYNC110  # the command runs in a thread
            await asyncio.sleep(0.01)
    door.wall.outcomes["blue"][TWO.id] = ""

    said = await running

    assert (said.code, said.out.splitlines()[:2]) == (0, ["host1  made", "host2  made"])


async def test_a_network_is_removed_and_who_still_has_it_is_named(door: Hosts, terminal: Terminal) -> None:
    await door.declare(BLUE)
    door.says = {TWO.id: "not removed: network blue has active endpoints", THREE.id: ""}

    said = await terminal.mdnp("network", "rm", "blue")

    assert said.code == 1
    assert said.out.splitlines() == [
        "host1  removed",
        "host2  failed: not removed: network blue has active endpoints",
        "host3  pending: the host is not alive (gone); done when it returns",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["rm", "blue"], 1, "mdnp: no network 'blue' is declared"),
        (["create", "blue", "--subnet", "10.60.0.1/16"], 1, "mdnp: Pool 10.60.0.1/16: host bits are set"),
        (["create", "blue", "--subnet", "10.60.0.0/16", "-o", "x"], 2, "mdnp: 'x': expected KEY=VALUE"),
        (["create", "blue"], 2, "Usage: mdnp network create"),
    ],
)
async def test_what_cannot_be_is_refused(
    door: Hosts, terminal: Terminal, arguments: list[str], code: int, says: str
) -> None:
    said = await terminal.mdnp("network", *arguments)

    assert (said.code, said.err[: len(says)], dict(door.declared)) == (code, says, {})


@pytest.mark.parametrize(
    ("facts", "code", "line"),
    [
        ({}, 0, "# cluster: in it for 1 min, 2 of 3 hosts alive, epoch 1; etcd at http://192.0.2.9:2379"),
        (
            {"connected": False, "healthy_s": None, "trouble": "no etcd answers: http://192.0.2.9:2379: refused"},
            1,
            "# cluster: what is here goes on; last known: 2 of 3 hosts alive",
        ),
        (
            {"waiting": ("host2",)},
            1,
            (
                "# cluster: etcd lost its data or was restored; host2 has not told yet what it has, and until then no"
                " segment or block is new: start it, or `mdnp host remove` it"
            ),
        ),
        ({"pending": 3}, 0, "# cluster: 3 rows of this host not told yet"),
        ({"remarks": (Remark(About.BLOCK, "10.60.1.0/24 has two"),)}, 1, "# cluster: block: 10.60.1.0/24 has two"),
    ],
)
async def test_the_status_says_how_the_cluster_is(
    door: Hosts, terminal: Terminal, facts: dict[str, Any], code: int, line: str
) -> None:
    door.facts = facts

    said = await terminal.mdnp("status")

    assert line in said.out.splitlines()
    assert (said.code, said.out.splitlines()[-1].endswith("in sync")) == (code, True)


async def test_the_status_says_which_host_could_not_make_a_network(door: Hosts, terminal: Terminal) -> None:
    door.says = {TWO.id: "no room"}
    await door.declare(BLUE)

    said = await terminal.mdnp("status")

    assert said.code == 1
    assert "# network blue on host2: no room" in said.out.splitlines()
    assert json.loads((await terminal.mdnp("status", "--json")).out)["cluster"]["healthy"] is False


class _Answer:
    """Standard input with one line."""

    def __init__(self, line: str) -> None:
        self._line = line

    def readline(self, *_: object) -> str:
        return f"{self._line}\n"

    def fileno(self) -> int:
        raise OSError("no file")

    def isatty(self) -> bool:
        return False
