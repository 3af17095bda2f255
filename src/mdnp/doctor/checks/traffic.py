"""Whether others let pass what goes out of our networks, comes into them, and stays in them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain as chained
from itertools import product

from mdnp.dataplane import naming
from mdnp.doctor import Facts, Finding, Json, need
from mdnp.doctor.checks import networks
from mdnp.doctor.checks.findings import listed, ok, trouble, warning
from mdnp.doctor.checks.networks import Seen
from mdnp.doctor.firewall import Chain, End, Packet, drops

Ends = Mapping[End, list[str]]
_HOOKS = ("prerouting", "forward")
_PROTOCOLS = ("tcp", "udp")
_LEAST_IPV6 = 1280  # RFC 8200, 5


def forward_policy(facts: Facts) -> Iterator[Finding]:
    ends = _ends(facts, ((one.bridge, packet) for one in networks.seen(facts) for packet in _beyond(facts, one)))
    found = {end: names for end, names in ends.items() if _is_docker_policy(end)}
    for end, names in found.items():
        yield trouble(
            f"the policy of {end.chain} is DROP, and nothing before it lets {listed(names)} pass",
            "containers reach nobody beyond the host, and their published ports do not answer",
            f"start the daemon, or `mdnp repair`: its rules in {naming.FORWARD_CHAIN} are missing; if that chain is not"
            f" there, restart Docker, or `{end.chain.by} -P FORWARD ACCEPT`",
        )
    if not found:
        policies = {f"{one.by} {one.policy.upper()}" for one in need(facts.chains) if _is_forward(one)}
        yield ok(", ".join(sorted(policies)))


def br_netfilter(facts: Facts) -> Iterator[Finding]:
    """Frames between a network's own containers pass the host's chains only when it is on."""
    values = need(facts.sysctls)
    on = {
        family
        for family, name in ((4, "iptables"), (6, "ip6tables"))
        if values.get(f"net/bridge/bridge-nf-call-{name}") == "1"
    }
    ends = _ends(facts, _siblings(facts))
    found = {end: names for end, names in ends.items() if _is_docker_policy(end)}
    for end, names in found.items():
        yield trouble(
            f"br_netfilter is on, and the policy of {end.chain} drops what {listed(names)} forwards between its own"
            " containers",
            "containers of one network do not reach each other",
            f"start the daemon, which puts its rules into {naming.FORWARD_CHAIN}; or"
            f" `sysctl -w net.bridge.bridge-nf-call-{'iptables' if end.chain.family == 'ip' else 'ip6tables'}=0`",
        )
    if not found:
        yield ok(f"on for IPv{', IPv'.join(map(str, sorted(on)))}" if on else "off")


def foreign_rules(facts: Facts) -> Iterator[Finding]:
    beyond = ((one.bridge, packet) for one in networks.seen(facts) for packet in _beyond(facts, one))
    for end, names in _ends(facts, chained(beyond, _siblings(facts), _frames(facts))).items():
        if _is_ours(end.chain) or _is_docker_policy(end):
            continue
        by = f"rule `{end.rule.text}` in {end.chain}" if end.rule else f"the policy of {end.chain}"
        verb = "drops" if end.sure else "may drop"
        yield (trouble if end.sure else warning)(
            f"{by} {verb} packets of {listed(names)}",
            "a drop by anybody is final: what others accept, and we, does not count any more; `mdnp trace` follows a"
            " packet",
            f"take it out, or accept before it what comes from and goes to {listed(names)}"
            f" (`iifname {names[0]} accept`, `oifname {names[0]} accept`)",
        )


def iptables_variant(facts: Facts) -> Iterator[Finding]:
    used = {one.by for one in need(facts.chains) if one.filled or one.policy == "drop"}
    other = sorted(one for one in used if one.endswith(("-legacy", "-nft")))
    if other and used & {"iptables", "ip6tables"}:
        yield warning(
            f"both kinds of iptables have rules: {', '.join(other)} besides the host's default, {need(facts.iptables)}",
            "each sees only its own: a rule that drops may stand where nobody looks for it",
            f"`{other[0]}-save` shows them; flush those of the kind that Docker does not use",
        )


def mtu(facts: Facts) -> Iterator[Finding]:
    sizes = {one["ifname"]: one["mtu"] for one in need(facts.links)}
    ways = [one["dev"] for one in networks.default_routes(facts)]
    for one in networks.seen(facts):
        tight = [link for link in dict.fromkeys(ways) if one.way_out and sizes.get(link, one.mtu) < one.mtu]
        if tight:
            yield warning(
                f"{one.bridge} has MTU {one.mtu}, {tight[0]} on its way out {sizes[tight[0]]}",
                "large packets are fragmented or lost: connections begin, and then hang",
                f"make the network anew with -o com.docker.network.driver.mtu={sizes[tight[0]]}, or mend {tight[0]}",
            )
        if 6 in one.families() and one.mtu < _LEAST_IPV6:
            yield trouble(
                f"{one.bridge} has IPv6 and MTU {one.mtu}",
                f"IPv6 does not work below {_LEAST_IPV6}",
                "make the network anew with a larger MTU",
            )


def _beyond(facts: Facts, one: Seen) -> Iterator[Packet]:
    return networks.packets(facts, one)


def _siblings(facts: Facts) -> Iterator[tuple[str, Packet]]:
    """Between containers of one network, where br_netfilter leads frames through the host's chains."""
    values = need(facts.sysctls)
    names = {4: "iptables", 6: "ip6tables"}
    for one in networks.seen(facts):
        for packet in networks.packets(facts, one, within=True):
            on = values.get(f"net/bridge/bridge-nf-call-{names[packet.family]}") == "1"
            if one.icc and on:
                yield one.bridge, packet


def _frames(facts: Facts) -> Iterator[tuple[str, Packet]]:
    """What the chains of nft's family bridge see: frames of each network, from a port of its to any other."""
    links: list[Json] = list(need(facts.links))
    for one in networks.seen(facts):
        port = next((link["ifname"] for link in links if link.get("master") == one.bridge), "")
        for subnet in one.subnets:
            yield one.bridge, Packet(subnet.version, port, "", subnet, bridge=one.bridge)


def _ends(facts: Facts, packets: Iterable[tuple[str, Packet]]) -> dict[End, list[str]]:
    """Where packets are dropped, and of which networks. What is sure of one protocol is not said again as a doubt."""
    found: dict[End, list[str]] = {}
    chains = need(facts.chains)
    for bridge, packet in packets:
        for hook, protocol in product(_HOOKS, _PROTOCOLS):
            for end in drops(chains, hook, replace(packet, protocol=protocol)):
                names = found.setdefault(end, [])
                if bridge not in names:
                    names.append(bridge)
    return {end: names for end, names in found.items() if end.sure or replace(end, sure=True) not in found}


def _is_forward(one: Chain) -> bool:
    return one.by != "nft" and (one.table, one.name) == ("filter", "FORWARD")


def _is_docker_policy(end: End) -> bool:
    return end.rule is None and _is_forward(end.chain)


def _is_ours(one: Chain) -> bool:
    return one.by == "nft" and one.table == naming.TABLE and one.family in ("inet", "bridge")
