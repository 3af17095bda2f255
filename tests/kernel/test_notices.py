"""What the kernel tells: its messages by value, and real ones in a namespace of their own."""

import asyncio
import resource
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dataplane.naming import DOOMED_GROUP, FORWARD_CHAIN, GROUP
from mdnp.dataplane.objects import Addr, Bridge, Fdb, Neigh, Veth
from mdnp.dataplane.rows import EVERYBODY
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom
from mdnp.kernel import Doubt, Gone, Notice, rows
from mdnp.kernel.linux import LinuxKernel
from mdnp.kernel.nftables import Nftables
from mdnp.kernel.notices import Notices, parse_links, parse_nftables
from mdnp.model.mac import MAC
from tests.kernel.grounds import own_namespace, run

NEWLINK, DELLINK, NEWADDR, DELADDR = 16, 17, 20, 21
DELROUTE, DELNEIGH, DEL_LOOKUP = 25, 29, 33
BRIDGE_FAMILY, SELF, MASTER = 7, 0x02, 0x04
DELTABLE, NEWCHAIN, NEWRULE, DELRULE, NEWGEN, DESTROYTABLE, DESTROYRULE = 2, 3, 6, 8, 15, 26, 28
INET, IPV4, IPV6 = 1, 2, 10
OWN_PORT = 7
UP, RUNNING, EVERY_FLAG = 0x01, 0x40, 0xFFFFFFFF

BRIDGE = Bridge("mdb-one", MAC("02:6d:0a:01:00:01"), 1500, "mdnp network one")
VETH = Veth("mdv-web", "mdp-web", MAC("02:6d:0a:01:00:02"), 1500, "mdb-one", "mdnp endpoint web")
CHANGED = Doubt("table mdnp was changed")
LOST = Doubt("notices were lost")


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def message(kind: int, body: bytes, port: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, port) + body


def link(kind: int, name: str, group: int | None = GROUP, flags: int = UP, changed: int = 0) -> bytes:
    head = struct.pack("=BxHiII", 0, 1, 5, flags, changed)
    return message(kind, head + text(3, name) + (b"" if group is None else attribute(27, struct.pack("=I", group))))


def addr(kind: int, address: str, label: str = "", index: int = 5) -> bytes:
    interface = ip_interface(address)
    head = struct.pack("=BBBBI", IPV4 if interface.version == 4 else IPV6, interface.network.prefixlen, 0, 0, index)
    return message(kind, head + attribute(1, interface.packed) + (text(3, label) if label else b""))


def row(family: int, *attributes: bytes, index: int = 6, flags: int = 0) -> bytes:
    head = struct.pack("=BxxxiHBB", family, index, 0x80, flags, 0)
    return message(DELNEIGH, head + b"".join(attributes))


def route(table: int, *, to: str = "10.50.0.0/16", oif: int = 5) -> bytes:
    network = ip_network(to)
    head = struct.pack("=8BI", IPV4 if network.version == 4 else IPV6, network.prefixlen, 0, 0, 252, 109, 0, 1, 0)
    facts = attribute(1, network.network_address.packed) + attribute(4, struct.pack("=I", oif))
    return message(DELROUTE, head + facts + attribute(15, struct.pack("=I", table)))


def lookup(family: int, table: int) -> bytes:
    head = struct.pack("=8BI", family, 0, 0, 0, 252, 0, 0, 1, 0)
    return message(DEL_LOOKUP, head + text(3, "lo") + attribute(15, struct.pack("=I", table)))


def nftables(kind: int, family: int, *attributes: bytes, port: int = 999) -> bytes:
    return message(10 << 8 | kind, struct.pack("=BBH", family, 0, 1) + b"".join(attributes), port)


def name_of(index: int) -> str | None:
    return {5: "mdb-one", 6: "mdx-one", 7: "eth7"}.get(index)


def of_links(*messages: bytes) -> list[Notice]:
    return parse_links(b"".join(messages), name_of)


def of_nftables(*messages: bytes) -> list[Notice]:
    return parse_nftables(b"".join(messages), lambda port: port == OWN_PORT)


ROW_MAC, EVERYBODYS_MAC = attribute(2, bytes.fromhex("026d0a320102")), attribute(2, bytes(6))
VTEP, PROTOCOL = attribute(1, bytes([192, 0, 2, 2])), attribute(12, b"m")
ADDRESS = attribute(1, bytes([10, 50, 1, 2]))
LINK_DATAGRAM = link(DELLINK, "mdb-one") + addr(DELADDR, "10.1.0.1/24", "mdb-one") + addr(DELADDR, "fd00::1/64")
ROW_DATAGRAM = (
    row(BRIDGE_FAMILY, ROW_MAC, VTEP, flags=SELF)
    + row(IPV4, ADDRESS, ROW_MAC, PROTOCOL, index=5)
    + route(GROUP)
    + route(GROUP, to="fd50::/64")
    + lookup(IPV6, GROUP)
)
NFTABLES_DATAGRAM = (
    nftables(DELRULE, IPV4, text(1, "filter"), text(2, FORWARD_CHAIN))
    + nftables(DELTABLE, INET, text(1, "mdnp"))
    + nftables(NEWGEN, 0, attribute(1, bytes(4)))
)


def test_the_deletion_of_a_link_of_ours_is_told_and_no_other() -> None:
    deleted = [link(DELLINK, name, group) for name, group in (("mdv-a", GROUP), ("mdv-b", DOOMED_GROUP), ("eth7", 0))]

    assert of_links(*deleted) == [Gone(("link", "mdv-a"))]


def test_a_port_that_leaves_its_bridge_is_not_a_deleted_link() -> None:
    assert of_links(link(DELLINK, "mdv-web", group=None)) == []


def test_a_link_of_ours_that_was_set_down_is_doubt() -> None:
    set_down = link(NEWLINK, "mdb-one", flags=0, changed=UP)

    assert of_links(set_down) == [Doubt("link mdb-one is down")]
    assert of_links(link(NEWLINK, "eth7", 0, flags=0, changed=UP)) == []


def test_a_link_of_ours_that_goes_down_because_it_dies_is_no_doubt() -> None:
    assert of_links(link(NEWLINK, "mdb-one", flags=0, changed=UP | RUNNING)) == []


def test_a_link_of_ours_that_is_up_is_no_doubt() -> None:
    assert of_links(link(NEWLINK, "mdb-one", changed=EVERY_FLAG), link(NEWLINK, "mdb-one", changed=UP)) == []


def test_an_address_that_was_removed_is_told_by_its_key() -> None:
    told = of_links(addr(DELADDR, "10.1.0.1/24", "mdb-one"), addr(DELADDR, "fd00::1/64"))

    assert told == [
        Gone(Addr("mdb-one", ip_interface("10.1.0.1/24")).key),
        Gone(Addr("mdb-one", ip_interface("fd00::1/64")).key),
    ]


def test_a_label_names_its_link() -> None:
    assert of_links(addr(DELADDR, "10.1.0.1/24", "mdb-two:web", index=9)) == [Gone(("addr", "mdb-two", "10.1.0.1/24"))]


def test_an_address_whose_link_is_gone_is_not_told_since_the_link_is() -> None:
    assert of_links(addr(DELADDR, "fd00::1/64", index=9)) == []


def test_an_address_that_was_added_is_not_told() -> None:
    assert of_links(addr(NEWADDR, "10.1.0.1/24", "mdb-one")) == []


def test_rows_that_were_removed_are_told_by_their_keys() -> None:
    told = of_links(
        row(BRIDGE_FAMILY, ROW_MAC, VTEP, flags=SELF),
        row(BRIDGE_FAMILY, ROW_MAC, attribute(9, struct.pack("=I", 5)), flags=MASTER).replace(b"\x80\0", b"\x40\0", 1),
        row(BRIDGE_FAMILY, EVERYBODYS_MAC, VTEP, flags=SELF),
        row(IPV4, ADDRESS, ROW_MAC, PROTOCOL, index=5),
    )

    mac, vtep = MAC("02:6d:0a:32:01:02"), ip_address("192.0.2.2")
    fdb = Fdb("mdx-one", mac, vtep), Fdb("mdx-one", mac), Fdb("mdx-one", EVERYBODY, vtep)
    assert told == [Gone(one.key) for one in (*fdb, Neigh("mdb-one", ip_address("10.50.1.2"), mac))]


def test_rows_of_others_are_not_told() -> None:
    assert (
        of_links(
            row(BRIDGE_FAMILY, ROW_MAC, flags=MASTER, index=7),
            row(BRIDGE_FAMILY, ROW_MAC, flags=MASTER, index=99),
            row(IPV4, ADDRESS, ROW_MAC, index=5),
            row(IPV4, ADDRESS, ROW_MAC, PROTOCOL, index=99),
        )
        == []
    )


def test_routes_and_rules_of_our_table_are_told_and_others_are_not() -> None:
    told = of_links(route(GROUP), route(GROUP, to="fd50::/64", oif=99), lookup(IPV4, GROUP), lookup(IPV6, GROUP))

    assert told == [
        Gone(("route", "10.50.0.0/16")),
        Gone(("route", "fd50::/64")),
        Gone(("rule", "4")),
        Gone(("rule", "6")),
    ]
    assert of_links(route(254), lookup(IPV4, 100)) == []


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 18, 20, 22, 24, 26, 27, 28, 29, 30, 31, 32])
def test_any_change_of_our_table_is_doubt(kind: int) -> None:
    assert of_nftables(nftables(kind, INET, text(1, "mdnp"), text(2, "ports"))) == [CHANGED]


def test_a_transaction_makes_one_doubt() -> None:
    change = nftables(NEWRULE, INET, text(1, "mdnp"), text(2, "forward"))

    assert of_nftables(change, change, change) == [CHANGED]


def test_what_a_socket_of_ours_changed_is_no_doubt() -> None:
    assert of_nftables(nftables(NEWRULE, INET, text(1, "mdnp"), port=OWN_PORT)) == []


def test_a_change_of_the_kernel_s_own_is_doubt() -> None:
    assert of_nftables(nftables(DELTABLE, INET, text(1, "mdnp"), port=0)) == [CHANGED]


def test_other_tables_are_no_doubt() -> None:
    assert of_nftables(nftables(DELTABLE, INET, text(1, "theirs")), nftables(DELTABLE, IPV4, text(1, "nat"))) == []


def test_the_deletion_of_the_filter_table_of_iptables_is_doubt() -> None:
    assert of_nftables(
        nftables(DELTABLE, IPV4, text(1, "filter")),
        nftables(DESTROYTABLE, IPV6, text(1, "filter")),
        nftables(DELTABLE, INET, text(1, "filter")),
        nftables(0, IPV4, text(1, "filter")),
    ) == [Doubt("iptables: table filter was deleted"), Doubt("ip6tables: table filter was deleted")]


@pytest.mark.parametrize(("kind", "name"), [(3, 3), (5, 3), (27, 3), (6, 2), (8, 2), (28, 2)])
def test_docker_s_chain_and_its_rules_are_doubt_and_other_chains_are_not(kind: int, name: int) -> None:
    ours = nftables(kind, IPV4, text(1, "filter"), text(name, FORWARD_CHAIN))
    theirs = nftables(kind, IPV4, text(1, "filter"), text(name, "DOCKER"))

    assert of_nftables(theirs, ours) == [Doubt("iptables: chain DOCKER-USER was changed")]


def test_other_parts_of_netfilter_are_no_doubt() -> None:
    assert of_nftables(message(1 << 8, struct.pack("=BBH", 2, 0, 0) + text(1, "mdnp"))) == []


@given(st.binary(max_size=200))
def test_no_bytes_make_parsing_fail(data: bytes) -> None:
    of_links(data)
    of_nftables(data)


@given(st.sampled_from([LINK_DATAGRAM, ROW_DATAGRAM, NFTABLES_DATAGRAM]), st.data())
def test_no_damage_makes_parsing_fail(datagram: bytes, data: st.DataObject) -> None:
    damaged = bytearray(datagram)
    places = st.integers(0, len(datagram) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        damaged[place] = value
    cut = bytes(damaged[: data.draw(st.integers(0, len(datagram)))])

    of_links(cut)
    of_nftables(cut)


def test_what_is_whole_before_a_cut_is_told() -> None:
    assert of_links(LINK_DATAGRAM[:-1])[:2] == of_links(LINK_DATAGRAM)[:2]
    assert of_nftables(NFTABLES_DATAGRAM[:-1]) == of_nftables(NFTABLES_DATAGRAM)


class Listener:
    """Hears the notices of the namespace in which it is made."""

    def __init__(self) -> None:
        self._heard: list[Notice] = []
        self._notices = Notices.open()
        self._notices.listen(asyncio.get_running_loop(), self._heard.append)

    async def heard(self) -> list[Notice]:
        """What was told since the last call: a notice is in the socket before the change is done."""
        await asyncio.sleep(0.02)
        heard = self._heard[:]
        self._heard.clear()
        return heard

    def close(self) -> None:
        self._notices.close()


@pytest.fixture
def host() -> Iterator[None]:
    with own_namespace():
        # No link-local addresses: they come when the kernel likes, and are nobody's here.
        Path("/proc/sys/net/ipv6/conf/default/addr_gen_mode").write_text("1")
        yield


@pytest.fixture
async def listener(host: None) -> AsyncIterator[Listener]:  # noqa: ARG001
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def nft(host: None) -> Iterator[Nftables]:  # noqa: ARG001
    """What mdnp changes its tables with, in this process."""
    nft = Nftables.open()
    yield nft
    nft.close()


def add_bridge(name: str, group: int = GROUP) -> None:
    run("ip", "link", "add", name, "up", "group", str(group), "type", "bridge")


@pytest.mark.root
async def test_a_deleted_link_of_ours_is_gone(listener: Listener) -> None:
    add_bridge("mdb-one")
    add_bridge("mdb-doomed", DOOMED_GROUP)
    add_bridge("theirs", 0)
    made = await listener.heard()

    for name in ("theirs", "mdb-doomed", "mdb-one"):
        run("ip", "link", "del", name)

    assert (made, await listener.heard()) == ([], [Gone(("link", "mdb-one"))])


@pytest.mark.root
async def test_a_link_of_ours_that_went_to_another_namespace_is_gone(listener: Listener) -> None:
    run("ip", "link", "add", "mdv-web", "up", "group", str(GROUP), "type", "veth", "peer", "mdp-web")

    run("unshare", "--net", "sh", "-c", "nsenter --net=/proc/$PPID/ns/net ip link set mdv-web netns $$")

    assert await listener.heard() == [Gone(("link", "mdv-web"))]


@pytest.mark.root
@pytest.mark.parametrize("address", ["10.1.0.1/24", "fd00::1/64"])
async def test_an_address_deleted_from_our_bridge_is_gone(listener: Listener, address: str) -> None:
    add_bridge("mdb-one")
    run("ip", "addr", "add", address, "dev", "mdb-one")
    made = await listener.heard()

    run("ip", "addr", "del", address, "dev", "mdb-one")

    assert (made, await listener.heard()) == ([], [Gone(Addr("mdb-one", ip_interface(address)).key)])


@pytest.mark.root
async def test_what_leads_to_other_hosts_is_told_when_it_is_gone_and_not_when_it_comes(listener: Listener) -> None:
    add_bridge("mdb-one")
    tunnel = "up group {} type vxlan id 5 local 192.0.2.1 dstport 4789 nolearning"
    run("ip", "link", "add", "mdx-one", "master", "mdb-one", *tunnel.format(GROUP).split())
    mac, vtep = MAC("02:6d:0a:32:01:02"), ip_address("192.0.2.2")
    fdb = Fdb("mdx-one", mac, vtep), Fdb("mdx-one", mac), Fdb("mdx-one", EVERYBODY, vtep)
    neigh = Neigh("mdb-one", ip_address("fd50::1:2"), mac)
    for one in fdb:
        run("bridge", "fdb", "append", *str(one).split()[1:])
    run("ip", *str(Add(neigh, NOBODY)).split()[1:])
    run("ip", "route", "add", "10.50.0.0/16", "dev", "mdb-one", "table", str(GROUP))
    run("ip", "-6", "rule", "add", "iif", "lo", "lookup", str(GROUP))
    made = await listener.heard()

    for one in fdb:
        run("bridge", "fdb", "del", *str(one).split()[1:])
    run("ip", "neigh", "del", "fd50::1:2", "dev", "mdb-one")
    run("ip", "route", "flush", "table", str(GROUP))
    run("ip", "-6", "rule", "del", "iif", "lo", "lookup", str(GROUP))

    gone = [*(one.key for one in (*fdb, neigh)), ("route", "10.50.0.0/16"), ("rule", "6")]
    assert (made, await listener.heard()) == ([], [Gone(key) for key in gone])


@pytest.mark.root
async def test_however_many_neighbours_and_routes_come_none_of_the_notices_is_lost(listener: Listener) -> None:
    """The kernel keeps them out of the socket, which would overflow."""
    add_bridge("mdb-one")
    many = range(30000)
    steps = [
        Add(
            Neigh("mdb-one", ip_address("10.0.0.0") + one, MAC(f"02:00:00:00:{one // 256:02x}:{one % 256:02x}")), NOBODY
        )
        for one in many
    ]

    assert rows.perform(steps) == []

    assert await listener.heard() == []


@pytest.mark.root
async def test_a_name_is_found_in_the_namespace_that_is_heard(host: None) -> None:  # noqa: ARG001
    add_bridge("mdb-one")
    run("ip", "addr", "add", "fd00::1/64", "dev", "mdb-one")
    listener = Listener()
    run("ip", "addr", "del", "fd00::1/64", "dev", "mdb-one")
    with own_namespace():
        heard = await listener.heard()
    listener.close()

    assert heard == [Gone(("addr", "mdb-one", "fd00::1/64"))]


@pytest.mark.root
async def test_a_link_of_ours_set_down_is_doubt(listener: Listener) -> None:
    add_bridge("mdb-one")
    add_bridge("theirs", 0)

    run("ip", "link", "set", "theirs", "down")
    run("ip", "link", "set", "mdb-one", "down")

    assert await listener.heard() == [Doubt("link mdb-one is down")]


@pytest.mark.root
async def test_what_we_make_is_not_told_and_what_we_delete_is_only_gone(listener: Listener) -> None:
    kernel = LinuxKernel()
    address = Addr("mdb-one", ip_interface("10.1.0.1/24"))

    await kernel.perform([Add(BRIDGE, NOBODY), Add(address, NOBODY), Add(VETH, NOBODY)])
    made = await listener.heard()
    await kernel.perform([Doom(VETH.link(), NOBODY)])
    await kernel.reap()
    await kernel.perform([Delete(BRIDGE.link(), NOBODY)])
    deleted = await listener.heard()
    await kernel.close()

    assert (made, deleted) == ([], [Gone(address.key), Gone(BRIDGE.key)])


@pytest.mark.root
async def test_a_flush_of_the_ruleset_is_doubt(listener: Listener, nft: Nftables) -> None:
    nft.run("add table inet mdnp; add chain inet mdnp forward; add rule inet mdnp forward accept")
    before = await listener.heard()

    run("nft", "flush", "ruleset")

    assert (before, await listener.heard()) == ([], [CHANGED])


@pytest.mark.root
async def test_an_element_that_somebody_takes_from_our_set_is_doubt(listener: Listener, nft: Nftables) -> None:
    nft.run("add table inet mdnp; add set inet mdnp ports { type inet_service; }")
    nft.run("add element inet mdnp ports { 80 }; add element inet mdnp ports { 81 }")
    before = await listener.heard()

    run("nft", "delete element inet mdnp ports { 80 }")

    assert (before, await listener.heard()) == ([], [CHANGED])


@pytest.mark.root
async def test_our_own_transaction_is_no_doubt_whatever_thread_makes_it(listener: Listener, nft: Nftables) -> None:
    nft.run("add table inet mdnp")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(nft.run, "add chain inet mdnp forward").result()
    later = Nftables.open()
    later.run("add rule inet mdnp forward accept")
    heard = await listener.heard()
    later.close()

    assert heard == []


@pytest.mark.root
async def test_a_transaction_that_fails_is_not_told(listener: Listener, nft: Nftables) -> None:
    nft.run("add table inet mdnp")

    with pytest.raises(AssertionError):
        run("nft", "delete table inet mdnp; add rule inet nowhere forward accept")

    assert await listener.heard() == []


@pytest.mark.root
async def test_somebody_s_table_is_no_doubt(listener: Listener) -> None:
    run("nft", "add table inet theirs; add chain inet theirs forward; add rule inet theirs forward accept")
    run("nft", "delete table inet theirs")

    assert await listener.heard() == []


@pytest.mark.root
@pytest.mark.parametrize("program", ["iptables", "ip6tables"])
async def test_a_flush_of_docker_s_chain_is_doubt(listener: Listener, program: str) -> None:
    run(program, "-N", FORWARD_CHAIN)
    run(program, "-A", FORWARD_CHAIN, "-j", "ACCEPT")
    await listener.heard()

    run(program, "-F")

    assert await listener.heard() == [Doubt(f"{program}: chain DOCKER-USER was changed")]


@pytest.mark.root
async def test_other_rules_of_iptables_are_no_doubt(listener: Listener) -> None:
    run("iptables", "-N", "DOCKER")
    run("iptables", "-A", "DOCKER", "-j", "ACCEPT")
    run("iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE")
    run("iptables", "-F")

    assert await listener.heard() == []


@pytest.mark.root
async def test_an_overflow_is_doubt_and_later_notices_are_heard(listener: Listener, tmp_path: Path) -> None:
    add_bridge("mdb-one")
    add_bridge("theirs", 0)
    flood = tmp_path / "flood"
    flood.write_text("".join(f"link set theirs mtu {1400 + turn % 2}\n" for turn in range(6000)))

    run("ip", "-batch", str(flood))  # the loop does not run meanwhile
    flooded = [await listener.heard() for _ in range(10)]
    run("ip", "link", "del", "mdb-one")

    assert [notice for heard in flooded for notice in heard] == [LOST]
    assert await listener.heard() == [Gone(("link", "mdb-one"))]


@contextmanager
def room_for_one_file() -> Iterator[None]:
    """A second descriptor cannot be opened: what a kernel without nf_tables does to the second socket."""
    probe = socket.socket()
    free = probe.fileno()
    probe.close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.root
async def test_without_nftables_links_are_heard_still(host: None, caplog: pytest.LogCaptureFixture) -> None:  # noqa: ARG001
    with room_for_one_file():
        listener = Listener()
    add_bridge("mdb-one")
    run("nft", "add table inet mdnp")
    run("ip", "link", "del", "mdb-one")
    heard = await listener.heard()
    listener.close()

    assert heard == [Gone(("link", "mdb-one"))]
    assert "changes of nftables will be found late" in caplog.text
