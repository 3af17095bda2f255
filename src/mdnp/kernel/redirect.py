"""
The rules that lead questions of names in a sandbox to us, as messages to nf_tables. Pure.

Written raw, since a context of libnftables takes 0.7 MiB and there would be one for each sandbox. What stands there
then, in the words of nft (<datagrams> and <streams> are the ports of our sockets):

    table ip mdnp {
        flags owner
        chain questions {
            ip daddr 127.0.0.11 udp dport 53 meta mark != 0x6d646e70 notrack udp dport set <datagrams>
            ip daddr 127.0.0.11 tcp dport 53 meta mark != 0x6d646e70 notrack tcp dport set <streams>
        }
        chain output {
            type filter hook output priority raw; policy accept;
            oif != "lo" accept
            jump questions
            ip saddr 127.0.0.11 udp sport <datagrams> notrack udp sport set 53
            ip saddr 127.0.0.11 tcp sport <streams> notrack tcp sport set 53
        }
    }

All is done before connections are tracked, so that Docker's own translation to its embedded DNS, which is left as it
is, never sees a packet of ours, and nothing of ours is remembered: with NAT, whoever asked us and asks again from the
same port would be led to us for half a minute more, also when we are dead. The table belongs to the socket that sends
this and goes with it (NFT_TABLE_F_OWNER, Linux 5.12).
"""

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address

from mdnp.dataplane.naming import MARK, TABLE
from mdnp.kernel import netlink
from mdnp.kernel.nfnetlink import Message

EMBEDDED = IPv4Address("127.0.0.11")  # Docker's embedded DNS in each sandbox (libnetwork, resolver.go)
DNS_PORT = 53

# include/uapi/linux/netfilter/nf_tables.h
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE, _DELETE_RULE = 0, 3, 6, 8
_TABLE_NAME, _TABLE_FLAGS, _OWNER = 1, 2, 0x2
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_ELEMENT, _EXPRESSION_NAME, _EXPRESSION_DATA, _VALUE = 1, 1, 2, 1
_NETWORK, _TRANSPORT = 1, 2  # headers of a packet
_META_MARK, _META_OIF, _META_PROTOCOL = 3, 5, 16
_EQUAL, _UNEQUAL = 0, 1
_VERDICT, _REGISTER = 0, 1  # registers
_ACCEPT, _JUMP = 1, -3
_INTERNET_CHECKSUM = 1

_IPV4 = 2
_OUTPUT, _PRIORITY = 3, -300  # NF_INET_LOCAL_OUT; NF_IP_PRI_RAW, which is before NF_IP_PRI_CONNTRACK
_LOOPBACK = 1  # the index of the link lo in each namespace (LOOPBACK_IFINDEX)
_QUESTIONS, _ALL = "questions", "output"
_SADDR, _DADDR, _SPORT, _DPORT = 12, 16, 0, 2  # where they stand in their headers
_UDP, _TCP = 17, 6
_CHECKSUM = {_UDP: 6, _TCP: 16}

_EXCL, _CREATE, _APPEND = 0x200, 0x400, 0x800


def install(datagrams: int, streams: int) -> tuple[Message, ...]:
    """A transaction that makes the table. The ports are those of our sockets."""
    owner = netlink.attribute(_TABLE_FLAGS, _number(_OWNER))
    return (
        _message(_NEW_TABLE, _CREATE | _EXCL, _text(_TABLE_NAME, TABLE), owner),
        _chain(_QUESTIONS),
        _chain(_ALL, _hook()),
        # What leaves the sandbox, which is nearly all that is sent, is looked at once.
        _rule(_ALL, *_elsewhere(), _verdict(_ACCEPT)),
        _rule(_ALL, _verdict(_JUMP, _QUESTIONS)),
        *(_question(protocol, port) for protocol, port in ((_UDP, datagrams), (_TCP, streams))),
        *(_answer(protocol, port) for protocol, port in ((_UDP, datagrams), (_TCP, streams))),
    )


def withdraw() -> tuple[Message, ...]:
    """As `install`, one that removes the rules for questions; answers to earlier ones are still let through."""
    return (_message(_DELETE_RULE, 0, _text(_RULE_TABLE, TABLE), _text(_RULE_CHAIN, _QUESTIONS)),)


def _message(kind: int, flags: int, *attributes: bytes) -> Message:
    return Message(kind, flags, _IPV4, b"".join(attributes))


def _chain(name: str, *hook: bytes) -> Message:
    return _message(_NEW_CHAIN, _CREATE, _text(_CHAIN_TABLE, TABLE), _text(_CHAIN_NAME, name), *hook)


def _hook() -> bytes:
    place = netlink.attribute(_HOOK_NUMBER, _number(_OUTPUT))
    priority = netlink.attribute(_HOOK_PRIORITY, struct.pack("!i", _PRIORITY))
    return netlink.nested(_CHAIN_HOOK, place, priority) + _text(_CHAIN_TYPE, "filter")


def _question(protocol: int, port: int) -> Message:
    return _rule(
        _QUESTIONS,
        *_matched(protocol, _DADDR, _DPORT, DNS_PORT),
        _meta(_META_MARK),
        _compare(_UNEQUAL, struct.pack("=I", MARK)),
        *_changed(protocol, _DPORT, port),
    )


def _answer(protocol: int, port: int) -> Message:
    return _rule(_ALL, *_matched(protocol, _SADDR, _SPORT, port), *_changed(protocol, _SPORT, DNS_PORT))


def _rule(chain: str, *expressions: bytes) -> Message:
    place = _text(_RULE_TABLE, TABLE), _text(_RULE_CHAIN, chain)
    return _message(_NEW_RULE, _CREATE | _APPEND, *place, netlink.nested(_RULE_EXPRESSIONS, *expressions))


def _elsewhere() -> tuple[bytes, bytes]:
    return _meta(_META_OIF), _compare(_UNEQUAL, struct.pack("=I", _LOOPBACK))


def _matched(protocol: int, address: int, place: int, port: int) -> tuple[bytes, ...]:
    return (
        _loaded(_NETWORK, address, 4),
        _compare(_EQUAL, EMBEDDED.packed),
        _meta(_META_PROTOCOL),
        _compare(_EQUAL, bytes([protocol])),
        _loaded(_TRANSPORT, place, 2),
        _compare(_EQUAL, _port(port)),
    )


def _changed(protocol: int, place: int, port: int) -> tuple[bytes, ...]:
    value = netlink.nested(2, netlink.attribute(_VALUE, _port(port)))
    facts = (_TRANSPORT, place, 2, _REGISTER, _INTERNET_CHECKSUM, _CHECKSUM[protocol])
    return (
        _expression("notrack"),
        _expression("immediate", netlink.attribute(1, _number(_REGISTER)), value),
        _expression("payload", *_numbers((2, 3, 4, 5, 6, 7), facts)),
    )


def _meta(key: int) -> bytes:
    return _expression("meta", *_numbers((1, 2), (_REGISTER, key)))


def _loaded(header: int, offset: int, length: int) -> bytes:
    return _expression("payload", *_numbers((1, 2, 3, 4), (_REGISTER, header, offset, length)))


def _compare(how: int, value: bytes) -> bytes:
    return _expression("cmp", *_numbers((1, 2), (_REGISTER, how)), netlink.nested(3, netlink.attribute(_VALUE, value)))


def _verdict(code: int, chain: str = "") -> bytes:
    to = [_text(2, chain)] if chain else []
    verdict = netlink.nested(2, netlink.nested(2, netlink.attribute(1, struct.pack("!i", code)), *to))
    return _expression("immediate", netlink.attribute(1, _number(_VERDICT)), verdict)


def _expression(name: str, *attributes: bytes) -> bytes:
    """Of a rule. The attributes of each kind are numbered as nf_tables.h does (NFTA_META_DREG is 1 and so on)."""
    return netlink.nested(_ELEMENT, _text(_EXPRESSION_NAME, name), netlink.nested(_EXPRESSION_DATA, *attributes))


def _text(kind: int, value: str) -> bytes:
    return netlink.attribute(kind, value.encode() + b"\0")


def _number(value: int) -> bytes:
    return struct.pack("!I", value)


def _numbers(kinds: Sequence[int], values: Sequence[int]) -> list[bytes]:
    return [netlink.attribute(kind, _number(value)) for kind, value in zip(kinds, values, strict=True)]


def _port(port: int) -> bytes:
    return struct.pack("!H", port)
