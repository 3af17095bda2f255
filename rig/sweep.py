"""
Removing a run: the one path for a run that ends and for one that was killed.

A run is known by its tag. Everything it makes bears it: the folder /tmp/mdnp-rig-TAG, mounts below that folder,
namespaces and control groups whose name begins with mdnprig-TAG, processes with RIG_RUN=FOLDER in their
environment. (The processes of containers lose the environment; they die with the pid namespace of their engine, see
rig/cell.py.)
So nothing needs to be remembered, and what is left can be found by anybody.
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from rig.command import RigError, run, until
from rig.process import kill, pids, started, variable

RUNS = Path("/tmp")  # noqa: S108 -- a path to a unix socket has 107 bytes; TMPDIR may be long
FOLDER_PREFIX = "mdnp-rig-"
NAME_PREFIX = "mdnprig-"
MARK = "RIG_RUN"
NETNS = Path("/run/netns")
CGROUPS = Path("/sys/fs/cgroup")
_ROUNDS = 20
_EXECUTING = 0.02


def folder_of(tag: str) -> Path:
    return RUNS / f"{FOLDER_PREFIX}{tag}"


def tag_of(folder: Path) -> str:
    if folder.parent != RUNS or not folder.name.startswith(FOLDER_PREFIX):
        raise RigError(f"{folder} is not the folder of a run")
    return folder.name.removeprefix(FOLDER_PREFIX)


def claim(folder: Path) -> None:
    """Write down that this process owns the run. The start time tells it from a later process of the same pid."""
    (folder / "owner").write_text(f"{os.getpid()} {started(os.getpid())}\n")


def alive(tag: str) -> bool:
    """Whether the process that owns the run is still there."""
    with suppress(OSError, ValueError):
        pid, start = (folder_of(tag) / "owner").read_text().split()
        return started(int(pid)) == start
    return False


def sweep() -> None:
    """
    Remove every run whose owner is gone, and say so. Only while no other run is just starting (see sandbox.turn).

    One that cannot be removed is told and left: it must not keep new runs from starting.
    """
    for tag in sorted(tag for tag in _tags() if not alive(tag)):
        try:
            remove(tag)
            print(f"# rig: removed what was left of run {tag}", flush=True)
        except (RigError, OSError) as error:
            print(f"# rig: cannot remove what was left of run {tag}: {error}", flush=True)


def remove(tag: str) -> None:
    """Remove all of a run. A second call finds nothing to do; RigError names what would not go."""
    _kill_processes(tag)
    unmount(folder_of(tag))
    for name in _namespaces(tag):
        run(["ip", "netns", "delete", name])
    until(lambda: not _remove_cgroups(tag), f"control groups of {tag} to become empty", 10.0)
    _remove_folder(tag)


def traces(tag: str) -> list[str]:
    """What there is of a run, in words: nothing, once it has been removed."""
    return [
        *(f"process {pid}" for pid in _processes(tag)),
        *(f"mount {mount}" for mount in _mounts(folder_of(tag))),
        *(f"namespace {name}" for name in _namespaces(tag)),
        *(f"control group {group}" for group in _cgroups(tag)),
        *(f"folder {folder}" for folder in [folder_of(tag)] if folder.exists()),
    ]


def unmount(folder: Path) -> None:
    """Unmount all that is at or below `folder`, newest first; lazily, because a mounted namespace counts as busy."""
    for _ in range(_ROUNDS):
        mounts = _mounts(folder)
        if not mounts:
            return
        run(["umount", "--lazy", *map(str, reversed(mounts))], check=False)
    raise RigError(f"cannot unmount {mounts}")


def _tags() -> set[str]:
    """The tags of all runs that left something, alive or not; mounts are not asked, they have a folder."""
    groups = (group.name for group in _below(_hierarchies()))
    names = (name for name in (*groups, *_names(NETNS)) if name.startswith(NAME_PREFIX))
    folders = (name for name in _names(RUNS) if name.startswith(FOLDER_PREFIX))
    marks = (mark for pid in pids() if (mark := variable(pid, MARK)).startswith(str(folder_of(""))))
    return {
        *(name.removeprefix(NAME_PREFIX).split("-")[0] for name in names),
        *(name.removeprefix(FOLDER_PREFIX) for name in folders),
        *(tag_of(Path(mark)) for mark in marks),
    }


def _kill_processes(tag: str) -> None:
    """
    Until none was seen twice: a process may fork between being seen and being killed, and one that is just
    executing a program shows no environment for a moment.
    """
    for _ in range(_ROUNDS):
        targets = list(_processes(tag)) or list(_processes(tag, after=_EXECUTING))
        if not targets:
            return
        kill(targets, only=lambda pid: _marked(pid, tag))
    raise RigError(f"processes of run {tag} keep coming back: {targets}")


def _processes(tag: str, *, after: float = 0.0) -> Iterator[int]:
    time.sleep(after)
    return (pid for pid in pids() if pid != os.getpid() and _marked(pid, tag))


def _marked(pid: int, tag: str) -> bool:
    """Never true of a zombie: its environment cannot be read."""
    return variable(pid, MARK) == str(folder_of(tag))


def _mounts(folder: Path) -> list[Path]:
    points = (Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if point.is_relative_to(folder)]


def _namespaces(tag: str) -> list[str]:
    return [name for name in _names(NETNS) if name.startswith(f"{NAME_PREFIX}{tag}-")]


def _hierarchies() -> list[Path]:
    """The root of every control group hierarchy: one in version 2, one per controller in version 1."""
    return [CGROUPS, *_below([CGROUPS])]


def _cgroups(tag: str) -> list[Path]:
    groups = (root / f"{NAME_PREFIX}{tag}" for root in _hierarchies())
    return [group for group in groups if group.is_dir()]


def _remove_cgroups(tag: str) -> list[Path]:
    """What is left: a group stays busy for a moment after its last process has ended."""
    for group in _cgroups(tag):
        for path, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                Path(path).rmdir()
    return _cgroups(tag)


def _remove_folder(tag: str) -> None:
    """
    Never while something is mounted below: what would be removed then is not ours.

    As soon as its owner's name is gone from it, another run that starts may be removing it as well.
    """
    folder = folder_of(tag)
    if mounts := _mounts(folder):
        raise RigError(f"{mounts} came back; not removing {folder}")
    while folder.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


def _names(folder: Path) -> list[str]:
    return [path.name for path in _below([folder], folders_only=False)]


def _below(folders: Iterable[Path], *, folders_only: bool = True) -> list[Path]:
    paths = (path for folder in folders if folder.is_dir() for path in folder.iterdir())
    return [path for path in paths if path.is_dir() or not folders_only]
