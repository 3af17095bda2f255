"""Publishing ports, as Docker asks for it: each is held, translated, promised, and goes with whatever ends it."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdnp.dataplane.objects import Element, HostPort
from mdnp.dataplane.steps import Add, Delete, Step
from mdnp.kernel.fake import FakeKernel
from mdnp.model.identity import EndpointID
from mdnp.model.port import Protocol
from tests.world import (
    ANY4,
    ANY6,
    BRIDGE,
    DB,
    NET,
    OTHER_NET,
    SANDBOX,
    SCTP,
    UDP,
    WEB,
    WEB_LINK,
    World,
    a_socket,
    binding,
    build_world,
    create_endpoint,
    create_network,
    join,
    on_endpoint,
    on_network,
    open_world,
    publish,
    quick_folder,
)

PUBLISH, REVOKE = "ProgramExternalConnectivity", "RevokeExternalConnectivity"
DUAL = ("10.1.0.0/24 10.1.0.1/24", "fd00::/64 fd00::1/64")
MAPS = ("ports4", "ports6", "bound4", "bound6")
LOCAL_PORTS = range(32768, 61000)


@pytest.fixture
async def web(world: World) -> World:
    """A network with a joined endpoint."""
    await settle(world)
    return world


async def settle(world: World, **network: Any) -> None:
    await world.with_endpoint(**network)
    await world.ok("Join", join())
    world.kernel.taken.clear()


async def join_db(world: World) -> None:
    await world.ok("CreateEndpoint", create_endpoint(DB, "10.1.0.3/24"))
    await world.ok("Join", join(DB))


def translated(world: World) -> list[str]:
    """What the maps of the kernel lead to, as `MAP KEY : VALUE`."""
    return [line.removeprefix("element inet mdnp ") for line in world.elements(*MAPS)]


def host_ports(world: World, endpoint: str = WEB) -> list[int]:
    """The ports of the host that are promised to an endpoint."""
    return [one.host_port for one in world.store.promises.endpoints[EndpointID(endpoint)].ports]


def refuse(world: World, words: str) -> None:
    """The kernel refuses to add what has the words in its text."""
    world.kernel.refuses = lambda step: "refused by the test" if isinstance(step, Add) and words in str(step) else None


def unpublished(world: World, endpoint: str = WEB) -> bool:
    """Whether nothing of an endpoint's is published: promised, held, translated or sent back."""
    return (host_ports(world, endpoint), world.ports, translated(world), world.kept == world.planned) == (
        [],
        [],
        [],
        True,
    )


# What is published.


async def test_a_fixed_port_is_held_and_translated(web: World) -> None:
    assert await web.ok(PUBLISH, publish((8080, 80))) == {}

    assert web.ports == ["port tcp 0.0.0.0:8080", "port tcp [::]:8080 proxy 10.1.0.2:80"]
    assert translated(web) == ["ports4 { tcp . 8080 : 10.1.0.2 . 80 }"]
    assert host_ports(web) == [8080]
    assert web.kept == web.planned


async def test_traffic_is_led_to_a_port_only_when_it_is_held(web: World) -> None:
    """It would be taken from whoever has the port."""
    await web.ok(PUBLISH, publish((8080, 80)))
    added = web.taken
    await web.ok(REVOKE, on_endpoint())

    assert added == [
        "hold port tcp 0.0.0.0:8080",
        "hold port tcp [::]:8080 proxy 10.1.0.2:80",
        "nft add element inet mdnp ports4 { tcp . 8080 : 10.1.0.2 . 80 }",
        f"ip link set {WEB_LINK} type bridge_slave hairpin on",
    ]
    assert web.taken == [
        "nft delete element inet mdnp ports4 { tcp . 8080 : 10.1.0.2 . 80 }",
        "let go of port tcp 0.0.0.0:8080",
        "let go of port tcp [::]:8080 proxy 10.1.0.2:80",
        f"ip link set {WEB_LINK} type bridge_slave hairpin off",
    ]


async def test_ports_of_every_form_are_published(world: World) -> None:
    await world.ok("CreateNetwork", create_network(NET, *DUAL))
    await world.ok("CreateEndpoint", create_endpoint(WEB, "10.1.0.2/24", "fd00::2/64"))

    await world.ok(
        PUBLISH,
        publish(
            binding(80, 8080, proto=6, ip="192.0.2.1"),
            binding(53, 53, proto=UDP),
            binding(9, 99, proto=SCTP, ip="2001:db8::1"),
            binding(443, 8443, 8449, ip="127.0.0.1"),
            binding(22, 2222, ip="::1"),
            binding(7),
        ),
    )

    assert translated(world) == [
        "bound4 { 127.0.0.1 . tcp . 8443 : 10.1.0.2 . 443 }",
        "bound4 { 192.0.2.1 . tcp . 8080 : 10.1.0.2 . 80 }",
        "bound6 { 2001:db8::1 . sctp . 99 : fd00::2 . 9 }",
        f"ports4 {{ tcp . {LOCAL_PORTS[0]} : 10.1.0.2 . 7 }}",
        "ports4 { udp . 53 : 10.1.0.2 . 53 }",
        f"ports6 {{ tcp . {LOCAL_PORTS[0]} : fd00::2 . 7 }}",
        "ports6 { udp . 53 : fd00::2 . 53 }",
    ]
    assert "port tcp [::1]:2222 proxy [fd00::2]:22" in world.ports
    assert world.kept == world.planned


async def test_in_a_routed_network_the_container_s_own_port_is_opened(world: World) -> None:
    await settle(world, options={"com.docker.network.bridge.gateway_mode_ipv4": "routed"})

    await world.ok(PUBLISH, publish((8080, 80), (8081, 80)))

    assert (world.ports, translated(world)) == ([], [])
    assert world.elements("open4") == ["element inet mdnp open4 { 10.1.0.2 . tcp . 80 }"]
    await world.ok("Leave", on_endpoint())
    assert world.elements("open4") == []


async def test_the_network_s_host_address_is_taken_where_none_is_named(world: World) -> None:
    await settle(world, options={"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"})

    await world.ok(PUBLISH, publish((8080, 80), binding(81, 8081, ip="192.0.2.1")))

    assert world.ports == ["port tcp 127.0.0.1:8080", "port tcp 192.0.2.1:8081"]


async def test_where_another_network_has_the_way_out_of_ipv6_nothing_is_carried_from_it(web: World) -> None:
    await web.ok(PUBLISH, publish((8080, 80), binding(81, 8081, ip="2001:db8::1"), carried=False))

    assert web.ports == ["port tcp 0.0.0.0:8080"]
    assert host_ports(web) == [8080, 8081]
    assert web.kept == web.planned


@pytest.mark.parametrize("network", [{"internal": True}, {"options": {"mdnp.gateway": "none"}}])
async def test_a_port_means_nothing_on_a_network_without_a_way_out(world: World, network: dict[str, Any]) -> None:
    await settle(world, **network)

    assert await world.ok(PUBLISH, publish((8080, 80))) == {}

    assert unpublished(world)


async def test_with_docker_s_gateway_the_ports_are_docker_s(world: World) -> None:
    await settle(world, options={"mdnp.gateway": "docker"})

    await world.ok(PUBLISH, publish((8080, 80)))

    assert unpublished(world)


# What ends it.


@pytest.mark.parametrize(
    "calls",
    [
        [(REVOKE, on_endpoint())],
        [("Leave", on_endpoint())],
        [("DeleteEndpoint", on_endpoint())],
        [(REVOKE, on_endpoint()), ("Leave", on_endpoint()), ("DeleteEndpoint", on_endpoint())],
        [("Leave", on_endpoint()), (REVOKE, on_endpoint())],
        [("DeleteNetwork", on_network())],
        [(PUBLISH, publish())],
    ],
    ids=lambda calls: "-".join(verb for verb, _ in calls),
)
async def test_whatever_comes_of_revoke_leave_and_delete_unpublishes(
    web: World, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    await web.ok(PUBLISH, publish((8080, 80), (0, 443)))

    for verb, body in calls:
        await web.ok(verb, body)

    assert (web.ports, translated(web)) == ([], [])
    assert web.kept == web.planned
    assert all(not one.ports for one in web.store.promises.endpoints.values())


async def test_a_port_that_was_let_go_can_be_had_by_another_at_once(web: World) -> None:
    await join_db(web)
    await web.ok(PUBLISH, publish((8080, 80)))
    await web.ok(REVOKE, on_endpoint())

    await web.ok(PUBLISH, publish((8080, 80), identity=DB))

    assert translated(web) == ["ports4 { tcp . 8080 : 10.1.0.3 . 80 }"]


async def test_a_removal_that_the_kernel_refuses_is_answered_and_done_later(web: World) -> None:
    await web.ok(PUBLISH, publish((8080, 80)))
    web.kernel.refuses = lambda step: "refused by the test" if isinstance(step, Delete) else None

    await web.ok(REVOKE, on_endpoint())
    left = translated(web)
    web.kernel.refuses = lambda _step: None
    await web.reconciler.converge()

    assert left == ["ports4 { tcp . 8080 : 10.1.0.2 . 80 }"]
    assert unpublished(web)


# Again: Docker repeats a call whose answer it did not see.


SEVERAL = [binding(80, 8080), binding(81, 8081, 8089), binding(82), binding(82), binding(53, 53, proto=UDP)]


@settings(max_examples=20)
@given(st.permutations(SEVERAL))
def test_the_same_ports_in_any_order_change_nothing(asked: list[dict[str, Any]]) -> None:
    async def tell() -> None:
        with quick_folder() as folder:
            async with open_world(folder) as world:
                await settle(world)
                await world.ok(PUBLISH, publish(*SEVERAL))
                before = world.kept, host_ports(world)
                world.kernel.taken.clear()
                commits = len(world.store.commits)

                await world.ok(PUBLISH, publish(*asked))

                assert (world.kept, host_ports(world), world.taken) == (*before, [])
                assert len(world.store.commits) == commits

    asyncio.run(tell())


async def test_a_repeated_request_is_not_answered_with_success_when_the_port_is_another_s_by_now(web: World) -> None:
    """A daemon that starts holds its ports anew, and somebody was faster."""
    await web.ok(PUBLISH, publish((8080, 80)))
    started = web.restarted()
    started.kernel.taken_ports.add(a_socket(ANY4, 8080))
    await started.reconciler.converge()

    status, words = await started.refused(PUBLISH, publish((8080, 80)))

    assert (status, words) == (409, "cannot publish 8080:80/tcp: tcp 0.0.0.0:8080 is in use by another process")
    assert unpublished(started)


async def test_a_repeated_request_for_any_port_moves_on_when_its_port_is_another_s_by_now(web: World) -> None:
    await web.ok(PUBLISH, publish((0, 80)))
    [port] = host_ports(web)
    started = web.restarted()
    started.kernel.taken_ports.add(a_socket(ANY4, port))
    await started.reconciler.converge()

    await started.ok(PUBLISH, publish((0, 80)))

    assert host_ports(started) != [port]
    assert started.kept == started.planned


async def test_other_ports_take_the_place_of_those_before_and_what_stays_keeps_its_port(web: World) -> None:
    await web.ok(PUBLISH, publish((8080, 80), (0, 443)))
    [kept] = set(host_ports(web)) - {8080}
    web.kernel.taken.clear()

    await web.ok(PUBLISH, publish((0, 443), (8081, 81)))

    assert sorted(host_ports(web)) == [8081, kept]
    assert not any(str(kept) in line for line in web.taken)
    assert web.kept == web.planned


async def test_the_same_ports_carried_otherwise_are_another_request(web: World) -> None:
    await web.ok(PUBLISH, publish((8080, 80)))

    await web.ok(PUBLISH, publish((8080, 80), carried=False))

    assert web.ports == ["port tcp 0.0.0.0:8080"]


# What somebody else has.


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        (a_socket(ANY4, 8080), "tcp 0.0.0.0:8080 is in use by another process"),
        (a_socket("127.0.0.1", 8080), "tcp 0.0.0.0:8080 is in use by another process"),
        (a_socket(ANY6, 8080), "tcp [::]:8080 is in use by another process"),
    ],
)
async def test_a_port_of_another_process_s_is_a_conflict_that_names_it(web: World, taken: Any, words: str) -> None:
    web.kernel.taken_ports.add(taken)

    assert await web.refused(PUBLISH, publish((8081, 81), (8080, 80))) == (
        409,
        f"cannot publish 8080:80/tcp: {words}",
    )

    assert unpublished(web)
    assert await web.ok(PUBLISH, publish((8081, 81))) == {}


async def test_of_a_range_the_next_is_taken(web: World) -> None:
    web.kernel.taken_ports |= {a_socket(ANY4, 8080), a_socket(ANY6, 8081)}

    await web.ok(PUBLISH, publish(binding(80, 8080, 8089)))

    assert host_ports(web) == [8082]
    assert web.kept == web.planned


async def test_a_range_that_others_have_whole_is_refused(web: World) -> None:
    web.kernel.taken_ports |= {a_socket(ANY4, 8080), a_socket(ANY4, 8081)}

    assert await web.refused(PUBLISH, publish(binding(80, 8080, 8081))) == (
        409,
        (
            "cannot publish 8080-8081:80/tcp: no port of the range is free (the last: tcp 0.0.0.0:8081 is in use by"
            " another process)"
        ),
    )
    assert unpublished(web)


async def test_where_any_port_will_do_the_next_is_taken_and_each_in_its_turn(web: World) -> None:
    """A port that was let go is given out late again: its clients' last packets are on their way."""
    first = LOCAL_PORTS[0]
    web.kernel.taken_ports |= {a_socket(ANY4, first), a_socket(ANY4, first + 1)}
    given = []
    for _ in range(3):
        await web.ok(PUBLISH, publish((0, 80)))
        given += host_ports(web)
        await web.ok(REVOKE, on_endpoint())

    assert given == [first + 2, first + 3, first + 4]


class SmallHost(FakeKernel):
    """Has three ports where any will do."""

    async def local_ports(self) -> range:
        return range(40000, 40003)


async def test_after_the_last_port_of_the_host_s_comes_the_first(world: World) -> None:
    web = build_world(world.store, SmallHost())
    await settle(web)
    given = []
    for _ in range(4):
        await web.ok(PUBLISH, publish((0, 80)))
        given += host_ports(web)
        await web.ok(REVOKE, on_endpoint())

    assert given == [40000, 40001, 40002, 40000]


async def test_a_host_without_a_free_port_is_told(world: World) -> None:
    web = build_world(world.store, SmallHost())
    await settle(web)
    web.kernel.taken_ports |= {a_socket(ANY4, 40001), a_socket(ANY6, 40002)}
    await join_db(web)
    await web.ok(PUBLISH, publish((0, 80), identity=DB))

    assert await web.refused(PUBLISH, publish((0, 80))) == (
        409,
        "no port of the host is free to publish at: widen its ip_local_port_range, or name a port",
    )
    assert (host_ports(web), host_ports(web, DB)) == ([], [40000])
    assert web.kept == web.planned


async def test_another_endpoint_s_port_is_a_conflict_that_names_it(web: World) -> None:
    await join_db(web)
    await web.ok(PUBLISH, publish((8080, 80)))

    for asked in ((8080, 80), binding(80, 8080, ip="127.0.0.1")):
        status, words = await web.refused(PUBLISH, publish(asked, identity=DB))

        assert status == 409
        assert words.endswith(
            "tcp 0.0.0.0:8080 is published for endpoint c3c3c3c3c3c3 (see `mdnp port ls`): publish another port"
        )
    assert (host_ports(web), host_ports(web, DB)) == ([8080], [])
    assert web.kept == web.planned


async def test_all_addresses_are_a_conflict_where_another_endpoint_has_one_of_them(web: World) -> None:
    await join_db(web)
    await web.ok(PUBLISH, publish(binding(80, 8080, ip="127.0.0.1")))

    status, _ = await web.refused(PUBLISH, publish((8080, 80), identity=DB))

    assert (status, web.ports) == (409, ["port tcp 127.0.0.1:8080"])
    assert web.kept == web.planned


async def test_ports_of_an_endpoint_that_is_lost_go_to_who_asks_for_them(web: World) -> None:
    """An engine that was killed starts containers anew without a word about the endpoints that they had."""
    await join_db(web)
    await web.ok(PUBLISH, publish((8080, 80)))
    web.kernel.vanish(WEB_LINK)

    await web.ok(PUBLISH, publish((8080, 80), identity=DB))

    assert (host_ports(web), host_ports(web, DB)) == ([], [8080])
    assert translated(web) == ["ports4 { tcp . 8080 : 10.1.0.3 . 80 }"]


async def test_two_endpoints_at_once_never_get_one_port(world: World) -> None:
    await world.ok("CreateNetwork", create_network(NET, "10.1.0.0/16 10.1.0.1/16"))
    ids = [f"{n:04}" * 16 for n in range(20)]
    for number, identity in enumerate(ids):
        await world.ok("CreateEndpoint", create_endpoint(identity, f"10.1.1.{number}/16"))

    async def publish_all(identity: str) -> int:
        body = publish((0, 80), binding(81, 8080, 8089), identity=identity)
        return (await world.call(PUBLISH, body)).status

    statuses = await asyncio.gather(*map(publish_all, ids))

    published = [identity for identity, status in zip(ids, statuses, strict=True) if status == 200]
    given = [port for identity in ids for port in host_ports(world, identity)]
    assert (sorted(statuses), len(set(given)), len(given)) == ([200] * 10 + [409] * 10, 20, 20)
    assert [identity for identity in ids if host_ports(world, identity)] == published
    assert world.kept == world.planned


async def test_two_endpoints_at_once_do_not_both_get_a_fixed_port(web: World) -> None:
    await join_db(web)

    answers = await asyncio.gather(*(web.call(PUBLISH, publish((8080, 80), identity=one)) for one in (WEB, DB)))

    assert sorted(one.status for one in answers) == [200, 409]
    assert sorted([*host_ports(web), *host_ports(web, DB)]) == [8080]
    assert web.kept == web.planned


async def test_an_endpoint_and_all_addresses_at_once_do_not_both_get_a_port(web: World) -> None:
    await join_db(web)
    one = publish(binding(80, 8080, ip="127.0.0.1"))
    other = publish((8080, 80), identity=DB)

    answers = await asyncio.gather(web.call(PUBLISH, one), web.call(PUBLISH, other))

    assert sorted(each.status for each in answers) == [200, 409]
    assert web.kept == web.planned


# A restart.


async def test_ports_survive_a_restart(web: World) -> None:
    await web.ok(PUBLISH, publish((8080, 80), (0, 443)))
    before, promised = web.kept, host_ports(web)
    web.kernel.taken.clear()

    started = web.restarted()
    without = started.ports
    await started.reconciler.converge()

    assert (without, started.kept, host_ports(started)) == ([], before, promised)
    assert [line for line in started.taken if not line.startswith("hold port")] == []


async def test_a_restart_gives_out_no_port_twice(web: World) -> None:
    await join_db(web)
    await web.ok(PUBLISH, publish((0, 80)))
    started = web.restarted()
    await started.reconciler.converge()

    await started.ok(PUBLISH, publish((0, 80), identity=DB))

    assert host_ports(started, DB) != host_ports(started)
    assert started.kept == started.planned


async def test_a_port_that_somebody_took_before_the_start_is_held_when_it_is_free_again(web: World) -> None:
    """Its others are held meanwhile, and no traffic is led away from who has it."""
    await web.ok(PUBLISH, publish((8080, 80), (8081, 81)))
    for element in [one for one in web.kernel.objects.values() if isinstance(one, Element) and one.value]:
        del web.kernel.objects[element.key]
    started = web.restarted()
    started.kernel.taken_ports.add(a_socket(ANY4, 8080))

    await started.reconciler.converge()
    meanwhile = started.ports, "8080" in str(translated(started))
    started.kernel.taken_ports.clear()
    await started.reconciler.converge()

    assert "port tcp 0.0.0.0:8081" in meanwhile[0]
    assert ("port tcp 0.0.0.0:8080" in meanwhile[0], meanwhile[1]) == (False, False)
    assert started.kept == started.planned


# When the kernel refuses.


@pytest.mark.parametrize(
    "refused", ["hold port tcp 0.0.0.0:8080", "hold port tcp [::]:8080", "ports4 { tcp . 8080", "ports4 { tcp . 8081"]
)
async def test_a_refusing_kernel_leaves_nothing_published(web: World, refused: str) -> None:
    refuse(web, refused)

    status, words = await web.refused(PUBLISH, publish((8080, 80), (8081, 81)))

    assert (status, refused in words, words.endswith(": refused by the test")) == (500, True, True)
    assert unpublished(web)
    web.kernel.refuses = lambda _step: None
    await web.ok(PUBLISH, publish((8080, 80), (8081, 81)))
    assert web.kept == web.planned


async def test_a_host_that_lacks_the_address_leaves_nothing_published(web: World) -> None:
    """As Linux says it: no other port of that address would do."""

    def lacks(step: Step) -> str | None:
        return "the host has no address 192.0.2.77" if "192.0.2.77" in str(step) else None

    web.kernel.refuses = lacks

    status, words = await web.refused(PUBLISH, publish(binding(80, 8080, 8089, ip="192.0.2.77")))

    assert (status, "the host has no address 192.0.2.77" in words) == (500, True)
    assert len([line for line in web.taken_on(HostPort) if line.startswith("hold")]) == 0
    assert unpublished(web)


async def test_a_kernel_that_cannot_be_read_publishes_nothing(web: World) -> None:
    web.kernel.unreadable = "reading links and addresses failed"
    web.reconciler.doubt()

    assert await web.refused(PUBLISH, publish((0, 80))) == (500, "reading links and addresses failed")
    web.kernel.unreadable = ""
    await web.reconciler.converge()

    assert unpublished(web)


async def test_a_flushed_ruleset_does_not_keep_a_port_from_being_published(web: World) -> None:
    web.kernel.objects = {key: one for key, one in web.kernel.objects.items() if key[0] not in ("table", "element")}

    await web.ok(PUBLISH, publish((8080, 80)))

    assert web.kept == web.planned


# When the disk is full.


async def test_on_a_full_disk_nothing_is_published(web: World) -> None:
    web.store.full = True

    assert await web.refused(PUBLISH, publish((8080, 80))) == (
        503,
        "cannot write the state: database or disk is full; nothing was changed",
    )
    assert unpublished(web)
    web.store.full = False
    await web.ok(PUBLISH, publish((8080, 80)))


async def test_on_a_full_disk_what_is_published_stays_so(web: World) -> None:
    await web.ok(PUBLISH, publish((8080, 80)))
    before = web.kept
    web.store.full = True

    for verb, body in ((REVOKE, on_endpoint()), ("Leave", on_endpoint()), ("DeleteEndpoint", on_endpoint())):
        status, _ = await web.refused(verb, body)
        assert status == 503

    assert (web.kept, host_ports(web)) == (before, [8080])
    assert await web.ok(PUBLISH, publish((8080, 80))) == {}


async def test_no_promise_that_was_written_before_the_disk_was_full_is_left_without_its_port(web: World) -> None:
    """Somebody has the port, and the promise cannot be taken back: it is, when the endpoint goes."""
    web.kernel.taken_ports.add(a_socket(ANY4, 8080))

    def fill(step: Step) -> None:
        web.store.full = isinstance(step, Add) and isinstance(step.object, HostPort)

    web.kernel.refuses = fill
    status, _ = await web.refused(PUBLISH, publish((8080, 80)))
    web.kernel.refuses = lambda _step: None
    web.store.full = False
    await web.ok("Leave", on_endpoint())

    assert status == 409
    assert unpublished(web)


# What cannot be.


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            binding(80, 0, 8080),
            "host ports 0-8080 for 80/tcp: a range does not begin at 0: name its first port, or no host port at all",
        ),
        (
            binding(80, 8081, 8080),
            "host ports 8081-8080 for 80/tcp: expected ports from 1 to 65535, the smaller one first",
        ),
        (binding(80, 65535, 65536), "host ports 65535-65536 for 80/tcp: expected ports from 1 to 65535, the smaller"),
        (binding(80, -1), "host ports -1--1 for 80/tcp: expected ports from 1 to 65535"),
        (binding(0, 8080), "port 0/tcp of the container: expected 1 to 65535"),
        (binding(65536, 8080), "port 65536/tcp of the container: expected 1 to 65535"),
        (binding(-1, 8080), "port -1/tcp of the container: expected 1 to 65535"),
        (binding(80, 8080, proto=1), "port 80: IP protocol 1: expected that of tcp, udp or sctp"),
        (binding(80, 8080, proto=0), "port 80: IP protocol 0: expected that of tcp, udp or sctp"),
        (binding(80, 8080, ip="nonsense"), "host address 'nonsense' of a port: expected an address as 192.0.2.1"),
        (binding(80, 8080, ip="192.0.2.1/24"), "host address '192.0.2.1/24' of a port: expected an address"),
        (binding(80, 8080, ip="fe80::1%eth0"), "host address fe80::1%eth0 of a port: leave out the zone"),
        (
            binding(80, 8080, proto=SCTP, ip="2001:db8::1"),
            "cannot publish [2001:db8::1]:8080:80/sctp: the container has no IPv6 address on this network",
        ),
    ],
)
async def test_what_cannot_be_published_is_refused_with_what_can(web: World, asked: dict[str, Any], words: str) -> None:
    status, said = await web.refused(PUBLISH, publish((8081, 81), asked))

    assert (status, said.startswith(words)) == (400, True), said
    assert unpublished(web)


async def test_a_port_that_the_request_leaves_out_is_one_of_the_host_s(web: World) -> None:
    """Engines before 28 leave out the end of a range that has none."""
    body = publish((8080, 80), (8081, 81))
    bindings = body["Options"]["com.docker.network.portmap"]
    del bindings[0]["HostPortEnd"]
    bindings[1]["HostPortEnd"] = 0

    await web.ok(PUBLISH, body)

    assert host_ports(web) == [8080, 8081]


async def test_a_container_without_addresses_publishes_nothing(world: World) -> None:
    await world.ok("CreateNetwork", {"NetworkID": NET, "IPv4Data": None, "IPv6Data": None})
    await world.ok("CreateEndpoint", create_endpoint(WEB, ""))

    assert await world.refused(PUBLISH, publish((8080, 80))) == (
        400,
        "cannot publish 8080:80/tcp: the container has no address on this network",
    )
    assert await world.ok(PUBLISH, publish()) == {}


async def test_verbs_about_one_endpoint_wait_for_each_other(web: World) -> None:
    answers = await asyncio.gather(
        web.call(PUBLISH, publish((0, 80))),
        web.call(REVOKE, on_endpoint()),
        web.call(PUBLISH, publish((8080, 80))),
        web.call("Leave", on_endpoint()),
        web.call("DeleteEndpoint", on_endpoint()),
    )

    assert [json.loads(one.body) for one in answers] == [{}] * 5
    assert (web.ports, translated(web), web.links) == ([], [], [BRIDGE])
    assert web.kept == web.planned


async def test_what_the_promise_says_is_what_docker_asked_for(web: World) -> None:
    await web.ok(PUBLISH, publish(binding(53, 53, 59, proto=UDP, ip="127.0.0.1"), carried=False))

    [one] = web.store.promises.endpoints[EndpointID(WEB)].ports
    assert (one.host_port, one.carried) == (53, False)
    assert (one.request.protocol, one.request.port, str(one.request.host_address)) == (Protocol.UDP, 53, "127.0.0.1")
    assert (one.request.first, one.request.last) == (53, 59)


async def test_the_ports_of_two_networks_do_not_mix(world: World) -> None:
    await world.with_endpoint()
    await world.ok("CreateNetwork", create_network(OTHER_NET, "10.2.0.0/24 10.2.0.1/24"))
    await world.ok("CreateEndpoint", create_endpoint(DB, "10.2.0.2/24", network=OTHER_NET))
    await world.ok(PUBLISH, publish((8080, 80)))
    await world.ok(PUBLISH, publish((8081, 80), identity=DB, network=OTHER_NET))

    await world.ok("DeleteNetwork", on_network())

    assert translated(world) == ["ports4 { tcp . 8081 : 10.2.0.2 . 80 }"]
    assert world.kept == world.planned


async def test_of_one_sandbox_the_new_way_out_takes_the_ports_of_the_old_one(world: World) -> None:
    """An engine that was restarted with live-restore (29) does not say that the old one is the way out no more."""
    await world.with_endpoint()
    await world.ok("Join", join())
    await world.ok("ProgramExternalConnectivity", publish((8080, 80)))
    await world.ok("CreateNetwork", create_network(OTHER_NET, "10.2.0.0/24 10.2.0.1/24"))
    await world.ok("CreateEndpoint", create_endpoint(DB, "10.2.0.2/24", network=OTHER_NET))
    await world.ok("Join", join(DB, OTHER_NET, SANDBOX))

    await world.ok("ProgramExternalConnectivity", publish((8080, 80), identity=DB, network=OTHER_NET))

    records = world.store.promises.endpoints
    assert (records[EndpointID(WEB)].ports, len(records[EndpointID(DB)].ports)) == ((), 1)
    assert world.kept == world.planned
