"""Has Docker make what was declared and remove what was withdrawn, and tells all hosts what came of it."""

import asyncio
import json
import logging
from collections.abc import Mapping

from mdnp.declared import NOT_REMOVED, read
from mdnp.declared.plan import Task, called, plan
from mdnp.engine import EngineRefused, EngineUnavailable, NetworkMaker
from mdnp.member import Registry, Standing
from mdnp.model.errors import MdnpError, StoreUnavailable
from mdnp.model.identity import short
from mdnp.store import Fact, Store

log = logging.getLogger(__name__)

# What somebody did to Docker's networks by hand is found this often, and what failed is tried again no more rarely.
INTERVAL_S = 60.0

_FIRST_AGAIN_S = 1.0
_AWAY_S = 2.0  # how often it is looked whether etcd is back
_SEEN = "declared"  # the fact of which networks were seen declared, and in which epoch
_NOTHING = "{}"


class Declarer:
    """
    One for each daemon that is in a cluster. `wake` is called when something was declared or withdrawn; `run` runs
    beside. `driver` is our name, to which Docker adds a tag if it runs us itself.
    """

    def __init__(
        self, registry: Registry, maker: NetworkMaker, store: Store, driver: str, *, interval_s: float = INTERVAL_S
    ) -> None:
        self._registry = registry
        self._maker = maker
        self._store = store
        self._driver = driver
        self._interval_s = interval_s
        self._away = True  # as of the last look: what is declared is not known
        self._failures = 0  # looks one after the other after which something was left to do
        self._reported: dict[str, str] = {}  # by name why it is not done, "" if it is
        self._said: dict[str, str] = {}  # the troubles that were logged
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            except TimeoutError:
                log.debug("looking for what was declared, unasked")
            self._wake.clear()
            await self.look()

    async def look(self) -> None:
        """
        Do what there is to do, once. Nothing while etcd is away, or while it is not known whether it has all it had:
        what stands there is not known then.
        """
        standing = self._registry.standing()
        self._away = bool(standing.trouble or standing.waiting or not standing.connected)
        if self._away:
            return
        try:
            troubles = await self._look(standing)
        except (EngineUnavailable, StoreUnavailable) as error:
            troubles = self._undone(str(error))
        self._report(troubles)
        self._failures = self._failures + 1 if any(troubles.values()) else 0

    def _pause_s(self) -> float:
        if self._away:
            return _AWAY_S
        return min(self._interval_s, _FIRST_AGAIN_S * 2 ** (self._failures - 1)) if self._failures else self._interval_s

    async def _look(self, standing: Standing) -> dict[str, str | None]:
        """By name what is to be reported, None for no more. Errors: EngineUnavailable, StoreUnavailable."""
        declared = dict(self._registry.declared)
        listed = await self._maker.networks()
        before: dict[str, int] = json.loads(await self._store.fact(_SEEN, _NOTHING))
        driver = called(self._driver, await self._maker.drivers()) if declared else self._driver
        tasks = plan(declared, listed, before, standing.epoch, driver)
        # First: what is declared now and missing later was withdrawn, even if we die meanwhile.
        there = {one.name for one in listed}
        await self._remember(
            before,
            {name: epoch for name, epoch in before.items() if name in there} | dict.fromkeys(declared, standing.epoch),
        )
        troubles = {task.name: await self._tried(task) for task in tasks}
        for name in (*troubles, *(self._said.keys() - troubles)):
            self._say(name, troubles.get(name, ""))
        told = declared.keys() | {task.name for task in tasks if task.remove and troubles[task.name]}
        return {name: troubles[name] if name in told else None for name in {*before, *self._reported, *troubles}}

    async def _remember(self, before: Mapping[str, int], now: Mapping[str, int]) -> None:
        if now != before:
            await self._store.commit(Fact(_SEEN, json.dumps(now)))

    async def _tried(self, task: Task) -> str:
        """Why it is not done, "" if it is. Errors: EngineUnavailable."""
        try:
            for identity in task.remove:
                log.info("network %s: Docker is told to remove %s", task.name, short(identity))
                await self._maker.remove(identity)
        except EngineRefused as error:
            return f"{NOT_REMOVED}{error}"
        try:
            await self._make(task)
        except EngineUnavailable:
            raise
        except MdnpError as error:
            return str(error)
        return task.obstacle

    async def _make(self, task: Task) -> None:
        if task.make:
            log.info("network %s: Docker is told to make it", task.name)
            await self._maker.make(task.make)
        if task.declare:
            log.warning("network %s is here, and etcd has lost its declaration: declared anew", task.name)
            await self._registry.declare(read(task.declare))

    def _undone(self, why: str) -> dict[str, str | None]:
        """What is done stays done: an engine that is restarted takes nothing back."""
        return {name: why if self._reported.get(name, why) else "" for name in self._registry.declared}

    def _report(self, troubles: Mapping[str, str | None]) -> None:
        for name, trouble in troubles.items():
            self._registry.report(name, trouble)
        self._reported = {name: trouble for name, trouble in troubles.items() if trouble is not None}

    def _say(self, name: str, trouble: str) -> None:
        """Once, when it begins, changes or ends."""
        before = self._said.pop(name, "")
        if trouble:
            self._said[name] = trouble
        if trouble != before:
            log.warning("network %s: %s", name, trouble or "as it should be again")
