"""Files as values: what is to be written is known, and can be shown, before anything is."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mdnp.model.errors import Conflict, InvalidParameter

SECRET = 0o600
OPEN = 0o644


@dataclass(frozen=True)
class File:
    """`path` is where the installed host has it, below whatever root it is written to."""

    path: Path
    mode: int
    content: bytes = field(repr=False)


def below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def write(root: Path, files: Iterable[File]) -> None:
    """
    Write them; what is there with the same content stays as it is.

    Errors: Conflict, before anything is written, when one is there that says otherwise; InvalidParameter with the path
    when one cannot be written.
    """
    missing = [one for one in files if not _is_there(root, one)]
    for one in missing:
        path = below(root, one.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, one.mode)
            with open(descriptor, "wb") as output:  # noqa: PTH123  # a descriptor has no path
                os.fchmod(descriptor, one.mode)
                output.write(one.content)
        except OSError as error:
            raise InvalidParameter(f"{path}: {error.strerror}") from error


def remove(root: Path, files: Iterable[File]) -> list[Path]:
    """Remove those that are as we wrote them; the paths of those that somebody has changed, which stay."""
    changed = []
    for one in files:
        path = below(root, one.path)
        try:
            if path.read_bytes() == one.content:
                path.unlink()
            else:
                changed.append(path)
        except FileNotFoundError:
            continue
    return changed


def _is_there(root: Path, one: File) -> bool:
    path = below(root, one.path)
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InvalidParameter(f"{path}: {error.strerror}") from error
    if found != one.content:
        raise Conflict(f"{path}: is there and says otherwise: it is left as it is; remove it to have it made anew")
    return True
