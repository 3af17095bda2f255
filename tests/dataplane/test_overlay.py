"""Plans of overlays, as their text."""

import re
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dataplane import bridge, overlay, rules
from mdnp.dataplane.naming import GROUP, LOOKUP_PRIORITY, ROUTE_PROTOCOL, ROUTE_TABLE
from mdnp.dataplane.objects import Bridge, Element, Key, Link, Object, Peer, PortFlags, Tunnel, Veth, Vxlan
from mdnp.dataplane.overlay import Underlay
from mdnp.dataplane.steps import NOBODY, Add, Delete, Set
from mdnp.model.network import Network
from mdnp.model.options import GatewayMode, Mode, NetworkOptions
from tests.dataplane.strategies import endpoints
from tests.overlays import a_remote, an_overlay
from tests.world import NET, OTHER_NET, a_network, an_endpoint

UNDERLAY = Underlay(ip_address("192.0.2.1"), 4789, (ip_address("192.0.2.2"), ip_address("192.0.2.3")))
MDB, MDX, MDH, MDI = (f"{prefix}-a1a1a1a1a1a" for prefix in ("mdb", "mdx", "mdh", "mdi"))
OVERLAY = NetworkOptions(mode=Mode.OVERLAY)
IPV4_ONLY = "10.50.0.0/16 10.50.0.1/16"


def shown(objects: Iterable[Object]) -> list[str]:
    """An element of a set as `inet SET PART . PART`."""
    return [re.sub(r"^element (\w+) mdnp (\S+) \{ (.*) \}$", r"\1 \2 \3", str(one)) for one in objects]


def of_network(network: Network, underlay: Underlay = UNDERLAY) -> list[str]:
    return shown(overlay.plan_network(network, underlay))


TUNNEL = [
    "inet tunnels 4789",
    "inet vnis 0x6d0001",
    "inet vteps4 0x6d0001 . 192.0.2.2",
    "inet vteps4 0x6d0001 . 192.0.2.3",
    f'bridge anycast "{MDX}" . 02:6d:0a:32:00:01',
    (
        f"link {MDX} mtu 1450 master {MDB} group {GROUP} alias 'mdnp tunnel of network {NET}' up"
        " type vxlan id 7143425 local 192.0.2.1 dstport 4789 nolearning"
        " bridge_slave learning off flood off mcast_flood on bcast_flood on neigh_suppress on"
    ),
    f"net/ipv6/conf/{MDX}/disable_ipv6=1",
    f"fdb 00:00:00:00:00:00 dev {MDX} dst 192.0.2.2 self permanent",
    f"fdb 00:00:00:00:00:00 dev {MDX} dst 192.0.2.3 self permanent",
]
SETTINGS = [
    f"net/ipv4/conf/{MDB}/rp_filter=2",
    f"net/ipv4/conf/{MDB}/arp_ignore=1",
    f"net/ipv4/conf/{MDH}/arp_ignore=1",
    f"net/ipv4/conf/{MDH}/arp_announce=2",
    f"net/ipv4/conf/{MDH}/route_localnet=1",
    f"net/ipv6/conf/{MDH}/accept_ra=0",
    f"net/ipv6/conf/{MDH}/accept_dad=0",
    f"net/ipv6/conf/{MDI}/disable_ipv6=1",
]
OWN = [
    f'inet bridges "{MDH}"',
    (
        f"link {MDI} mtu 1450 master {MDB} group {GROUP} alias 'mdnp host in network {NET}' up"
        f" type veth peer {MDH} address 02:6d:0a:32:00:14 mtu 1450"
    ),
    f"link {MDH} address 02:6d:0a:32:00:14 mtu 1450 group {GROUP} alias 'mdnp host in network {NET}' up",
    *SETTINGS,
    f'bridge here4 "{MDX}" . 10.50.0.20',
    f"addr 10.50.0.20/32 dev {MDH}",
    f"route 10.50.0.0/16 dev {MDH} src 10.50.0.20 proto {ROUTE_PROTOCOL} table {ROUTE_TABLE}",
    f'bridge here6 "{MDX}" . 0xfd500000000000000000000000000014',
    f"addr fd50::14/128 dev {MDH}",
    f"route fd50::/64 dev {MDH} src fd50::14 proto {ROUTE_PROTOCOL} table {ROUTE_TABLE}",
]


def test_the_marks_of_routes_say_whose_they_are() -> None:
    assert (ROUTE_TABLE.to_bytes(4, "big"), chr(ROUTE_PROTOCOL), LOOKUP_PRIORITY) == (b"mdnp", "m", 27748)


def test_an_overlay_has_a_tunnel_and_the_host_s_own_end() -> None:
    assert of_network(an_overlay()) == [*TUNNEL, *OWN]


def test_without_multicast_nothing_leads_to_everybody() -> None:
    plan = of_network(an_overlay(options=NetworkOptions(mode=Mode.OVERLAY, multicast=False), own=()))

    quiet = [line.replace("mcast_flood on bcast_flood on", "mcast_flood off bcast_flood off") for line in TUNNEL]
    assert plan == [line for line in quiet if not line.startswith("fdb")]


@pytest.mark.parametrize(
    ("vni", "vtep"), [(0, ip_address("192.0.2.1")), (1, None), (0, None)], ids=["vni", "vtep", "both"]
)
def test_without_a_vni_or_a_vtep_there_is_no_tunnel_and_the_rest_stands(vni: int, vtep: object) -> None:
    plan = of_network(an_overlay(vni=vni), replace(UNDERLAY, vtep=vtep))  # type: ignore[arg-type]  # None too

    assert plan == OWN


def test_over_ipv6_the_vteps_are_of_its_set() -> None:
    underlay = Underlay(ip_address("2001:db8::1"), 4444, (ip_address("2001:db8::2"),))

    plan = of_network(an_overlay(own=()), underlay)

    assert plan[:3] == ["inet tunnels 4444", "inet vnis 0x6d0001", "inet vteps6 0x6d0001 . 2001:db8::2"]
    assert "id 7143425 local 2001:db8::1 dstport 4444 nolearning" in plan[4]


@pytest.mark.parametrize("internal", [True, False])
def test_a_network_without_a_gateway_has_nothing_that_every_host_has(internal: bool) -> None:
    options = NetworkOptions(mode=Mode.OVERLAY, gateway=GatewayMode.SELF if internal else GatewayMode.NONE)

    plan = of_network(an_overlay(own=(), internal=internal, options=options))

    assert [line for line in plan if "anycast" in line] == []


def test_without_icc_the_host_s_own_address_is_reached_still() -> None:
    plan = of_network(an_overlay(options=NetworkOptions(mode=Mode.OVERLAY, icc=False)))

    assert set(plan) - {*TUNNEL, *OWN} == {
        "bridge hosts 02:6d:0a:32:00:14",
        f'inet hosts4 "{MDB}" . "{MDB}" . 10.50.0.20',
        f'inet hosts6 "{MDB}" . "{MDB}" . fd50::14',
    }


def test_the_host_goes_into_pools_by_a_rule_for_each_family_in_which_it_has_an_address() -> None:
    both, only4 = an_overlay(), an_overlay(OTHER_NET, IPV4_ONLY, own=["10.50.0.20/16"])
    rule = f"rule pref 27748 iif lo lookup {ROUTE_TABLE} protocol {ROUTE_PROTOCOL}"

    assert shown(overlay.plan_host([both])) == [rule, rule]
    assert [one.key for one in overlay.plan_host([only4, only4])] == [("rule", "4")]
    assert overlay.plan_host([a_network(), an_overlay(own=())]) == ()


def test_who_is_here_is_told_to_the_tunnel_s_rules() -> None:
    endpoint = an_endpoint("c3" * 32, "10.50.0.5/16", "fd50::5/64")

    assert shown(overlay.plan_endpoint(an_overlay(), endpoint)) == [
        f'bridge here4 "{MDX}" . 10.50.0.5',
        f'bridge here6 "{MDX}" . 0xfd500000000000000000000000000005',
    ]


REMOTE = [
    f"fdb 02:6d:0a:32:01:02 dev {MDX} dst 192.0.2.2 self permanent",
    f"fdb 02:6d:0a:32:01:02 dev {MDX} master static",
    f"neigh 10.50.1.2 lladdr 02:6d:0a:32:01:02 dev {MDB} nud permanent protocol {ROUTE_PROTOCOL}",
    f"neigh fd50::1:2 lladdr 02:6d:0a:32:01:02 dev {MDB} nud permanent protocol {ROUTE_PROTOCOL}",
]


def test_a_remote_endpoint_has_three_rows_for_an_address() -> None:
    assert shown(overlay.plan_remote(an_overlay(), a_remote())) == REMOTE


def test_another_host_s_own_address_is_reached_without_icc_and_its_containers_are_not() -> None:
    network = an_overlay(options=NetworkOptions(mode=Mode.OVERLAY, icc=False))

    of_container = overlay.plan_remote(network, a_remote())
    of_host = overlay.plan_remote(network, a_remote("host"))

    assert (shown(of_container), shown(of_host)[:4]) == (REMOTE, REMOTE)
    assert shown(of_host)[4:] == [
        "bridge hosts 02:6d:0a:32:01:02",
        f'inet hosts4 "{MDB}" . "{MDB}" . 10.50.1.2',
        f'inet hosts6 "{MDB}" . "{MDB}" . fd50::1:2',
    ]


def test_the_bridge_has_the_same_mac_on_every_host_and_the_own_end_another() -> None:
    one, other = an_overlay(), an_overlay(OTHER_NET, own=["10.50.0.21/16"])

    assert bridge.mac(one) == bridge.mac(other)
    assert len({bridge.mac(one), overlay.own_mac(one), overlay.own_mac(other)}) == 3


STEPS = {
    "append": f"bridge fdb append 00:00:00:00:00:00 dev {MDX} dst 192.0.2.2 self permanent",
    "self": f"bridge fdb replace {REMOTE[0].removeprefix('fdb ')}",
    "master": f"bridge fdb replace {REMOTE[1].removeprefix('fdb ')}",
    "neigh": f"ip neigh replace {REMOTE[2].removeprefix('neigh ')}",
    "own": f"ip link set {OWN[2].removeprefix('link ')}",
    "route": f"ip route replace {OWN[-1].removeprefix('route ')}",
}


def test_steps_print_as_what_an_operator_would_type() -> None:
    network = an_overlay()
    plan = [*overlay.plan_network(network, UNDERLAY), *overlay.plan_remote(network, a_remote())]

    added = {str(Add(one, NOBODY)) for one in plan}

    assert set(STEPS.values()) <= added
    four, six = overlay.plan_host([network])
    rest = f"pref 27748 iif lo lookup {ROUTE_TABLE} protocol {ROUTE_PROTOCOL}"
    assert [str(Add(four, NOBODY)), str(Add(six, NOBODY))] == [f"ip rule add {rest}", f"ip -6 rule add {rest}"]
    [self_row, master_row, neigh, *_] = overlay.plan_remote(network, a_remote())
    assert [str(Delete(one, NOBODY)) for one in (self_row, master_row, neigh)] == [  # type: ignore[arg-type]  # rows
        f"bridge fdb del {REMOTE[0].removeprefix('fdb ')}",
        f"bridge fdb del {REMOTE[1].removeprefix('fdb ')}",
        f"ip neigh del {REMOTE[2].removeprefix('neigh ')}",
    ]


def test_of_a_tunnel_s_port_only_what_differs_is_set() -> None:
    wanted = Link(MDX, "vxlan", 1450, MDB, tunnel=Tunnel(1, ip_address("192.0.2.1"), 4789), flags=PortFlags())
    was = replace(wanted, flags=PortFlags(learning=True, neigh_suppress=False))

    learned = str(Set(wanted, was, NOBODY))
    freed = str(Set(wanted, replace(wanted, master=None, flags=None), NOBODY))

    assert learned == f"ip link set {MDX} type bridge_slave learning off neigh_suppress on"
    every = "learning off flood off mcast_flood on bcast_flood on neigh_suppress on"
    assert freed == f"ip link set {MDX} master {MDB} type bridge_slave {every}"


@st.composite
def overlays(draw: st.DrawFn) -> Network:
    switches = st.booleans()
    options = NetworkOptions(
        mode=Mode.OVERLAY,
        icc=draw(switches),
        multicast=draw(switches),
        guard=draw(switches),
        gateway=draw(st.sampled_from(GatewayMode)),
        bridge_name=draw(st.sampled_from([None, "lab0"])),
    )
    families = draw(st.sampled_from([(4,), (6,), (4, 6)]))
    subnets = {4: IPV4_ONLY, 6: "fd50::/64 fd50::1/64"}
    internal = draw(switches)
    network = an_overlay(NET, *(subnets[one] for one in families), own=(), internal=internal, options=options)
    own = [one for one in an_overlay().host_addresses if one.version in families]
    return replace(network, host_addresses=tuple(own) if network.has_gateway else (), vni=draw(st.sampled_from([0, 5])))


def _whole(network: Network) -> list[Object]:
    plans = (bridge.plan_network(network), rules.plan_network(network), overlay.plan_network(network, UNDERLAY))
    return [one for plan in plans for one in plan]


@given(overlays())
def test_two_objects_of_one_overlay_never_share_a_place(network: Network) -> None:
    plan = [
        *_whole(network),
        *overlay.plan_remote(network, a_remote()),
        *overlay.plan_remote(network, a_remote("host")),
    ]

    different: dict[Key, set[Object]] = {}
    for one in plan:
        different.setdefault(one.key, set()).add(one)
    assert {key: found for key, found in different.items() if len(found) > 1} == {}
    names = [one.link().name for one in plan if isinstance(one, Bridge | Veth | Vxlan | Peer)]
    assert max(map(len, names)) <= 15


@given(overlays())
def test_every_element_of_an_overlay_is_of_a_set_that_is_declared(network: Network) -> None:
    plan = [*_whole(network), *overlay.plan_remote(network, a_remote("host"))]

    for one in plan:
        if isinstance(one, Element):
            table = next(table for table in rules.TABLES if table.family == one.family)
            assert f" {one.set} {{" in table.text


@given(st.data())
def test_an_endpoint_of_an_overlay_is_as_one_of_a_bridge_and_is_known_to_be_here(data: st.DataObject) -> None:
    network = a_network(options=OVERLAY)
    endpoint = data.draw(endpoints(network))

    plan = overlay.plan_endpoint(network, endpoint)

    assert len(plan) == len(endpoint.addresses)
    on_bridge = replace(network, options=NetworkOptions())
    assert rules.plan_endpoint(network, endpoint) == rules.plan_endpoint(on_bridge, endpoint)
