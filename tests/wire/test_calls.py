"""Each call of Docker's has an id, in the log and in its error, and is counted and timed."""

import asyncio
import itertools
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from mdnp import logs
from mdnp.measures import Measures
from mdnp.model.errors import Conflict
from mdnp.wire.calls import Calls
from mdnp.wire.routes import Routes
from mdnp.wire.verbs import Verb
from tests.world import World, create_endpoint, create_network


class Desk:
    """Calls to verbs that a test names; ids are call1, call2, …"""

    def __init__(self, **verbs: Any) -> None:
        self.measures = Measures()
        interface = {name: Verb(None, answer) for name, answer in verbs.items()}
        self.calls = as_calls(Routes({"Test": interface}, activated=lambda: None), self.measures)

    async def call(self, verb: str) -> tuple[int, Mapping[str, Any]]:
        answer = await self.calls.answer(f"/Test.{verb}", b"")
        return answer.status, json.loads(answer.body)


def as_calls(routes: Routes, measures: Measures) -> Calls:
    ids = (f"call{number}" for number in itertools.count(1))
    return Calls(routes, measures, ids.__next__)


def hear(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What is logged from now on, each line with the call that it was about."""
    heard: list[tuple[str, str]] = []

    def take(record: logging.LogRecord) -> bool:
        heard.append((logs.call.get(), record.getMessage()))
        return True

    caplog.handler.addFilter(take)
    caplog.set_level(logging.INFO)
    return heard


async def well(_body: None) -> dict[str, Any]:
    return {"well": True}


async def refuse(_body: None) -> dict[str, Any]:
    raise Conflict("somebody has it")


async def break_down(_body: None) -> dict[str, Any]:
    raise ZeroDivisionError


async def test_an_error_ends_in_the_id_of_its_call_and_an_answer_is_as_it_was() -> None:
    desk = Desk(Well=well, Refuse=refuse, Break=break_down)

    assert await desk.call("Well") == (200, {"well": True})
    text = "somebody has it (call call2)"
    assert await desk.call("Refuse") == (409, {"Err": text, "Error": text})
    assert (await desk.call("Break"))[1]["Err"].endswith("its log has the details (call call3)")
    assert (await desk.call("Nothing"))[1]["Err"] == "mdnp has no method Test.Nothing (call call4)"


async def test_what_is_logged_during_a_call_bears_its_id(caplog: pytest.LogCaptureFixture) -> None:
    heard = hear(caplog)
    desk = Desk(Refuse=refuse, Break=break_down)

    for verb in ("Refuse", "Break", "Nothing"):
        await desk.call(verb)

    assert heard == [
        ("call1", "Test.Refuse refused: somebody has it"),
        ("call2", "Test.Break failed"),
        ("call3", "no method Test.Nothing"),
    ]
    assert logs.call.get() == ""


async def test_steps_of_a_call_bear_its_id_down_to_the_kernel(world: World, caplog: pytest.LogCaptureFixture) -> None:
    heard = hear(caplog)
    calls = as_calls(world.routes, Measures())

    await calls.answer("/NetworkDriver.CreateNetwork", json.dumps(create_network()).encode())
    await calls.answer("/NetworkDriver.CreateEndpoint", json.dumps(create_endpoint()).encode())

    assert {call for call, _ in heard} == {"call1", "call2"}
    assert [call for call, line in heard if line.startswith("ip link add")] == ["call1", "call2"]


async def test_calls_are_counted_by_verb_with_their_errors_and_their_times() -> None:
    desk = Desk(Well=well, Refuse=refuse)
    labels = ("Test", "Well"), ("Test", "Refuse"), ("Plugin", "Activate"), ("other", "other")

    for verb in ("Well", "Well", "Refuse", "Invented", "Invented.too"):
        await desk.call(verb)

    assert [desk.measures.calls.count(*one) for one in labels] == [2, 1, 0, 2]
    assert [desk.measures.call_errors.value(*one) for one in labels] == [0, 1, 0, 2]


async def test_calls_under_way_are_counted_until_they_are_answered_or_cut_off() -> None:
    gate = asyncio.Event()

    async def wait(_body: None) -> dict[str, Any]:
        await gate.wait()
        return {}

    desk = Desk(Wait=wait)
    waiting = [asyncio.create_task(desk.call("Wait")) for _ in range(3)]
    await asyncio.sleep(0)
    before = desk.measures.calls_under_way
    waiting.pop().cancel()
    await asyncio.sleep(0)
    cut_off = desk.measures.calls_under_way
    gate.set()
    await asyncio.gather(*waiting)

    assert (before, cut_off, desk.measures.calls_under_way) == (3, 2, 0)
    assert desk.measures.calls.count("Test", "Wait") == 2
