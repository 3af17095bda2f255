"""
Rows as they stand in etcd: keys, and values as small JSON. Pure.

All stand under `ROOT`. In a key a network has `_` for its `/`, and a segment keeps the comma between its subnets. What
cannot be read is `Undecodable`, with the reason: one bad row is reported, and hurts nothing else.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Annotated, Any

import msgspec

from mdnp.member import DeclaredNetwork
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
from mdnp.model.errors import MdnpError
from mdnp.model.host import HostID
from mdnp.model.mac import parse_mac
from mdnp.model.names import Names
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.port import Protocol
from mdnp.model.segment import Segment, SegmentID, segment_id

ROOT = "/mdnp/v1/"
VERSION = 1
_VNIS = range(1, 1 << 24)

# Thousands of rows name the same few segments, and reading a network costs more than the rest of a row.
_SEGMENTS_AT_HAND = 256

# What a host tells of an endpoint costs every other one: more than these of its names and ports nobody takes.
_ALIASES = 64
_NAME = 255  # bytes; RFC 1035, 2.3.4: nothing longer can be asked for
_NAMED_PORTS = 256
_LAST_PORT = 65535

# The endpoint that is the host's own address in a segment.
HOST_ENDPOINT = "host"


class Undecodable(MdnpError):
    """A row that is not as this version writes it: a later version's, or a hand's work."""


FORMAT = f"{ROOT}format"
EPOCH = f"{ROOT}epoch"
SEGMENTS = f"{ROOT}segments/"
VNIS = f"{ROOT}vnis/"
BLOCKS = f"{ROOT}blocks/"
ALIVE = f"{ROOT}alive/"
REMOVED = f"{ROOT}removed/"
NETWORKS = f"{ROOT}networks/"


def key(row: Row) -> str:
    kind, fields = _KEYS[type(row)]
    subject = _subject(row)
    return ROOT + "/".join([kind, *(_flat(getattr(subject, name)) for name in fields)])


def host_key(host: HostID) -> str:
    return f"{ROOT}hosts/{host}"


def alive_key(host: HostID) -> str:
    return f"{ALIVE}{host}"


def removed_key(host: HostID) -> str:
    return f"{REMOVED}{host}"


def segment_key(segment: SegmentID) -> str:
    return f"{SEGMENTS}{_flat(segment)}"


def vni_key(vni: int) -> str:
    return f"{VNIS}{vni}"


def block_key(pool: IPNetwork, network: IPNetwork) -> str:
    return f"{blocks_prefix(pool)}{_flat(network)}"


def blocks_prefix(pool: IPNetwork) -> str:
    return f"{BLOCKS}{_flat(pool)}/"


def members_prefix(segment: SegmentID) -> str:
    return f"{ROOT}members/{_flat(segment)}/"


def network_key(name: str) -> str:
    return f"{NETWORKS}{name}"


def value(row: Row) -> bytes:
    if isinstance(row, EndpointRow):  # by far the most, and all of ours are compared at each change
        return _endpoint_value(row)
    _, keyed = _KEYS[type(row)]
    fields = msgspec.to_builtins(_subject(row), enc_hook=str, str_keys=True)
    return msgspec.json.encode({name: value for name, value in fields.items() if name not in keyed})


def decode(key: str, value: bytes) -> Row:
    """Errors: Undecodable."""
    kind, *parts = key.removeprefix(ROOT).split("/")
    reader, count = _READERS.get(kind, (None, 0))
    if reader is None or len(parts) != count or not all(parts):
        raise Undecodable(f"{key}: no key of ours")
    try:
        return reader(value, *parts)
    except (ValueError, TypeError, RecursionError, msgspec.MsgspecError, MdnpError) as error:
        raise Undecodable(f"{key}: {str(error)[:160]}") from error


def decoded(key: str, value: bytes) -> Row | None:
    """As `decode`; None: it cannot be read."""
    try:
        return decode(key, value)
    except Undecodable:
        return None


def host_of(key: str) -> HostID | None:
    """Whose row it is: the host that told it, which tells it anew when etcd's data was lost. None: all hosts'."""
    kind, *parts = key.removeprefix(ROOT).split("/")
    place = _TELLERS.get(kind)
    return HostID(parts[place]) if place is not None and len(parts) > place else None


def _subject(row: Row) -> object:
    """What has the fields."""
    match row:
        case SegmentRow(segment):
            return segment
        case NetworkRow(network):
            return network
    return row


# The first part of the key, and the fields that follow it; the others stand in the value.
_KEYS: Mapping[type[Row], tuple[str, tuple[str, ...]]] = {
    FormatRow: ("format", ()),
    EpochRow: ("epoch", ()),
    HostRow: ("hosts", ("host",)),
    AliveRow: ("alive", ("host",)),
    RemovedRow: ("removed", ("host",)),
    SegmentRow: ("segments", ("id",)),
    VniRow: ("vnis", ("vni",)),
    MemberRow: ("members", ("segment", "host")),
    EndpointRow: ("endpoints", ("segment", "host", "endpoint")),
    BlockRow: ("blocks", ("pool", "network")),
    NetworkRow: ("networks", ("name",)),
    DoneRow: ("networks-done", ("name", "host")),
}


# Where in a key the host stands that told the row, counted from behind the first part.
_TELLERS = {"hosts": 0, "members": 1, "endpoints": 1, "networks-done": 1}


class _Host(msgspec.Struct):
    name: str
    vtep: str
    epoch: int


class _Alive(msgspec.Struct):
    session: str
    vtep: str
    name: str
    machine: str
    clock: float


class _Segment(msgspec.Struct):
    vni: int
    label: str
    mtu: int
    gateways: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()
    internal: bool = False
    icc: bool = True
    multicast: bool = True


_Name = Annotated[str, msgspec.Meta(max_length=_NAME)]
_Port = Annotated[str, msgspec.Meta(max_length=len("65535/sctp"))]


class _Names(msgspec.Struct, omit_defaults=True):
    name: _Name = ""
    aliases: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=_ALIASES)] = ()
    hostname: _Name = ""
    service: _Name = ""


class _Endpoint(msgspec.Struct):
    mac: str
    addresses: tuple[str, ...]
    generation: int = 0
    given: bool = False
    names: _Names | msgspec.UnsetType = msgspec.UNSET
    ports: Annotated[tuple[_Port, ...], msgspec.Meta(max_length=_NAMED_PORTS)] | msgspec.UnsetType = msgspec.UNSET


class _Claim(msgspec.Struct):
    host: str
    agreed: bool = False


class _Block(msgspec.Struct):
    owner: str
    generation: int = 0
    claims: dict[str, _Claim] = {}


class _Vni(msgspec.Struct):
    segment: str


class _Done(msgspec.Struct):
    error: str


def _format(value: bytes) -> FormatRow:
    return msgspec.json.decode(value, type=FormatRow)


def _epoch(value: bytes) -> EpochRow:
    return msgspec.json.decode(value, type=EpochRow)


def _host(value: bytes, host: str) -> HostRow:
    read = msgspec.json.decode(value, type=_Host)
    return HostRow(HostID(host), read.name, _vtep(read.vtep), read.epoch)


def _alive(value: bytes, host: str) -> AliveRow:
    read = msgspec.json.decode(value, type=_Alive)
    return AliveRow(HostID(host), read.session, _vtep(read.vtep), read.name, read.machine, read.clock)


def _removed(_value: bytes, host: str) -> RemovedRow:
    return RemovedRow(HostID(host))


def _segment(value: bytes, segment: str) -> SegmentRow:
    read = msgspec.json.decode(value, type=_Segment)
    if read.vni not in _VNIS:
        raise ValueError(f"VNI {read.vni}: not from 1 to {_VNIS[-1]}")
    fields = {name: getattr(read, name) for name in read.__struct_fields__}
    return SegmentRow(Segment(_segment_id(segment), **fields))


def _vni(value: bytes, vni: str) -> VniRow:
    if not (vni.isdecimal() and vni.isascii()):
        raise ValueError(f"VNI {vni}: no number")
    return VniRow(int(vni), _segment_id(_flat(msgspec.json.decode(value, type=_Vni).segment)))


def _member(_value: bytes, segment: str, host: str) -> MemberRow:
    return MemberRow(_segment_id(segment), HostID(host))


def _endpoint(value: bytes, segment: str, host: str, endpoint: str) -> EndpointRow:
    read = msgspec.json.decode(value, type=_Endpoint)
    identity = _segment_id(segment)
    addresses = tuple(map(_address, read.addresses))
    subnets = _networks(segment)
    for address in addresses:
        if not any(address in subnet for subnet in subnets):
            raise ValueError(f"address {address} is not in the segment")
    return EndpointRow(
        identity,
        HostID(host),
        endpoint,
        parse_mac(read.mac),
        addresses,
        read.generation,
        read.given,
        Names(read.names.name, read.names.aliases, read.names.hostname, read.names.service) if read.names else None,
        tuple(map(_port, read.ports or ())),
    )


def _endpoint_value(row: EndpointRow) -> bytes:
    return msgspec.json.encode(
        _Endpoint(
            row.mac,
            tuple(map(str, row.addresses)),
            row.generation,
            row.given,
            _names(row.names) if row.names else msgspec.UNSET,
            tuple(f"{port}/{protocol}" for protocol, port in row.ports[:_NAMED_PORTS]) or msgspec.UNSET,
        )
    )


def _names(names: Names) -> _Names:
    """What is too long to be asked for is left out: cut off, it would be another name."""
    name, hostname, service, *aliases = (
        one if len(one.encode()) <= _NAME else "" for one in (names.name, names.hostname, names.service, *names.aliases)
    )
    return _Names(name, tuple(filter(None, aliases))[:_ALIASES], hostname, service)


def _port(text: str) -> tuple[Protocol, int]:
    number, _, protocol = text.partition("/")
    if not (number.isdecimal() and number.isascii() and 0 < int(number) <= _LAST_PORT):
        raise ValueError(f"port {text}: expected one as 80/tcp")
    return Protocol(protocol), int(number)


def _block(value: bytes, pool: str, network: str) -> BlockRow:
    read = msgspec.json.decode(value, type=_Block)
    whole, part = _network(pool), _network(network)
    if whole.version != part.version or part.network_address not in whole or part.prefixlen < whole.prefixlen:
        raise ValueError("not a part of the pool")
    claims = {_address(address): Claim(HostID(one.host), one.agreed) for address, one in read.claims.items()}
    return BlockRow(whole, part, HostID(read.owner), read.generation, claims)


def _declared(value: bytes, name: str) -> NetworkRow:
    fields = msgspec.json.decode(value, type=dict[str, Any])
    return NetworkRow(msgspec.convert({**fields, "name": name}, DeclaredNetwork))


def _done(value: bytes, name: str, host: str) -> DoneRow:
    return DoneRow(name, HostID(host), msgspec.json.decode(value, type=_Done).error)


# For the first part of a key: who reads the value, given the parts that follow, and how many those are.
_READERS: Mapping[str, tuple[Callable[..., Row], int]] = {
    "format": (_format, 0),
    "epoch": (_epoch, 0),
    "hosts": (_host, 1),
    "alive": (_alive, 1),
    "removed": (_removed, 1),
    "segments": (_segment, 1),
    "vnis": (_vni, 1),
    "members": (_member, 2),
    "endpoints": (_endpoint, 3),
    "blocks": (_block, 2),
    "networks": (_declared, 1),
    "networks-done": (_done, 2),
}


def _flat(network: object) -> str:
    return str(network).replace("/", "_")


def _network(part: str) -> IPNetwork:
    return ip_network(part.replace("_", "/"))


@lru_cache(maxsize=_SEGMENTS_AT_HAND)
def _networks(part: str) -> tuple[IPNetwork, ...]:
    return tuple(map(_network, part.split(",")))


@lru_cache(maxsize=_SEGMENTS_AT_HAND)
def _segment_id(part: str) -> SegmentID:
    identity = segment_id(_networks(part))
    if _flat(identity) != part:
        raise ValueError(f"segment {part}: its name is {_flat(identity)}")
    return identity


def _address(text: str) -> IPAddress:
    if "%" in text:
        raise ValueError(f"address {text} has a zone")
    return ip_address(text)


def _vtep(text: str) -> IPAddress:
    address = _address(text)
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"VTEP {text}: no address of a host")
    return address
