"""A host that boots systemd is as contained as any other."""

import os
from pathlib import Path

import pytest

from rig import process, sweep
from rig.booted import Booted
from rig.host import Host, Underlay
from rig.sandbox import Run
from rig.sweep import MARK

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces")]


def test_it_boots_without_a_failed_unit_and_leaves_nothing() -> None:
    with Run() as run:
        settings = _settings()
        booted = Booted(Host(Underlay(run)))
        assert booted.run(["systemctl", "is-system-running"]).out == "running\n"
        assert booted.run(["sh", "-c", "echo 1 >/proc/sys/fs/nr_open"], check=False).code != 0
        assert process.variable(booted.pid, MARK) == str(run.folder)  # so that a sweep finds it
        booted.close()
        assert _mounts(run.folder) == [booted.host.folder]
        assert _settings() == settings
    assert sweep.traces(run.tag) == []


def _mounts(below: Path) -> list[Path]:
    points = (Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if point.is_relative_to(below)]


def _settings() -> list[str]:
    names = ("fs/nr_open", "fs/file-max", "kernel/core_pattern", "kernel/hostname")
    return [Path("/proc/sys", name).read_text() for name in names]
