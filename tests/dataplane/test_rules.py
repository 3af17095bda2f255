"""Our nft tables and what is planned in them, as text."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dataplane.bridge import mac
from mdnp.dataplane.objects import Element, Family, Key, Object, Table, forward_chain, program_of
from mdnp.dataplane.rules import FAMILIES, TABLES, plan_endpoint, plan_host, plan_network
from mdnp.model.endpoint import Endpoint
from mdnp.model.network import Network
from mdnp.model.options import GatewayMode, NetworkOptions, Routing
from mdnp.model.port import Protocol, Publication
from tests.dataplane.strategies import networks, of_families, on_networks
from tests.world import BRIDGE, NET, OTHER_NET, WEB_LINK, WEB_MAC, a_network, a_port, an_endpoint

B, W = f'"{BRIDGE}"', f'"{WEB_LINK}"'
V4, V6, BOTH = (4,), (6,), (4, 6)
ACCEPTS = [
    f"{program} DOCKER-USER {way} mdb-+ -m comment --comment mdnp -j ACCEPT"
    for program in ("iptables", "ip6tables")
    for way in ("-i", "-o")
]
FORWARD4, FORWARD6 = "net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"
IPV6 = [f"net/ipv6/conf/{BRIDGE}/accept_ra=0", f"net/ipv6/conf/{BRIDGE}/accept_dad=0"]
LOOPBACK = f"net/ipv4/conf/{BRIDGE}/route_localnet=1"


def shown(objects: Iterable[Object]) -> list[str]:
    """An element of a set as `inet SET PART . PART`."""
    return [re.sub(r"^element (\w+) mdnp (\S+) \{ (.*) \}$", r"\1 \2 \3", str(one)) for one in objects]


def of_network(versions: Sequence[int] = V4, *, internal: bool = False, **options: object) -> list[str]:
    chosen = NetworkOptions(**options)  # type: ignore[arg-type]
    return shown(plan_network(of_families(tuple(versions), internal=internal, options=chosen)))


# The host.


def of_host(*all_networks: Network, uplinks: Iterable[str] = (), unreached: Iterable[Key] = ()) -> list[str]:
    return shown(plan_host(all_networks, uplinks, unreached))


def test_without_networks_nothing_is_the_host_s() -> None:
    assert of_host(uplinks=["br0"], unreached=[forward_chain(4)]) == []


def test_with_a_network_there_are_our_tables_and_what_lets_its_traffic_pass() -> None:
    assert of_host(of_families(V4)) == ["table inet mdnp", "table bridge mdnp", *ACCEPTS, FORWARD4]


def test_however_many_networks_the_host_s_part_is_the_same() -> None:
    one, other = of_families(BOTH), a_network(OTHER_NET, "10.2.0.0/24", internal=True)

    assert of_host(one, other) == of_host(one)


def test_bridges_that_lead_to_other_hosts_are_told_to_the_rules() -> None:
    plan = of_host(of_families(V4), uplinks={"vmbr0", "br0"})

    assert plan[2:4] == ['inet uplinks "br0"', 'inet uplinks "vmbr0"']


@pytest.mark.parametrize("family", FAMILIES)
def test_a_chain_that_docker_s_own_jump_does_not_reach_is_reached_by_ours(family: Family) -> None:
    """Somebody flushed FORWARD, whose policy stays DROP."""
    plan = of_host(of_families(V4), unreached=[forward_chain(family)])

    jump = f"{program_of(family)} FORWARD -m comment --comment mdnp -j DOCKER-USER"
    assert set(plan) - set(of_host(of_families(V4))) == {jump}


@pytest.mark.parametrize(
    ("versions", "internal", "gateway", "forwarding"),
    [
        (V4, False, GatewayMode.SELF, [FORWARD4]),
        (V6, False, GatewayMode.SELF, [FORWARD6]),
        (BOTH, False, GatewayMode.SELF, [FORWARD4, FORWARD6]),
        ((), False, GatewayMode.SELF, []),
        (BOTH, True, GatewayMode.SELF, []),
        (BOTH, False, GatewayMode.DOCKER, []),
        (BOTH, False, GatewayMode.NONE, []),
    ],
)
def test_the_host_forwards_the_families_that_have_a_way_out_through_us(
    versions: tuple[int, ...], internal: bool, gateway: GatewayMode, forwarding: list[str]
) -> None:
    network = of_families(versions, internal=internal, options=NetworkOptions(gateway=gateway))

    assert [line for line in of_host(network) if line.startswith("net/")] == forwarding


def test_one_network_with_a_way_out_is_enough_for_the_host_to_forward() -> None:
    shut = a_network(OTHER_NET, "10.2.0.0/24", internal=True)

    assert FORWARD4 in of_host(shut, of_families(V4))


# A network.


@pytest.mark.parametrize(
    ("versions", "ways"),
    [
        (V4, [f"inet nat4 {B}", f"inet hairpin4 {B} . 10.1.0.0/24", *IPV6, LOOPBACK]),
        (V6, [f"inet nat6 {B}", f"inet hairpin6 {B} . fd00::/64", *IPV6]),
        (
            BOTH,
            [
                f"inet nat4 {B}",
                f"inet hairpin4 {B} . 10.1.0.0/24",
                f"inet nat6 {B}",
                f"inet hairpin6 {B} . fd00::/64",
                *IPV6,
                LOOPBACK,
            ],
        ),
        ((), [*IPV6]),
    ],
)
def test_a_network_s_containers_reach_each_other_and_the_outside_masqueraded(
    versions: tuple[int, ...], ways: list[str]
) -> None:
    assert of_network(versions) == [f"inet bridges {B}", f"inet own {B} . {B}", *ways]


def test_without_masquerading_addresses_leave_as_they_are() -> None:
    plan = of_network(BOTH, masquerade=False)

    assert plan == [line for line in of_network(BOTH) if " nat" not in line]


def test_a_routed_family_is_not_masqueraded() -> None:
    plan = of_network(BOTH, routing_ipv6=Routing.ROUTED)

    assert plan == [line.replace("inet nat6", "inet routed6") for line in of_network(BOTH)]


def test_a_routed_network_takes_no_notice_of_masquerading() -> None:
    on, off = (of_network(V4, routing_ipv4=Routing.ROUTED, masquerade=one) for one in (True, False))

    assert on == off


def test_without_icc_a_network_s_containers_do_not_reach_each_other() -> None:
    assert of_network(icc=False) == [line for line in of_network() if not line.startswith("inet own")]


@pytest.mark.parametrize("routing", [Routing.NAT, Routing.ISOLATED])
def test_an_internal_network_is_closed_and_its_containers_do_not_reach_the_host(routing: Routing) -> None:
    assert of_network(BOTH, internal=True, routing_ipv4=routing, routing_ipv6=routing) == [
        f"inet bridges {B}",
        f"inet own {B} . {B}",
        f"inet closed {B}",
        f"inet sealed {B}",
        *IPV6,
    ]


def test_with_docker_s_gateway_the_network_is_closed_and_the_host_is_reached() -> None:
    assert of_network(BOTH, gateway=GatewayMode.DOCKER) == [
        f"inet bridges {B}",
        f"inet own {B} . {B}",
        f"inet closed {B}",
        *IPV6,
    ]


def test_without_a_gateway_the_network_is_as_an_internal_one() -> None:
    assert of_network(BOTH, gateway=GatewayMode.NONE) == of_network(BOTH, internal=True)


def test_every_pool_of_a_network_has_its_hairpin() -> None:
    plan = shown(plan_network(a_network(NET, "10.1.0.0/24", "10.2.0.0/30", "10.3.0.9/32", "fd00::/64", "fd01::9/128")))

    assert [line for line in plan if "hairpin" in line] == [
        f"inet hairpin4 {B} . 10.1.0.0/24",
        f"inet hairpin4 {B} . 10.2.0.0/30",
        f"inet hairpin4 {B} . 10.3.0.9",
        f"inet hairpin6 {B} . fd00::/64",
        f"inet hairpin6 {B} . fd01::9",
    ]


def test_a_bridge_with_a_name_of_the_user_s_is_let_through_docker_s_chain_by_name() -> None:
    """The rules of the host are for names of ours."""
    plan = of_network(bridge_name="lab.7")

    accepts = [line.replace("mdb-+", "lab.7") for line in ACCEPTS]
    own = [line.replace(BRIDGE, "lab.7") for line in of_network()]
    assert plan == [*own[:4], *accepts, *own[4:]]


@given(networks())
def test_a_network_is_masqueraded_or_routed_or_neither_and_never_both(network: Network) -> None:
    sets = {one.set for one in plan_network(network) if isinstance(one, Element)}

    for version in BOTH:
        assert not {f"nat{version}", f"routed{version}"} <= sets
    assert "closed" not in sets or not sets & {"nat4", "nat6", "routed4", "routed6", "hairpin4", "hairpin6"}


# An endpoint.


def of_endpoint(
    *addresses: str, allowed: Sequence[str] = (), ports: Sequence[Publication] = (), **options: object
) -> list[str]:
    network = of_families(BOTH, options=NetworkOptions(**options))  # type: ignore[arg-type]
    endpoint = an_endpoint(*("c3" * 32, *addresses), allowed=allowed, ports=ports)
    return shown(plan_endpoint(network, endpoint if addresses else replace(endpoint, addresses=())))


@pytest.mark.parametrize(
    ("addresses", "guard"),
    [
        (["10.1.0.2/24"], [f"bridge addresses4 {W} . 10.1.0.2"]),
        (
            ["fd00::2/64"],
            [f"bridge addresses6 {W} . fd00::2", f"bridge targets6 {W} . 0xfd000000000000000000000000000002"],
        ),
        (
            ["10.1.0.2/24", "fd00::2/64"],
            [
                f"bridge addresses4 {W} . 10.1.0.2",
                f"bridge addresses6 {W} . fd00::2",
                f"bridge targets6 {W} . 0xfd000000000000000000000000000002",
            ],
        ),
        ([], [f"bridge free {W}"]),
    ],
    ids=["v4", "v6", "both", "none"],
)
def test_the_guard_knows_an_endpoint_s_mac_and_addresses(addresses: list[str], guard: list[str]) -> None:
    """One that was given no address chooses its own."""
    assert of_endpoint(*addresses) == [f"bridge guarded {W}", f"bridge macs {W} . {WEB_MAC}", *guard]


def test_the_guard_lets_an_endpoint_use_what_it_was_allowed() -> None:
    allowed = ["10.9.0.9/32", "10.9.8.0/24", "fd09::9/128", "fd09:8::/64"]

    assert of_endpoint("10.1.0.2/24", allowed=allowed) == [
        *of_endpoint("10.1.0.2/24"),
        f"bridge allowed4 {W} . 10.9.0.9",
        f"bridge allowed4 {W} . 10.9.8.0/24",
        f"bridge allowed6 {W} . fd09::9",
        f"bridge allowed_targets6 {W} . 0xfd090000000000000000000000000009",
        f"bridge allowed6 {W} . fd09:8::/64",
        f"bridge allowed_targets6 {W} . 0xfd090008000000000000000000000000-0xfd09000800000000ffffffffffffffff",
    ]


def test_without_the_guard_an_endpoint_may_be_anybody() -> None:
    assert of_endpoint("10.1.0.2/24", allowed=["10.9.0.0/24"], guard=False) == []


@pytest.mark.parametrize("guard", [True, False])
def test_without_icc_an_endpoint_may_send_to_the_gateway_alone(guard: bool) -> None:
    network = of_families(V4, options=NetworkOptions(icc=False, guard=guard))

    plan = shown(plan_endpoint(network, an_endpoint()))

    assert plan[-2:] == [f"bridge noicc {W}", f"bridge gateways {W} . {mac(network)}"]
    assert plan[:-2] == (of_endpoint("10.1.0.2/24") if guard else [])


def test_a_published_port_is_held_and_translated() -> None:
    ports = [
        Publication(a_port(80, 8080), 8080),
        Publication(a_port(53, 53, protocol=Protocol.UDP, address="192.0.2.1"), 53),
        Publication(a_port(443, 8443, address="2001:db8::1"), 8443),
        Publication(a_port(9, 99, protocol=Protocol.SCTP), 99),
    ]

    assert of_endpoint("10.1.0.2/24", "fd00::2/64", ports=ports, guard=False) == [
        "port tcp 0.0.0.0:8080",
        "inet ports4 tcp . 8080 : 10.1.0.2 . 80",
        "port tcp [::]:8080 proxy [fd00::2]:80",
        "inet ports6 tcp . 8080 : fd00::2 . 80",
        "port udp 192.0.2.1:53",
        "inet bound4 192.0.2.1 . udp . 53 : 10.1.0.2 . 53",
        "port tcp [2001:db8::1]:8443",
        "inet bound6 2001:db8::1 . tcp . 8443 : fd00::2 . 443",
        "port sctp 0.0.0.0:99",
        "inet ports4 sctp . 99 : 10.1.0.2 . 9",
        "port sctp [::]:99",
        "inet ports6 sctp . 99 : fd00::2 . 9",
    ]


def test_where_the_kernel_cannot_translate_the_port_is_held_and_carried() -> None:
    ports = [Publication(a_port(80, 8080), 8080), Publication(a_port(80, 81, address="::1"), 81)]

    assert of_endpoint("10.1.0.2/24", ports=ports, guard=False) == [
        "port tcp 0.0.0.0:8080",
        "inet ports4 tcp . 8080 : 10.1.0.2 . 80",
        "port tcp [::]:8080 proxy 10.1.0.2:80",
        "port tcp [::1]:81 proxy 10.1.0.2:80",
    ]


def test_in_a_routed_family_a_published_port_is_opened_and_none_of_the_host_s_is_held() -> None:
    plan = of_endpoint(
        "10.1.0.2/24",
        "fd00::2/64",
        ports=[Publication(a_port(80, 8080), 8080)],
        guard=False,
        routing_ipv4=Routing.ROUTED,
        routing_ipv6=Routing.ROUTED,
    )

    assert plan == ["inet open4 10.1.0.2 . tcp . 80", "inet open6 fd00::2 . tcp . 80"]


# The tables.


@dataclass(frozen=True)
class Declared:
    """A set or map, as a table declares it."""

    types: tuple[str, ...]
    value: tuple[str, ...]
    interval: bool


def declared(table: Table) -> Mapping[str, Declared]:
    found = re.findall(r"(?:set|map) (\w+) \{ (?:type|typeof) ([^;:]+?)(?: : ([^;]+))?; ?([^}]*)\}", table.text)
    return {
        name: Declared(_words(types), _words(value) if value else (), "flags interval" in flags)
        for name, types, value, flags in found
    }


def _words(types: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in types.split(" . "))


DECLARED = {(table.family, name): one for table in TABLES for name, one in declared(table).items()}


def _parse_address(text: str, interval: bool, one: type, several: type) -> None:
    if interval and "/" in text:
        assert several(text).prefixlen < several(text).max_prefixlen, text
    else:
        one(text)


def check_part(text: str, kind: str, interval: bool) -> None:
    """That a part of an element is a value of its type, as nft prints it."""
    match kind:
        case "ifname" | "iifname":
            assert re.fullmatch(r'"[^"]{1,15}"', text), text
        case "ether_addr":
            assert re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", text), text
        case "ipv4_addr":
            _parse_address(text, interval, IPv4Address, IPv4Network)
        case "ipv6_addr":
            _parse_address(text, interval, IPv6Address, IPv6Network)
        case "inet_proto":
            assert text in list(Protocol)
        case "inet_service":
            assert 1 <= int(text) <= 65535
        case "@th,64,128":
            ends = [int(end, 16) for end in text.split("-")]
            assert all(0 <= end < 2**128 for end in ends)
            assert len(ends) == 1 or (interval and ends[0] < ends[1])
        case _:
            raise AssertionError(kind)


def check_declared(plan: Iterable[Object]) -> None:
    for one in plan:
        if isinstance(one, Element):
            expected = DECLARED[one.family, one.set]
            assert (len(one.parts), len(one.value)) == (len(expected.types), len(expected.value)), one
            for part, kind in zip((*one.parts, *one.value), (*expected.types, *expected.value), strict=True):
                check_part(part, kind, expected.interval)


def test_both_tables_declare_what_their_rules_look_up_and_nothing_else() -> None:
    for table in TABLES:
        looked_up = set(re.findall(r"@([a-z]\w*)", table.text)) - {"th"}

        assert looked_up == set(declared(table)), table


def test_both_tables_go_only_to_chains_that_they_have() -> None:
    for table in TABLES:
        chains = re.findall(r"chain (\w+) \{", table.text)
        targets = set(re.findall(r"(?:goto|jump) (\w+)", table.text))
        hooked = re.findall(r"chain (\w+) \{\n\s+type ", table.text)

        assert len(set(chains)) == len(chains)
        assert targets == set(chains) - set(hooked)


def test_sets_of_endpoints_have_no_intervals_but_for_what_they_were_allowed() -> None:
    """The kernel copies a set with concatenated intervals at every change."""
    of_endpoints = {name for (family, name), one in DECLARED.items() if one.interval and family == "bridge"}

    assert of_endpoints == {"allowed4", "allowed6", "allowed_targets6"}


@given(on_networks(), st.lists(st.sampled_from(["br0", "a.dotted.name", "vmbr0"]), unique=True))
def test_every_element_fits_the_set_in_which_it_stands(one: tuple[Network, Endpoint], uplinks: list[str]) -> None:
    network, endpoint = one

    check_declared(plan_host([network], uplinks, []))
    check_declared(plan_network(network))
    check_declared(plan_endpoint(network, endpoint))


@given(st.integers(0, 2**128 - 1), st.integers(0, 128))
def test_whatever_is_allowed_fits_its_set(number: int, length: int) -> None:
    v6 = IPv6Network((number, length), strict=False)
    v4 = IPv4Network((number >> 96, min(length, 32)), strict=False)

    plan = plan_endpoint(of_families(BOTH), an_endpoint(allowed=[str(v4), str(v6)]))

    check_declared(plan)
    [targets] = [one for one in plan if isinstance(one, Element) and one.set == "allowed_targets6"]
    first, _, last = targets.parts[1].partition("-")
    assert int(first, 16) == int(v6.network_address)
    assert int(last or first, 16) == int(v6.broadcast_address)


@given(on_networks())
def test_two_objects_of_a_plan_never_share_a_place(one: tuple[Network, Endpoint]) -> None:
    network, endpoint = one

    plan = [
        *plan_host([network], ["br0"], [forward_chain(4)]),
        *plan_network(network),
        *plan_endpoint(network, endpoint),
    ]

    twice = [key for key, times in Counter(each.key for each in plan).items() if times > 1]
    assert twice == []
