"""Networks of the whole cluster with real members, on an etcd in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from mdnp.cluster.fake import FakeCluster
from mdnp.declared.declarer import Declarer
from mdnp.member import DeclaredNetwork, DeclaredSubnet, News
from mdnp.member.session import Local, Member
from mdnp.model.host import HostID
from mdnp.store.sqlite import SqliteStore
from tests.declared.registry import FakeMaker
from tests.world import quick_folder

BLUE = DeclaredNetwork("blue", (DeclaredSubnet("10.50.0.0/16"),), {"mdnp.mode": "overlay"})
PATIENCE_S = 20.0


class Nothing:
    """No addresses and no networks of segments are on these hosts."""

    async def hold_foreign(self, _foreign: object) -> bool:
        return False

    async def let_go_foreign(self, _foreign: object) -> None: ...

    def foreign(self) -> tuple[()]:
        return ()

    def outside(self) -> tuple[()]:
        return ()

    async def lose_block(self, _block: object) -> None: ...

    async def withdraw(self) -> None: ...

    async def enter(self) -> None: ...


class Site:
    """A host of the cluster, with its Docker."""

    def __init__(self, cluster: FakeCluster, number: int, folder: Path) -> None:
        self.docker = FakeMaker()
        self.cluster = cluster
        self._number = number
        self._folder = folder / str(number)
        self.member: Member

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        store = await SqliteStore.open(self._folder)
        vtep = ip_address(f"192.0.2.{self._number}")

        def changed(news: News) -> None:
            if news.networks:
                declarer.wake()

        local = Local(f"host{self._number}", f"machine{self._number}", 4789, lambda: vtep)
        self.member = await Member.open(self.cluster, store, local, changed, draw=lambda: f"{self._number:016x}")
        declarer = Declarer(self.member, self.docker, store, "mdnp")
        nothing = Nothing()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one) for one in (self.member.run(nothing, nothing), declarer.run())]
            try:
                await until(lambda: self.member.standing().connected)
                yield
            finally:
                for one in running:
                    one.cancel()
        await store.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # nobody tells when it does
            await asyncio.sleep(0.01)


@pytest.fixture
async def sites() -> AsyncIterator[list[Site]]:
    with quick_folder() as folder:
        cluster = FakeCluster()
        yield [Site(cluster, number, folder) for number in (1, 2)]


async def test_a_network_is_made_on_all_hosts_told_and_removed(sites: list[Site]) -> None:
    one, two = sites
    async with one.runs(), two.runs():
        await one.member.declare(BLUE)
        await until(lambda: len(one.member.outcomes("blue")) == 2)

        made = (one.docker.names, two.docker.names, dict(one.member.outcomes("blue")))
        await two.member.undeclare("blue")
        await until(lambda: not one.docker.names and not two.docker.names)
        await until(lambda: not one.member.outcomes("blue"))

    assert made == (["blue"], ["blue"], {HostID(f"{number:016x}"): "" for number in (1, 2)})


@pytest.mark.long
async def test_a_host_that_was_down_makes_and_removes_it_when_it_is_back(sites: list[Site]) -> None:
    one, two = sites
    async with one.runs():
        await one.member.declare(BLUE)
        async with two.runs():
            await until(lambda: two.docker.names == ["blue"])
        await one.member.undeclare("blue")
        async with two.runs():
            await until(lambda: two.docker.names == [])


async def test_what_etcd_lost_is_declared_again_and_nothing_is_removed(sites: list[Site]) -> None:
    one, two = sites
    async with one.runs(), two.runs():
        await one.member.declare(BLUE)
        await until(lambda: one.docker.names == two.docker.names == ["blue"])
        epoch = one.member.standing().epoch

        one.cluster.lose()
        await until(lambda: all(site.member.standing().epoch > epoch for site in sites))
        await until(lambda: "blue" in one.member.declared and "blue" in two.member.declared)
        await until(lambda: len(two.member.outcomes("blue")) == 2)

    assert one.docker.removed == two.docker.removed == []
