"""What the parts of a member share: what is known, and our seat in the cluster while we have one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mdnp.cluster import LIMIT_S, Change, Cluster, ClusterUnavailable, Unchanged
from mdnp.member import About, Remark
from mdnp.member.records import EPOCH, alive_key, decoded, removed_key
from mdnp.member.rows import Row
from mdnp.member.view import View
from mdnp.model.host import HostID


class Lapsed(ClusterUnavailable):
    """Our seat is not ours any more, or may not be: take it again."""


class Doubted(Lapsed):
    """Somebody wrote what we did not see: look at everything again."""


@dataclass(frozen=True)
class Seat:
    """We are in the cluster: revisions of our liveness key, which is on `lease`, and of the epoch."""

    lease: int
    alive: int
    epoch: int


class Council:
    """
    `seat` is None while we are not in the cluster; `trouble` says why, and what to do. The view follows etcd up to
    `revision`.
    """

    def __init__(self, cluster: Cluster, me: HostID) -> None:
        self.cluster = cluster
        self.view = View(me)
        self.revision = 0
        self.seat: Seat | None = None
        self.trouble = "etcd was not asked yet"
        self._remarks: dict[tuple[About, str], str] = {}
        self._news = asyncio.Event()
        self._asked = asyncio.Event()

    @property
    def me(self) -> HostID:
        return self.view.me

    def take(self, seat: Seat) -> None:
        self.seat = seat
        self.trouble = ""
        self._asked.set()

    def lose(self, why: str) -> None:
        """We are not in the cluster."""
        self.seat = None
        self.trouble = why
        self._asked.set()

    async def asked(self) -> None:
        """Until it is known, after the start, whether we are in the cluster."""
        await self._asked.wait()

    def follow(self, revision: int) -> None:
        """The view is at this revision now."""
        self.revision = revision
        self._news.set()
        self._news = asyncio.Event()

    async def more(self) -> None:
        """Until the view has followed on."""
        await self._news.wait()

    async def reached(self, revision: int) -> None:
        """Until the view has what was committed at this revision."""
        while self.revision < revision:
            await self.more()

    async def commit(self, conditions: Sequence[Unchanged], changes: Sequence[Change]) -> int | None:
        """
        As a member: only while our seat is ours, we were not removed, and the data is that which we know. The revision,
        or None when that or a condition did not hold.
        """
        seat = self.seated()
        ours = (
            Unchanged(alive_key(self.me), seat.alive),
            Unchanged(removed_key(self.me), 0),
            Unchanged(EPOCH, seat.epoch),
        )
        return await self.cluster.commit((*ours, *conditions), changes)

    def seated(self) -> Seat:
        """Errors: ClusterUnavailable when we are not in the cluster."""
        if self.seat is None:
            raise ClusterUnavailable(f"the cluster cannot be asked: {self.trouble}")
        return self.seat

    def check_seat(self) -> None:
        """Errors: Lapsed when the view shows that our seat has ended, or is another's."""
        seat = self.seat
        if seat and self.revision >= seat.alive and self.view.revision_of(alive_key(self.me)) != seat.alive:
            raise Lapsed("our lease in etcd has ended, or another one is in our place")

    def check_agreed(self) -> None:
        """
        Errors: ClusterUnavailable when nothing new can be agreed on: etcd is away, or hosts that may hold what it lost
        did not return.
        """
        self.seated()
        waiting = self.view.unseeded()
        if waiting:
            hosts = ", ".join(map(self.view.called, waiting))
            raise ClusterUnavailable(
                f"etcd's data was lost or restored, and hosts that have not told since what they hold are waited for:"
                f" {hosts}. Start mdnp there, or take a host that will not return out of the cluster: `mdnp host remove"
                f" {waiting[0]}`"
            )

    async def read(self, prefix: str) -> list[tuple[Row, int]]:
        """The rows in etcd now with their revisions, where the view may be behind; those that can be read."""
        entries = (await self.cluster.snapshot(prefix)).entries
        rows = ((decoded(key, entry.value), entry.revision) for key, entry in entries.items())
        return [(row, revision) for row, revision in rows if row is not None]

    def remark(self, about: About, what: str, text: str) -> None:
        """Said until it is `settled`; `what` tells remarks of a kind apart."""
        self._remarks[about, what] = text

    def settled(self, about: About, what: str) -> None:
        self._remarks.pop((about, what), None)

    @property
    def remarks(self) -> list[Remark]:
        return [Remark(about, text) for (about, _), text in self._remarks.items()]


@asynccontextmanager
async def within_limit(what: str) -> AsyncIterator[None]:
    """Docker may be waiting. Errors: ClusterUnavailable when the block takes too long."""
    try:
        async with asyncio.timeout(LIMIT_S):
            yield
    except TimeoutError as error:
        raise ClusterUnavailable(f"{what}: etcd did not answer within {LIMIT_S:g} s; try again") from error
