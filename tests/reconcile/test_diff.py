"""Desired less actual, as the text of the steps."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_interface

from mdnp.dataplane.bridge import plan_endpoint
from mdnp.dataplane.naming import DOOMED_GROUP
from mdnp.dataplane.objects import Accept, Addr, Key, Link
from mdnp.dataplane.steps import Owner
from mdnp.kernel import Actual, Seen
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.mac import MAC
from mdnp.model.network import Network
from mdnp.reconcile import desired
from mdnp.reconcile.desired import Owned
from mdnp.reconcile.diff import Difference, diff
from tests.world import NET, OTHER_NET, WEB, a_network, an_endpoint, text

NETWORK, ENDPOINT = a_network(), an_endpoint()
BRIDGE, PORT = "mdb-a1a1a1a1a1a", "mdv-c3c3c3c3c3c"
CHAINS = frozenset({Accept(4, "").chain, Accept(6, "").chain})
ADD_RULES = [
    f"{program} -I DOCKER-USER -i {BRIDGE} -o {BRIDGE} -m comment --comment mdnp -j ACCEPT"
    for program in ("iptables", "ip6tables")
]


def wanted(*records: Network | Endpoint, network: Network = NETWORK) -> dict[Key, Owned]:
    planned: dict[Key, Owned] = {}
    for one in records:
        planned |= desired.of_network(one) if isinstance(one, Network) else desired.of_endpoint(network, one)
    return planned


def seen(objects: Iterable[Seen], chains: frozenset[Key] = CHAINS) -> Actual:
    return Actual({one.key: one for one in objects}, chains)


def as_made(planned: dict[Key, Owned]) -> dict[Key, Seen]:
    """What the kernel shows when all of it was made."""
    made = [one.object if isinstance(one.object, Addr | Accept) else one.object.link() for one in planned.values()]
    return {one.key: one for one in made}


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

    lines = steps(diff(plan, seen([])))

    assert [line.split(" mtu ")[0] for line in lines] == [
        f"ip link add {BRIDGE} address 02:6d:0a:01:00:01",
        f"ip addr add 10.1.0.1/24 dev {BRIDGE}",
        *ADD_RULES,
        f"ip link add {PORT}",
    ]


def test_every_step_for_a_promise_has_its_owner() -> None:
    difference = diff(wanted(NETWORK, ENDPOINT), seen([]))

    assert [step.owner for step in difference.steps] == [Owner(NET)] * 4 + [Owner(WEB)]


def test_removals_come_before_additions_and_changes_last() -> None:
    """Two bridges of one subnet would leave two equal routes."""
    new = a_network(OTHER_NET)
    [port] = plan_endpoint(new, an_endpoint(network=OTHER_NET))
    old = as_made(wanted(NETWORK, ENDPOINT))

    lines = steps(diff({**wanted(new), port.key: Owned(port, Owner(WEB))}, seen(old.values())))

    assert [" ".join(line.split()[:4]) for line in lines] == [
        "iptables -D DOCKER-USER -i",
        "ip6tables -D DOCKER-USER -i",
        f"ip link del {BRIDGE}",
        "ip link add mdb-b2b2b2b2b2b",
        "ip addr add 10.1.0.1/24",
        "iptables -I DOCKER-USER -i",
        "ip6tables -I DOCKER-USER -i",
        f"ip link set {PORT}",
    ]


def test_orphans_are_removed_veths_at_leisure_and_addresses_with_their_bridge() -> None:
    orphans = as_made(wanted(NETWORK, ENDPOINT))

    assert steps(diff({}, seen(orphans.values()))) == [
        *(line.replace(" -I ", " -D ") for line in ADD_RULES[:1]),
        *(line.replace(" -I ", " -D ") for line in ADD_RULES[1:]),
        f"ip link set {PORT} group {DOOMED_GROUP}",
        f"ip link del {BRIDGE}",
    ]


def test_nobody_owns_the_removal_of_an_orphan() -> None:
    difference = diff({}, seen(as_made(wanted(NETWORK, ENDPOINT)).values()))

    assert {step.owner for step in difference.steps} == {Owner("")}


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


def test_an_address_and_a_rule_that_were_removed_are_made_again() -> None:
    plan = wanted(NETWORK)
    made = as_made(plan)
    del made["addr", BRIDGE, "10.1.0.1/24"], made["accept", "6", BRIDGE]

    assert steps(diff(plan, seen(made.values()))) == [f"ip addr add 10.1.0.1/24 dev {BRIDGE}", ADD_RULES[1]]


def test_a_link_of_another_kind_under_our_name_is_replaced() -> None:
    plan = wanted(NETWORK)
    made = as_made(plan)
    made["link", BRIDGE] = Link(BRIDGE, "dummy", 1500)

    assert [line.split()[:4] for line in steps(diff(plan, seen(made.values())))] == [
        ["ip", "link", "del", BRIDGE],
        ["ip", "link", "add", BRIDGE],
    ]


def test_a_rule_whose_chain_is_missing_is_not_wanted() -> None:
    plan = wanted(NETWORK)
    made = [one for one in as_made(plan).values() if not isinstance(one, Accept)]

    neither = diff(plan, seen(made, chains=frozenset()))
    only_six = diff(plan, seen(made, chains=frozenset({Accept(6, "").chain})))

    assert (neither, steps(only_six)) == (Difference(()), [ADD_RULES[1]])


def test_a_created_endpoint_s_link_is_made_again() -> None:
    plan = wanted(ENDPOINT)

    assert [line.split()[:4] for line in steps(diff(plan, seen([])))] == [["ip", "link", "add", PORT]]


def test_a_joined_endpoint_s_link_is_lost_and_no_step_is_made_for_it() -> None:
    plan = wanted(an_endpoint(phase=Phase.JOINED))

    assert diff(plan, seen([])) == Difference((), tuple(plan.values()))


def test_of_an_endpoint_that_left_nothing_is_expected() -> None:
    assert diff(wanted(an_endpoint(phase=Phase.LEFT)), seen([])) == Difference(())


def test_of_an_endpoint_that_left_a_link_that_is_there_is_kept_right() -> None:
    plan = wanted(an_endpoint(phase=Phase.LEFT))
    [port] = as_made(plan).values()
    assert isinstance(port, Link)

    assert diff(plan, seen([port])) == Difference(())
    assert steps(diff(plan, seen([replace(port, master=None)]))) == [f"ip link set {PORT} master {BRIDGE}"]


def test_a_comparison_at_some_keys_sees_nothing_else() -> None:
    plan = wanted(NETWORK, ENDPOINT)
    orphan = Link("mdb-orphan", "bridge", 1500, mac=MAC("02:00:00:00:00:01"))

    difference = diff(plan, seen([orphan]), [("link", BRIDGE), ("link", "mdv-nobody")])

    assert [line.split()[:4] for line in steps(difference)] == [["ip", "link", "add", BRIDGE]]
