"""Desired less actual, as the text of the steps."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from mdnp.dataplane import rules
from mdnp.dataplane.bridge import plan_endpoint
from mdnp.dataplane.naming import DOOMED_GROUP
from mdnp.dataplane.objects import (
    Accept,
    Addr,
    Element,
    Family,
    HostPort,
    Key,
    Link,
    Sysctl,
    Table,
    forward_chain,
)
from mdnp.dataplane.steps import HOST, NOBODY, Owner
from mdnp.kernel import Actual, Seen
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.mac import MAC
from mdnp.model.network import Network
from mdnp.model.options import NetworkOptions
from mdnp.model.port import Publication, Target
from mdnp.reconcile import desired
from mdnp.reconcile.desired import Owned
from mdnp.reconcile.diff import Difference, diff
from tests.world import ANY4, NET, OTHER_NET, WEB, WEB_MAC, a_network, a_port, a_socket, an_endpoint, as_seen, text

NETWORK, ENDPOINT = a_network(), an_endpoint()
PUBLISHED = an_endpoint(ports=[Publication(a_port(80, 8080), 8080)])
BRIDGE, PORT = "mdb-a1a1a1a1a1a", "mdv-c3c3c3c3c3c"
CHAINS = frozenset({forward_chain(4), forward_chain(6)})
OFF = [Sysctl(name, "0") for name in rules.FORWARDING.values()]  # as a host is that nobody has touched
FORWARD = Sysctl(rules.FORWARDING[4], "1")
ACCEPTS = [
    f"{program} -I DOCKER-USER {way} mdb-+ -m comment --comment mdnp -j ACCEPT"
    for program in ("iptables", "ip6tables")
    for way in ("-i", "-o")
]


def wanted(*records: Network | Endpoint, network: Network = NETWORK, host: bool = False) -> dict[Key, Owned]:
    """The plans of these, and with `host` of the host for the networks among them."""
    networks = [one for one in records if isinstance(one, Network)]
    planned: dict[Key, Owned] = desired.of_host(networks, Actual({}, CHAINS)) if host else {}
    for one in records:
        planned |= desired.of_network(one) if isinstance(one, Network) else desired.of_endpoint(network, one)
    return planned


def seen(objects: Iterable[Seen], chains: frozenset[Key] = CHAINS) -> Actual:
    return Actual({one.key: one for one in (*OFF, *objects)}, chains)


def as_made(planned: dict[Key, Owned]) -> dict[Key, Seen]:
    """What the kernel shows when all of it was made."""
    return {key: as_seen(one.object) for key, one in planned.items()}


def short(lines: Iterable[str]) -> list[str]:
    """An element as `inet SET PART`, a link's line without what follows its MAC."""
    return [
        line.split(" mtu ")[0].replace(" mdnp ", " ") if "element" in line else line.split(" mtu ")[0] for line in lines
    ]


def steps(difference: Difference) -> list[str]:
    assert difference.lost == ()
    return text(difference.steps)


def test_nothing_wanted_and_nothing_there_is_no_step() -> None:
    assert diff({}, seen([])) == Difference(())


def test_what_is_there_as_it_should_be_is_no_step() -> None:
    plan = wanted(NETWORK, ENDPOINT)

    assert diff(plan, seen(as_made(plan).values())) == Difference(())


def test_all_is_made_a_bridge_before_what_stands_on_it() -> None:
    plan = wanted(ENDPOINT, NETWORK)

    lines = [line for line in steps(diff(plan, seen([]))) if line.startswith("ip ")]

    assert short(lines) == [
        f"ip link add {BRIDGE} address 02:6d:0a:01:00:01",
        f"ip addr add 10.1.0.1/24 dev {BRIDGE}",
        f"ip link add {PORT}",
    ]


def test_the_order_in_which_all_is_made() -> None:
    """Closed before it is open, held before traffic is led there, guarded before there is a link."""
    plan = wanted(PUBLISHED, NETWORK, host=True)

    assert short(steps(diff(plan, seen([])))) == [
        "nft add table inet mdnp with its chains and rules",
        "nft add table bridge mdnp with its chains and rules",
        *(
            f"nft add element bridge {one}"
            for one in (
                f'guarded {{ "{PORT}" }}',
                f'macs {{ "{PORT}" . {WEB_MAC} }}',
                f'addresses4 {{ "{PORT}" . 10.1.0.2 }}',
            )
        ),
        *(
            f"nft add element inet {one}"
            for one in (
                f'bridges {{ "{BRIDGE}" }}',
                f'own {{ "{BRIDGE}" . "{BRIDGE}" }}',
                f'nat4 {{ "{BRIDGE}" }}',
                f'hairpin4 {{ "{BRIDGE}" . 10.1.0.0/24 }}',
            )
        ),
        f"ip link add {BRIDGE} address 02:6d:0a:01:00:01",
        "sysctl -w net/ipv4/ip_forward=1",
        f"sysctl -w net/ipv6/conf/{BRIDGE}/accept_ra=0",
        f"sysctl -w net/ipv6/conf/{BRIDGE}/accept_dad=0",
        f"sysctl -w net/ipv4/conf/{BRIDGE}/route_localnet=1",
        f"ip addr add 10.1.0.1/24 dev {BRIDGE}",
        *ACCEPTS,
        f"ip link add {PORT}",
        "hold port tcp 0.0.0.0:8080",
        "hold port tcp [::]:8080 proxy 10.1.0.2:80",
        "nft add element inet ports4 { tcp . 8080 : 10.1.0.2 . 80 }",
    ]


def test_every_step_for_a_promise_has_its_owner() -> None:
    plan = wanted(NETWORK, ENDPOINT, host=True)

    owners = {step.owner for step in diff(plan, seen([])).steps}
    of_links = {
        str(step).split()[3]: step.owner for step in diff(plan, seen([])).steps if str(step).startswith("ip link")
    }
    of_tables = {step.owner for step in diff(plan, seen([])).steps if "table" in str(step).split()[:3]}

    assert owners == {HOST, Owner(NET), Owner(WEB)}
    assert (of_links, of_tables) == ({BRIDGE: Owner(NET), PORT: Owner(WEB)}, {HOST})


def test_removals_come_before_additions_and_changes_last() -> None:
    """Two bridges of one subnet would leave two equal routes."""
    new = a_network(OTHER_NET)
    [port] = plan_endpoint(new, an_endpoint(network=OTHER_NET))
    old = as_made(wanted(NETWORK, ENDPOINT))

    lines = steps(diff({**wanted(new), port.key: Owned(port, Owner(WEB))}, seen(old.values())))

    assert [" ".join(line.split()[:4]) for line in lines if line.startswith("ip ")] == [
        f"ip link del {BRIDGE}",
        "ip link add mdb-b2b2b2b2b2b",
        "ip addr add 10.1.0.1/24",
        f"ip link set {PORT}",
    ]
    elements = [line.split()[1] for line in lines if line.startswith("nft ")]
    assert elements == ["delete"] * 7 + ["add"] * 4


def test_orphans_are_removed_veths_at_leisure_and_addresses_with_their_bridge() -> None:
    orphans = as_made(wanted(NETWORK, ENDPOINT))

    assert [line for line in steps(diff({}, seen(orphans.values()))) if line.startswith("ip ")] == [
        f"ip link set {PORT} group {DOOMED_GROUP}",
        f"ip link del {BRIDGE}",
    ]


def test_the_order_in_which_all_is_removed() -> None:
    """No traffic is led to a port that is let go, and the tables stand until what they close is gone from them."""
    orphans = as_made(wanted(NETWORK, PUBLISHED, host=True))

    lines = steps(diff({}, seen(orphans.values())))

    assert [line.split()[:3] for line in lines[1:11]] == [["nft", "delete", "element"]] * 8 + [
        ["nft", "delete", "table"]
    ] * 2
    assert [*lines[:1], *lines[11:]] == [
        f"ip link set {PORT} group {DOOMED_GROUP}",
        "let go of port tcp 0.0.0.0:8080",
        "let go of port tcp [::]:8080 proxy 10.1.0.2:80",
        *(line.replace(" -I ", " -D ") for line in ACCEPTS),
        f"ip link del {BRIDGE}",
    ]


def test_nobody_owns_the_removal_of_an_orphan() -> None:
    difference = diff({}, seen(as_made(wanted(NETWORK, ENDPOINT)).values()))

    assert {step.owner for step in difference.steps} == {NOBODY}


def test_an_operator_s_address_on_our_bridge_is_left_alone() -> None:
    plan = wanted(NETWORK)
    extra = Addr(BRIDGE, ip_interface("10.9.0.1/24"))

    assert diff(plan, seen([*as_made(plan).values(), extra])) == Difference(())


def test_each_thing_that_somebody_changed_is_set_back() -> None:
    plan = wanted(NETWORK, ENDPOINT)
    made = as_made(plan)
    bridge, port = made["link", BRIDGE], made["link", PORT]
    assert isinstance(bridge, Link)
    assert isinstance(port, Link)
    made[bridge.key] = replace(bridge, mtu=1400, mac=MAC("02:00:00:00:00:01"), up=False)
    made[port.key] = replace(port, mtu=1400, master=None, up=False)

    assert steps(diff(plan, seen(made.values()))) == [
        f"ip link set {BRIDGE} mtu 1500 address 02:6d:0a:01:00:01 up",
        f"ip link set {PORT} mtu 1500 master {BRIDGE} up",
    ]


def test_an_alias_that_is_missing_is_no_drift() -> None:
    plan = wanted(NETWORK)
    made = as_made(plan)
    bridge = made["link", BRIDGE]
    assert isinstance(bridge, Link)
    made[bridge.key] = replace(bridge, alias="")

    assert diff(plan, seen(made.values())) == Difference(())


def test_what_was_removed_is_made_again() -> None:
    plan = wanted(NETWORK, PUBLISHED, host=True)
    made = as_made(plan)
    lost: list[Key] = [
        ("addr", BRIDGE, "10.1.0.1/24"),
        ("accept", "6", "-o", "mdb-+"),
        ("element", "inet", "own", f'"{BRIDGE}"', f'"{BRIDGE}"'),
        ("element", "inet", "ports4", "tcp", "8080"),
        ("port", "tcp", ANY4, "8080"),
    ]
    for key in lost:
        del made[key]

    assert short(steps(diff(plan, seen(made.values())))) == [
        f'nft add element inet own {{ "{BRIDGE}" . "{BRIDGE}" }}',
        f"ip addr add 10.1.0.1/24 dev {BRIDGE}",
        ACCEPTS[3],
        "hold port tcp 0.0.0.0:8080",
        "nft add element inet ports4 { tcp . 8080 : 10.1.0.2 . 80 }",
    ]


@pytest.mark.parametrize("family", ["inet", "bridge"])
def test_a_table_that_somebody_changed_is_made_again_and_its_elements_stay(family: str) -> None:
    plan = wanted(NETWORK, ENDPOINT, host=True)
    made = as_made(plan)
    table = made["table", family]
    assert isinstance(table, Table)
    made[table.key] = replace(table, text="")

    assert steps(diff(plan, seen(made.values()))) == [f"nft add table {family} mdnp with its chains and rules"]


def test_an_element_or_port_that_leads_elsewhere_is_replaced() -> None:
    plan = wanted(NETWORK, PUBLISHED)
    made = as_made(plan)
    element = Element("inet", "ports4", ("tcp", "8080"), ("10.1.0.66", "80"))
    port = HostPort(a_socket("::", 8080), Target(ip_address("10.1.0.66"), 80))
    made |= {element.key: element, port.key: port}

    difference = diff(plan, seen(made.values()))

    assert short(steps(difference)) == [
        "nft delete element inet ports4 { tcp . 8080 : 10.1.0.66 . 80 }",
        "let go of port tcp [::]:8080 proxy 10.1.0.66:80",
        "hold port tcp [::]:8080 proxy 10.1.0.2:80",
        "nft add element inet ports4 { tcp . 8080 : 10.1.0.2 . 80 }",
    ]
    assert {step.owner for step in difference.steps} == {Owner(WEB)}


def test_an_element_of_somebody_s_in_our_tables_is_removed() -> None:
    plan = wanted(NETWORK, host=True)
    stranger = Element("inet", "uplinks", ('"docker0"',))

    difference = diff(plan, seen([*as_made(plan).values(), stranger]))

    assert short(steps(difference)) == ['nft delete element inet uplinks { "docker0" }']


def test_the_port_of_what_is_published_now_sends_frames_back() -> None:
    made = as_made(wanted(NETWORK, ENDPOINT))

    before = steps(diff(wanted(NETWORK, PUBLISHED), seen(made.values())))
    after = steps(diff(wanted(NETWORK, ENDPOINT), seen(as_made(wanted(NETWORK, PUBLISHED)).values())))

    assert before[-1] == f"ip link set {PORT} type bridge_slave hairpin on"
    assert after[-1] == f"ip link set {PORT} type bridge_slave hairpin off"


# Settings.


def test_a_setting_that_is_as_it_should_be_is_left() -> None:
    plan = wanted(NETWORK, host=True)

    assert diff(plan, seen(as_made(plan).values())) == Difference(())


def test_a_setting_that_somebody_changed_is_set_again() -> None:
    plan = wanted(NETWORK, host=True)
    made = as_made(plan)
    localnet = Sysctl(f"net/ipv4/conf/{BRIDGE}/route_localnet", "0")
    made |= {localnet.key: localnet, FORWARD.key: replace(FORWARD, value="0")}

    assert steps(diff(plan, seen(made.values()))) == [
        f"sysctl -w {FORWARD.name}=1",
        f"sysctl -w {localnet.name}=1",
    ]


def test_a_setting_is_never_taken_back() -> None:
    """Others may rely on it by now."""
    assert diff({}, seen([FORWARD])) == Difference(())


def test_a_setting_that_is_not_ours_is_left() -> None:
    plan = wanted(a_network(internal=True), host=True)

    assert diff(plan, seen([*as_made(plan).values(), FORWARD])) == Difference(())


def test_where_the_kernel_has_no_ipv6_its_settings_are_not_wanted() -> None:
    network = a_network(NET, "10.1.0.0/24 10.1.0.1/24", "fd00::/64 fd00::1/64")
    plan = wanted(network, host=True)
    without = Actual({OFF[0].key: OFF[0]}, CHAINS)

    lines = [str(step) for step in diff(plan, without).steps if str(step).startswith("sysctl")]

    assert lines == [f"sysctl -w {FORWARD}", f"sysctl -w net/ipv4/conf/{BRIDGE}/route_localnet=1"]


# What is not there.


def test_a_link_of_another_kind_under_our_name_is_replaced_with_what_stands_on_it() -> None:
    plan = wanted(NETWORK)
    made = as_made(plan)
    made["link", BRIDGE] = Link(BRIDGE, "dummy", 1500)

    assert [line.split()[:4] for line in steps(diff(plan, seen(made.values())))] == [
        ["ip", "link", "del", BRIDGE],
        ["ip", "link", "add", BRIDGE],
        ["sysctl", "-w", f"net/ipv6/conf/{BRIDGE}/accept_ra=0"],
        ["sysctl", "-w", f"net/ipv6/conf/{BRIDGE}/accept_dad=0"],
        ["sysctl", "-w", f"net/ipv4/conf/{BRIDGE}/route_localnet=1"],
        ["ip", "addr", "add", "10.1.0.1/24"],
    ]


def test_a_rule_whose_chain_is_missing_is_not_wanted() -> None:
    plan = wanted(NETWORK, host=True)
    made = [one for one in as_made(plan).values() if not isinstance(one, Accept)]

    neither = diff(plan, seen(made, chains=frozenset()))
    only_six = diff(plan, seen(made, chains=frozenset({forward_chain(6)})))

    assert (neither, steps(only_six)) == (Difference(()), ACCEPTS[2:])


@pytest.mark.parametrize("family", rules.FAMILIES)
def test_the_way_to_docker_s_chain_is_made_while_nobody_else_leads_there(family: Family) -> None:
    host = Actual({}, CHAINS, unreached=frozenset({forward_chain(family)}))
    plan = desired.of_host([NETWORK], host)
    made = as_made(wanted(NETWORK, host=True))
    [jump] = [one for key, one in plan.items() if key[0] == "jump"]

    without = diff(plan, seen(made.values()))
    no_chain = diff(plan, seen(made.values(), chains=CHAINS - {forward_chain(family)}))
    no_more = diff(wanted(NETWORK, host=True), seen([*made.values(), as_seen(jump.object)]))

    program = {4: "iptables", 6: "ip6tables"}[family]
    rule = "FORWARD -m comment --comment mdnp -j DOCKER-USER"
    assert [str(step) for step in without.steps if "FORWARD" in str(step)] == [f"{program} -I {rule}"]
    assert [step for step in no_chain.steps if "FORWARD" in str(step)] == []
    assert steps(no_more)[:1] == [f"{program} -D {rule}"]


def test_a_bridge_with_a_name_of_the_user_s_has_its_own_rules_in_docker_s_chain() -> None:
    network = a_network(options=NetworkOptions(bridge_name="lab0"))

    lines = [line for line in steps(diff(wanted(network), seen([]))) if "DOCKER-USER" in line]

    assert lines == [line.replace("mdb-+", "lab0") for line in ACCEPTS]


def test_a_created_endpoint_s_link_is_made_again() -> None:
    plan = wanted(ENDPOINT)
    made = as_made(plan)
    del made["link", PORT]

    assert [line.split()[:4] for line in steps(diff(plan, seen(made.values())))] == [["ip", "link", "add", PORT]]


def test_a_joined_endpoint_s_link_is_lost_and_no_step_is_made_for_it() -> None:
    plan = wanted(an_endpoint(phase=Phase.JOINED))
    made = as_made(plan)
    del made["link", PORT]

    assert diff(plan, seen(made.values())) == Difference((), (plan["link", PORT],))


def test_of_an_endpoint_that_left_no_link_is_expected() -> None:
    plan = wanted(an_endpoint(phase=Phase.LEFT))
    made = as_made(plan)
    del made["link", PORT]

    assert diff(plan, seen(made.values())) == Difference(())


def test_of_an_endpoint_that_left_a_link_that_is_there_is_kept_right() -> None:
    plan = wanted(an_endpoint(phase=Phase.LEFT))
    made = as_made(plan)
    port = made["link", PORT]
    assert isinstance(port, Link)

    assert diff(plan, seen(made.values())) == Difference(())
    made[port.key] = replace(port, master=None)
    assert steps(diff(plan, seen(made.values()))) == [f"ip link set {PORT} master {BRIDGE}"]


def test_a_comparison_at_some_keys_sees_nothing_else() -> None:
    plan = wanted(NETWORK, ENDPOINT)
    orphan = Link("mdb-orphan", "bridge", 1500, mac=MAC("02:00:00:00:00:01"))

    difference = diff(plan, seen([orphan]), [("link", BRIDGE), ("link", "mdv-nobody")])

    assert [line.split()[:4] for line in steps(difference)] == [["ip", "link", "add", BRIDGE]]
