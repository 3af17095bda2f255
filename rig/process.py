"""Processes that outlive a call: started with a log file, ended by pid only."""

import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from rig.command import RigError, until

PROC = Path("/proc")
_STATE, _PARENT, _STARTED = 0, 1, 19  # places in /proc/PID/stat, counted after the name
_MOMENT = 2.0
_ENDED = ("Z", "X", "x")


class Process:
    """
    A running program whose output goes to `log`.

    It gets a session of its own, so that an interrupt at the terminal reaches only the rig, which then ends it in
    order. `wrapped` says that the program forks once and waits, as nsenter does when it enters a pid namespace: the
    process that counts is then its child. `fds` are given to it under the same numbers.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        wrapped: bool = False,
        fds: Iterable[int] = (),
    ) -> None:
        self.command = tuple(command)
        self.log = log
        self._wrapped = wrapped
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                pass_fds=tuple(fds),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that counts, as the machine sees it."""
        inner = children(self._popen.pid) if self._wrapped else ()
        return inner[0] if inner else self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def wait(self, timeout: float) -> int:
        """The exit code; RigError with the end of the log if it does not end."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise RigError(f"{self.command[0]} did not end within {timeout:g} s\n{self.tail()}") from error

    def stop(self, timeout: float = 30.0) -> int:
        """Ask it to end and wait; the exit code. One that does not end is killed, and RigError says so."""
        if self.running:
            send(self.pid, signal.SIGTERM)
        try:
            return self.wait(timeout)
        except RigError:
            self.kill()
            raise

    def kill(self) -> None:
        """End it at once. Of an ended one it only collects the exit code."""
        if self.running:
            kill((self.pid,))  # a wrapper collects its child and ends by itself
        try:
            self._popen.wait(_MOMENT)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def tail(self, lines: int = 40) -> str:
        return tail(self.log, lines)


def tail(log: Path, lines: int = 40) -> str:
    """The end of a log, as error messages show it."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join((f"--- end of {log}", *text.splitlines()[-lines:], "---"))


def pids() -> Iterator[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def children(pid: int) -> tuple[int, ...]:
    """Read from every stat: not every kernel has /proc/PID/task/TID/children."""
    return tuple(each for each in pids() if _stat(each)[_PARENT : _PARENT + 1] == [str(pid)])


def name(pid: int) -> str:
    with suppress(OSError):
        return (PROC / str(pid) / "comm").read_text().strip()
    return ""


def started(pid: int) -> str:
    """When it started, in ticks since boot, which tells it from a later process of the same pid; "" if it has ended."""
    fields = _stat(pid)
    return fields[_STARTED] if fields and fields[_STATE] not in _ENDED else ""


def variable(pid: int, key: str) -> str:
    """A variable of the environment it was started with; "" if there is none or the process is gone."""
    with suppress(OSError):
        for entry in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
            if entry.startswith(f"{key}=".encode()):
                return entry.decode(errors="replace").partition("=")[2]
    return ""


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process; one that is gone is no error."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def kill(targets: Iterable[int], *, only: Callable[[int], bool] = lambda _: True, timeout: float = 20.0) -> None:
    """
    Kill all of `targets` and wait until each has ended (it may still be a zombie, which its parent collects).

    `only` is asked once more when a pid is held fast and can no longer come to mean another process.
    """
    with ExitStack() as stack:
        handles = [handle for pid in targets if (handle := _hold(pid, stack)) is not None and only(pid)]
        for handle in handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        until(lambda: _ended(handles), "killed processes to end", timeout)


def _hold(pid: int, stack: ExitStack) -> int | None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    stack.callback(os.close, handle)
    return handle


def _ended(handles: Sequence[int]) -> bool:
    """A pidfd becomes readable when its process ends."""
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    return len(poll.poll(0)) == len(handles)


def _stat(pid: int) -> list[str]:
    with suppress(OSError):
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return []
