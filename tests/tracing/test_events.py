"""What nft tells of packets, read back from recordings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.trace import events
from mdnp.trace.events import Journey, Packet
from tests.tracing.recorded import HOST_IPV6, NEIGHBOUR, NO_ICC, OUTSIDE, PUBLISHED, REJECTED, Recorded


def _way(journey: Journey) -> list[str]:
    """The chains that are not ours, with what they said."""
    return [f"{one.place} {one.verdict}" for one in journey.passes if not one.is_ours]


def test_a_packet_is_followed_over_new_trace_ids_and_so_is_the_answer() -> None:
    out, reply = OUTSIDE.journeys

    assert (out.kind, reply.kind) == ("out", "reply")
    assert _way(out) == [
        "bridge mdnp prerouting accept",
        "inet mdnp loopback accept",
        "inet mdnp prerouting accept",
        "ip nat PREROUTING accept",
        "inet mdnp forward accept",
        "ip filter FORWARD accept",
        "inet mdnp postrouting accept",
    ]
    assert _way(reply) == ["inet mdnp forward accept", "ip filter FORWARD accept"]
    left = out.ended_at("left")
    assert left is not None
    sender = "02:6d:0a:4d:00:02"
    assert left.packet == Packet("mdb-a2914d35d46", "eth0", "192.0.2.2", "192.0.2.1", ping=9039, mac=sender)


def test_a_rule_has_its_words_without_its_counter_and_its_handle() -> None:
    [decided] = [one.by for one in OUTSIDE.journeys[0].passes if one.place == "ip filter FORWARD"]

    assert decided is not None
    assert (decided.chain, decided.text, decided.verdict) == ("DOCKER-USER", 'iifname "mdb-*" accept', "accept")
    assert decided.handle > 0


def test_a_packet_that_is_sent_again_is_another_though_it_has_the_same_id() -> None:
    text = OUTSIDE.text

    twice = events.parse(f"{text}\n{text}", "mdnp-trace-7", OUTSIDE.number)
    assert tuple(twice) == OUTSIDE.journeys * 2


def test_an_error_that_a_rule_sends_is_told_of_before_the_rule_and_kept_apart() -> None:
    _asked, out, error = REJECTED.journeys[:3]

    assert (out.kind, error.kind) == ("out", "answered")
    assert out.death is not None
    assert out.death.place == "ip filter FORWARD"
    assert out.death.by is not None
    assert out.death.by.text.endswith("reject with icmp type admin-prohibited")
    assert (error.passes[0].chain, error.passes[0].packet.source) == ("answered", "10.77.0.1")
    assert error.death is None


def test_of_two_that_saw_it_leave_the_bridge_knows_the_port() -> None:
    out = NEIGHBOUR.journeys[0]

    left = out.ended_at("left")
    assert left is not None
    assert (left.family, left.packet.oif) == ("bridge", "mdv-29d5d1306bf")


def test_a_question_for_a_mac_is_followed_to_each_port() -> None:
    journeys = NO_ICC.journeys

    assert [one.kind for one in journeys] == ["who-has"] * 3
    assert [(one.packet.oif, one.dropped) for one in journeys[0].passes if one.packet.oif] == [
        ("mdv-777649d847c", True)
    ]


def test_translation_shows_in_what_the_next_chain_sees() -> None:
    out = PUBLISHED.journeys[0]

    seen = [(one.place, one.packet.target, one.packet.target_port) for one in out.passes]
    assert ("inet mdnp prerouting", "192.0.2.2", 8080) in seen
    assert ("inet mdnp forward", "10.77.0.2", 80) in seen


def test_the_id_of_an_icmpv6_echo_is_read_from_a_word_with_another_name() -> None:
    asked, out, answered = HOST_IPV6.journeys

    assert {one.packet.ping for one in (*out.passes, *answered.passes)} == {HOST_IPV6.number}
    assert out.ended_at("arrived") is not None
    assert asked.kind == "who-has"


@pytest.mark.parametrize(("flags", "reset"), [("syn", False), ("rst", True), ("0x14", True), ("0x12", False)])
def test_a_reset_is_told_from_other_segments(flags: str, reset: bool) -> None:
    ends = 'iif "a" ip saddr 1.2.3.4 ip daddr 5.6.7.8 tcp sport 1 tcp dport 2'
    packet = events.parse_packet(f"{ends} tcp flags == {flags} ")

    assert packet == Packet("a", "", "1.2.3.4", "5.6.7.8", 1, 2, reset=reset)


@pytest.mark.parametrize("recorded", [NEIGHBOUR, OUTSIDE, PUBLISHED])
def test_another_s_packets_are_left_out(recorded: Recorded) -> None:
    """They have another number, and no chain of our table set their bit."""
    strange = recorded.text.replace(f" {recorded.number} ", " 4 ").replace("-7 ", "-8 ")
    strange = strange.replace("trace id ", "trace id f")
    lines = [line for pair in zip(recorded.text.splitlines(), strange.splitlines(), strict=True) for line in pair]

    assert tuple(events.parse("\n".join(lines), "mdnp-trace-7", recorded.number)) == recorded.journeys


def test_another_s_question_for_a_mac_is_left_out() -> None:
    """It is sent again and again while nobody answers, and has no number to know it by."""
    strange = NO_ICC.text.replace("ether saddr 02:", "ether saddr 06:").replace("-7 ", "-8 ")
    strange = strange.replace("trace id ", "trace id f")
    lines = [line for pair in zip(NO_ICC.text.splitlines(), strange.splitlines(), strict=True) for line in pair]

    assert tuple(events.parse("\n".join(lines), "mdnp-trace-7", NO_ICC.number)) == NO_ICC.journeys


@given(st.data())
def test_lines_that_are_cut_off_or_strange_end_nothing(data: st.DataObject) -> None:
    lines = PUBLISHED.text.splitlines()
    place = data.draw(st.integers(0, len(lines) - 1))
    lines[place] = data.draw(st.sampled_from([lines[place][: len(lines[place]) // 2], "", "trace id", "# ?"]))

    kinds = [one.kind for one in events.parse("\n".join(lines), "mdnp-trace-7", PUBLISHED.number)]
    assert set(kinds) <= {"out", "reply"}
    assert kinds
