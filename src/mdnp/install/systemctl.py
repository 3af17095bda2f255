"""Speaks to the systemd that runs here, through its program."""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from mdnp.config import CONFIG_FILE
from mdnp.install import NotDone
from mdnp.install.plan import Decision, Fate
from mdnp.install.resolver import DROP_IN, RESOLVED
from mdnp.install.units import SERVICE, SOCKET

_RUNS = Path("/run/systemd/system")  # sd_booted(3)
_READ_ANEW = ("try-restart", RESOLVED)  # not before 255 does it read its files anew otherwise
_LIMIT_S = 120.0  # a daemon that is stopped answers first


def runs() -> bool:
    return _RUNS.is_dir()


def to_install(decisions: Iterable[Decision], other_version: bool) -> list[Sequence[str]]:
    """
    What systemd is to be told once the files are there; nothing where it does not run, or all is as it was.

    The daemon is restarted if there is a new one, which no call and no packet feels. The socket is only if its own
    unit was changed: then calls are refused for a moment, which Docker tries again.
    """
    if not runs():
        return []
    changed = {one.path for one in decisions if one.fate not in (Fate.UNCHANGED, Fate.KEEP)}
    units = [Path(path).name for path in changed - {str(CONFIG_FILE), DROP_IN}]
    commands: list[Sequence[str]] = []
    if units:
        commands.append(("daemon-reload",))
    if SOCKET in units and is_active(SOCKET):
        commands.append(("restart", SOCKET))
    elif (other_version or _read_at_start(changed)) and is_active(SERVICE):
        commands.append(("restart", SERVICE))
    if DROP_IN in changed:
        commands.append(_READ_ANEW)
    if not (is_active(SOCKET) and _asked("is-enabled", SOCKET)):
        commands.append(("enable", "--now", SOCKET))
    return commands


def to_uninstall(decisions: Iterable[Decision]) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
    """What systemd is to be told before the files go, and afterwards."""
    if not runs():
        return [], []
    after: list[Sequence[str]] = [("daemon-reload",)]
    if any((one.path, one.fate) == (DROP_IN, Fate.REMOVE) for one in decisions):
        after.append(_READ_ANEW)
    return [("disable", "--now", SOCKET, SERVICE)], after


def _read_at_start(paths: Iterable[str]) -> bool:
    return any(Path(one).name in (SERVICE, CONFIG_FILE.name) or one.endswith(".pem") for one in paths)


def tell(*arguments: str) -> None:
    """Errors: NotDone with what it said."""
    done = _run(arguments)
    if done.returncode != 0:
        raise NotDone(f"{shown(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}")


def is_active(unit: str) -> bool:
    return runs() and _asked("is-active", unit)


def shown(arguments: Sequence[str]) -> str:
    return " ".join(["systemctl", *arguments])


def _asked(question: str, unit: str) -> bool:
    return _run([question, "--quiet", unit]).returncode == 0


def _run(arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except FileNotFoundError as error:
        raise NotDone("systemd runs, but its program systemctl is not found: look at PATH") from error
    except subprocess.TimeoutExpired as error:
        raise NotDone(f"{shown(arguments)} did not end within {_LIMIT_S:g} s: see `systemctl list-jobs`") from error
