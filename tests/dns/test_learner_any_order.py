"""Whatever happens to containers, events and answers: in the end the names are those that Docker has."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mdnp.model.identity import EndpointID
from mdnp.model.names import Names
from mdnp.store import Drop
from tests.dns.test_learner import INTERVAL_S, House, house, soon
from tests.member.hours import Hours

_deeds = st.sampled_from(["start", "start", "restart", "rename", "die", "deaf", "hear", "break", "away", "back"])
_steps = st.lists(
    st.tuples(_deeds, st.integers(0, 3), st.sampled_from([0.0, 0.0005, 0.01, 0.7, 3.0]), st.booleans()), max_size=25
)


@given(_steps)
def test_in_the_end_names_are_as_docker_has_them(steps: list[tuple[str, int, float, bool]]) -> None:
    with asyncio.Runner(loop_factory=Hours) as runner:
        called, had = runner.run(_story(steps))

    assert called == had


async def _story(steps: list[tuple[str, int, float, bool]]) -> tuple[Any, Any]:
    async with house() as one:
        for number, (deed, which, wait_s, held) in enumerate(steps):
            container = f"c{which}"
            if held:
                one.docker.held[container] = asyncio.Event()
            await _do(one, deed, container, number)
            await soon(wait_s)
            if not held and container in one.docker.held:
                one.docker.held.pop(container).set()
        one.docker.away = one.docker.deaf = False
        while one.docker.held:
            one.docker.held.popitem()[1].set()
        await soon(2 * INTERVAL_S)
        had = {end: names for ends in one.docker.containers.values() for end, names in ends.items()}
        return one.called, had


async def _do(one: House, deed: str, container: str, number: int) -> None:  # one arm for each deed
    runs = container in one.docker.containers
    match deed:
        case "start" if not runs:
            await one.run(container, f"e{number}", Names(f"n{number}", (container,)))
        case "restart" if runs:
            await _end(one, container)
            await one.run(container, f"e{number}", Names(f"n{number}"))
        case "rename" if runs:
            one.docker.rename(container, f"n{number}")
        case "die" if runs:
            await _end(one, container)
        case "deaf" | "hear":
            one.docker.deaf = deed == "deaf"
        case "break":
            one.docker.restart()
        case "away" | "back":
            one.docker.away = deed == "away"
            one.docker.restart()


async def _end(one: House, container: str) -> None:
    """As when it is stopped."""
    (end,) = one.docker.containers[container]
    one.docker.die(container)
    await one.store.commit(Drop(one.store.endpoints[EndpointID(end)]))
    one.learner.look()
