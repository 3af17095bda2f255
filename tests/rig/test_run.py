"""What a run of the rig leaves behind: nothing, however it ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rig import sweep
from rig.command import CommandFailed, until
from rig.host import Host, Underlay
from rig.sandbox import Run, turn

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")]

ROOT = Path(__file__).parents[2]
EVERYTHING = {"process", "mount", "namespace", "folder"}
# A run with something of everything, which says its tag and then waits for its end.
PROGRAM = """
import signal, time
from rig.host import Host, Underlay
from rig.sandbox import Run

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for background jobs
with Run() as run:
    host = Host(Underlay(run))
    host.spawn(["sleep", "1000"], log="sleep.log")
    print(run.tag, flush=True)
    time.sleep(1000)
"""


@contextmanager
def other_run(program: str = PROGRAM) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process with a run of its own, and its tag."""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout
        try:
            tag = process.stdout.readline().strip()
            until(lambda: kinds(tag) == EVERYTHING, "all of the other run to be seen", 5.0)
            yield process, tag
        finally:
            process.kill()


def kinds(tag: str) -> set[str]:
    return {trace.split()[0] for trace in sweep.traces(tag)}


def sweep_now() -> None:
    with turn():
        sweep.sweep()


def test_close_leaves_nothing() -> None:
    with Run() as run:
        host = Host(Underlay(run))
        sleeper = host.spawn(["sleep", "1000"], log="sleep.log")
        until(lambda: kinds(run.tag) == EVERYTHING, "all of the run to be seen", 5.0)

    assert not sleeper.running
    assert sweep.traces(run.tag) == []


def test_an_error_inside_leaves_nothing() -> None:
    tags = []

    def fail() -> None:
        with Run() as run:
            tags.append(run.tag)
            Host(Underlay(run)).run(["false"])

    with pytest.raises(CommandFailed):
        fail()

    assert sweep.traces(tags[0]) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(number: signal.Signals) -> None:
    with other_run() as (process, tag):
        process.send_signal(number)
        process.wait(20)

        assert sweep.traces(tag) == []


def test_a_killed_run_is_swept() -> None:
    with other_run() as (process, tag):
        process.kill()
        process.wait(20)
        left = sweep.traces(tag)

        sweep_now()

    assert left != []
    assert sweep.traces(tag) == []


def test_a_live_run_is_not_swept() -> None:
    with other_run() as (_, tag):
        before = sweep.traces(tag)

        sweep_now()

        assert sweep.traces(tag) == before


def test_a_later_process_of_the_same_pid_does_not_own_the_run() -> None:
    with Run() as run, turn():
        (run.folder / "owner").write_text(f"{os.getpid()} 1\n")

        alive = sweep.alive(run.tag)

        sweep.claim(run.folder)
    assert not alive


def test_hosts_reach_each_other_by_both_families() -> None:
    with Run() as run:
        underlay = Underlay(run)
        first, second = Host(underlay, "a"), Host(underlay, "b")

        first.run(["busybox", "ping", "-c1", "-w5", str(second.address.ip)])
        first.run(["busybox", "ping", "-c1", "-w5", str(second.address6.ip)])
        route = first.run(["ip", "route", "show", "default"]).out

    assert route == "default via 192.0.2.1 dev eth0 \n"
