"""Whatever comes, it is answered in the form that Docker reads, and the next call is served."""

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdnp.wire.verbs import Answer
from tests.wire.test_network import EXAMPLES, VERBS
from tests.world import (
    NET,
    OTHER_NET,
    UDP,
    WEB,
    World,
    binding,
    create_endpoint,
    create_network,
    join,
    on_endpoint,
    on_network,
    open_world,
    publish,
    quick_folder,
)

Place = tuple[str | int, ...]
Call = tuple[str, bytes]

WORDS = [
    "",
    NET,
    WEB,
    OTHER_NET,
    "0.0.0.0/0",
    "::/0",
    "10.1.0.0/24",
    "10.1.0.1/8",
    "10.1.0.1/32",
    "10.1.0.255/24",
    "255.255.255.255/32",
    "fd00::1/64",
    "fe80::1%eth0/64",
    "::ffff:10.1.0.2/120",
    "10.1.0.2",
    "02:42:0a:00:00:05",
    "ff:ff:ff:ff:ff:ff",
    "mdnp.gateway",
    "docker",
    "none",
    "1500",
    "lab0",
    "off",
    "nat-unprotected",
    "10.9.0.9,10.9.0.0/16,::/0",
    "::1",
    "fe80::1%eth0",
    "%d",
    "\0",
    "é" * 20,
    "a" * 5000,
]
FULL = create_network(
    options={
        "mdnp.guard": "on",
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
        "com.docker.network.bridge.gateway_mode_ipv4": "routed",
    }
)
PORTS = [binding(80, 8080), binding(81, 8081, 8089, ip="127.0.0.1"), binding(82), binding(53, 53, proto=UDP)]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value: object, here: Place = ()) -> Iterator[Place]:
    """Every place in a JSON value, from the outermost."""
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*here, key))


def replaced(value: Any, place: Place, new: object) -> Any:
    if not place:
        return new
    changed = copy.deepcopy(value)
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = new
    return changed


@st.composite
def mutated(draw: st.DrawFn) -> Call:
    """A valid request with one or two places changed."""
    verb = draw(st.sampled_from(VERBS))
    body: Any = EXAMPLES[verb]
    if verb == "CreateNetwork":
        body = draw(
            st.sampled_from([body, create_network(NET, "10.1.0.0/24 10.1.0.1/24", "fd00::/64 fd00::1/64"), FULL])
        )
    elif verb == "CreateEndpoint":
        body = draw(st.sampled_from([body, create_endpoint(options={"mdnp.allow": "10.9.0.0/24,fd09::9"})]))
    elif verb == "ProgramExternalConnectivity":
        body = draw(st.sampled_from([body, publish(*PORTS), publish(*PORTS, carried=False)]))
    for _ in range(draw(st.integers(0, 2))):
        body = replaced(body, draw(st.sampled_from(list(places(body)))), draw(values))
    return verb, json.dumps(body).encode(errors="replace")


raw = st.tuples(st.sampled_from([*VERBS, "GetCapabilities"]), st.binary(max_size=60))
cut = mutated().flatmap(lambda call: st.integers(0, len(call[1])).map(lambda end: (call[0], call[1][:end])))


def check_form(call: Call, answer: Answer) -> None:
    reply = json.loads(answer.body)
    assert answer.status in (200, 400, 409), (call, answer)
    assert isinstance(reply, dict)
    assert set(reply) == {"Err", "Error"} if answer.status != 200 else not {"Err", "Error"} & set(reply)


async def check_well(world: World) -> None:
    """What is promised is made; it can be taken back; and a container lives a whole life."""
    await world.reconciler.converge()
    assert world.kept == world.planned
    for network in world.promised[0]:
        await world.ok("DeleteNetwork", on_network(network))
    assert (world.promised, world.kept) == (([], []), {})
    for verb, body in (
        ("CreateNetwork", create_network()),
        ("CreateEndpoint", create_endpoint()),
        ("Join", join()),
        ("ProgramExternalConnectivity", publish(*PORTS)),
        ("Leave", on_endpoint()),
        ("DeleteEndpoint", on_endpoint()),
        ("DeleteNetwork", on_network()),
    ):
        await world.ok(verb, body)
    assert (world.promised, world.kept) == (([], []), {})


async def say(calls: list[Call], settled: bool) -> None:
    with quick_folder() as folder:
        async with open_world(folder) as world:
            if settled:
                await world.with_endpoint()
            for call in calls:
                check_form(call, await world.call(*call))
            await check_well(world)


@pytest.mark.long
@settings(max_examples=25)
@given(st.lists(raw | cut, min_size=5, max_size=15), st.booleans())
def test_any_bytes_are_answered(calls: list[Call], settled: bool) -> None:
    asyncio.run(say(calls, settled))


@pytest.mark.long
@settings(max_examples=60)
@given(st.lists(mutated(), min_size=3, max_size=8), st.booleans())
def test_any_request_is_answered(calls: list[Call], settled: bool) -> None:
    asyncio.run(say(calls, settled))
