"""
A run of the rig: a folder, a tag and all that is started under them, gone again when the run is closed.

    with Run() as run:
        host = Host(Underlay(run), "a")
"""

import atexit
import fcntl
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from rig import sweep
from rig.process import Process

_LOCK = sweep.RUNS / "mdnp-rig.lock"
_ENDINGS = (signal.SIGINT, signal.SIGTERM)


class Run:
    """
    What a test process owns of the machine while it lives.

    Closing calls what was deferred, newest first, and then removes all that bears the run's tag, deferred or not. It
    happens at the end of the `with` block, at exit, on an interrupt and on SIGTERM. After SIGKILL the next run to
    start does it.
    """

    def __init__(self) -> None:
        with turn():
            sweep.sweep()
            self.folder = Path(tempfile.mkdtemp(prefix=sweep.FOLDER_PREFIX, dir=sweep.RUNS))
            sweep.claim(self.folder)
        self.tag = sweep.tag_of(self.folder)
        self.name = f"{sweep.NAME_PREFIX}{self.tag}"
        self._owner = os.getpid()
        self._deferred = ExitStack()
        atexit.register(self.close)
        _take_sigterm()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def env(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment `base`, by default our own, with the mark by which a process of this run is found."""
        return {**(os.environ if base is None else base), sweep.MARK: str(self.folder)}

    def defer(self, callback: Callable[[], object]) -> None:
        """Have `callback` called when the run closes, before what was deferred earlier."""
        self._deferred.callback(callback)

    def spawn(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        wrapped: bool = False,
        fds: Iterable[int] = (),
    ) -> Process:
        """Start a process that ends with the run at the latest. `env` is all of its environment, but for the mark."""
        process = Process(command, log=log, env=self.env(env), wrapped=wrapped, fds=fds)
        self.defer(process.kill)
        return process

    def close(self) -> None:
        """Remove all of the run; a second call does nothing. A forked child must not end its parent's run."""
        if os.getpid() != self._owner:
            return
        with _undisturbed():
            atexit.unregister(self.close)
            try:
                self._deferred.close()
            finally:
                sweep.remove(self.tag)


@contextmanager
def turn() -> Iterator[None]:
    """One at a time among all rigs of the machine: a run that is just being made must not look like a dead one."""
    with _LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _take_sigterm() -> None:
    """
    Turn SIGTERM into KeyboardInterrupt for the rest of this process, if nobody else handles it.

    Not into SystemExit: pytest ends its session in order at an interrupt, while an exit only fails the test.
    """
    if _in_main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)


def _in_main_thread() -> bool:
    """Only there may handlers be set."""
    return threading.current_thread() is threading.main_thread()


def _interrupt(number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {number}")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not leave half of the run behind; removing it takes seconds and has limits of its own."""
    if not _in_main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
