"""
What `nft --handle monitor trace` prints, as values: the base chains that a packet passed, and how each let it go.

A packet gets a new trace id at some hooks, so that its way is put together by order: it begins at a chain of ours that
set the bit, and ends where the next one begins.
"""

import re
from dataclasses import dataclass, replace

from mdnp.dataplane.naming import LOWER_END_PREFIX, UPPER_END_PREFIX, is_annex
from mdnp.trace.flow import ANSWERED, ARP, OUT, REPLY, TABLE_PREFIX

_LINE = re.compile(r"trace id (\w+) (\S+) (\S+) (\S+) (packet:|rule|policy|verdict) ?(.*?)\s*")
_RULE = re.compile(r"(.*?)(?: # handle (\d+))? \(verdict (.*)\)")
_LINK = re.compile(r'\b([io])if "([^"]+)"')
_ADDRESS = re.compile(r"\bip6? ([sd])addr (\S+)")
_SENDER = re.compile(r"\bether saddr (\S+)")
_PORT = re.compile(r"\b(?:tcp|udp) ([sd])port (\d+)")
_PING = re.compile(r"\bicmp(?:v6)? id (\d+)")
# nft 1.0.6 takes the id and number of an ICMPv6 echo for one word of 32 bits, and gives it the name of another message.
_PING6 = re.compile(r"\bicmpv6 type echo-\w+ .*\bicmpv6 (?:parameter-problem|packet-too-big|mtu) (\d+)")
_ASKS = re.compile(r"\barp operation request\b|\bicmpv6 type nd-neighbor-solicit\b")
_COUNTER = re.compile(r"\s*\bcounter packets \d+ bytes \d+")

_BEGINNINGS = (OUT, ARP, REPLY, ANSWERED)
_LAST = re.compile(r"accept|drop|queue.*|stolen")


@dataclass(frozen=True)
class Packet:
    """
    As a chain saw it. What it did not have is "" or 0; `mac` is the sender's, `reset` says that it refuses a TCP
    connection, `asks` that it asks who has an address.
    """

    iif: str = ""
    oif: str = ""
    source: str = ""
    target: str = ""
    source_port: int = 0
    target_port: int = 0
    ping: int = 0
    reset: bool = False
    asks: bool = False
    mac: str = ""


@dataclass(frozen=True)
class Rule:
    """A rule that said something, in nft's words without its counter."""

    family: str
    table: str
    chain: str
    text: str
    verdict: str
    handle: int = 0


@dataclass(frozen=True)
class Pass:
    """
    A base chain that a packet passed. `by` is the rule that decided, None if the chain's policy did; `led` are the
    chains that rules led it through; `verdict` is accept or drop, or nft's word for what is neither.
    """

    family: str
    table: str
    chain: str
    packet: Packet
    rules: tuple[Rule, ...] = ()
    verdict: str = "accept"
    by: Rule | None = None

    @property
    def place(self) -> str:
        return f"{self.family} {self.table} {self.chain}"

    @property
    def goes_up(self) -> bool:
        """It leaves an annex for its network's own bridge, where the way goes on."""
        return self.packet.oif.startswith(LOWER_END_PREFIX) or is_annex(self.packet.oif)

    @property
    def is_ours(self) -> bool:
        return self.table.startswith(TABLE_PREFIX)

    @property
    def dropped(self) -> bool:
        return self.verdict == "drop"


@dataclass(frozen=True)
class Journey:
    """The way of one packet. `kind` is the chain of ours with which it began: out, who-has, reply, answered."""

    kind: str
    passes: tuple[Pass, ...]

    @property
    def death(self) -> Pass | None:
        return next((one for one in self.passes if one.dropped), None)

    def ended_at(self, chain: str) -> Pass | None:
        """The pass of a chain of ours by which it left; of two the bridge's, which knows the port."""
        every = [one for one in self.passes if one.is_ours and one.chain == chain]
        found = [one for one in every if not (one.goes_up or one.packet.oif.startswith(UPPER_END_PREFIX))] or every
        return next((one for one in found if one.family == "bridge"), found[-1] if found else None)


def parse(text: str, table: str, number: int) -> list[Journey]:
    """
    The ways of the packets that have `number` as port or ping id, and of those that our `table` began to tell of.

    What is not understood is left out: a newer nft may say more.
    """
    journeys: list[tuple[str, list[Pass]]] = []
    of: dict[str, list[Pass]] = {}  # by trace id
    for trace, passed in _passes(text):
        begins = passed.table == table and passed.chain in _BEGINNINGS and bool(passed.rules)
        begins = begins and not passed.packet.iif.startswith((UPPER_END_PREFIX, LOWER_END_PREFIX))
        # An answer on one bridge comes by two beginnings; what is sent again may have the ids that it had before.
        if trace not in of or any(one.place == passed.place for one in of[trace]):
            if begins:
                journeys.append((passed.chain, []))
            elif not journeys or not _goes_on(*journeys[-1], passed.packet, number):
                continue
            of[trace] = journeys[-1][1]
        of[trace].append(passed)
    return [Journey(kind, tuple(passes)) for kind, passes in journeys]


def _goes_on(kind: str, passes: list[Pass], packet: Packet, number: int) -> bool:
    """Whether a packet with a new trace id is the one that is under way, or a copy of it; others trace at that time."""
    if kind == ARP:
        return packet.asks and packet.mac == passes[0].packet.mac
    return number in (packet.source_port, packet.target_port, packet.ping)


def _passes(text: str) -> list[tuple[str, Pass]]:
    """
    Each base chain's pass with its trace id, by beginning. An error that a rule sends (reject) is told of before the
    rule is, so that a pass may end after another packet's has begun.
    """
    passes: list[tuple[str, Pass]] = []
    open_: dict[str, int] = {}
    for found in map(_LINE.fullmatch, text.splitlines()):
        if not found:
            continue
        trace, family, table, chain, kind, rest = found.groups()
        if kind == "packet:":
            open_[trace] = len(passes)
            passes.append((trace, Pass(family, table, chain, parse_packet(rest))))
        elif trace in open_:
            place = open_[trace]
            passes[place] = trace, _heard(passes[place][1], chain, kind, rest)
    return passes


def _heard(passed: Pass, chain: str, kind: str, rest: str) -> Pass:
    if kind == "policy":
        return replace(passed, verdict=rest, by=None)
    found = _RULE.fullmatch(rest)
    if not found:
        return passed
    text, handle, verdict = found.groups()
    rule = Rule(passed.family, passed.table, chain, _COUNTER.sub("", text).strip(), verdict, int(handle or 0))
    passed = replace(passed, rules=(*passed.rules, rule))
    return replace(passed, verdict=verdict, by=rule) if _LAST.fullmatch(verdict) else passed


def parse_packet(text: str) -> Packet:
    links = dict(_LINK.findall(text))
    addresses = dict(reversed(_ADDRESS.findall(text)))
    ports = {side: int(port) for side, port in reversed(_PORT.findall(text))}
    return Packet(
        links.get("i", ""),
        links.get("o", ""),
        addresses.get("s", ""),
        addresses.get("d", ""),
        ports.get("s", 0),
        ports.get("d", 0),
        _ping(text),
        _is_reset(text),
        bool(_ASKS.search(text)),
        sender.group(1) if (sender := _SENDER.search(text)) else "",
    )


def _ping(text: str) -> int:
    if found := _PING.search(text):
        return int(found.group(1))
    found = _PING6.search(text)
    return int(found.group(1)) >> 16 if found else 0


def _is_reset(text: str) -> bool:
    """nft prints flags that have one name together by name, others as a number."""
    flags = re.search(r"\btcp flags == (\S+)", text)
    if not flags:
        return False
    value = flags.group(1)
    return bool(int(value, 16) & 4) if value.startswith("0x") else "rst" in value.split("|")
