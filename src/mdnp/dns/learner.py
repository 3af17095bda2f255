"""Learns from Docker what our networks and endpoints are called, outside of calls, and keeps it in the store."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial

from mdnp.dns.hearsay import NETWORKS, Hearsay, Holder, differences, endpoints, named, untold
from mdnp.engine import EngineUnavailable, Happening, NameSource, Subject
from mdnp.model.errors import MdnpError
from mdnp.model.names import Names
from mdnp.store import Store

log = logging.getLogger(__name__)

_Work = Callable[[], Awaitable[None]]

_INTERVAL_S = 60.0
_AGAIN_S = 1.0
_AGAIN_AT_MOST_S = 8.0  # after which Docker's events are listened to again
# Questions about containers at once. Those about containers that are being started wait for that.
_AT_ONCE = 16


class Learner:
    """
    One for each daemon. `changed` is called when the store has other names than before. `holder` says by what name IPAM
    knows who holds an address. All containers are asked about when we begin to listen to Docker's events, then those
    that something happens to; and each `interval_s` those are, by a listing, that are called otherwise than we know,
    and sooner, from `again_s` on, while Docker has not told of something that is promised.
    """

    def __init__(
        self,
        source: NameSource,
        store: Store,
        changed: Callable[[], None],
        holder: Holder,
        *,
        interval_s: float = _INTERVAL_S,
        again_s: float = _AGAIN_S,
    ) -> None:
        self._source = source
        self._store = store
        self._changed = changed
        self._holder = holder
        self._interval_s = interval_s
        self._again_s = again_s
        self._hearsay = Hearsay()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting: set[str] = set()  # containers that will be asked about, and have not been yet
        self._pause_s = again_s
        self._sooner = self._later = float("inf")  # when a listing is due, in the loop's time
        self.trouble = ""  # why Docker cannot be asked; "" while it can
        self._tasks: asyncio.TaskGroup

    def look(self) -> None:
        """What is promised has changed: Docker has told of it already, or will. Called in the loop; it never waits."""
        self._pause_s = self._again_s
        self._look_soon()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._listen())
            self._tasks.create_task(self._keep())

    async def _listen(self) -> None:
        loop, pause_s = asyncio.get_running_loop(), self._again_s
        while True:
            began = loop.time()
            try:
                async with aclosing(self._source.happenings()) as happenings:
                    async for one in happenings:
                        self._heed(one)
            except EngineUnavailable as error:
                self._tell(error)
            lasted = loop.time() - began >= _AGAIN_AT_MOST_S
            pause_s = self._again_s if lasted else min(2 * pause_s, _AGAIN_AT_MOST_S)
            await asyncio.sleep(pause_s)

    def _heed(self, happening: Happening) -> None:
        match happening.subject:
            case Subject.ALL:
                self._tell(None)
                self._start(partial(self._look_over, every=True))
            case Subject.NETWORKS:
                self._start(self._ask_for_networks)
            case Subject.CONTAINER:
                self._ask_soon(happening.container)
            case Subject.GONE:
                self._hear(happening.container, self._hearsay.turn(), {})

    async def _keep(self) -> None:
        """Write down what differs, when asked to or something was heard; and look over all when it is due."""
        loop = asyncio.get_running_loop()
        self._later = loop.time() + self._interval_s
        while True:
            self._wake.clear()
            await self._write()
            if not await self._woken():
                self._later = loop.time() + self._interval_s
                self._pause_s = min(2 * self._pause_s, self._interval_s)
                self._sooner = loop.time() + self._pause_s
                self._start(partial(self._look_over, every=False))

    async def _woken(self) -> bool:
        """False: a listing is due."""
        if not untold(self._store.promises, self._hearsay.names):
            self._sooner = float("inf")
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(self._sooner, self._later)):
                await self._wake.wait()
                return True
        return False

    async def _write(self) -> None:
        changes = differences(self._store.promises, self._hearsay.names, self._holder)
        if not changes:
            return
        try:
            await self._store.commit(*changes)
        except MdnpError as error:
            log.warning("names will be written down later: %s", error)
            await asyncio.sleep(self._again_s)
            self._wake.set()
        else:
            self._changed()

    async def _look_over(self, *, every: bool) -> None:
        """Ask about every container that has an endpoint on a network with names; or those of which something lacks."""
        if not named(self._store.promises):
            return
        await self._ask_for_networks()
        turn = self._hearsay.turn()
        containers = await self._source.running()
        self._tell(None)
        self._hearsay.keep({one.id for one in containers}, turn)
        ours = {one.id for one in endpoints(self._store.promises)}
        for one in containers:
            if self._hearsay.lacks(one, ours) or (every and one.endpoints & ours):
                self._ask_soon(one.id)

    async def _ask_for_networks(self) -> None:
        turn = self._hearsay.turn()
        names = await self._source.network_names()
        self._hear(NETWORKS, turn, {identity: Names(name) for identity, name in names.items() if name})

    def _ask_soon(self, container: str) -> None:
        if container not in self._waiting and named(self._store.promises):
            self._waiting.add(container)
            self._start(partial(self._ask_about, container))

    async def _ask_about(self, container: str) -> None:
        async with self._slots:
            self._waiting.discard(container)  # what happens to it from now on may not be in the answer
            turn = self._hearsay.turn()
            names = await self._source.names_of(container)
        self._hear(container, turn, names)

    def _hear(self, subject: str, turn: int, names: Mapping[str, Names]) -> None:
        self._hearsay.hear(subject, turn, names)
        self._wake.set()

    def _start(self, work: _Work) -> None:
        self._tasks.create_task(self._tried(work))

    async def _tried(self, work: _Work) -> None:
        """What was not told is asked for again when a listing is due."""
        try:
            await work()
        except EngineUnavailable as error:
            self._tell(error)
            self._look_soon()

    def _look_soon(self) -> None:
        self._sooner = min(self._sooner, asyncio.get_running_loop().time() + self._pause_s)
        self._wake.set()

    def _tell(self, trouble: EngineUnavailable | None) -> None:
        """Once, when it changes."""
        before, self.trouble = self.trouble, str(trouble or "")
        if before and not self.trouble:
            log.info("Docker tells names again")
        elif self.trouble and not before:
            log.warning("names that changed are learned when Docker can be asked again: %s", trouble)
