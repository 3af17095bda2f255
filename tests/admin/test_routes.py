"""What the operator sees, as values."""

import json
from typing import Any

import pytest

from mdnp.admin.routes import Admin
from mdnp.dataplane.naming import GROUP
from mdnp.dataplane.rules import TABLES
from mdnp.driver.keeper import NetworkKeeper
from mdnp.engine.directory import Directory
from mdnp.kernel import Traffic
from mdnp.orphans.collector import Collector
from tests.admin.door import SETTINGS, VERSION, Engine, open_admin
from tests.ipam.engine import listing
from tests.world import (
    ANY4,
    ANY6,
    BRIDGE,
    DB,
    DB_LINK,
    NET,
    OTHER_NET,
    SANDBOX,
    UDP,
    WEB,
    WEB_LINK,
    WEB_MAC,
    World,
    a_socket,
    binding,
    create_endpoint,
    create_network,
    join,
    publish,
)

NETWORK = {
    "id": NET,
    "name": "",
    "kind": "bridge",
    "bridge": BRIDGE,
    "subnets": [{"pool": "10.1.0.0/24", "gateway": "10.1.0.1"}],
    "mtu": 1500,
    "internal": False,
    "gateway": "self",
    "interface_prefix": "eth",
    "routing_ipv4": "nat",
    "routing_ipv6": "nat",
    "masquerade": True,
    "icc": True,
    "guard": True,
    "dns": False,
    "annexes": 0,
    "endpoints": 2,
}
WEB_VIEW = {
    "id": WEB,
    "container": "",
    "network": NET,
    "network_name": "",
    "addresses": ["10.1.0.2/24"],
    "mac": WEB_MAC,
    "phase": "joined",
    "host_end": WEB_LINK,
    "sandbox": SANDBOX,
}
DB_VIEW = {
    "id": DB,
    "container": "",
    "network": NET,
    "network_name": "",
    "addresses": ["10.1.0.3/24", "fd00::3/64"],
    "mac": "02:6d:0a:01:00:03",
    "phase": "created",
    "host_end": DB_LINK,
    "sandbox": "",
}
NOTHING = {"bytes": 0, "packets": 0, "dropped": 0, "errors": 0, "bytes_per_s": 0}
BRIDGE_LINE = (
    f"link {BRIDGE} address 02:6d:0a:01:00:01 mtu 1500 group {GROUP} alias 'mdnp network {NET}' up type bridge"
)
WEB_LINE = (
    f"link {WEB_LINK} mtu 1500 master {BRIDGE} group {GROUP} alias 'mdnp endpoint {WEB}' up"
    f" type veth peer mdp-{WEB[:11]} address {WEB_MAC} mtu 1500"
)
NETWORK_LINES = [
    f'element inet mdnp bridges {{ "{BRIDGE}" }}',
    f'element inet mdnp own {{ "{BRIDGE}" . "{BRIDGE}" }}',
    f'element inet mdnp nat4 {{ "{BRIDGE}" }}',
    f'element inet mdnp hairpin4 {{ "{BRIDGE}" . 10.1.0.0/24 }}',
    f'element inet mdnp nat6 {{ "{BRIDGE}" }}',
    f'element inet mdnp hairpin6 {{ "{BRIDGE}" . fd00::/64 }}',
    f"net/ipv6/conf/{BRIDGE}/accept_ra=0",
    f"net/ipv6/conf/{BRIDGE}/accept_dad=0",
    f"net/ipv4/conf/{BRIDGE}/route_localnet=1",
]
GUARD_LINES = [
    f'element bridge mdnp guarded {{ "{WEB_LINK}" }}',
    f'element bridge mdnp macs {{ "{WEB_LINK}" . {WEB_MAC} }}',
    f'element bridge mdnp addresses4 {{ "{WEB_LINK}" . 10.1.0.2 }}',
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
    answer = await admin.answer(method, path)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


async def refused(admin: Admin, path: str, method: str = "GET") -> tuple[int, str]:
    answer = await admin.answer(method, path)
    return answer.status, json.loads(answer.body)["error"]


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
        "received": NOTHING,
        "sent": NOTHING,
        "endpoints": [WEB_VIEW, DB_VIEW],
        "kernel": [BRIDGE_LINE, f"addr 10.1.0.1/24 dev {BRIDGE}", *NETWORK_LINES],
    }


async def test_an_endpoint_s_details_have_its_bridge_and_what_the_kernel_should_have(admin: Admin) -> None:
    assert await seen(admin, f"/endpoint/{WEB}") == {
        **WEB_VIEW,
        "bridge": BRIDGE,
        "allowed": [],
        "ports": [],
        "received": NOTHING,
        "sent": NOTHING,
        "guard_drops": 0,
        "kernel": [WEB_LINE, *GUARD_LINES],
        "lost": False,
    }


async def test_an_endpoint_s_details_have_what_it_is_allowed_and_what_the_guard_dropped(
    world: World, admin: Admin
) -> None:
    third = "e5" * 32
    await world.ok(
        "CreateEndpoint", create_endpoint(third, "10.1.0.4/24", options={"mdnp.allow": "10.9.0.0/24,fd09::9"})
    )
    world.kernel.dropped = {WEB_LINK: 7, f"mdv-{third[:11]}": 12}

    views = [await seen(admin, f"/endpoint/{name}") for name in (WEB, DB, third)]

    assert [view["guard_drops"] for view in views] == [7, 0, 12]
    assert [view["allowed"] for view in views] == [[], [], ["10.9.0.0/24", "fd09::9/128"]]


async def test_what_went_over_a_link_is_shown_and_summed_up_for_its_network(world: World, admin: Admin) -> None:
    world.kernel.carried = {WEB_LINK: Traffic(rx_bytes=700, tx_packets=3), DB_LINK: Traffic(rx_bytes=50)}

    [web, db, network] = [
        await seen(admin, path) for path in (f"/endpoint/{WEB}", f"/endpoint/{DB}", f"/network/{NET}")
    ]

    assert [one["received"]["bytes"] for one in (web, db, network)] == [700, 50, 750]
    assert [one["sent"]["packets"] for one in (web, db, network)] == [3, 0, 3]


async def test_of_an_endpoint_without_a_link_no_traffic_is_told(world: World, admin: Admin) -> None:
    world.kernel.vanish(WEB_LINK)

    view = await seen(admin, f"/endpoint/{WEB}")

    assert (view["lost"], view["received"], view["sent"]) == (True, None, None)


async def test_without_the_guard_nothing_is_dropped_and_the_view_says_so(world: World, admin: Admin) -> None:
    third = "e5" * 32
    await world.ok("CreateNetwork", create_network("f6" * 32, "10.3.0.0/24", options={"mdnp.guard": "off"}))
    await world.ok("CreateEndpoint", create_endpoint(third, "10.3.0.2/24", network="f6" * 32))

    assert (await seen(admin, f"/endpoint/{third}"))["guard_drops"] is None
    assert (await seen(admin, f"/network/{'f6' * 32}"))["guard"] is False


async def test_what_a_network_s_options_say_is_shown(world: World, admin: Admin) -> None:
    options = {
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.enable_ip_masquerade": "false",
        "com.docker.network.bridge.gateway_mode_ipv6": "routed",
    }
    await world.ok("CreateNetwork", create_network("f6" * 32, "10.3.0.0/24", options=options))

    view = await seen(admin, f"/network/{'f6' * 32}")

    facts = ("icc", "masquerade", "routing_ipv4", "routing_ipv6")
    assert [view[fact] for fact in facts] == [False, False, "nat", "routed"]


# Ports.


def port_view(**facts: object) -> dict[str, object]:
    return {
        "endpoint": WEB,
        "network": NET,
        "container": "",
        "protocol": "tcp",
        "address": "10.1.0.2",
        "port": 80,
        **facts,
    }


async def publish_all(world: World) -> None:
    ports = ((8080, 80), binding(53, 53, proto=UDP, ip="127.0.0.1"), binding(22, 2222, ip="::1"))
    await world.ok("ProgramExternalConnectivity", publish(*ports))


PORTS = [
    port_view(host_address="127.0.0.1", host_port=53, by="nat", protocol="udp", port=53),
    port_view(host_address=ANY4, host_port=8080, by="nat"),
    port_view(host_address=ANY6, host_port=8080, by="proxy"),
    port_view(host_address="::1", host_port=2222, by="proxy", port=22),
]


async def test_nothing_published_is_no_port(admin: Admin) -> None:
    assert await seen(admin, "/port") == []


async def test_published_ports_are_listed_with_the_way_they_come_in(world: World, admin: Admin) -> None:
    await publish_all(world)

    assert await seen(admin, "/port") == PORTS
    assert (await seen(admin, f"/endpoint/{WEB}"))["ports"] == [
        "127.0.0.1 port 53 to 10.1.0.2 port 53/udp by nat",
        "0.0.0.0 port 8080 to 10.1.0.2 port 80/tcp by nat",
        ":: port 8080 to 10.1.0.2 port 80/tcp by proxy",
        "::1 port 2222 to 10.1.0.2 port 22/tcp by proxy",
    ]


async def test_a_port_of_a_routed_network_has_none_of_the_host_s(world: World, admin: Admin) -> None:
    options = {"com.docker.network.bridge.gateway_mode_ipv4": "routed"}
    await world.ok("CreateNetwork", create_network("f6" * 32, "10.3.0.0/24 10.3.0.1/24", options=options))
    await world.ok("CreateEndpoint", create_endpoint("e5" * 32, "10.3.0.2/24", network="f6" * 32))
    await world.ok("ProgramExternalConnectivity", publish((8080, 80), identity="e5" * 32, network="f6" * 32))

    [view] = await seen(admin, "/port")

    assert (view["host_address"], view["host_port"], view["by"]) == (None, None, "routed")
    assert (await seen(admin, f"/endpoint/{'e5' * 32}"))["ports"] == ["10.3.0.2 port 80/tcp by routed"]


async def test_a_port_has_the_name_of_its_container_if_docker_tells_it(world: World) -> None:
    await world.with_endpoint()
    await publish_all(world)
    engine = Engine()
    engine.listing = listing(endpoints={WEB: "web", DB: "db"})

    without = await seen(await open_admin(world), "/port")
    having = await seen(await open_admin(world, engine), "/port")

    assert without == PORTS
    assert having == [{**view, "container": "web"} for view in PORTS]


async def test_an_internal_network_shows_no_gateway_although_docker_named_one(world: World, admin: Admin) -> None:
    """As engines before 28 do: the host does not stand there with that address."""
    identity = "77" * 32
    await world.ok("CreateNetwork", create_network(identity, "10.7.0.0/24 10.7.0.1/24", internal=True))

    shown = await seen(admin, f"/network/{identity}")

    assert shown["subnets"] == [{"pool": "10.7.0.0/24", "gateway": None}]


async def test_ports_of_a_network_without_our_gateway_are_docker_s_to_list(world: World, admin: Admin) -> None:
    await world.ok("CreateEndpoint", create_endpoint("e5" * 32, "10.2.0.2/24", network=OTHER_NET))

    await world.ok("ProgramExternalConnectivity", publish((8080, 80), identity="e5" * 32, network=OTHER_NET))

    assert await seen(admin, "/port") == []


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
        ("/port/8080", "no such path: GET /port/8080"),
    ],
)
async def test_what_is_not_there_is_told(admin: Admin, path: str, words: str) -> None:
    assert await refused(admin, path) == (404, words)


async def test_looking_changes_nothing_and_nothing_is_changed_by_looking_s_paths(admin: Admin) -> None:
    assert await refused(admin, "/endpoint", "POST") == (404, "no such path: POST /endpoint")
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
        "repaired": 0,
        "trouble": "",
        "healthy": True,
        "docker": {"version": "", "trouble": "Docker cannot be asked: it does not run"},
        "store": {"trouble": ""},
        "networks": [{**NETWORK_6, "drift": 0}, {**OTHER_VIEW, "drift": 0}],
        "endpoints": 2,
        "ports": 0,
        "drift": [],
        "lost": [],
        "nearly_full": [],
        "orphans": [],
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


async def test_what_was_repaired_is_counted(world: World, admin: Admin) -> None:
    world.kernel.taken.clear()
    world.kernel.flush(TABLES[0])
    before = (await status(admin))["repaired"]
    await world.reconciler.converge()

    view = await status(admin)

    assert (before, view["healthy"]) == (0, True)
    assert view["repaired"] == len(world.taken) > 1


async def test_why_something_is_not_there_is_told_and_for_whom(world: World, admin: Admin) -> None:
    """A port that another process took while the daemon was away."""
    await world.ok("ProgramExternalConnectivity", publish((8080, 80)))
    started = world.restarted()
    started.kernel.taken_ports.add(a_socket(ANY4, 8080))
    await started.reconciler.converge()
    admin = await open_admin(started)

    view = await status(admin)

    assert (view["healthy"], view["trouble"]) == (False, "tcp 0.0.0.0:8080 is in use by another process")
    assert "hold port tcp 0.0.0.0:8080" in view["drift"]
    assert [one["drift"] for one in view["networks"]] == [len(view["drift"]), 0]


async def test_what_docker_calls_a_network_and_a_container_is_shown_and_found(world: World, admin: Admin) -> None:
    engine = Engine()
    engine.listing = listing(networks={NET: "shop"}, endpoints={WEB: "web"})
    admin = await open_admin(world, engine)

    assert [one["name"] for one in await seen(admin, "/network")] == ["shop", ""]
    assert [(one["container"], one["network_name"]) for one in await seen(admin, "/endpoint")] == [
        ("web", "shop"),
        ("", "shop"),
    ]
    assert (await seen(admin, "/network/shop"))["id"] == NET
    assert (await seen(admin, "/endpoint/web"))["id"] == WEB
    assert (await seen(admin, "/status"))["docker"] == {"version": "28.5.2", "trouble": ""}


async def test_what_others_changed_is_repaired_when_asked_and_told(world: World, admin: Admin) -> None:
    world.kernel.vanish(WEB_LINK)
    del world.kernel.objects["addr", BRIDGE, "10.1.0.1/24"]

    repaired = await seen(admin, "/repair", "POST")
    again = await seen(admin, "/repair", "POST")

    assert (repaired["steps"], repaired["failures"]) == ([f"ip addr add 10.1.0.1/24 dev {BRIDGE}"], [])
    assert (again["steps"], again["lost"]) == ([], [WEB_LINE])
    assert (await seen(admin, "/status"))["repaired"] == 1


async def test_what_cannot_be_repaired_is_told_with_the_reason(world: World, admin: Admin) -> None:
    del world.kernel.objects["addr", BRIDGE, "10.1.0.1/24"]
    world.kernel.refuses = lambda _step: "refused by the test"

    view = await seen(admin, "/repair", "POST")

    line = f"ip addr add 10.1.0.1/24 dev {BRIDGE}"
    assert view == {"steps": [], "failures": [f"{line}: refused by the test"], "lost": []}


async def test_promises_that_cannot_be_kept_are_trouble(world: World, admin: Admin) -> None:
    world.store.full = True

    view = await seen(admin, "/status")

    assert (view["healthy"], "disk is full" in view["store"]["trouble"]) == (False, True)


async def test_orphans_that_a_collection_left_are_counted(world: World) -> None:
    await world.with_endpoint()
    world.clock.now += 1000
    engine = Engine()
    engine.listing = listing()
    directory = Directory(engine)
    collector = Collector([NetworkKeeper(world.store, world.driver)], directory, world.clock, 120, apart_s=0)
    admin = await open_admin(world, directory=directory, collector=collector)

    await world.ok("Join", join())
    await collector.collect(unasked=True)  # of a network that this engine never listed, with an endpoint that joined

    assert [one["kind"] for one in (await seen(admin, "/status"))["orphans"]] == ["endpoint", "network"]


async def test_drift_of_the_host_s_own_part_is_told_and_counted_with_no_network(world: World, admin: Admin) -> None:
    world.kernel.settings["net/ipv4/ip_forward"] = "0"

    view = await status(admin)

    assert (view["healthy"], view["drift"]) == (False, ["sysctl -w net/ipv4/ip_forward=1"])
    assert [one["drift"] for one in view["networks"]] == [0, 0]


async def test_what_docker_does_not_have_is_listed_and_freed_when_asked(world: World) -> None:
    await world.with_endpoint()
    await world.ok("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24"))
    world.clock.now += 1000
    engine = Engine()
    engine.listing = listing(networks=[NET], endpoints=[WEB])
    admin = await open_admin(world, engine)

    found = await seen(admin, "/gc")
    before = world.promised
    freed = await seen(admin, "/gc", "POST")

    assert found == freed == [{"kind": "endpoint", "name": DB, "of": NET, "since": "1970-01-01T00:16:40+00:00"}]
    assert (before, world.promised) == (([NET], [WEB, DB]), ([NET], [WEB]))
    assert world.kept == world.planned


async def test_a_kernel_that_cannot_be_read_is_told(world: World, admin: Admin) -> None:
    world.kernel.unreadable = "reading links and addresses failed"

    assert await refused(admin, "/status") == (500, "reading links and addresses failed")
    assert await seen(admin, "/network") == [NETWORK_6, OTHER_VIEW]


async def test_what_docker_must_be_asked_for_is_told_when_it_does_not_run(admin: Admin) -> None:
    assert await refused(admin, "/gc") == (503, "Docker cannot be asked: it does not run")


async def test_the_facts_of_the_daemon_are_shown(admin: Admin) -> None:
    assert await seen(admin, "/version") == {"version": VERSION}
    assert await seen(admin, "/config") == SETTINGS
