"""What is served to a browser, and how often the host is looked at for it."""

import asyncio
import base64
import hashlib
import json
import re

from mdnp.admin import page
from mdnp.admin.glance import Glance
from mdnp.admin.window import Window
from mdnp.engine.directory import Directory
from mdnp.ipam.driver import IpamDriver
from mdnp.ipam.keeper import AddressKeeper
from mdnp.orphans.collector import Collector
from tests.admin.door import VERSION, Engine
from tests.world import BRIDGE, Clock, World


async def open_glance(world: World, clock: Clock) -> Glance:
    ipam = await IpamDriver.open(world.store, world.kernel, (), lambda: 0.0)
    directory = Directory(Engine(), clock)
    return Glance(
        store=world.store,
        kernel=world.kernel,
        reconciler=world.reconciler,
        ipam=ipam,
        collector=Collector([AddressKeeper(world.store, ipam)], directory, world.clock, 120),
        directory=directory,
        version=VERSION,
        clock=clock,
    )


def test_the_page_names_nothing_outside_and_runs_only_what_its_policy_names() -> None:
    text = page.page().decode()
    policy = page.headers()["Content-Security-Policy"]

    assert set(re.findall(r"https?://[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"(?i)innerHTML|document\.write|eval\(|<[^>]+ (on\w+|style)=", text)
    for kind in ("style", "script"):
        [content] = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_the_page_and_the_topology_may_be_looked_at_and_nothing_else(world: World) -> None:
    glance = await open_glance(world, Clock())
    window = Window({"/": page.answer, "/topology": glance.answer})

    assert [(await window.answer("GET", path)).status for path in ("/", "/topology", "/gc", "/page.html")] == [
        *[200] * 2,
        *[404] * 2,
    ]
    assert [(await window.answer(method, "/")).status for method in ("HEAD", "POST", "DELETE")] == [200, 405, 405]


async def test_who_looks_again_at_once_costs_no_look_at_the_kernel(world: World) -> None:
    await world.with_endpoint()
    clock = Clock()
    glance = await open_glance(world, clock)
    before = world.kernel.observed

    answers = await asyncio.gather(*(glance.answer() for _ in range(5)))
    assert world.kernel.observed == before + 1
    assert {one.body for one in answers} == {answers[0].body}
    clock.now += 2
    await glance.answer()

    assert world.kernel.observed == before + 2


async def test_what_is_promised_meanwhile_is_shown_with_the_last_look(world: World) -> None:
    glance = await open_glance(world, Clock())
    empty = json.loads((await glance.answer()).body)
    await world.with_endpoint()

    view = json.loads((await glance.answer()).body)

    assert empty["networks"] == []
    assert [one["bridge"] for one in view["networks"]] == [BRIDGE]
    assert view["docker"]["version"] == ""
    assert view["docker"]["trouble"]


async def test_a_kernel_that_cannot_be_read_is_said(world: World) -> None:
    glance = await open_glance(world, Clock())
    world.kernel.unreadable = "the kernel is out of memory"

    answer = await glance.answer()

    assert answer.status == 500
    assert json.loads(answer.body) == {"error": "the kernel is out of memory"}
