"""
Messages of netlink, read and written raw: decoding all of each costs a hundred times what is needed of it. Pure.
"""

import struct
import sys
from collections.abc import Iterator, Set

MESSAGE = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port id
LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, device type, index, flags, changed flags
IFLA_IFNAME, IFLA_STATS64, IFLA_GROUP = 3, 23, 27  # include/uapi/linux/if_link.h

NLMSG_ERROR = 2
ERROR = struct.Struct("=i")  # of nlmsgerr: minus the error number, 0 of what was done

_NLM_F_DUMP_INTR = 0x10
_NESTED = 0x8000

_ATTRIBUTE = struct.Struct("=HH")  # nlattr, of 4 bytes: length, type
_TYPE_MASK = 0x3FFF  # the bits above say how an attribute is coded


def messages(data: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Type, port id and body of each message. What is cut off, or says an impossible length, ends the list."""
    rest = memoryview(data)
    while len(rest) >= MESSAGE.size:
        length, kind, _flags, _sequence, port = MESSAGE.unpack_from(rest)
        if not MESSAGE.size <= length <= len(rest):
            return
        yield kind, port, rest[MESSAGE.size : length]
        rest = rest[_aligned(length) :]


def answers(data: bytes) -> Iterator[tuple[int, int]]:
    """The sequence number of each message that is answered, and the error number, 0 of what was done."""
    at = 0
    while at + MESSAGE.size + ERROR.size <= len(data):
        length, kind, _flags, sequence, _port = MESSAGE.unpack_from(data, at)
        if kind == NLMSG_ERROR:
            yield sequence, -ERROR.unpack_from(data, at + MESSAGE.size)[0]
        at += _aligned(max(length, MESSAGE.size))


def is_interrupted(data: bytes) -> bool:
    """Whether a message says that what is dumped changed meanwhile, so that the dump may not have all."""
    at = 0
    while at + MESSAGE.size <= len(data):
        length, _kind, flags, _sequence, _port = MESSAGE.unpack_from(data, at)
        if flags & _NLM_F_DUMP_INTR:
            return True
        at += _aligned(max(length, MESSAGE.size))
    return False


def attributes(rest: memoryview, wanted: Set[int] | None = None) -> dict[int, memoryview]:
    """By type; of all, or only of those that are wanted, until all were found. An impossible length ends the list."""
    found = {}
    end, at = len(rest), 0
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(rest, at)
        if not 4 <= length <= end - at:
            break
        kind &= _TYPE_MASK
        if wanted is None or kind in wanted:
            found[kind] = rest[at + 4 : at + length]
            if wanted is not None and len(found) == len(wanted):
                break
        at += (length + 3) & ~3
    return found


def text(value: bytes | memoryview) -> str:
    return bytes(value).partition(b"\0")[0].decode(errors="replace")


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """To send. What comes to no multiple of 4 bytes is filled up, so that another may follow."""
    return MESSAGE.pack(MESSAGE.size + len(body), kind, flags, sequence, 0) + _filled(body)


def attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + _filled(value)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def number(value: memoryview | bytes | None) -> int:
    """Of an attribute in the byte order of the machine; 0 where it is missing."""
    return int.from_bytes(value, sys.byteorder) if value is not None else 0


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) & 3)
