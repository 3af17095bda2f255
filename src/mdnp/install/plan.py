"""What becomes of each file, from what it should say, what it says and what we wrote there. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256


@dataclass(frozen=True)
class File:
    """
    A text to be put at an absolute path of the host. A configuration is there for the operator to change; other files
    are ours alone, and one that somebody else wrote in their place keeps mdnp from being installed.
    """

    path: str
    text: str
    mode: int = 0o644
    is_configuration: bool = False

    @property
    def digest(self) -> str:
        return digest(self.text.encode())


class Fate(StrEnum):
    WRITE = "write"
    REPLACE = "replace"
    UNCHANGED = "unchanged"
    KEEP = "keep"
    REMOVE = "remove"


@dataclass(frozen=True)
class Decision:
    path: str
    fate: Fate
    file: File | None = None  # what should be there


# By path: what it has now, None if nothing is there; and all that we wrote or were about to write there.
Present = Mapping[str, str | None]
Recorded = Mapping[str, Collection[str]]


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def to_install(wanted: Iterable[File], present: Present, recorded: Recorded) -> list[Decision]:
    """What an earlier version put in and this one does not is removed."""
    files = {one.path: one for one in wanted}
    decisions = [
        Decision(path, _fate(one, present.get(path), recorded.get(path, ())), one) for path, one in files.items()
    ]
    old = {path: digests for path, digests in recorded.items() if path not in files}
    return decisions + to_uninstall(present, old)


def to_uninstall(present: Present, recorded: Recorded) -> list[Decision]:
    """What is gone already is not spoken of."""
    return [
        Decision(path, Fate.REMOVE if present[path] in digests else Fate.KEEP)
        for path, digests in recorded.items()
        if present.get(path) is not None
    ]


def strangers(decisions: Iterable[Decision]) -> list[str]:
    """The paths where somebody else's text stands in the place of one that must be ours."""
    return [
        one.path
        for one in decisions
        if one.fate is Fate.KEEP and one.file is not None and not one.file.is_configuration
    ]


def _fate(file: File, seen: str | None, ours: Collection[str]) -> Fate:
    if seen is None:
        return Fate.WRITE
    if seen == file.digest:
        return Fate.UNCHANGED
    return Fate.REPLACE if seen in ours else Fate.KEEP
