"""What Docker told, in whatever order it was heard."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from mdnp.dns.hearsay import NETWORKS, Hearsay, differences, untold
from mdnp.engine import RunningContainer
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.names import Called, Names
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.options import NetworkOptions
from mdnp.store import Change, Drop, Promises, Put
from tests.world import DB, NET, OTHER_NET, WEB, a_network, an_endpoint

NAMED = a_network(NET, "10.1.0.0/24 10.1.0.1/24", options=NetworkOptions(dns=True))
NAMELESS = a_network(OTHER_NET, "10.2.0.0/24 10.2.0.1/24")
WEB_END, DB_END = an_endpoint(WEB, "10.1.0.2/24"), an_endpoint(DB, "10.2.0.2/24", network=OTHER_NET)
ALIASED = Names("web", ("www",))


def promises(*called: Called, endpoints: bool = True) -> Promises:
    ends = [WEB_END, DB_END] if endpoints else []
    return Promises(
        {NetworkID(NET): NAMED, NetworkID(OTHER_NET): NAMELESS},
        {EndpointID(one.id): one for one in ends},
        {},
        called={one.id: one for one in called},
    )


def nobody(_pool: IPNetwork, _address: IPAddress) -> str:
    return ""


def missing(promises: Promises, told: dict[str, Names]) -> list[Change]:
    return list(differences(promises, told, nobody))


@given(st.permutations(range(5)), st.integers(0, 5))
def test_of_answers_in_any_order_that_to_the_last_question_counts(order: list[int], lost: int) -> None:
    hearsay = Hearsay()
    turns = [hearsay.turn() for _ in range(5)]
    heard = order[lost:]

    for one in heard:
        # Each time it is another endpoint: the container was started anew.
        hearsay.hear("web", turns[one], {f"end {one}": Names(f"name {one}")})
        hearsay.hear("db", turns[one], {"its end": Names("db")})

    last = {f"end {max(heard)}": Names(f"name {max(heard)}"), "its end": Names("db")} if heard else {}
    assert hearsay.names == last


def test_a_container_that_is_gone_is_not_heard_of_again_by_an_old_answer() -> None:
    hearsay = Hearsay()
    asked, died = hearsay.turn(), hearsay.turn()

    hearsay.hear("web", died, {})
    hearsay.hear("web", asked, {WEB: Names("web")})

    assert hearsay.names == {}


def test_who_is_not_listed_is_forgotten_unless_heard_of_since() -> None:
    hearsay = Hearsay()
    hearsay.hear(NETWORKS, hearsay.turn(), {NET: Names("mynet")})
    hearsay.hear("old", hearsay.turn(), {DB: Names("db")})
    listed = hearsay.turn()
    hearsay.hear("new", hearsay.turn(), {WEB: Names("web")})

    hearsay.keep(set(), listed)

    assert hearsay.names == {NET: Names("mynet"), WEB: Names("web")}


def test_what_lacks_is_seen_by_endpoint_and_name() -> None:
    hearsay = Hearsay()
    hearsay.hear("web", hearsay.turn(), {WEB: Names("web")})

    assert not hearsay.lacks(RunningContainer("web", "web", frozenset([WEB, DB])), {WEB})
    assert hearsay.lacks(RunningContainer("web", "renamed", frozenset([WEB])), {WEB})
    assert hearsay.lacks(RunningContainer("web", "web", frozenset([WEB, DB])), {WEB, DB})
    assert not hearsay.lacks(RunningContainer("other", "other", frozenset()), {WEB})


def test_names_are_kept_of_what_is_promised_on_networks_with_names() -> None:
    told = {NET: Names("mynet"), OTHER_NET: Names("other"), WEB: ALIASED, DB: Names("db"), "e5" * 32: Names("guest")}

    assert missing(promises(), told) == [Put(Called(NET, Names("mynet"))), Put(Called(WEB, ALIASED))]


def test_what_is_as_it_was_told_is_not_written_again() -> None:
    known = promises(Called(NET, Names("mynet")), Called(WEB, ALIASED))

    assert missing(known, {NET: Names("mynet"), WEB: ALIASED}) == []
    assert missing(known, {}) == []
    assert missing(known, {WEB: Names("renamed", ("www",))}) == [Put(Called(WEB, Names("renamed", ("www",))))]


def test_what_is_promised_no_more_or_on_a_network_without_names_has_none() -> None:
    called = [Called(WEB, ALIASED), Called(DB, Names("db"))]

    assert missing(promises(*called), {}) == [Drop(called[1])]
    assert missing(promises(*called, endpoints=False), {WEB: ALIASED}) == [Drop(one) for one in called]


def test_ipam_s_name_is_the_first_and_gives_way_to_docker_s() -> None:
    def holder(pool: IPNetwork, address: IPAddress) -> str:
        known = pool == ip_network("10.1.0.0/24") and address == ip_address("10.1.0.2")
        return "web" if known else "another"

    first = Called(WEB, Names("web"))
    assert list(differences(promises(), {}, holder)) == [Put(first)]
    assert list(differences(promises(Called(WEB, ALIASED)), {}, holder)) == []
    assert list(differences(promises(first), {WEB: ALIASED}, holder)) == [Put(Called(WEB, ALIASED))]


def test_what_docker_has_to_tell_yet() -> None:
    assert untold(promises(), {NET: Names("mynet")})
    assert untold(promises(), {WEB: ALIASED})
    assert not untold(promises(), {NET: Names("mynet"), WEB: ALIASED})
