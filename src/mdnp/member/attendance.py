"""Our seat in the cluster: taking it, keeping it, and what becomes of us when we may not have it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any

from mdnp.cluster import ClusterUnavailable, LeaseGone, Put, Unchanged
from mdnp.member import News, Presence
from mdnp.member.follower import Follower, Refused, Removed
from mdnp.member.records import (
    ALIVE,
    BLOCKS,
    EPOCH,
    NETWORKS,
    REMOVED,
    SEGMENTS,
    VNIS,
    alive_key,
    decoded,
    host_of,
    removed_key,
    value,
)
from mdnp.member.rows import AliveRow
from mdnp.member.seat import Council, Doubted, Lapsed, Seat
from mdnp.member.teller import Teller
from mdnp.member.vigil import Vigil
from mdnp.model.errors import MdnpError
from mdnp.model.host import Host, HostID
from mdnp.model.network import IPAddress
from mdnp.store import Fact, Memory

log = logging.getLogger(__name__)

HOST_ID, VTEP = "host_id", "vtep"  # facts in the store
NO_VTEP = (
    "the address of this host's tunnels is not known, for there is no route to etcd: give it by --host-address"
    " (MDNP_HOST_ADDRESS, or host_address in the configuration file)"
)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_REFUSED_S = 2.0  # until we ask again whether we may be in the cluster
_AGAIN_S = 2.0  # until our networks are tried again to be given what a new member must give them
_KEPT_ALIVE = 3  # times in a lease
# Rows of all hosts in which something of ours may stand.
_CONCERNING = (BLOCKS, SEGMENTS, VNIS, REMOVED, NETWORKS)


@dataclass(frozen=True)
class Local:
    """
    What the daemon knows of this host. `machine` differs between machines that have the same state by mistake; `port`
    is the UDP port of the tunnels; `find_vtep` tells their address on the underlay, None when it cannot be known now.
    """

    name: str
    machine: str
    port: int
    find_vtep: Callable[[], IPAddress | None]


class Attendance:
    """`vtep` is what was known of it last; `draw` gives identities; `clock` seconds since the epoch."""

    def __init__(
        self,
        *,
        council: Council,
        follower: Follower,
        teller: Teller,
        vigil: Vigil,
        memory: Memory,
        local: Local,
        vtep: IPAddress | None,
        lease_s: int,
        clock: Callable[[], float],
        draw: Callable[[], str],
    ) -> None:
        self._council = council
        self._follower = follower
        self._teller = teller
        self._vigil = vigil
        self._memory = memory
        self._local = local
        self._lease_s = lease_s
        self._clock = clock
        self._draw = draw
        self._session = draw()
        self._last: Seat | None = None  # which may still be ours
        self._entered = False  # our networks have what a new member must give them
        self.vtep = vtep
        council.view.set_vtep(vtep)

    @property
    def host(self) -> Host:
        """Errors: ClusterUnavailable while the address of our tunnels is not known."""
        if self.vtep is None:
            raise ClusterUnavailable(NO_VTEP)
        return Host(self._council.me, self._local.name, self.vtep)

    async def run(self, presence: Presence) -> None:
        """Have a seat whenever that is possible, until cancelled."""
        pause = _FIRST_PAUSE_S
        while True:
            began = _now()
            try:
                await self._attend(presence)
            except Removed:
                await self._depart(presence)
            except Refused as refused:
                self._lose_seat(str(refused))
                await self._make_room()
            except MdnpError as error:
                if isinstance(error, Doubted):
                    self._follower.doubt()
                self._lose_seat(str(error))
            pause = _FIRST_PAUSE_S if _now() - began > _LONGEST_PAUSE_S else min(2 * pause, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause)

    async def _attend(self, presence: Presence) -> None:
        """From a look at what there is until something ends it: always an error."""
        await self._follower.catch_up()
        try:
            await self._find_vtep()
            await self._take_seat()
        except Refused as refused:
            self._lose_seat(str(refused))
            # What others tell is followed all the same.
            with suppress(TimeoutError):
                async with asyncio.timeout(_REFUSED_S), aclosing(self._follower.follow()) as batches:
                    async for _ in batches:
                        pass
            raise
        self._vigil.recover(_now())
        try:
            await _together(
                self._follow(),
                self._follower.keep_written(),
                self._keep_alive(),
                self._teller.run(self.host, self._follower.epoch),
                self._enter(presence),
            )
        finally:
            self._vigil.fail()
            self._council.seat = None
            await self._follower.write_down()

    async def _follow(self) -> None:
        async with aclosing(self._follower.follow()) as batches:
            async for batch in batches:
                self._heed([event.key for event in batch.events])

    def _heed(self, keys: Sequence[str]) -> None:
        """What happened to these keys may be about us. Errors: Lapsed, Refused."""
        self._council.check_seat()
        if any(key.startswith(ALIVE) for key in keys):
            self._check_vtep(self.host)
        if any(key.startswith(_CONCERNING) or host_of(key) == self._council.me for key in keys):
            self._teller.tell()

    async def _find_vtep(self) -> None:
        found = self._local.find_vtep() or self.vtep
        if found is None:
            raise Refused(NO_VTEP)
        if found == self.vtep:
            return
        await self._memory.commit(Fact(VTEP, str(found)))
        self.vtep = found
        segments = News(segments=frozenset(self._council.view.members))
        self._follower.tell(self._council.view.set_vtep(found) | segments)

    async def _take_seat(self) -> None:
        """Errors: Refused when another host is in our place, Lapsed when it was changed just now."""
        me, view = self.host, self._council.view
        entry = (await self._council.cluster.snapshot(alive_key(me.id))).entries.get(alive_key(me.id))
        row = decoded(alive_key(me.id), entry.value) if entry else None
        if isinstance(row, AliveRow) and row.session != self._session and row.machine != self._local.machine:
            raise Refused(
                f"another host with our identity {me.id} is in the cluster: {row.name}, VTEP {row.vtep}. If one is a"
                " copy of the other, remove mdnp's state folder on one of them; if this host was just restarted, its"
                f" old place is free within {self._lease_s} s"
            )
        self._check_vtep(me)
        if self._last and entry and entry.revision == self._last.alive and await self._is_kept(self._last.lease):
            log.info("in the cluster again")
            self._last = replace(self._last, epoch=self._follower.epoch_revision)
            self._council.take(self._last)
            return
        now = AliveRow(me.id, self._session, me.vtep, me.name, self._local.machine, self._clock())
        lease = await self._council.cluster.grant(self._lease_s)
        conditions = [
            Unchanged(alive_key(me.id), entry.revision if entry else 0),
            Unchanged(removed_key(me.id), 0),
            Unchanged(EPOCH, self._follower.epoch_revision),
        ]
        alive = await self._council.cluster.commit(conditions, [Put(alive_key(me.id), value(now), lease)])
        if alive is None:
            raise Doubted("our place in the cluster changed while we took it")
        log.info("in the cluster as host %s, VTEP %s; %d hosts are known", me.id, me.vtep, len(view.hosts))
        self._last = Seat(lease, alive, self._follower.epoch_revision)
        self._council.take(self._last)

    def _check_vtep(self, me: Host) -> None:
        """Errors: Refused when another host that lives has our VTEP, and had it first."""
        view, ours = self._council.view, self._council.seat
        for other in view.alive.values():
            if other.host == me.id or other.vtep != me.vtep or other.host in view.removed:
                continue
            if ours is None or view.revision_of(alive_key(other.host)) < ours.alive:
                raise Refused(
                    f"VTEP {me.vtep} is also that of host {view.called(other.host)}: give this one another by"
                    " --host-address"
                )

    async def _is_kept(self, lease: int) -> bool:
        try:
            await self._council.cluster.keep_alive(lease)
        except LeaseGone:
            return False
        return True

    async def _keep_alive(self) -> None:
        """Errors: ClusterUnavailable, Lapsed when our lease has ended."""
        while True:
            await asyncio.sleep(self._lease_s / _KEPT_ALIVE)
            try:
                await self._council.cluster.keep_alive(self._council.seated().lease)
            except LeaseGone as error:
                raise Lapsed(f"etcd ended our lease: {error}") from error

    async def _enter(self, presence: Presence) -> None:
        while not self._entered:
            try:
                await presence.enter()
                self._entered = True
            except MdnpError as error:
                log.warning("networks of this host are given their part of the cluster later: %s", error)
                await asyncio.sleep(_AGAIN_S)

    async def _depart(self, presence: Presence) -> None:
        """We were removed: our endpoints go out of the segments before anything else, then we are another host."""
        old = self._council.me
        self._lose_seat(f"this host was taken out of the cluster by `mdnp host remove {old}`")
        log.critical(
            "this host was taken out of the cluster by `mdnp host remove %s`: its containers on overlay networks lose"
            " their addresses, which may be others' by now; restart those containers. It joins anew",
            old,
        )
        try:
            await presence.withdraw()
            new = HostID(self._draw())
            await self._memory.commit(Fact(HOST_ID, new))
        except MdnpError as error:
            log.error("leaving the segments will be tried again: %s", error)  # noqa: TRY400  # its text says all
            return
        self._follower.rename(new)
        self._entered = False
        self._last = None

    async def _make_room(self) -> None:
        """The others need not wait for our lease to end."""
        if self._last is not None:
            with suppress(ClusterUnavailable):
                await self._council.cluster.revoke(self._last.lease)
            self._last = None

    def _lose_seat(self, why: str) -> None:
        self._vigil.fail()
        if why != self._council.trouble:
            log.warning("not in the cluster: %s", why)
        self._council.lose(why)


async def _together(*runs: Coroutine[Any, Any, None]) -> None:
    """
    Run all until one fails; its error. No TaskGroup: the one of 3.11 forgets that it is cancelled itself when one of
    its tasks fails meanwhile.
    """
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _now() -> float:
    return asyncio.get_running_loop().time()
