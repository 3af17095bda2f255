"""
Elements of our sets and maps as messages to nf_tables. Pure.

libnftables reads all tables of the host anew before each transaction, some fifteen dumps, which takes ten times as long
as what it then does. It still makes and reads the tables, and packs elements of intervals.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from mdnp.dataplane.naming import TABLE
from mdnp.dataplane.objects import Element, Table
from mdnp.dataplane.rules import TABLES
from mdnp.dataplane.steps import Add, Delete, Step
from mdnp.kernel import netlink
from mdnp.kernel.nfnetlink import Message

# include/uapi/linux/netfilter.h and netfilter/nf_tables.h
_FAMILIES = {"inet": 1, "bridge": 7}
_NEW_ELEMENT, _DELETE_ELEMENT = 12, 14
_TABLE_NAME, _SET_NAME, _ELEMENTS = 1, 2, 3
_ELEMENT, _KEY, _DATA, _VALUE = 1, 1, 2, 1
_CREATE = 0x400

_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_IFNAMSIZ = 16
# A set or map as our rules declare it: its kind of keys, that of its values, and its flags.
_DECLARATION = re.compile(
    r"^\s*(?:set|map) (?P<name>\w+) { type(?:of)? (?P<keys>[^;:]+)(?: : (?P<values>[^;]+))?; (?P<rest>.*)}",
    re.MULTILINE,
)

_Packing = Callable[[str], bytes]


@dataclass(frozen=True)
class Kind:
    """How to pack the parts of a key, and those of a value."""

    keys: tuple[_Packing, ...]
    values: tuple[_Packing, ...] = ()


def messages(steps: Sequence[Step]) -> list[Message] | None:
    """None where one of the steps is not of elements, or of intervals."""
    packed = []
    for step in steps:
        if not isinstance(step, Add | Delete) or not isinstance(step.object, Element):
            return None
        kind = KINDS.get((step.object.family, step.object.set))
        if kind is None:
            return None
        packed.append(_message(step.object, kind, adds=isinstance(step, Add)))
    return packed


def _message(element: Element, kind: Kind, *, adds: bool) -> Message:
    said = [_nested_value(_KEY, kind.keys, element.parts)]
    if adds and element.value:
        said.append(_nested_value(_DATA, kind.values, element.value))
    body = [
        netlink.attribute(_TABLE_NAME, TABLE.encode() + b"\0"),
        netlink.attribute(_SET_NAME, element.set.encode() + b"\0"),
        netlink.nested(_ELEMENTS, netlink.nested(_ELEMENT, *said)),
    ]
    verb, flags = (_NEW_ELEMENT, _CREATE) if adds else (_DELETE_ELEMENT, 0)
    return Message(verb, flags, _FAMILIES[element.family], b"".join(body))


def _nested_value(kind: int, packings: Sequence[_Packing], parts: Sequence[str]) -> bytes:
    """Of several parts each is filled up to registers of 4 bytes; one alone has its own length."""
    packed = [packing(part) for packing, part in zip(packings, parts, strict=True)]
    if len(packed) > 1:
        packed = [part + bytes(-len(part) & 3) for part in packed]
    return netlink.nested(kind, netlink.attribute(_VALUE, b"".join(packed)))


def _link(text: str) -> bytes:
    return text.strip('"').encode().ljust(_IFNAMSIZ, b"\0")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _address(text: str) -> bytes:
    return ip_address(text).packed


def _protocol(text: str) -> bytes:
    return bytes([_PROTOCOLS[text]])


def _port(text: str) -> bytes:
    return struct.pack("!H", int(text))


def _integer(bits: int) -> _Packing:
    """As it stands in a packet."""
    return lambda text: int(text, 0).to_bytes(bits // 8, "big")


_PACKINGS: Mapping[str, _Packing] = {
    "ifname": _link,
    "iifname": _link,
    "oifname": _link,
    "ether_addr": _mac,
    "ether saddr": _mac,
    "ether daddr": _mac,
    "ipv4_addr": _address,
    "ip saddr": _address,
    "ip daddr": _address,
    "ipv6_addr": _address,
    "ip6 saddr": _address,
    "ip6 daddr": _address,
    "inet_proto": _protocol,
    "inet_service": _port,
}


def _packings(declared: str | None) -> tuple[_Packing, ...]:
    """Errors: KeyError of a kind of which we know no packing."""
    parts = [one.strip() for one in (declared or "").split(" . ") if one.strip()]
    return tuple(_integer(int(one.split(",")[2])) if one.startswith("@") else _PACKINGS[one] for one in parts)


def _kinds(table: Table) -> Mapping[tuple[str, str], Kind]:
    return {
        (table.family, one["name"]): Kind(_packings(one["keys"]), _packings(one["values"]))
        for one in _DECLARATION.finditer(table.text)
        if "interval" not in one["rest"]
    }


# By the family of the table and the name of the set, of all that are packed here.
KINDS = {key: kind for table in TABLES for key, kind in _kinds(table).items()}
