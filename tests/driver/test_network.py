"""The verbs, as Docker calls them: what each does, twice, in a wrong order, and when kernel or disk refuse."""

import asyncio
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mdnp.dataplane.naming import DOOMED_GROUP
from mdnp.dataplane.objects import Veth
from mdnp.dataplane.steps import Add, Set
from mdnp.kernel import Route, Surroundings
from mdnp.model.endpoint import Phase
from mdnp.model.identity import EndpointID, NetworkID
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
    build_world,
    create_endpoint,
    create_network,
    join,
    on_endpoint,
    on_network,
    open_world,
    publish,
)

MTU = "com.docker.network.driver.mtu"
BRIDGE_NAME = "com.docker.network.bridge.name"
PREFIX = "com.docker.network.container_iface_prefix"
SWARM_NET = "tjpdt7yjx1n5qk2q0y4k9c8ve"


def phase(world: World, endpoint: str = WEB) -> tuple[Phase, str]:
    one = world.store.promises.endpoints[EndpointID(endpoint)]
    return one.phase, one.sandbox


def mtu(world: World) -> int:
    return world.store.promises.networks[NetworkID(NET)].mtu


def attached(**fields: Any) -> dict[str, Any]:
    """The answer to Join: the link, and these fields."""
    names = {"SrcName": f"mdp-{WEB[:11]}", "DstPrefix": fields.pop("prefix", "eth")}
    return {"InterfaceName": names, "DisableGatewayService": False, **fields}


def refuse(world: World, name: str) -> None:
    """The kernel refuses to add what has `name` in its text."""
    world.kernel.refuses = lambda step: "refused by the test" if isinstance(step, Add) and name in str(step) else None


def host(*routes: Route, mtu: int | None = 1500) -> Surroundings:
    return Surroundings(routes, mtu)


async def test_the_life_of_a_container_on_a_network(world: World) -> None:
    assert await world.ok("CreateNetwork", create_network()) == {}
    assert await world.ok("CreateEndpoint", create_endpoint()) == {"Interface": {"MacAddress": WEB_MAC}}
    assert phase(world) == (Phase.CREATED, "")
    assert await world.ok("Join", join()) == attached(Gateway="10.1.0.1")
    assert phase(world) == (Phase.JOINED, SANDBOX)
    assert await world.ok("ProgramExternalConnectivity", publish((8080, 80))) == {}
    assert world.kept == world.planned
    assert world.ports == ["port tcp 0.0.0.0:8080", "port tcp [::]:8080 proxy 10.1.0.2:80"]
    assert await world.ok("RevokeExternalConnectivity", on_endpoint()) == {}
    assert world.ports == []
    assert await world.ok("Leave", on_endpoint()) == {}
    assert phase(world) == (Phase.LEFT, SANDBOX)
    assert world.links == [BRIDGE, WEB_LINK]
    assert await world.ok("DeleteEndpoint", on_endpoint()) == {}
    assert world.links == [BRIDGE]
    assert await world.ok("DeleteNetwork", on_network()) == {}
    assert (world.promised, world.kept) == (([], []), {})


async def test_a_promise_is_on_disk_before_it_is_answered(world: World) -> None:
    await world.with_endpoint()
    await world.ok("Join", join())

    restarted = build_world(world.store, world.kernel)

    assert restarted.promised == ([NET], [WEB])
    assert await restarted.ok("Join", join()) == attached(Gateway="10.1.0.1")


async def test_a_created_endpoint_costs_one_transaction_and_one_link_and_no_look(world: World) -> None:
    await world.ok("CreateNetwork", create_network())
    world.kernel.taken.clear()
    observed = world.kernel.observed

    await world.ok("CreateEndpoint", create_endpoint())
    await world.ok("Join", join())

    assert [line.split(" mtu ")[0] for line in world.taken] == [
        f'nft add element bridge mdnp guarded {{ "{WEB_LINK}" }}',
        f'nft add element bridge mdnp macs {{ "{WEB_LINK}" . {WEB_MAC} }}',
        f'nft add element bridge mdnp addresses4 {{ "{WEB_LINK}" . 10.1.0.2 }}',
        f"ip link add {WEB_LINK}",
    ]
    assert world.kernel.observed == observed


# Twice: Docker repeats a call whose answer it did not see.


async def test_every_verb_accepts_the_same_request_twice(world: World) -> None:
    verbs: list[tuple[str, dict[str, Any]]] = [
        ("CreateNetwork", create_network()),
        ("CreateEndpoint", create_endpoint()),
        ("Join", join()),
        ("EndpointOperInfo", on_endpoint()),
        ("ProgramExternalConnectivity", publish((8080, 80), (0, 443))),
        ("RevokeExternalConnectivity", on_endpoint()),
        ("Leave", on_endpoint()),
        ("DeleteEndpoint", on_endpoint()),
        ("DeleteNetwork", on_network()),
    ]

    for verb, body in verbs:
        first = await world.ok(verb, body)
        after_first = world.promised, world.seen
        world.kernel.taken.clear()
        assert await world.ok(verb, body) == first
        assert (world.promised, world.seen, world.taken) == (*after_first, [])


async def test_the_same_request_many_times_at_once_is_done_once(world: World) -> None:
    networks = await asyncio.gather(*(world.ok("CreateNetwork", create_network()) for _ in range(5)))
    endpoints = await asyncio.gather(*(world.ok("CreateEndpoint", create_endpoint()) for _ in range(5)))
    joins = await asyncio.gather(*(world.ok("Join", join()) for _ in range(5)))

    assert networks == [{}] * 5
    assert endpoints == [{"Interface": {"MacAddress": WEB_MAC}}] * 5
    assert joins == [attached(Gateway="10.1.0.1")] * 5
    assert len(set(world.kernel.taken)) == len(world.kernel.taken)
    assert world.kept == world.planned


async def test_a_repeated_create_is_the_same_though_the_host_s_mtu_changed_meanwhile(tmp_path: Path) -> None:
    async with open_world(tmp_path, host(mtu=1400)) as world:
        await world.ok("CreateNetwork", create_network())

        moved = build_world(world.store, type(world.kernel)(host(mtu=1500)))

        assert await moved.ok("CreateNetwork", create_network()) == {}
        assert mtu(moved) == 1400


async def test_a_repeated_create_is_the_same_though_the_network_s_own_route_is_on_the_host(tmp_path: Path) -> None:
    route = Route(ip_network("10.1.0.0/24"), "eth7", gateway=False)
    async with open_world(tmp_path) as world:
        await world.ok("CreateNetwork", create_network())

        moved = build_world(world.store, type(world.kernel)(host(route)))

        assert await moved.ok("CreateNetwork", create_network()) == {}


async def test_a_network_of_the_same_id_with_other_settings_is_a_conflict(world: World) -> None:
    await world.ok("CreateNetwork", create_network())

    for body in (
        create_network(NET, "10.2.0.0/24 10.2.0.1/24"),
        create_network(internal=True),
        create_network(options={MTU: "1400"}),
        create_network(options={"mdnp.gateway": "none"}),
    ):
        assert await world.refused("CreateNetwork", body) == (
            409,
            "network a1a1a1a1a1a1 exists already with other settings: remove it first",
        )
    assert world.kept == world.planned


@pytest.mark.parametrize(
    "other",
    [
        create_endpoint(WEB, "10.1.0.9/24"),
        create_endpoint(WEB, mac="02:00:00:00:00:09"),
        create_endpoint(WEB, "", ""),
        create_endpoint(WEB, mac=WEB_MAC),
    ],
    ids=["address", "mac", "none", "given mac"],
)
async def test_an_endpoint_of_the_same_id_with_other_settings_is_a_conflict(
    world: World, other: dict[str, Any]
) -> None:
    await world.with_endpoint()

    assert await world.refused("CreateEndpoint", other) == (
        409,
        "endpoint c3c3c3c3c3c3 exists already with other settings",
    )
    assert world.kept == world.planned


async def test_an_endpoint_is_the_same_when_it_is_asked_for_again_after_joining(world: World) -> None:
    await world.with_endpoint()
    await world.ok("Join", join())

    await world.ok("CreateEndpoint", create_endpoint())

    assert phase(world) == (Phase.JOINED, SANDBOX)


# Wrong orders, and what is not known.


@pytest.mark.parametrize("verb", ["Leave", "DeleteEndpoint", "RevokeExternalConnectivity"])
async def test_undoing_what_was_never_done_is_done(world: World, verb: str) -> None:
    assert await world.ok(verb, on_endpoint()) == {}


async def test_deleting_a_network_that_was_never_made_is_done(world: World) -> None:
    assert await world.ok("DeleteNetwork", on_network()) == {}


async def test_an_endpoint_on_an_unknown_network_is_refused_with_what_to_do(world: World) -> None:
    assert await world.refused("CreateEndpoint", create_endpoint()) == (
        400,
        (
            "network a1a1a1a1a1a1 is not known to mdnp (was its state folder replaced?): remove the network from Docker"
            " and create it again"
        ),
    )
    assert (world.promised, world.kept) == (([], []), {})


@pytest.mark.parametrize(
    ("verb", "body"),
    [("Join", join()), ("EndpointOperInfo", on_endpoint()), ("ProgramExternalConnectivity", publish())],
    ids=lambda one: one if isinstance(one, str) else "",
)
async def test_using_an_unknown_endpoint_is_refused_but_never_with_404(
    world: World, verb: str, body: dict[str, Any]
) -> None:
    """Docker takes 404 for a method that the plugin does not have, and goes on."""
    await world.ok("CreateNetwork", create_network())

    assert await world.refused(verb, body) == (400, "endpoint c3c3c3c3c3c3 is not known on network a1a1a1a1a1a1")


async def test_an_endpoint_of_another_network_is_not_known_on_this_one(world: World) -> None:
    await world.with_endpoint()
    await world.ok("CreateNetwork", create_network(OTHER_NET, "10.2.0.0/24"))

    for verb, body in (
        ("Join", join(network=OTHER_NET)),
        ("EndpointOperInfo", on_endpoint(network=OTHER_NET)),
        ("ProgramExternalConnectivity", publish(network=OTHER_NET)),
    ):
        status, words = await world.refused(verb, body)
        assert (status, words) == (400, "endpoint c3c3c3c3c3c3 is not known on network b2b2b2b2b2b2")


async def test_leaving_before_joining_changes_nothing(world: World) -> None:
    await world.with_endpoint()

    await world.ok("Leave", on_endpoint())

    assert (phase(world), world.links) == ((Phase.CREATED, ""), [BRIDGE, WEB_LINK])


async def test_an_endpoint_is_deleted_without_leave(world: World) -> None:
    """An engine that lost its network namespaces sends DeleteEndpoint alone."""
    await world.with_endpoint()
    await world.ok("Join", join())

    await world.ok("DeleteEndpoint", on_endpoint())

    assert (world.promised, world.links) == (([NET], []), [BRIDGE])


async def test_a_network_takes_the_endpoints_that_docker_forgot_with_it(world: World) -> None:
    await world.with_endpoint()
    await world.ok("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24"))
    await world.ok("Join", join())
    world.kernel.taken.clear()

    await world.ok("DeleteNetwork", on_network())
    await world.reconciler.bury()

    assert world.taken_links == [
        f"ip link set {WEB_LINK} group {DOOMED_GROUP}",
        f"ip link set {DB_LINK} group {DOOMED_GROUP}",
        f"ip link del {BRIDGE}",
    ]
    assert (world.promised, world.kernel.objects, world.kernel.names) == (([], []), {}, set())


async def test_an_endpoint_joins_again_after_it_left(world: World) -> None:
    await world.with_endpoint()
    await world.ok("Join", join())
    await world.ok("Leave", on_endpoint())
    world.kernel.vanish(WEB_LINK)
    world.reconciler.doubt()

    await world.ok("Join", join(sandbox="/var/run/docker/netns/second"))

    assert (phase(world), world.links) == ((Phase.JOINED, "/var/run/docker/netns/second"), [BRIDGE, WEB_LINK])


async def test_the_same_endpoint_can_be_made_again_right_after_it_was_deleted(world: World) -> None:
    await world.with_endpoint()
    await world.ok("DeleteEndpoint", on_endpoint())

    await world.ok("CreateEndpoint", create_endpoint())

    assert world.kept == world.planned


async def test_the_same_network_can_be_made_again_right_after_it_was_deleted(world: World) -> None:
    for _ in range(3):
        await world.ok("CreateNetwork", create_network())
        assert world.kept == world.planned
        await world.ok("DeleteNetwork", on_network())
        assert world.kept == {}


# What is checked.


async def test_a_subnet_that_overlaps_another_network_s_is_refused(world: World) -> None:
    await world.ok("CreateNetwork", create_network(NET, "10.1.0.0/16", "fd00::/48"))

    for subnet, words in (
        ("10.1.7.0/24", "subnet 10.1.7.0/24 overlaps 10.1.0.0/16"),
        ("10.0.0.0/8", "subnet 10.0.0.0/8 overlaps 10.1.0.0/16"),
        ("fd00::/64", "subnet fd00::/64 overlaps fd00::/48"),
    ):
        assert await world.refused("CreateNetwork", create_network(OTHER_NET, subnet)) == (
            409,
            (
                f"{words} of network a1a1a1a1a1a1: choose another --subnet, or remove that network; if Docker does not"
                " have it any more, `mdnp gc` does"
            ),
        )
    assert world.promised == ([NET], [])
    assert world.kept == world.planned


async def test_subnets_of_one_network_that_overlap_each_other_are_refused(world: World) -> None:
    body = create_network(NET, "10.1.0.0/16 10.1.0.1/16", "10.1.7.0/24 10.1.7.1/24")

    status, words = await world.refused("CreateNetwork", body)

    assert (status, "10.1.7.0/24 overlaps 10.1.0.0/16" in words) == (409, True)
    assert (world.promised, world.kept) == (([], []), {})


async def test_two_networks_asked_for_at_once_cannot_both_have_a_subnet(world: World) -> None:
    answers = await asyncio.gather(
        *(world.call("CreateNetwork", create_network(f"{n:02}" * 32, "10.1.0.0/24")) for n in range(4))
    )

    assert sorted(one.status for one in answers) == [200, 409, 409, 409]


async def test_a_subnet_that_is_on_a_link_of_the_host_s_is_refused(tmp_path: Path) -> None:
    route = Route(ip_network("10.1.0.0/16"), "eth0", gateway=False)
    async with open_world(tmp_path, host(route)) as world:
        assert await world.refused("CreateNetwork", create_network()) == (
            409,
            (
                "subnet 10.1.0.0/24 overlaps 10.1.0.0/16, which is directly on the host's link eth0: choose another"
                " --subnet"
            ),
        )
        assert (world.promised, world.kept) == (([], []), {})


async def test_a_subnet_behind_a_gateway_of_the_host_s_may_be_taken_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    route = Route(ip_network("10.0.0.0/8"), "tun0", gateway=True)
    async with open_world(tmp_path, host(route)) as world:
        await world.ok("CreateNetwork", create_network())

    assert "subnet 10.1.0.0/24 of network a1a1a1a1a1a1 hides a part of the route to 10.0.0.0/8" in caplog.messages


async def test_two_networks_whose_ids_begin_alike_cannot_share_a_bridge(world: World) -> None:
    await world.ok("CreateNetwork", create_network())
    alike = NET[:11] + "f" * 53

    assert await world.refused("CreateNetwork", create_network(alike, "10.2.0.0/24")) == (
        409,
        f"bridge {BRIDGE} is network a1a1a1a1a1a1's already: choose another name",
    )


async def test_two_networks_cannot_name_one_bridge(world: World) -> None:
    await world.ok("CreateNetwork", create_network(options={BRIDGE_NAME: "lab0"}))

    assert await world.refused(
        "CreateNetwork", create_network(OTHER_NET, "10.2.0.0/24", options={BRIDGE_NAME: "lab0"})
    ) == (
        409,
        "bridge lab0 is network a1a1a1a1a1a1's already: choose another name",
    )


async def test_two_endpoints_whose_ids_begin_alike_cannot_share_a_link(world: World) -> None:
    await world.with_endpoint()
    alike = WEB[:11] + "f" * 53

    assert await world.refused("CreateEndpoint", create_endpoint(alike, "10.1.0.3/24")) == (
        409,
        f"endpoint c3c3c3c3c3cf: its link {WEB_LINK} would be endpoint {WEB}'s",
    )


async def test_two_endpoints_asked_for_at_once_cannot_share_a_link(world: World) -> None:
    await world.ok("CreateNetwork", create_network())

    answers = await asyncio.gather(
        *(world.call("CreateEndpoint", create_endpoint(WEB[:11] + str(n) * 53, f"10.1.0.{n + 2}/24")) for n in range(4))
    )

    assert sorted(one.status for one in answers) == [200, 409, 409, 409]
    assert world.kept == world.planned


@pytest.mark.parametrize("name", ["mdv-c3c3c3c3c3c", "mdp-c3c3c3c3c3c", "mdb-b2b2b2b2b2b"])
async def test_a_bridge_cannot_be_named_like_a_link_of_ours(world: World, name: str) -> None:
    """Its name would be taken when the endpoint or network comes whose link is named so."""
    status, words = await world.refused("CreateNetwork", create_network(options={BRIDGE_NAME: name}))

    prefixes = "mdb-, mdv-, mdp-, mdx-, mdi-, mdu-, mdh-, mdw-"
    assert (status, words) == (
        400,
        f"option {BRIDGE_NAME}={name}: names with {prefixes} are for links that mdnp names itself",
    )


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("10.2.0.2/24", 400, "address 10.2.0.2/24 is in no subnet of network a1a1a1a1a1a1"),
        ("10.1.0.1/24", 409, "address 10.1.0.1/24 is the gateway's of network a1a1a1a1a1a1"),
    ],
)
async def test_an_address_that_cannot_be_the_endpoint_s_is_refused(
    world: World, address: str, status: int, words: str
) -> None:
    await world.ok("CreateNetwork", create_network())

    assert await world.refused("CreateEndpoint", create_endpoint(WEB, address)) == (status, words)
    assert (world.promised, world.links) == (([NET], []), [BRIDGE])


async def test_on_a_network_without_a_gateway_of_ours_its_address_is_free(world: World) -> None:
    await world.ok("CreateNetwork", create_network(internal=True))

    await world.ok("CreateEndpoint", create_endpoint(WEB, "10.1.0.1/24"))

    assert world.kept == world.planned


# The MTU.


@pytest.mark.parametrize(("underlay", "expected"), [(1420, 1420), (9000, 9000), (None, 1500)])
async def test_the_mtu_is_the_default_route_s_or_ethernet_s(
    tmp_path: Path, underlay: int | None, expected: int
) -> None:
    async with open_world(tmp_path, host(mtu=underlay)) as world:
        await world.with_endpoint()

        assert (mtu(world), {one.mtu for one in world.kernel.links.values()}) == (expected, {expected})


async def test_the_mtu_that_was_asked_for_is_taken(world: World) -> None:
    await world.with_endpoint(options={MTU: "9000"})

    assert (mtu(world), {one.mtu for one in world.kernel.links.values()}) == (9000, {9000})


# Join: the link, and the way out.


@pytest.mark.parametrize(
    ("network", "address", "address6", "answer"),
    [
        (create_network(), "10.1.0.2/24", "", attached(Gateway="10.1.0.1")),
        (create_network(NET, "10.1.0.0/24"), "10.1.0.2/24", "", attached(DisableGatewayService=True)),
        (
            create_network(NET, "10.1.0.0/24 10.1.0.1/24", "fd00::/64 fd00::1/64"),
            "10.1.0.2/24",
            "fd00::2/64",
            attached(Gateway="10.1.0.1", GatewayIPv6="fd00::1"),
        ),
        (create_network(NET, "fd00::/64 fd00::1/64"), "", "fd00::2/64", attached(GatewayIPv6="fd00::1")),
        (
            create_network(NET, "10.1.0.0/24 10.1.0.1/24", "fd00::/64 fd00::1/64"),
            "10.1.0.2/24",
            "",
            attached(Gateway="10.1.0.1"),
        ),
        (create_network(NET, "0.0.0.0/0"), "", "", attached(DisableGatewayService=True)),
        (create_network(internal=True), "10.1.0.2/24", "", attached(DisableGatewayService=True)),
        (
            create_network(internal=True, options={"mdnp.gateway": "docker"}),
            "10.1.0.2/24",
            "",
            attached(DisableGatewayService=True),
        ),
        (
            create_network(options={"mdnp.gateway": "none"}),
            "10.1.0.2/24",
            "",
            attached(DisableGatewayService=True),
        ),
        (create_network(options={"mdnp.gateway": "docker"}), "10.1.0.2/24", "", attached()),
        (
            create_network(options={"mdnp.gateway": "docker", PREFIX: "krish-mdnp"}),
            "10.1.0.2/24",
            "",
            attached(prefix="krish-mdnp"),
        ),
        (
            create_network(NET, "10.1.0.0/24 10.1.0.1/24", "10.2.0.0/24 10.2.0.1/24"),
            "10.2.0.2/24",
            "",
            attached(Gateway="10.2.0.1"),
        ),
    ],
    ids=[
        "ipv4",
        "no gateway chosen",
        "both",
        "ipv6",
        "both, one address",
        "null ipam",
        "internal",
        "internal docker",
        "none",
        "docker",
        "prefix",
        "second subnet",
    ],
)
async def test_joining_says_the_link_and_who_gives_the_way_out(
    world: World, network: dict[str, Any], address: str, address6: str, answer: dict[str, Any]
) -> None:
    await world.ok("CreateNetwork", network)
    await world.ok("CreateEndpoint", create_endpoint(WEB, address, address6))

    assert await world.ok("Join", join()) == answer


async def test_an_endpoint_s_info_is_what_people_look_for_on_the_host(world: World) -> None:
    await world.with_endpoint()
    await world.ok("Join", join())

    assert await world.ok("EndpointOperInfo", on_endpoint()) == {
        "Value": {"mdnp.host_end": WEB_LINK, "mdnp.phase": "joined"}
    }


async def test_swarm_s_short_ids_make_links_as_any(world: World) -> None:
    await world.ok("CreateNetwork", create_network(SWARM_NET))
    await world.ok("CreateEndpoint", create_endpoint(network=SWARM_NET))
    await world.ok("Join", join(network=SWARM_NET))

    assert world.links == ["mdb-tjpdt7yjx1n", WEB_LINK]


# Endpoints of which Docker says nothing any more: an engine that was killed starts containers anew without a word.


async def test_a_lost_endpoint_whose_address_another_is_given_is_forgotten(world: World) -> None:
    await world.with_endpoint()
    await world.ok("Join", join())
    await world.ok("ProgramExternalConnectivity", publish((8080, 80)))
    world.kernel.vanish(WEB_LINK)
    await world.reconciler.converge()

    await world.ok("CreateEndpoint", create_endpoint(DB, "10.1.0.2/24"))

    assert (world.promised, world.ports) == (([NET], [DB]), [])
    assert world.kept == world.planned


@pytest.mark.parametrize("lost", [True, False])
async def test_an_endpoint_is_kept_though_it_is_lost_or_though_another_has_its_address(
    world: World, lost: bool
) -> None:
    await world.with_endpoint()
    await world.ok("Join", join())
    if lost:
        world.kernel.vanish(WEB_LINK)
        await world.reconciler.converge()

    await world.ok("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24" if lost else "10.1.0.2/24"))

    assert world.promised == ([NET], [WEB, DB])


# What options mean together.


@pytest.mark.parametrize("version", [4, 6])
async def test_only_an_internal_network_can_be_isolated(world: World, version: int) -> None:
    key = f"com.docker.network.bridge.gateway_mode_ipv{version}"
    body = create_network(options={key: "isolated"})

    assert await world.refused("CreateNetwork", body) == (
        400,
        f"option {key}=isolated: only an internal network can be isolated: add --internal",
    )
    await world.ok("CreateNetwork", create_network(internal=True, options={key: "isolated"}))
    assert world.kept == world.planned


@pytest.mark.parametrize(("internal", "gateway"), [(True, "self"), (False, "docker"), (False, "none")])
@pytest.mark.parametrize("version", [4, 6])
async def test_a_network_without_our_gateway_cannot_be_routed(
    world: World, version: int, internal: bool, gateway: str
) -> None:
    key = f"com.docker.network.bridge.gateway_mode_ipv{version}"
    body = create_network(internal=internal, options={key: "routed", "mdnp.gateway": gateway})

    assert await world.refused("CreateNetwork", body) == (
        400,
        (
            f"option {key}=routed: this network has no gateway of mdnp's to route by: leave it out, or leave out"
            " --internal and mdnp.gateway"
        ),
    )
    assert (world.promised, world.kept) == (([], []), {})


async def test_an_endpoint_is_guarded_by_what_it_was_given_and_allowed(world: World) -> None:
    await world.ok("CreateNetwork", create_network())

    await world.ok("CreateEndpoint", create_endpoint(options={"mdnp.allow": "10.1.0.9,fd00::/64"}))

    guard = world.elements("guarded", "macs", "addresses4", "allowed4", "allowed6", "allowed_targets6", "free")
    assert [line.removeprefix("element bridge mdnp ") for line in guard] == [
        f'addresses4 {{ "{WEB_LINK}" . 10.1.0.2 }}',
        f'allowed4 {{ "{WEB_LINK}" . 10.1.0.9 }}',
        f'allowed6 {{ "{WEB_LINK}" . fd00::/64 }}',
        f'allowed_targets6 {{ "{WEB_LINK}" . 0xfd000000000000000000000000000000-0xfd00000000000000ffffffffffffffff }}',
        f'guarded {{ "{WEB_LINK}" }}',
        f'macs {{ "{WEB_LINK}" . {WEB_MAC} }}',
    ]


async def test_an_endpoint_of_the_same_id_that_is_allowed_something_else_is_a_conflict(world: World) -> None:
    await world.with_endpoint()

    status, _ = await world.refused("CreateEndpoint", create_endpoint(options={"mdnp.allow": "10.1.0.9"}))

    assert (status, world.kept) == (409, world.planned)


# When the kernel refuses.


@pytest.mark.parametrize(
    "refused",
    [
        "nft add table inet",
        "nft add table bridge",
        "nft add element inet mdnp bridges",
        f"link add {BRIDGE}",
        "addr add",
        "iptables -I",
        "ip6tables -I",
        "sysctl -w net/ipv4/ip_forward",
        f"sysctl -w net/ipv4/conf/{BRIDGE}/route_localnet",
    ],
)
async def test_a_refusing_kernel_leaves_no_network_behind(world: World, refused: str) -> None:
    refuse(world, refused)

    status, words = await world.refused("CreateNetwork", create_network())

    assert (status, words.endswith(": refused by the test"), refused in words) == (500, True, True)
    assert (world.promised, world.kept) == (([], []), {})
    world.kernel.refuses = lambda _step: None
    await world.ok("CreateNetwork", create_network())
    assert world.kept == world.planned


@pytest.mark.parametrize(
    "refused", [f"ip link add {DB_LINK} ", f'nft add element bridge mdnp guarded {{ "{DB_LINK}" }}']
)
async def test_a_refusing_kernel_leaves_no_endpoint_behind(world: World, refused: str) -> None:
    await world.with_endpoint()
    refuse(world, refused)

    status, words = await world.refused("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24"))

    assert (status, words.startswith(refused)) == (500, True)
    assert world.promised == ([NET], [WEB])
    assert world.kept == world.planned
    world.kernel.refuses = lambda _step: None
    await world.ok("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24"))
    assert world.kept == world.planned


async def test_without_its_guard_an_endpoint_s_link_is_not_made(world: World) -> None:
    await world.ok("CreateNetwork", create_network())
    refuse(world, "nft add element bridge mdnp addresses4")

    await world.refused("CreateEndpoint", create_endpoint())

    assert (world.links, world.taken_on(Veth)) == ([BRIDGE], [])


async def test_a_host_s_part_that_the_kernel_refuses_fails_no_endpoint(world: World) -> None:
    """The network was answered; what became of the host since is repaired beside."""
    await world.ok("CreateNetwork", create_network())
    world.kernel.settings["net/ipv4/ip_forward"] = "0"
    refuse(world, "sysctl -w net/ipv4/ip_forward")
    world.reconciler.doubt()

    await world.ok("CreateEndpoint", create_endpoint())
    world.kernel.refuses = lambda _step: None
    await world.reconciler.converge()

    assert world.kept == world.planned


async def test_a_failure_that_is_another_s_fails_no_verb(world: World) -> None:
    await world.with_endpoint()
    world.kernel.vanish(WEB_LINK)
    refuse(world, f"link add {WEB_LINK}")
    world.reconciler.doubt()

    await world.ok("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24"))

    assert world.links == [BRIDGE, DB_LINK]


async def test_a_bridge_name_that_is_another_s_is_refused_and_left_alone(world: World) -> None:
    world.kernel.foreign.add("br0")

    status, words = await world.refused("CreateNetwork", create_network(options={BRIDGE_NAME: "br0"}))

    assert (status, words.endswith("a link br0 exists that is not mdnp's: choose another name, or remove it")) == (
        500,
        True,
    )
    assert (world.promised, world.kept, world.kernel.names) == (([], []), {}, {"br0"})


async def test_a_removal_that_the_kernel_refuses_is_answered_and_done_later(world: World) -> None:
    """Docker forgets the endpoint whatever we answer."""
    await world.with_endpoint()
    world.kernel.refuses = lambda _step: "refused by the test"

    await world.ok("DeleteEndpoint", on_endpoint())
    await world.ok("DeleteNetwork", on_network())
    left = set(world.kept)
    world.kernel.refuses = lambda _step: None
    await world.reconciler.converge()

    assert {("link", BRIDGE), ("link", WEB_LINK), ("table", "inet"), ("table", "bridge")} <= left
    assert (world.promised, world.kept) == (([], []), {})


async def test_a_kernel_that_cannot_be_read_refuses_new_promises_and_keeps_none(world: World) -> None:
    await world.with_endpoint()
    world.kernel.unreadable = "reading links and addresses failed: no buffer space"
    world.reconciler.doubt()

    for verb, body in (
        ("CreateNetwork", create_network(OTHER_NET, "10.2.0.0/24")),
        ("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24")),
    ):
        assert await world.refused(verb, body) == (500, "reading links and addresses failed: no buffer space")
    await world.ok("DeleteEndpoint", on_endpoint())
    world.kernel.unreadable = ""
    await world.reconciler.converge()

    assert world.promised == ([NET], [])
    assert world.kept == world.planned


async def test_joining_keeps_right_what_somebody_changed_meanwhile(world: World) -> None:
    await world.with_endpoint()
    port = world.kernel.links[WEB_LINK]
    world.kernel.objects[port.key] = replace(port, master=None)
    world.reconciler.doubt()
    world.kernel.taken.clear()

    await world.ok("Join", join())

    assert [type(step) for step in world.kernel.taken] == [Set]
    assert world.kernel.links[WEB_LINK].master == BRIDGE


# When the disk is full.


async def test_on_a_full_disk_nothing_is_promised_and_nothing_is_made(world: World) -> None:
    await world.with_endpoint()
    before = world.promised, world.seen, phase(world)
    world.store.full = True
    world.kernel.taken.clear()

    for verb, body in (
        ("CreateNetwork", create_network(OTHER_NET, "10.2.0.0/24")),
        ("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24")),
        ("Join", join()),
        ("DeleteEndpoint", on_endpoint()),
        ("DeleteNetwork", on_network()),
    ):
        assert await world.refused(verb, body) == (
            503,
            "cannot write the state: database or disk is full; nothing was changed",
        )
    assert (world.promised, world.seen, phase(world), world.taken) == (*before, [])


async def test_when_there_is_room_again_all_goes_on(world: World) -> None:
    await world.with_endpoint()
    world.store.full = True
    await world.refused("DeleteEndpoint", on_endpoint())
    world.store.full = False

    await world.ok("DeleteEndpoint", on_endpoint())
    await world.ok("DeleteNetwork", on_network())

    assert (world.promised, world.kept) == (([], []), {})


# Many at once.


async def test_many_containers_at_once(world: World) -> None:
    await world.ok("CreateNetwork", create_network(NET, "10.1.0.0/16 10.1.0.1/16"))
    ids = [f"{n:04}" * 16 for n in range(50)]

    async def live(number: int) -> None:
        await world.ok("CreateEndpoint", create_endpoint(ids[number], f"10.1.1.{number}/16"))
        await world.ok("Join", join(ids[number]))
        if number % 2:
            await world.ok("Leave", on_endpoint(ids[number]))
            await world.ok("DeleteEndpoint", on_endpoint(ids[number]))

    await asyncio.gather(*map(live, range(50)))

    assert sorted(world.promised[1]) == ids[::2]
    assert world.kept == world.planned


async def test_verbs_about_one_endpoint_wait_for_each_other(world: World) -> None:
    await world.ok("CreateNetwork", create_network())

    answers = await asyncio.gather(
        world.call("CreateEndpoint", create_endpoint()),
        world.call("Join", join()),
        world.call("Leave", on_endpoint()),
        world.call("DeleteEndpoint", on_endpoint()),
    )

    assert [one.status for one in answers] == [200] * 4
    assert (world.promised, world.links) == (([NET], []), [BRIDGE])


async def test_a_network_deleted_while_an_endpoint_comes_leaves_nothing(world: World) -> None:
    await world.ok("CreateNetwork", create_network())

    created, deleted = await asyncio.gather(
        world.call("CreateEndpoint", create_endpoint()), world.call("DeleteNetwork", on_network())
    )

    assert (created.status in (200, 400, 409), deleted.status) == (True, 200)
    assert (world.promised, world.links) == (([], []), [])


async def test_a_repeated_create_makes_true_what_a_refusing_kernel_and_a_full_disk_left(world: World) -> None:
    def refuse_and_fill(_step: object) -> str:
        world.store.full = True  # after the promise was written, before it can be taken back
        return "refused by the test"

    world.kernel.refuses = refuse_and_fill
    await world.refused("CreateNetwork", create_network())
    assert world.promised == ([NET], [])

    world.kernel.refuses = lambda _step: None
    world.store.full = False
    await world.ok("CreateNetwork", create_network())
    assert world.kept == world.planned
