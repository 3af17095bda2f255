"""What Docker calls things, and how it is heard that this changed."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from mdnp.engine import EngineUnavailable, Happening, RunningContainer, Subject
from mdnp.model.names import Names
from tests.engine_api.dockerd import EVENTS, NETWORKS, Dockerd, running
from tests.engine_api.test_api import BRIDGE, MYNET, OURS, STOPPED, WEB, asking
from tests.engine_api.test_events import event

RUNNING = "/containers/json"
WEB_ID, END, OTHER_END = "c3" * 32, "e5" * 32, "e6" * 32
INSPECT = f"/containers/{WEB_ID}/json"
INSPECTED: dict[str, Any] = {
    "Id": WEB_ID,
    "Name": "/web",
    "State": {"Status": "running", "Running": True},
    "Config": {"Hostname": "weby", "Labels": {"com.docker.compose.service": "shop", "x": "y"}},
    "NetworkSettings": {"Networks": {}},
}


def inspected(*attached: dict[str, Any], **changed: Any) -> dict[str, Any]:
    networks = {f"net{number}": one for number, one in enumerate(attached)}
    return {**INSPECTED, "NetworkSettings": {"Networks": networks}, **changed}


# As 20.10 and 28.5 answered for `docker run --name web --network-alias www --hostname weby`.
OLD = {"EndpointID": END, "NetworkID": MYNET, "Aliases": ["www", "c3c3c3c3c3c3", "weby"]}
NEW = {**OLD, "Aliases": ["www"], "DNSNames": ["web", "www", "c3c3c3c3c3c3", "weby"]}
PLAIN = {**OLD, "EndpointID": OTHER_END, "Aliases": None, "DNSNames": ["web", "c3c3c3c3c3c3"]}
NAMES = Names("web", ("www", "c3c3c3c3c3c3", "weby"), "weby", "shop")


@pytest.fixture
async def dockerd(tmp_path: Path) -> AsyncIterator[Dockerd]:
    async with running(tmp_path / "docker.sock") as dockerd:
        yield dockerd


async def test_networks_have_names(dockerd: Dockerd) -> None:
    dockerd.says(NETWORKS, [BRIDGE, OURS])

    async with asking(dockerd.socket) as engine:
        assert await engine.network_names() == {"f0" * 32: "bridge", MYNET: "mynet"}


async def test_containers_that_run_are_listed_with_their_endpoints(dockerd: Dockerd) -> None:
    dockerd.says(RUNNING, [WEB, STOPPED])

    async with asking(dockerd.socket) as engine:
        assert await engine.running() == [
            RunningContainer(WEB_ID, "web", frozenset([END])),
            RunningContainer("d4" * 32, "stopped", frozenset()),
        ]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (inspected(OLD), {END: NAMES}),
        (inspected(NEW), {END: NAMES}),
        (inspected(NEW, PLAIN), {END: NAMES, OTHER_END: Names("web", ("c3c3c3c3c3c3",), "weby", "shop")}),
        (inspected(OLD, Config={"Hostname": "x", "Labels": None}), {END: Names("web", NAMES.aliases, "x")}),
        (inspected(OLD, Config=None), {END: Names("web", NAMES.aliases)}),
        (inspected({**OLD, "EndpointID": ""}), {}),
        (inspected(OLD, State={"Running": False}), {}),
        (inspected(OLD, NetworkSettings={"Networks": {"x": None}}), {}),
        (inspected(OLD, NetworkSettings=None), {}),
        ({}, {}),
    ],
)
async def test_an_endpoint_is_called_as_its_container_and_by_its_aliases(
    dockerd: Dockerd, body: Any, names: dict[str, Names]
) -> None:
    dockerd.says(INSPECT, body)

    async with asking(dockerd.socket) as engine:
        assert await engine.names_of(WEB_ID) == names


async def test_a_container_that_is_gone_has_no_names(dockerd: Dockerd) -> None:
    async with asking(dockerd.socket) as engine:
        assert await engine.names_of("web/../..") == {}
    assert dockerd.asked == [("GET", "/containers/web%2F..%2F../json")]


@pytest.mark.parametrize(("status", "body"), [(500, b"{}"), (200, b"<html>"), (200, b'{"Name": 7}')])
async def test_an_answer_that_is_none_is_no_name(dockerd: Dockerd, status: int, body: bytes) -> None:
    dockerd.status[INSPECT] = status
    dockerd.says(INSPECT, body)

    async with asking(dockerd.socket) as engine:
        with pytest.raises(EngineUnavailable):
            await engine.names_of(WEB_ID)


async def test_what_happens_is_heard_until_docker_ends_it(dockerd: Dockerd) -> None:
    started = json.dumps(event("container", "start", WEB_ID)).encode()
    for part in (started + b"\n" + started[:9], started[9:], b"\n\nodd\n" + started + b"\n", b""):
        dockerd.parts.put_nowait(part)

    async with asking(dockerd.socket) as engine, aclosing(engine.happenings()) as happenings:
        heard = [await anext(happenings) for _ in range(4)]
        with pytest.raises(EngineUnavailable, match="tells no more what happens"):
            await anext(happenings)

    assert heard == [Happening(Subject.ALL), *[Happening(Subject.CONTAINER, WEB_ID)] * 3]
    assert dockerd.asked == [("GET", EVENTS)]


async def test_an_engine_that_dies_ends_it_too(dockerd: Dockerd) -> None:
    async with asking(dockerd.socket) as engine, aclosing(engine.happenings()) as happenings:
        assert await anext(happenings) == Happening(Subject.ALL)
        await dockerd.stop()
        with pytest.raises(EngineUnavailable):
            await anext(happenings)


async def test_events_that_are_refused_or_never_begin(dockerd: Dockerd) -> None:
    dockerd.status[EVENTS] = 400
    async with asking(dockerd.socket) as engine:
        with pytest.raises(EngineUnavailable, match="Docker answers 400"):
            await anext(engine.happenings())
    del dockerd.status[EVENTS]
    dockerd.hangs.add(EVENTS)
    async with asking(dockerd.socket, limit_s=0.05) as engine:
        with pytest.raises(EngineUnavailable):
            await anext(engine.happenings())


async def test_without_an_engine_nothing_is_heard(tmp_path: Path) -> None:
    async with asking(tmp_path / "none.sock") as engine:
        with pytest.raises(EngineUnavailable):
            await anext(engine.happenings())


async def test_what_is_asked_meanwhile_does_not_wait_for_events(dockerd: Dockerd) -> None:
    async with asking(dockerd.socket) as engine, aclosing(engine.happenings()) as happenings:
        await anext(happenings)
        assert await engine.network_names() == {}
