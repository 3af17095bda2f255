"""Two and three hosts on an underlay: what containers and hosts reach, and what the tunnels carry for it."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from mdnp.dataplane import naming
from mdnp.model.network import IPAddress
from mdnp.model.options import Mode, NetworkOptions
from mdnp.model.port import Protocol, Publication
from mdnp.store import Put
from tests.overlay.fabric import (
    PATIENCE_S,
    Container,
    Fabric,
    Host,
    Namespace,
    asks,
    eventually,
    fabric,
    listening,
    reaches,
)
from tests.overlays import a_remote
from tests.world import a_port

pytestmark = pytest.mark.root

VERSIONS = (4, 6)
SOON_S = 0.3  # how long is waited for what must not come


@pytest.fixture(params=VERSIONS, ids=["over-ipv4", "over-ipv6"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Fabric]:
    """Two hosts, each with its network of the segment and a container."""
    async with fabric(request.param) as made:
        await populate(made)
        yield made


async def populate(made: Fabric, options: NetworkOptions | None = None) -> None:
    for host in made.hosts:
        await made.join(host, options)
    await made.tell()
    for host in made.hosts:
        await made.start(host, 10)
    await made.tell()


def containers(made: Fabric) -> list[Container]:
    return [one for host in made.hosts for one in host.containers]


async def test_containers_of_all_hosts_reach_each_other(pair: Fabric) -> None:
    await pair.start(pair.hosts[0], 11)
    await pair.tell()
    wire = pair.listen_at(1)

    for sender, receiver in itertools.permutations(containers(pair), 2):
        for version in VERSIONS:
            came_from = await reaches(sender.namespace, receiver.namespace, receiver.address(version))
            assert came_from == str(sender.address(version)), f"{sender.endpoint.id:.4} {receiver.endpoint.id:.4}"

    carried = wire.frames()
    assert {one.vni for one in carried} == {pair.hosts[0].network.vni}
    assert [one for one in carried if one.asks or (one.is_for_all and not one.joins)] == []
    for host in pair.hosts:
        await host.in_sync()


async def test_an_annex_is_of_the_segment(pair: Fabric) -> None:
    for host in pair.hosts:
        host.networks[0] = replace(host.network, annexes=1)
        await host.store.commit(Put(host.network))
        await host.converge(host.network.id)
        await pair.start(host, 11, annex=1)
    await pair.tell()
    wire = pair.listen_at(1)

    for sender, receiver in itertools.permutations(containers(pair), 2):
        for version in VERSIONS:
            came_from = await reaches(sender.namespace, receiver.namespace, receiver.address(version))
            assert came_from == str(sender.address(version)), f"{sender.endpoint.id:.4} {receiver.endpoint.id:.4}"
    for host, container in itertools.product(pair.hosts, containers(pair)):
        own = host.own(4)
        assert await reaches(host.namespace, container.namespace, container.address(4)) == str(own)
        assert await reaches(container.namespace, host.namespace, own) == str(container.address(4))
    assert [one for one in wire.frames() if one.asks] == []
    for host in pair.hosts:
        await host.in_sync()


async def test_the_gateway_answers_on_each_host_and_is_asked_for_nowhere_else(pair: Fabric) -> None:
    wire = pair.listen_at(1)

    for host, container in zip(pair.hosts, containers(pair), strict=True):
        for version, gateway in zip(VERSIONS, ("10.50.0.1", "fd50::1"), strict=True):
            address = str(container.address(version))
            assert await reaches(container.namespace, host.namespace, ip_address(gateway)) == address

    assert [one for one in wire.frames() if one.asks] == []


async def test_packets_of_the_network_s_mtu_cross_unbroken(pair: Fabric) -> None:
    [one, other] = containers(pair)
    wire = pair.listen_at(1)

    for version, headers in ((4, 28), (6, 48)):
        size = pair.hosts[0].network.mtu - headers
        assert await reaches(one.namespace, other.namespace, other.address(version), size=size)

    assert max(frame.outer for frame in wire.frames()) == 1500


async def test_a_host_reaches_containers_here_and_elsewhere_and_is_reached(pair: Fabric) -> None:
    for host, container in itertools.product(pair.hosts, containers(pair)):
        for version in VERSIONS:
            own = host.own(version)
            assert await reaches(host.namespace, container.namespace, container.address(version)) == str(own)
            assert await reaches(container.namespace, host.namespace, own) == str(container.address(version))

    [one, other] = pair.hosts
    for version in VERSIONS:
        assert await reaches(one.namespace, other.namespace, other.own(version)) == str(one.own(version))


async def test_an_address_of_a_host_has_one_mac(pair: Fabric) -> None:
    """Of the gateway's address that of the bridge, of the own one that of its own end: whoever asked, and for what."""
    host, container = pair.hosts[0], pair.hosts[0].containers[0]
    await reaches(container.namespace, host.namespace, ip_address("10.50.0.1"))
    await reaches(container.namespace, host.namespace, host.own(4))
    host.namespace.run("ip neigh flush all")
    # The host answers in the name of the gateway, and must not ask in its name by the own end.
    await reaches(container.namespace, host.namespace, ip_address("10.50.0.1"))

    rows = container.namespace.run("ip -4 neigh show").split("\n")

    macs = {row.split()[0]: row.split()[4] for row in rows if "lladdr" in row}
    assert macs == {"10.50.0.1": "02:6d:0a:32:00:01", "10.50.0.21": "02:6d:0a:32:00:15"}


@pytest.mark.parametrize("late", [False, True], ids=["told-first", "told-late"])
async def test_a_container_that_moves_with_its_address_is_reached_where_it_is(late: bool) -> None:
    """Its new host may make it before it hears that it is gone elsewhere."""
    async with fabric(hosts=3) as made:
        await populate(made)
        one, other, third = made.hosts
        [moving] = one.containers
        [beside] = other.containers
        [asking] = third.containers
        assert await reaches(asking.namespace, moving.namespace, moving.address(4))

        await made.stop(one, moving)
        if not late:
            await made.tell()
        moved = await made.start(other, 10, home=1)
        if late:
            assert await reaches(moved.namespace, beside.namespace, beside.address(4))
        await made.tell()

        assert (moved.address(4), moved.endpoint.mac) == (moving.address(4), moving.endpoint.mac)
        for namespace in (asking.namespace, beside.namespace, one.namespace, other.namespace):
            for version in VERSIONS:
                assert await reaches(namespace, moved.namespace, moved.address(version))
        for host in made.hosts:
            await host.in_sync()


async def test_an_address_that_moves_between_containers_is_asked_for_elsewhere(pair: Fabric) -> None:
    """A virtual address (VRRP): no host tells of it."""
    vip, vip6 = "10.50.7.7", "fd50::7:7"
    holder = await pair.start(pair.hosts[0], 30, allowed=[f"{vip}/32", f"{vip6}/128"])
    await pair.tell()
    holder.namespace.run(f"ip addr add {vip}/16 dev eth0; ip addr add {vip6}/64 dev eth0 nodad")
    [far] = pair.hosts[1].containers

    for address in (vip, vip6):
        assert await reaches(far.namespace, holder.namespace, ip_address(address))


async def test_containers_go_out_by_their_own_host(pair: Fabric) -> None:
    world = pair.outside()

    for host, container in zip(pair.hosts, containers(pair), strict=True):
        for address, seen in (("192.0.2.99", f"192.0.2.{host.number}"), ("2001:db8::99", f"2001:db8::{host.number}")):
            assert await reaches(container.namespace, world, ip_address(address)) == seen


async def test_a_host_s_own_address_is_no_router(pair: Fabric) -> None:
    world, container = pair.outside(), pair.hosts[0].containers[0]
    container.namespace.run("ip route replace default via 10.50.0.21; ip -6 route replace default via fd50::15")

    for address in ("192.0.2.99", "2001:db8::99"):
        assert await reaches(container.namespace, world, ip_address(address), patience_s=SOON_S) == ""


@pytest.mark.parametrize("bridges_filter", ["0", "1"])
async def test_a_published_port_is_reached_from_everywhere_but_from_other_hosts_loopback(
    pair: Fabric, bridges_filter: str
) -> None:
    [one, other] = pair.hosts
    for host in pair.hosts:
        for program in ("iptables", "ip6tables"):
            host.namespace.set(f"net/bridge/bridge-nf-call-{program}", bridges_filter)
    published = await pair.start(one, 20, Publication(a_port(5000, 8080, protocol=Protocol.UDP), 8080))
    await pair.tell()
    world, [near, _], [far] = pair.outside(), one.containers, other.containers
    gateway = "10.50.0.1"
    outside = {"192.0.2.99": world, "192.0.2.2": other.namespace}
    inside = {"10.50.1.10": near.namespace, "10.50.2.10": far.namespace}

    with listening(published.namespace, ip_address("10.50.1.20")) as listener:
        for seen, client in outside.items():
            assert await asks(client, listener, ip_address("192.0.2.1"), port=8080) == seen
        assert await asks(near.namespace, listener, ip_address("192.0.2.1"), port=8080) == gateway
        assert await asks(far.namespace, listener, ip_address("192.0.2.1"), port=8080) == "192.0.2.2"
        for address in ("192.0.2.1", "10.50.0.21", "127.0.0.1"):
            assert await asks(one.namespace, listener, ip_address(address), port=8080) == "10.50.0.21"
        for client in (*inside.values(), other.namespace):
            assert await asks(client, listener, one.own(4), port=8080) == gateway
        loopback = ip_address("127.0.0.1")
        assert await asks(other.namespace, listener, loopback, port=8080, patience_s=SOON_S) == ""


@pytest.mark.parametrize("bridges_filter", ["0", "1"])
async def test_without_icc_containers_reach_hosts_and_the_world_and_not_each_other(bridges_filter: str) -> None:
    async with fabric() as made:
        for host in made.hosts:
            for program in ("iptables", "ip6tables"):
                host.namespace.set(f"net/bridge/bridge-nf-call-{program}", bridges_filter)
        await populate(made, NetworkOptions(mode=Mode.OVERLAY, icc=False))
        await made.start(made.hosts[0], 11)
        await made.tell()
        world = made.outside()

        for host, one in itertools.product(made.hosts, containers(made)):
            for version in VERSIONS:
                assert await reaches(host.namespace, one.namespace, one.address(version)), (host.name, version)
                assert await reaches(one.namespace, host.namespace, host.own(version)), (host.name, version)
        for one, other in itertools.permutations(containers(made), 2):
            for version in VERSIONS:
                to = other.address(version)
                assert await reaches(one.namespace, other.namespace, to, patience_s=SOON_S) == ""
        for one in containers(made):
            assert await reaches(one.namespace, world, ip_address("192.0.2.99"))


GROUPS = ("224.0.0.251", "239.1.2.3", "10.50.255.255", "255.255.255.255", "ff02::fb", "ff05::1:3")


@pytest.mark.parametrize("multicast", [True, False], ids=["on", "off"])
async def test_what_is_for_all_goes_to_all_hosts_or_stays_here(multicast: bool) -> None:
    async with fabric(hosts=3) as made:
        await populate(made, NetworkOptions(mode=Mode.OVERLAY, multicast=multicast))
        await made.start(made.hosts[0], 11)
        await made.tell()
        sender, *others = made.hosts[0].containers[0], *containers(made)[1:]
        wire = made.listen_at(1)

        for group in GROUPS:
            heard = await _heard(sender, others, group, PATIENCE_S if multicast else SOON_S)
            assert heard == ([True] * 3 if multicast else [True, False, False]), group

        assert bool(wire.frames()) is multicast


async def _heard(sender: Container, others: list[Container], group: str, patience_s: float) -> list[bool]:
    """Who of the others hears what is sent to a group."""
    to = ip_address(group)
    with contextlib.ExitStack() as stack:
        ears = [stack.enter_context(_ear(one, to)) for one in others]
        mouth = stack.enter_context(sender.namespace.socket(ears[0].family, socket.SOCK_DGRAM))
        mouth.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if to.version == 6:
            mouth.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, _index(sender))
            mouth.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 5)
        mouth.sendto(b"?", (group, 5353, 0, _index(sender)) if to.version == 6 else (group, 5353))
        return list(await asyncio.gather(*(_comes(ear, patience_s) for ear in ears)))


@contextlib.contextmanager
def _ear(one: Container, group: IPAddress) -> Iterator[socket.socket]:
    kind = socket.AF_INET if group.version == 4 else socket.AF_INET6
    with one.namespace.socket(kind, socket.SOCK_DGRAM) as ear, one.namespace.inside():
        ear.bind(("", 5353))
        if group.version == 6:
            request = group.packed + _index(one).to_bytes(4, "little")
            ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        elif group.is_multicast:
            ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group.packed + one.address(4).packed)
        yield ear


def _index(one: Container) -> int:
    with one.namespace.inside():
        return socket.if_nametoindex("eth0")


async def _comes(ear: socket.socket, patience_s: float) -> bool:
    try:
        async with asyncio.timeout(patience_s):
            return bool(await asyncio.get_running_loop().sock_recv(ear, 100))
    except TimeoutError:
        return False


async def test_vxlan_is_taken_from_hosts_of_the_segment_only_and_others_vnis_are_left_alone() -> None:
    async with fabric() as made:
        await populate(made)
        [one, other] = containers(made)
        stranger = made.outside(3)
        vni = made.hosts[0].network.vni
        for place, number, there in ((stranger, 3, 1), (made.hosts[0].namespace, 1, 3)):
            place.run(
                f"ip link add theirs type vxlan id 77 local 192.0.2.{number} remote 192.0.2.{there} dstport 4789;"
                f" ip addr add 10.77.0.{number}/24 dev theirs; ip link set theirs up"
            )
        stranger.run(
            f"ip link add evil type vxlan id {vni} local 192.0.2.3 remote 192.0.2.1 dstport 4789;"
            " ip addr add 10.50.9.9/16 dev evil; ip link set evil up"
        )

        assert await _arrives(stranger, one, "10.50.1.10", SOON_S) is False
        assert await reaches(stranger, made.hosts[0].namespace, ip_address("10.77.0.1")) == "10.77.0.3"
        made.hosts[0].outlook.members = (*made.hosts[0].outlook.members, ip_address("192.0.2.3"))
        await made.hosts[0].converge(made.hosts[0].network.id)
        assert await _arrives(stranger, one, "10.50.1.10") is True
        assert await reaches(other.namespace, one.namespace, one.address(4))


async def _arrives(sender: Namespace, one: Container, to: str, patience_s: float = PATIENCE_S) -> bool:
    """Whether a datagram of somebody's who knows the container's MAC comes to it."""
    sender.run(f"ip neigh replace {to} lladdr {one.endpoint.mac} dev evil")
    with listening(one.namespace, ip_address(to)) as ear, sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        mouth.sendto(b"?", (to, 5000))
        return await _comes(ear, patience_s)


async def test_a_container_sends_no_vxlan_to_its_host_whatever_its_address() -> None:
    async with fabric() as made:
        await populate(made, NetworkOptions(mode=Mode.OVERLAY, guard=False))
        [one, other] = containers(made)
        victim, vni = await made.start(made.hosts[0], 11), made.hosts[0].network.vni
        await made.tell()
        one.namespace.run(
            "ip addr add 192.0.2.2/32 dev eth0; ip route add 192.0.2.1 via 10.50.0.1 src 192.0.2.2;"
            f" ip link add evil type vxlan id {vni} local 192.0.2.2 remote 192.0.2.1 dstport 4789;"
            " ip addr add 10.60.9.9/16 dev evil; ip link set evil up; ip route add 10.50.1.11/32 dev evil"
        )

        assert await _arrives(one.namespace, victim, "10.50.1.11", SOON_S) is False
        assert await reaches(other.namespace, victim.namespace, victim.address(4))
        made.hosts[0].namespace.run("nft flush chain inet mdnp tunneled")
        assert await _arrives(one.namespace, victim, "10.50.1.11") is True


DAMAGES = {
    "self": "bridge fdb del {mac} dev {mdx} dst {vtep} self",
    "self elsewhere": "bridge fdb replace {mac} dev {mdx} dst 192.0.2.77 self permanent",
    "master": "bridge fdb del {mac} dev {mdx} master",
    "neigh": "ip neigh del {address} dev {mdb}",
    "neigh elsewhere": "ip neigh replace {address} lladdr 02:00:00:00:00:77 dev {mdb} nud permanent",
    "neighbours": "ip neigh flush dev {mdb} nud permanent",
    "everybody": "bridge fdb del 00:00:00:00:00:00 dev {mdx} dst {vtep} self",
    "somebody": "bridge fdb append 00:00:00:00:00:00 dev {mdx} dst 192.0.2.77 self permanent",
    "stranger": "bridge fdb append 02:00:00:00:00:77 dev {mdx} dst 192.0.2.77 self permanent",
    "learning": "ip link set {mdx} type bridge_slave learning on",
    "flood": "ip link set {mdx} type bridge_slave flood on",
    "suppress": "ip link set {mdx} type bridge_slave neigh_suppress off",
    "broadcast": "ip link set {mdx} type bridge_slave bcast_flood off mcast_flood off",
    "tunnel": "ip link del {mdx}",
    "another tunnel": (
        "ip link del {mdx}; ip link add {mdx} group 1835298416 type vxlan id 9 local 192.0.2.1 dstport 99"
    ),
    "down": "ip link set {mdx} down",
    "nomaster": "ip link set {mdx} nomaster",
    "mtu": "ip link set {mdx} mtu 1300",
    "own end": "ip link del {mdh}",
    "inner end": "ip link set {mdi} nomaster",
    "own down": "ip link set {mdh} down",
    "own address": "ip addr flush dev {mdh}",
    "route": "ip route flush table 1835298416",
    "rule": "ip rule del iif lo table 1835298416; ip -6 rule del iif lo table 1835298416",
    "bridge": "ip link del {mdb}",
    "arp": "sysctl -qw net.ipv4.conf.{mdh}.arp_ignore=0 net.ipv4.conf.{mdb}.arp_ignore=0",
    "rp_filter": "sysctl -qw net.ipv4.conf.{mdb}.rp_filter=1",
    "ipv6 on the tunnel": "sysctl -qw net.ipv6.conf.{mdx}.disable_ipv6=0",
    "vteps": "nft flush set inet mdnp vteps4",
}


async def test_whatever_is_damaged_is_mended_and_counted() -> None:
    """One host for all damages: each is mended before the next comes."""
    async with fabric() as made:
        await populate(made)
        host, [one, other] = made.hosts[0], containers(made)
        network = host.network
        names = {
            "mdx": naming.tunnel(network),
            "mdb": naming.bridge(network),
            "mdh": naming.own_end(network),
            "mdi": naming.inner_end(network),
            "mac": other.endpoint.mac,
            "address": other.address(4),
            "vtep": made.vtep(2),
        }
        await host.reconciler.repair()

        for name, damage in DAMAGES.items():
            before = host.reconciler.repaired
            host.namespace.run(damage.format(**names))
            difference, _ = await host.reconciler.compare()
            assert difference.steps, name
            outcome = await host.reconciler.repair()
            assert [str(failure.error) for failure in outcome.failures] == [], name
            await host.reconciler.repair()  # a link that was replaced takes with it what stood on others
            await host.in_sync()
            assert host.reconciler.repaired > before, name
            for version in VERSIONS:
                assert await reaches(one.namespace, other.namespace, other.address(version)), name
                assert await reaches(host.namespace, other.namespace, other.address(version)), name


TOLD = (
    "self",
    "master",
    "neigh",
    "neighbours",
    "everybody",
    "tunnel",
    "own end",
    "own address",
    "route",
    "rule",
    "bridge",
)


@pytest.mark.parametrize("damage", TOLD)
async def test_what_the_kernel_tells_of_is_mended_at_once(damage: str) -> None:
    """The next look in time is an hour away."""
    async with fabric() as made:
        await populate(made)
        host, [_, other] = made.hosts[0], containers(made)
        network = host.network
        names = {
            "mdx": naming.tunnel(network),
            "mdb": naming.bridge(network),
            "mdh": naming.own_end(network),
            "mac": other.endpoint.mac,
            "address": other.address(4),
            "vtep": made.vtep(2),
        }
        await host.reconciler.repair()
        await host.reconciler.listen()
        running = asyncio.create_task(host.reconciler.run())
        try:
            host.namespace.run(DAMAGES[damage].format(**names))

            await eventually(lambda: host.reconciler.repaired > 0 and not host.reconciler.converging)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await host.reconciler.repair()
        await host.in_sync()


MANY = 5000


async def test_thousands_of_remotes_are_made_and_go_and_one_more_costs_as_one() -> None:
    async with fabric(hosts=1) as made:
        [host] = made.hosts
        await made.join(host)
        addresses = [(f"10.50.{100 + one // 250}.{1 + one % 250}", f"fd50::9:{one:x}") for one in range(MANY)]
        remotes = [a_remote(f"{one:x}", *pair) for one, pair in enumerate(addresses)]
        running = asyncio.create_task(host.reconciler.run())
        try:
            host.reconciler.changed(host.outlook.tell(*remotes))
            await eventually(lambda: _rows(host) == (MANY, MANY, 2 * MANY))
            await host.in_sync()

            [container] = [await made.start(host, 10)]
            outcome = await host.converge(*host.outlook.tell(a_remote("one", "10.50.3.3", "fd50::3")))
            assert len(outcome.steps) == 4

            host.reconciler.changed(host.outlook.withdraw(*remotes))
            await eventually(lambda: _rows(host) == (1, 1, 2))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await host.in_sync()
        assert await reaches(host.namespace, container.namespace, container.address(4))


def _rows(host: Host) -> tuple[int, int, int]:
    """Of the tunnel, of its bridge, and neighbours, but those for all."""
    fdb = host.namespace.run(f"bridge fdb show dev {naming.tunnel(host.network)}").splitlines()
    of_one = [line for line in fdb if not line.startswith("00:00:00:00:00:00")]
    neighbours = host.namespace.run(f"ip neigh show dev {naming.bridge(host.network)} nud permanent").splitlines()
    return sum(" self " in line for line in of_one), sum(" static" in line for line in of_one), len(neighbours)
