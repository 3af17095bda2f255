import struct
from ipaddress import ip_address
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dns import Answer, Kind, Record, Target
from mdnp.dns.messages import Query, Refusal, failure, fitting, limit, parse, reply
from tests.dns.ground import addresses, answered, query

_BLUE = "web.blue.mdnp"


def _read(packet: bytes) -> Query:
    found = parse(packet)
    assert isinstance(found, Query)
    return found


def _reply(packet: bytes, answer: Answer) -> dns.message.Message:
    asked = _read(packet)
    return dns.message.from_wire(reply(asked, answer, limit(asked, stream=False)))


def _refused(packet: bytes) -> dns.message.Message:
    found = parse(packet)
    assert isinstance(found, Refusal)
    return dns.message.from_wire(found.reply)


def _texts(rrsets: list[dns.rrset.RRset]) -> list[str]:
    return sorted(line for rrset in rrsets for line in rrset.to_text().splitlines())


def test_a_question_is_read_in_lower_case_without_the_last_dot() -> None:
    found = _read(query("WeB.Blue.mdnp.", "AAAA"))
    assert (found.question.name, found.question.kind) == (_BLUE, Kind.AAAA)


def test_the_root_has_an_empty_name() -> None:
    assert _read(query(".", "NS")).question.name == ""


def test_the_question_comes_back_in_its_letter_case() -> None:
    answer = _reply(query("WeB.Blue.mdnp"), addresses(_BLUE, "10.50.0.7"))
    assert answer.question[0].name.to_text() == "WeB.Blue.mdnp."
    assert _texts(answer.answer) == ["WeB.Blue.mdnp. 2 IN A 10.50.0.7"]


def test_an_answer_of_ours_is_authoritative_and_copies_what_the_question_wanted() -> None:
    packet = dns.message.make_query(_BLUE, "A", flags=dns.flags.RD | dns.flags.CD | dns.flags.AD).to_wire()
    answer = _reply(packet, addresses(_BLUE, "10.50.0.7"))
    assert answer.flags == dns.flags.QR | dns.flags.AA | dns.flags.RA | dns.flags.RD | dns.flags.CD
    assert not _reply(dns.message.make_query(_BLUE, "A", flags=0).to_wire(), Answer()).flags & dns.flags.RD


def test_all_kinds_of_records_are_written() -> None:
    records = (
        Record(_BLUE, Kind.A, ip_address("10.50.0.7")),
        Record(_BLUE, Kind.AAAA, ip_address("fd00::7")),
        Record("7.0.50.10.in-addr.arpa", Kind.PTR, _BLUE, ttl_s=9),
        Record("_http._tcp." + _BLUE, Kind.SRV, Target("web_1.blue.mdnp", 80)),
    )
    answer = _reply(query(_BLUE, "ANY"), Answer(records, (Record("web_1.blue.mdnp", Kind.A, ip_address("10.50.0.8")),)))
    assert _texts(answer.answer) == [
        "7.0.50.10.in-addr.arpa. 9 IN PTR web.blue.mdnp.",
        "_http._tcp.web.blue.mdnp. 2 IN SRV 0 0 80 web_1.blue.mdnp.",
        "web.blue.mdnp. 2 IN A 10.50.0.7",
        "web.blue.mdnp. 2 IN AAAA fd00::7",
    ]
    assert _texts(answer.additional) == ["web_1.blue.mdnp. 2 IN A 10.50.0.8"]


@pytest.mark.parametrize(("exists", "rcode"), [(True, dns.rcode.NOERROR), (False, dns.rcode.NXDOMAIN)])
def test_a_no_says_how_long_it_holds(exists: bool, rcode: dns.rcode.Rcode) -> None:
    answer = _reply(query(_BLUE), Answer(exists=exists))
    assert answer.rcode() == rcode
    assert _texts(answer.authority) == ["mdnp. 2 IN SOA mdnp. . 1 3600 600 86400 2"]


def test_a_no_for_a_name_without_a_known_apex_bears_the_name_itself() -> None:
    assert _texts(_reply(query("web", "AAAA"), Answer()).authority) == ["web. 2 IN SOA web. . 1 3600 600 86400 2"]
    assert _texts(_reply(query("mdnp", "A"), Answer()).authority) == ["mdnp. 2 IN SOA mdnp. . 1 3600 600 86400 2"]


@pytest.mark.parametrize("name", ["a" * 64 + ".mdnp", "a..mdnp", ".".join(["abcdefg"] * 40), "", "\ud800x", "a\\9"])
def test_a_name_that_cannot_be_written_is_left_out(name: str) -> None:
    records = (Record(_BLUE, Kind.PTR, name), Record(_BLUE, Kind.SRV, Target(name, 1)), Record(name, Kind.SOA, name))
    answer = _reply(query(_BLUE), Answer((*records, *addresses(_BLUE, "10.50.0.7").records)))
    assert "web.blue.mdnp. 2 IN A 10.50.0.7" in _texts(answer.answer)


def test_edns_is_answered_with_edns_and_only_then() -> None:
    with_edns = _reply(query(_BLUE, use_edns=0, payload=4096, want_dnssec=True), Answer())
    assert (with_edns.edns, with_edns.payload) == (0, 1232)
    assert with_edns.ednsflags & dns.flags.DO
    assert _reply(query(_BLUE), Answer()).edns == -1


def test_another_version_of_edns_is_refused() -> None:
    answer = _refused(query(_BLUE, use_edns=1, payload=1232))
    assert (answer.rcode(), answer.edns) == (dns.rcode.BADVERS, 0)


@pytest.mark.parametrize(
    ("octets", "stream", "expected"), [(0, False, 512), (100, False, 512), (1000, False, 1000), (4096, False, 1232)]
)
def test_an_answer_is_no_longer_than_the_asker_takes(octets: int, stream: bool, expected: int) -> None:
    options: dict[str, Any] = {"use_edns": 0, "payload": octets} if octets else {}
    asked = _read(query(_BLUE, **options))
    assert limit(asked, stream=stream) == expected
    assert limit(asked, stream=True) == 65535
    many = addresses(_BLUE, *(f"10.50.1.{number}" for number in range(200)))
    packet = reply(asked, many, limit(asked, stream=stream))
    assert expected - 16 < len(packet) <= expected
    answer = dns.message.from_wire(packet)
    assert answer.flags & dns.flags.TC
    assert answer.question
    whole = dns.message.from_wire(reply(asked, many, 65535))
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == 200


def test_what_is_only_additional_is_left_out_without_a_word() -> None:
    asked = _read(query(_BLUE, "SRV"))
    target = "w" * 60 + ".blue.mdnp"
    more = tuple(Record(target, Kind.A, ip_address(f"10.50.1.{number}")) for number in range(200))
    packet = reply(asked, Answer((Record(_BLUE, Kind.SRV, Target(target, 80)),), more), 512)
    answer = dns.message.from_wire(packet)
    assert not answer.flags & dns.flags.TC
    assert len(packet) <= 512
    assert answer.answer


def test_responses_are_never_answered() -> None:
    assert parse(answered(query(_BLUE), "10.50.0.7")) is None
    assert parse(b"\x00" * 11) is None


def test_other_opcodes_are_not_implemented() -> None:
    packet = bytearray(query(_BLUE))
    packet[2] |= dns.opcode.UPDATE << 3
    found = parse(bytes(packet))
    assert isinstance(found, Refusal)
    assert (found.reply[:2], found.reply[3] & 0xF, len(found.reply)) == (bytes(packet[:2]), dns.rcode.NOTIMP, 12)


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_transfers_are_refused(kind: str) -> None:
    packet = bytearray(query(_BLUE, "A"))
    packet[-4:-2] = struct.pack("!H", dns.rdatatype.from_text(kind))
    assert _refused(bytes(packet)).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("class_", ["CH", "ANY", "NONE"])
def test_other_classes_are_refused(class_: str) -> None:
    packet = query("version.bind", "TXT", rdclass=dns.rdataclass.from_text(class_))
    answer = _refused(packet)
    assert answer.rcode() == dns.rcode.REFUSED
    assert answer.question[0].name.to_text() == "version.bind."


_QUESTION = query(_BLUE)[12:]
_OPT = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)


@pytest.mark.parametrize(
    "packet",
    [
        struct.pack("!6H", 7, 0, 0, 0, 0, 0),
        struct.pack("!6H", 7, 0, 2, 0, 0, 0) + _QUESTION * 2,
        struct.pack("!6H", 7, 0, 1, 0, 0, 0),
        struct.pack("!6H", 7, 0, 1, 0, 0, 0) + _QUESTION[:-1],
        struct.pack("!6H", 7, 0, 1, 0, 0, 0) + _QUESTION + b"more",
        struct.pack("!6H", 7, 0, 1, 0, 0, 1) + _QUESTION,
        struct.pack("!6H", 7, 0, 1, 0, 0, 2) + _QUESTION + _OPT * 2,
        struct.pack("!6H", 7, 0, 1, 1, 0, 0) + _QUESTION + _OPT,
        struct.pack("!6H", 7, 0, 1, 0, 0, 1) + _QUESTION + b"\1x" + _OPT,
        struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x04\0\1\0\1",
        struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\x80abc\0\0\1\0\1",
        struct.pack("!6H", 7, 0, 1, 0, 0, 1) + _QUESTION + _OPT[:-2] + b"\xff\xff" + b"x" * 5000,
    ],
)
def test_what_cannot_be_read_is_a_format_error(packet: bytes) -> None:
    answer = _refused(packet)
    assert (answer.id, answer.rcode()) == (7, dns.rcode.FORMERR)


def test_anothers_answer_stays_as_it_is_unless_it_is_too_long() -> None:
    asked = _read(query("big.example", use_edns=0, payload=1232))
    answer = answered(asked.packet, *(f"192.0.2.{number}" for number in range(100)))
    assert fitting(answer, asked, len(answer)) is answer
    short = dns.message.from_wire(fitting(answer, asked, 512))
    assert short.flags & dns.flags.TC
    assert not short.answer
    assert short.question[0].name.to_text() == "big.example."


_LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=6)


@given(_LABELS, st.integers(0, 65535), st.none() | st.integers(0, 65535), st.booleans())
def test_whatever_dnspython_writes_is_read_alike(
    labels: list[bytes], kind: int, payload: int | None, dnssec: bool
) -> None:
    try:
        name = dns.name.Name([*labels, b""])
    except dns.name.NameTooLong:
        return
    options: dict[str, Any] = {"use_edns": 0, "payload": payload, "want_dnssec": dnssec}
    packet = dns.message.make_query(
        name, dns.rdatatype.RdataType(kind), **({} if payload is None else options)
    ).to_wire()
    found = parse(packet)
    if kind in {251, 252}:
        assert isinstance(found, Refusal)
        return
    assert isinstance(found, Query)
    assert found.question.kind == kind
    assert found.asked == packet[12 : -11 if payload is not None else None]
    assert dns.name.from_text(found.question.name or ".") == name
    assert found.octets == max(512, payload or 0)
    assert found.edns == (None if payload is None else dnssec << 15)
    same = dns.message.from_wire(
        reply(found, Answer((Record(found.question.name, Kind.PTR, found.question.name),)), 512)
    )
    assert same.question[0].name.labels == name.labels
    assert same.answer[0].name == name


def _mutated(packet: bytes, changes: list[tuple[int, int]], end: int) -> bytes:
    changed = bytearray(packet)
    for place, octet in changes:
        changed[place % len(changed)] = octet
    return bytes(changed[: max(0, len(changed) - end)])


_ASKED = query(_BLUE, id=7)
_PACKETS = st.binary(max_size=200) | st.builds(
    _mutated,
    st.sampled_from([_ASKED, query(_BLUE, id=7, use_edns=0, payload=4096), answered(_ASKED, "10.50.0.7", "10.50.0.8")]),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4),
    st.sampled_from([0, 0, 0, 1, 5]),
)


@given(_PACKETS)
def test_no_packet_crashes_and_dnspython_agrees(packet: bytes) -> None:
    found = parse(packet)
    if len(packet) < 12 or packet[2] & 0x80:
        assert found is None
        return
    assert found is not None
    if isinstance(found, Query):
        read = dns.message.from_wire(packet, question_only=True)
        assert read.opcode() == dns.opcode.QUERY
        (question,) = read.question
        assert (question.rdclass, question.rdtype) == (dns.rdataclass.IN, found.question.kind)
        assert question.name == dns.name.from_text(found.question.name or ".")
        sent = failure(found, dns.rcode.SERVFAIL)
    else:
        sent = found.reply
        assert not _is_plain(packet)
    assert len(sent) <= 512
    assert sent[:2] == packet[:2]
    assert sent[2] & 0x80


def _is_plain(packet: bytes) -> bool:
    """Whether dnspython takes it for a query as ours are."""
    try:
        read = dns.message.from_wire(packet)
    except (dns.exception.DNSException, ValueError):
        return False
    return (
        isinstance(read, dns.message.QueryMessage)
        and read.opcode() == dns.opcode.QUERY
        and [question.rdclass for question in read.question] == [dns.rdataclass.IN]
        and read.question[0].rdtype not in {dns.rdatatype.AXFR, dns.rdatatype.IXFR}
        and read.edns <= 0
        and packet[12] < 0xC0
    )


_TEXTS = st.text(max_size=70) | st.sampled_from(["web", "web.blue", _BLUE, "_80._tcp.web", "a.b\\", "@", "."])
_RECORDS = st.lists(
    st.builds(Record, _TEXTS, st.just(Kind.A), st.ip_addresses(v=4))
    | st.builds(Record, _TEXTS, st.just(Kind.AAAA), st.ip_addresses(v=6))
    | st.builds(Record, _TEXTS, st.just(Kind.PTR), _TEXTS)
    | st.builds(Record, _TEXTS, st.just(Kind.SRV), st.builds(Target, _TEXTS, st.integers(0, 65535)))
    | st.builds(Record, _TEXTS, st.sampled_from(Kind), st.ip_addresses() | _TEXTS),
    max_size=60,
).map(tuple)


@given(_RECORDS, _RECORDS, st.booleans(), st.sampled_from([None, 512, 900, 4096]), st.booleans())
def test_whatever_a_zone_says_is_written_and_fits(
    records: tuple[Record, ...], more: tuple[Record, ...], exists: bool, payload: int | None, stream: bool
) -> None:
    options: dict[str, Any] = {"use_edns": 0, "payload": payload} if payload else {}
    asked = _read(query(_BLUE, **options))
    allowed = limit(asked, stream=stream)
    packet = reply(asked, Answer(records, more, exists), allowed)
    assert len(packet) <= allowed
    written = dns.message.from_wire(packet)
    assert written.question[0].name.to_text() == f"{_BLUE}."
    assert (written.edns >= 0) == (payload is not None)
