import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dns import packets
from tests.dns.ground import answered, query


def _negative(packet: bytes, ttl_s: int, minimum_s: int, rcode: dns.rcode.Rcode = dns.rcode.NXDOMAIN) -> bytes:
    response = dns.message.make_response(dns.message.from_wire(packet))
    response.set_rcode(rcode)
    response.authority.append(
        dns.rrset.from_text("example.", ttl_s, "IN", "SOA", f"ns.example. root.example. 1 2 3 4 {minimum_s}")
    )
    return response.to_wire()


def test_questions_are_alike_whatever_their_letter_case() -> None:
    assert packets.asked(query("WEB.example")) == packets.asked(query("web.example", use_edns=0))
    assert packets.asked(query("web.example")) != packets.asked(query("web.example", "AAAA"))
    # A type whose number is that of a letter is not taken for another's.
    assert packets.asked(query("web.example", "TYPE65")) != packets.asked(query("web.example", "TYPE97"))


def test_what_two_queries_differ_in_but_for_their_question() -> None:
    one, two = query("web.example", id=1), query("WEB.example", id=2)
    assert packets.rest(one) == packets.rest(two) != packets.rest(query("web.example", use_edns=0))


def test_a_response_to_the_question_is_known_by_it() -> None:
    asked = query("web.example", id=7)
    assert packets.answers(answered(asked, "192.0.2.1"), asked)
    assert packets.answers(answered(query("WEB.example"), "192.0.2.1"), asked)
    assert not packets.answers(asked, asked)
    assert not packets.answers(answered(query("other.example")), asked)
    assert not packets.answers(answered(query("web.example", "AAAA")), asked)
    assert not packets.answers(answered(asked)[:20], asked)


def test_an_error_may_come_without_the_question() -> None:
    asked = query("web.example")
    bare = bytearray(answered(asked)[:12])
    bare[4:6] = b"\0\0"
    assert not packets.answers(bytes(bare), asked)
    bare[3] |= dns.rcode.REFUSED
    assert packets.answers(bytes(bare), asked)
    assert packets.addressed(bytes(bare), query("web.example", id=9))[:2] == b"\0\x09"


def test_an_answer_is_addressed_to_another_who_asked_the_same() -> None:
    answer = packets.addressed(answered(query("web.example", id=1), "192.0.2.1"), query("WEB.Example", id=2))
    read = dns.message.from_wire(answer)
    assert read.id == 2
    assert read.answer[0].to_text() == "WEB.Example. 30 IN A 192.0.2.1"


def test_an_answer_is_kept_as_long_as_its_shortest_ttl() -> None:
    response = dns.message.from_wire(answered(query("web.example", use_edns=0), "192.0.2.1", ttl_s=50))
    response.additional.append(dns.rrset.from_text("ns.example.", 20, "IN", "A", "192.0.2.9"))
    lifetime = packets.lifetime(response.to_wire())
    assert lifetime is not None
    assert lifetime.ttl_s == 20
    aged = dns.message.from_wire(packets.aged(response.to_wire(), lifetime.places, 30))
    assert [rrset.ttl for rrset in (*aged.answer, *aged.additional)] == [20, 0]
    assert (aged.edns, aged.payload) == (0, response.payload)


@pytest.mark.parametrize(("ttl_s", "minimum_s", "expected"), [(50, 20, 20), (10, 20, 10)])
@pytest.mark.parametrize("rcode", [dns.rcode.NXDOMAIN, dns.rcode.NOERROR])
def test_a_no_is_kept_as_its_soa_says(rcode: dns.rcode.Rcode, ttl_s: int, minimum_s: int, expected: int) -> None:
    lifetime = packets.lifetime(_negative(query("web.example"), ttl_s, minimum_s, rcode))
    assert lifetime is not None
    assert lifetime.ttl_s == expected


def test_what_is_not_kept() -> None:
    asked = query("web.example")
    cut = dns.message.from_wire(answered(asked, "192.0.2.1"))
    cut.flags |= dns.flags.TC
    assert packets.lifetime(cut.to_wire()) is None
    assert packets.lifetime(_negative(asked, 50, 20, dns.rcode.SERVFAIL)) is None
    assert packets.lifetime(answered(asked)) is None  # a "no" without SOA
    assert packets.lifetime(answered(asked, "192.0.2.1", ttl_s=0)) is None
    assert packets.lifetime(answered(asked, "192.0.2.1")[:-1]) is None


def test_options_of_edns_are_told_apart_from_more() -> None:
    cookie = dns.edns.CookieOption(b"12345678", b"")
    assert packets.options(query("web.example")) == (False, False)
    assert packets.options(query("web.example", use_edns=0)) == (True, False)
    assert packets.options(query("web.example", use_edns=0, want_dnssec=True)) == (True, True)
    assert packets.options(query("web.example", use_edns=0, options=[cookie])) is None


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_no_answer_crashes(noise: bytes, tail: bytes) -> None:
    asked = query("web.example", id=7)
    for answer in (noise, answered(asked, "192.0.2.1", "192.0.2.2") + tail, answered(asked)[:12] + noise):
        assert packets.answers(answer, asked) in {True, False}
        if packets.answers(answer, asked):
            assert packets.addressed(answer, asked)[:2] == asked[:2]
            packets.lifetime(answer)
