"""What becomes of a packet in everybody's chains."""

from ipaddress import ip_network
from typing import Any

import pytest

from mdnp.doctor.firewall import Chain, Packet, drops, from_iptables, from_nft, texts_of

_SUBNET = ip_network("10.1.0.0/24")
_OUT = Packet(4, "mdb-a", "eth0", _SUBNET)
_IN = Packet(4, "eth0", "mdb-a", None, _SUBNET, translated=True)
_OUT6 = Packet(6, "mdb-a", "eth0", ip_network("fd01::/64"))


def saved(*rules: str, policy: str = "ACCEPT", by: str = "iptables") -> list[Chain]:
    """A filter table with these rules; every chain that is named in them is there."""
    names = {word for rule in rules for word in rule.split() if word.startswith("MY-")}
    heads = [f":FORWARD {policy} [0:0]", *(f":{name} - [0:0]" for name in sorted(names))]
    return from_iptables(by, "\n".join(["*filter", *heads, *rules, "COMMIT"]))


def ends(chains: list[Chain], packet: Packet, hook: str = "forward") -> list[str]:
    """`drop` or `perhaps drop`, and by which rule."""
    return [
        f"{'' if end.sure else 'perhaps '}{end.verdict} {end.rule.text if end.rule else 'policy'}"
        for end in drops(chains, hook, packet)
    ]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["-A FORWARD -j DROP"], "drop -A FORWARD -j DROP"),
        (["-A FORWARD -i mdb-+ -j DROP"], "drop -A FORWARD -i mdb-+ -j DROP"),
        (["-A FORWARD -i mdb-b -j DROP"], ""),
        (["-A FORWARD ! -i mdb-+ -j DROP"], ""),
        (["-A FORWARD ! -o docker0 -j REJECT"], "reject -A FORWARD ! -o docker0 -j REJECT"),
        (["-A FORWARD -s 10.0.0.0/8 -j DROP"], "drop -A FORWARD -s 10.0.0.0/8 -j DROP"),
        (["-A FORWARD ! -s 10.0.0.0/8 -j DROP"], ""),
        (["-A FORWARD -s 10.1.0.9/32 -j DROP"], ""),
        (["-A FORWARD -d 192.0.2.9/32 -j DROP"], ""),
        (["-A FORWARD -p tcp -m tcp --dport 25 -j DROP"], ""),
        (["-A FORWARD -m conntrack --ctstate INVALID -j DROP"], ""),
        (["-A FORWARD -m conntrack --ctstate NEW -j DROP"], "drop -A FORWARD -m conntrack --ctstate NEW -j DROP"),
        (["-A FORWARD -j ACCEPT", "-A FORWARD -j DROP"], ""),
        (["-A FORWARD -p udp -j ACCEPT", "-A FORWARD -j DROP"], "drop -A FORWARD -j DROP"),
        (["-A FORWARD -p tcp -m tcp --dport 22 -j ACCEPT", "-A FORWARD -j DROP"], "perhaps drop -A FORWARD -j DROP"),
        (["-A FORWARD -i mdb-+ -p tcp -j DROP"], "drop -A FORWARD -i mdb-+ -p tcp -j DROP"),
        (["-A FORWARD -i mdb-+ -p icmp -j DROP"], ""),
        (['-A FORWARD -j LOG --log-prefix "a drop"', "-A FORWARD -j DROP"], "drop -A FORWARD -j DROP"),
        (["-A FORWARD -j MY-A", "-A MY-A -j DROP"], "drop -A MY-A -j DROP"),
        (["-A FORWARD -j MY-A", "-A MY-A -j RETURN", "-A MY-A -j DROP"], ""),
        (["-A FORWARD -j MY-A", "-A FORWARD -j DROP", "-A MY-A -i mdb-a -j ACCEPT"], ""),
        (["-A FORWARD -g MY-A", "-A FORWARD -j DROP", "-A MY-A -i other -j DROP"], ""),
        (["-A FORWARD -p tcp -j MY-A", "-A MY-A -j DROP"], "drop -A MY-A -j DROP"),
        (["-A FORWARD -m mark --mark 0x1 -j MY-A", "-A MY-A -j DROP"], ""),
        (
            ["-A FORWARD -m mark --mark 0x1 -j MY-A", "-A FORWARD -j DROP", "-A MY-A -j ACCEPT"],
            "perhaps drop -A FORWARD -j DROP",
        ),
    ],
)
def test_a_packet_ends_at_the_first_rule_that_drops_all_such(rules: list[str], expected: str) -> None:
    assert ends(saved(*rules), _OUT) == ([expected] if expected else [])


def test_a_policy_drops_what_nobody_accepted() -> None:
    ours = "-A FORWARD -o mdb-+ -m comment --comment mdnp -j ACCEPT"

    assert ends(saved(policy="DROP"), _OUT) == ["drop policy"]
    assert ends(saved(ours, policy="DROP"), _OUT) == ["drop policy"]
    assert ends(saved(ours, policy="DROP"), _IN) == []


def test_each_family_has_its_own_chains() -> None:
    assert ends(saved(policy="DROP", by="ip6tables"), _OUT) == []
    assert ends(saved(policy="DROP", by="ip6tables"), _OUT6) == ["drop policy"]


def nft(
    *rules: list[dict[str, Any]], family: str = "inet", policy: str = "accept", kind: str = "filter"
) -> list[Chain]:
    """A table with one base chain and these rules, by their expressions."""
    chain = {"family": family, "table": "t", "name": "c", "type": kind, "hook": "forward", "policy": policy}
    bodies = [
        {"rule": {"family": family, "table": "t", "chain": "c", "handle": number, "expr": expressions}}
        for number, expressions in enumerate(rules)
    ]
    texts = {(family, "t", number): f"rule {number}" for number in range(len(rules))}
    return from_nft([{"metainfo": {}}, {"table": {}}, {"chain": chain}, *bodies], texts)


def match(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


_IIF = {"meta": {"key": "iifname"}}
_SADDR = {"payload": {"protocol": "ip", "field": "saddr"}}
_STATE = {"ct": {"key": "state"}}
_DROP: dict[str, Any] = {"drop": None}
_ACCEPT: dict[str, Any] = {"accept": None}
_PORT = match({"payload": {"protocol": "tcp", "field": "dport"}}, 25)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([[_DROP]], "drop rule 0"),
        ([[{"counter": None}, {"reject": {"type": "icmpx"}}]], "reject rule 0"),
        ([[match(_IIF, "mdb-*"), _DROP]], "drop rule 0"),
        ([[match(_IIF, {"set": ["docker0", "mdb-a"]}), _DROP]], "drop rule 0"),
        ([[match(_IIF, "mdb-a", "!="), _DROP]], ""),
        ([[match(_IIF, "@names"), _DROP]], ""),
        ([[match(_IIF, "@names"), _ACCEPT], [_DROP]], "perhaps drop rule 1"),
        ([[match(_SADDR, {"prefix": {"addr": "10.0.0.0", "len": 8}}), _DROP]], "drop rule 0"),
        ([[match(_SADDR, {"range": ["10.0.0.0", "10.9.0.0"]}), _DROP]], ""),
        ([[match(_STATE, ["established", "related"], "in"), _ACCEPT], [_DROP]], "drop rule 1"),
        ([[match({"ct": {"key": "status"}}, "dnat", "in"), _ACCEPT], [_DROP]], "drop rule 1"),
        ([[match({"meta": {"key": "nfproto"}}, "ipv6"), _ACCEPT], [_DROP]], "drop rule 1"),
        ([[_PORT, _DROP]], ""),
        ([[match({"meta": {"key": "l4proto"}}, "tcp"), _DROP]], "drop rule 0"),
        ([[match({"payload": {"protocol": "udp", "field": "dport"}}, 53), _ACCEPT], [_DROP]], "drop rule 1"),
        ([[{"limit": {"rate": 5, "per": "second"}}, _ACCEPT], [_DROP]], "perhaps drop rule 1"),
        ([[{"vmap": {"key": _IIF, "data": "@ways"}}], [_DROP]], "perhaps drop rule 1"),
        ([[{"log": None}], [{"mangle": {}}], [_DROP]], "drop rule 2"),
    ],
)
def test_nft_s_rules_say_the_same(rules: list[list[dict[str, Any]]], expected: str) -> None:
    assert ends(nft(*rules), _OUT) == ([expected] if expected else [])


def test_what_is_translated_is_known_by_it() -> None:
    chains = nft([match({"ct": {"key": "status"}}, "dnat", "in"), _ACCEPT], policy="drop")

    assert (ends(chains, _OUT), ends(chains, _IN)) == (["drop policy"], [])


def test_chains_that_translate_decide_nothing() -> None:
    assert ends(nft([_DROP], kind="nat"), _OUT) == []


def test_frames_are_seen_by_the_bridge_family_alone() -> None:
    frame = Packet(4, "mdv-x", "", _SUBNET, bridge="mdb-a")
    chains = nft([match({"meta": {"key": "ibrname"}}, "mdb-a"), _DROP], family="bridge")

    assert (ends(chains, frame), ends(chains, _OUT)) == (["drop rule 0"], [])
    assert ends(nft([_DROP]), frame) == []


def test_rules_are_shown_as_nft_writes_them() -> None:
    listing = """
table inet wall { # handle 3
	set names {
		type ifname
	}

	chain forward { # handle 1
		type filter hook forward priority filter; policy drop;
		iifname "mdb-*" accept # handle 4
	}
}
"""

    assert texts_of(listing) == {("inet", "wall", 4): 'iifname "mdb-*" accept'}
