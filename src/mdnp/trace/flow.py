"""
One flow, and the nft rules that make the kernel tell of its packets and of the answers (`meta nftrace`).

Nothing here drops or changes a packet: all chains accept, and nftrace is a bit that only `nft monitor trace` reads. A
packet's bit is lost in a veth, so it is set where the packet comes to the host, and where it comes by a joint.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mdnp.dataplane.naming import LOWER_END_PREFIX, UPPER_END_PREFIX
from mdnp.model.network import IPAddress
from mdnp.trace.target import Asked

TABLE_PREFIX = "mdnp-trace-"

# The names of our chains; `events` finds the packet's beginning and end by them.
OUT, ARP, REPLY, ANSWERED, LEFT, ARRIVED = "out", "who-has", "reply", "answered", "left", "arrived"

_BEFORE_ALL = -450  # before conntrack's defragmentation at -400
_AFTER_CONNTRACK = -199
_AFTER_ALL = 450


@dataclass(frozen=True)
class Flow:
    """`number` is the source's port, or the id of a ping; `next_hop` is whom the container asks for a MAC."""

    source: IPAddress
    target: IPAddress
    asked: Asked
    number: int
    port: int
    host_end: str
    next_hop: IPAddress


def table_of(process: int) -> str:
    """A name for each process: two that look at once do not meet."""
    return f"{TABLE_PREFIX}{process}"


def script(flow: Flow, table: str) -> str:
    """Both tables, owned by the socket that makes them."""
    return f"{_bridge(flow, table)}\n{_inet(flow, table)}\n"


def _bridge(flow: Flow, table: str) -> str:
    word = _word(flow)
    ends = f"{word} saddr {flow.source} {word} daddr {flow.target}"
    back = f"{word} saddr {flow.target} {word} daddr {flow.source}"
    return "\n".join(
        [
            f"table bridge {table} {{",
            "flags owner",
            _chain(OUT, "prerouting", _BEFORE_ALL, *_coming(flow, f"{ends} {_first_packet(flow)}")),
            _chain(ARP, "prerouting", _BEFORE_ALL, *_coming(flow, _who_has(flow))),
            _chain(REPLY, "prerouting", _BEFORE_ALL, f"{back} {_answer(flow)}"),
            _chain(LEFT, "postrouting", _AFTER_ALL),
            "}",
        ]
    )


def _coming(flow: Flow, match: str) -> Iterator[str]:
    """From the container, and on from one bridge of its network to the next."""
    for link in (flow.host_end, f"{UPPER_END_PREFIX}*", f"{LOWER_END_PREFIX}*"):
        yield f'iifname "{link}" {match}'


def _inet(flow: Flow, table: str) -> str:
    back = f"ct direction reply ct original {_word(flow)} saddr {flow.source}"
    if flow.asked is Asked.PING:
        answers = f"{back} {_answer(flow)}"
    else:
        answers = f"meta l4proto {flow.asked} {back} ct original proto-src {flow.number}"
    # An ICMP error about a packet of the flow, but no redirect, after which the packet still goes on. The number is
    # compared as it stands, whatever it is of: a port, an id.
    number = f"ct original protocol {_protocol(flow)} ct original proto-src {flow.number}"
    errors = f"meta l4proto {_ping_protocol(flow)} {_error(flow)} ct state related {back} {number}"
    return "\n".join(
        [
            f"table inet {table} {{",
            "flags owner",
            _chain(REPLY, "prerouting", _AFTER_CONNTRACK, answers, errors),
            _chain(ANSWERED, "output", _AFTER_CONNTRACK, answers, errors),
            _chain(LEFT, "postrouting", _AFTER_ALL),
            _chain(ARRIVED, "input", _AFTER_ALL),
            "}",
        ]
    )


def _chain(name: str, hook: str, priority: int, *matches: str) -> str:
    rules = "\n".join(f"{match} meta nftrace set 1" for match in matches)
    return f"chain {name} {{\ntype filter hook {hook} priority {priority}; policy accept;\n{rules}\n}}"


def _word(flow: Flow) -> str:
    return "ip" if flow.source.version == 4 else "ip6"


def _icmp(flow: Flow) -> str:
    return "icmp" if flow.source.version == 4 else "icmpv6"


def _error(flow: Flow) -> str:
    if flow.source.version == 4:
        return "icmp type { destination-unreachable, time-exceeded, parameter-problem }"
    return "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }"


def _ping_protocol(flow: Flow) -> str:
    return "icmp" if flow.source.version == 4 else "ipv6-icmp"


def _protocol(flow: Flow) -> str:
    return _ping_protocol(flow) if flow.asked is Asked.PING else flow.asked.value


def _first_packet(flow: Flow) -> str:
    if flow.asked is Asked.PING:
        return f"{_icmp(flow)} type echo-request {_icmp(flow)} id {flow.number}"
    opening = "tcp flags & (fin | syn | rst | ack) == syn " if flow.asked is Asked.TCP else ""
    return f"{opening}{flow.asked} sport {flow.number} {flow.asked} dport {flow.port}"


def _answer(flow: Flow) -> str:
    if flow.asked is Asked.PING:
        return f"{_icmp(flow)} type echo-reply {_icmp(flow)} id {flow.number}"
    return f"{flow.asked} sport {flow.port} {flow.asked} dport {flow.number}"


def _who_has(flow: Flow) -> str:
    if flow.next_hop.version == 4:
        return f"arp operation request arp daddr ip {flow.next_hop}"
    # nft 1.0.6 has no word for the target of a solicitation, which is at bit 64 of ICMPv6 (RFC 4861, 4.3).
    return f"icmpv6 type nd-neighbor-solicit @th,64,128 {int(flow.next_hop):#x}"
