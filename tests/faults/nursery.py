"""
Plays many cases at once. A process without threads imports everything once and forks for each case, whose daemons
are forks again: so one is there in some tens of milliseconds. A fork of a process with threads or a loop would not do.

`Nursery` is for who asks, in whatever process; run as a module, this is what it starts.
"""

import ctypes
import gc
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tests.faults.case import Case, Played, play

AT_ONCE = 2 * (os.cpu_count() or 1) + 1
LIMIT_S = 60
_MEMORY = Path("/dev/shm")
_PROCESS = [sys.executable, "-m", "tests.faults.nursery"]


class Nursery:
    """Made by `opened`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def play(self, cases: Iterable[Case]) -> Iterator[Played]:
        """As they end."""
        names = [str(case) for case in cases]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(names) + "\n")
        self._process.stdin.flush()
        for _ in names:
            line = self._process.stdout.readline()
            assert line, "the nursery ended"
            yield Played.from_json(json.loads(line))


@contextmanager
def opened() -> Iterator[Nursery]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    process = subprocess.Popen(_PROCESS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    with process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()


def main() -> None:
    ctypes.CDLL("libnftables.so.1")  # found once
    gc.collect()
    gc.freeze()  # what a collection would touch is not copied into each fork
    for line in sys.stdin:
        for played in _played([Case.parse(name.split()) for name in json.loads(line)]):
            sys.stdout.write(json.dumps(played) + "\n")
            sys.stdout.flush()


def _played(cases: list[Case]) -> Iterator[dict[str, Any]]:
    waiting = cases[::-1]
    running = selectors.DefaultSelector()
    said: dict[int, bytes] = {}
    while waiting or running.get_map():
        while waiting and len(running.get_map()) < AT_ONCE:
            case = waiting.pop()
            pipe, pid = _fork(case)
            running.register(pipe, selectors.EVENT_READ, (case, pid))
        for key, _ in running.select():
            data = os.read(key.fd, 65536)
            said[key.fd] = said.get(key.fd, b"") + data
            if not data:
                case, pid = key.data
                running.unregister(key.fd)
                os.close(key.fd)
                os.waitpid(pid, 0)
                yield json.loads(said.pop(key.fd) or json.dumps(Played(str(case), problem="it died").to_json()))


def _fork(case: Case) -> tuple[int, int]:
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return read, pid
    try:
        os.close(read)
        with os.fdopen(write, "wb") as pipe:
            pipe.write(json.dumps(_play(case).to_json()).encode())
    finally:
        os._exit(0)


def _play(case: Case) -> Played:
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(LIMIT_S)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mdnp-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        played = play(case, Path(folder))
    played.seconds = time.monotonic() - began
    return played


def _late(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"not done in {LIMIT_S} s")


if __name__ == "__main__":
    main()
