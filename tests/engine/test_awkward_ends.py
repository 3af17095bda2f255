"""What nobody plans for: state damaged or gone, links deleted by hand, and what keeps the daemon from starting."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mdnp.store.sqlite import FILE
from rig.command import Result, run
from rig.host import GATEWAY
from rig.plugin import MDNP
from tests.engine.conftest import Story
from tests.engine.peers import Peers, target

pytestmark = pytest.mark.engine

_BOTH = ("--ipv6", "--subnet=10.77.0.0/24", "--subnet=fd77::/64")
_SOON_S = 2.0
_ASIDE = re.compile(rf"{re.escape(FILE)}\.damaged-\d{{8}}T\d{{6}}Z")


@pytest.fixture
def peers(story: Story) -> Iterator[Peers]:
    with Peers(story.testbed) as peers:
        yield peers


@pytest.fixture(autouse=True)
def _usable(story: Story) -> Iterator[None]:
    """A story that failed half way must not fail the next: the daemon then starts without what is damaged."""
    yield
    if not story.plugin.running:
        shutil.rmtree(story.testbed.host.state, ignore_errors=True)


# ------------------------------------------------------------------------------------------------- lost state


def test_state_that_is_damaged_or_gone_is_put_together_again_under_traffic(story: Story, peers: Peers) -> None:
    state = story.testbed.host.state
    host = story.testbed.host
    _many_kinds(story)
    peers.serve("web", 80)
    pings = [peers.ping("web", story.address("db1")), peers.ping("db1", str(GATEWAY.ip))]
    clients = [
        peers.poll(story.testbed.outside, target("tcp", address, 8080), every_s=0.05)
        for address in (host.address.ip, host.address6.ip)
    ]
    before = _promised(story)
    losses: Mapping[str, tuple[Callable[[], object], Callable[[], object], bool]] = {
        "file and log": (story.plugin.kill, lambda: _overwrite(state / FILE, _log(state), at=0), True),
        "the middle of the file": (story.plugin.stop, lambda: _overwrite(state / FILE, at=4096), True),
        "all of it": (story.plugin.kill, lambda: shutil.rmtree(state), False),
    }
    for what, (end, lose, kept) in losses.items():
        mark = story.plugin.log.stat().st_size
        aside = len(_aside(state))
        end()
        lose()
        story.plugin.start()

        after = _promised(story)
        for noun, rows in before.items():
            assert after[noun] == rows, f"{noun}, when {what} was lost"
        assert "CRITICAL" in story.plugin.log.read_text()[mark:], what
        assert len(_aside(state)) == (aside + 1 if kept else 0), what
        assert story.status()["healthy"], what
    assert [one.end()[1] for one in pings] == [[], []]
    assert [one.end()[1] for one in clients] == [[], []]
    story.container("again")  # and it goes on as before
    assert story.pings("again", "web")


def test_a_damaged_log_of_the_database_costs_no_container_its_link(story: Story) -> None:
    """SQLite passes over such a log without a word: what is in the file alone is older than what was promised."""
    story.network("mynet", *_BOTH)
    for name in ("db1", "web"):
        story.container(name)
        before = _promised(story)
        story.plugin.kill()
        _overwrite(_log(story.testbed.host.state), at=0)
        story.plugin.start()
        assert _promised(story) == before
        story.plugin.restart()  # now all of it is in the file
    assert story.pings("web", "db1")
    assert story.status()["healthy"]


def test_state_that_is_gone_when_docker_cannot_be_asked_is_taken_from_the_kernel(story: Story, peers: Peers) -> None:
    docker_host = story.plugin.env["MDNP_DOCKER_HOST"]
    story.network("mynet", *_BOTH)
    story.container("web", "-p", "8080:80")
    story.container("db1")
    peers.serve("web", 80)
    pings = peers.ping("db1", story.address("web"))
    before = _promised(story)
    story.plugin.kill()
    shutil.rmtree(story.testbed.host.state)
    story.plugin.env["MDNP_DOCKER_HOST"] = "unix:///nowhere/docker.sock"

    story.plugin.start()

    after = _promised(story)
    assert {one["id"] for one in after["network"]} == {one["id"] for one in before["network"]}
    assert [(one["id"], one["addresses"]) for one in after["endpoint"]] == [
        (one["id"], one["addresses"]) for one in before["endpoint"]
    ]
    assert [(one["endpoint"], one["host_port"]) for one in after["port"]] == [
        (one["endpoint"], one["host_port"]) for one in before["port"]
    ]
    assert pings.end()[1] == []
    assert peers.ask(story.testbed.outside, target("tcp", story.testbed.host.address.ip, 8080)) == [
        f"web sees {GATEWAY.ip}"
    ]
    story.plugin.env |= {"MDNP_DOCKER_HOST": docker_host, "MDNP_GRACE": "1"}
    story.plugin.restart()
    assert story.status()["healthy"]
    story.engine.clear()
    story.plugin.cli("gc")  # whose the addresses were, the kernel did not show
    story.must_be_clean()


# ------------------------------------------------------------------------------------------------- deleted by hand


def test_a_bridge_that_is_deleted_is_built_again_with_its_containers_on_it(story: Story, peers: Peers) -> None:
    bridge = f"mdb-{story.network('mynet', *_BOTH)[:11]}"
    story.container("web", "-p", "8080:80")
    story.container("db1")
    peers.serve("web", 80)
    before = _ports_of(story, bridge)
    assert len(before) == 2

    story.testbed.host.ip(f"link del {bridge}")

    story.soon(lambda: _ports_of(story, bridge) == before, _SOON_S)
    assert story.pings("web", story.address("db1"))
    assert story.pings("db1", story.address("web", field="GlobalIPv6Address"))
    assert story.pings("web", str(GATEWAY.ip))
    own = [target("tcp", address, 8080) for address in (story.testbed.host.address.ip, story.testbed.host.address6.ip)]
    assert [one.partition(" sees ")[0] for one in peers.ask(story.testbed.outside, *own)] == ["web"] * 2
    assert _who_answers(story, peers) == ["web"]
    assert story.status()["healthy"]
    assert story.status()["repaired"] > 0


def test_a_host_end_that_is_deleted_is_told_as_lost_and_mended_by_a_restart_of_its_container(
    story: Story, peers: Peers
) -> None:
    story.network("mynet", *_BOTH)
    story.container("web", "-p", "8080:80")
    story.container("db1")
    link = f"mdv-{story.settings('web')['EndpointID'][:11]}"

    story.testbed.host.ip(f"link del {link}")

    story.soon(lambda: story.status()["lost"] != [], _SOON_S)
    told = story.plugin.attempt("status")
    assert told.code == 1
    assert re.search(rf"# lost: .*{link}.*restart its container", told.out)
    assert json.loads(story.plugin.cli("endpoint", "inspect", link, "--json"))["lost"]
    story.docker("restart", "-t", "0", "web")
    assert story.pings("web", "db1")
    assert story.status()["healthy"]
    peers.serve("web", 80)
    assert _who_answers(story, peers) == ["web"]


# ------------------------------------------------------------------------------------------------- no start


def test_what_keeps_the_daemon_from_starting_is_said_and_what_runs_is_not_touched(story: Story, tmp_path: Path) -> None:
    story.network("mynet", *_BOTH)
    host = story.testbed.host
    free = host.folder / "other.sock"
    links = story.links()

    second = _start(story, free, host.state)
    assert f"in use by another mdnp (pid {story.plugin.pid})" in second.err
    assert "state folder of its own" in second.err
    beside = _start(story, free, tmp_path / "other")
    assert f"another mdnp serves this host's networks (pid {story.plugin.pid})" in beside.err
    with _read_only(host.folder / "readonly") as folder:
        unwritable = _start(story, free, folder)
    assert f"cannot use the state in {folder}" in unwritable.err
    assert "ead-only file system" in unwritable.err

    for refused in (second, beside, unwritable):
        assert refused.code == 1
        assert "Traceback" not in refused.err
    assert not free.exists()
    assert story.links() == links
    assert story.status()["healthy"]
    story.container("web")


# ------------------------------------------------------------------------------------------------- in few words


def _many_kinds(story: Story) -> None:
    """Networks whose addresses are ours and Docker's, of several options, with all that can be published."""
    story.network("mynet", "--ipam-driver=mdnp", *_BOTH, "--aux-address=nas=10.77.0.9")
    story.network("named", "-o", "com.docker.network.bridge.name=lab0", "-o", "mdnp.guard=off", "--subnet=10.78.0.0/24")
    story.network("shut", "--internal", "-o", "com.docker.network.bridge.enable_icc=false", "--ipam-driver=mdnp")
    story.network("empty", "-o", "mdnp.gateway=docker", "-o", "com.docker.network.driver.mtu=1400")
    story.container("web", "-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:8100-8109:81", "-p", "82")
    story.container("db1", "--expose=90", "-P", "--mac-address=02:42:0a:4d:00:77", "--ip=10.77.0.77")
    story.docker("network", "connect", "--driver-opt=mdnp.allow=10.99.0.0/16", "shut", "db1")
    story.container("lab", "-p", "8200:80", network="named")
    story.container("idle")
    story.docker("stop", "idle")


def _promised(story: Story) -> dict[str, list[dict[str, Any]]]:
    """All that mdnp lists, and who has which address; but for the times."""
    pools = [story.pool(pool["id"]) for pool in story.pools()]
    addresses = [{"pool": pool["pool"], **_holder(row)} for pool in pools for row in pool["addresses"]]
    listed = {noun: json.loads(story.plugin.cli(noun, "ls", "--json")) for noun in ("network", "endpoint", "port")}
    allowed = [
        {"allowed": json.loads(story.plugin.cli("endpoint", "inspect", one["id"], "--json"))["allowed"]}
        for one in sorted(listed["endpoint"], key=lambda one: str(one["id"]))
    ]
    return {
        **{noun: _sorted([{**row, "sandbox": ""} for row in rows]) for noun, rows in listed.items()},
        "pool": _sorted([{key: pool[key] for key in ("id", "sub_pool", "networks")} for pool in pools]),
        "address": _sorted(addresses),
        "allowed": allowed,
    }


def _holder(row: Mapping[str, Any]) -> dict[str, Any]:
    """Docker asks for an auxiliary address as if it were an endpoint's, and lists it as what it is."""
    kind = "endpoint" if row["kind"] == "auxiliary" else row["kind"]
    return {"address": row["address"], "kind": kind, "endpoint": row["endpoint"]}


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def _log(state: Path) -> Path:
    """What is not in the file yet when the daemon is killed: all that is young."""
    return state / f"{FILE}-wal"


def _overwrite(*files: Path, at: int) -> None:
    for file in files:
        assert file.stat().st_size > at
        with file.open("r+b") as opened:
            opened.seek(at)
            opened.write(b"\xa5" * 4096)


def _aside(state: Path) -> list[str]:
    return [path.name for path in state.iterdir() if _ASIDE.fullmatch(path.name)]


def _ports_of(story: Story, bridge: str) -> set[str]:
    rows = json.loads(story.testbed.host.run(["ip", "-json", "link", "show", "type", "veth"]).out)
    return {row["ifname"] for row in rows if row.get("master") == bridge}


def _who_answers(story: Story, peers: Peers) -> list[str]:
    answers = peers.ask(story.testbed.host, "tcp:127.0.0.1:8080")
    return [one.partition(" sees ")[0] for one in answers]


def _start(story: Story, listen: Path, state: Path) -> Result:
    """A daemon that must not come up; how it ended."""
    command: list[str | Path] = [MDNP, "serve", "--socket", listen, "--state-dir", state]
    return story.testbed.host.run(command, check=False, timeout=20, env={"MDNP_RUNTIME_DIR": str(state / "run")})


@contextmanager
def _read_only(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    run(["mount", "--bind", str(folder), str(folder)])
    run(["mount", "-o", "remount,bind,ro", str(folder)])
    try:
        yield folder
    finally:
        run(["umount", "--lazy", str(folder)])
