"""
Questions and our own answers on the wire (RFC 1035, with EDNS of RFC 6891). Pure.

dnspython reads and writes the names, and holds the bounds of what is read. Its whole messages are not used: to read a
query and to build and write an answer as one took ten times as long as this.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

import dns.exception
import dns.name
import dns.wire

from mdnp.dns import SUFFIX, TTL_S, Answer, Kind, Question, Record, Target
from mdnp.dns import packets as bits
from mdnp.dns.packets import FORMERR, HEAD_OCTETS, NOERROR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL

__all__ = ["REFUSED", "SERVFAIL", "Query", "Refusal", "failure", "fitting", "limit", "parse", "reply"]

QUERY_OCTETS = 4096  # of the longest query that is read
PAYLOAD_OCTETS = 1232  # of an answer over UDP that no link on the way has to cut up (DNS flag day 2020)
_PLAIN_OCTETS, _STREAM_OCTETS = 512, 0xFFFF

_IN, _AXFR, _IXFR = 1, 252, 251
_BADVERS = 16
_AUTHORITATIVE, _AVAILABLE = 0x0400, 0x0080
_DNSSEC_OK = 0x8000
_HEAD = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")
_OPT = struct.Struct("!BHHIH")
_POINTER, _LONGEST_LABEL = 0xC000, 63
_SOA_NUMBERS = struct.pack("!5I", 1, 3600, 600, 86400, TTL_S)  # the last: how long a "no" holds


@dataclass(frozen=True)
class Query:
    """
    A question that may be answered. `asked` is it as it came, in its letter case; `octets` what whoever asks can take
    over UDP. `edns` None: there was no EDNS, and there is none in the answer; else the flags of it to repeat.
    """

    packet: bytes
    question: Question
    asked: bytes
    octets: int = _PLAIN_OCTETS
    edns: int | None = None

    @property
    def is_lower(self) -> bool:
        """Whether it was asked in lower case: Docker's embedded DNS knows a name as it is written."""
        return self.asked[:-4] == self.asked[:-4].lower()


@dataclass(frozen=True)
class Refusal:
    """What is not answered, and the reply that says so."""

    reply: bytes


def parse(packet: bytes) -> Query | Refusal | None:
    """None: no query, so that nothing may be sent back (two servers would go on answering each other's answers)."""
    if len(packet) < HEAD_OCTETS or bits.flags(packet) & bits.RESPONSE:
        return None
    if bits.flags(packet) & bits.OPCODE:
        return Refusal(_head(packet, NOTIMP))
    try:
        query, version, class_ = _read(packet)
    except dns.exception.DNSException:
        return Refusal(_head(packet, FORMERR))
    if version:
        return Refusal(failure(query, _BADVERS))
    if class_ != _IN or query.question.kind in {_AXFR, _IXFR}:
        return Refusal(failure(query, REFUSED))
    return query


def limit(query: Query, *, stream: bool, local: bool = False) -> int:
    """How long an answer may be, in octets; what stays on a loopback link is never cut up on its way."""
    if stream:
        return _STREAM_OCTETS
    return query.octets if local else min(query.octets, PAYLOAD_OCTETS)


def reply(query: Query, answer: Answer, octets: int) -> bytes:
    """
    As many of the records as fit. If some of the answer's do not, it says so (TC): whoever asks then asks over TCP, and
    who cannot has some of them, as Docker's embedded DNS does it. A name that cannot be written is left out.
    """
    writer = _Writer(query, octets)
    whole = writer.put(0, answer.records)
    if not answer.records:
        writer.put_end()
    if whole:
        writer.put(2, answer.additional)
    rcode = NOERROR if answer.exists else NXDOMAIN
    return writer.message(rcode, _AUTHORITATIVE | (0 if whole else bits.TRUNCATED))


def failure(query: Query, rcode: int) -> bytes:
    return _Writer(query, _PLAIN_OCTETS).message(rcode, 0)


def fitting(answer: bytes, query: Query, octets: int) -> bytes:
    """Another's answer, or if it is too long one without records that says so (TC)."""
    if len(answer) <= octets:
        return answer
    return _Writer(query, _PLAIN_OCTETS).message(bits.rcode(answer), bits.TRUNCATED)


def _read(packet: bytes) -> tuple[Query, int, int]:
    """With the version of EDNS, and the class. Errors: DNSException."""
    if len(packet) > QUERY_OCTETS:
        raise dns.exception.FormError
    parser = dns.wire.Parser(packet)
    _, _, questions, answers, authorities, additionals = parser.get_struct("!6H")
    if questions != 1:
        raise dns.exception.FormError
    name = parser.get_name()
    if parser.current != HEAD_OCTETS + sum(len(label) + 1 for label in name.labels):
        raise dns.exception.FormError  # it points into the head, which is another in the answer
    kind, class_ = parser.get_struct("!HH")
    asked = packet[HEAD_OCTETS : parser.current]
    found = [_option(parser, place >= answers + authorities) for place in range(answers + authorities + additionals)]
    options = [one for one in found if one]
    if len(options) > 1 or parser.remaining():
        raise dns.exception.FormError
    text = name.to_text(omit_final_dot=True).lower()
    question = Question("" if text == "." else text, kind)
    if not options:
        return Query(packet, question, asked), 0, class_
    octets, version, repeated = options[0]
    return Query(packet, question, asked, max(_PLAIN_OCTETS, octets), repeated), version, class_


def _option(parser: dns.wire.Parser, additional: bool) -> tuple[int, int, int] | None:
    """
    Of the next record, if it is that of EDNS: the octets that the asker can take, the version, the flags to repeat. The
    names of records are passed over without following their pointers: a chain of them would take long.
    """
    nameless = True
    while length := parser.get_uint8():
        nameless = False
        if length >= _POINTER >> 8:
            parser.get_uint8()
            break
        if length > _LONGEST_LABEL:
            raise dns.exception.FormError
        parser.get_bytes(length)
    kind, octets, ttl, length = parser.get_struct("!HHIH")
    parser.get_bytes(length)
    if kind != bits.OPT:
        return None
    if not nameless or not additional:
        raise dns.exception.FormError
    return octets, ttl >> 16 & 0xFF, ttl & _DNSSEC_OK


def _head(packet: bytes, rcode: int) -> bytes:
    kept = bits.flags(packet) & (bits.OPCODE | bits.RECURSION)
    return packet[:2] + _HEAD.pack(0, bits.RESPONSE | kept | rcode, 0, 0, 0, 0)[2:]


class _Writer:
    """
    An answer to the query, which grows up to so many octets. A name that stands there already is pointed to, if it is
    the same as a whole: of names that are alike in part there are few here.
    """

    def __init__(self, query: Query, octets: int) -> None:
        self._query = query
        self._data = bytearray(HEAD_OCTETS) + query.asked
        self._room = octets - (_OPT.size if query.edns is not None else 0)
        self._places = {query.question.name: HEAD_OCTETS}
        self._counts = [0, 0, 0]

    def put(self, section: int, records: Iterable[Record]) -> bool:
        """Whether all fit that can be written."""
        return all(
            self._append(section, record.name, record.kind, record.ttl_s, self._rdata(record)) for record in records
        )

    def put_end(self) -> None:
        """A SOA, which says how long a "no" holds (RFC 2308). The apex is the name itself where we do not know it."""
        name = self._query.question.name
        apex = SUFFIX if name.endswith(f".{SUFFIX}") else name
        primary = self._name(apex) or b"\0"
        self._append(1, apex, bits.SOA, TTL_S, primary + b"\0" + _SOA_NUMBERS)

    def message(self, rcode: int, flags: int) -> bytes:
        query = self._query
        additionals = self._counts[2]
        if query.edns is not None:
            self._data += _OPT.pack(0, bits.OPT, PAYLOAD_OCTETS, rcode >> 4 << 24 | query.edns, 0)
            additionals += 1
        flags |= bits.flags(query.packet) & (bits.RECURSION | bits.UNCHECKED)
        flags |= bits.RESPONSE | _AVAILABLE | (rcode & 0xF)
        _HEAD.pack_into(self._data, 0, 0, flags, 1, self._counts[0], self._counts[1], additionals)
        self._data[:2] = query.packet[:2]
        return bytes(self._data)

    def _append(self, section: int, name: str, kind: int, ttl_s: int, data: bytes | None) -> bool:
        owner = self._name(name)
        if owner is None or data is None:
            return True
        place = len(self._data)
        if place + len(owner) + _FIXED.size + len(data) > self._room:
            return False
        self._data += owner + _FIXED.pack(kind, _IN, ttl_s, len(data)) + data
        self._counts[section] += 1
        if place < 0xFFFF - _POINTER:
            self._places.setdefault(name, place)
        return True

    def _rdata(self, record: Record) -> bytes | None:
        match record.kind, record.data:
            case (Kind.A, IPv4Address() as address) | (Kind.AAAA, IPv6Address() as address):
                return address.packed
            case Kind.PTR, str(name):
                return self._name(name)
            case Kind.SRV, Target(name, port):
                target = _encoded(name)  # whole: RFC 2782 forbids a pointer
                return None if target is None else struct.pack("!HHH", 0, 0, port) + target
        return None

    def _name(self, name: str) -> bytes | None:
        place = self._places.get(name)
        return _encoded(name) if place is None else (_POINTER | place).to_bytes(2, "big")


@lru_cache(maxsize=4096)
def _encoded(name: str) -> bytes | None:
    """None if it has too long a label, or is otherwise none that can be asked for."""
    try:
        return dns.name.from_text(name).to_wire()
    except (dns.exception.DNSException, UnicodeError):
        return None
