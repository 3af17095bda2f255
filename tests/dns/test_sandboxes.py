"""Sandboxes that come, go and are refused, while it is said which are wanted."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import islice

import dns.message
import dns.rcode
import pytest

from mdnp.dns import Answer, Finder, Kind, Question, Record, Served
from mdnp.dns.sandboxes import Embedded, Pace, Sandboxes
from mdnp.kernel.doorway import Doorway
from tests.doorways import MemoryDoorways

WEB, DB = "/netns/web", "/netns/db"
PACE = Pace(soon=0.001, start=0.02, later=0.005, watch=0.005, first=0.002, last=0.008, parting=0.02)


class Nothing:
    def find(self, _: Question) -> Answer | None:
        return None


@dataclass
class Echo:
    """Sends back what it gets, until it is told to fail."""

    doorway: Doorway
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    served: Served = field(default_factory=Served)

    async def run(self) -> None:
        breaking = asyncio.create_task(self.broken.wait())
        echoing = asyncio.create_task(self._echo())
        try:
            await asyncio.wait([breaking, echoing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            breaking.cancel()
            echoing.cancel()
            await asyncio.wait([breaking, echoing])
        raise OSError(23, "Too many open files in system")

    async def _echo(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data, source = await loop.sock_recvfrom(self.doorway.datagrams, 512)
            await asyncio.sleep(0.005 if data == b"slow" else 0)
            self.served = Served(zone=self.served.zone + 1)
            await loop.sock_sendto(self.doorway.datagrams, data, source)


@dataclass
class House:
    doorways: MemoryDoorways
    sandboxes: Sandboxes
    answering: list[Echo]
    found: list[str]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110  # it changes in the background
                await asyncio.sleep(0.001)

    async def opened(self, *paths: str) -> None:
        await self.until(lambda: sorted(one.sandbox for one in self.doorways.now) == sorted(paths))
        await self.until(lambda: not any(self.sandboxes.standing.values()))


@asynccontextmanager
async def house(pace: Pace = PACE) -> AsyncIterator[House]:
    doorways = MemoryDoorways()
    answering: list[Echo] = []
    found: list[str] = []

    def finder_of(path: str) -> Finder:
        found.append(path)
        return Nothing()

    def echo(_: Finder, doorway: Doorway) -> Echo:
        answering.append(Echo(doorway))
        return answering[-1]

    sandboxes = Sandboxes(doorways, finder_of, echo, pace=pace)
    running = asyncio.create_task(sandboxes.run())
    try:
        yield House(doorways, sandboxes, answering, found)
    finally:
        running.cancel()
        await asyncio.wait([running])
        assert doorways.now == []


def asker(doorway: Doorway) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    opened.connect(doorway.datagrams.getsockname())
    return opened


async def asks(doorway: Doorway, question: bytes = b"?") -> bytes:
    loop = asyncio.get_running_loop()
    with asker(doorway) as asking:
        await loop.sock_sendall(asking, question)
        async with asyncio.timeout(5):
            return await loop.sock_recv(asking, 512)


async def test_what_is_there_is_opened_and_answered_for() -> None:
    async with house() as home:
        home.doorways.there = {WEB: 1, DB: 2}
        home.sandboxes.want([WEB, DB])

        await home.opened(WEB, DB)

        assert [await asks(one) for one in home.doorways.now] == [b"?", b"?"]
        assert sorted(home.found) == [DB, WEB]
        assert home.sandboxes.standing == {DB: "", WEB: ""}
        assert home.sandboxes.served == Served(zone=2)


async def test_to_want_the_same_again_changes_nothing() -> None:
    async with house() as home:
        home.doorways.there = {WEB: 1}
        home.sandboxes.want([WEB])
        await home.opened(WEB)
        home.sandboxes.want((WEB,))
        home.doorways.there[DB] = 2
        home.sandboxes.want([DB, WEB])

        await home.opened(WEB, DB)

        assert home.doorways.tries == 2


async def test_a_sandbox_that_comes_after_join_is_waited_for() -> None:
    async with house() as home:
        home.sandboxes.want([WEB])
        await asyncio.sleep(0.005)
        assert home.sandboxes.standing == {WEB: "its network namespace is not there"}
        home.doorways.there[WEB] = 1

        await home.opened(WEB)

        assert home.doorways.tries == 1


async def test_a_sandbox_that_comes_late_is_found_too() -> None:
    async with house() as home:
        home.sandboxes.want([WEB])
        await asyncio.sleep(2 * PACE.start)
        home.doorways.there[WEB] = 1

        await home.opened(WEB)


async def test_what_is_not_wanted_any_more_answers_what_is_under_way_and_goes() -> None:
    async with house() as home:
        home.doorways.there = {WEB: 1}
        home.sandboxes.want([WEB])
        await home.opened(WEB)
        [doorway] = home.doorways.now
        answer = asyncio.create_task(asks(doorway, b"slow"))
        await asyncio.sleep(0.001)

        home.sandboxes.want([])

        assert await answer == b"slow"
        assert not doorway.leads_here
        assert home.sandboxes.standing == {}
        await home.until(lambda: doorway.closed)
        assert home.sandboxes.served == Served(zone=1)


async def test_what_is_wanted_again_while_it_goes_is_opened_when_it_has_gone() -> None:
    async with house() as home:
        home.doorways.there = {WEB: 1}
        home.sandboxes.want([WEB])
        await home.opened(WEB)
        [first] = home.doorways.now
        home.sandboxes.want([])
        await home.until(lambda: not first.leads_here)

        home.sandboxes.want([WEB])

        await home.until(lambda: first.closed)
        await home.opened(WEB)
        assert home.doorways.tries == 2


async def test_a_sandbox_that_went_without_a_word_is_let_go() -> None:
    async with house() as home:
        home.doorways.there = {WEB: 1}
        home.sandboxes.want([WEB])
        await home.opened(WEB)

        del home.doorways.there[WEB]

        await home.until(lambda: home.doorways.now == [])
        await home.until(lambda: home.sandboxes.standing == {WEB: "its network namespace is not there"})


async def test_another_sandbox_at_the_same_path_is_opened_in_its_place() -> None:
    async with house() as home:
        home.doorways.there = {WEB: 1}
        home.sandboxes.want([WEB])
        await home.opened(WEB)

        home.doorways.there = {WEB: 2}

        await home.until(lambda: [one.number for one in home.doorways.now] == [2])
        assert await asks(home.doorways.now[0]) == b"?"


async def test_why_one_is_not_opened_is_told_and_it_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async with house() as home:
        home.doorways.there = {WEB: 1, DB: 2}
        home.doorways.refusing = {WEB: "the kernel is too old"}
        home.sandboxes.want([WEB, DB])
        await home.until(lambda: home.doorways.tries > 4)
        assert home.sandboxes.standing == {DB: "", WEB: "the kernel is too old"}
        home.doorways.refusing = {}

        await home.opened(WEB, DB)

        assert [one.getMessage() for one in caplog.records] == [
            "names of other hosts are not known in a sandbox: the kernel is too old"
        ]


async def test_tries_become_rare() -> None:
    assert list(islice(PACE.tries(), 4)) == [0.002, 0.004, 0.008, 0.008]


async def test_where_answering_fails_the_sandbox_is_left_to_docker_and_opened_again() -> None:
    async with house() as home:
        home.doorways.there = {WEB: 1}
        home.sandboxes.want([WEB])
        await home.opened(WEB)
        [first] = home.doorways.now

        home.answering[0].broken.set()

        await home.until(lambda: first.closed)
        await home.opened(WEB)
        assert await asks(home.doorways.now[0]) == b"?"


async def test_at_the_end_all_go() -> None:
    async with house() as home:
        home.doorways.there = {str(number): number for number in range(100)}
        home.sandboxes.want(home.doorways.there)
        await home.opened(*home.doorways.there)
        home.sandboxes.want(sorted(home.doorways.there)[50:])  # some are on their way out already
        await asyncio.sleep(0)


async def test_what_is_wanted_before_the_start_is_opened_then() -> None:
    doorways = MemoryDoorways(there={WEB: 1})
    sandboxes = Sandboxes(doorways, lambda _: Nothing(), lambda _, doorway: Echo(doorway), pace=PACE)
    sandboxes.want([WEB])
    assert sandboxes.standing == {WEB: "it is not opened yet"}
    running = asyncio.create_task(sandboxes.run())
    async with asyncio.timeout(5):
        while sandboxes.standing[WEB]:  # noqa: ASYNC110  # it changes in the background
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait([running])
    assert [one.closed for one in doorways.opened] == [True]


class Zone:
    def find(self, question: Question) -> Answer | None:
        known = {
            "far": Answer((Record("far", Kind.A, ip_address("10.50.0.7")),)),
            "near": Answer((Record("near", Kind.A, ip_address("10.50.0.8")),), left=True),
        }
        return known.get(question.name)


async def test_what_docker_has_itself_and_what_we_do_not_have_is_asked_of_it() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as docker:
        docker.setblocking(False)
        docker.bind(("127.0.0.1", 0))
        doorway = await MemoryDoorways({WEB: 1}, embedded=docker.getsockname()).open(WEB)
        embedded = Embedded(Zone(), doorway)
        running = asyncio.create_task(embedded.run())

        far = dns.message.from_wire(await asks(doorway, dns.message.make_query("far", "A").to_wire()))
        for name in ("near", "other"):
            asking = asyncio.create_task(asks(doorway, dns.message.make_query(name, "A").to_wire()))
            query, source = await loop.sock_recvfrom(docker, 512)
            said = dns.message.make_response(dns.message.from_wire(query))
            said.set_rcode(dns.rcode.YXDOMAIN)
            await loop.sock_sendto(docker, said.to_wire(), source)
            assert dns.message.from_wire(await asking).rcode() == dns.rcode.YXDOMAIN

        assert [str(one) for one in far.answer] == ["far. 2 IN A 10.50.0.7"]
        assert embedded.served == Served(zone=1, forwarded=2)
        running.cancel()
        await asyncio.wait([running])
        doorway.close()
