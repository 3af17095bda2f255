"""
Everybody's chains in one shape, whether nft or iptables shows them, and what becomes of a packet in them. Pure.

A packet is known by where it comes from and goes to, and by its protocol; whatever else a rule asks for may hold or
not. So a rule that drops some traffic (a port, an address) is no finding, and one that drops all of a network's is.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

IPNetwork = IPv4Network | IPv6Network

_HOOKS = {"PREROUTING": "prerouting", "FORWARD": "forward"}
_ENDS = ("accept", "drop", "reject", "return")
_DROPS = ("drop", "reject")
_LEADS = ("jump", "goto")
# What an nft rule does beside asking and deciding; everything else that it says may hold or not.
_SILENT = ("counter", "log", "mangle", "notrack", "comment")
_OPTIONS = {"-i": "in", "-o": "out", "-s": "source", "-d": "destination", "-p": "protocol", "--ctstate": "state"}
_ADDRESS = {"saddr": "source", "daddr": "destination"}
_META = {
    "iifname": "in",
    "oifname": "out",
    "iif": "in",
    "oif": "out",
    "nfproto": "family",
    "l4proto": "protocol",
    "ibrname": "bridge",
}


@dataclass(frozen=True)
class Condition:
    """Holds if what the packet `is` there is among `values`; None stands for what we do not understand."""

    of: str
    values: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True)
class Rule:
    """`text` is as its program shows it. `verdict` is "" for one that decides nothing."""

    text: str
    conditions: tuple[Condition, ...]
    verdict: str
    target: str = ""


@dataclass(frozen=True)
class Chain:
    """
    `by` is the program that shows it: nft, iptables or iptables-legacy (and ip6…). A base chain has a hook. `rules` are
    those that can decide; `filled` says that there are any.
    """

    by: str
    family: str
    table: str
    name: str
    rules: tuple[Rule, ...] = ()
    hook: str = ""
    kind: str = "filter"
    policy: str = "accept"
    filled: bool = False

    @property
    def place(self) -> tuple[str, str, str]:
        return self.by, self.family, self.table

    def __str__(self) -> str:
        return f"chain {self.name} of table {self.family} {self.table} ({self.by})"


@dataclass(frozen=True)
class Packet:
    """The first of a connection. What is "" or None may be anything; `bridge` is that of a frame in it."""

    family: int
    into: str = ""
    out: str = ""
    source: IPNetwork | None = None
    destination: IPNetwork | None = None
    translated: bool = False
    bridge: str = ""
    protocol: str = "tcp"


@dataclass(frozen=True)
class End:
    """Where a packet ends. `rule` is None for a policy; `sure` says that no earlier rule may have accepted it."""

    chain: Chain
    verdict: str
    rule: Rule | None = None
    sure: bool = True

    @property
    def dropped(self) -> bool:
        return self.verdict in _DROPS


def drops(chains: Iterable[Chain], hook: str, packet: Packet) -> Iterator[End]:
    """Where the packet is dropped at this hook: one end at most for each base chain."""
    every = tuple(chains)
    named: dict[tuple[str, ...], Chain] = {(*chain.place, chain.name): chain for chain in every}
    for base in every:
        if base.hook == hook and base.kind != "nat" and _concerns(base, packet):
            end = _Walk(named, packet).through(base)
            if end is not None and end.dropped:
                yield end


def _concerns(base: Chain, packet: Packet) -> bool:
    families = {4: ("ip", "inet"), 6: ("ip6", "inet")}[packet.family]
    return base.family in (("bridge",) if packet.bridge else families)


class _Walk:
    """One packet's way; `_doubt` is that a rule may have accepted it."""

    def __init__(self, named: Mapping[tuple[str, ...], Chain], packet: Packet) -> None:
        self._named = named
        self._packet = packet
        self._doubt = False

    def through(self, base: Chain) -> End | None:
        end = self._along(base, ())
        if end is None and base.policy == "drop":
            return End(base, "drop", None, not self._doubt)
        return end

    def _along(self, chain: Chain, above: tuple[str, ...]) -> End | None:
        """None when the packet comes out at the end of the chain."""
        for rule in chain.rules:
            held = all_hold(holds(one, self._packet) for one in rule.conditions)
            if held is False or not rule.verdict:
                continue
            if held is None:
                self._perhaps(chain, rule, above)
                continue
            if rule.verdict == "return":
                return None
            if rule.verdict not in _LEADS:
                return End(chain, rule.verdict, rule, not self._doubt)
            end = self._lead(chain, rule, above)
            if end is not None or rule.verdict == "goto":
                return end
        return None

    def _lead(self, chain: Chain, rule: Rule, above: tuple[str, ...]) -> End | None:
        target = self._named.get((*chain.place, rule.target))
        if target is None or rule.target in above:  # one as LOG or MARK, which is no chain
            return None
        return self._along(target, (*above, chain.name))

    def _perhaps(self, chain: Chain, rule: Rule, above: tuple[str, ...]) -> None:
        """What it may drop is some traffic only; what it may accept leaves a doubt about every later drop."""
        if rule.verdict in _LEADS:
            before = self._doubt
            end = self._lead(chain, rule, above)
            self._doubt = before or self._doubt or (end is not None and not end.dropped) or rule.verdict == "goto"
        elif rule.verdict not in _DROPS:
            self._doubt = True


def all_hold(answers: Iterable[bool | None]) -> bool | None:
    known = list(answers)
    if False in known:
        return False
    return None if None in known else True


def holds(condition: Condition, packet: Packet) -> bool | None:
    """Whether it is so for this packet; None if it may be."""
    answer = _ASKED.get(condition.of, _anything)(condition.values, packet)
    return answer if answer is None or not condition.negated else not answer


def _anything(_values: Sequence[str], _packet: Packet) -> bool | None:
    return None


def _among(values: Sequence[str], name: str) -> bool | None:
    if not name or any(value.startswith("@") for value in values):
        return None
    return any(name.startswith(value[:-1]) if value.endswith("*") else name == value for value in values)


@lru_cache(4096)
def _network(text: str) -> IPNetwork:
    return ip_network(text, strict=False)


def _within(values: Sequence[str], network: IPNetwork | None) -> bool | None:
    """Whether the whole network is in one of them; None if a part is, or if it may be."""
    try:
        others = [_network(value) for value in values]
    except ValueError:
        return None
    if network is None:
        return True if any(other.prefixlen == 0 for other in others) else None
    same = [other for other in others if other.version == network.version]
    if any(other.supernet_of(network) for other in same):  # type: ignore[arg-type]  # of one version
        return True
    return None if any(other.overlaps(network) for other in same) else False


_ASKED: Mapping[str, Callable[[Sequence[str], Packet], bool | None]] = {
    "in": lambda values, packet: _among(values, packet.into),
    "out": lambda values, packet: _among(values, packet.out),
    "bridge": lambda values, packet: _among(values, packet.bridge),
    "protocol": lambda values, packet: packet.protocol in values or "all" in values,
    "source": lambda values, packet: _within(values, packet.source),
    "destination": lambda values, packet: _within(values, packet.destination),
    "state": lambda values, _: any(value.lower() in ("new", "untracked") for value in values),
    "status": lambda values, packet: packet.translated and any(value.lower() == "dnat" for value in values),
    "family": lambda values, packet: f"ipv{packet.family}" in values,
}


# --------------------------------------------------------------------------------------------- iptables-save


def from_iptables(by: str, text: str) -> list[Chain]:
    """What `iptables-save` shows; `by` is the program without `-save`."""
    family = "ip6" if by.startswith("ip6") else "ip"
    chains: dict[tuple[str, str], Chain] = {}
    rules: dict[tuple[str, str], list[Rule]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            hook = _HOOKS.get(name, "") if policy != "-" else ""
            chains[table, name] = Chain(by, family, table, name, (), hook, table, policy.lower())
        elif line.startswith("-A"):
            rules.setdefault((table, line.split()[1]), []).append(_iptables_rule(line))
    return [_with(chain, rules.get(key, ())) for key, chain in chains.items()]


_MIXED = re.compile("^# Table `(.+)' .*incompatible", re.MULTILINE)


def mixed(text: str) -> list[str]:
    """The tables of which `iptables-save` says that it cannot show all."""
    return _MIXED.findall(text)


def _with(chain: Chain, rules: Sequence[Rule]) -> Chain:
    """Without the rules that drop some traffic at most, which are no finding and on some hosts are ten thousand."""
    return replace(chain, rules=tuple(filter(_is_decisive, rules)), filled=bool(rules))


def _is_decisive(rule: Rule) -> bool:
    if rule.verdict in _DROPS:
        return all(one.of != "other" for one in rule.conditions)
    return rule.verdict != ""


def _iptables_rule(line: str) -> Rule:
    words = iter((shlex.split(line) if '"' in line else line.split())[2:])  # the first is slow, and rules can be many
    conditions: list[Condition] = []
    negated, verdict, target = False, "", ""
    for word in words:
        if word == "!":
            negated = True
            continue
        if word in ("-j", "-g"):
            verdict, target = _iptables_verdict(word, next(words, ""))
            break
        if word in _OPTIONS:
            values = tuple(_wildcard(value) for value in next(words, "").split(","))
            conditions.append(Condition(_OPTIONS[word], values, negated))
        elif word in ("-m", "--comment"):
            next(words, "")
        else:
            conditions.append(Condition("other"))
        negated = False
    return Rule(line, tuple(conditions), verdict, target)


def _iptables_verdict(word: str, target: str) -> tuple[str, str]:
    if target.lower() in _ENDS:
        return target.lower(), ""
    if word == "-g":
        return "goto", target
    return "jump", target


def _wildcard(value: str) -> str:
    return f"{value[:-1]}*" if value.endswith("+") else value


# ------------------------------------------------------------------------------------------------------- nft


def from_nft(listing: Iterable[Mapping[str, Any]], texts: Mapping[tuple[str, str, int], str]) -> list[Chain]:
    """What `nft -j list ruleset` shows; `texts` are the rules as nft writes them, by family, table and handle."""
    chains: dict[tuple[str, str, str], Chain] = {}
    rules: dict[tuple[str, str, str], list[Rule]] = {}
    for one in listing:
        if "chain" in one:
            body = one["chain"]
            key = body["family"], body["table"], body["name"]
            kind, policy = body.get("type", "filter"), body.get("policy", "accept")
            chains[key] = Chain("nft", *key, hook=body.get("hook", ""), kind=kind, policy=policy)
        elif "rule" in one:
            body = one["rule"]
            key = body["family"], body["table"], body["chain"]
            text = texts.get((body["family"], body["table"], body["handle"]), f"rule with handle {body['handle']}")
            rules.setdefault(key, []).append(_nft_rule(text, body.get("expr", ())))
    return [_with(chain, rules.get(key, ())) for key, chain in chains.items()]


_TABLE = re.compile(r"^table (\w+) (\S+) {")
_HANDLE = re.compile(r"^\s+(.*) # handle (\d+)$")


def texts_of(listing: str) -> dict[tuple[str, str, int], str]:
    """The rules of `nft -a list ruleset`, by family, table and handle."""
    found: dict[tuple[str, str, int], str] = {}
    family = table = ""
    for line in listing.splitlines():
        if opened := _TABLE.match(line):
            family, table = opened.groups()
        elif (rule := _HANDLE.match(line)) and not rule[1].endswith("{"):
            found[family, table, int(rule[2])] = rule[1]
    return found


def _nft_rule(text: str, expressions: Iterable[Mapping[str, Any]]) -> Rule:
    conditions: list[Condition] = []
    for one in expressions:
        [(kind, body)] = one.items()
        if kind in _ENDS:
            return Rule(text, tuple(conditions), kind)
        if kind in _LEADS:
            return Rule(text, tuple(conditions), kind, body["target"])
        if kind == "match":
            conditions += _match(body)
        elif kind in ("vmap", "queue", "xt"):
            return Rule(text, (*conditions, Condition("other")), "unknown")
        elif kind not in _SILENT:
            conditions.append(Condition("other"))
    return Rule(text, tuple(conditions), "")


def _match(body: Mapping[str, Any]) -> list[Condition]:
    values = _values(body["right"])
    if values is None or body["op"] not in ("==", "!=", "in"):
        return [Condition("other")]
    implied, of = _asked_for(body["left"])
    return [*implied, Condition(of, values, body["op"] == "!=")]


def _asked_for(left: Mapping[str, Any]) -> tuple[list[Condition], str]:
    """What else must be so for a packet to have that at all, and what of it is compared."""
    match left:
        case {"meta": {"key": key}} if key in _META:
            return [], _META[key]
        case {"payload": {"protocol": "ip" | "ip6" as protocol, "field": name}} if name in _ADDRESS:
            return [Condition("family", (f"ipv{4 if protocol == 'ip' else 6}",))], _ADDRESS[name]
        case {"payload": {"protocol": "tcp" | "udp" | "icmp" as protocol}}:
            return [Condition("protocol", (protocol,))], "other"
        case {"ct": {"key": "state" | "status" as key}}:
            return [], key
    return [], "other"


def _values(right: Any) -> tuple[str, ...] | None:
    """The texts that are compared with, None if there is one that is not understood."""
    items = right["set"] if isinstance(right, Mapping) and "set" in right else right
    found = [_value(item) for item in (items if isinstance(items, list) else [items])]
    return None if None in found else tuple(one for one in found if one is not None)


def _value(item: Any) -> str | None:
    match item:
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case str() | int():
            return str(item)
    return None


def is_iptables(family: str, table: str) -> bool:
    """Whether a table of nft's was made by the iptables programs, which show it better."""
    return family in ("ip", "ip6") and table in ("filter", "nat", "mangle", "raw", "security")
