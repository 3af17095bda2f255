"""Facts to hops, by values."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from mdnp.trace import events
from mdnp.trace.events import Journey
from mdnp.trace.facts import Answer, Container, Facts, Host, HostEnd, Interface, Kind, Tunnel, Way
from mdnp.trace.target import Asked
from mdnp.trace.walk import view, walk
from tests.tracing.recorded import NEIGHBOUR, NO_ICC, OUTSIDE, PUBLISHED, REJECTED

ETH0 = Interface("eth0", True, True, 1500, ("10.77.0.2/24",))
END = Interface("mdv-f1a528a7b88", True, True, 1500, master="mdb-a2914d35d46")
BRIDGE = Interface("mdb-a2914d35d46", True, True, 1500, ("10.77.0.1/24",))
UPLINK = Interface("eth0", True, True, 1500)
SILENCE, ANSWERED = Answer(Kind.SILENCE), Answer(Kind.ANSWERED, 0.31)

HOOKS = {
    "bridge mdnp prerouting": "prerouting",
    "bridge mdnp forward": "forward",
    "bridge mdnp-trace-7 left": "postrouting",
    "inet mdnp loopback": "prerouting",
    "inet mdnp prerouting": "prerouting",
    "inet mdnp forward": "forward",
    "inet mdnp postrouting": "postrouting",
    "inet mdnp-trace-7 left": "postrouting",
    "ip nat PREROUTING": "prerouting",
    "ip nat POSTROUTING": "postrouting",
    "ip filter FORWARD": "forward",
}
WAY_OUT = Way("eth0", "10.77.0.1", "10.77.0.2")
ON_LINK = Way("eth0", "", "10.77.0.2")
OUTWARD = Facts(
    address="192.0.2.1",
    port=0,
    asked=Asked.PING,
    container=Container("web", "mynet", ETH0, WAY_OUT, ("10.77.0.2",)),
    host_end=HostEnd(END.name, END, BRIDGE),
    host=Host(
        Way("eth0"),
        {"net.ipv4.ip_forward": "1"},
        back=Way(BRIDGE.name),
        containers={END.name: "web", "10.77.0.2": "web", "mdv-29d5d1306bf": "db", "10.77.0.3": "db"},
        links={"eth0": UPLINK, BRIDGE.name: BRIDGE, END.name: END},
    ),
    answer=SILENCE,
    neighbour="REACHABLE",
    hooks=HOOKS,
)


def _cut(journeys: Iterable[Journey], after: str) -> tuple[Journey, ...]:
    """The packet was not seen after a chain."""
    out = next(iter(journeys))
    last = [one.place for one in out.passes].index(after)
    return (replace(out, passes=out.passes[: last + 1]),)


def _told(facts: Facts) -> list[str]:
    """A line for each hop."""
    return [
        f"{hop.kind} | {hop.place} | {hop.what}" + (f" | {hop.nat}" if hop.nat else "") + " | DIES" * hop.dies
        for hop in walk(facts).hops
    ]


def test_a_way_out_is_told_hop_by_hop_with_its_route_and_translation() -> None:
    facts = replace(OUTWARD, answer=ANSWERED, journeys=OUTSIDE.journeys)

    assert _told(facts) == [
        "from | web | eth0 10.77.0.2, to 192.0.2.1 via 10.77.0.1",
        "veth | mdv-f1a528a7b88 | up, a port of mdb-a2914d35d46",
        "bridge | mdb-a2914d35d46 | up, 10.77.0.1/24",
        "guard | bridge mdnp prerouting | accept in from_ipv4",
        "route | route of the host | 192.0.2.1 by eth0",
        "forward | inet mdnp forward | accept by policy",
        "forward | ip filter FORWARD | accept in DOCKER-USER",
        "NAT | inet mdnp postrouting | accept | 10.77.0.2 → 192.0.2.2",
        "out | eth0 | leaves the host, from 192.0.2.2",
        "reply | 192.0.2.1 by eth0 | answers",
    ]
    assert walk(facts).verdict == "answered in 0.3 ms"


def test_on_one_bridge_there_is_no_route_and_the_port_is_named() -> None:
    facts = replace(
        OUTWARD,
        address="10.77.0.3",
        container=replace(OUTWARD.container, way=ON_LINK),
        answer=ANSWERED,
        journeys=NEIGHBOUR.journeys,
    )

    told = _told(facts)
    assert [line for line in told if line.startswith("route")] == []
    assert told[-2:] == [
        "veth | mdv-29d5d1306bf | delivered to container db",
        "reply | container db (10.77.0.3) | answers",
    ]


TO_GAMMA = Tunnel("mdx-a2914d35d46", "192.0.2.13", "gamma")


def _by_tunnel(answer: Answer) -> Facts:
    """To a container on another host: the same way, out by the tunnel."""
    text = NEIGHBOUR.text.replace("mdv-29d5d1306bf", TO_GAMMA.link)
    return replace(
        OUTWARD,
        address="10.77.0.3",
        container=replace(OUTWARD.container, way=ON_LINK),
        host=replace(OUTWARD.host, tunnel=TO_GAMMA, containers={}),
        answer=answer,
        journeys=tuple(events.parse(text, "mdnp-trace-7", NEIGHBOUR.number)),
    )


def test_to_another_host_the_tunnel_is_named_with_its_other_end() -> None:
    told = _told(_by_tunnel(ANSWERED))

    assert told[-2] == "tunnel | mdx-a2914d35d46 | to host gamma (192.0.2.13)"
    assert told[-1].startswith("reply | ")
    assert told[-1].endswith(" | answers")


def test_silence_from_another_host_says_where_to_look() -> None:
    facts = _by_tunnel(SILENCE)

    walked = walk(replace(facts, journeys=facts.journeys[:1]))

    assert walked.hops[-2].kind == "tunnel"
    assert walked.verdict.endswith(
        "host gamma (192.0.2.13): no answer: it went into the tunnel: see in `mdnp host ls` whether that host is alive,"
        " whether a firewall lets the UDP port `vxlan_port` pass between the hosts, and the container there"
    )


def test_a_port_that_was_published_leads_to_its_container_who_refuses() -> None:
    facts = replace(
        OUTWARD,
        address="192.0.2.2",
        port=8080,
        asked=Asked.TCP,
        answer=Answer(Kind.REFUSED, reason="Connection refused"),
        journeys=PUBLISHED.journeys,
    )
    walked = walk(facts)

    assert "192.0.2.2:8080 → 10.77.0.2:80" in [hop.nat for hop in walked.hops]
    assert walked.dies_at is None
    assert walked.verdict.startswith("refused by container web (10.77.0.2): nothing listens on tcp port 80 there")


def test_a_rule_that_drops_is_the_last_hop_in_the_words_of_iptables() -> None:
    facts = replace(OUTWARD, journeys=REJECTED.journeys, answer=Answer(Kind.ERROR, sender="10.77.0.1"))
    [rule] = [one.death.by for one in facts.journeys if one.kind == "out" and one.death and one.death.by]
    walked = walk(replace(facts, words={rule: "-A DOCKER-USER -j REJECT"}))

    assert walked.dies_at == len(walked.hops) == 7
    assert walked.verdict.startswith(
        "dies at hop 7, ip filter FORWARD: reject in DOCKER-USER: -A DOCKER-USER -j REJECT: the rule is not mdnp's"
    )


def test_a_question_for_a_mac_that_no_neighbour_hears_dies_by_the_rule() -> None:
    facts = replace(
        OUTWARD,
        address="10.79.0.3",
        container=replace(OUTWARD.container, way=ON_LINK),
        neighbour="INCOMPLETE",
        journeys=NO_ICC.journeys,
        host_end=replace(OUTWARD.host_end, name="mdv-777a81f9fca"),
    )

    assert _told(facts)[-1] == "forward | bridge mdnp forward | drop (the question who has 10.79.0.3) | DIES"
    assert "enable_icc=false" in walk(facts).verdict


@pytest.mark.parametrize(
    ("host", "what"),
    [
        (
            replace(OUTWARD.host, forwarding={"net.ipv4.ip_forward": "0"}),
            "net.ipv4.ip_forward=0: the host forwards nothing",
        ),
        (replace(OUTWARD.host, refusing="blackhole 192.0.2.0/24"), "blackhole 192.0.2.0/24 refuses it"),
        (
            replace(OUTWARD.host, rp_filter=1, back=Way("eth0")),
            "rp_filter=1: answers to 10.77.0.2 would go by eth0",
        ),
        (
            replace(OUTWARD.host, rp_filter=2, back=Way(error="Network is unreachable")),
            "rp_filter=2: answers to 10.77.0.2 would go by no link",
        ),
        (replace(OUTWARD.host, way=Way(error="Network is unreachable")), "no way to it (Network is unreachable)"),
        (OUTWARD.host, "it was not seen after routing"),
    ],
)
def test_what_no_hook_saw_after_routing_died_there(host: Host, what: str) -> None:
    facts = replace(OUTWARD, host=host, journeys=_cut(OUTSIDE.journeys, "ip nat PREROUTING"))

    assert _told(facts)[-1] == f"route | route of the host | {what} | DIES"


def test_what_was_counted_by_legacy_iptables_goes_before_what_is_guessed() -> None:
    facts = replace(
        OUTWARD, journeys=_cut(OUTSIDE.journeys, "inet mdnp forward"), counted=("filter: -A FORWARD -j DROP",)
    )

    assert _told(facts)[-1] == "legacy | iptables-legacy | dropped, as its counter says | DIES"
    assert _told(replace(facts, counted=()))[-1] == "forward | inet mdnp forward | not seen after it | DIES"


def test_a_neighbour_of_the_host_that_does_not_answer_is_named() -> None:
    host = replace(OUTWARD.host, neighbours={("192.0.2.1", "eth0"): "FAILED"})
    facts = replace(OUTWARD, host=host, journeys=OUTSIDE.journeys[:1])

    assert _told(facts)[-1] == "neighbour | 192.0.2.1 on eth0 | nobody answers ARP for 192.0.2.1 | DIES"


def test_silence_beyond_the_host_is_told_as_that() -> None:
    facts = replace(OUTWARD, journeys=OUTSIDE.journeys[:1])

    assert _told(facts)[-1] == "reply | beyond eth0 | no answer | DIES"
    assert _told(replace(facts, asked=Asked.UDP))[-1].endswith("no answer, which UDP need not give | DIES")


def test_an_error_of_a_router_is_told_with_its_sender() -> None:
    error = Answer(Kind.ERROR, sender="198.51.100.1", reason="No route to host (ICMP type 3 code 1)")
    facts = replace(OUTWARD, journeys=OUTSIDE.journeys[:1], answer=error)

    assert _told(facts)[-1] == "reply | router 198.51.100.1 | it says: No route to host (ICMP type 3 code 1) | DIES"


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (replace(OUTWARD.container, link=None), "from | web | it has no interface on network mynet"),
        (replace(OUTWARD.container, link=replace(ETH0, up=False)), "from | web | eth0 is down"),
        (
            replace(OUTWARD.container, way=Way(error="Network is unreachable")),
            "from | web | no route to 192.0.2.1 (Network is unreachable)",
        ),
    ],
)
def test_what_is_wrong_in_the_container_is_the_first_hop(facts: Container, line: str) -> None:
    assert _told(replace(OUTWARD, container=facts)) == [f"{line} | DIES"]


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (HostEnd(END.name, None), "veth | mdv-f1a528a7b88 | it is not there"),
        (HostEnd(END.name, replace(END, up=False), BRIDGE), "veth | mdv-f1a528a7b88 | it is down"),
        (HostEnd(END.name, replace(END, master="")), "veth | mdv-f1a528a7b88 | it is no port of a bridge"),
        (HostEnd(END.name, END, replace(BRIDGE, up=False)), "bridge | mdb-a2914d35d46 | it is down"),
        (
            HostEnd(END.name, END, replace(BRIDGE, addresses=())),
            "bridge | mdb-a2914d35d46 | it does not have the gateway 10.77.0.1",
        ),
    ],
)
def test_what_is_wrong_at_the_host_s_end_is_told_where_it_stands(end: HostEnd, line: str) -> None:
    assert _told(replace(OUTWARD, host_end=end, neighbour="FAILED"))[-1] == f"{line} | DIES"


def test_a_packet_that_was_answered_died_nowhere_whatever_looks_wrong() -> None:
    """What stands now may not be what stood then."""
    facts = replace(
        OUTWARD,
        answer=ANSWERED,
        host_end=HostEnd(END.name, replace(END, up=False), BRIDGE),
        journeys=OUTSIDE.journeys,
    )

    assert walk(facts).dies_at is None


def test_a_packet_that_did_not_come_to_the_host_died_in_the_container() -> None:
    facts = replace(OUTWARD, answer=Answer(Kind.LOCAL, reason="Operation not permitted"))

    assert _told(facts)[-1] == "from | web | the packet did not come to the host (Operation not permitted) | DIES"


def test_without_nft_s_word_no_rule_is_named_and_that_is_said() -> None:
    facts = replace(OUTWARD, untraced="nft is not installed")
    walked = walk(facts)

    assert _told(facts)[-1] == "reply | 192.0.2.1 | no answer | DIES"
    assert view(facts, walked)["remarks"] == ["nft could not be heard, so no rule can be named: nft is not installed"]
    off = replace(facts, host=replace(OUTWARD.host, forwarding={"net.ipv4.ip_forward": "0"}))
    assert walk(off).hops[-1].what == "net.ipv4.ip_forward=0: the host forwards nothing"


def test_a_smaller_mtu_on_the_way_is_a_remark() -> None:
    host = replace(OUTWARD.host, links={"eth0": replace(UPLINK, mtu=1400)})
    facts = replace(OUTWARD, host=host, answer=ANSWERED, journeys=OUTSIDE.journeys)

    [remark] = view(facts, walk(facts))["remarks"]
    assert remark.startswith("mtu 1500 in the container, 1400 on eth0: ")


def test_the_values_are_those_of_the_lines() -> None:
    facts = replace(OUTWARD, journeys=OUTSIDE.journeys[:1])
    walked = walk(facts)
    told = view(facts, walked)

    assert [hop["hop"] for hop in told["hops"]] == list(range(1, len(walked.hops) + 1))
    assert (told["answer"], told["dies_at"], told["ms"]) == ("silence", len(walked.hops), None)
    assert (told["container"], told["address"], told["port"], told["protocol"]) == ("web", "192.0.2.1", None, "icmp")
    assert told["verdict"] == walked.verdict
