"""How what is published comes in, for every kind of container, network and request."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.dataplane.publishing import Carried, Opened, Translated, WayIn, host_sockets, reason_for_none, ways_in
from mdnp.model.endpoint import Endpoint
from mdnp.model.network import Network
from mdnp.model.options import NetworkOptions, Routing
from mdnp.model.port import Protocol, Publication
from tests.dataplane.strategies import ADDRESSES, HOST_ADDRESSES, of_families, on_networks, requests
from tests.world import WEB, a_port, an_endpoint

TRANSPORTS = [Protocol.TCP, Protocol.UDP]
HOSTS = [one or "" for one in HOST_ADDRESSES]
V4, V6, BOTH = (4,), (6,), (4, 6)
NOT_CARRIED = "cannot be carried from one family to the other"


def shown(way: WayIn) -> str:
    match way:
        case Translated(socket, target, proxied):
            return f"{socket} > {target}" + " and proxy" * proxied
        case Carried(socket, target):
            return f"{socket} proxy {target}"
        case Opened(protocol, target):
            return f"{protocol} {target}"


def a_container(versions: tuple[int, ...], *publications: Publication) -> Endpoint:
    endpoint = an_endpoint(WEB, *(ADDRESSES[one] for one in versions), ports=publications)
    return endpoint if versions else replace(endpoint, addresses=())


def ways(
    versions: tuple[int, ...],
    address: str = "",
    protocol: Protocol = Protocol.TCP,
    *,
    carried: bool = True,
    options: NetworkOptions | None = None,
) -> list[str]:
    """Of port 80 of a container with these addresses, at port 8080 of the host."""
    publication = Publication(a_port(80, 8080, protocol=protocol, address=address), 8080, carried)
    found = ways_in(of_families(versions, options=options), a_container(versions, publication))
    return [line.removeprefix(f"{protocol} ") for line in map(shown, found)]


@pytest.mark.parametrize("protocol", TRANSPORTS)
@pytest.mark.parametrize(
    ("versions", "address", "expected"),
    [
        (V4, "", ["0.0.0.0:8080 > 10.1.0.2:80", "[::]:8080 proxy 10.1.0.2:80"]),
        (V4, "192.0.2.1", ["192.0.2.1:8080 > 10.1.0.2:80"]),
        (V4, "127.0.0.1", ["127.0.0.1:8080 > 10.1.0.2:80"]),
        (V4, "2001:db8::1", ["[2001:db8::1]:8080 proxy 10.1.0.2:80"]),
        (V4, "::1", ["[::1]:8080 proxy 10.1.0.2:80"]),
        (V6, "", ["0.0.0.0:8080 proxy [fd00::2]:80", "[::]:8080 > [fd00::2]:80 and proxy"]),
        (V6, "192.0.2.1", ["192.0.2.1:8080 proxy [fd00::2]:80"]),
        (V6, "127.0.0.1", ["127.0.0.1:8080 proxy [fd00::2]:80"]),
        (V6, "2001:db8::1", ["[2001:db8::1]:8080 > [fd00::2]:80"]),
        (V6, "::1", ["[::1]:8080 proxy [fd00::2]:80"]),
        (BOTH, "", ["0.0.0.0:8080 > 10.1.0.2:80", "[::]:8080 > [fd00::2]:80 and proxy"]),
        (BOTH, "192.0.2.1", ["192.0.2.1:8080 > 10.1.0.2:80"]),
        (BOTH, "127.0.0.1", ["127.0.0.1:8080 > 10.1.0.2:80"]),
        (BOTH, "2001:db8::1", ["[2001:db8::1]:8080 > [fd00::2]:80"]),
        (BOTH, "::1", ["[::1]:8080 proxy [fd00::2]:80"]),
    ],
)
def test_the_kernel_translates_within_a_family_and_the_daemon_carries_the_rest(
    versions: tuple[int, ...], address: str, expected: list[str], protocol: Protocol
) -> None:
    assert ways(versions, address, protocol) == expected


@pytest.mark.parametrize(
    ("versions", "address", "expected"),
    [
        (V4, "", ["0.0.0.0:8080 > 10.1.0.2:80"]),
        (V4, "127.0.0.1", ["127.0.0.1:8080 > 10.1.0.2:80"]),
        (V4, "2001:db8::1", []),
        (V6, "", ["[::]:8080 > [fd00::2]:80"]),
        (V6, "::1", []),
        (V6, "192.0.2.1", []),
        (BOTH, "", ["0.0.0.0:8080 > 10.1.0.2:80", "[::]:8080 > [fd00::2]:80"]),
        (BOTH, "::1", []),
    ],
)
def test_sctp_is_translated_and_never_carried(versions: tuple[int, ...], address: str, expected: list[str]) -> None:
    assert ways(versions, address, Protocol.SCTP) == expected


@pytest.mark.parametrize(
    ("versions", "address", "expected"),
    [
        (V4, "", ["0.0.0.0:8080 > 10.1.0.2:80"]),
        (V4, "2001:db8::1", []),
        (V6, "", ["[::]:8080 > [fd00::2]:80 and proxy"]),
        (V6, "127.0.0.1", []),
        (BOTH, "", ["0.0.0.0:8080 > 10.1.0.2:80", "[::]:8080 > [fd00::2]:80 and proxy"]),
        (BOTH, "::1", ["[::1]:8080 proxy [fd00::2]:80"]),
    ],
)
def test_where_docker_forbids_it_nothing_is_carried_from_one_family_to_the_other(
    versions: tuple[int, ...], address: str, expected: list[str]
) -> None:
    assert ways(versions, address, carried=False) == expected


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize(
    ("versions", "routed", "address", "expected"),
    [
        (V4, V4, "", ["10.1.0.2:80"]),
        (V4, V4, "192.0.2.1", ["10.1.0.2:80"]),
        (V4, V4, "::1", []),
        (V6, V6, "", ["[fd00::2]:80"]),
        (V6, V6, "::1", ["[fd00::2]:80"]),
        (V6, V6, "127.0.0.1", []),
        (BOTH, BOTH, "", ["10.1.0.2:80", "[fd00::2]:80"]),
        (BOTH, V6, "", ["0.0.0.0:8080 > 10.1.0.2:80", "[fd00::2]:80"]),
        (BOTH, V6, "192.0.2.1", ["192.0.2.1:8080 > 10.1.0.2:80"]),
        (BOTH, V4, "192.0.2.1", ["10.1.0.2:80"]),
    ],
)
def test_a_routed_family_is_reached_straight_and_takes_no_port_of_the_host(
    versions: tuple[int, ...], routed: tuple[int, ...], address: str, expected: list[str], protocol: Protocol
) -> None:
    assert ways(versions, address, protocol, options=routing(*routed)) == expected


def routing(*versions: int) -> NetworkOptions:
    modes = {one: Routing.ROUTED if one in versions else Routing.NAT for one in (4, 6)}
    return NetworkOptions(routing_ipv4=modes[4], routing_ipv6=modes[6])


@pytest.mark.parametrize(
    ("binding", "address", "expected"),
    [
        ("127.0.0.1", "", ["127.0.0.1:8080 > 10.1.0.2:80"]),
        ("0.0.0.0", "", ["0.0.0.0:8080 > 10.1.0.2:80", "[::]:8080 > [fd00::2]:80 and proxy"]),  # noqa: S104
        ("127.0.0.1", "192.0.2.1", ["192.0.2.1:8080 > 10.1.0.2:80"]),
        ("127.0.0.1", "2001:db8::1", ["[2001:db8::1]:8080 > [fd00::2]:80"]),
    ],
)
def test_the_network_s_host_address_stands_for_one_that_was_not_named(
    binding: str, address: str, expected: list[str]
) -> None:
    assert ways(BOTH, address, options=NetworkOptions(host_binding=IPv4Address(binding))) == expected


def test_a_container_without_addresses_has_no_way_in() -> None:
    assert [ways((), address) for address in HOSTS] == [[]] * len(HOSTS)


def test_each_publication_has_its_ways_in_the_order_asked_for() -> None:
    ports = (Publication(a_port(80, 8080), 8080), Publication(a_port(53, 53, protocol=Protocol.UDP), 53))

    found = ways_in(of_families(V4), a_container(V4, *ports))

    assert list(map(shown, found)) == [
        "tcp 0.0.0.0:8080 > 10.1.0.2:80",
        "tcp [::]:8080 proxy 10.1.0.2:80",
        "udp 0.0.0.0:53 > 10.1.0.2:53",
        "udp [::]:53 proxy 10.1.0.2:53",
    ]


def test_what_two_publications_open_is_opened_once() -> None:
    ports = (Publication(a_port(80, 8080), 8080), Publication(a_port(80, 8081), 8081))

    found = ways_in(of_families(V4, options=routing(4)), a_container(V4, *ports))

    assert list(map(shown, found)) == ["tcp 10.1.0.2:80"]


@given(on_networks())
def test_the_host_s_ports_that_are_taken_are_those_of_the_ways(one: tuple[Network, Endpoint]) -> None:
    network, endpoint = one

    taken = [socket for port in endpoint.ports for socket in host_sockets(network, endpoint, port)]

    ways = ways_in(network, endpoint)
    assert set(taken) == {way.socket for way in ways if isinstance(way, Translated | Carried)}
    for port in endpoint.ports:
        sockets = host_sockets(network, endpoint, port)
        assert len(set(sockets)) == len(sockets)
        assert {(each.protocol, each.port) for each in sockets} <= {(port.request.protocol, port.host_port)}


@given(on_networks())
def test_every_way_leads_to_the_container_s_own_port(one: tuple[Network, Endpoint]) -> None:
    network, endpoint = one

    for way in ways_in(network, endpoint):
        assert way.target.address in {address.ip for address in endpoint.addresses}
        assert way.target.port in {port.request.port for port in endpoint.ports}
        if isinstance(way, Translated):
            assert way.socket.address.version == way.target.address.version


@given(on_networks(), requests(), st.booleans())
def test_what_has_no_way_in_has_a_reason(one: tuple[Network, Endpoint], request: object, carried: bool) -> None:
    network, endpoint = one
    asked = replace(endpoint, ports=(Publication(request, 8080, carried),))  # type: ignore[arg-type]

    reason = reason_for_none(network, endpoint, asked.ports[0].request)

    if carried:
        assert bool(reason) is not bool(ways_in(network, asked))
    else:  # what Docker forbids to carry is no fault of the request
        assert not (reason and ways_in(network, asked))


@pytest.mark.parametrize(
    ("versions", "address", "protocol", "words"),
    [
        ((), "", Protocol.TCP, "the container has no address on this network"),
        ((), "::1", Protocol.SCTP, "the container has no address on this network"),
        (
            V4,
            "2001:db8::1",
            Protocol.SCTP,
            f"the container has no IPv6 address on this network, and sctp {NOT_CARRIED}",
        ),
        (
            V6,
            "127.0.0.1",
            Protocol.SCTP,
            f"the container has no IPv4 address on this network, and sctp {NOT_CARRIED}",
        ),
        (V4, "2001:db8::1", Protocol.UDP, ""),
        (V4, "", Protocol.SCTP, ""),
    ],
)
def test_the_reason_says_what_is_missing(
    versions: tuple[int, ...], address: str, protocol: Protocol, words: str
) -> None:
    request = a_port(80, 8080, protocol=protocol, address=address)

    assert reason_for_none(of_families(versions), a_container(versions), request) == words


@pytest.mark.parametrize("versions", [V6, BOTH])
def test_the_reason_does_not_deny_an_address_that_the_container_has(versions: tuple[int, ...]) -> None:
    request = a_port(80, 8080, protocol=Protocol.SCTP, address="::1")

    reason = reason_for_none(of_families(versions), a_container(versions), request)

    assert reason
    assert "no IPv6 address" not in reason


def test_the_reason_of_a_routed_network_says_that_it_is_routed() -> None:
    """TCP could be carried, but not around an address that is reached straight."""
    reason = reason_for_none(of_families(V4, options=routing(4)), a_container(V4), a_port(80, 8080, address="::1"))

    assert "routed" in reason
    assert "tcp cannot be carried" not in reason
