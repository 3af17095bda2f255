"""What operators see of names."""

import json
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from mdnp.admin.names import names_view
from mdnp.cli import rendering
from mdnp.dns import Served
from mdnp.dns.standing import Place, Road, Standing
from tests.admin.door import open_admin
from tests.world import World

WELL = Standing(
    sandboxes={"/run/docker/netns/a": "", "/run/docker/netns/b": ""},
    gateways=(Place("10.50.0.1 on mdb-1"), Place("fd50::1 on mdb-1")),
    host=Place("127.0.0.153"),
    learned=2,
    resolvers=(ip_address("192.0.2.53"),),
    served={Road.SANDBOX: Served(zone=3, forwarded=5)},
)
SHOWN: dict[str, Any] = {
    "sandboxes": 2,
    "failed": [],
    "gateways": [{"name": "10.50.0.1 on mdb-1", "trouble": ""}, {"name": "fd50::1 on mdb-1", "trouble": ""}],
    "host": {"name": "127.0.0.153", "trouble": ""},
    "learned": 2,
    "unlearned": 0,
    "trouble": "",
    "resolvers": ["192.0.2.53"],
    "unresolved": "",
    "questions": {"sandbox": {"zone": 3, "forwarded": 5, "unanswered": 0, "dropped": 0}},
}


def lines(standing: Standing, status: dict[str, Any]) -> list[str]:
    drawn = rendering.status({**status, "names": names_view(standing)}).splitlines()
    return [line for line in drawn if line.startswith("# names")]


async def status(world: World, naming: Standing | None) -> Any:
    admin = await open_admin(world, naming=naming)
    return json.loads((await admin.answer("GET", "/status")).body)


async def test_the_status_tells_of_names_where_there_are_any(world: World) -> None:
    assert (await status(world, WELL))["names"] == SHOWN
    assert "names" not in await status(world, None)
    assert "names" not in rendering.status(await status(world, None))


async def test_one_line_says_where_they_are_answered(world: World) -> None:
    plain = await status(world, None)

    assert lines(WELL, plain) == ["# names: answered for 2 containers, 2 gateways, this host at 127.0.0.153"]
    assert lines(Standing(sandboxes={"/a": ""}), plain) == ["# names: answered for 1 container"]


async def test_each_place_where_they_are_not_is_told_with_the_reason(world: World) -> None:
    plain = await status(world, None)
    spoiled = replace(
        WELL,
        sandboxes={"/a": "", "/b": "no such namespace"},
        gateways=(Place("10.50.0.1 on mdb-1", "no link"),),
        host=Place("127.0.0.153", "taken"),
        unlearned=3,
    )

    assert lines(spoiled, plain) == [
        "# names: answered for 1 container",
        "# names: not for 1 container, of which the first: no such namespace; see `mdnp doctor`",
        "# names: not at 10.50.0.1 on mdb-1: no link",
        "# names: not at 127.0.0.153: taken",
        "# names: not known yet of 3 containers",
    ]
    assert lines(replace(spoiled, trouble="Docker is silent"), plain)[-1] == (
        "# names: what is new is not learned: Docker is silent"
    )
    assert names_view(spoiled)["failed"] == [{"sandbox": "/b", "trouble": "no such namespace"}]
