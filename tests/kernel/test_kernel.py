"""The contract of the kernel room, kept by the kernel in memory and by Linux alike."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_interface

import pytest

from mdnp.dataplane.objects import Accept, Addr, Bridge, Key, Link, Veth
from mdnp.dataplane.steps import Add, Delete, Doom, Owner, Set, Step
from mdnp.kernel import Actual, Failure, Kernel, Seen
from mdnp.model.mac import MAC
from tests.kernel.grounds import Ground

OWNER = Owner("a1" * 32)
CHAINS = frozenset({Accept(4, "").chain, Accept(6, "").chain})

BRIDGE = Bridge("mdb-one", MAC("02:6d:0a:01:00:01"), 1500, "mdnp network one")
SECOND = Bridge("lab0", MAC("02:6d:0a:02:00:01"), 1500, "mdnp network two")
VETH = Veth("mdv-web", "mdp-web", MAC("02:6d:0a:01:00:02"), 1500, "mdb-one", "mdnp endpoint web")
OTHER = Veth("mdv-db", "mdp-db", MAC("02:6d:0a:01:00:03"), 1500, "mdb-one", "mdnp endpoint db")
ADDR = Addr("mdb-one", ip_interface("10.1.0.1/24"))
ADDR6 = Addr("mdb-one", ip_interface("fd00::1/64"))
RULES = Accept(4, "mdb-one"), Accept(6, "mdb-one")


def adds(*objects: Bridge | Veth | Addr | Accept) -> list[Step]:
    return [Add(one, OWNER) for one in objects]


def shown(*objects: Seen, doomed: bool = False, chains: frozenset[Key] = CHAINS) -> Actual:
    return Actual({one.key: one for one in objects}, chains, doomed)


async def taken(kernel: Kernel, steps: Sequence[Step]) -> None:
    assert await kernel.perform(steps) == ()


async def refused(kernel: Kernel, *steps: Step) -> list[tuple[Step, str]]:
    """The steps that failed, and the reasons without the step's own text, which stands before each."""
    failures = await kernel.perform(steps)
    assert all(str(one.error).startswith(f"{one.step}: ") for one in failures)
    return [(one.step, str(one.error).removeprefix(f"{one.step}: ")) for one in failures]


async def test_a_new_host_has_nothing_of_ours(kernel: Kernel) -> None:
    assert await kernel.observe() == shown()


async def test_what_was_added_is_seen_as_it_was_asked_for(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, SECOND, ADDR, ADDR6, *RULES, VETH, OTHER))

    seen = await kernel.observe()

    links = BRIDGE.link(), SECOND.link(), VETH.link(), OTHER.link()
    assert seen == shown(*links, ADDR, ADDR6, *RULES)
    assert [one.alias for one in seen.objects.values() if isinstance(one, Link)] == [one.alias for one in links]


@pytest.mark.parametrize("mtu", [68, 1280, 1400, 9000, 65535])
async def test_links_have_the_mtu_that_was_asked_for(kernel: Kernel, mtu: int) -> None:
    bridge, veth = replace(BRIDGE, mtu=mtu), replace(VETH, mtu=mtu)

    await taken(kernel, adds(bridge, veth))

    assert await kernel.observe() == shown(bridge.link(), veth.link())


async def test_a_bridge_keeps_its_mtu_when_its_ports_come_and_go(kernel: Kernel) -> None:
    """Linux gives a bridge the least MTU of its ports, and 1500 without any, until somebody has set another."""
    bridge, veth = replace(BRIDGE, mtu=9000), replace(VETH, mtu=9000)
    await taken(kernel, adds(bridge, veth))

    await taken(kernel, [Doom(veth.link(), OWNER)])
    await kernel.reap()

    assert await kernel.observe() == shown(bridge.link())


async def test_adding_twice_is_done(kernel: Kernel) -> None:
    steps = adds(BRIDGE, ADDR, ADDR6, *RULES, VETH)
    await taken(kernel, steps)

    await taken(kernel, steps)

    assert await kernel.observe() == shown(BRIDGE.link(), ADDR, ADDR6, *RULES, VETH.link())


async def test_deleting_what_is_gone_is_done(kernel: Kernel) -> None:
    gone: list[Step] = [Delete(BRIDGE.link(), OWNER), *(Delete(one, OWNER) for one in RULES), Doom(VETH.link(), OWNER)]

    await taken(kernel, gone)
    await kernel.reap()

    assert await kernel.observe() == shown()


async def test_deleting_what_vanished_meanwhile_is_done(kernel: Kernel, ground: Ground) -> None:
    await taken(kernel, adds(BRIDGE, VETH))
    ground.vanish("mdv-web")
    ground.vanish("mdb-one")

    await taken(kernel, [Doom(VETH.link(), OWNER), Delete(BRIDGE.link(), OWNER)])

    assert await kernel.observe() == shown()


async def test_a_bridge_takes_its_addresses_with_it_and_frees_its_ports(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, ADDR, ADDR6, VETH))

    await taken(kernel, [Delete(BRIDGE.link(), OWNER)])

    assert await kernel.observe() == shown(replace(VETH.link(), master=None))


async def test_a_rule_is_removed_and_others_stay(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, SECOND, *RULES, Accept(4, "lab0")))

    await taken(kernel, [Delete(RULES[0], OWNER)])

    assert await kernel.observe() == shown(BRIDGE.link(), SECOND.link(), RULES[1], Accept(4, "lab0"))


async def test_a_doomed_veth_is_out_of_sight_at_once_and_gone_when_it_is_reaped(kernel: Kernel, ground: Ground) -> None:
    await taken(kernel, adds(BRIDGE, VETH, OTHER))

    await taken(kernel, [Doom(VETH.link(), OWNER)])
    doomed = await kernel.observe()
    there = ground.exists("mdv-web"), ground.exists("mdp-web")
    await kernel.reap()

    assert doomed == shown(BRIDGE.link(), OTHER.link(), doomed=True)
    assert there == (True, True)
    assert await kernel.observe() == shown(BRIDGE.link(), OTHER.link())
    assert [ground.exists(name) for name in ("mdv-web", "mdp-web", "mdp-db")] == [False, False, True]


async def test_all_the_doomed_are_reaped_together(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, VETH, OTHER))
    await taken(kernel, [Doom(VETH.link(), OWNER), Doom(OTHER.link(), OWNER)])

    await kernel.reap()

    assert await kernel.observe() == shown(BRIDGE.link())


async def test_reaping_nothing_is_done(kernel: Kernel) -> None:
    await kernel.reap()
    await kernel.reap()

    assert await kernel.observe() == shown()


async def test_a_veth_cannot_be_made_again_until_its_doomed_one_is_reaped(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, VETH))
    await taken(kernel, [Doom(VETH.link(), OWNER)])

    assert await refused(kernel, *adds(VETH)) != []
    await kernel.reap()
    await taken(kernel, adds(VETH))

    assert await kernel.observe() == shown(BRIDGE.link(), VETH.link())


async def test_a_link_is_set_to_what_it_should_be(kernel: Kernel) -> None:
    second = replace(SECOND, mtu=1400)
    await taken(kernel, adds(BRIDGE, second, VETH))
    bridge = replace(BRIDGE.link(), mac=MAC("02:6d:0a:01:00:fe"), mtu=1400)
    port = replace(VETH.link(), mtu=1400, master="lab0")

    await taken(kernel, [Set(bridge, BRIDGE.link(), OWNER), Set(port, VETH.link(), OWNER)])

    assert await kernel.observe() == shown(bridge, second.link(), port)


async def test_a_port_that_lost_its_bridge_is_set_on_it_again(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, VETH))
    await taken(kernel, [Delete(BRIDGE.link(), OWNER), *adds(BRIDGE)])

    await taken(kernel, [Set(VETH.link(), replace(VETH.link(), master=None), OWNER)])

    assert await kernel.observe() == shown(BRIDGE.link(), VETH.link())


async def test_a_link_is_set_free_of_a_master_that_it_should_not_have(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, VETH))
    free = replace(VETH.link(), master=None)

    await taken(kernel, [Set(free, VETH.link(), OWNER)])

    assert await kernel.observe() == shown(BRIDGE.link(), free)


async def test_a_link_that_vanished_cannot_be_set(kernel: Kernel) -> None:
    step = Set(BRIDGE.link(), replace(BRIDGE.link(), mtu=1400), OWNER)

    assert await refused(kernel, step) == [(step, "No such device")]


async def test_a_port_cannot_be_set_on_a_bridge_that_is_not_there(kernel: Kernel) -> None:
    await taken(kernel, adds(BRIDGE, VETH))
    step = Set(replace(VETH.link(), master="lab0"), VETH.link(), OWNER)

    assert await refused(kernel, step) == [(step, "No such device")]
    assert await kernel.observe() == shown(BRIDGE.link(), VETH.link())


async def test_a_name_that_somebody_else_s_link_has_is_refused_with_what_to_do(kernel: Kernel, ground: Ground) -> None:
    ground.add_foreign("lab0")
    [step] = adds(SECOND)

    failures = await refused(kernel, step)

    assert failures == [(step, "a link lab0 exists that is not mdnp's: choose another name, or remove it")]
    assert ground.exists("lab0")
    assert await kernel.observe() == shown()


@pytest.mark.parametrize("taken_name", ["mdv-web", "mdp-web"])
async def test_a_veth_of_which_one_name_is_taken_is_refused_whole(
    kernel: Kernel, ground: Ground, taken_name: str
) -> None:
    await taken(kernel, adds(BRIDGE))
    ground.add_foreign(taken_name)

    assert len(await refused(kernel, *adds(VETH))) == 1

    there = [name for name in ("mdv-web", "mdp-web") if ground.exists(name)]
    assert (there, await kernel.observe()) == ([taken_name], shown(BRIDGE.link()))


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
    assert await kernel.observe() == shown(BRIDGE.link(), SECOND.link(), VETH.link())


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
    assert await kernel.observe() == shown(SECOND.link())
    assert [ground.exists(name) for name in ("mdb-one", "mdv-web", "mdp-web")] == [False] * 3


@pytest.mark.parametrize("mtu", [67, 65536])
async def test_an_mtu_that_no_link_can_have_cannot_be_set(kernel: Kernel, mtu: int) -> None:
    await taken(kernel, adds(BRIDGE))
    step = Set(replace(BRIDGE.link(), mtu=mtu), BRIDGE.link(), OWNER)

    failures = await refused(kernel, step)

    assert [one for one, _ in failures] == [step]
    assert await kernel.observe() == shown(BRIDGE.link())


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
    assert await kernel.observe() == shown(SECOND.link(), BRIDGE.link())


async def test_after_a_step_that_fails_the_others_are_taken(kernel: Kernel) -> None:
    failing = replace(SECOND, mtu=1)

    failures = await kernel.perform(adds(BRIDGE, failing, ADDR, replace(OTHER, bridge="lab0"), VETH))

    assert [one.step for one in failures] == adds(failing, replace(OTHER, bridge="lab0"))
    assert all(isinstance(one, Failure) for one in failures)
    assert await kernel.observe() == shown(BRIDGE.link(), ADDR, VETH.link())


@pytest.mark.parametrize(("family", "other"), [(4, 6), (6, 4)])
async def test_a_rule_without_its_chain_is_refused_and_the_chain_shows_as_missing(
    kernel: Kernel, ground: Ground, family: int, other: int
) -> None:
    lacking, having = (one for one in sorted(RULES, key=lambda one: one.family != family))
    ground.without_chain(lacking.family)

    failures = await refused(kernel, *adds(BRIDGE, lacking, having))

    assert [step for step, _ in failures] == adds(lacking)
    assert "No chain/target/match by that name" in failures[0][1]
    assert await kernel.observe() == shown(BRIDGE.link(), having, chains=frozenset({having.chain}))
    assert having.family == other


async def test_rules_that_were_flushed_are_seen_as_gone(kernel: Kernel, ground: Ground) -> None:
    await taken(kernel, adds(BRIDGE, *RULES))

    ground.flush()

    assert await kernel.observe() == shown(BRIDGE.link())


async def test_links_of_others_are_not_seen(kernel: Kernel, ground: Ground) -> None:
    ground.add_foreign("mdb-notours")
    ground.add_foreign("mdv-notours")

    assert await kernel.observe() == shown()
