"""Reads systemd's unit files as they stand below a root. systemd itself, if it runs, is only asked for the daemon."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mdnp.doctor import Units

_NAMES = ("mdnp.socket", "mdnp.service", "docker.service")
# The first has precedence (systemd.unit(5)).
_FOLDERS = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")
_OLD = "lib/systemd/system"
_RUNS = "run/systemd/system"  # sd_booted(3)
_LIMIT_S = 5.0


def read(root: Path) -> Units:
    folders = [root / one for one in (*_FOLDERS, _OLD)]
    return Units(
        runs=(root / _RUNS).is_dir(),
        units={name: _unit(name, folders) for name in _NAMES},
        enabled=frozenset(name for name in _NAMES if any(_is_wanted(name, folder) for folder in folders)),
        state=_state() if (root / _RUNS).is_dir() and root == Path("/") else "",
    )


def _state() -> str:
    command = ["systemctl", "show", "mdnp.service", "--property=ActiveState", "--value"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _unit(name: str, folders: Sequence[Path]) -> Mapping[str, Sequence[str]] | None:
    file = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if file is None:
        return None
    found: dict[str, list[str]] = {}
    more = sorted((one for folder in folders for one in folder.glob(f"{name}.d/*.conf")), key=lambda one: one.name)
    for each in (file, *more):
        for key, words in _settings(each.read_text()):
            found[key] = [*found.get(key, ()), *words] if words else []  # an empty one takes back what was said before
    return found


def _settings(text: str) -> Iterator[tuple[str, list[str]]]:
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[] \t")
        elif "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            yield f"{section}.{key.strip()}", value.split()


def _is_wanted(name: str, folder: Path) -> bool:
    """Whether a link is there: those of an image lead to files that are not, when it is looked at from outside."""
    return any(os.path.lexists(one / name) for kind in ("wants", "requires") for one in folder.glob(f"*.{kind}"))
