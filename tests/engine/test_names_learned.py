"""What real engines call things, and when they say so."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from mdnp.engine import EngineUnavailable, Happening, Subject
from mdnp.engine.api import DockerEngine
from mdnp.model.names import Names
from tests.engine.conftest import Story

pytestmark = pytest.mark.engine


class Ear:
    """Hears what happens, and keeps what it heard."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self.begun = asyncio.Event()
        self.heard: list[Happening] = []
        self.names: list[dict[str, Names]] = []  # of each container that something happened to, asked for at once

    async def listen(self) -> None:
        async for one in self._engine.happenings():
            self.heard.append(one)
            self.begun.set()
            if one.subject is Subject.CONTAINER:
                self.names.append(dict(await self._engine.names_of(one.container)))


@asynccontextmanager
async def listening(story: Story) -> AsyncIterator[Ear]:
    engine = DockerEngine(story.engine.socket)
    ear = Ear(engine)
    task = asyncio.create_task(ear.listen())
    try:
        async with asyncio.timeout(10):
            await ear.begun.wait()
        yield ear
    finally:
        task.cancel()
        await asyncio.wait([task])
        await engine.close()


async def after(*deeds: tuple[str, ...], story: Story, ear: Ear) -> list[Happening]:
    """What is heard of these docker commands, until half a second of silence."""
    ear.heard.clear()
    ear.names.clear()
    for deed in deeds:
        await asyncio.to_thread(story.docker, *deed)
    while True:
        before = len(ear.heard)
        await asyncio.sleep(0.5)
        if len(ear.heard) == before:
            return list(ear.heard)


def identity(story: Story, container: str) -> str:
    return str(json.loads(story.docker("inspect", container))[0]["Id"])


RUN = ("run", "-d", "--name=web", "--net=mynet", "--stop-signal=KILL", "--network-alias=www", "--hostname=weby")
SERVICE = "--label=com.docker.compose.service=shop"
SLEEP = ("busybox:rig", "sleep", "100000")


async def test_names_are_told_when_a_container_has_started_and_as_they_change(story: Story) -> None:
    async with listening(story) as ear:
        network = await asyncio.to_thread(story.network)
        await asyncio.to_thread(story.network, "other")
        await after((*RUN, SERVICE, *SLEEP), story=story, ear=ear)
        web = identity(story, "web")
        end = story.settings("web")["EndpointID"]

        # Who asks when the network is connected waits for the start: both answers are whole.
        assert ear.heard == [Happening(Subject.CONTAINER, web)] * 2
        assert [set(names) for names in ear.names] == [{end}] * 2
        for names in (one[end] for one in ear.names):
            assert (names.name, names.hostname, names.service) == ("web", "weby", "shop")
            assert set(names.aliases) == {"www", web[:12], "weby"}

        connect = ("network", "connect", "--alias=two", "other", "web")
        await after(connect, ("rename", "web", "web2"), story=story, ear=ear)
        other = story.settings("web2", "other")["EndpointID"]
        assert ear.heard == [Happening(Subject.CONTAINER, web)] * 2
        assert set(ear.names[-1]) == {end, other}
        assert {one.name for one in ear.names[-1].values()} == {"web2"}
        assert "two" in ear.names[-1][other].aliases
        assert "two" not in ear.names[-1][end].aliases

        await after(("restart", "web2"), story=story, ear=ear)
        assert Happening(Subject.GONE, web) in ear.heard
        assert ear.heard[-1] == Happening(Subject.CONTAINER, web)
        assert set(ear.names[-1]) == {story.settings("web2", one)["EndpointID"] for one in ("mynet", "other")}
        assert end not in ear.names[-1]

        await after(("rm", "-f", "web2"), story=story, ear=ear)
        assert ear.heard == [Happening(Subject.GONE, web)]
        assert network


async def test_a_listing_has_what_runs_and_networks_their_names(story: Story) -> None:
    network = story.network()
    story.container("web")
    story.container("db")
    story.docker("stop", "db")
    engine = DockerEngine(story.engine.socket)
    try:
        running = {one.name: one for one in await engine.running()}
        names = await engine.network_names()
        stopped = await engine.names_of(identity(story, "db"))
        gone = await engine.names_of("0" * 64)
    finally:
        await engine.close()

    assert running["web"].endpoints == {story.settings("web")["EndpointID"]}
    assert "db" not in running
    assert names[network] == "mynet"
    assert (stopped, gone) == ({}, {})


async def test_an_engine_that_is_restarted_ends_its_events(story: Story) -> None:
    engine = DockerEngine(story.engine.socket)
    try:
        async with aclosing(engine.happenings()) as happenings:
            assert await anext(happenings) == Happening(Subject.ALL)
            restarted = asyncio.create_task(asyncio.to_thread(story.engine.restart))
            with pytest.raises(EngineUnavailable):
                async for _ in happenings:
                    pass
            await restarted
        async with aclosing(engine.happenings()) as happenings:
            assert await anext(happenings) == Happening(Subject.ALL)
    finally:
        await engine.close()
