"""The command line against a daemon's door on a real socket."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import mdnp
from mdnp.cli import rendering
from tests.admin.door import SETTINGS, VERSION, open_admin
from tests.cli.terminal import Terminal, opened
from tests.world import (
    BRIDGE,
    DB,
    DB_LINK,
    NET,
    SANDBOX,
    UDP,
    WEB,
    WEB_LINK,
    WEB_MAC,
    World,
    binding,
    create_endpoint,
    create_network,
    join,
    publish,
)


@pytest.fixture
async def daemon(world: World, terminal: Terminal) -> AsyncIterator[World]:
    """A network with a joined and a created endpoint, and the door open."""
    await world.with_endpoint()
    await world.ok("Join", join())
    await world.ok("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24"))
    admin = await open_admin(world)

    async with opened(admin, terminal):
        yield world


async def test_the_status_of_what_is_well_is_0(daemon: World, terminal: Terminal) -> None:
    said = await terminal.mdnp("status")

    assert (said.code, said.err) == (0, "")
    assert said.lines[:2] == [
        ["NETWORK", "NAME", "KIND", "BRIDGE", "SUBNETS", "MTU", "GATEWAY", "ENDPOINTS", "DRIFT"],
        [NET[:12], "-", "bridge", BRIDGE, "10.1.0.0/24", "1500", "self", "2", "-"],
    ]
    docker, verdict = said.out.splitlines()[2:]
    assert docker == "# Docker cannot be asked: it does not run"
    assert re.fullmatch(rf"# mdnp {VERSION}, up \d+ s, 2 endpoints, 0 published ports, in sync", verdict)
    assert daemon.kept == daemon.planned


async def test_the_status_of_trouble_is_1(daemon: World, terminal: Terminal) -> None:
    daemon.kernel.vanish(WEB_LINK)
    del daemon.kernel.objects["addr", BRIDGE, "10.1.0.1/24"]

    said = await terminal.mdnp("status")

    assert (said.code, said.err, said.lines[1][-1]) == (1, "", "2")
    remarks = said.out.splitlines()[2:]
    assert remarks[0] == f"# drift: ip addr add 10.1.0.1/24 dev {BRIDGE}"
    assert remarks[1].startswith(f"# lost: link {WEB_LINK} ")
    assert remarks[1].endswith(": restart its container")
    assert remarks[-1].endswith("NOT in sync")


async def test_lines_that_are_no_data_begin_with_a_hash(daemon: World, terminal: Terminal) -> None:
    daemon.kernel.vanish(WEB_LINK)

    said = await terminal.mdnp("status")

    assert all(line.startswith("# ") for line in said.out.splitlines()[2:])


async def test_only_the_difference_is_shown_as_commands(daemon: World, terminal: Terminal) -> None:
    well = await terminal.mdnp("status", "--diff")
    del daemon.kernel.objects["addr", BRIDGE, "10.1.0.1/24"]
    drifted = await terminal.mdnp("status", "--diff")
    as_json = await terminal.mdnp("status", "--diff", "--json")

    line = f"ip addr add 10.1.0.1/24 dev {BRIDGE}"
    assert (well.code, well.out.strip()) == (0, "")
    assert (drifted.code, drifted.out) == (1, f"{line}\n")
    assert (as_json.code, as_json.value) == (1, [line])


@pytest.mark.parametrize("noun", ["network", "endpoint", "port", "status"])
async def test_json_is_the_same_values_as_the_daemon_s(daemon: World, terminal: Terminal, noun: str) -> None:
    await daemon.ok("ProgramExternalConnectivity", publish((8080, 80)))
    admin = await open_admin(daemon)
    values = json.loads((await admin.answer("GET", f"/{noun}")).body)

    said = await terminal.mdnp(*([noun] if noun == "status" else [noun, "ls"]), "--json")

    shown = said.value
    if noun == "status":
        shown.pop("uptime_s")
        values.pop("uptime_s")
    assert (said.code, shown) == (0, values)


@pytest.mark.parametrize("arguments", [["network"], ["network", "ls"]])
async def test_networks_are_listed(daemon: World, terminal: Terminal, arguments: list[str]) -> None:
    said = await terminal.mdnp(*arguments)

    assert (said.code, said.lines) == (
        0,
        [
            ["NETWORK", "NAME", "KIND", "BRIDGE", "SUBNETS", "MTU", "GATEWAY", "ENDPOINTS"],
            [NET[:12], "-", "bridge", BRIDGE, "10.1.0.0/24", "1500", "self", "2"],
        ],
    )
    assert daemon.links == [BRIDGE, WEB_LINK, DB_LINK]


@pytest.mark.parametrize("arguments", [["endpoint"], ["endpoint", "ls"]])
async def test_endpoints_are_listed(daemon: World, terminal: Terminal, arguments: list[str]) -> None:
    said = await terminal.mdnp(*arguments)

    assert (said.code, said.lines) == (
        0,
        [
            ["ENDPOINT", "CONTAINER", "NETWORK", "ADDRESSES", "MAC", "PHASE", "LINK"],
            [WEB[:12], "-", NET[:12], "10.1.0.2/24", WEB_MAC, "joined", WEB_LINK],
            [DB[:12], "-", NET[:12], "10.1.0.3/24", "02:6d:0a:01:00:03", "created", DB_LINK],
        ],
    )
    assert daemon.links == [BRIDGE, WEB_LINK, DB_LINK]


@pytest.mark.parametrize("name", [WEB, "c3", WEB_LINK, "10.1.0.2"])
@pytest.mark.usefixtures("daemon")
async def test_an_endpoint_is_inspected_by_any_of_its_names(terminal: Terminal, name: str) -> None:
    said = await terminal.mdnp("endpoint", "inspect", name)
    as_json = await terminal.mdnp("endpoint", "inspect", name, "--json")

    assert (said.code, said.lines[0], said.lines[8]) == (0, ["id", WEB], ["sandbox", SANDBOX])
    assert (as_json.code, as_json.value["id"]) == (0, WEB)


@pytest.mark.parametrize("name", [NET, "a1", BRIDGE])
@pytest.mark.usefixtures("daemon")
async def test_a_network_is_inspected_by_any_of_its_names(terminal: Terminal, name: str) -> None:
    said = await terminal.mdnp("network", "inspect", name)

    assert (said.code, said.lines[0]) == (0, ["id", NET])
    assert any(line[-4:] == ["addr", "10.1.0.1/24", "dev", BRIDGE] for line in said.lines)


@pytest.mark.usefixtures("daemon")
async def test_a_network_s_details_say_what_it_does_with_traffic(terminal: Terminal) -> None:
    said = await terminal.mdnp("network", "inspect", NET)

    facts = {line[0]: line[1:] for line in said.lines if line}
    assert [facts[one] for one in ("routing_ipv4", "masquerade", "icc", "guard", "dns")] == [
        ["nat"],
        ["yes"],
        ["yes"],
        ["yes"],
        ["no"],
    ]
    assert ["element", "inet", "mdnp", "nat4", "{", f'"{BRIDGE}"', "}"] in said.lines


async def test_an_endpoint_s_details_say_what_the_guard_dropped(daemon: World, terminal: Terminal) -> None:
    daemon.kernel.dropped = {WEB_LINK: 7}

    said = await terminal.mdnp("endpoint", "inspect", WEB)
    as_json = await terminal.mdnp("endpoint", "inspect", WEB, "--json")

    assert ["guard_drops", "7"] in said.lines
    assert ["allowed", "-"] in said.lines
    assert as_json.value["guard_drops"] == 7


# Ports.


@pytest.mark.usefixtures("daemon")
async def test_no_port_is_said_so(terminal: Terminal) -> None:
    said = await terminal.mdnp("port", "ls")
    as_json = await terminal.mdnp("port", "ls", "--json")

    assert (said.code, said.out, said.err) == (0, "# no port is published\n", "")
    assert (as_json.code, as_json.value) == (0, [])


async def test_published_ports_are_listed(daemon: World, terminal: Terminal) -> None:
    await daemon.ok("ProgramExternalConnectivity", publish((8080, 80), binding(53, 53, proto=UDP, ip="127.0.0.1")))

    said = await terminal.mdnp("port", "ls")

    assert (said.code, said.err) == (0, "")
    assert said.lines == [
        ["CONTAINER", "ENDPOINT", "HOST", "TO", "BY"],
        ["-", WEB[:12], "127.0.0.1:53/udp", "10.1.0.2:53/udp", "nat"],
        ["-", WEB[:12], "0.0.0.0:8080/tcp", "10.1.0.2:80/tcp", "nat"],
        ["-", WEB[:12], "[::]:8080/tcp", "10.1.0.2:80/tcp", "proxy"],
    ]


async def test_a_port_of_a_routed_network_has_none_of_the_host_s(daemon: World, terminal: Terminal) -> None:
    routed, third = "f6" * 32, "e5" * 32
    options = {"com.docker.network.bridge.gateway_mode_ipv6": "routed"}
    await daemon.ok("CreateNetwork", create_network(routed, "fd00::/64 fd00::1/64", options=options))
    await daemon.ok("CreateEndpoint", create_endpoint(third, "", "fd00::2/64", network=routed))
    await daemon.ok("ProgramExternalConnectivity", publish((8080, 80), identity=third, network=routed))

    said = await terminal.mdnp("port", "ls")

    assert said.lines[1:] == [["-", third[:12], "-", "[fd00::2]:80/tcp", "routed"]]


async def test_what_was_repaired_is_said(daemon: World, terminal: Terminal) -> None:
    daemon.kernel.objects.pop(("addr", BRIDGE, "10.1.0.1/24"))
    await daemon.reconciler.converge()

    said = await terminal.mdnp("status")

    assert said.code == 0
    assert said.out.splitlines()[-3] == "# repaired 1 things that others had changed"


async def test_why_something_is_not_there_is_said(daemon: World, terminal: Terminal) -> None:
    daemon.kernel.objects.pop(("addr", BRIDGE, "10.1.0.1/24"))
    daemon.kernel.refuses = lambda _step: "refused by the test"
    await daemon.reconciler.converge()

    said = await terminal.mdnp("status")

    line = f"ip addr add 10.1.0.1/24 dev {BRIDGE}"
    assert said.code == 1
    assert said.out.splitlines()[2:4] == [f"# drift: {line}", f"# because: {line}: refused by the test"]


NAMES = [
    "nobody",
    "a b",
    "é",
    "x/y",
    "?",
    "#",
    "%41",
    "..",
    ".",
    "../status",
    "\r\nX: y",
    "",
    " ",
    "/",
    "a1" * 32 + "x",
]


@pytest.mark.parametrize("noun", ["network", "endpoint"])
@pytest.mark.usefixtures("daemon")
async def test_a_name_that_nobody_has_is_told_and_1(terminal: Terminal, noun: str) -> None:
    for name in NAMES:
        said = await terminal.mdnp(noun, "inspect", name)

        assert (said.code, said.out, said.err) == (1, "", f"mdnp: no {noun} {name!r}: `mdnp {noun} ls` lists them\n")


@pytest.mark.usefixtures("daemon")
async def test_a_name_that_several_have_is_told_and_1(world: World, terminal: Terminal) -> None:
    await world.ok("CreateEndpoint", create_endpoint("c3" + "0" * 62, "10.1.0.4/24"))

    said = await terminal.mdnp("endpoint", "inspect", "c3")

    assert (said.code, said.out, said.err) == (1, "", "mdnp: endpoint 'c3' names 2: give more of its id\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["network"],
        ["endpoint", "ls"],
        ["network", "inspect", "x"],
        ["port", "ls"],
        ["pool"],
        ["history", "x"],
        ["gc"],
    ],
)
async def test_without_a_daemon_it_is_1_and_says_what_to_do(terminal: Terminal, arguments: list[str]) -> None:
    said = await terminal.mdnp(*arguments)

    assert (said.code, said.out, said.err) == (
        1,
        "",
        (
            f"mdnp: no mdnp answers at {terminal.runtime_dir}/admin.sock (No such file or directory): start it with"
            " `mdnp serve`, or name its runtime folder in MDNP_RUNTIME_DIR\n"
        ),
    )


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"garbage\r\n\r\n{}", b"HTTP/1.1 502 x\r\n\r\n<html>"]
)
async def test_a_daemon_that_answers_nonsense_is_1_and_no_trace(terminal: Terminal, answer: bytes) -> None:
    """It died while it answered, or something else listens there."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(terminal.runtime_dir / "admin.sock"))
        listening.listen()
        server = threading.Thread(target=_say, args=(listening, answer))
        server.start()
        said = await terminal.mdnp("status")
        server.join()

    assert (said.code, said.out, said.err.startswith("mdnp: no mdnp answers at ")) == (1, "", True)


def _say(listening: socket.socket, answer: bytes) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(answer)


async def test_a_kernel_that_cannot_be_read_is_1(daemon: World, terminal: Terminal) -> None:
    daemon.kernel.unreadable = "reading links and addresses failed"

    said = await terminal.mdnp("status")

    assert (said.code, said.out, said.err) == (1, "", "mdnp: reading links and addresses failed\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["status", "--nonsense"],
        ["status", "extra"],
        ["network", "nonsense"],
        ["network", "inspect"],
        ["network", "ls", "extra"],
        ["serve", "--log-level", "loud"],
        ["history"],
        ["port", "ls", "extra"],
        ["port", "inspect", "8080"],
    ],
)
async def test_wrong_usage_is_2(terminal: Terminal, arguments: list[str]) -> None:
    said = await terminal.mdnp(*arguments)

    assert (said.code, said.out, said.err.startswith("Usage: mdnp ")) == (2, "", True)


async def test_each_etcd_has_a_flag(terminal: Terminal) -> None:
    said = await terminal.mdnp("serve", "--etcd", "https://etcd-1.lan", "--etcd", "etcd-2.lan")
    assert (said.code, said.err.split(": expected")[0]) == (2, "mdnp: --etcd: etcd 'https://etcd-1.lan etcd-2.lan'")


async def test_wrong_settings_are_2_and_all_told_at_once(terminal: Terminal) -> None:
    (terminal.runtime_dir / "mdnp.toml").write_text('sokket = "/x"\nlog_level = "loud"\n')

    for arguments in (["status"], ["serve"], ["serve", "--state-dir", "relative"]):
        said = await terminal.mdnp(*arguments)

        assert (said.code, said.out, said.err.startswith("mdnp: ")) == (2, "", True)
        assert "unknown key sokket" in said.err
        assert "log_level 'loud'" in said.err
        assert ("--state-dir: state_dir 'relative'" in said.err) is ("relative" in arguments)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["network", "--help"], ["serve", "-h"]])
async def test_help_is_given(terminal: Terminal, arguments: list[str]) -> None:
    said = await terminal.mdnp(*arguments)

    assert said.code == (0 if arguments else 2)
    assert "Usage: mdnp" in said.out + said.err


async def test_the_settings_in_force_are_shown(terminal: Terminal) -> None:
    said = await terminal.mdnp("config")
    as_json = await terminal.mdnp("config", "--json")

    assert (said.code, said.lines[0][0]) == (0, "#")
    assert ["runtime_dir", str(terminal.runtime_dir)] in said.lines
    assert (as_json.code, as_json.value["runtime_dir"]) == (0, str(terminal.runtime_dir))


@pytest.mark.usefixtures("daemon")
async def test_the_settings_of_the_daemon_are_shown_if_it_runs(terminal: Terminal) -> None:
    said = await terminal.mdnp("config", "--json")

    assert (said.code, said.value) == (0, SETTINGS)


async def test_both_versions_are_shown(world: World, terminal: Terminal) -> None:
    said = await terminal.mdnp("version", "--json")

    assert (said.code, said.value) == (0, {"mdnp": mdnp.__version__, "daemon": None})
    assert world.links == []


@pytest.mark.usefixtures("daemon")
async def test_the_version_of_the_daemon_is_its_own(terminal: Terminal) -> None:
    said = await terminal.mdnp("version")

    assert (said.code, said.lines) == (0, [["mdnp", mdnp.__version__], ["daemon", VERSION]])


def test_what_docker_does_not_have_is_shown_a_line_each() -> None:
    since = "2026-11-24T10:00:00+00:00"
    found: list[dict[str, Any]] = [
        {"kind": "endpoint", "name": WEB, "of": NET, "since": since},
        {"kind": "gateway", "name": "10.1.0.1", "of": "mdnp-local/10.1.0.0/24", "since": since},
        {"kind": "network", "name": NET, "of": None, "since": since},
    ]

    assert rendering.orphans(found, "would free").splitlines() == [
        f"would free endpoint {WEB} of {NET}, since {since}",
        f"would free gateway 10.1.0.1 of mdnp-local/10.1.0.0/24, since {since}",
        f"would free network {NET}, since {since}",
    ]
    assert rendering.orphans([], "freed") == "# Docker has all that was promised to it"


def test_the_command_that_is_installed_runs() -> None:
    command = Path(sys.executable).with_name("mdnp")

    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.startswith("Usage: mdnp ")) == (0, True)


def test_the_command_line_imports_nothing_slow() -> None:
    """Half a second of imports is for the daemon alone."""
    code = "import sys, mdnp.cli.main; print([one for one in ('aiohttp', 'asyncio') if one in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


# Mending.


async def test_what_was_put_back_is_shown_as_commands(daemon: World, terminal: Terminal) -> None:
    del daemon.kernel.objects["addr", BRIDGE, "10.1.0.1/24"]

    repaired = await terminal.mdnp("repair")
    again = await terminal.mdnp("repair")

    assert (repaired.code, repaired.out) == (0, f"ip addr add 10.1.0.1/24 dev {BRIDGE}\n")
    assert (again.code, again.out) == (0, "# in sync: nothing was to be repaired\n")


async def test_what_stays_wrong_is_1(daemon: World, terminal: Terminal) -> None:
    daemon.kernel.vanish(WEB_LINK)
    del daemon.kernel.objects["addr", BRIDGE, "10.1.0.1/24"]
    daemon.kernel.refuses = lambda _step: "refused by the test"

    said = await terminal.mdnp("repair")

    line = f"ip addr add 10.1.0.1/24 dev {BRIDGE}"
    assert (said.code, said.out.splitlines()[0]) == (1, f"# failed: {line}: refused by the test")
    assert said.out.splitlines()[1].startswith(f"# lost: link {WEB_LINK} ")
