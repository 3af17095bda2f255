"""
The named points, and the faults that can be put there.

The kernel's follow from the kinds of objects and steps: a new kind is a new point, which some verb must then hit.
"""

import mmap
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import get_args

from mdnp.dataplane.objects import Object
from mdnp.dataplane.steps import Add, Delete, Doom, Removable, Set, Step

DONE = ".done"


class Kind(StrEnum):
    """What happens at a point."""

    FAIL = "fail"  # once
    KEEP_FAILING = "keep-failing"  # from there on until the call has been answered
    KILL = "kill"  # the daemon, with SIGKILL


_FAILURES = (Kind.FAIL, Kind.KEEP_FAILING)


@dataclass(frozen=True)
class Point:
    """`what` is a sentence about it; `kinds` are the faults that its contract knows."""

    name: str
    what: str
    kinds: tuple[Kind, ...]


@dataclass(frozen=True)
class Fault:
    """At the `hit`-th time that the point is reached, counted from 1."""

    point: str
    hit: int
    kind: Kind

    def strikes(self, hit: int) -> bool:
        return hit >= self.hit if self.kind is Kind.KEEP_FAILING else hit == self.hit

    def __str__(self) -> str:
        return f"{self.point}:{self.hit} {self.kind}"


def step_point(step: Step) -> str:
    match step:
        case Add(one):
            return f"kernel.add.{_word(type(one))}"
        case Delete(one):
            return f"kernel.delete.{_word(type(one))}"
        case Set():
            return "kernel.set.link"
        case Doom():
            return "kernel.doom.link"


def _word(kind: type) -> str:
    return kind.__name__.lower()


def _both(name: str, what: str) -> Iterator[Point]:
    """What is done can fail before it is done; when it is done, that was it."""
    yield Point(name, f"{what} begins", (*_FAILURES, Kind.KILL))
    yield Point(name + DONE, f"{what} has ended", (Kind.KILL,))


def _steps() -> Iterator[Point]:
    for kind in get_args(Object):
        yield from _both(f"kernel.add.{_word(kind)}", f"a step Add({kind.__name__})")
    for kind in get_args(Removable):
        yield from _both(f"kernel.delete.{_word(kind)}", f"a step Delete({kind.__name__})")
    yield from _both("kernel.set.link", "a step Set(Link)")
    yield from _both("kernel.doom.link", "a step Doom(Link)")


def _all() -> Iterator[Point]:
    yield Point("socket.call", "a call has been read whole", (Kind.FAIL, Kind.KILL))
    yield Point("socket.answer", "an answer is about to be written", (Kind.FAIL, Kind.KILL))
    yield Point("socket.answer.done", "an answer has been written", (Kind.KILL,))
    yield from _both("store.commit", "writing promises to disk")
    yield from _both("cluster.snapshot", "reading in a call what stands in etcd")
    yield from _both("cluster.commit", "agreeing in a call on something in etcd")
    yield from _both("store.read", "reading from disk what memory does not keep")
    yield from _both("kernel.listen", "subscribing to the kernel's notices")
    yield from _both("kernel.observe", "reading what of ours is in the kernel")
    yield from _both("kernel.surroundings", "reading what the host has besides")
    yield from _both("kernel.local_ports", "reading which ports are the host's to choose from")
    yield from _steps()
    yield from _both("kernel.reap", "deleting the veths that were marked")


POINTS: Mapping[str, Point] = {one.name: one for one in _all()}


class Switch:
    """
    Memory that the daemon shares with who tests it, and the file in which it notes the points that it reaches.

    Made before the daemon is forked.
    """

    _ARMED, _STRUCK = 0, 1

    def __init__(self, trace: Path) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._file = os.open(trace, os.O_CREAT | os.O_APPEND | os.O_RDWR)

    def begin(self, *, armed: bool) -> None:
        """A call begins, and with it a trace. Only what is reached while it is armed counts as a hit."""
        os.ftruncate(self._file, 0)
        self._memory[self._ARMED] = armed

    def end(self) -> None:
        self._memory[self._ARMED] = False

    @property
    def armed(self) -> bool:
        return bool(self._memory[self._ARMED])

    def strike(self) -> None:
        self._memory[self._STRUCK] = True

    @property
    def struck(self) -> bool:
        """Whether the fault has been put in, the last one of several."""
        return bool(self._memory[self._STRUCK])

    def note(self, name: str) -> None:
        os.write(self._file, f"{name}\n".encode())

    @property
    def trace(self) -> list[str]:
        """The points reached since the call began, in order."""
        return os.pread(self._file, os.fstat(self._file).st_size, 0).decode().split()


class Faults:
    """In the daemon: says at each point whether what is done there shall fail."""

    def __init__(self, switch: Switch, faults: Sequence[Fault]) -> None:
        self._switch = switch
        self._faults = faults
        self._hits: Counter[str] = Counter()

    def reach(self, name: str) -> bool:
        """A point is reached. Whether what follows shall fail; where it kills it does not return."""
        self._switch.note(POINTS[name].name)
        if not self._switch.armed:
            return False
        self._hits[name] += 1
        due = [one for one in self._faults if one.point == name and one.strikes(self._hits[name])]
        if self._faults and self._faults[-1] in due:
            self._switch.strike()
        if any(one.kind is Kind.KILL for one in due):
            os.kill(os.getpid(), signal.SIGKILL)
        return bool(due)
