"""What only Linux can show: other people's rules and addresses, the host's routes, doings of the kernel's own."""

import logging
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from mdnp import logs
from mdnp.dataplane.naming import GROUP
from mdnp.dataplane.objects import (
    Accept,
    Addr,
    Bridge,
    Element,
    HostPort,
    Jump,
    Link,
    Object,
    Sysctl,
    Table,
    Veth,
    Way,
    forward_chain,
)
from mdnp.dataplane.rules import FORWARDING, TABLES, plan_endpoint, plan_network
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom, Step
from mdnp.kernel import Kernel, Route, Seen, Surroundings
from mdnp.kernel.linux import LinuxKernel
from mdnp.kernel.nftables import Nftables
from mdnp.kernel.tables import Tables
from mdnp.model.errors import KernelError
from mdnp.model.mac import MAC
from tests.kernel.grounds import Linux, add_nic, own_namespace, run
from tests.world import ANY4, a_network, a_socket, an_endpoint

pytestmark = pytest.mark.root

BRIDGE = Bridge("mdb-one", MAC("02:6d:0a:01:00:01"), 1500, "mdnp network one")
VETH = Veth("mdv-web", "mdp-web", MAC("02:6d:0a:01:00:02"), 1500, "mdb-one", "mdnp endpoint web")
RULE = Accept(4, Way.IN, "mdb-+")
INET, BRIDGE_TABLE = TABLES
NETLINK_NETFILTER = 12
PORT = Element("inet", "ports4", ("udp", "5353"), ("10.1.0.2", "53"))


@pytest.fixture
def host() -> Iterator[Linux]:
    with own_namespace():
        yield Linux()


@pytest.fixture
async def kernel(host: Linux) -> AsyncIterator[Kernel]:
    yield host.kernel
    await host.kernel.close()


def rules(program: str = "iptables") -> list[str]:
    """The rules of Docker's chain, from top to bottom."""
    return [line.removeprefix("-A DOCKER-USER ") for line in run(program, "-S", "DOCKER-USER").splitlines()[1:]]


def adds(*objects: Object) -> list[Step]:
    return [Add(one, NOBODY) for one in objects]


async def ours(kernel: Kernel) -> list[Seen]:
    """All but settings."""
    return [one for one in (await kernel.observe()).objects.values() if not isinstance(one, Sysctl)]


async def around(kernel: Kernel) -> Surroundings:
    """What the namespace has; resolvers are the host's."""
    return replace(await kernel.surroundings(), resolvers=())


async def test_rules_of_others_are_neither_seen_nor_touched(kernel: Kernel) -> None:
    foreign = [
        "-i eth7 -j DROP",
        "-i mdb-one -j DROP",
        "-i eth7 -m comment --comment mdnp -j DROP",
        "-i mdnp -o eth7 -j DROP",
        "! -i mdb-two -o mdb-two -m comment --comment mdnp -j ACCEPT",
        "-i mdb-+ -o eth7 -m comment --comment mdnp -j ACCEPT",
        "-j RETURN",
    ]
    for rule in foreign:
        run("iptables", "-A", "DOCKER-USER", *rule.split())

    await kernel.perform([Add(RULE, NOBODY)])
    seen = await ours(kernel)
    with_ours = rules()
    await kernel.perform([Delete(RULE, NOBODY)])

    assert seen == [RULE]
    assert with_ours == [" ".join(RULE.arguments), *foreign]
    assert rules() == foreign


async def test_rules_that_cannot_be_split_into_words_are_passed_over(kernel: Kernel) -> None:
    """A link may be named with a quote, and iptables prints it as it is."""
    for name in ("it's", 'in"ch', "back\\"):
        run("iptables", "-A", "DOCKER-USER", "-i", name, "-m", "comment", "--comment", "mdnp", "-j", "ACCEPT")
    await kernel.perform([Add(RULE, NOBODY)])

    assert await ours(kernel) == [RULE]


async def test_a_jump_of_ours_is_put_first_and_docker_s_own_is_not_ours(kernel: Kernel) -> None:
    run("iptables", "-A", "FORWARD", "-j", "DROP")
    before = run("iptables", "-S", "FORWARD").splitlines()

    await kernel.perform([Add(Jump(4), NOBODY)])
    having, seen = run("iptables", "-S", "FORWARD").splitlines(), await ours(kernel)
    await kernel.perform([Delete(Jump(4), NOBODY)])

    rule = "-A FORWARD -m comment --comment mdnp -j DOCKER-USER"
    assert (seen, having) == ([Jump(4)], [before[0], rule, *before[1:]])
    assert run("iptables", "-S", "FORWARD").splitlines() == before


async def test_a_jump_with_another_match_does_not_lead_all_traffic_there(kernel: Kernel) -> None:
    run("iptables", "-F", "FORWARD")
    run("iptables", "-A", "FORWARD", "-i", "eth7", "-j", "DOCKER-USER")

    assert (await kernel.observe()).unreached == {forward_chain(4)}


async def test_a_rule_of_ours_that_stands_twice_goes_whole(kernel: Kernel) -> None:
    rule = Accept(6, Way.OUT, "mdb-+")
    for _ in range(3):
        run("ip6tables", "-A", "DOCKER-USER", *rule.arguments)

    failures = await kernel.perform([Delete(rule, NOBODY)])

    assert (failures, rules("ip6tables")) == ((), [])


async def test_an_operator_s_address_on_our_bridge_is_seen(kernel: Kernel) -> None:
    await kernel.perform([Add(BRIDGE, NOBODY)])
    run("ip", "addr", "add", "10.9.0.1/24", "dev", "mdb-one")

    assert await ours(kernel) == [BRIDGE.link(), Addr("mdb-one", ip_interface("10.9.0.1/24"))]


async def test_what_somebody_changed_is_seen(kernel: Kernel) -> None:
    await kernel.perform([Add(BRIDGE, NOBODY), Add(VETH, NOBODY)])
    run("ip", "link", "set", "mdb-one", "mtu", "1400", "address", "02:00:00:00:00:01", "down")
    run("ip", "link", "set", "mdv-web", "nomaster")

    assert await ours(kernel) == [
        Link("mdb-one", "bridge", 1400, mac=MAC("02:00:00:00:00:01"), up=False),
        Link("mdv-web", "veth", 1500),
    ]


async def test_the_sandbox_end_has_the_mac_and_is_nobody_s_by_group(kernel: Kernel) -> None:
    """A group deletion takes every link of the group: the sandbox end must not be one, it may be in a sandbox."""
    await kernel.perform([Add(BRIDGE, NOBODY), Add(VETH, NOBODY)])

    shown = run("ip", "-o", "-d", "link", "show", "mdp-web")

    assert f"link/ether {VETH.mac}" in shown
    assert "group default" in shown
    assert f"group {GROUP}" in run("ip", "-o", "link", "show", "mdv-web")


async def test_reaping_takes_nothing_but_the_doomed(kernel: Kernel) -> None:
    await kernel.perform([Add(BRIDGE, NOBODY), Add(VETH, NOBODY)])
    add_nic("eth7", 1500)

    await kernel.perform([Doom(VETH.link(), NOBODY)])
    await kernel.reap()

    links = [line.split(":")[1].strip() for line in run("ip", "-o", "link").splitlines()]
    assert links == ["lo", "mdb-one", "eth7-far@eth7", "eth7@eth7-far"]


async def test_an_address_on_a_bridge_answers_at_once(kernel: Kernel) -> None:
    """Without duplicate address detection, which a bridge without ports never ends."""
    address = Addr("mdb-one", ip_interface("fd00::1/64"))

    await kernel.perform([Add(BRIDGE, NOBODY), Add(address, NOBODY)])

    assert "tentative" not in run("ip", "-6", "addr", "show", "dev", "mdb-one")


async def test_a_bridge_where_ipv6_is_switched_off_refuses_its_address(kernel: Kernel) -> None:
    step = Add(Addr("mdb-one", ip_interface("fd00::1/64")), NOBODY)
    await kernel.perform([Add(BRIDGE, NOBODY)])
    run("sysctl", "-qw", "net.ipv6.conf.mdb-one.disable_ipv6=1")

    failures = await kernel.perform([step])

    assert [(one.step, str(one.error)) for one in failures] == [(step, f"{step}: Permission denied")]


async def test_a_host_without_routes_has_no_surroundings(kernel: Kernel) -> None:
    assert await around(kernel) == Surroundings((), None)


async def test_the_surroundings_are_the_routes_of_others_and_the_default_route_s_mtu(kernel: Kernel) -> None:
    await kernel.perform([Add(BRIDGE, NOBODY), Add(Addr("mdb-one", ip_interface("10.1.0.1/24")), NOBODY)])
    add_nic("eth7", 1420)
    add_nic("eth8", 1380)
    run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth7")
    run("ip", "addr", "add", "2001:db8::2/64", "dev", "eth8", "nodad")
    run("ip", "route", "add", "default", "via", "192.0.2.1", "metric", "100")
    run("ip", "route", "add", "default", "dev", "eth8", "metric", "500")
    run("ip", "route", "add", "10.0.0.0/8", "via", "192.0.2.9")
    run("ip", "route", "add", "198.51.100.0/24", "dev", "eth8")
    run("ip", "route", "add", "unreachable", "203.0.113.0/24")

    surroundings = await around(kernel)

    assert set(surroundings.routes) == {
        Route(ip_network("192.0.2.0/24"), "eth7", gateway=False),
        Route(ip_network("10.0.0.0/8"), "eth7", gateway=True),
        Route(ip_network("198.51.100.0/24"), "eth8", gateway=False),
        Route(ip_network("2001:db8::/64"), "eth8", gateway=False),
    }
    assert surroundings.underlay_mtu == 1420
    # That of the link with an address of the host, if there is one.
    assert surroundings.mtu_at(ip_address("192.0.2.2")) == 1420
    assert surroundings.mtu_at(ip_address("2001:db8::2")) == 1380
    assert surroundings.mtu_at(ip_address("203.0.113.1")) == 1420


async def test_without_an_ipv4_default_route_the_ipv6_one_s_mtu_counts(kernel: Kernel) -> None:
    add_nic("eth7", 1420)
    run("ip", "-6", "route", "add", "default", "dev", "eth7")

    assert await around(kernel) == Surroundings((), 1420)


async def test_a_default_route_over_several_links_is_read(kernel: Kernel) -> None:
    for number in (7, 8):
        add_nic(f"eth{number}", 1400 + 10 * number)
        run("ip", "addr", "add", f"192.0.{number}.2/24", "dev", f"eth{number}")
    run("ip", "route", "add", "default", "nexthop", "via", "192.0.7.1", "nexthop", "via", "192.0.8.1")
    run("ip", "route", "add", "10.0.0.0/8", "nexthop", "via", "192.0.7.1", "nexthop", "via", "192.0.8.1")

    surroundings = await around(kernel)

    assert surroundings.underlay_mtu == 1470
    assert Route(ip_network("10.0.0.0/8"), "eth7", gateway=True) in surroundings.routes


async def test_a_route_by_a_gateway_of_the_other_family_has_a_gateway(kernel: Kernel) -> None:
    add_nic("eth7", 1500)
    run("ip", "route", "add", "10.0.0.0/8", "via", "inet6", "fe80::1", "dev", "eth7")

    assert await around(kernel) == Surroundings((Route(ip_network("10.0.0.0/8"), "eth7", gateway=True),), None)


async def test_two_kernels_do_not_disturb_each_other(kernel: Kernel) -> None:
    other = LinuxKernel()
    await kernel.perform([Add(BRIDGE, NOBODY)])

    seen = await other.observe()
    await other.close()

    assert seen == await kernel.observe()


# Tables.


def transactions() -> int:
    """How many nf_tables has seen in this namespace: the answer to NFT_MSG_GETGEN (include/uapi/linux/netfilter)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as one:
        one.send(struct.pack("=IHHIIBBH", 20, 10 << 8 | 16, 1, 1, 0, 0, 0, 0))
        return int.from_bytes(one.recv(4096)[24:28], "big")


async def test_what_stands_together_is_one_transaction(kernel: Kernel) -> None:
    elements = [Element("inet", "bridges", (f'"mdb-{number}"',)) for number in range(20)]
    await kernel.perform(adds(*TABLES))

    before = transactions()
    await kernel.perform(adds(*elements, PORT))
    made = transactions()
    await kernel.perform(
        [*(Delete(one, NOBODY) for one in (*elements, PORT)), *(Delete(one, NOBODY) for one in TABLES)]
    )

    assert (made - before, transactions() - made) == (1, 1)


async def test_a_table_is_never_there_without_its_rules_while_it_is_made_again(kernel: Kernel) -> None:
    """The chains are emptied and filled in one transaction: no packet meets half of them."""
    await kernel.perform(adds(*TABLES))
    run("nft", "insert", "rule", "inet", "mdnp", "forward", "counter", "drop")

    before = transactions()
    await kernel.perform([Add(INET, NOBODY)])

    assert transactions() - before == 1
    assert "counter" not in run("nft", "list", "chain", "inet", "mdnp", "forward")


@pytest.mark.parametrize(
    "stranger",
    [
        "add chain inet mdnp theirs { type filter hook forward priority -5; policy drop; }",
        "add set inet mdnp theirs { type ipv4_addr; }",
        "add map inet mdnp theirs { type ipv4_addr : ipv4_addr; }",
        "add chain inet mdnp theirs; add rule inet mdnp forward jump theirs",
        "delete set inet mdnp uplinks",
        "flush chain inet mdnp forward",
    ],
)
async def test_whatever_somebody_did_to_a_table_is_seen_and_undone(kernel: Kernel, stranger: str) -> None:
    await kernel.perform(adds(*TABLES, PORT))
    if stranger.startswith("delete set"):
        run("nft", "flush chain inet mdnp forward")
    for command in stranger.split("; add "):
        run("nft", command if command.startswith(("add", "delete", "flush")) else f"add {command}")
    changed = await ours(kernel)

    failures = await kernel.perform([Add(INET, NOBODY)])

    assert (changed, failures) == ([Table("inet", ""), PORT, BRIDGE_TABLE], ())
    assert await ours(kernel) == [INET, PORT, BRIDGE_TABLE]
    assert "theirs" not in run("nft", "list", "table", "inet", "mdnp")


async def test_a_table_of_another_s_under_our_name_is_made_anew_and_said_so(kernel: Kernel) -> None:
    """An older mdnp's, or an operator's, whose sets are of other types."""
    run("nft", "add table inet mdnp; add set inet mdnp bridges { type ipv4_addr; elements = { 192.0.2.1 } }")

    [failure] = await kernel.perform([Add(INET, NOBODY)])

    assert str(failure.error) == (f"{failure.step}: what was there under its name was not as mdnp makes it; made anew")
    assert await ours(kernel) == [INET]


async def test_a_table_that_another_daemon_made_is_not_known_as_made_and_is_kept(kernel: Kernel) -> None:
    """One that was killed: after a start the tables are made again, their elements stay."""
    await kernel.perform(adds(*TABLES, PORT))
    other = LinuxKernel()
    found = [one for one in (await other.observe()).objects.values() if isinstance(one, Table | Element)]

    await other.perform(adds(*TABLES))
    after = [one for one in (await other.observe()).objects.values() if isinstance(one, Table | Element)]
    await other.close()

    assert found == [Table("inet", ""), PORT, Table("bridge", "")]
    assert after == await ours(kernel) == [INET, PORT, BRIDGE_TABLE]


async def test_tables_of_others_are_neither_seen_nor_touched(kernel: Kernel) -> None:
    run("nft", "add table inet theirs; add table ip mdnp; add set ip mdnp bridges { type ifname; }")
    before = run("nft", "list", "ruleset")

    await kernel.perform(adds(*TABLES))
    seen = await ours(kernel)
    await kernel.perform([Delete(one, NOBODY) for one in TABLES])

    assert seen == [INET, BRIDGE_TABLE]
    assert run("nft", "list", "ruleset") == before


async def test_networks_of_every_length_are_seen_as_they_were_asked_for(kernel: Kernel) -> None:
    """Whatever nft makes of a prefix or range, it must be known again."""
    address4, address6 = 0x0A090807, 0xFD09_0807_0605_0403_0201_0A0B_0C0D_0E0F
    await kernel.perform(adds(*TABLES))
    elements: list[Element] = []
    for length in range(129):
        host = f"{length:03}" + "c" * 61
        allowed = [str(IPv6Network((address6, length), strict=False))]
        allowed += [str(IPv4Network((address4, length), strict=False))] if length <= 32 else []
        plan = plan_endpoint(a_network(), an_endpoint(host, allowed=allowed))
        elements += [one for one in plan if isinstance(one, Element)]
        pools = [str(IPv6Network((address6, length), strict=False)), *allowed[1:]]
        elements += [
            one for one in plan_network(a_network(host, *pools)) if isinstance(one, Element) and "hairpin" in one.set
        ]

    failures = await kernel.perform(adds(*elements))
    seen = [one for one in await ours(kernel) if isinstance(one, Element)]
    gone = await kernel.perform([Delete(one, NOBODY) for one in elements])

    assert (failures, gone) == ((), ())
    assert {one.key for one in elements} - {one.key for one in seen} == set()
    assert {one.key for one in seen} - {one.key for one in elements} == set()
    assert await ours(kernel) == list(TABLES)


async def test_many_elements_are_read_in_one_look(kernel: Kernel) -> None:
    elements = [
        Element("inet", "ports4", ("tcp", str(port)), (f"10.1.{port // 256}.{port % 256}", "80"))
        for port in range(1, 3001)
    ]
    await kernel.perform(adds(*TABLES, *elements))

    assert {one.key for one in await ours(kernel)} == {one.key for one in elements} | {one.key for one in TABLES}


# nft by the library and by the program.


@pytest.fixture(params=["libnftables.so.1", "no-such-library"])
def nftables(request: pytest.FixtureRequest, host: Linux) -> Iterator[Nftables]:  # noqa: ARG001  # in its namespace
    one = Nftables.open(request.param)
    yield one
    one.close()


def test_the_library_and_the_program_do_the_same(nftables: Nftables) -> None:
    before = nftables.tables("inet", "mdnp", elements=True)
    nftables.run("add table inet mdnp\nadd set inet mdnp one { type ipv4_addr; elements = { 192.0.2.1 } }")

    whole, terse = (nftables.tables("inet", "mdnp", elements=one) for one in (True, False))

    assert before == []
    assert [next(iter(one)) for one in whole] == ["table", "set"]
    assert (whole[1]["set"]["elem"], "elem" in terse[1]["set"]) == (["192.0.2.1"], False)


def test_a_transaction_that_fails_leaves_nothing_and_says_why(nftables: Nftables) -> None:
    with pytest.raises(KernelError) as caught:
        nftables.run("add table inet mdnp\nadd element inet mdnp nowhere { 192.0.2.1 }")

    assert str(caught.value).startswith("nft: ")
    assert "No such file or directory" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert run("nft", "list", "ruleset").count("inet mdnp") == 0


def test_words_that_nft_does_not_know_are_an_error_in_one_line(nftables: Nftables) -> None:
    with pytest.raises(KernelError) as caught:
        nftables.run("make it so")

    assert str(caught.value).startswith("nft: syntax error, unexpected ")
    assert "\n" not in str(caught.value)


def test_our_tables_are_what_nft_reads(nftables: Nftables) -> None:
    for table in TABLES:
        nftables.run(f"{table} {{{table.text}}}")

        found = [kind for one in nftables.tables(table.family, "mdnp", elements=True) for kind in one]
        assert {"table", "chain", "rule", "set"} <= set(found)


def test_without_library_and_program_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    one = Nftables.open("no-such-library")

    for ask in (lambda: one.run("add table inet mdnp"), lambda: one.tables("inet", "mdnp", elements=True)):
        with pytest.raises(KernelError) as caught:
            ask()
        assert str(caught.value) == (
            "neither libnftables.so.1 nor the program nft is installed: install the package libnftables1 (or nftables)"
            " of your distribution"
        )


def test_a_library_that_is_another_s_is_not_used(host: Linux) -> None:  # noqa: ARG001  # in its namespace
    """One without nft's functions."""
    one = Nftables.open("libc.so.6")

    one.run("add table inet mdnp")

    assert len(one.tables("inet", "mdnp", elements=False)) == 1


def test_tables_are_as_made_whoever_reads_them(host: Linux) -> None:  # noqa: ARG001  # in its namespace
    tables = Tables()
    for table in TABLES:
        tables.take(Add(table, NOBODY))

    first, second = tables.observe(), tables.observe()
    tables.close()

    assert first.objects == second.objects == list(TABLES)


# What the guard counts.


def send(link: str, frame: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as one:
        one.bind((link, 0))
        one.send(frame)


async def test_what_the_guard_dropped_is_counted_by_host_end(kernel: Kernel) -> None:
    plan = [one for one in plan_endpoint(a_network(), an_endpoint()) if isinstance(one, Element)]
    other = plan_endpoint(a_network(), an_endpoint("d4" * 32, mac="02:6d:0a:01:00:03"))
    veth = replace(VETH, host_end="mdv-c3c3c3c3c3c", sandbox_end="mdp-c3c3c3c3c3c")
    await kernel.perform(adds(*TABLES, *plan, *other, BRIDGE, veth))
    run("ip", "link", "set", veth.sandbox_end, "up")
    before = (await kernel.observe()).dropped

    mac, stranger = bytes.fromhex("026d0a010002"), bytes.fromhex("020000000066")
    arp = bytes.fromhex("08060001080006040001")
    for source in (mac, stranger, stranger):
        send(
            veth.sandbox_end,
            b"\xff" * 6 + source + arp + source + bytes([10, 1, 0, 2]) + bytes(6) + bytes([10, 1, 0, 9]),
        )
    after = (await kernel.observe()).dropped
    await kernel.perform(adds(*TABLES))
    made_again = (await kernel.observe()).dropped

    assert before == {"mdv-c3c3c3c3c3c": 0, "mdv-d4d4d4d4d4d": 0}
    assert after == made_again == {"mdv-c3c3c3c3c3c": 2, "mdv-d4d4d4d4d4d": 0}


# Bridges of the host.


async def uplinks(kernel: Kernel) -> list[str]:
    return sorted((await kernel.observe()).uplinks)


async def test_a_bridge_with_a_nic_leads_to_other_hosts(kernel: Kernel) -> None:
    run("ip", "link", "add", "br0", "up", "type", "bridge")
    run("ip", "link", "add", "docker0", "up", "type", "bridge")
    run("ip", "link", "add", "eth7", "up", "master", "br0", "type", "ifb")  # as a NIC: neither veth nor tun
    run("ip", "link", "add", "vethaaa", "up", "master", "docker0", "type", "veth", "peer", "vethbbb")
    run("ip", "tuntap", "add", "vnet0", "mode", "tap")
    run("ip", "link", "set", "vnet0", "master", "docker0")

    assert await uplinks(kernel) == ["br0"]


@pytest.mark.parametrize(
    "route",
    [
        "default via 192.0.2.1",
        "10.0.0.0/8 via 192.0.2.1",
        "default via inet6 fe80::1 dev br0",
        "default nexthop via 192.0.2.1 nexthop via 192.0.3.1",
        "-6 default via fe80::1 dev br0",
        "-6 default nexthop via fe80::1 dev br0 nexthop via fe80::2 dev br0",
    ],
)
async def test_a_bridge_over_which_a_router_is_reached_leads_to_other_hosts(kernel: Kernel, route: str) -> None:
    """A machine in a virtual network whose only link is a veth on a bridge."""
    for name, network in (("br0", "192.0.2"), ("docker0", "172.17.0")):
        run("ip", "link", "add", name, "up", "type", "bridge")
        run("ip", "addr", "add", f"{network}.2/24", "dev", name)
    run("ip", "addr", "add", "192.0.3.2/24", "dev", "br0")
    before = await uplinks(kernel)

    family, words = ("-6", route.removeprefix("-6 ")) if route.startswith("-6") else ("-4", route)
    run("ip", family, "route", "add", *words.split())

    assert (before, await uplinks(kernel)) == ([], ["br0"])


async def test_a_bridge_of_ours_is_no_uplink(kernel: Kernel) -> None:
    await kernel.perform([Add(BRIDGE, NOBODY), Add(Addr("mdb-one", ip_interface("10.1.0.1/24")), NOBODY)])
    run("ip", "link", "add", "eth7", "up", "master", "mdb-one", "type", "ifb")
    run("ip", "route", "add", "10.9.0.0/16", "via", "10.1.0.9")

    assert await uplinks(kernel) == []


# Settings, ports, flows.


async def test_where_the_host_begins_to_forward_ipv6_it_still_hears_its_routers(kernel: Kernel) -> None:
    """A link with accept_ra 1 stops to hear router advertisements when the host forwards."""
    add_nic("eth7", 1500)
    add_nic("eth8", 1500)
    settings = {name: Path(f"/proc/sys/net/ipv6/conf/{name}/accept_ra") for name in ("eth7", "eth8", "default")}
    settings["eth7"].write_text("1")
    settings["eth8"].write_text("0")

    await kernel.perform([Add(Sysctl(FORWARDING[6], "1"), NOBODY)])

    assert [settings[name].read_text().strip() for name in ("eth7", "eth8")] == ["2", "0"]


async def test_what_the_kernel_s_thread_logs_bears_the_call_s_id(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    """It says which links still hear routers."""
    heard: list[str] = []

    def take(_record: logging.LogRecord) -> bool:
        heard.append(logs.call.get())
        return True

    caplog.handler.addFilter(take)
    caplog.set_level("INFO")
    add_nic("eth7", 1500)
    run("sysctl", "-qw", "net.ipv6.conf.eth7.accept_ra=1")

    before = logs.call.set("3f9a1c")
    await kernel.perform([Add(Sysctl(FORWARDING[6], "1"), NOBODY)])
    logs.call.reset(before)

    assert set(heard) == {"3f9a1c"}


async def test_the_local_ports_are_the_host_s_setting(kernel: Kernel) -> None:
    run("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40003")

    assert await kernel.local_ports() == range(40000, 40004)


async def test_closing_lets_go_of_the_ports(host: Linux) -> None:
    port = HostPort(a_socket(ANY4, 8080))
    await host.kernel.perform([Add(port, NOBODY)])

    await host.kernel.close()

    with socket.socket() as one:
        one.bind((ANY4, 8080))


def flows(port: int) -> list[str]:
    """The ports of the clients of UDP flows to a port of the host's, as the kernel remembers them."""
    lines = Path("/proc/thread-self/net/nf_conntrack").read_text().splitlines()
    return [line.split("sport=")[1].split()[0] for line in lines if " udp " in line and f"dport={port}" in line]


async def test_udp_flows_to_a_port_end_when_it_leads_elsewhere(kernel: Kernel) -> None:
    """The first packet decides where a flow goes, for as long as the client does not pause."""
    run("ip", "addr", "add", "192.0.2.2/24", "dev", "lo")
    address = Addr("mdb-one", ip_interface("10.1.0.1/24"))
    await kernel.perform(adds(*TABLES, BRIDGE, address))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("192.0.2.2", 40000))
        for port in (5353, 5354):
            client.sendto(b"x", ("192.0.2.2", port))
        before = flows(5353), flows(5354)
        await kernel.perform([Add(PORT, NOBODY)])
        after = flows(5353), flows(5354)
        client.sendto(b"x", ("192.0.2.2", 5353))
        anew = flows(5353)
        await kernel.perform([Delete(PORT, NOBODY)])

    assert (before, after, anew, flows(5353)) == ((["40000"], ["40000"]), ([], ["40000"]), ["40000"], [])


async def test_udp_flows_to_a_port_of_another_address_go_on(kernel: Kernel) -> None:
    for address in ("192.0.2.2/24", "192.0.2.3/24"):
        run("ip", "addr", "add", address, "dev", "lo")
    await kernel.perform(adds(*TABLES))
    bound = Element("inet", "bound4", ("192.0.2.3", "udp", "5353"), ("10.1.0.2", "53"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("192.0.2.2", 40000))
        client.sendto(b"x", ("192.0.2.2", 5353))
        await kernel.perform([Add(bound, NOBODY)])

        assert flows(5353) == ["40000"]


def _send(link: str, size: int, times: int) -> None:
    """Frames of a protocol for experiments, to nobody."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((link, 0))
        for _ in range(times):
            wire.send(bytes.fromhex("02000000ffff 02000000eeee 88b5").ljust(size, b"."))


async def test_traffic_is_told_as_the_container_sees_it(kernel: Kernel) -> None:
    await kernel.perform(adds(BRIDGE, VETH))
    run("ip", "link", "set", "mdp-web", "up")
    before = (await kernel.traffic())["mdv-web"]

    _send("mdp-web", size=1000, times=3)
    _send("mdv-web", size=100, times=2)

    now = (await kernel.traffic())["mdv-web"]
    assert 3 <= now.tx_packets - before.tx_packets < 20
    assert 3000 <= now.tx_bytes - before.tx_bytes < 5000
    assert 2 <= now.rx_packets - before.rx_packets < 20
    assert 200 <= now.rx_bytes - before.rx_bytes < 2500


async def test_traffic_of_many_links_is_told_of_each(kernel: Kernel) -> None:
    """More than one datagram of the kernel's."""
    many = [replace(VETH, host_end=f"mdv-{number}", sandbox_end=f"mdp-{number}") for number in range(60)]
    await kernel.perform(adds(BRIDGE, *many))

    assert set(await kernel.traffic()) == {one.host_end for one in many}
