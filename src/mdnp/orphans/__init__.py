"""
What was promised and nobody has any more: Docker forgot to give it back, or never got our answer.

Nothing is removed on a guess: only when Docker itself, asked outside of calls, does not have it, in two listings. Who
keeps promises says what of them is not in a listing (`Keeper`); the collector asks, and has them taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mdnp.engine import Listing


@dataclass(frozen=True)
class Orphan:
    """
    A promise that is in no listing. `name` is an address, or the id of an endpoint, network or pool, `of` the pool or
    network that it is of ("" for itself), `since` when it was made, in seconds since the epoch. `promise` is the
    record: an orphan is the same one in two listings only if nothing of it changed meanwhile.
    """

    kind: str
    name: str
    of: str
    since: float
    promise: Any

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" of {self.of}" if self.of else "")


class Keeper(Protocol):
    async def learn(self, listing: Listing, began: float) -> None:
        """Take in what the listing says; `began` is when it was asked for, in seconds since the epoch."""

    def orphans(self, listing: Listing, before: float) -> Sequence[Orphan]:
        """What was promised before `before` and is not in the listing."""

    def is_engines(self, orphan: Orphan) -> bool:
        """Whether this engine is known to have had it: another one on the host may have what it never listed."""

    async def free(self, orphan: Orphan) -> None:
        """Take it back, unless it changed hands since. Errors: MdnpError."""
