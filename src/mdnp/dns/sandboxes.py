"""The sandboxes whose questions of names come to us: opened, watched and closed, outside of calls."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Protocol

from mdnp.dns import Finder, Scope, Served
from mdnp.dns.askers import Limits
from mdnp.dns.server import Server
from mdnp.dns.station import summed
from mdnp.dns.upstream import Forwarder
from mdnp.kernel.doorway import Doorway, Doorways
from mdnp.model.errors import KernelError

log = logging.getLogger(__name__)

_OPENED_AT_ONCE = 8
_CLOSED_AT_ONCE = 64  # each waits for the kernel, which lets go of many in the time of one
# All of a sandbox ask from one address. The embedded DNS limits only what it asks others at once: 100 in old engines,
# 1024 in new ones (libnetwork, resolver.go, maxConcurrent).
_UNDER_WAY = 1024
_LIMITS = Limits(under_way=_UNDER_WAY, own_connections=256, connections=256)
_ABSENT = "its network namespace is not there"
_NOT_YET = "it is not opened yet"


class Answering(Protocol):
    """Answers at one doorway."""

    @property
    def served(self) -> Served: ...

    async def run(self) -> None:
        """Until cancelled. Errors: OSError."""


@dataclass(frozen=True)
class Pace:
    """
    In seconds. A sandbox that is not there is looked for each `soon`, for as long as a start may take (engines before
    26 make it after Join), then each `later`. One that is open is looked at each `watch`. After an error it is tried
    again `first` later, then twice as long, at most `last`. One that is left is answered for `parting` more.
    """

    soon: float = 0.015
    start: float = 10.0
    later: float = 3.0
    watch: float = 5.0
    first: float = 1.0
    last: float = 60.0
    parting: float = 0.2

    def looks(self) -> Iterator[float]:
        yield from repeat(self.soon, round(self.start / self.soon))
        yield from repeat(self.later)

    def tries(self) -> Iterator[float]:
        wait = self.first
        while True:
            yield wait
            wait = min(2 * wait, self.last)


class Embedded:
    """
    Answers in a sandbox, in front of Docker's embedded DNS. Whoever asks there is of the sandbox, whatever its address:
    nothing from elsewhere gets to the sockets of a doorway.
    """

    def __init__(self, finder: Finder, doorway: Doorway) -> None:
        self._doorway = doorway
        self._forwarder = Forwarder(doorway.dial, waiting=_UNDER_WAY)
        scope = Scope(finder, self._forwarder, embedded=True)
        self._server = Server(lambda _: scope, _LIMITS)

    @property
    def served(self) -> Served:
        return self._server.served

    async def run(self) -> None:
        try:
            await self._server.serve(self._doorway.datagrams, self._doorway.streams)
        finally:
            self._forwarder.close()


class Sandboxes:
    """
    What is wanted is opened and kept while it `run`s. Open sockets keep a network namespace alive that its container
    has left: so each is watched, and closed where Docker took it away without a word (a killed engine sends no Leave).
    """

    def __init__(
        self,
        doorways: Doorways,
        finder_of: Callable[[str], Finder],
        answering: Callable[[Finder, Doorway], Answering] = Embedded,
        *,
        pace: Pace = Pace(),
    ) -> None:
        self._doorways = doorways
        self._finder_of = finder_of
        self._answering = answering
        self._pace = pace
        self._wanted: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._turn = asyncio.Semaphore(_OPENED_AT_ONCE)
        self._kept: dict[str, asyncio.Task[None]] = {}
        self._reasons: dict[str, str] = {}
        self._open: dict[str, Answering] = {}
        self._before = Served()

    @property
    def standing(self) -> Mapping[str, str]:
        """Of each sandbox that is wanted why its questions do not come to us; "" where they do."""
        return {path: self._reasons.get(path, _NOT_YET) for path in sorted(self._wanted)}

    @property
    def served(self) -> Served:
        """In all sandboxes, also in those that have gone."""
        return summed([self._before, *(one.served for one in self._open.values())])

    def want(self, paths: Collection[str]) -> None:
        """From now on these and no others: what differs is opened and closed in a while."""
        self._wanted = frozenset(paths)
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled; then no question is lost that was under way, for a short time."""
        with ThreadPoolExecutor(_CLOSED_AT_ONCE, "mdnp-doorway") as self._closers:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._changed.clear()
                    self._follow(group)
                    await self._changed.wait()

    def _follow(self, group: asyncio.TaskGroup) -> None:
        """What is left is known until it is closed: only then may it be opened again."""
        for path, task in self._kept.items():
            if path not in self._wanted and not task.cancelling():
                task.cancel()
        for path in self._wanted - self._kept.keys():
            self._kept[path] = group.create_task(self._keep(path))
            self._kept[path].add_done_callback(partial(self._forget, path))

    def _forget(self, path: str, _: object) -> None:
        del self._kept[path]
        self._reasons.pop(path, None)
        self._changed.set()

    async def _keep(self, path: str) -> None:
        waits = self._pace.tries()
        while True:
            await self._appears(path)
            try:
                async with self._turn:
                    doorway = await self._doorways.open(path)
                await self._answer(path, doorway)
                waits = self._pace.tries()
            except (KernelError, OSError) as error:
                if self._doorways.exists(path):  # else it went away under our hands
                    self._complain(path, str(error))
                    await asyncio.sleep(next(waits))

    async def _appears(self, path: str) -> None:
        for wait in self._pace.looks():
            if self._doorways.exists(path):
                return
            self._reasons[path] = _ABSENT
            await asyncio.sleep(wait)

    async def _answer(self, path: str, doorway: Doorway) -> None:
        """Until it is gone, or another stands in its place. Errors: OSError."""
        answering = self._open[path] = self._answering(self._finder_of(path), doorway)
        self._reasons[path] = ""
        task = asyncio.create_task(answering.run())
        try:
            while doorway.stands() and not task.done():
                await asyncio.wait([task], timeout=self._pace.watch)
            if task.done():
                await task
        finally:
            await self._part(doorway, task)
            self._before = summed([self._before, self._open.pop(path).served])

    async def _part(self, doorway: Doorway, task: "asyncio.Task[None]") -> None:
        doorway.withdraw()
        try:
            await asyncio.wait([task], timeout=self._pace.parting)
        finally:
            task.cancel()
            try:
                await asyncio.gather(task, return_exceptions=True)
            finally:
                await asyncio.get_running_loop().run_in_executor(self._closers, doorway.close)

    def _complain(self, path: str, reason: str) -> None:
        if self._reasons.get(path) != reason:
            log.warning("names of other hosts are not known in a sandbox: %s", reason)
        self._reasons[path] = reason
