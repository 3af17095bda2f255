"""Which port of the host is chosen for what is asked to be published."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdnp.dataplane.publishing import host_sockets
from mdnp.driver.ports import Obstacle, choose
from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import Conflict, Exhausted, InvalidParameter, MdnpError
from mdnp.model.network import Network
from mdnp.model.options import NetworkOptions, Routing
from mdnp.model.port import HostSocket, PortRequest, Protocol, Publication
from tests.dataplane.strategies import on_networks, requests
from tests.world import ANY4, ANY6, NET, WEB, a_network, a_port, a_socket, an_endpoint

DUAL = a_network(NET, "10.1.0.0/24 10.1.0.1/24", "fd00::/64 fd00::1/64")
LOCAL = range(40000, 40004)


def chosen(
    *asked: PortRequest,
    taken: Iterable[HostSocket] = (),
    has: Sequence[Publication] = (),
    local_ports: Sequence[int] = LOCAL,
    network: Network = DUAL,
    carried: bool = True,
) -> list[int]:
    """The host's port of each that was asked for, where others have `taken`, for a container of both families."""
    endpoint = an_endpoint(WEB, "10.1.0.2/24", "fd00::2/64", ports=has)
    publications = choose(network, endpoint, asked, carried=carried, obstacle=obstacle(taken), local_ports=local_ports)
    assert Counter((one.request, one.carried) for one in publications) == Counter((one, carried) for one in asked)
    left = list(publications)
    return [left.pop([one.request for one in left].index(request)).host_port for request in asked]


def obstacle(taken: Iterable[HostSocket]) -> Obstacle:
    """Others have these."""
    sockets = set(taken)
    return lambda socket: f"{socket} is in use by nginx" if socket in sockets else ""


def refusal(*asked: PortRequest, **facts: object) -> tuple[type[MdnpError], str]:
    with pytest.raises(MdnpError) as caught:
        chosen(*asked, **facts)  # type: ignore[arg-type]
    return type(caught.value), str(caught.value)


def test_nothing_asked_for_is_nothing_chosen() -> None:
    assert chosen() == []


def test_a_fixed_port_is_the_one_that_was_asked_for() -> None:
    assert chosen(a_port(80, 8080), a_port(80, 1), a_port(80, 65535)) == [8080, 1, 65535]


@pytest.mark.parametrize("address", [ANY4, ANY6])
def test_a_fixed_port_that_somebody_has_in_one_family_is_a_conflict(address: str) -> None:
    taken = a_socket(address, 8080)

    assert refusal(a_port(80, 8080), taken=[taken]) == (
        Conflict,
        f"cannot publish 8080:80/tcp: {taken} is in use by nginx",
    )


def test_what_somebody_has_elsewhere_is_no_obstacle() -> None:
    taken = [a_socket(ANY4, 8080, Protocol.UDP), a_socket(ANY4, 8081), a_socket("192.0.2.1", 8080)]

    assert chosen(a_port(80, 8080), taken=taken) == [8080]


def test_of_a_range_the_first_that_is_free_in_both_families_is_chosen() -> None:
    taken = [a_socket(ANY4, 8080), a_socket(ANY6, 8081), a_socket(ANY4, 8083)]

    assert chosen(a_port(80, 8080, 8090), taken=taken) == [8082]


def test_a_range_of_which_nothing_is_free_is_exhausted() -> None:
    taken = [a_socket(ANY4, port) for port in (8080, 8081)]

    assert refusal(a_port(80, 8080, 8081), taken=taken) == (
        Exhausted,
        "cannot publish 8080-8081:80/tcp: no port of the range is free (the last: tcp 0.0.0.0:8081 is in use by nginx)",
    )


def test_where_any_port_will_do_the_host_s_are_tried_in_turn() -> None:
    assert chosen(a_port(443), a_port(80), taken=[a_socket(ANY6, 40000), a_socket(ANY4, 40002)]) == [40001, 40003]
    assert chosen(a_port(80), local_ports=[40002, 40003, 40000, 40001]) == [40002]


@pytest.mark.parametrize("local_ports", [LOCAL, ()])
def test_a_host_without_a_free_port_is_exhausted(local_ports: Sequence[int]) -> None:
    taken = [a_socket(ANY4, port) for port in LOCAL]

    assert refusal(a_port(80), taken=taken, local_ports=local_ports) == (
        Exhausted,
        "no port of the host is free to publish at: widen its ip_local_port_range, or name a port",
    )


def test_two_requests_of_one_call_do_not_get_one_port() -> None:
    assert chosen(a_port(80), a_port(81), a_port(82, 8080, 8089), a_port(83, 8080, 8089)) == [40000, 40001, 8080, 8081]


@given(st.permutations([a_port(80, 8080), a_port(81, 8080, 8081), a_port(82, 8080, 8082), a_port(83), a_port(84)]))
def test_what_is_chosen_does_not_depend_on_the_order_in_which_it_is_asked_for(asked: list[PortRequest]) -> None:
    """Engines send ports in another order at each start."""
    given = dict(zip(map(str, asked), chosen(*asked), strict=True))

    assert given == {
        "8080:80/tcp": 8080,
        "8080-8081:81/tcp": 8081,
        "8080-8082:82/tcp": 8082,
        ":83/tcp": 40000,
        ":84/tcp": 40001,
    }


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ([a_port(80, 8080, 8081), a_port(81, 8080)], [8081, 8080]),
        ([a_port(80, 8080, 8082), a_port(81, 8080, 8081), a_port(82, 8080)], [8082, 8081, 8080]),
        ([a_port(80), a_port(81, 40000)], [40001, 40000]),
    ],
)
def test_who_has_less_choice_chooses_first(asked: list[PortRequest], given: list[int]) -> None:
    """Docker asks in any order, another at each start: a set of ports that fits must fit always."""
    assert chosen(*asked) == given
    assert sorted(zip(map(str, reversed(asked)), chosen(*reversed(asked)), strict=True)) == sorted(
        zip(map(str, asked), given, strict=True)
    )


def test_two_requests_of_one_call_for_one_port_are_a_conflict() -> None:
    assert refusal(a_port(80, 8080), a_port(81, 8080)) == (
        Conflict,
        "cannot publish 8080:81/tcp: tcp 0.0.0.0:8080 is for another port of this container",
    )
    assert refusal(a_port(80, 8080), a_port(81, 8080, address="192.0.2.1"))[0] is Conflict


def test_one_number_may_be_of_two_protocols_and_of_two_addresses() -> None:
    assert chosen(a_port(53, 53), a_port(53, 53, protocol=Protocol.UDP)) == [53, 53]
    assert chosen(a_port(80, 80, address="192.0.2.1"), a_port(80, 80, address="192.0.2.2")) == [80, 80]


def test_a_port_that_is_had_is_kept() -> None:
    has = [Publication(a_port(80), 40003), Publication(a_port(443, 8443, 8449), 8447)]

    assert chosen(a_port(443, 8443, 8449), a_port(80), a_port(81), has=has) == [8447, 40003, 40000]


def test_a_port_that_is_had_yields_to_somebody_who_took_it() -> None:
    has = [Publication(a_port(80), 40003)]

    assert chosen(a_port(80), has=has, taken=[a_socket(ANY4, 40003)]) == [40000]


def test_a_port_of_another_request_is_not_kept() -> None:
    assert chosen(a_port(81), has=[Publication(a_port(80), 40003)]) == [40000]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            a_port(80, 8080, protocol=Protocol.SCTP, address="2001:db8::1"),
            "cannot publish [2001:db8::1]:8080:80/sctp: the container has no IPv6 address on this network",
        ),
        (
            a_port(80, protocol=Protocol.SCTP, address="::1"),
            "cannot publish [::1]::80/sctp: ",
        ),
    ],
)
def test_what_has_no_way_in_is_refused(asked: PortRequest, words: str) -> None:
    endpoint = an_endpoint(WEB, "10.1.0.2/24")

    with pytest.raises(InvalidParameter) as caught:
        choose(DUAL, endpoint, [asked], carried=True, obstacle=obstacle([]), local_ports=LOCAL)

    assert str(caught.value).startswith(words)


def test_in_a_routed_network_no_port_of_the_host_s_is_looked_at() -> None:
    options = NetworkOptions(routing_ipv4=Routing.ROUTED, routing_ipv6=Routing.ROUTED)
    routed = a_network(NET, "10.1.0.0/24", "fd00::/64", options=options)

    assert chosen(a_port(80, 8080), a_port(81, 8080), network=routed, taken=[a_socket(ANY4, 8080)]) == [8080, 8080]


def test_where_nothing_may_be_carried_only_the_families_of_the_container_count() -> None:
    endpoint, taken = an_endpoint(WEB, "10.1.0.2/24"), obstacle([a_socket(ANY6, 8080)])

    found = choose(DUAL, endpoint, [a_port(80, 8080)], carried=False, obstacle=taken, local_ports=LOCAL)
    with pytest.raises(Conflict):
        choose(DUAL, endpoint, [a_port(80, 8080)], carried=True, obstacle=taken, local_ports=LOCAL)

    assert found == (Publication(a_port(80, 8080), 8080, carried=False),)


taken_sockets = st.builds(a_socket, st.sampled_from([ANY4, ANY6]), st.integers(8080, 8084), st.sampled_from(Protocol))
ranges = st.tuples(st.integers(8080, 8084), st.integers(0, 3)).map(lambda one: (one[0], one[0] + one[1]))
within = st.builds(
    lambda port, ends, protocol: a_port(port, ends[0], ends[1], protocol),
    st.integers(1, 3),
    ranges,
    st.sampled_from(Protocol),
)


@settings(max_examples=25)
@given(on_networks(), st.lists(within | requests(), max_size=5), st.sets(taken_sockets), st.booleans())
def test_what_is_chosen_is_in_its_range_and_nobody_else_s(
    one: tuple[Network, Endpoint], asked: list[PortRequest], taken: set[HostSocket], carried: bool
) -> None:
    network, endpoint = one
    try:
        found = choose(
            network, endpoint, asked, carried=carried, obstacle=obstacle(taken), local_ports=range(8080, 8083)
        )
    except (Conflict, Exhausted, InvalidParameter):
        return

    sockets = [socket for each in found for socket in host_sockets(network, endpoint, each)]
    assert not set(sockets) & taken
    assert not any(a.clashes(b) for number, a in enumerate(sockets) for b in sockets[:number])
    assert Counter(each.request for each in found) == Counter(asked)
    for publication in found:
        request = publication.request
        allowed = range(8080, 8083) if request.ephemeral else range(request.first, request.last + 1)
        kept = {each.host_port for each in endpoint.ports if each.request == request}
        assert publication.host_port in allowed or publication.host_port in kept
        assert publication.carried is carried
