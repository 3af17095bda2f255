"""The contract of the kernel room, kept by the kernel in memory and by Linux alike."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from mdnp.dataplane import annexes, overlay
from mdnp.dataplane.objects import (
    Accept,
    Addr,
    Bridge,
    Element,
    HostPort,
    Jump,
    Key,
    Link,
    Object,
    Rule,
    Sysctl,
    Table,
    Veth,
    Way,
    forward_chain,
)
from mdnp.dataplane.overlay import Underlay
from mdnp.dataplane.rules import FORWARDING, TABLES, plan_endpoint, plan_host, plan_network
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom, Owner, Removable, Set, Step
from mdnp.kernel import Actual, Failure, Kernel, Seen
from mdnp.model.errors import InUse
from mdnp.model.mac import MAC
from mdnp.model.options import GatewayMode, Mode, NetworkOptions, Routing
from mdnp.model.port import HostSocket, Protocol, Publication, Target
from tests.kernel.grounds import Ground
from tests.overlays import an_overlay
from tests.world import ANY4, ANY6, NET, WEB, a_network, a_port, a_socket, an_endpoint

OWNER, OTHER_OWNER = Owner("a1" * 32), Owner("b2" * 32)
CHAINS = frozenset({forward_chain(4), forward_chain(6)})

BRIDGE = Bridge("mdb-one", MAC("02:6d:0a:01:00:01"), 1500, "mdnp network one")
SECOND = Bridge("lab0", MAC("02:6d:0a:02:00:01"), 1500, "mdnp network two")
VETH = Veth("mdv-web", "mdp-web", MAC("02:6d:0a:01:00:02"), 1500, "mdb-one", "mdnp endpoint web")
OTHER = Veth("mdv-db", "mdp-db", MAC("02:6d:0a:01:00:03"), 1500, "mdb-one", "mdnp endpoint db")
ADDR = Addr("mdb-one", ip_interface("10.1.0.1/24"))
ADDR6 = Addr("mdb-one", ip_interface("fd00::1/64"))
RULES: tuple[Rule, ...] = (Accept(4, Way.IN, "mdb-+"), Accept(6, Way.OUT, "mdb-+"))
INET, BRIDGE_TABLE = TABLES
NAT = Element("inet", "nat4", ('"mdb-one"',))
GUARDED = Element("bridge", "guarded", ('"mdv-web"',))
PORT80 = Element("inet", "ports4", ("tcp", "8080"), ("10.1.0.2", "80"))


def adds(*objects: Object) -> list[Step]:
    """Each with an owner of its own: a failure of one is not the others'."""
    return [Add(one, Owner(f"{'.'.join(one.key)}")) for one in objects]


def deletes(*objects: Removable) -> list[Step]:
    return [Delete(one, NOBODY) for one in objects]


def shown(*objects: Seen, doomed: bool = False, chains: frozenset[Key] = CHAINS) -> Actual:
    return Actual({one.key: one for one in objects}, chains, doomed=doomed)


async def seen(kernel: Kernel) -> Actual:
    """Without settings, of which Linux has more than are ours, and without counts."""
    actual = await kernel.observe()
    objects = {key: one for key, one in actual.objects.items() if not isinstance(one, Sysctl)}
    return replace(actual, objects=objects, dropped={})


async def settings(kernel: Kernel, *names: str) -> list[str | None]:
    """Their values, None for what is not there."""
    objects = (await kernel.observe()).objects
    found = [objects.get(("sysctl", name)) for name in names]
    return [one.value if isinstance(one, Sysctl) else None for one in found]


async def taken(kernel: Kernel, steps: Sequence[Step]) -> None:
    assert await kernel.perform(steps) == ()


async def refused(kernel: Kernel, *steps: Step) -> list[tuple[Step, str]]:
    """The steps that failed, and the reasons without the step's own text, which stands before each."""
    failures = await kernel.perform(steps)
    assert all(str(one.error).startswith(f"{one.step}: ") for one in failures)
    return [(one.step, str(one.error).removeprefix(f"{one.step}: ")) for one in failures]


async def test_a_new_host_has_nothing_of_ours(kernel: Kernel) -> None:
    assert await seen(kernel) == shown()


async def test_what_was_added_is_seen_as_it_was_asked_for(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, SECOND, ADDR, ADDR6, *RULES, VETH, OTHER))

    found = await seen(kernel)

    links = BRIDGE.link(), SECOND.link(), VETH.link(), OTHER.link()
    assert found == shown(*links, ADDR, ADDR6, *RULES)
    assert [one.alias for one in found.objects.values() if isinstance(one, Link)] == [one.alias for one in links]


@pytest.mark.parametrize("mtu", [68, 1280, 1400, 9000, 65535])
async def test_links_have_the_mtu_that_was_asked_for(kernel: Kernel, mtu: int) -> None:
    bridge, veth = replace(BRIDGE, mtu=mtu), replace(VETH, mtu=mtu)

    await taken(kernel, adds(bridge, veth))

    assert await seen(kernel) == shown(bridge.link(), veth.link())


async def test_a_bridge_keeps_its_mtu_when_its_ports_come_and_go(kernel: Kernel) -> None:
    """Linux gives a bridge the least MTU of its ports, and 1500 without any, until somebody has set another."""
    bridge, veth = replace(BRIDGE, mtu=9000), replace(VETH, mtu=9000)
    await taken(kernel, adds(bridge, veth))

    await taken(kernel, [Doom(veth.link(), OWNER)])
    await kernel.reap()

    assert await seen(kernel) == shown(bridge.link())


async def test_adding_twice_is_done(kernel: Kernel) -> None:
    steps = adds(BRIDGE, ADDR, ADDR6, *RULES, VETH)
    await taken(kernel, steps)

    await taken(kernel, steps)

    assert await seen(kernel) == shown(BRIDGE.link(), ADDR, ADDR6, *RULES, VETH.link())


async def test_deleting_what_is_gone_is_done(kernel: Kernel) -> None:
    gone: list[Step] = [Delete(BRIDGE.link(), OWNER), *(Delete(one, OWNER) for one in RULES), Doom(VETH.link(), OWNER)]

    await taken(kernel, gone)
    await kernel.reap()

    assert await seen(kernel) == shown()


async def test_deleting_what_vanished_meanwhile_is_done(kernel: Kernel, ground: Ground) -> None:
    await taken(kernel, adds(BRIDGE, VETH))
    ground.vanish("mdv-web")
    ground.vanish("mdb-one")

    await taken(kernel, [Doom(VETH.link(), OWNER), Delete(BRIDGE.link(), OWNER)])

    assert await seen(kernel) == shown()


async def test_a_bridge_takes_its_addresses_with_it_and_frees_its_ports(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, ADDR, ADDR6, VETH))

    await taken(kernel, [Delete(BRIDGE.link(), OWNER)])

    assert await seen(kernel) == shown(replace(VETH.link(), master=None))


async def test_a_rule_is_removed_and_others_stay(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, SECOND, *RULES, Accept(4, Way.IN, "lab0")))

    await taken(kernel, [Delete(RULES[0], OWNER)])

    assert await seen(kernel) == shown(BRIDGE.link(), SECOND.link(), RULES[1], Accept(4, Way.IN, "lab0"))


async def test_a_doomed_veth_is_out_of_sight_at_once_and_gone_when_it_is_reaped(kernel: Kernel, ground: Ground) -> None:
    await taken(kernel, adds(BRIDGE, VETH, OTHER))

    await taken(kernel, [Doom(VETH.link(), OWNER)])
    doomed = await seen(kernel)
    there = ground.exists("mdv-web"), ground.exists("mdp-web")
    await kernel.reap()

    assert doomed == shown(BRIDGE.link(), OTHER.link(), doomed=True)
    assert there == (True, True)
    assert await seen(kernel) == shown(BRIDGE.link(), OTHER.link())
    assert [ground.exists(name) for name in ("mdv-web", "mdp-web", "mdp-db")] == [False, False, True]


async def test_all_the_doomed_are_reaped_together(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, VETH, OTHER))
    await taken(kernel, [Doom(VETH.link(), OWNER), Doom(OTHER.link(), OWNER)])

    await kernel.reap()

    assert await seen(kernel) == shown(BRIDGE.link())


async def test_reaping_nothing_is_done(kernel: Kernel) -> None:
    await kernel.reap()
    await kernel.reap()

    assert await seen(kernel) == shown()


async def test_a_veth_cannot_be_made_again_until_its_doomed_one_is_reaped(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, VETH))
    await taken(kernel, [Doom(VETH.link(), OWNER)])

    assert await refused(kernel, *adds(VETH)) != []
    await kernel.reap()
    await taken(kernel, adds(VETH))

    assert await seen(kernel) == shown(BRIDGE.link(), VETH.link())


async def test_a_link_is_set_to_what_it_should_be(kernel: Kernel) -> None:
    second = replace(SECOND, mtu=1400)
    await taken(kernel, adds(BRIDGE, second, VETH))
    bridge = replace(BRIDGE.link(), mac=MAC("02:6d:0a:01:00:fe"), mtu=1400)
    port = replace(VETH.link(), mtu=1400, master="lab0")

    await taken(kernel, [Set(bridge, BRIDGE.link(), OWNER), Set(port, VETH.link(), OWNER)])

    assert await seen(kernel) == shown(bridge, second.link(), port)


async def test_a_port_that_lost_its_bridge_is_set_on_it_again(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, VETH))
    await taken(kernel, [Delete(BRIDGE.link(), OWNER), *adds(BRIDGE)])

    await taken(kernel, [Set(VETH.link(), replace(VETH.link(), master=None), OWNER)])

    assert await seen(kernel) == shown(BRIDGE.link(), VETH.link())


async def test_a_link_is_set_free_of_a_master_that_it_should_not_have(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, VETH))
    free = replace(VETH.link(), master=None)

    await taken(kernel, [Set(free, VETH.link(), OWNER)])

    assert await seen(kernel) == shown(BRIDGE.link(), free)


async def test_a_link_that_vanished_cannot_be_set(kernel: Kernel) -> None:
    step = Set(BRIDGE.link(), replace(BRIDGE.link(), mtu=1400), OWNER)

    assert await refused(kernel, step) == [(step, "No such device")]


async def test_a_port_cannot_be_set_on_a_bridge_that_is_not_there(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, VETH))
    step = Set(replace(VETH.link(), master="lab0"), VETH.link(), OWNER)

    assert await refused(kernel, step) == [(step, "No such device")]
    assert await seen(kernel) == shown(BRIDGE.link(), VETH.link())


async def test_a_name_that_somebody_else_s_link_has_is_refused_with_what_to_do(kernel: Kernel, ground: Ground) -> None:
    ground.add_foreign("lab0")
    [step] = adds(SECOND)

    failures = await refused(kernel, step)

    assert failures == [(step, "a link lab0 exists that is not mdnp's: choose another name, or remove it")]
    assert ground.exists("lab0")
    assert await seen(kernel) == shown()


@pytest.mark.parametrize("taken_name", ["mdv-web", "mdp-web"])
async def test_a_veth_of_which_one_name_is_taken_is_refused_whole(
    kernel: Kernel, ground: Ground, taken_name: str
) -> None:
    await taken(kernel, adds(BRIDGE))
    ground.add_foreign(taken_name)

    assert len(await refused(kernel, *adds(VETH))) == 1

    there = [name for name in ("mdv-web", "mdp-web") if ground.exists(name)]
    assert (there, await seen(kernel)) == ([taken_name], shown(BRIDGE.link()))


async def test_a_link_of_another_s_that_took_the_name_of_ours_is_not_deleted(kernel: Kernel, ground: Ground) -> None:
    """An operator replaces our bridge by one of their own; later the network goes."""
    await taken(kernel, adds(SECOND))
    ground.vanish("lab0")
    ground.add_foreign("lab0")

    await taken(kernel, [Delete(SECOND.link(), OWNER)])

    assert ground.exists("lab0")


async def test_an_equal_name_with_other_content_is_refused(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, SECOND, VETH))
    steps = adds(replace(BRIDGE, mtu=1400), replace(VETH, bridge="lab0"), replace(OTHER, sandbox_end="mdp-web"))

    assert await refused(kernel, *steps) == [(step, "File exists") for step in steps]
    assert await seen(kernel) == shown(BRIDGE.link(), SECOND.link(), VETH.link())


async def test_a_veth_whose_bridge_is_missing_is_refused(kernel: Kernel, ground: Ground) -> None:
    [step] = adds(VETH)

    assert await refused(kernel, step) == [(step, "No such device")]
    assert (ground.exists("mdv-web"), ground.exists("mdp-web")) == (False, False)


async def test_an_address_whose_link_is_missing_is_refused(kernel: Kernel) -> None:
    steps = adds(ADDR, ADDR6)

    assert await refused(kernel, *steps) == [(step, "No such device") for step in steps]


@pytest.mark.parametrize("mtu", [0, 67, 65536])
async def test_an_mtu_that_no_link_can_have_is_refused_and_leaves_no_link(
    kernel: Kernel, ground: Ground, mtu: int
) -> None:
    await taken(kernel, adds(SECOND))
    steps = adds(replace(BRIDGE, mtu=mtu), replace(VETH, mtu=mtu, bridge="lab0"))

    failures = await refused(kernel, *steps)

    assert [step for step, _ in failures] == steps
    assert await seen(kernel) == shown(SECOND.link())
    assert [ground.exists(name) for name in ("mdb-one", "mdv-web", "mdp-web")] == [False] * 3


@pytest.mark.parametrize("mtu", [67, 65536])
async def test_an_mtu_that_no_link_can_have_cannot_be_set(kernel: Kernel, mtu: int) -> None:
    await taken(kernel, adds(BRIDGE))
    step = Set(replace(BRIDGE.link(), mtu=mtu), BRIDGE.link(), OWNER)

    failures = await refused(kernel, step)

    assert [one for one, _ in failures] == [step]
    assert await seen(kernel) == shown(BRIDGE.link())


@pytest.mark.parametrize(
    "wanted",
    [
        replace(BRIDGE, name="sixteen-letters!"),
        replace(VETH, host_end="sixteen-letters!"),
        replace(VETH, sandbox_end="sixteen-letters!"),
    ],
)
async def test_a_name_that_is_too_long_is_refused(kernel: Kernel, wanted: Bridge | Veth) -> None:
    await taken(kernel, adds(SECOND, BRIDGE))

    failures = await refused(kernel, *adds(wanted))

    assert [step for step, _ in failures] == adds(wanted)
    assert await seen(kernel) == shown(SECOND.link(), BRIDGE.link())


async def test_after_a_step_that_fails_the_others_are_taken(kernel: Kernel) -> None:
    failing = replace(SECOND, mtu=1)

    failures = await kernel.perform(adds(BRIDGE, failing, ADDR, replace(OTHER, bridge="lab0"), VETH))

    assert [one.step for one in failures] == adds(failing, replace(OTHER, bridge="lab0"))
    assert all(isinstance(one, Failure) for one in failures)
    assert await seen(kernel) == shown(BRIDGE.link(), ADDR, VETH.link())


@pytest.mark.parametrize(("family", "other"), [(4, 6), (6, 4)])
async def test_a_rule_without_its_chain_is_refused_and_the_chain_shows_as_missing(
    kernel: Kernel, ground: Ground, family: int, other: int
) -> None:
    lacking, having = (one for one in sorted(RULES, key=lambda one: one.family != family))
    ground.without_chain(lacking.family)

    failures = await refused(kernel, *adds(BRIDGE, lacking, having, Jump(lacking.family)))

    assert [step for step, _ in failures] == adds(lacking, Jump(lacking.family))
    assert "No chain/target/match by that name" in failures[0][1]
    assert await seen(kernel) == shown(BRIDGE.link(), having, chains=frozenset({having.chain}))
    assert having.family == other


async def test_rules_that_were_flushed_are_seen_as_gone(kernel: Kernel, ground: Ground) -> None:
    await taken(kernel, adds(BRIDGE, *RULES))

    ground.flush()

    assert await seen(kernel) == shown(BRIDGE.link())


async def test_links_of_others_are_not_seen(kernel: Kernel, ground: Ground) -> None:
    ground.add_foreign("mdb-notours")
    ground.add_foreign("mdv-notours")

    assert await seen(kernel) == shown()


async def test_a_chain_to_which_nobody_leads_traffic_is_told_and_our_jump_leads_there(
    kernel: Kernel, ground: Ground
) -> None:
    before = (await kernel.observe()).unreached
    ground.without_jump(6)
    without = (await kernel.observe()).unreached

    await taken(kernel, adds(Jump(6)))
    having = await kernel.observe()
    await taken(kernel, [Delete(Jump(6), OWNER)])

    assert (before, without) == (frozenset(), frozenset({forward_chain(6)}))
    assert (having.objects[Jump(6).key], having.unreached) == (Jump(6), without)  # Docker's own is still missing
    assert await seen(kernel) == replace(shown(), unreached=without)


@pytest.mark.parametrize("rule", [*RULES, Jump(4)])
async def test_a_rule_that_stands_twice_is_seen_so_and_added_it_stands_once(
    kernel: Kernel, ground: Ground, rule: Rule
) -> None:
    await taken(kernel, adds(rule))
    ground.duplicate(rule)
    twice = await seen(kernel)

    await taken(kernel, adds(rule))

    assert twice == shown(replace(rule, copies=2))
    assert await seen(kernel) == shown(rule)


# A failure is its owner's.


async def test_the_rest_of_an_owner_s_steps_is_not_taken_after_one_that_fails(kernel: Kernel) -> None:
    """It stands on what is not there. Its failure is that of the first."""
    first, *others = [Add(one, OWNER) for one in (VETH, SECOND, *RULES)]
    alone = Add(BRIDGE, OTHER_OWNER)

    failures = await kernel.perform([first, others[0], alone, *others[1:]])

    assert [one.step for one in failures] == [first, *others]
    assert {str(one.error) for one in failures} == {f"{first}: No such device"}
    assert await seen(kernel) == shown(BRIDGE.link())


async def test_of_one_transaction_the_rest_of_an_owner_s_steps_is_not_taken_either(kernel: Kernel) -> None:
    await taken(kernel, adds(INET, PORT80))
    wrong = Add(replace(PORT80, value=("10.1.0.66", "80")), OWNER)
    other = Element("inet", "bridges", ('"mdb-one"',))
    rest = Add(NAT, OWNER)

    failures = await kernel.perform([wrong, rest, Add(other, OTHER_OWNER)])

    assert [one.step for one in failures] == [wrong, rest]
    assert await seen(kernel) == shown(INET, PORT80, other)


async def test_what_nobody_owns_does_not_stand_on_each_other(kernel: Kernel) -> None:
    steps = [Add(one, NOBODY) for one in (VETH, BRIDGE, ADDR)]

    failures = await kernel.perform(steps)

    assert [one.step for one in failures] == steps[:1]
    assert await seen(kernel) == shown(BRIDGE.link(), ADDR)


async def test_ports_of_an_owner_are_held_though_another_of_its_steps_failed(kernel: Kernel, ground: Ground) -> None:
    """A port that is taken says nothing of the others."""
    ground.take_port(a_socket(ANY4, 8080))
    ports = [HostPort(a_socket(ANY4, number)) for number in (8080, 8081, 8082)]
    await taken(kernel, adds(INET))

    failures = await kernel.perform([*(Add(one, OWNER) for one in ports), Add(PORT80, OWNER)])

    assert [one.step.object for one in failures] == [ports[0], PORT80]  # type: ignore[union-attr]
    assert await seen(kernel) == shown(INET, *ports[1:])


# Hairpin.


HAIRPIN = replace(VETH, hairpin=True)


async def test_a_veth_is_made_with_hairpin_and_set_with_and_without(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, HAIRPIN, OTHER))
    made = await seen(kernel)

    await taken(kernel, [Set(VETH.link(), HAIRPIN.link(), OWNER)])
    await taken(kernel, [Set(replace(OTHER.link(), hairpin=True), OTHER.link(), OWNER)])

    assert made == shown(BRIDGE.link(), HAIRPIN.link(), OTHER.link())
    assert await seen(kernel) == shown(BRIDGE.link(), VETH.link(), replace(OTHER.link(), hairpin=True))


async def test_a_port_with_hairpin_that_lost_its_bridge_is_set_on_it_again(kernel: Kernel, ground: Ground) -> None:
    await taken(kernel, adds(BRIDGE, HAIRPIN))
    ground.vanish("mdb-one")
    lost = (await kernel.observe()).objects[HAIRPIN.key]
    assert isinstance(lost, Link)

    await taken(kernel, [*adds(BRIDGE), Set(HAIRPIN.link(), lost, OWNER)])

    assert await seen(kernel) == shown(BRIDGE.link(), HAIRPIN.link())


async def test_a_port_with_hairpin_is_set_on_another_bridge(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, SECOND, HAIRPIN))
    moved = replace(HAIRPIN.link(), master="lab0")

    await taken(kernel, [Set(moved, HAIRPIN.link(), OWNER)])

    assert await seen(kernel) == shown(BRIDGE.link(), SECOND.link(), moved)


# Tables and elements.


ALLOWED = ("10.9.0.9/32", "10.9.8.0/24", "fd09::9/128", "fd09:8::/64")
DUAL = ("10.1.0.0/24 10.1.0.1/24", "fd00::/64 fd00::1/64", "10.2.0.9/32", "fd01::/128")
PORTS = [
    Publication(a_port(80, 8080), 8080),
    Publication(a_port(53, 53, protocol=Protocol.UDP, address="192.0.2.1"), 53),
    Publication(a_port(9, 99, protocol=Protocol.SCTP, address="2001:db8::1"), 99),
]


def everything() -> list[Element]:
    """What stands in each set and map of ours: of a network with a way out, a routed one and one that is closed."""
    plain, shut = NetworkOptions(), NetworkOptions(gateway=GatewayMode.NONE, icc=False)
    routed = NetworkOptions(routing_ipv4=Routing.ROUTED, routing_ipv6=Routing.ROUTED, bridge_name="a.dotted.name")
    endpoint = an_endpoint(WEB, "10.1.0.2/24", "fd00::2/64", allowed=ALLOWED, ports=PORTS)
    kinds = [
        (plain, NET, endpoint),
        (shut, "b2" * 32, replace(an_endpoint("d4" * 32), addresses=())),
        (routed, "e5" * 32, endpoint),
    ]
    plan: list[Object] = []
    for options, identity, one in kinds:
        network = a_network(identity, *DUAL, options=options)
        plan += [*plan_host([network], ["br0"], []), *plan_network(network), *plan_endpoint(network, one)]
    plan += annexes.plan_network(replace(a_network(), annexes=1))
    shared = an_overlay(options=NetworkOptions(mode=Mode.OVERLAY, icc=False))
    members = ip_address("192.0.2.2"), ip_address("2001:db8::2")
    plan += overlay.plan_network(shared, Underlay(ip_address("192.0.2.1"), 4789, members))
    plan += overlay.plan_endpoint(shared, endpoint)
    return list(dict.fromkeys(one for one in plan if isinstance(one, Element)))


async def test_every_kind_of_element_is_seen_as_it_was_asked_for_and_goes(kernel: Kernel) -> None:
    elements = everything()
    await taken(kernel, adds(*TABLES, *elements))
    having = await seen(kernel)

    await taken(kernel, [Delete(one, OWNER) for one in elements])

    sets = {(table.family, name) for table in TABLES for name in _declared(table)}
    assert {(one.family, one.set) for one in elements} == sets
    assert having == shown(*TABLES, *elements)
    assert await seen(kernel) == shown(*TABLES)


def _declared(table: Table) -> list[str]:
    words = table.text.split()
    return [
        words[number + 1] for number, word in enumerate(words) if word in ("set", "map") and words[number + 2] == "{"
    ]


async def test_adding_tables_and_elements_twice_is_done(kernel: Kernel) -> None:
    steps = adds(*TABLES, NAT, PORT80, GUARDED)
    await taken(kernel, steps)

    await taken(kernel, steps)

    assert await seen(kernel) == shown(*TABLES, NAT, PORT80, GUARDED)


async def test_deleting_tables_and_elements_that_are_gone_is_done(kernel: Kernel, ground: Ground) -> None:
    gone = [*deletes(NAT, PORT80, GUARDED), *deletes(*TABLES)]
    await taken(kernel, gone)
    await taken(kernel, adds(*TABLES, NAT, PORT80))
    ground.flush_ruleset()

    await taken(kernel, gone)

    assert await seen(kernel) == shown()


async def test_of_elements_that_go_together_some_may_be_gone_already(kernel: Kernel) -> None:
    others = [Element("inet", "nat4", (f'"mdb-{number}"',)) for number in range(3)]
    await taken(kernel, adds(INET, *others))

    await taken(kernel, [Delete(one, NOBODY) for one in (others[0], NAT, others[1], PORT80)])

    assert await seen(kernel) == shown(INET, others[2])


async def test_a_table_takes_its_elements_with_it_and_not_another_s(kernel: Kernel) -> None:
    await taken(kernel, adds(*TABLES, NAT, PORT80, GUARDED))

    await taken(kernel, [Delete(INET, OWNER)])

    assert await seen(kernel) == shown(BRIDGE_TABLE, GUARDED)


async def test_elements_and_their_table_go_together(kernel: Kernel) -> None:
    await taken(kernel, adds(*TABLES, NAT, GUARDED))

    await taken(kernel, [*deletes(NAT, GUARDED), *deletes(*TABLES)])

    assert await seen(kernel) == shown()


async def test_a_flushed_ruleset_is_seen_as_gone_and_made_again(kernel: Kernel, ground: Ground) -> None:
    steps = adds(*TABLES, *RULES, NAT, PORT80)
    await taken(kernel, steps)

    ground.flush_ruleset()
    gone = await seen(kernel)
    await taken(kernel, steps)

    assert gone == shown(*RULES)
    assert await seen(kernel) == shown(*TABLES, *RULES, NAT, PORT80)


async def test_an_element_without_its_table_is_refused(kernel: Kernel) -> None:
    [step] = adds(NAT)

    [(failed, words)] = await refused(kernel, step)

    assert (failed, "No such file or directory" in words) == (step, True)
    assert await seen(kernel) == shown()


async def test_a_map_s_element_that_leads_elsewhere_is_refused_until_the_other_is_gone(kernel: Kernel) -> None:
    await taken(kernel, adds(INET, PORT80))
    changed = replace(PORT80, value=("10.1.0.3", "80"))

    [(failed, words)] = await refused(kernel, Add(changed, OWNER))
    before = await seen(kernel)
    await taken(kernel, [Delete(PORT80, OWNER), Add(changed, OWNER)])

    assert (failed, "File exists" in words) == (Add(changed, OWNER), True)
    assert before == shown(INET, PORT80)
    assert await seen(kernel) == shown(INET, changed)


async def test_of_steps_that_stand_together_those_of_others_are_taken_though_one_fails(kernel: Kernel) -> None:
    await taken(kernel, adds(INET, PORT80))
    wrong = replace(PORT80, value=("10.1.0.3", "80"))
    other = Element("inet", "bridges", ('"mdb-one"',))

    failures = await refused(kernel, *adds(NAT, wrong, other))

    assert [step for step, _ in failures] == adds(wrong)
    assert await seen(kernel) == shown(INET, PORT80, NAT, other)


@pytest.mark.parametrize("table", TABLES, ids=str)
async def test_a_table_that_somebody_changed_is_seen_so_and_added_is_as_it_was(
    kernel: Kernel, ground: Ground, table: Table
) -> None:
    await taken(kernel, adds(*TABLES, NAT, PORT80, GUARDED))
    ground.change_table(table)
    changed = await seen(kernel)

    await taken(kernel, adds(table))

    others = [one for one in TABLES if one != table]
    assert changed == shown(replace(table, text=""), *others, NAT, PORT80, GUARDED)
    assert await seen(kernel) == shown(*TABLES, NAT, PORT80, GUARDED)


# Settings.


@pytest.mark.parametrize("name", FORWARDING.values())
async def test_whether_the_host_forwards_is_seen_and_set(kernel: Kernel, ground: Ground, name: str) -> None:
    ground.set(name, "0")
    before = await settings(kernel, name)

    await taken(kernel, adds(Sysctl(name, "1")))
    await taken(kernel, adds(Sysctl(name, "1")))
    after = await settings(kernel, name)
    ground.set(name, "0")

    assert (before, after, await settings(kernel, name)) == (["0"], ["1"], ["0"])


@pytest.mark.parametrize("bridge", [BRIDGE, replace(SECOND, name="a.dotted.name")])
async def test_settings_of_a_bridge_are_set_and_go_with_it(kernel: Kernel, bridge: Bridge) -> None:
    wanted = [
        Sysctl(f"net/ipv4/conf/{bridge.name}/route_localnet", "1"),
        Sysctl(f"net/ipv6/conf/{bridge.name}/accept_ra", "0"),
        Sysctl(f"net/ipv6/conf/{bridge.name}/accept_dad", "0"),
    ]
    names = [one.name for one in wanted]
    await taken(kernel, adds(bridge, *wanted))
    having = await settings(kernel, *names)

    await taken(kernel, [Delete(bridge.link(), OWNER)])

    assert (having, await settings(kernel, *names)) == (["1", "0", "0"], [None] * 3)


async def test_a_setting_of_a_link_that_is_not_there_is_refused(kernel: Kernel) -> None:
    [step] = adds(Sysctl("net/ipv4/conf/mdb-one/route_localnet", "1"))

    assert await refused(kernel, step) == [
        (step, "/proc/sys/net/ipv4/conf/mdb-one/route_localnet: No such file or directory")
    ]


# Ports.


NOWHERE = Target(ip_address("127.0.0.1"), 9)
HELD = [
    HostPort(a_socket(ANY4, 8080)),
    HostPort(a_socket(ANY6, 8080), NOWHERE),
    HostPort(a_socket("127.0.0.1", 53, Protocol.UDP)),
    HostPort(a_socket("::1", 53, Protocol.UDP), NOWHERE),
]


async def test_ports_are_held_twice_as_once_and_seen_until_they_are_let_go(kernel: Kernel) -> None:
    await taken(kernel, adds(*HELD))
    await taken(kernel, adds(*HELD))
    having = await seen(kernel)

    await taken(kernel, [Delete(one, OWNER) for one in HELD[:3]])

    assert having == shown(*HELD)
    assert await seen(kernel) == shown(HELD[3])


async def test_to_let_go_of_what_is_not_held_is_done(kernel: Kernel) -> None:
    await taken(kernel, [Delete(one, OWNER) for one in HELD])

    assert await seen(kernel) == shown()


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
@pytest.mark.parametrize(
    ("theirs", "ours"), [(ANY4, ANY4), ("127.0.0.1", ANY4), (ANY4, "127.0.0.1"), (ANY6, "::1"), ("::1", ANY6)]
)
async def test_a_port_of_another_process_s_is_in_use(
    kernel: Kernel, ground: Ground, theirs: str, ours: str, protocol: Protocol
) -> None:
    ground.take_port(a_socket(theirs, 8080, protocol))
    wanted = a_socket(ours, 8080, protocol)

    [failure] = await kernel.perform(adds(HostPort(wanted)))

    assert isinstance(failure.error, InUse)
    assert str(failure.error).startswith(f"{wanted} is in use by another process")
    assert await seen(kernel) == shown()


ADDRESSES = [ANY4, "127.0.0.1", "127.0.0.2", ANY6, "::1"]


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
@pytest.mark.parametrize("first", ADDRESSES)
async def test_two_ports_of_ours_are_held_unless_they_clash(kernel: Kernel, first: str, protocol: Protocol) -> None:
    held = a_socket(first, 8080, protocol)
    await taken(kernel, adds(HostPort(held)))
    others: list[HostSocket] = [
        a_socket(address, port, kind)
        for address in ADDRESSES
        for port, kind in ((8080, Protocol.TCP), (8080, Protocol.UDP), (8081, protocol))
    ]

    for other in others:
        failures = await kernel.perform(adds(HostPort(other)))
        assert bool(failures) is (other.clashes(held) and other != held), other
        assert all(isinstance(one.error, InUse) for one in failures)
        if other != held:
            await taken(kernel, [Delete(HostPort(other), OWNER)])

    assert await seen(kernel) == shown(HostPort(held))


async def test_a_port_that_was_let_go_is_free_at_once(kernel: Kernel, ground: Ground) -> None:
    await taken(kernel, adds(*HELD))
    await taken(kernel, [Delete(one, OWNER) for one in HELD])

    for one in HELD:
        ground.take_port(one.socket)

    assert {type(failure.error) for failure in await kernel.perform(adds(*HELD))} == {InUse}


async def test_a_port_that_is_carried_elsewhere_is_another(kernel: Kernel) -> None:
    """It is let go first."""
    await taken(kernel, adds(HELD[1]))
    elsewhere = replace(HELD[1], proxy=replace(NOWHERE, port=10))

    failures = await kernel.perform(adds(elsewhere))
    await taken(kernel, [Delete(HELD[1], OWNER), *adds(elsewhere)])

    assert [type(one.error) for one in failures] == [InUse]
    assert await seen(kernel) == shown(elsewhere)


async def test_the_host_s_local_ports_are_told(kernel: Kernel) -> None:
    ports = await kernel.local_ports()

    assert 1 <= ports.start < ports.stop <= 65536
    assert ports.step == 1


# Traffic.


async def test_traffic_is_told_of_host_ends_and_of_no_other_link(kernel: Kernel, ground: Ground) -> None:
    ground.add_foreign("mdv-foreign")
    await taken(kernel, adds(BRIDGE, VETH, OTHER))

    told = await kernel.traffic()

    assert sorted(told) == ["mdv-db", "mdv-web"]


async def test_traffic_of_a_veth_that_is_dying_is_nobody_s(kernel: Kernel) -> None:
    await taken(kernel, [*adds(BRIDGE, VETH, OTHER), Doom(VETH.link(), NOBODY)])

    assert list(await kernel.traffic()) == ["mdv-db"]
