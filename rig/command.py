"""Running commands to their end, with all they said in the error when they fail."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PATIENCE = 60.0


class RigError(Exception):
    """The rig itself could not do what a test needs; this is no verdict on the code under test."""


class CommandFailed(RigError):
    """A command ended badly. The text holds the whole of what it printed."""


@dataclass(frozen=True)
class Result:
    """How a command ended and what it said."""

    command: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both streams, as a terminal would show them but for the order."""
        return self.out + self.err

    def checked(self) -> "Result":
        if self.code:
            raise CommandFailed(f"exit {self.code} of: {' '.join(self.command)}\n{self.said}")
        return self


def run(
    command: Sequence[str],
    *,
    check: bool = True,
    timeout: float = PATIENCE,
    env: Mapping[str, str] | None = None,
    feed: bytes = b"",
) -> Result:
    """Run `command` to its end with `feed` as its standard input; failing raises, unless `check` is off."""
    try:
        done = subprocess.run(list(command), check=False, capture_output=True, timeout=timeout, env=env, input=feed)
    except subprocess.TimeoutExpired as error:
        said = _text(error.stdout) + _text(error.stderr)
        raise CommandFailed(f"no end within {timeout:g} s of: {' '.join(command)}\n{said}") from error
    result = Result(tuple(command), done.returncode, _text(done.stdout), _text(done.stderr))
    return result.checked() if check else result


def until(true: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
    """Look again and again until it is `true`; RigError names `what` was waited for."""
    end = time.monotonic() + timeout
    while not true():
        if time.monotonic() > end:
            raise RigError(f"waited {timeout:g} s in vain: {what}")
        time.sleep(0.02)


def _text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")
