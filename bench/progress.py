"""How far a benchmark is, on the terminal: one line that is written over; nothing where nobody looks."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

_WIDTH = 78


def told(what: str, items: Sequence[Item]) -> Iterator[Item]:
    """The items, one after the other, and which of how many it is."""
    began = time.monotonic()
    for number, item in enumerate(items, start=1):
        _write(f"  {what}: {number} of {len(items)}, {time.monotonic() - began:.0f} s")
        yield item
    _write("")


def counted(what: str, total: int, items: Iterable[Item]) -> Iterator[Item]:
    """The items as they come, of which there will be so many; each is told when it has come."""
    for number, item in enumerate(items, start=1):
        _write(f"  {what}: {number} of {total}")
        yield item
    _write("")


def _write(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{line:<{_WIDTH}}\r", end="", file=sys.stderr, flush=True)
