"""Completion in real shells, with the names of a real daemon."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mdnp.http import Listener, Response
from tests.cli.shells import BIN, PROMPT, fish_offers, shell
from tests.ipam.daemon import Daemon
from tests.world import BRIDGE, DB, DB_LINK, NET, OTHER_NET, WEB, WEB_LINK, create_endpoint, create_network

pytestmark = pytest.mark.long

OTHER_BRIDGE = f"mdb-{OTHER_NET[:11]}"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """A daemon with two networks and two endpoints; the environment that leads a command to it."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "mdnp.toml").touch()
    daemon = Daemon(folder)
    daemon.start()
    try:
        with daemon.door() as door:
            for verb, body in (
                ("CreateNetwork", create_network()),
                ("CreateNetwork", create_network(OTHER_NET, "10.2.0.0/24 10.2.0.1/24")),
                ("CreateEndpoint", create_endpoint(WEB, "10.1.0.2/24")),
                ("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24")),
            ):
                door.request("POST", f"/NetworkDriver.{verb}", json.dumps(body))
                assert door.answer()[0] == 200
        yield {"MDNP_RUNTIME_DIR": str(daemon.runtime), "MDNP_CONFIG": str(folder / "mdnp.toml")}
    finally:
        daemon.end()


@pytest.fixture
def nobody(tmp_path: Path) -> Mapping[str, str]:
    """The environment of a command when no daemon runs."""
    (tmp_path / "mdnp.toml").touch()
    return {"MDNP_RUNTIME_DIR": str(tmp_path), "MDNP_CONFIG": str(tmp_path / "mdnp.toml")}


def offers(words: str, env: Mapping[str, str]) -> tuple[list[str], str]:
    """What mdnp itself answers a bash that completes the last of the words, and what it says beside."""
    asked = {"_MDNP_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    said = subprocess.run(
        [BIN / "mdnp"], env={**os.environ, **env, **asked}, capture_output=True, text=True, check=True
    )
    return [line.partition(",")[2] for line in said.stdout.splitlines() if line], said.stderr


@pytest.mark.root
@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_tab_completes_commands_options_and_the_one_name_that_fits(name: str, names: Mapping[str, str]) -> None:
    with shell(name, names) as terminal:
        terminal.type("mdnp netw\t")
        terminal.shows("mdnp network ")
        terminal.type(f"inspect {BRIDGE[:6]}\t")
        terminal.shows(f"{BRIDGE} $")
        terminal.type("--js\t\n")
        said = terminal.shows(f"(?m)^{PROMPT}$")

    view = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert (view["id"], view["bridge"]) == (NET, BRIDGE)


@pytest.mark.root
@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_tab_lists_what_fits_when_there_is_more_than_one(name: str, names: Mapping[str, str]) -> None:
    with shell(name, names) as terminal:
        terminal.type("mdnp network inspect \t\t")
        seen = terminal.shows(f"(?s){BRIDGE}.*{OTHER_BRIDGE}|{OTHER_BRIDGE}.*{BRIDGE}")
        assert NET[:12] in seen
        assert OTHER_NET[:12] in seen


@pytest.mark.root
def test_fish_completes_commands_and_names(names: Mapping[str, str]) -> None:
    assert fish_offers("mdnp netw", names) == ["network"]
    assert set(fish_offers("mdnp network inspect ", names)) == {NET[:12], BRIDGE, OTHER_NET[:12], OTHER_BRIDGE}
    assert fish_offers("mdnp pool inspect 10", names) == []


@pytest.mark.root
def test_each_kind_of_name_is_offered_where_a_command_takes_it(names: Mapping[str, str]) -> None:
    assert offers("mdnp endpoint inspect ", names)[0] == [
        *("10.1.0.2", WEB[:12], WEB_LINK),
        *("10.1.0.3", DB[:12], DB_LINK),
    ]
    assert offers("mdnp endpoint inspect 10.1.0.3", names)[0] == ["10.1.0.3"]
    assert offers("mdnp history 10", names)[0] == ["10.1.0.2", "10.1.0.3"]
    assert offers("mdnp serve --log-level w", names)[0] == ["warning"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("mdnp network inspect ", ["shop", "a1a1a1a1a1a1", "mdb-a1"]),
        ("mdnp network inspect s", ["shop"]),
        ("mdnp endpoint inspect w", ["web"]),
        ("mdnp history ", ["web", "10.1.0.2", "fd00::2"]),
        ("mdnp pool inspect ", ["10.1.0.0/24"]),
        ("mdnp host inspect ", ["alpha", "9" * 16, "192.0.2.9"]),
        ("mdnp host remove a", ["alpha"]),
        ("mdnp network rm ", ["blue"]),
        ("mdnp network r", ["rm"]),
        ("mdnp host remove --f", ["--force"]),
    ],
)
async def test_names_that_docker_told_are_offered_once(words: str, found: list[str], nobody: Mapping[str, str]) -> None:
    endpoint = {"id": "c3" * 32, "container": "web", "addresses": ["10.1.0.2/24", "fd00::2/64"], "host_end": "mdv-c3"}
    views: Mapping[str, object] = {
        "/network": [{"id": "a1" * 32, "name": "shop", "bridge": "mdb-a1", "subnets": [{"pool": "10.1.0.0/24"}]}],
        "/endpoint": [endpoint, endpoint],
        "/pool": [{"pool": "10.1.0.0/24", "used": 2, "size": 253}],
        "/host": [{"id": "9" * 16, "name": "alpha", "vtep": "192.0.2.9"}],
        "/declared": [{"name": "blue", "subnets": ["10.60.0.0/16"]}],
    }

    async def answer(_method: str, path: str, _body: bytes) -> Response:
        return Response(200, json.dumps(views[path]).encode(), "application/json")

    socket = Path(nobody["MDNP_RUNTIME_DIR"]) / "admin.sock"
    listener = await Listener.open(socket, answer, Response(413, b"{}", "text/plain"))
    assert await asyncio.to_thread(offers, words, nobody) == (found, "")
    await listener.drain(1)


def test_without_a_daemon_no_name_is_offered_and_nothing_is_said(nobody: Mapping[str, str]) -> None:
    assert offers("mdnp network inspect ", nobody) == ([], "")
    assert offers("mdnp network in", nobody) == (["inspect"], "")


def test_settings_at_fault_do_not_speak_into_the_line(nobody: Mapping[str, str]) -> None:
    assert offers("mdnp endpoint inspect ", {**nobody, "MDNP_GRACE": "soon"}) == ([], "")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_script_is_for_its_shell_and_calls_mdnp_back(name: str, nobody: Mapping[str, str]) -> None:
    said = subprocess.run(
        [BIN / "mdnp", "completion", name], env={**os.environ, **nobody}, capture_output=True, text=True, check=True
    )

    assert f"_MDNP_COMPLETE={name}_complete" in said.stdout
    assert said.stderr == ""
