"""
Root file systems with newer engines, made by mmdebstrap once and kept outside the repository.

`python -m rig.rootfs [VERSION...]` makes those that tests use, or the given ones.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO

from rig.command import RigError
from rig.process import tail

# An engine's version and the suite of the distribution that has it; None is the machine's own.
SUITES: dict[str, str | None] = {"20.10": None, "26.1": "trixie", "28.5": "forky"}
_TESTED = ("20.10", "28.5")

_PACKAGES = "docker.io,docker-cli,docker-compose,containerd,runc,iptables,nftables,iproute2,kmod,procps,mount"
# No mirror is named: mmdebstrap takes the distribution's default, and apt its settings from the environment.
_RECIPE = ("mmdebstrap", "--variant=apt", '--aptopt=Acquire::Check-Valid-Until "false"', f"--include={_PACKAGES}")
# mmdebstrap mounts /dev and /proc into what it makes. Should it be killed, rmtree must not find them there.
_CONTAINED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
_PATIENCE = 900.0


def chosen() -> tuple[str, ...]:
    """The versions that tests are run on: those named in RIG_ENGINES, by space or comma, or the usual ones."""
    named = os.environ.get("RIG_ENGINES", "").replace(",", " ").split()
    return tuple(_known(version) for version in named) or _TESTED


def root_of(version: str) -> Path:
    """The root file system with that engine, made now if there is none yet."""
    suite = SUITES[_known(version)]
    return Path("/") if suite is None else _cached(suite)


def _known(version: str) -> str:
    if version not in SUITES:
        raise RigError(f"no engine {version!r}; there are {', '.join(SUITES)}")
    return version


def cache() -> Path:
    """Where the finished ones are kept; RIG_CACHE moves it."""
    return Path(os.environ.get("RIG_CACHE") or "~/.cache/mdnp-rig").expanduser()


def _cached(suite: str) -> Path:
    """The recipe is part of the name, so that a change of it makes a new one."""
    final = cache() / f"{suite}-{blake2b(repr(_RECIPE).encode(), digest_size=4).hexdigest()}"
    if final.is_dir():
        return final
    cache().mkdir(parents=True, exist_ok=True)
    with _lock(suite) as lock:
        if not final.is_dir():
            _make(suite, final, lock)
    return final


def _make(suite: str, final: Path, lock: IO[str]) -> None:
    """Under another name first: a folder of the final name is whole. What an earlier, killed try left is removed."""
    for half_made in cache().glob(f".{suite}-*"):
        shutil.rmtree(half_made)
    print(f"# rig: making the root file system {final} (about 30 s, 480 MB)", flush=True)
    begin = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f".{suite}-", dir=cache()))
    try:
        root = folder / "root"
        _bootstrap(suite, root, folder / "log", lock)
        root.rename(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"# rig: made {final} in {time.monotonic() - begin:.0f} s", flush=True)


def _bootstrap(suite: str, root: Path, log: Path, lock: IO[str]) -> None:
    """The lock goes down to mmdebstrap, so that it is held for as long as anything writes there."""
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                [*_CONTAINED, *_RECIPE, suite, str(root)],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_PATIENCE,
                pass_fds=[lock.fileno()],
            )
        except subprocess.TimeoutExpired as error:
            raise RigError(f"mmdebstrap {suite} took more than {_PATIENCE:g} s\n{tail(log)}") from error
    if done.returncode:
        raise RigError(f"mmdebstrap {suite} failed; is there a way to the distribution's mirror?\n{tail(log)}")


@contextmanager
def _lock(suite: str) -> Iterator[IO[str]]:
    with (cache() / f".{suite}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"# rig: somebody is making the root file system of {suite}; waiting", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


if __name__ == "__main__":
    for each in sys.argv[1:] or chosen():
        print(f"# rig: engine {each}: {root_of(each)}")
