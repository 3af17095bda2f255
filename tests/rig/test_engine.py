"""Real engines run here: start and end of each kind, side by side, with nothing left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rig import sweep
from rig.command import CommandFailed
from rig.engine import Engine
from rig.host import Host, Underlay
from rig.image import IMAGE
from rig.rootfs import chosen
from rig.sandbox import Run, turn
from rig.testbed import Testbed

pytest_plugins = ["rig.fixtures"]
pytestmark = [pytest.mark.engine, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a Docker engine")]

ROOT = Path(__file__).parents[2]
SLEEPER = ("run", "--detach", "--init", "--net=none", IMAGE, "sleep", "1000")
PROGRAM = """
import sys, time
from rig.engine import Engine
from rig.host import Host, Underlay
from rig.sandbox import Run

with Run() as run:
    engine = Engine(Host(Underlay(run)), sys.argv[1])
    engine.start()
    engine.docker("run", "--detach", "--publish=8080:80", "busybox:rig", "sleep", "1000")
    print(run.tag, flush=True)
    time.sleep(1000)
"""


def test_a_container_runs(testbed: Testbed) -> None:
    out = testbed.engine.docker("run", "--rm", "--net=none", IMAGE, "cat", "/www/index.html")

    assert out == IMAGE


def test_the_engine_is_of_the_version_asked_for(testbed: Testbed) -> None:
    versions = testbed.engine.docker("version", "--format", "{{.Server.Version}} {{.Client.Version}}").split()

    assert [version.startswith(testbed.engine.version) for version in versions] == [True, True]


def test_a_failing_command_says_all(testbed: Testbed) -> None:
    with pytest.raises(CommandFailed, match=r"(?s)exit 3 of: .*\nout\nerr\n"):
        testbed.engine.docker("run", "--rm", "--net=none", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3")


def test_commands_run_in_parallel(testbed: Testbed) -> None:
    results = testbed.engine.parallel(*[SLEEPER] * 3)

    listed = testbed.engine.docker("ps", "--quiet", "--no-trunc").split()
    testbed.engine.clear()
    assert [result.code for result in results] == [0, 0, 0]
    assert {result.out.strip() for result in results} == set(listed)
    assert testbed.engine.docker("ps", "--all", "--quiet") == ""


def test_the_namespace_of_a_container_is_seen_outside(testbed: Testbed) -> None:
    container = testbed.engine.docker("run", "--detach", "--init", IMAGE, "sleep", "1000")
    key = testbed.engine.docker("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", container)

    links = testbed.host.run(["nsenter", f"--net={key}", "ip", "-brief", "link"]).out

    testbed.engine.clear()
    assert Path(key).is_relative_to(testbed.host.exec_root)
    assert [line.split("@")[0].split()[0] for line in links.splitlines()] == ["lo", "eth0"]


@pytest.mark.parametrize("version", chosen())
def test_containers_outlive_the_engine_with_live_restore(underlay: Underlay, version: str) -> None:
    engine = Engine(Host(underlay, f"live{version.partition('.')[0]}"), version, live_restore=True)
    engine.start()
    container = engine.docker(*SLEEPER)

    engine.kill()
    engine.start()
    engine.restart()

    assert engine.docker("ps", "--quiet", "--no-trunc") == container
    engine.close()


def test_two_engines_run_side_by_side(underlay: Underlay) -> None:
    engines = [Engine(Host(underlay, label), version) for label, version in zip("xy", chosen() * 2, strict=False)]
    for engine in engines:
        engine.start()

    containers = [engine.docker(*SLEEPER) for engine in engines]

    listed = [engine.docker("ps", "--quiet", "--no-trunc") for engine in engines]
    for engine in engines:
        engine.close()
    assert listed == containers


def test_a_newer_engine_takes_over(underlay: Underlay) -> None:
    host = Host(underlay, "up")
    older, newer = min(chosen()), max(chosen())
    engine = Engine(host, older)
    engine.start()
    network = engine.docker("network", "create", "kept")

    engine.close()
    engine = Engine(host, newer)
    engine.start()

    assert engine.docker("network", "inspect", "--format", "{{.Id}}", "kept") == network
    assert engine.docker("run", "--rm", "--net=kept", IMAGE, "cat", "/www/index.html") == IMAGE
    engine.close()


@pytest.mark.parametrize("version", chosen())
def test_close_leaves_nothing(version: str) -> None:
    with Run() as run:
        engine = Engine(Host(Underlay(run)), version)
        engine.start()
        engine.docker(*SLEEPER)

    assert sweep.traces(run.tag) == []


@pytest.mark.parametrize("version", chosen())
def test_a_killed_run_is_swept(version: str) -> None:
    command = [sys.executable, "-c", PROGRAM, version]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        tag = process.stdout.readline().strip()
        process.kill()
    left = {trace.split()[0] for trace in sweep.traces(tag)}

    with turn():
        sweep.sweep()

    assert left == {"process", "mount", "namespace", "control", "folder"}
    assert sweep.traces(tag) == []
