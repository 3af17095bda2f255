"""What the operator sees, as values."""

import json
from typing import Any

import pytest

from mdnp.admin.routes import Admin
from mdnp.dataplane.naming import GROUP
from tests.admin.door import SETTINGS, VERSION, open_admin
from tests.world import (
    BRIDGE,
    DB,
    DB_LINK,
    NET,
    OTHER_NET,
    SANDBOX,
    WEB,
    WEB_LINK,
    WEB_MAC,
    World,
    create_endpoint,
    create_network,
    join,
)

NETWORK = {
    "id": NET,
    "kind": "bridge",
    "bridge": BRIDGE,
    "subnets": [{"pool": "10.1.0.0/24", "gateway": "10.1.0.1"}],
    "mtu": 1500,
    "internal": False,
    "gateway": "self",
    "interface_prefix": "eth",
    "endpoints": 2,
}
WEB_VIEW = {
    "id": WEB,
    "network": NET,
    "addresses": ["10.1.0.2/24"],
    "mac": WEB_MAC,
    "phase": "joined",
    "host_end": WEB_LINK,
    "sandbox": SANDBOX,
}
DB_VIEW = {
    "id": DB,
    "network": NET,
    "addresses": ["10.1.0.3/24", "fd00::3/64"],
    "mac": "02:6d:0a:01:00:03",
    "phase": "created",
    "host_end": DB_LINK,
    "sandbox": "",
}
BRIDGE_LINE = (
    f"link {BRIDGE} address 02:6d:0a:01:00:01 mtu 1500 group {GROUP} alias 'mdnp network {NET}' up type bridge"
)
WEB_LINE = (
    f"link {WEB_LINK} mtu 1500 master {BRIDGE} group {GROUP} alias 'mdnp endpoint {WEB}' up"
    f" type veth peer mdp-{WEB[:11]} address {WEB_MAC} mtu 1500"
)
ACCEPTS = [
    f"{program} DOCKER-USER -i {BRIDGE} -o {BRIDGE} -m comment --comment mdnp -j ACCEPT"
    for program in ("iptables", "ip6tables")
]


@pytest.fixture
async def admin(world: World) -> Admin:
    """Of a network with a joined and a created endpoint, and another network."""
    await world.ok("CreateNetwork", create_network(NET, "10.1.0.0/24 10.1.0.1/24", "fd00::/64"))
    await world.ok("CreateEndpoint", create_endpoint())
    await world.ok("Join", join())
    await world.ok("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24", "fd00::3/64"))
    await world.ok("CreateNetwork", create_network(OTHER_NET, "10.2.0.0/24", internal=True))
    return await open_admin(world)


async def seen(admin: Admin, path: str, method: str = "GET") -> Any:
    status, body = await admin.answer(method, path)
    assert status == 200, body
    return json.loads(body)


async def refused(admin: Admin, path: str, method: str = "GET") -> tuple[int, str]:
    status, body = await admin.answer(method, path)
    return status, json.loads(body)["error"]


NETWORK_6 = {**NETWORK, "subnets": [*NETWORK["subnets"], {"pool": "fd00::/64", "gateway": None}]}  # type: ignore[misc]
OTHER_VIEW = {
    **NETWORK,
    "id": OTHER_NET,
    "bridge": f"mdb-{OTHER_NET[:11]}",
    "subnets": [{"pool": "10.2.0.0/24", "gateway": None}],
    "internal": True,
    "endpoints": 0,
}


async def test_networks_and_endpoints_are_listed(admin: Admin) -> None:
    assert await seen(admin, "/network") == [NETWORK_6, OTHER_VIEW]
    assert await seen(admin, "/endpoint") == [WEB_VIEW, DB_VIEW]


async def test_a_network_s_details_have_its_endpoints_and_what_the_kernel_should_have(admin: Admin) -> None:
    assert await seen(admin, f"/network/{NET}") == {
        **NETWORK_6,
        "endpoints": [WEB_VIEW, DB_VIEW],
        "kernel": [BRIDGE_LINE, f"addr 10.1.0.1/24 dev {BRIDGE}", *ACCEPTS],
    }


async def test_an_endpoint_s_details_have_its_bridge_and_what_the_kernel_should_have(admin: Admin) -> None:
    assert await seen(admin, f"/endpoint/{WEB}") == {
        **WEB_VIEW,
        "bridge": BRIDGE,
        "kernel": [WEB_LINE],
        "lost": False,
    }


@pytest.mark.parametrize("name", [NET, NET[:12], "a", BRIDGE])
async def test_a_network_is_found_by_the_beginning_of_its_id_or_by_its_bridge(admin: Admin, name: str) -> None:
    assert (await seen(admin, f"/network/{name}"))["id"] == NET


@pytest.mark.parametrize("name", [DB, DB[:12], "d", DB_LINK, "10.1.0.3", "fd00::3"])
async def test_an_endpoint_is_found_by_the_beginning_of_its_id_its_link_or_an_address(admin: Admin, name: str) -> None:
    assert (await seen(admin, f"/endpoint/{name}"))["id"] == DB


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/network/nobody", "no network 'nobody': `mdnp network ls` lists them"),
        ("/endpoint/10.1.0.9", "no endpoint '10.1.0.9': `mdnp endpoint ls` lists them"),
        ("/endpoint/10.1.0", "no endpoint '10.1.0': `mdnp endpoint ls` lists them"),
        ("/network/x/y", "no network 'x/y': `mdnp network ls` lists them"),
        ("/nothing", "no such path: GET /nothing"),
        ("/", "no such path: GET /"),
        ("/status/now", "no such path: GET /status/now"),
    ],
)
async def test_what_is_not_there_is_told(admin: Admin, path: str, words: str) -> None:
    assert await refused(admin, path) == (404, words)


async def test_looking_changes_nothing_and_nothing_is_changed_by_looking_s_paths(admin: Admin) -> None:
    assert await refused(admin, "/network", "POST") == (404, "no such path: POST /network")
    assert await refused(admin, "/network", "DELETE") == (404, "no such path: DELETE /network")


async def test_a_name_that_several_have_is_refused(world: World, admin: Admin) -> None:
    await world.ok("CreateNetwork", create_network(NET[:4] + "0" * 60, "10.3.0.0/24"))

    assert await refused(admin, "/network/a1a1") == (404, "network 'a1a1' names 2: give more of its id")


async def test_a_whole_id_names_one_though_another_begins_with_it(world: World, admin: Admin) -> None:
    """A swarm's ids have 25 characters, and nothing forbids that another begins so."""
    await world.ok("CreateNetwork", create_network("mdb-longer".replace("-", "0") + "x" * 15, "10.3.0.0/24"))
    await world.ok(
        "CreateNetwork",
        create_network(
            "mdb-longer".replace("-", "0") + "x" * 5, "10.4.0.0/24", options={"com.docker.network.bridge.name": "lab0"}
        ),
    )

    found = await seen(admin, "/network/" + "mdb0longer" + "x" * 5)

    assert found["bridge"] == "lab0"


async def status(admin: Admin) -> dict[str, Any]:
    view: dict[str, Any] = await seen(admin, "/status")
    assert view.pop("uptime_s") >= 0
    return view


async def test_the_status_of_what_is_well(admin: Admin) -> None:
    assert await status(admin) == {
        "version": VERSION,
        "healthy": True,
        "networks": [{**NETWORK_6, "drift": 0}, {**OTHER_VIEW, "drift": 0}],
        "drift": [],
        "lost": [],
        "nearly_full": [],
    }


async def test_drift_and_loss_are_told_as_commands_and_counted_with_their_network(world: World, admin: Admin) -> None:
    world.kernel.vanish(WEB_LINK)
    world.kernel.vanish(DB_LINK)
    del world.kernel.objects["addr", BRIDGE, "10.1.0.1/24"]
    world.kernel.taken.clear()

    view = await status(admin)

    assert (view["healthy"], [one["drift"] for one in view["networks"]]) == (False, [3, 0])
    assert [line.split(" mtu ")[0] for line in view["drift"]] == [
        f"ip addr add 10.1.0.1/24 dev {BRIDGE}",
        f"ip link add {DB_LINK}",
    ]
    assert view["lost"] == [WEB_LINE]
    assert (await seen(admin, f"/endpoint/{WEB}"))["lost"] is True
    assert world.taken == []


async def test_a_kernel_that_cannot_be_read_is_told(world: World, admin: Admin) -> None:
    world.kernel.unreadable = "reading links and addresses failed"

    assert await refused(admin, "/status") == (500, "reading links and addresses failed")
    assert await seen(admin, "/network") == [NETWORK_6, OTHER_VIEW]


async def test_what_docker_must_be_asked_for_is_told_when_it_does_not_run(admin: Admin) -> None:
    assert await refused(admin, "/gc") == (503, "Docker cannot be asked: it does not run")


async def test_the_facts_of_the_daemon_are_shown(admin: Admin) -> None:
    assert await seen(admin, "/version") == {"version": VERSION}
    assert await seen(admin, "/config") == SETTINGS
