"""A network of more endpoints than its bridge takes: what reaches whom, on the real kernel."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from mdnp.dataplane import naming
from mdnp.dataplane.objects import Table
from mdnp.dataplane.steps import Add
from tests.annexes.crowd import BROADCAST, Crowd, crowd
from tests.overlay.fabric import asks, listening, reaches

pytestmark = pytest.mark.root

ICC = "com.docker.network.bridge.enable_icc"
VERSIONS = (4, 6)
SOON_S = 0.3  # how long is waited for what must not come
NUMBERS = range(2, 9)  # three on the own bridge, three on the first annex, one on the second
GATEWAY = {4: ip_address("10.1.0.1"), 6: ip_address("fd01::1")}
HOST = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
OUTSIDE = {4: ip_address("192.0.2.2"), 6: ip_address("2001:db8::2")}


@pytest.fixture(params=["0", "1"], ids=["bridges-unfiltered", "bridges-filtered"])
async def full(request: pytest.FixtureRequest) -> AsyncIterator[Crowd]:
    async with crowd() as made:
        made.filter_bridges(request.param)
        await made.network()
        await made.start(*NUMBERS)
        yield made


async def test_all_reach_each_other_the_gateway_and_the_outside(full: Crowd) -> None:
    containers = list(full.containers.values())

    for one, other in itertools.permutations(containers, 2):
        for version in VERSIONS:
            came_from = await reaches(one.namespace, other.namespace, other.address(version))
            assert came_from == str(one.address(version)), f"{one.number} {other.number}"
    for one, version in itertools.product(containers, VERSIONS):
        assert await reaches(one.namespace, full.host, GATEWAY[version]) == str(one.address(version))
        assert await reaches(full.host, one.namespace, one.address(version)) == str(GATEWAY[version])
        assert await reaches(one.namespace, full.outside, OUTSIDE[version]) == str(HOST[version])
    await full.in_sync()


@pytest.mark.parametrize("target", [5, 8])
async def test_a_published_port_leads_to_an_annex_from_everywhere(full: Crowd, target: int) -> None:
    container = full.containers[target]
    port = await full.publish(target)

    for version in VERSIONS:
        with listening(container.namespace, container.address(version)) as listener:
            assert await asks(full.outside, listener, HOST[version], port=port) == str(OUTSIDE[version])
            assert await asks(full.host, listener, HOST[version], port=port)
            for one in full.containers.values():
                assert await asks(one.namespace, listener, HOST[version], port=port), f"{one.number} asks"
    # What came back by the joint has not misled the annex.
    for one in full.containers.values():
        if one is not container:
            assert await reaches(one.namespace, container.namespace, container.address(4))
    await full.in_sync()


async def test_a_published_port_of_the_own_bridge_is_reached_from_annexes(full: Crowd) -> None:
    container = full.containers[2]
    port = await full.publish(2)

    with listening(container.namespace, container.address(4)) as listener:
        for one in full.containers.values():
            assert await asks(one.namespace, listener, HOST[4], port=port), f"{one.number} asks"


async def test_what_is_for_all_comes_to_each_once_and_not_back(full: Crowd) -> None:
    ears = {number: one.listen() for number, one in full.containers.items()}

    for sender, one in full.containers.items():
        one.send(BROADCAST)
        await asyncio.sleep(SOON_S)

        assert {number: ear.heard() for number, ear in ears.items()} == {
            number: [] if number == sender else [sender] for number in ears
        }
    for ear in ears.values():
        ear.close()


async def test_what_is_for_nobody_known_misleads_no_bridge(full: Crowd) -> None:
    """It comes back by the joint, with its sender's MAC."""
    one, *others = (full.containers[number] for number in (5, 6, 8, 2))
    one.namespace.run("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1")  # it sends nothing by itself

    one.send("02:00:00:00:00:99")
    await asyncio.sleep(SOON_S)
    assert f"{one.mac} dev {naming.host_end(one.identity)} " in full.host.run("bridge fdb show br mdb-a1a1a1a1-1")

    ear = one.listen()
    for other in others:
        other.send(one.mac)
    await asyncio.sleep(SOON_S)
    assert sorted(ear.heard()) == [2, 6, 8]
    ear.close()


async def test_without_icc_annexes_reach_only_the_host(full: Crowd) -> None:
    await full.remove_all()
    await full.network({ICC: "false"})
    await full.start(*NUMBERS)
    ears = {number: one.listen() for number, one in full.containers.items()}

    for one, version in itertools.product(full.containers.values(), VERSIONS):
        assert await reaches(one.namespace, full.host, GATEWAY[version]) == str(one.address(version))
        assert await reaches(full.host, one.namespace, one.address(version)) == str(GATEWAY[version])
        assert await reaches(one.namespace, full.outside, OUTSIDE[version]) == str(HOST[version])
    pairs = [(2, 3), (2, 5), (5, 2), (5, 6), (5, 8), (8, 5)]
    for number, other in pairs:
        one, to = full.containers[number], full.containers[other]
        one.send(BROADCAST)
        one.send(to.mac)
        assert not await reaches(one.namespace, to.namespace, to.address(4), patience_s=SOON_S), f"{number} {other}"
    # By way of the gateway's MAC neither.
    one, to = full.containers[5], full.containers[8]
    one.namespace.run(f"ip route add {to.address(4)} via {GATEWAY[4]}")
    assert not await reaches(one.namespace, to.namespace, to.address(4), patience_s=SOON_S)
    assert {number: ear.heard() for number, ear in ears.items()} == {number: [] for number in ears}
    port = await full.publish(8)
    with listening(to.namespace, to.address(4)) as listener:
        for each in (*full.containers.values(),):
            assert await asks(each.namespace, listener, HOST[4], port=port), f"{each.number} asks"
    for ear in ears.values():
        ear.close()


async def test_an_internal_network_has_annexes_and_no_way_out(full: Crowd) -> None:
    await full.remove_all()
    await full.network(internal=True)
    await full.start(*NUMBERS)
    first, near, last = (full.containers[number] for number in (2, 5, 8))

    assert await reaches(first.namespace, last.namespace, last.address(4)) == str(first.address(4))
    assert await reaches(near.namespace, last.namespace, last.address(6)) == str(near.address(6))
    assert not await reaches(near.namespace, full.outside, OUTSIDE[4], patience_s=SOON_S)
    assert not await reaches(near.namespace, full.host, HOST[4], patience_s=SOON_S)


async def test_the_host_has_no_place_in_an_annex(full: Crowd) -> None:
    """A container that takes the annex for its router gets nothing to anybody, though the host forwards."""
    one = full.containers[5]
    mac = full.host.run("ip -br link show mdb-a1a1a1a1-1").split()[2]
    one.namespace.run(f"ip neigh replace 10.1.0.1 lladdr {mac} dev eth0")
    full.host.run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.mdb-a1a1a1a1-1.rp_filter=0")

    for place, to in ((full.outside, OUTSIDE[4]), (full.host, HOST[4])):
        with listening(place, to) as listener, one.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.sendto(b"?", (str(to), 5000))
            await asyncio.sleep(SOON_S)
            with pytest.raises(BlockingIOError):
                listener.recv(1)


async def test_the_guard_drops_what_an_endpoint_of_an_annex_forges(full: Crowd) -> None:
    one, other = full.containers[5], full.containers[8]
    ears = {number: each.listen() for number, each in full.containers.items()}

    one.send(BROADCAST, sender=other.mac)
    one.namespace.run("ip addr add 10.1.0.77/24 dev eth0")
    one.namespace.run(f"ip route add {other.address(4)} dev eth0 src 10.1.0.77")

    assert not await reaches(one.namespace, other.namespace, other.address(4), patience_s=SOON_S)
    assert {number: ear.heard() for number, ear in ears.items()} == {number: [] for number in ears}
    assert await reaches(full.containers[2].namespace, other.namespace, other.address(4))
    for ear in ears.values():
        ear.close()


async def test_a_restart_changes_nothing_and_the_end_leaves_nothing(full: Crowd) -> None:
    before = full.shown()
    await full.stop_daemon()

    taken = await full.start_daemon()

    # A daemon that starts makes the tables' rules anew, whose text the kernel does not give back.
    assert [step for step in taken if not (isinstance(step, Add) and isinstance(step.object, Table))] == []
    assert full.shown() == before
    await full.stop(5)
    await full.start(5)
    assert await reaches(full.containers[5].namespace, full.containers[2].namespace, full.containers[2].address(4))
    await full.in_sync()
    await full.remove_all()
    assert [line for line in full.shown() if "mdb-" in line or "mdu-" in line or "mdw-" in line or "mdv-" in line] == []
