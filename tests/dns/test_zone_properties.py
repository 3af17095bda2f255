"""What holds in zones of any residents, whatever is asked."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from mdnp.dns import SUFFIX, Answer, Kind, Question, Record, Resident
from mdnp.dns.zone import MOST, Zone, Zones
from mdnp.model.names import Names
from mdnp.model.port import Protocol

NETWORKS = ["blue", "Red", "my.net", "net", "mdnp", "blue.mdnp", ""]
FAMILIES = {Kind.A: 4, Kind.AAAA: 6}

words = st.sampled_from(["web", "db", "Web", "a.web", "web.blue", "web.blue.mdnp", "_tcp", "x" * 63, "", ".", "é"])
names = st.builds(Names, words, st.lists(words, max_size=2).map(tuple), words, words)
ports = st.lists(st.tuples(st.sampled_from(Protocol), st.sampled_from([53, 80])), max_size=2).map(tuple)
changes = st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.tuples(names, ports, st.booleans())), max_size=8)
heads = st.sampled_from(["", "_tcp.", "_80._tcp.", "_x._udp.", "nobody.", "."])
ends = st.sampled_from(["", *(f".{one}" for one in NETWORKS), *(f".{one}.{SUFFIX}" for one in NETWORKS)])
reverses = st.builds(
    lambda last, third: IPv4Address(f"10.{third}.0.{last}").reverse_pointer, st.integers(1, 9), st.integers(50, 58)
) | st.builds(lambda last, third: IPv6Address(f"fd{third}::{last}").reverse_pointer, st.integers(1, 9), st.just(50))
asked = st.one_of(
    st.builds(lambda *parts: "".join(parts).lower(), heads, words, ends),
    reverses,
    st.sampled_from(["blue.mdnp", "mdnp", "net.mdnp", "b.in-addr.arpa"]),
    st.text(),
    st.text(st.characters()).map(lambda text: f"{text}.in-addr.arpa"),
    st.text("0123456789abcdef._-").map(lambda text: f"{text}.ip6.arpa"),
)
questions = st.builds(Question, asked, st.sampled_from(Kind) | st.integers(0, 65535))
Changes = Sequence[tuple[str, tuple[Names, tuple[tuple[Protocol, int], ...], bool] | None]]
networks = st.lists(st.tuples(st.sampled_from(NETWORKS), changes), max_size=3)


def addresses(network: int, key: str) -> tuple[IPv4Address, ...] | tuple[IPv4Address, IPv6Address]:
    """Of the network's pools; "a" has no IPv6."""
    number = ord(key) - ord("a") + 1
    only = (IPv4Address(f"10.{50 + network}.0.{number}"),)
    return only if key == "a" else (*only, IPv6Address(f"fd{50 + network}::{number}"))


def empty(name: str, number: int) -> Zone:
    return Zone(name, [IPv4Network(f"10.{50 + number}.0.0/24"), IPv6Network(f"fd{50 + number}::/64")])


def changed(name: str, number: int, story: Changes) -> Zone:
    zone = empty("", number)
    for key, told in story:
        if told is None:
            zone.drop(key)
        else:
            called, published, here = told
            zone.put(key, Resident(addresses(number, key), called, published, here))
    zone.call(name)
    return zone


def built(given_networks: Sequence[tuple[str, Changes]]) -> list[Zone]:
    return [changed(name, number, story) for number, (name, story) in enumerate(given_networks)]


def find(zones: Sequence[Zone], question: Question, *, everywhere: bool = False) -> Answer | None:
    return Zones(zones, Random(1), everywhere=everywhere).find(question)  # noqa: S311  # the same in each run


def in_any_order(answer: Answer | None) -> tuple[frozenset[Record], frozenset[Record], bool, bool] | None:
    if answer is None:
        return None
    return frozenset(answer.records), frozenset(answer.additional), answer.exists, answer.left


@given(networks, questions, st.booleans())
def test_a_zone_that_was_changed_is_as_one_made_anew(
    given_networks: list[tuple[str, Changes]], question: Question, everywhere: bool
) -> None:
    zones = built(given_networks)
    anew = []
    for number, ((name, _), zone) in enumerate(zip(given_networks, zones, strict=True)):
        made = empty(name, number)
        for key, resident in reversed(list(zone.residents.items())):
            made.put(key, resident)
        anew.append(made)
    was, now = (in_any_order(find(some, question, everywhere=everywhere)) for some in (zones, anew))
    assert was == now


@given(networks, questions, st.booleans())
@example([("blue", [])], Question("..mdnp", Kind.A), False)
def test_any_question_is_answered_well(
    given_networks: list[tuple[str, Changes]], question: Question, everywhere: bool
) -> None:
    answer = find(built(given_networks), question, everywhere=everywhere)
    if answer is None:
        return
    assert answer.exists or not answer.records
    assert len(answer.records) == len(set(answer.records)) <= MOST
    for record in answer.records:
        assert record.name == question.name
        assert question.kind in (record.kind, Kind.ANY)


@given(networks, networks, questions)
def test_no_address_or_name_comes_of_a_network_that_the_asker_is_not_on(
    own: list[tuple[str, Changes]], others: list[tuple[str, Changes]], question: Question
) -> None:
    zones = built([*own, *others])[: len(own)]
    answer = find(zones, question)
    assert in_any_order(answer) == in_any_order(find(built(own), question))
    known = {address for zone in zones for one in zone.residents.values() for address in one.addresses}
    told = answer.records + answer.additional if answer else ()
    assert {one.data for one in told if one.kind in FAMILIES} <= known


@given(networks, questions)
def test_what_is_below_ours_goes_nowhere_else(given_networks: list[tuple[str, Changes]], question: Question) -> None:
    below = [SUFFIX, *(name.lower() for name, _ in given_networks if name)]
    if question.name == SUFFIX or any(question.name.endswith(f".{one}") for one in below):
        assert find(built(given_networks), question) is not None


@given(networks, questions)
def test_the_host_is_told_nothing_of_names_but_below_the_suffix(
    given_networks: list[tuple[str, Changes]], question: Question
) -> None:
    answer = find(built(given_networks), question, everywhere=True)
    if not question.name.endswith(".arpa"):
        assert (answer is not None) == (question.name == SUFFIX or question.name.endswith(f".{SUFFIX}"))


@given(networks, questions)
def test_nothing_is_left_to_docker_that_it_does_not_have_whole(
    given_networks: list[tuple[str, Changes]], question: Question
) -> None:
    zones = built(given_networks)
    answer = find(zones, question)
    if answer is None or not answer.left:
        return
    assert question.kind in (Kind.A, Kind.AAAA, Kind.PTR)
    found = find(zones, Question(question.name, Kind.ANY))
    told = {one.data for one in found.records} if found else set()
    for zone in zones:
        for one in zone.residents.values():
            asked_for = {address.reverse_pointer for address in one.addresses} & {question.name}
            assert one.here or not (told & set(one.addresses) or asked_for)
