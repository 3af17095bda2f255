"""Names are learned from Docker as things happen, and nothing waits for it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_interface

from mdnp.dns.learner import Learner
from mdnp.engine import Subject
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.names import Called, Names
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.options import Mode, NetworkOptions
from mdnp.store import Drop, Put
from tests.dns.docker import LISTENED, NETWORKS, RUNNING, FakeDocker
from tests.member.hours import in_hours
from tests.member.lab import Notebook
from tests.world import NET, OTHER_NET, a_network, an_endpoint

INTERVAL_S, AGAIN_S = 60, 1


class House:
    """A host whose Docker has a network with names, and one without; nothing is on them yet."""

    def __init__(self) -> None:
        self.docker = FakeDocker()
        self.store = Notebook()
        self.changes = 0
        self.holders: dict[str, str] = {}
        self.learner = Learner(
            self.docker, self.store, self._changed, self._holder, interval_s=INTERVAL_S, again_s=AGAIN_S
        )
        blue = a_network(NET, "10.1.0.0/16 10.1.0.1/16", options=NetworkOptions(mode=Mode.OVERLAY))
        self.store.networks = {NetworkID(NET): blue, NetworkID(OTHER_NET): a_network(OTHER_NET)}
        self.docker.networks = {NET: "blue", OTHER_NET: "plain"}
        self._task: asyncio.Task[None] | None = None

    def _changed(self) -> None:
        self.changes += 1

    def _holder(self, pool: IPNetwork, address: IPAddress) -> str:
        assert address in pool
        return self.holders.get(str(address), "")

    async def promise(self, identity: str, address: str = "10.1.0.2", network: str = NET) -> Endpoint:
        """As CreateEndpoint and Join."""
        endpoint = replace(
            an_endpoint(identity, network=network, phase=Phase.JOINED), addresses=(ip_interface(f"{address}/16"),)
        )
        await self.store.commit(Put(endpoint))
        self.learner.look()
        return endpoint

    async def run(self, container: str, endpoint: str, names: Names, network: str = NET) -> None:
        """As `docker run`."""
        await self.promise(endpoint, network=network)
        self.docker.start(container, **{endpoint: names})

    def starts(self) -> None:
        self._task = asyncio.create_task(self.learner.run())

    async def stops(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @property
    def called(self) -> dict[str, Names]:
        return {one.id: one.names for one in self.store.called.values() if one.id != NET}


class Kept(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@asynccontextmanager
async def house(*, starts: bool = True) -> AsyncIterator[House]:
    made = House()
    if starts:
        made.starts()
        await soon()
    try:
        yield made
    finally:
        await made.stops()


async def soon(seconds: float = 0.1) -> None:
    await asyncio.sleep(seconds)


WEB = Names("web", ("www", "c3c3c3c3c3c3"), "c3c3c3c3c3c3", "shop")


@in_hours
async def test_at_the_start_all_is_learned_that_is_on_a_network_with_names() -> None:
    async with house(starts=False) as one:
        await one.run("c1", "e1", WEB)
        await one.run("c2", "e2", Names("db"), network=OTHER_NET)
        one.docker.start("c3", e3=Names("guest"))
        one.starts()
        await soon()

        assert one.store.called == {NET: Called(NET, Names("blue")), "e1": Called("e1", WEB)}
        assert 1 <= one.changes <= 2
        assert one.docker.asked == {LISTENED: 1, NETWORKS: 1, RUNNING: 1, "c1": 1}


@in_hours
async def test_what_starts_is_asked_about_and_nothing_else() -> None:
    async with house() as one:
        await one.run("c1", "e1", WEB)
        await soon()
        one.docker.asked.clear()
        await one.run("c2", "e2", Names("db"))
        await soon()

        assert one.called == {"e1": WEB, "e2": Names("db")}
        assert one.docker.asked == {"c2": 1}

        await soon(INTERVAL_S / 2)
        assert one.docker.asked == {"c2": 1}


@in_hours
async def test_what_docker_told_before_it_was_promised_is_remembered() -> None:
    async with house() as one:
        one.docker.start("c1", e1=WEB)
        await soon()
        assert one.called == {}
        one.docker.asked.clear()
        await one.promise("e1")
        await soon()

        assert one.called == {"e1": WEB}
        assert not one.docker.asked


@in_hours
async def test_a_rename_is_heard_of_and_an_end_changes_nothing_until_the_promise_goes() -> None:
    async with house() as one:
        await one.run("c1", "e1", WEB)
        await soon()
        one.docker.rename("c1", "web2")
        await soon()
        assert one.called == {"e1": replace(WEB, name="web2")}

        one.docker.die("c1")
        await soon()
        assert one.called == {"e1": replace(WEB, name="web2")}

        await one.store.commit(Drop(one.store.endpoints[EndpointID("e1")]))
        one.learner.look()
        await soon()
        assert one.called == {}


@in_hours
async def test_an_old_answer_never_takes_the_place_of_a_newer_one() -> None:
    async with house() as one:
        await one.run("c1", "e1", WEB)
        await soon()
        one.docker.held["c1"] = asyncio.Event()
        one.docker.happens(Subject.CONTAINER, "c1")
        await soon()  # asked, and it will be answered with what is so now
        held = one.docker.held.pop("c1")
        one.docker.rename("c1", "web2")
        await soon()
        assert one.called == {"e1": replace(WEB, name="web2")}

        held.set()
        await soon()

        assert one.called == {"e1": replace(WEB, name="web2")}


@in_hours
async def test_a_container_that_was_started_anew_keeps_the_names_of_its_new_endpoint() -> None:
    """The answer about its former endpoint comes late."""
    async with house() as one:
        one.docker.held["c1"] = asyncio.Event()
        await one.run("c1", "e1", WEB)
        await soon()
        held = one.docker.held.pop("c1")
        one.docker.die("c1")
        await one.store.commit(Drop(one.store.endpoints[EndpointID("e1")]))
        await one.run("c1", "e2", Names("web"))
        await soon()
        held.set()
        await soon()

        assert one.called == {"e2": Names("web")}


@in_hours
async def test_much_that_happens_to_a_container_is_asked_about_once_and_few_are_asked_about_at_once() -> None:
    async with house() as one:
        for number in range(100):
            await one.promise(f"e{number}", f"10.1.1.{number}")
            one.docker.containers[f"c{number}"] = {f"e{number}": Names(f"n{number}")}
        for _ in range(5):
            for number in range(100):
                one.docker.happens(Subject.CONTAINER, f"c{number}")
        await soon()

        assert len(one.called) == 100
        assert one.docker.most_at_once == 16
        assert max(one.docker.asked[f"c{number}"] for number in range(100)) <= 2


@in_hours
async def test_a_container_whose_start_hangs_holds_up_no_other() -> None:
    async with house() as one:
        one.docker.held["c1"] = asyncio.Event()
        await one.run("c1", "e1", WEB)
        await one.run("c2", "e2", Names("db"))
        await soon()

        assert one.called == {"e2": Names("db")}


@in_hours
async def test_a_break_of_the_stream_is_followed_by_a_look_at_all() -> None:
    async with house() as one:
        await one.run("c1", "e1", WEB)
        await soon()
        one.docker.deaf = True
        one.docker.rename("c1", "web2")
        one.docker.deaf = False
        one.docker.restart()
        await soon(3 * AGAIN_S)

        assert one.called == {"e1": replace(WEB, name="web2")}


@in_hours
async def test_names_outlive_an_engine_that_is_away_which_is_told_once() -> None:
    handler = Kept()
    logging.getLogger("mdnp.dns.learner").addHandler(handler)
    try:
        async with house() as one:
            await one.run("c1", "e1", WEB)
            await soon()
            one.docker.away = True
            one.docker.restart()
            await soon(10 * INTERVAL_S)
            assert one.called == {"e1": WEB}
            assert len(handler.records) == 1
            tried = one.docker.asked[LISTENED]

            one.docker.away = False
            one.docker.rename("c1", "web2")
            await soon(10)
    finally:
        logging.getLogger("mdnp.dns.learner").removeHandler(handler)

    assert one.called == {"e1": replace(WEB, name="web2")}
    assert tried < 10 * INTERVAL_S / 5


@in_hours
async def test_without_events_what_is_promised_is_found_soon_and_what_is_renamed_later() -> None:
    async with house() as one:
        one.docker.deaf = True
        await one.run("c1", "e1", WEB)
        await soon(AGAIN_S + 0.1)
        assert one.called == {"e1": WEB}

        one.docker.asked.clear()
        one.docker.rename("c1", "web2")
        await soon(INTERVAL_S)
        assert one.called == {"e1": replace(WEB, name="web2")}
        assert one.docker.asked == {NETWORKS: 1, RUNNING: 1, "c1": 1}


@in_hours
async def test_what_docker_never_tells_of_is_looked_for_more_and_more_rarely() -> None:
    async with house() as one:
        await one.promise("e1")
        await soon(10 * INTERVAL_S)

        assert one.called == {}
        assert one.docker.asked[RUNNING] < 20


@in_hours
async def test_a_listing_comes_now_and_then_however_much_happens() -> None:
    async with house() as one:
        await one.run("c1", "e1", WEB)
        for number in range(4 * INTERVAL_S):
            one.docker.rename("c1", f"web{number}")
            await soon(1)

        assert one.docker.asked[RUNNING] >= 4


@in_hours
async def test_a_full_disk_is_tried_again() -> None:
    async with house() as one:
        await one.promise("e1")
        one.store.trouble = "the disk is full"
        one.docker.start("c1", e1=WEB)
        await soon(3)
        assert (one.called, one.changes) == ({}, 1)  # the network's
        one.store.trouble = ""
        await soon(2)

        assert (one.called, one.changes) == ({"e1": WEB}, 2)


@in_hours
async def test_the_name_that_ipam_knows_is_there_before_docker_tells_any() -> None:
    async with house() as one:
        one.docker.held["c1"] = asyncio.Event()
        one.holders["10.1.0.2"] = "web"
        await one.run("c1", "e1", WEB)
        await soon()
        assert one.called == {"e1": Names("web")}

        one.docker.held["c1"].set()
        await soon()
        assert one.called == {"e1": WEB}


@in_hours
async def test_a_network_that_was_made_has_its_name() -> None:
    async with house() as one:
        green = replace(one.store.networks[NetworkID(NET)], id=NetworkID("green"))
        await one.store.commit(Put(green))
        one.docker.networks["green"] = "green"
        one.docker.happens(Subject.NETWORKS)
        await soon()
        assert one.called == {"green": Names("green")}

        await one.store.commit(Drop(green))
        one.learner.look()
        await soon()
        assert one.called == {}


@in_hours
async def test_where_no_network_has_names_docker_is_asked_nothing() -> None:
    async with house(starts=False) as one:
        del one.store.networks[NetworkID(NET)]
        one.starts()
        await one.run("c1", "e1", WEB, network=OTHER_NET)
        await soon(2 * INTERVAL_S)

        assert one.docker.asked == {LISTENED: 1}


@in_hours
async def test_looking_waits_for_nothing() -> None:
    async with house() as one:
        one.docker.held["c1"] = asyncio.Event()
        one.docker.start("c1", e1=WEB)
        began = asyncio.get_running_loop().time()

        for _ in range(100):
            one.learner.look()

        assert asyncio.get_running_loop().time() == began
