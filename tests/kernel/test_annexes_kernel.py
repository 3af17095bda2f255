"""The contract of the kernel room for annexes, kept by the kernel in memory and by Linux alike."""

from dataclasses import replace

from mdnp.dataplane.objects import Bridge, Fdb, Object, Peer, Sysctl, Veth
from mdnp.dataplane.steps import Add, Set
from mdnp.kernel import Kernel
from mdnp.model.mac import MAC
from tests.kernel.grounds import Ground
from tests.kernel.test_kernel import OWNER, adds, deletes, refused, seen, shown, taken

MACS = [MAC(f"02:6d:0a:32:00:0{number}") for number in range(1, 6)]
OWN = Bridge("mdb-one", MACS[0], 1500, "mdnp network one")
ANNEX = Bridge("mdb-one-1", MACS[1], 1500, "mdnp annex 1 of network one")
UPPER = Veth("mdu-one-1", "mdw-one-1", MACS[2], 1500, "mdb-one", "mdnp joint", hairpin=True)
LOWER = Peer("mdw-one-1", MACS[2], 1500, "mdnp joint", bridge="mdb-one-1")
END = Veth("mdv-one", "mdp-one", MACS[3], 1500, "mdb-one-1", "mdnp endpoint one")
ROW = Fdb("mdv-one", MACS[3], sticky=True)
SETTINGS = (
    Sysctl("net/ipv4/conf/mdb-one-1/arp_ignore", "8"),
    *(Sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1") for name in ("mdb-one-1", "mdu-one-1", "mdw-one-1")),
)
EVERYTHING: tuple[Object, ...] = (OWN, ANNEX, UPPER, *SETTINGS, LOWER, END, ROW)
LINKS = OWN.link(), ANNEX.link(), UPPER.link(), LOWER.link(), END.link()


async def test_what_was_added_is_seen_as_it_was_asked_for(kernel: Kernel) -> None:
    await taken(kernel, adds(*EVERYTHING))

    assert await seen(kernel) == shown(*LINKS, ROW)
    assert {one.key: one for one in SETTINGS}.items() <= (await kernel.observe()).objects.items()


async def test_adding_twice_is_done(kernel: Kernel) -> None:
    await taken(kernel, adds(*EVERYTHING))

    await taken(kernel, adds(*EVERYTHING))

    assert await seen(kernel) == shown(*LINKS, ROW)


async def test_a_row_goes_with_its_port_s_place_on_the_annex_and_by_itself(kernel: Kernel) -> None:
    await taken(kernel, adds(*EVERYTHING))

    await taken(kernel, deletes(ROW))
    assert await seen(kernel) == shown(*LINKS)

    await taken(kernel, adds(ROW))
    moved = replace(END.link(), master="mdb-one")
    await taken(kernel, [Set(moved, END.link(), OWNER)])
    assert [one for key, one in (await kernel.observe()).objects.items() if key[0] == "fdb"] == []


async def test_a_peer_that_lost_its_bridge_is_put_back(kernel: Kernel) -> None:
    await taken(kernel, adds(*EVERYTHING))
    alone = replace(LOWER.link(), master=None)
    await taken(kernel, [Set(alone, LOWER.link(), OWNER)])

    await taken(kernel, [Set(LOWER.link(), alone, OWNER)])

    assert await seen(kernel) == shown(*LINKS, ROW)


async def test_a_joint_goes_whole(kernel: Kernel, ground: Ground) -> None:
    await taken(kernel, adds(*EVERYTHING))

    ground.vanish("mdw-one-1")

    assert await seen(kernel) == shown(OWN.link(), ANNEX.link(), END.link(), ROW)


async def test_a_peer_needs_its_bridge(kernel: Kernel) -> None:
    await taken(kernel, adds(OWN, UPPER))

    assert await refused(kernel, Add(LOWER, OWNER)) == [(Add(LOWER, OWNER), "No such device")]
