"""Has Docker make what was declared and remove what was withdrawn, and tells all hosts what came of it."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from mdnp.cluster import ClusterUnavailable
from mdnp.declared import Board, Notice, Report, Withdrawn, mark, read, read_report
from mdnp.declared.plan import Task, plan
from mdnp.engine import EngineRefused, EngineUnavailable, NetworkMaker
from mdnp.model.declaration import Declaration
from mdnp.model.errors import Conflict, InvalidParameter, NotFound
from mdnp.model.host import HostID

log = logging.getLogger(__name__)

# What somebody did to Docker's networks by hand is found this often, and what failed is tried again no more rarely.
INTERVAL_S = 60.0
_FIRST_AGAIN_S = 1.0


class Declarer:
    """
    One for each daemon that is in a cluster. `wake` is called when the board may have changed; `run` runs beside.

    `driver` is the name by which Docker knows us, `host` this one's id.
    """

    def __init__(
        self, board: Board, maker: NetworkMaker, driver: str, host: HostID, *, interval_s: float = INTERVAL_S
    ) -> None:
        self._board = board
        self._maker = maker
        self._driver = driver
        self._host = host
        self._interval_s = interval_s
        self._failures = 0  # looks one after the other after which something was left to do
        self._wake = asyncio.Event()
        self._seen: tuple[bool, Mapping[str, str]] | None = None
        self._said: dict[str, str] = {}  # the trouble of each name that was logged

    async def declare(self, declaration: Declaration) -> None:
        """
        Have all hosts make a network. The same one again is no error, and tried again where it failed.

        Errors: ClusterUnavailable; Conflict when that name, or its addresses, are another's.
        """
        text = declaration.text
        standing = self._board.notices.get(declaration.name)
        notices = self.notices()
        known = notices.get(declaration.name)
        if standing is not None and (known is None or (isinstance(known, Declaration) and known != declaration)):
            raise Conflict(
                f"network {declaration.name} is declared already, otherwise: `mdnp network rm {declaration.name}` first"
            )
        _check_apart(declaration, notices)
        if standing != text:
            await self._board.post(declaration.name, text, standing)
        self._seen = None
        self.wake()

    async def withdraw(self, name: str) -> None:
        """Have all hosts remove a network. Errors: ClusterUnavailable; NotFound; Conflict if it just changed."""
        standing = self._board.notices.get(name)
        if standing is None:
            raise NotFound(
                f"no network {name[:80]!r} was made by `mdnp network create`: `docker network rm` removes others"
            )
        notice = self.notices().get(name)
        if not isinstance(notice, Withdrawn):
            digest = notice.digest if notice else ""
            await self._board.post(name, Withdrawn(digest).text, standing)
        self._seen = None
        self.wake()

    def notices(self) -> dict[str, Notice]:
        """Those that this version can read."""
        found: dict[str, Notice] = {}
        for name, text in self._board.notices.items():
            try:
                found[name] = read(text)
            except InvalidParameter as error:
                self._say(name, f"{error}; is another version of mdnp in the cluster?")
        return found

    def reports(self, name: str) -> dict[HostID, Report]:
        return {host: read_report(text) for host, text in self._board.reports(name).items()}

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), self._pause_s())
            except TimeoutError:
                self._seen = None
            self._wake.clear()
            await self.look()

    async def look(self) -> None:
        """Once, if what stands there is known, and is another than at the last look or that is long ago."""
        seen = (self._board.connected, dict(self._board.notices))
        if not self._board.connected or seen == self._seen:
            self._seen = seen
            return
        self._seen = seen
        self._failures = 0 if await self._all_done() else self._failures + 1

    def _pause_s(self) -> float:
        return min(self._interval_s, _FIRST_AGAIN_S * 2 ** (self._failures - 1)) if self._failures else self._interval_s

    async def _all_done(self) -> bool:
        """Do what there is to do; whether nothing is to be tried again."""
        notices = self.notices()
        try:
            tasks: Sequence[Task] = plan(notices, await self._maker.networks(), self._driver)
            troubles = {task.name: await self._tried(task) for task in tasks}
        except EngineUnavailable as error:
            troubles = {name: str(error) for name, notice in notices.items() if not self._is_done(name, notice)}
        try:
            for name, notice in notices.items():
                if name in troubles:
                    await self._tell(name, Report(mark(notice), troubles[name]))
        except ClusterUnavailable as error:
            log.info("what became of declared networks is told later: %s", error)
            return False
        return not any(troubles.values())

    def _is_done(self, name: str, notice: Notice) -> bool:
        """As we told last: an engine that is restarted takes none of it back."""
        return self.reports(name).get(self._host) == Report(mark(notice))

    async def _tried(self, task: Task) -> str:
        """Why it is not done, "" if it is. Errors: EngineUnavailable."""
        trouble = task.obstacle
        try:
            for identity in task.remove:
                log.info("network %s: Docker is told to remove %.12s", task.name, identity)
                await self._maker.remove(identity)
            if task.make:
                log.info("network %s: Docker is told to make it", task.name)
                await self._maker.make(task.make)
            if task.declare:
                log.warning("network %s is here and was declared nowhere any more: declared anew", task.name)
                await self._board.post(task.name, task.declare, None)
        except (EngineRefused, ClusterUnavailable, Conflict) as error:
            trouble = str(error)
        self._say(task.name, trouble)
        return trouble

    async def _tell(self, name: str, report: Report) -> None:
        if self.reports(name).get(self._host) != report:
            await self._board.report(name, report.text)

    def _say(self, name: str, trouble: str) -> None:
        """Once, when it begins, changes or ends."""
        before = self._said.pop(name, "")
        if trouble:
            self._said[name] = trouble
        if trouble != before:
            log.warning("network %s: %s", name, trouble or "done at last")


def _check_apart(declaration: Declaration, notices: Mapping[str, Notice]) -> None:
    """Errors: Conflict with the network that has some of its addresses."""
    others = [one for one in notices.values() if isinstance(one, Declaration) and one.name != declaration.name]
    for other in others:
        for pool in declaration.pools:
            for taken in other.pools:
                if pool.pool.network.overlaps(taken.pool.network):
                    raise Conflict(
                        f"--subnet {pool.pool.network} overlaps {taken.pool.network} of network {other.name}: choose"
                        " another"
                    )
