"""Rows as they stand in etcd."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.member import DeclaredNetwork, DeclaredSubnet
from mdnp.member.records import Undecodable, decode, decoded, host_of, key, value
from mdnp.member.rows import (
    AliveRow,
    BlockRow,
    Claim,
    DoneRow,
    EndpointRow,
    EpochRow,
    FormatRow,
    HostRow,
    MemberRow,
    NetworkRow,
    RemovedRow,
    Row,
    SegmentRow,
    VniRow,
)
from mdnp.model.host import HostID
from mdnp.model.mac import MAC
from mdnp.model.names import Names
from mdnp.model.port import Protocol
from mdnp.model.segment import Segment, SegmentID

A, B = HostID("a" * 16), HostID("b" * 16)
BLUE = SegmentID("10.50.0.0/16,fd50::/64")
POOL = ip_network("10.50.0.0/16")

ROWS: dict[str, Row] = {
    "format": FormatRow(1),
    "epoch": EpochRow(3, 2**63 + 5, "beef"),
    f"hosts/{A}": HostRow(A, "one", ip_address("192.0.2.1"), 3),
    f"alive/{A}": AliveRow(A, "s", ip_address("fd00::1"), "one", "m", 1.5),
    f"removed/{A}": RemovedRow(A),
    "segments/10.50.0.0_16,fd50::_64": SegmentRow(Segment(BLUE, 7, "blue", 1450, ("10.50.0.1/16",), ("10.50.0.9",))),
    "vnis/7": VniRow(7, BLUE),
    f"members/10.50.0.0_16,fd50::_64/{A}": MemberRow(BLUE, A),
    f"endpoints/10.50.0.0_16,fd50::_64/{A}/e": EndpointRow(
        BLUE, A, "e", MAC("02:00:00:00:00:01"), (ip_address("10.50.0.2"), ip_address("fd50::2")), 4, given=True
    ),
    f"endpoints/10.50.0.0_16,fd50::_64/{A}/named": EndpointRow(
        BLUE,
        A,
        "named",
        MAC("02:00:00:00:00:02"),
        (ip_address("10.50.0.3"),),
        names=Names("web", ("www", "c3c3c3c3c3c3"), service="shop"),
        ports=((Protocol.TCP, 80), (Protocol.UDP, 53)),
    ),
    "blocks/10.50.0.0_16/10.50.3.0_24": BlockRow(
        POOL, ip_network("10.50.3.0/24"), A, 2, {ip_address("10.50.3.4"): Claim(B, agreed=True)}
    ),
    "networks/blue": NetworkRow(
        DeclaredNetwork(
            "blue", (DeclaredSubnet("10.50.0.0/16", auxiliary={"dns": "10.50.0.9"}),), {"a": "b"}, labels={}
        )
    ),
    f"networks-done/blue/{A}": DoneRow("blue", A, "no space"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_read_as_it_was_written(name: str) -> None:
    row = ROWS[name]

    assert key(row) == f"/mdnp/v1/{name}"
    assert decode(key(row), value(row)) == row


def test_the_value_says_what_the_key_does_not() -> None:
    assert value(ROWS[f"hosts/{A}"]) == b'{"name":"one","vtep":"192.0.2.1","epoch":3}'
    assert value(ROWS[f"members/10.50.0.0_16,fd50::_64/{A}"]) == b"{}"


def test_the_value_of_an_endpoint_has_names_and_ports_where_there_are_any() -> None:
    """Without them it is as daemons wrote it that knew none, and theirs is read as this."""
    bare = f"endpoints/10.50.0.0_16,fd50::_64/{A}/e"
    assert value(ROWS[bare]) == (
        b'{"mac":"02:00:00:00:00:01","addresses":["10.50.0.2","fd50::2"],"generation":4,"given":true}'
    )
    assert value(ROWS[f"endpoints/10.50.0.0_16,fd50::_64/{A}/named"]) == (
        b'{"mac":"02:00:00:00:00:02","addresses":["10.50.0.3"],"generation":0,"given":false,'
        b'"names":{"name":"web","aliases":["www","c3c3c3c3c3c3"],"service":"shop"},"ports":["80/tcp","53/udp"]}'
    )


_text = st.text(st.characters(codec="utf-8"), max_size=300)
_ports = st.lists(st.tuples(st.sampled_from(Protocol), st.integers(1, 65535)), max_size=300).map(tuple)


def endpoint(names: Names | None, ports: tuple[tuple[Protocol, int], ...]) -> EndpointRow:
    return EndpointRow(BLUE, A, "e", MAC("02:00:00:00:00:01"), (ip_address("10.50.0.2"),), names=names, ports=ports)


@given(st.none() | st.builds(Names, _text, st.lists(_text, max_size=90).map(tuple), _text, _text), _ports)
def test_whatever_a_host_tells_of_names_can_be_read_and_is_not_much(
    names: Names | None, ports: tuple[tuple[Protocol, int], ...]
) -> None:
    row = endpoint(names, ports)
    text = value(row)
    read = decode(key(row), text)

    assert isinstance(read, EndpointRow)
    assert read == endpoint(_bounded(names) if names else None, ports[:256])
    assert value(read) == text
    assert len(text) < 64_000


def _bounded(names: Names) -> Names:
    """What is longer than can be asked for is left out, and so are many aliases."""

    def short(text: str) -> str:
        return text if len(text.encode()) <= 255 else ""

    aliases = tuple(one for one in map(short, names.aliases) if one)[:64]
    return Names(short(names.name), aliases, short(names.hostname), short(names.service))


def test_what_a_later_version_adds_to_a_value_is_let_pass() -> None:
    row = decode(f"/mdnp/v1/hosts/{A}", b'{"name":"one","vtep":"192.0.2.1","epoch":3,"rack":"b7"}')

    assert row == ROWS[f"hosts/{A}"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("hosts", b"{}", "no key of ours"),
        ("hosts/", b"{}", "no key of ours"),
        ("racks/a", b"{}", "no key of ours"),
        ("hosts/a", b"", "Input data was truncated"),
        ("hosts/a", b'{"name":"x","vtep":"10.0.0.300","epoch":1}', "10.0.0.300"),
        ("hosts/a", b'{"name":"x","vtep":"0.0.0.0","epoch":1}', "no address of a host"),
        ("hosts/a", b'{"name":"x","vtep":"fe80::1%eth0","epoch":1}', "has a zone"),
        ("segments/10.50.0.0_16", b'{"vni":16777216,"label":"x","mtu":1450}', "VNI 16777216"),
        ("segments/10.50.0.1_16", b'{"vni":1,"label":"x","mtu":1450}', "has host bits set"),
        ("segments/fd50::_64,10.50.0.0_16", b'{"vni":1,"label":"x","mtu":1450}', "its name is 10.50.0.0_16,fd50::_64"),
        ("endpoints/10.50.0.0_16/a/e", b'{"mac":"x","addresses":[]}', "MAC address"),
        ("endpoints/10.50.0.0_16/a/e", b'{"mac":"02:00:00:00:00:01","addresses":["10.51.0.1"]}', "not in the segment"),
        *(
            ("endpoints/10.50.0.0_16/a/e", b'{"mac":"02:00:00:00:00:01","addresses":[],%s}' % odd.encode(), said)
            for odd, said in (
                ('"names":7', "names"),
                ('"names":null', "names"),
                ('"names":{"name":7}', "name"),
                (f'"names":{{"name":"{"x" * 256}"}}', "255"),
                (f'"names":{{"aliases":[{",".join(["1"] * 65)}]}}', "aliases"),
                ('"ports":["80"]', "not a valid Protocol"),
                ('"ports":["0/tcp"]', "port 0/tcp: expected one as 80/tcp"),
                ('"ports":["65536/tcp"]', "port 65536/tcp"),
                ('"ports":["80/icmp"]', "not a valid Protocol"),
                (f'"ports":[{",".join(["1"] * 257)}]', "ports"),
            )
        ),
        ("blocks/10.50.0.0_16/10.51.0.0_24", b'{"owner":"a"}', "not a part of the pool"),
        ("vnis/seven", b'{"segment":"10.50.0.0/16"}', "no number"),
    ],
)
def test_what_cannot_be_read_says_why(name: str, text: bytes, said: str) -> None:
    with pytest.raises(Undecodable, match=said.replace("+", r"\+")):
        decode(f"/mdnp/v1/{name}", text)


_texts = st.binary(max_size=60) | st.sampled_from([*map(value, ROWS.values())])
_parts = st.sampled_from([*(part for name in ROWS for part in name.split("/")), "", "x", "_", ","])


@given(
    st.lists(_parts, max_size=5).map("/".join), st.binary(max_size=60) | st.sampled_from([*map(value, ROWS.values())])
)
def test_nothing_that_stands_in_etcd_breaks_a_reader(name: str, text: bytes) -> None:
    row = decoded(f"/mdnp/v1/{name}", text)

    assert row is None or decode(key(row), value(row)) == row
    host_of(f"/mdnp/v1/{name}")


def test_whose_a_row_is() -> None:
    told = {name: host_of(f"/mdnp/v1/{name}") for name in ROWS}

    assert {name.split("/")[0] for name, host in told.items() if host == A} == {
        "hosts",
        "members",
        "endpoints",
        "networks-done",
    }
