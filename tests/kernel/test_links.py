"""Reading links raw: what ip(8) says of them too, and none missing while others come and go."""

import json
import struct
import subprocess
import threading
from collections.abc import Iterator

import pytest

from mdnp.kernel import links, netlink
from tests.kernel.grounds import own_namespace, run

INTERRUPTED = 0x10


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def header(length: int, flags: int = 0) -> bytes:
    return netlink.MESSAGE.pack(length, 16, flags, 1, 0)


@pytest.fixture
def namespace() -> Iterator[None]:
    with own_namespace():
        yield


def test_a_link_with_nothing_but_its_head_has_no_facts() -> None:
    row = links.parse(memoryview(netlink.LINK.pack(0, 1, 7, 1, 0)))

    assert row == links.Row(7, "", "", 0, 0, "", up=True, group=0, alias="", hairpin=False)


def test_an_attribute_of_an_impossible_length_ends_the_list() -> None:
    name = attribute(netlink.IFLA_IFNAME, b"one\0")
    broken = struct.pack("=HH", 900, 4) + attribute(27, struct.pack("=I", 5))

    row = links.parse(memoryview(netlink.LINK.pack(0, 1, 7, 0, 0) + name + broken))

    assert (row.name, row.group) == ("one", 0)


def test_reading_ends_where_all_that_is_wanted_was_found() -> None:
    data = memoryview(b"".join(attribute(kind, bytes([value])) for kind, value in ((3, 1), (4, 2), (5, 3), (4, 4))))

    assert netlink.attributes(data, {4, 5}) == {4: b"\2", 5: b"\3"}
    assert netlink.attributes(data, {5, 6}) == {5: b"\3"}
    assert netlink.attributes(data, set()) == {}


@pytest.mark.parametrize(("kind", "hairpin"), [(b"bridge\0", True), (b"bond\0", False), (None, False)])
def test_a_port_has_hairpin_only_below_a_bridge(kind: bytes | None, hairpin: bool) -> None:
    info = attribute(4, kind) if kind else b""
    info += attribute(5, attribute(4, b"\1"))

    row = links.parse(memoryview(netlink.LINK.pack(0, 1, 7, 0, 0) + attribute(18, info)))

    assert row.hairpin is hairpin


def test_an_interrupted_dump_is_known_by_any_of_its_messages() -> None:
    whole = header(20) + bytes(4) + header(16)

    assert not netlink.is_interrupted(whole)
    assert netlink.is_interrupted(whole + header(16, INTERRUPTED))
    assert netlink.is_interrupted(header(18, INTERRUPTED) + bytes(4) + header(16))
    assert not netlink.is_interrupted(b"")
    assert not netlink.is_interrupted(header(0) + header(16)[:9])


@pytest.mark.root
@pytest.mark.usefixtures("namespace")
def test_links_are_as_ip_shows_them() -> None:
    run("ip", "link", "add", "one", "address", "02:00:00:00:00:01", "mtu", "1400", "type", "bridge")
    run("ip", "link", "add", "port", "group", "77", "type", "veth", "peer", "far")
    run("ip", "link", "set", "port", "master", "one", "alias", "somebody's", "up")
    run("bridge", "link", "set", "dev", "port", "hairpin", "on")

    rows = {row.name: row for row in links.read()}

    assert set(rows) == {one["ifname"] for one in json.loads(run("ip", "-json", "link"))}
    for shown in json.loads(run("ip", "-json", "-details", "link")):
        row = rows[shown["ifname"]]
        assert (row.index, row.mtu, row.mac) == (shown["ifindex"], shown["mtu"], shown["address"])
        assert row.kind == shown.get("linkinfo", {}).get("info_kind", "")
        assert row.up is ("UP" in shown["flags"])
        assert row.alias == shown.get("ifalias", "")
    assert (rows["port"].master, rows["one"].master) == (rows["one"].index, 0)
    assert (rows["port"].group, rows["port"].hairpin, rows["far"].hairpin) == (77, True, False)


@pytest.mark.root
@pytest.mark.usefixtures("namespace")
def test_none_that_stays_is_missing_while_others_come_and_go() -> None:
    stays = {f"stays{number}" for number in range(120)}
    subprocess.run(
        ["ip", "-batch", "-"], input="".join(f"link add {name} type bridge\n" for name in stays), text=True, check=True
    )
    churn = "link add comes type bridge\nlink del comes\n" * 40
    mover = threading.Thread(target=lambda: subprocess.run(["ip", "-batch", "-"], input=churn, text=True, check=True))
    mover.start()
    try:
        while mover.is_alive():
            assert stays <= {row.name for row in links.read()}
    finally:
        mover.join()
