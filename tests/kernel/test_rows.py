"""What only Linux can show of rows, routes and rules: those of others, and ours that others changed."""

from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address, ip_network

import pytest

from mdnp.dataplane.naming import ROUTE_PROTOCOL, ROUTE_TABLE
from mdnp.dataplane.objects import Addr, Fdb, Lookup, Neigh, Object, PoolRoute, Sysctl
from mdnp.dataplane.steps import NOBODY, Add, Delete, Step
from mdnp.kernel import Kernel, Seen
from mdnp.model.mac import MAC
from tests.kernel.grounds import Linux, own_namespace, run
from tests.kernel.test_overlay_kernel import (
    ALL,
    LINKS,
    MACS,
    MASTER,
    MDB,
    MDH,
    MDI,
    MDX,
    NEIGHS,
    OWN,
    ROUTES,
    ROWS,
    RULES,
    SELF,
    VTEP,
)

pytestmark = pytest.mark.root


@pytest.fixture
def host() -> Iterator[Linux]:
    with own_namespace():
        yield Linux()


@pytest.fixture
async def kernel(host: Linux) -> AsyncIterator[Kernel]:
    await host.kernel.perform(adds(MDB, MDX, MDI, MDH, *OWN, *RULES, *ROUTES, *ALL, *ROWS))
    yield host.kernel
    await host.kernel.close()


def adds(*objects: Object) -> list[Step]:
    return [Add(one, NOBODY) for one in objects]


async def changed(kernel: Kernel) -> tuple[set[Seen], set[Seen]]:
    """What is seen that was not made, and what was made and is not seen."""
    found: set[Seen] = {one for one in (await kernel.observe()).objects.values() if not isinstance(one, Sysctl)}
    made: set[Seen] = {*LINKS, *OWN, *RULES, *ROUTES, *ALL, *ROWS}
    return found - made, made - found


TUNNEL_ROW = "bridge fdb replace 02:6d:0a:32:00:03 dev mdx-one"
DRIFT: list[tuple[str, Seen, Seen]] = [
    (f"{TUNNEL_ROW} dst 192.0.2.2 self dynamic", Fdb("mdx-one", MACS[2], VTEP, lasting=False), SELF),
    (f"{TUNNEL_ROW} dst 192.0.2.2 port 99 self permanent", Fdb("mdx-one", MACS[2], VTEP, lasting=False), SELF),
    (f"{TUNNEL_ROW} dst 192.0.2.2 vni 7 self permanent", Fdb("mdx-one", MACS[2], VTEP, lasting=False), SELF),
    (f"{TUNNEL_ROW} master dynamic", Fdb("mdx-one", MACS[2], lasting=False), MASTER),
    (
        "ip neigh replace 10.50.1.2 lladdr 02:6d:0a:32:00:03 dev mdb-one nud reachable",
        Neigh("mdb-one", NEIGHS[0].address, MACS[2], lasting=False),
        NEIGHS[0],
    ),
    (
        "ip -6 neigh replace fd50::1:2 lladdr 02:00:00:00:00:09 dev mdb-one nud permanent",
        Neigh("mdb-one", NEIGHS[1].address, MAC("02:00:00:00:00:09")),
        NEIGHS[1],
    ),
    (
        f"ip route replace 10.50.0.0/16 dev mdb-one table {ROUTE_TABLE}",
        PoolRoute(ROUTES[0].to, "mdb-one", None),
        ROUTES[0],
    ),
    (f"ip rule add pref 5 iif mdb-one lookup {ROUTE_TABLE}", Lookup(4, "mdb-one", 5), RULES[0]),
    (f"ip rule add pref 40000 lookup {ROUTE_TABLE}", Lookup(4, "", 40000), RULES[0]),
]


@pytest.mark.parametrize(("command", "drift", "made"), DRIFT, ids=[command[:60] for command, *_ in DRIFT])
async def test_what_others_changed_is_seen_and_what_we_want_takes_its_place(
    kernel: Kernel, command: str, drift: Seen, made: Seen
) -> None:
    run(*command.split())

    seen = await changed(kernel)
    steps = [*([Delete(drift, NOBODY)] if isinstance(drift, Lookup) else []), *adds(made)]  # type: ignore[arg-type]
    failures = await kernel.perform(steps)

    assert seen == ({drift}, {made})
    assert (failures, await changed(kernel)) == ((), (set(), set()))


async def test_a_learned_mac_that_comes_in_at_another_port_is_brought_back(kernel: Kernel) -> None:
    """A container may have been here for a while: its row moved to its own port."""
    run("ip", "link", "add", "other", "master", "mdb-one", "up", "type", "veth", "peer", "other-far")
    run("bridge", "fdb", "replace", MASTER.mac, "dev", "other", "master", "static")

    seen = await changed(kernel)
    await kernel.perform(adds(MASTER))

    assert seen == (set(), {MASTER})
    assert await changed(kernel) == (set(), set())


FOREIGN = [
    "ip neigh replace 10.50.9.9 lladdr 02:00:00:00:00:09 dev mdb-one nud permanent",
    "ip neigh replace 10.50.9.8 lladdr 02:00:00:00:00:08 dev mdb-one nud stale",
    "bridge fdb replace 02:00:00:00:00:09 dev mdi-one master static",
    "ip route add 10.77.0.0/16 dev mdb-one table 100",
    "ip route add 10.78.0.0/16 dev mdb-one table main",
    "ip rule add pref 5 iif lo lookup 100",
    f"ip rule add pref 6 iif lo lookup 100 protocol {ROUTE_PROTOCOL}",
]


async def test_what_is_others_is_not_seen(kernel: Kernel) -> None:
    for command in FOREIGN:
        run(*command.split())

    assert await changed(kernel) == (set(), set())


async def test_a_stray_row_and_route_of_ours_is_seen_and_goes(kernel: Kernel) -> None:
    strays = (
        Fdb("mdx-one", MACS[4], VTEP),
        Fdb("mdx-one", MACS[4]),
        PoolRoute(ip_network("10.99.0.0/16"), "mdh-one", OWN[0].address.ip),
        PoolRoute(ip_network("0.0.0.0/0"), "mdh-one", None),
    )
    run("bridge", "fdb", "append", MACS[4], "dev", "mdx-one", "dst", str(VTEP), "self", "permanent")
    run("bridge", "fdb", "append", MACS[4], "dev", "mdx-one", "master", "static")
    run("ip", "route", "add", "10.99.0.0/16", "dev", "mdh-one", "src", "10.50.0.20", "table", str(ROUTE_TABLE))
    run("ip", "route", "add", "default", "dev", "mdh-one", "table", str(ROUTE_TABLE))

    seen = await changed(kernel)
    failures = await kernel.perform([Delete(one, NOBODY) for one in strays])

    assert seen == (set(strays), set())
    assert (failures, await changed(kernel)) == ((), (set(), set()))


async def test_a_row_to_a_host_of_the_other_family_is_refused_and_the_others_are_made(kernel: Kernel) -> None:
    wrong = Fdb("mdx-one", MACS[3], ip_address("2001:db8::2"))
    right = Fdb("mdx-one", MACS[4], VTEP)

    failures = await kernel.perform(adds(wrong, right))

    assert [one.step for one in failures] == adds(wrong)
    assert await changed(kernel) == ({right}, set())


@pytest.mark.usefixtures("kernel")
async def test_a_tunnel_asks_nobody_and_tells_nothing_by_itself() -> None:
    """A link of ours that is up has an address of its own by IPv6, and asks whether somebody else has it."""
    assert "inet6" not in run("ip", "addr", "show", "mdx-one")
    assert "inet " not in run("ip", "addr", "show", "mdi-one")
    assert "nolearning" in run("ip", "-d", "link", "show", "mdx-one")


@pytest.mark.usefixtures("kernel")
async def test_the_host_goes_to_the_pool_by_its_own_end_and_answers_at_once() -> None:
    assert "tentative" not in run("ip", "-6", "addr", "show", "dev", "mdh-one")
    assert run("ip", "route", "get", "10.50.7.7").split()[:6] == [
        "10.50.7.7",
        "dev",
        "mdh-one",
        "table",
        str(ROUTE_TABLE),
        "src",
    ]


async def test_what_is_seen_twice_is_the_same_value(kernel: Kernel) -> None:
    """Of tens of thousands of rows a look makes none anew that is as it was."""
    first = (await kernel.observe()).objects
    second = (await kernel.observe()).objects

    assert all(first[one.key] is second[one.key] for one in ROWS)
    assert [one for one in first.values() if isinstance(one, Addr)] == list(OWN)
