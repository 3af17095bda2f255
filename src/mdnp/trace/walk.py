"""
Facts to hops: the packet's way in order, and at which hop and by what it dies. Pure.

A packet that was answered died nowhere, whatever looks wrong beside its way. What the kernel told of the packet goes
before what was found by looking: that may have changed meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mdnp.dataplane.naming import LOWER_END_PREFIX, TABLE, UPPER_END_PREFIX
from mdnp.trace import explain
from mdnp.trace.events import Journey, Packet, Pass
from mdnp.trace.facts import Answer, Facts, Interface, Kind
from mdnp.trace.flow import ANSWERED, ARP, ARRIVED, LEFT, OUT, REPLY
from mdnp.trace.target import Asked

_UNRESOLVED = ("FAILED", "INCOMPLETE")
_ROUTED_HOOKS = ("forward", "input", "postrouting")
_RESTART = "restart the container"


@dataclass(frozen=True)
class Hop:
    """`kind` is the sort of place, in one word or two; `advice` what to do if the packet dies here."""

    kind: str
    place: str
    what: str
    rule: str = ""
    nat: str = ""
    dies: bool = False
    advice: str = ""


@dataclass(frozen=True)
class Walk:
    """`verdict` is the last line, without its mark."""

    hops: tuple[Hop, ...]
    verdict: str

    @property
    def dies_at(self) -> int | None:
        """The number of the hop, from 1."""
        return next((number for number, hop in enumerate(self.hops, 1) if hop.dies), None)


def walk(facts: Facts) -> Walk:
    hops: list[Hop] = []
    for hop in _hops(facts):
        hops.append(hop)
        if hop.dies:
            break
    return Walk(tuple(hops), _verdict(facts, hops))


def view(facts: Facts, walked: Walk) -> dict[str, Any]:
    """As JSON values."""
    last = walked.hops[-1]
    return {
        "container": facts.container.name,
        "address": facts.address,
        "port": facts.port or None,
        "protocol": facts.asked.value,
        "hops": [
            {
                "hop": number,
                "kind": hop.kind,
                "place": hop.place,
                "what": hop.what,
                "rule": hop.rule or None,
                "nat": hop.nat or None,
                "dies": hop.dies,
            }
            for number, hop in enumerate(walked.hops, 1)
        ],
        "answer": facts.answer.kind.value,
        "ms": round(facts.answer.ms, 1) if facts.answer.kind is Kind.ANSWERED else None,
        "dies_at": walked.dies_at,
        "advice": last.advice or None,
        "verdict": walked.verdict,
        "remarks": list(_remarks(facts)),
    }


def _verdict(facts: Facts, hops: list[Hop]) -> str:
    answer = facts.answer
    if answer.kind is Kind.ANSWERED:
        return f"answered in {answer.ms:.1f} ms"
    last = hops[-1]
    if not last.dies:
        return f"refused by {last.place}: {last.advice}"
    rule = f": {last.rule}" if last.rule else ""
    return f"dies at hop {len(hops)}, {last.place}: {last.what}{rule}: {last.advice}"


def _remarks(facts: Facts) -> Iterator[str]:
    yield from facts.remarks
    if facts.untraced:
        yield f"nft could not be heard, so no rule can be named: {facts.untraced}"
    link, leaving = facts.container.link, facts.host.links.get(facts.host.way.link)
    if link and leaving and link.mtu > leaving.mtu:
        yield (
            f"mtu {link.mtu} in the container, {leaving.mtu} on {leaving.name}: large packets need path MTU"
            " discovery: make the network with com.docker.network.driver.mtu"
        )


def _hops(facts: Facts) -> Iterator[Hop]:
    """All hops until the end; who reads them stops at the first that dies."""
    yield _container(facts)
    if facts.container.way.local:
        yield _answered(facts, "the container itself")
        return
    yield _host_end(facts)
    if facts.host_end.annex:
        yield _annex(facts, facts.host_end.annex)
    yield _bridge(facts)
    out = next((one for one in facts.journeys if one.kind == OUT), None)
    if out:
        yield from _on_the_host(facts, out)
    else:
        yield from _unseen(facts)
    yield from _back(facts, out)


# ---------------------------------------------------------------------------------------- to the host, by what stands


def _container(facts: Facts) -> Hop:
    container = facts.container
    place = container.name
    way, link = container.way, container.link
    if way.local:
        return Hop("from", place, f"{facts.address} is its own address: the packet does not leave it")
    if link is None:
        return _death(facts, "from", place, f"it has no interface on network {container.network}", _RESTART)
    if not link.up:
        return _death(facts, "from", place, f"{link.name} is down", f"set it up there, or {_RESTART}")
    if way.error:
        return _death(facts, "from", place, f"no route to {facts.address} ({way.error})", _no_route(facts))
    via = f"via {way.gateway}" if way.gateway else "on the link"
    what = f"{link.name} {way.source or '-'}, to {facts.address} {via}"
    if way.source and way.source not in container.expected:
        what += f"; Docker gave it {', '.join(container.expected) or 'no address'}"
    return Hop("from", place, what)


def _no_route(facts: Facts) -> str:
    container = facts.container
    if container.internal:
        return f"network {container.network} is internal: use one that has a way out"
    if container.link and not container.link.addresses:
        return f"the interface has lost its addresses: {_RESTART}"
    return f"somebody removed it in the container, or its gateway is another network's: `ip route` there, or {_RESTART}"


def _host_end(facts: Facts) -> Hop:
    end = facts.host_end
    if end.link is None:
        return _death(facts, "veth", end.name, "it is not there", f"`mdnp status`, and {_RESTART}")
    if not end.link.up:
        return _death(facts, "veth", end.name, "it is down", f"`ip link set {end.name} up`")
    if not end.link.master:
        return _death(facts, "veth", end.name, "it is no port of a bridge", "`mdnp status --diff`")
    return Hop("veth", end.name, f"up, a port of {end.link.master}")


def _annex(facts: Facts, annex: Interface) -> Hop:
    joint = facts.host_end.joint
    if not annex.up:
        return _death(facts, "annex", annex.name, "it is down", f"`ip link set {annex.name} up`")
    if joint is None or not (joint.up and joint.carrier and joint.master):
        what = "it is joined to no other bridge: its joint is down or gone"
        return _death(facts, "annex", annex.name, what, "`mdnp status --diff`")
    return Hop("annex", annex.name, f"up, joined to {joint.master} by {joint.name}")


def _bridge(facts: Facts) -> Hop:
    bridge = facts.host_end.bridge
    if bridge is None:
        return _death(facts, "bridge", "bridge", "it is not there", "`mdnp status --diff`")
    if not bridge.up:
        return _death(facts, "bridge", bridge.name, "it is down", f"`ip link set {bridge.name} up`")
    gateway = facts.container.way.gateway
    own = [address.partition("/")[0] for address in bridge.addresses]
    if gateway and gateway not in own and facts.neighbour in (*_UNRESOLVED, ""):
        return _death(facts, "bridge", bridge.name, f"it does not have the gateway {gateway}", "`mdnp status --diff`")
    return Hop("bridge", bridge.name, f"up, {', '.join(bridge.addresses) or 'without an address'}")


def _death(facts: Facts, kind: str, place: str, what: str, advice: str) -> Hop:
    """Where what we found must stop a packet. One that got past it did not die here."""
    passed = facts.answer.kind in (Kind.ANSWERED, Kind.REFUSED) or any(one.kind == OUT for one in facts.journeys)
    return Hop(kind, place, what, dies=not passed, advice=advice)


# ------------------------------------------------------------------------------------ a packet that nft did not tell of


def _unseen(facts: Facts) -> Iterator[Hop]:
    way = facts.container.way
    next_hop = way.gateway or facts.address
    asked = [one for one in facts.journeys if one.kind == ARP]
    if facts.answer.kind in (Kind.ANSWERED, Kind.REFUSED):
        return
    if facts.neighbour in _UNRESOLVED or asked:
        for journey in asked:
            if deaths := _unheard(journey, facts.host_end.name):
                yield _passed(facts, deaths[0], None, f"the question who has {next_hop}")
                return
        yield Hop("neighbour", next_hop, _nobody(next_hop), dies=True, advice=_absent(facts, bool(way.gateway)))
    elif facts.untraced:
        yield from _guessed(facts)
    else:
        yield _not_sent(facts)


def _unheard(question: Journey, asker: str) -> list[Pass]:
    """
    Where a question died on the way to all that could answer it. It goes to each port of the bridge as a copy, also
    back to the asker, where it is not wanted; with br_netfilter the filters of IP see each copy of IPv6's too.
    """
    if question.death and not question.death.packet.oif:
        return [question.death]
    senders = ("", asker, *_joints(question))
    onward = [one for one in question.passes if one.packet.oif not in senders and not one.is_ours]
    dropped = [one for one in onward if one.dropped]
    copies = [one for one in onward if one.family == "bridge"]
    return dropped if len(dropped) >= len(copies) else []


def _joints(question: Journey) -> Iterator[str]:
    """Between bridges of the network: what passes them is looked at again on the next."""
    ends = (one.packet.oif for one in question.passes)
    return (end for end in ends if end.startswith((UPPER_END_PREFIX, LOWER_END_PREFIX)))


def _nobody(address: str) -> str:
    return f"nobody answers {'neighbour solicitations' if ':' in address else 'ARP'} for {address}"


def _absent(facts: Facts, is_gateway: bool) -> str:
    if is_gateway:
        return "`mdnp status --diff`"
    containers, links = facts.host.containers, facts.host.links
    name = containers.get(facts.address)
    if not name:
        return f"no running container of {facts.container.network} has it"
    ends = [end for end, owner in containers.items() if owner == name and end in links]
    down = next((end for end in ends if not (links[end].up and links[end].carrier)), "")
    if down:
        return f"container {name} has it, but its host end {down} is down, or its interface inside"
    return f"container {name} should have it: `mdnp status`, and `ip address` inside {name}"


def _not_sent(facts: Facts) -> Hop:
    said = f" ({facts.answer.reason})" if facts.answer.kind is Kind.LOCAL else ""
    return Hop(
        "from",
        facts.container.name,
        f"the packet did not come to the host{said}",
        dies=True,
        advice="a firewall or a policy inside the container's network namespace, or tc on the veth, dropped it",
    )


def _guessed(facts: Facts) -> Iterator[Hop]:
    """Without nft's word: what counters and routes say."""
    yield from _counted(facts)
    if facts.host.way.error or _not_forwarded(facts):
        yield _route(facts, None)


# ------------------------------------------------------------------------------------------------------- on the host


def _on_the_host(facts: Facts, out: Journey) -> Iterator[Hop]:
    following = {id(first): second for first, second in pairwise(out.passes)}
    bridged = routed = False
    for one in out.passes:
        hook = "" if one.goes_up else facts.hooks.get(one.place, "")
        bridged = bridged or (one.family == "bridge" and hook in ("forward", "postrouting"))
        if one.family != "bridge" and hook in _ROUTED_HOOKS and not bridged and not routed:
            routed = True
            yield _route(facts, one.packet)
        if _is_shown(facts, one):
            yield _passed(facts, one, following.get(id(one)))
    yield from _end(facts, out, seen=bridged or routed)


def _shown(facts: Facts, journey: Journey) -> list[Pass]:
    return [one for one in journey.passes if _is_shown(facts, one)]


def _is_shown(facts: Facts, one: Pass) -> bool:
    """Chains in which no rule decided are left out, but for those that filter what is forwarded."""
    return not one.is_ours and (one.by is not None or one.dropped or facts.hooks.get(one.place) in ("forward", "input"))


def _passed(facts: Facts, one: Pass, following: Pass | None, aside: str = "") -> Hop:
    hook = facts.hooks.get(one.place, one.chain.lower())
    nat = _translated(one.packet, following.packet) if following and not one.dropped else ""
    kind = "guard" if (one.family, one.table, hook) == ("bridge", TABLE, "prerouting") else "NAT" if nat else hook
    rule = _rule(facts, one)
    what = _what(one) + (f" ({aside})" if aside else "")
    return Hop(kind, one.place, what, rule, nat, one.dropped, explain.advice(one) if one.dropped else "")


def _what(one: Pass) -> str:
    if one.by is None:
        return f"{one.verdict} by policy"
    verdict = "reject" if one.dropped and "reject" in one.by.text.split() else one.verdict
    return verdict if one.by.chain == one.chain else f"{verdict} in {one.by.chain}"


def _rule(facts: Facts, one: Pass) -> str:
    if one.by is None:
        return ""
    return facts.words.get(one.by, one.by.text)


def _translated(before: Packet, after: Packet) -> str:
    """What of the addresses and ports is changed, before → after."""
    if not (before.source and after.source):
        return ""
    pairs = [
        (_socket(before.source, before.source_port), _socket(after.source, after.source_port)),
        (_socket(before.target, before.target_port), _socket(after.target, after.target_port)),
    ]
    return ", ".join(f"{one} → {other}" for one, other in pairs if one != other)


def _socket(address: str, port: int) -> str:
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _route(facts: Facts, packet: Packet | None) -> Hop:
    """The kernel's choice. `packet` is as the next hook saw it, None if no hook did."""
    way = facts.host.way
    if packet is None:
        what, advice = _unrouted(facts)
        return Hop("route", "route of the host", what, dies=True, advice=advice)
    if not packet.oif:
        return Hop("route", "route of the host", f"{packet.target} is the host's own address")
    via = f" via {way.gateway}" if way.gateway and way.link == packet.oif else ""
    return Hop("route", "route of the host", f"{packet.target}{via} by {packet.oif}")


def _unrouted(facts: Facts) -> tuple[str, str]:
    """Why no hook saw the packet after it was to be routed, and what to do."""
    host = facts.host
    off = _not_forwarded(facts)
    if off and not host.way.local:
        return f"{off}=0: the host forwards nothing", f"`sysctl -w {off}=1`"
    if host.refusing:
        return f"{host.refusing} refuses it", f"`ip route del {host.refusing}`, or a better route"
    if _fails_rp_filter(facts):
        source = facts.container.way.source
        return (
            f"rp_filter={host.rp_filter}: answers to {source} would go by {host.back.link or 'no link'}",
            f"`ip route get {source}`: remove the route that leads elsewhere",
        )
    if host.way.error:
        return f"no way to it ({host.way.error})", "`ip route` and `ip rule` of the host"
    return "it was not seen after routing", "`ip rule`, and counters of `nstat` and `ip -s link` may say why"


def _fails_rp_filter(facts: Facts) -> bool:
    """Strictly the source must be reached by the link that it came by, loosely by any."""
    host, bridge = facts.host, facts.host_end.bridge
    elsewhere = bridge is not None and host.back.link != bridge.name
    return bool(host.back.error) if host.rp_filter == 2 else host.rp_filter == 1 and elsewhere


def _not_forwarded(facts: Facts) -> str:
    return next((name for name, value in facts.host.forwarding.items() if value == "0"), "")


def _end(facts: Facts, out: Journey, *, seen: bool) -> Iterator[Hop]:
    """Where it left the host, or was delivered."""
    if out.death:
        return
    if arrived := out.ended_at(ARRIVED):
        yield Hop(
            "host", "the host itself", f"delivered to {_socket(arrived.packet.target, arrived.packet.target_port)}"
        )
        return
    left = out.ended_at(LEFT)
    if left is None:
        yield from _counted(facts)
        yield _lost(facts, out) if seen else _unforwarded(facts)
    elif not (missing := _unresolved(facts, left)):
        yield _leaves(facts, left)
        yield from _missed(facts, left)
    elif facts.answer.kind not in (Kind.ANSWERED, Kind.REFUSED):
        yield Hop("neighbour", f"{missing} on {left.packet.oif}", _nobody(missing), dies=True, advice=_no_neighbour())


def _unforwarded(facts: Facts) -> Hop:
    """It came to the bridge and went nowhere: the bridge, or the host's routing, dropped it."""
    if facts.container.way.gateway:
        return _route(facts, None)
    bridge = facts.host_end.bridge
    return Hop(
        "bridge",
        bridge.name if bridge else "bridge",
        f"it does not send on what is for {facts.address}",
        dies=True,
        advice="the port that leads there is down or gone: `bridge fdb show` and `mdnp endpoint ls`",
    )


def _no_neighbour() -> str:
    return "the machine with this address is off, elsewhere, or does not hear us"


def _lost(facts: Facts, out: Journey) -> Hop:
    last = out.passes[-1]
    return Hop(
        facts.hooks.get(last.place, "hook"),
        last.place,
        "not seen after it",
        dies=True,
        advice="a later chain that nft does not tell of (legacy iptables, eBPF, netdev) may have dropped it",
    )


def _counted(facts: Facts) -> Iterator[Hop]:
    if facts.answer.kind in (Kind.ANSWERED, Kind.REFUSED):
        return
    for rule in facts.counted:
        yield Hop(
            "legacy",
            "iptables-legacy",
            "dropped, as its counter says",
            rule,
            dies=True,
            advice="change the rule where it was made, or let this traffic pass before it",
        )


def _unresolved(facts: Facts, left: Pass) -> str:
    """The next hop whose MAC the host could not find, "" if there is none such."""
    way, packet = facts.host.way, left.packet
    next_hop = way.gateway if way.gateway and way.link == packet.oif else packet.target
    state = facts.host.neighbours.get((next_hop, packet.oif))
    return next_hop if left.family != "bridge" and state in _UNRESOLVED else ""


def _leaves(facts: Facts, left: Pass) -> Hop:
    link, packet = left.packet.oif, left.packet
    name = _receiver(facts, packet)
    if name:
        return Hop("veth", link, f"delivered to container {name}")
    tunnel = facts.host.tunnel
    if tunnel and tunnel.link == link:
        return Hop("tunnel", link, f"to {tunnel.end}")
    source = f", from {_socket(packet.source, packet.source_port)}" if packet.source else ""
    return Hop("out", link, f"leaves the host{source}")


def _receiver(facts: Facts, packet: Packet) -> str | None:
    """The container at the end of the link, or of a joint, after which a packet that was translated is not seen."""
    by_address = packet.oif.startswith(UPPER_END_PREFIX)
    return facts.host.containers.get(packet.target if by_address else packet.oif)


def _missed(facts: Facts, left: Pass) -> Iterator[Hop]:
    """It left the host, although the target is a container of this host."""
    containers, packet = facts.host.containers, left.packet
    name = containers.get(packet.target)
    if not name or left.family == "bridge" or facts.answer.kind in (Kind.ANSWERED, Kind.REFUSED):
        return
    yield Hop(
        "route",
        "route of the host",
        f"{packet.target} is container {name} here, but the host has no way to its network",
        dies=True,
        advice="isolation: that network has no gateway on the host (internal): connect the container to it",
    )


# ---------------------------------------------------------------------------------------------------------- and back


def _back(facts: Facts, out: Journey | None) -> Iterator[Hop]:
    answer = facts.answer
    replies = [one for one in facts.journeys if one.kind in (REPLY, ANSWERED)]
    if answer.kind is Kind.ANSWERED:
        yield _answered(facts, _from(facts, replies))
        return
    for reply in replies:
        if reply.death:
            yield from (_passed(facts, one, None, "the answer") for one in _shown(facts, reply))
            return
    yield _no_answer(facts, out, replies)


def _answered(facts: Facts, sender: str) -> Hop:
    answer = facts.answer
    match answer.kind:
        case Kind.ANSWERED:
            return Hop("reply", sender, "answers")
        case Kind.REFUSED:
            return Hop("reply", sender, "refuses", advice=_nothing_listens(facts))
        case _:
            return Hop("reply", sender, _silence(facts), dies=True, advice="look at the process there")


def _no_answer(facts: Facts, out: Journey | None, replies: list[Journey]) -> Hop:
    answer = facts.answer
    sender = _from(facts, replies)
    if answer.kind is Kind.REFUSED:
        return _answered(facts, sender)
    if answer.kind is Kind.ERROR:
        return Hop(
            "reply",
            f"router {answer.sender}",
            f"it says: {answer.reason}",
            dies=True,
            advice="look at the routes there",
        )
    if answer.kind is Kind.LOCAL:
        what = f"the container's kernel gives up ({answer.reason})"
        return Hop(
            "reply", f"container {facts.container.name}", what, dies=True, advice="see its routes and neighbours"
        )
    if replies:
        what = "an answer came to the host, but did not reach the container"
        return Hop("reply", sender, what, dies=True, advice="look at the firewall inside the container")
    return Hop("reply", _beyond(facts, out), _silence(facts), dies=True, advice=_who_is_silent(facts, out))


def _from(facts: Facts, replies: list[Journey]) -> str:
    """Who answered, as far as the packets say."""
    first = next((one.passes[0] for one in replies if one.passes), None)
    if replies and replies[0].kind == ANSWERED:
        return f"the host itself ({facts.address})"
    if first is None:
        source = facts.answer.sender or facts.address
        return f"container {facts.host.containers[source]} ({source})" if source in facts.host.containers else source
    source = first.packet.source or facts.address
    name = facts.host.containers.get(first.packet.iif) or facts.host.containers.get(source)
    if name:
        return f"container {name} ({source})"
    return f"{source} by {first.packet.iif}" if first.packet.iif else source


def _nothing_listens(facts: Facts) -> str:
    out = next((one for one in facts.journeys if one.kind == OUT), None)
    port = out.passes[-1].packet.target_port if out else 0
    return f"nothing listens on {facts.asked} port {port or facts.port} there, or its own firewall rejects"


def _silence(facts: Facts) -> str:
    return f"no answer{_of_udp(facts.answer, facts.asked)}"


def _of_udp(answer: Answer, asked: Asked) -> str:
    return ", which UDP need not give" if asked is Asked.UDP and answer.kind is Kind.SILENCE else ""


def _beyond(facts: Facts, out: Journey | None) -> str:
    left = out.ended_at(LEFT) if out else None
    if out and out.ended_at(ARRIVED):
        return "the host itself"
    name = _receiver(facts, left.packet) if left else None
    if name:
        return f"container {name}"
    if left and facts.host.tunnel and facts.host.tunnel.link == left.packet.oif:
        return facts.host.tunnel.end
    return f"beyond {left.packet.oif}" if left else facts.address


def _who_is_silent(facts: Facts, out: Journey | None) -> str:
    if out is None:
        return "what passes on the host was not seen"
    place = _beyond(facts, out)
    if facts.host.tunnel and place == facts.host.tunnel.end:
        return (
            "it went into the tunnel: see in `mdnp host ls` whether that host is alive, whether a firewall lets the UDP"
            " port `vxlan_port` pass between the hosts, and the container there"
        )
    if place.startswith("beyond"):
        return "nothing here drops it: the target or a router on the way does, or has no way back to this host"
    if place.startswith("container"):
        return f"it was delivered: look at the process and the firewall inside {place}"
    return f"it was delivered: look at what listens on {facts.asked} port {facts.port or '-'} of {place}"
