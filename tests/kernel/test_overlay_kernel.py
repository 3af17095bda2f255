"""The contract of the kernel room for what overlays need, kept by the kernel in memory and by Linux alike."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from mdnp.dataplane.objects import (
    Addr,
    Bridge,
    Fdb,
    Link,
    Lookup,
    Neigh,
    Object,
    Peer,
    PoolRoute,
    PortFlags,
    Tunnel,
    Veth,
    Vxlan,
)
from mdnp.dataplane.rows import EVERYBODY
from mdnp.dataplane.steps import Add, Delete, Owner, Removable, Set, Step
from mdnp.kernel import Kernel
from mdnp.model.errors import InUse
from mdnp.model.mac import MAC
from mdnp.model.port import HostSocket, Protocol
from tests.kernel.grounds import Ground
from tests.kernel.test_kernel import OWNER, adds, deletes, refused, seen, shown, taken

VTEP, OTHER_VTEP = ip_address("192.0.2.2"), ip_address("192.0.2.3")
MACS = [MAC(f"02:6d:0a:32:00:0{number}") for number in range(1, 6)]
MDB = Bridge("mdb-one", MACS[0], 1450, "mdnp network one")
MDX = Vxlan("mdx-one", Tunnel(7143425, ip_address("192.0.2.1"), 4789), 1450, "mdb-one", "mdnp tunnel", PortFlags())
MDX6 = replace(MDX, tunnel=Tunnel(7143426, ip_address("2001:db8::1"), 4444))
MDI = Veth("mdi-one", "mdh-one", MACS[1], 1450, "mdb-one", "mdnp host")
MDH = Peer("mdh-one", MACS[1], 1450, "mdnp host")
OWN = Addr("mdh-one", ip_interface("10.50.0.20/32")), Addr("mdh-one", ip_interface("fd50::14/128"))
ROUTES = (
    PoolRoute(ip_network("10.50.0.0/16"), "mdh-one", OWN[0].address.ip),
    PoolRoute(ip_network("fd50::/64"), "mdh-one", OWN[1].address.ip),
)
RULES = Lookup(4), Lookup(6)
ALL = Fdb("mdx-one", EVERYBODY, VTEP), Fdb("mdx-one", EVERYBODY, OTHER_VTEP)
SELF, MASTER = Fdb("mdx-one", MACS[2], VTEP), Fdb("mdx-one", MACS[2])
NEIGHS = Neigh("mdb-one", ip_address("10.50.1.2"), MACS[2]), Neigh("mdb-one", ip_address("fd50::1:2"), MACS[2])
ROWS = (SELF, MASTER, *NEIGHS)
EVERYTHING: tuple[Object, ...] = (MDB, MDX, MDI, MDH, *OWN, *RULES, *ROUTES, *ALL, *ROWS)
LINKS = MDB.link(), MDX.link(), MDI.link(), MDH.link()


async def test_what_was_added_is_seen_as_it_was_asked_for(kernel: Kernel) -> None:
    await taken(kernel, adds(*EVERYTHING))

    found = await seen(kernel)

    assert found == shown(*LINKS, *OWN, *RULES, *ROUTES, *ALL, *ROWS)
    aliases = {one.name: one.alias for one in found.objects.values() if isinstance(one, Link)}
    assert aliases == {one.name: one.alias for one in LINKS}


async def test_a_tunnel_may_be_over_ipv6(kernel: Kernel) -> None:
    vtep = ip_address("2001:db8::2")
    rows = replace(SELF, vtep=vtep), MASTER, Fdb("mdx-one", EVERYBODY, vtep)

    await taken(kernel, adds(MDB, MDX6, *rows))

    assert await seen(kernel) == shown(MDB.link(), MDX6.link(), *rows)


async def test_adding_twice_is_done(kernel: Kernel) -> None:
    await taken(kernel, adds(*EVERYTHING))

    await taken(kernel, adds(*EVERYTHING))

    assert await seen(kernel) == shown(*LINKS, *OWN, *RULES, *ROUTES, *ALL, *ROWS)


GONE: tuple[Removable, ...] = (*RULES, *ROUTES, *ALL, *ROWS)


@pytest.mark.parametrize("there", [[], [MDB, MDX, MDI, MDH], [MDB, replace(MDX, bridge="lab0")]])
async def test_deleting_what_is_gone_is_done(kernel: Kernel, there: list[Object]) -> None:
    """Its link is gone too, or stands, or is on another bridge."""
    lab = replace(MDB, name="lab0")
    await taken(kernel, adds(lab, *there))
    before = await seen(kernel)

    await taken(kernel, deletes(*GONE))

    assert await seen(kernel) == before


async def test_what_is_deleted_goes_and_the_rest_stays(kernel: Kernel) -> None:
    await taken(kernel, adds(*EVERYTHING))

    await taken(kernel, deletes(RULES[0], ROUTES[0], ALL[0], SELF, NEIGHS[0]))
    first = await seen(kernel)
    await taken(kernel, deletes(RULES[1], ROUTES[1], ALL[1], MASTER, NEIGHS[1]))

    assert first == shown(*LINKS, *OWN, RULES[1], ROUTES[1], ALL[1], MASTER, NEIGHS[1])
    assert await seen(kernel) == shown(*LINKS, *OWN)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SELF, replace(SELF, vtep=OTHER_VTEP)),
        (NEIGHS[0], replace(NEIGHS[0], mac=MACS[3])),
        (NEIGHS[1], replace(NEIGHS[1], mac=MACS[3])),
    ],
    ids=["self", "neigh", "neigh6"],
)
async def test_a_row_takes_the_place_of_another(kernel: Kernel, before: Object, after: Object) -> None:
    await taken(kernel, adds(MDB, MDX, before))

    await taken(kernel, adds(after))

    assert await seen(kernel) == shown(MDB.link(), MDX.link(), after)  # type: ignore[arg-type]  # rows


@pytest.mark.parametrize("version", [4, 6])
async def test_a_route_takes_the_place_of_another(kernel: Kernel, version: int) -> None:
    own = Addr("mdh-one", ip_interface("10.50.0.21/32" if version == 4 else "fd50::15/128"))
    route = next(one for one in ROUTES if one.to.version == version)
    await taken(kernel, adds(MDB, MDI, MDH, *OWN, own, route))
    after = replace(route, source=own.address.ip)

    await taken(kernel, adds(after))

    assert await seen(kernel) == shown(MDB.link(), MDI.link(), MDH.link(), *OWN, own, after)


@pytest.mark.parametrize("flag", ["learning", "flood", "mcast_flood", "bcast_flood", "neigh_suppress"])
async def test_each_flag_of_a_tunnel_s_port_is_set_and_seen(kernel: Kernel, flag: str) -> None:
    await taken(kernel, adds(MDB, MDX))
    changed = replace(MDX.link(), flags=replace(PortFlags(), **{flag: not getattr(PortFlags(), flag)}))

    await taken(kernel, [Set(changed, MDX.link(), OWNER)])
    there = await seen(kernel)
    await taken(kernel, [Set(MDX.link(), changed, OWNER)])

    assert there == shown(MDB.link(), changed)
    assert await seen(kernel) == shown(MDB.link(), MDX.link())


async def test_a_tunnel_that_lost_its_bridge_has_no_flags_and_is_set_on_it_again(kernel: Kernel) -> None:
    await taken(kernel, adds(MDB, MDX, SELF, MASTER))
    free = replace(MDX.link(), master=None, flags=None)

    await taken(kernel, [Delete(MDB.link(), OWNER)])
    alone = await seen(kernel)
    await taken(kernel, [*adds(MDB), Set(MDX.link(), free, OWNER), *adds(MASTER)])

    assert alone == shown(free, SELF)
    assert await seen(kernel) == shown(MDB.link(), MDX.link(), SELF, MASTER)


async def test_with_a_tunnel_go_its_rows_and_with_a_bridge_its_neighbours(kernel: Kernel) -> None:
    await taken(kernel, adds(MDB, MDX, *ALL, *ROWS))

    await taken(kernel, [Delete(MDX.link(), OWNER)])
    first = await seen(kernel)
    await taken(kernel, [Delete(MDB.link(), OWNER)])

    assert first == shown(MDB.link(), *NEIGHS)
    assert await seen(kernel) == shown()


@pytest.mark.parametrize("end", [MDI.link(), MDH.link()])
async def test_with_one_end_goes_the_other_and_what_stood_on_it(kernel: Kernel, end: Link) -> None:
    await taken(kernel, adds(MDB, MDI, MDH, *OWN, *RULES, *ROUTES))

    await taken(kernel, [Delete(end, OWNER)])

    assert await seen(kernel) == shown(MDB.link(), *RULES)


async def test_an_own_end_is_none_of_ours_until_it_was_added(kernel: Kernel) -> None:
    await taken(kernel, adds(MDB, MDI))
    before = await seen(kernel)

    await taken(kernel, adds(MDH))

    assert before == shown(MDB.link(), MDI.link())
    assert await seen(kernel) == shown(MDB.link(), MDI.link(), MDH.link())


async def test_an_own_end_is_set_to_what_it_should_be(kernel: Kernel) -> None:
    await taken(kernel, adds(MDB, MDI, MDH))
    changed = replace(MDH.link(), mac=MACS[4], mtu=1400)

    await taken(kernel, [Set(changed, MDH.link(), OWNER)])

    assert await seen(kernel) == shown(MDB.link(), MDI.link(), changed)


MISSING = [MDH, MDX, *OWN, ROUTES[0], SELF, MASTER, *NEIGHS]


@pytest.mark.parametrize("one", MISSING, ids=lambda one: str(one)[:30])
async def test_what_stands_on_a_link_that_is_missing_is_refused(kernel: Kernel, one: Object) -> None:
    [step] = adds(one)

    assert await refused(kernel, step) == [(step, "No such device")]
    assert await seen(kernel) == shown()


@pytest.mark.parametrize("route", ROUTES)
async def test_a_route_from_an_address_that_is_not_here_is_refused(kernel: Kernel, route: PoolRoute) -> None:
    await taken(kernel, adds(MDB, MDI, MDH))

    assert await refused(kernel, *adds(route)) == [(*adds(route), "Invalid argument")]


async def test_of_a_tunnel_that_is_on_no_bridge_the_bridge_takes_no_row(kernel: Kernel) -> None:
    await taken(kernel, adds(MDB, MDX))
    await taken(kernel, [Delete(MDB.link(), OWNER)])

    failures = await refused(kernel, *adds(MASTER, SELF))

    assert failures == [(*adds(MASTER), "Operation not supported")]
    assert await seen(kernel) == shown(replace(MDX.link(), master=None, flags=None), SELF)


async def test_rows_fail_each_for_itself_whoever_s_they_are(kernel: Kernel) -> None:
    """Even where a link of the same owner failed before."""
    await taken(kernel, adds(MDB, MDX))
    elsewhere = replace(SELF, link="mdx-two"), replace(NEIGHS[0], link="mdb-two")
    steps: list[Step] = [
        Add(replace(MDI, bridge="mdb-two"), OWNER),
        *(Add(one, OWNER) for one in (SELF, elsewhere[0], MASTER, elsewhere[1], *NEIGHS)),
    ]

    failures = await refused(kernel, *steps)

    assert {str(step) for step, _ in failures} == {str(steps[0]), *(str(Add(one, OWNER)) for one in elsewhere)}
    assert {words for _, words in failures} == {"No such device"}
    assert await seen(kernel) == shown(MDB.link(), MDX.link(), *ROWS)


async def test_a_failing_row_does_not_keep_back_its_owner_s_other_steps(kernel: Kernel) -> None:
    await taken(kernel, adds(MDB, MDX))

    failures = await kernel.perform([Add(replace(SELF, link="mdx-two"), OWNER), Add(MDI, Owner("another"))])

    assert len(failures) == 1
    assert await seen(kernel) == shown(MDB.link(), MDX.link(), MDI.link())


async def test_a_vni_that_a_link_of_another_s_has_is_refused_with_its_name_and_what_to_do(
    kernel: Kernel, ground: Ground
) -> None:
    await taken(kernel, adds(MDB))
    ground.take_tunnel(MDX.tunnel)

    [failure] = await kernel.perform(adds(MDX))

    words = (
        "VNI 7143425 on UDP port 4789 is in use by the VXLAN link theirs: remove that, or set another vxlan_port on"
        " every host"
    )
    assert (isinstance(failure.error, InUse), str(failure.error)) == (True, words)
    assert await seen(kernel) == shown(MDB.link())


async def test_another_vni_of_the_same_port_is_no_conflict(kernel: Kernel, ground: Ground) -> None:
    await taken(kernel, adds(MDB))
    ground.take_tunnel(replace(MDX.tunnel, vni=77))

    await taken(kernel, adds(MDX))

    assert await seen(kernel) == shown(MDB.link(), MDX.link())


async def test_a_udp_port_that_a_program_has_is_refused_with_what_to_do_and_leaves_no_link(
    kernel: Kernel, ground: Ground
) -> None:
    await taken(kernel, adds(MDB))
    ground.take_port(HostSocket(Protocol.UDP, ip_address("0.0.0.0"), 4789))  # noqa: S104  # as a program would

    [failure] = await kernel.perform(adds(MDX))

    words = (
        "UDP port 4789 of overlays is in use by another program of this host: stop that (ss -ulpn 'sport = :4789' may"
        " name it), or set another vxlan_port on every host"
    )
    assert (isinstance(failure.error, InUse), str(failure.error)) == (True, words)
    assert await seen(kernel) == shown(MDB.link())
    assert not ground.exists("mdx-one")


@pytest.mark.parametrize("changed", [replace(MDX, mtu=1400), replace(MDX, bridge="lab0")])
async def test_a_tunnel_s_name_with_other_content_is_refused(kernel: Kernel, changed: Vxlan) -> None:
    lab = replace(MDB, name="lab0")
    await taken(kernel, adds(MDB, lab, MDX))

    assert await refused(kernel, *adds(changed)) == [(*adds(changed), "File exists")]
    assert await seen(kernel) == shown(MDB.link(), lab.link(), MDX.link())


async def test_a_tunnel_s_name_that_somebody_else_s_link_has_is_refused(kernel: Kernel, ground: Ground) -> None:
    await taken(kernel, adds(MDB))
    ground.add_foreign("mdx-one")

    [(_, words)] = await refused(kernel, *adds(MDX))

    assert words == "a link mdx-one exists that is not mdnp's: choose another name, or remove it"
    assert ground.exists("mdx-one")


def _many(count: int) -> Sequence[Fdb]:
    macs = (MAC(f"02:00:00:00:{number // 256:02x}:{number % 256:02x}") for number in range(count))
    return [row for mac in macs for row in (Fdb("mdx-one", mac, VTEP), Fdb("mdx-one", mac))]


async def test_thousands_of_rows_come_and_go_together_and_one_that_fails_is_named(kernel: Kernel) -> None:
    rows = _many(1500)
    failing = Fdb("mdx-one", MAC("02:00:00:00:ff:ff"), ip_address("2001:db8::2")), replace(SELF, link="mdx-two")
    await taken(kernel, adds(MDB, MDX))

    failures = await kernel.perform(adds(*rows[:1000], failing[1], *rows[1000:]))
    there = await seen(kernel)
    await taken(kernel, deletes(*rows))

    assert [one.step for one in failures] == adds(failing[1])
    assert there == shown(MDB.link(), MDX.link(), *rows)
    assert await seen(kernel) == shown(MDB.link(), MDX.link())
