"""
Messages of others, as bytes (RFC 1035, section 4): what they ask, whether one answers another, how long an answer may
be kept. Nothing in them is changed but ids, the letter case of the question, and TTLs. Pure, and without dnspython.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

HEAD_OCTETS = 12
RESPONSE, OPCODE, TRUNCATED, RECURSION, AUTHENTIC, UNCHECKED = 0x8000, 0x7800, 0x0200, 0x0100, 0x0020, 0x0010
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
OPT, SOA = 41, 6

_HEAD = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")  # of a record, after its name: type, class, TTL, octets of data
_LONGEST_LABEL = 63
_POINTER = 0xC0
_DNSSEC_OK = 0x8000  # in the TTL of OPT


@dataclass(frozen=True)
class Lifetime:
    """Of an answer, in seconds from now; `places` are where its TTLs stand."""

    ttl_s: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class _Record:
    section: int  # 0 answer, 1 authority, 2 additional
    kind: int
    fixed: int  # where its type stands
    ttl_s: int
    end: int


def flags(packet: bytes) -> int:
    return packet[2] << 8 | packet[3]


def asked(packet: bytes) -> bytes:
    """The question of a well-formed message in lower case: its name, type and class."""
    end = _question_end(packet)
    return packet[HEAD_OCTETS : end - 4].lower() + packet[end - 4 : end]


def rest(packet: bytes) -> bytes:
    """What a query is besides its id and its question: with it, two of one question have the same answer."""
    return packet[2:HEAD_OCTETS] + packet[_question_end(packet) :]


def options(query: bytes) -> tuple[bool, bool] | None:
    """Whether it has EDNS and asks for DNSSEC; None if there is more in it than that, as a cookie."""
    found = (False, False)
    for record in _records(query):
        if record.kind != OPT or record.end != record.fixed + _FIXED.size:
            return None
        found = (True, bool(record.ttl_s & _DNSSEC_OK))
    return found


def answers(packet: bytes, query: bytes) -> bool:
    """Whether it is a response to the question of the query. Some servers leave the question out of errors."""
    if len(packet) < HEAD_OCTETS or not flags(packet) & RESPONSE or (flags(packet) ^ flags(query)) & OPCODE:
        return False
    if packet[4:6] == b"\0\0":
        return rcode(packet) in {FORMERR, SERVFAIL, NOTIMP, REFUSED}
    try:
        return packet[4:6] == b"\0\1" and asked(packet) == asked(query)
    except (IndexError, ValueError):
        return False


def rcode(packet: bytes) -> int:
    return packet[3] & 0xF


def addressed(answer: bytes, query: bytes) -> bytes:
    """An answer to the same question with the id of this query, and the question in its letter case."""
    if answer[4:6] != b"\0\1":
        return query[:2] + answer[2:]
    end = _question_end(query)
    return query[:2] + answer[2:HEAD_OCTETS] + query[HEAD_OCTETS:end] + answer[end:]


def lifetime(answer: bytes) -> Lifetime | None:
    """
    The smallest of its TTLs, and that of its SOA's last field, which holds for what is not there (RFC 2308, section 5).
    None if it is not to be kept: cut off, a failure, a "no" without SOA, or unreadable.
    """
    if flags(answer) & TRUNCATED or rcode(answer) not in {NOERROR, NXDOMAIN}:
        return None
    try:
        records = [record for record in _records(answer) if record.kind != OPT]
    except (IndexError, ValueError, struct.error):
        return None
    ends = [record for record in records if record.section == 1 and record.kind == SOA]
    positive = rcode(answer) == NOERROR and any(record.section == 0 for record in records)
    if not ends and not positive:
        return None
    minima = [int.from_bytes(answer[record.end - 4 : record.end], "big") for record in ends]
    ttl_s = min([*minima, *(record.ttl_s for record in records)])
    return Lifetime(ttl_s, tuple(record.fixed + 4 for record in records)) if ttl_s else None


def aged(answer: bytes, places: tuple[int, ...], age_s: int) -> bytes:
    """With its TTLs that much smaller."""
    changed = bytearray(answer)
    for place in places:
        left_s = int.from_bytes(answer[place : place + 4], "big") - age_s
        changed[place : place + 4] = max(0, left_s).to_bytes(4, "big")
    return bytes(changed)


def _records(packet: bytes) -> Iterator[_Record]:
    """Errors: ValueError, IndexError, struct.error where it cannot be read."""
    _, _, questions, *counts = _HEAD.unpack_from(packet)
    at = HEAD_OCTETS
    for _ in range(questions):
        at = _name_end(packet, at) + 4
    for section, count in enumerate(counts):
        for _ in range(count):
            fixed = _name_end(packet, at)
            kind, _, ttl_s, octets = _FIXED.unpack_from(packet, fixed)
            at = fixed + _FIXED.size + octets
            if at > len(packet):
                raise ValueError
            yield _Record(section, kind, fixed, ttl_s, at)


def _question_end(packet: bytes) -> int:
    return _name_end(packet, HEAD_OCTETS) + 4


def _name_end(packet: bytes, at: int) -> int:
    """A pointer to another name ends one; it is not followed, so that this takes no longer than the message is."""
    while length := packet[at]:
        if length >= _POINTER:
            return at + 2
        if length > _LONGEST_LABEL:
            raise ValueError
        at += length + 1
    return at + 1
