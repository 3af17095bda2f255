"""Ports that are asked for, and those of the host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.model.errors import InvalidParameter
from mdnp.model.port import HostSocket, PortRequest, Protocol, Target, parse_host_address
from tests.world import ANY4, ANY6, a_port, a_socket

ADDRESSES = [ANY4, "127.0.0.1", "127.0.0.2", ANY6, "::1"]
sockets = st.builds(a_socket, st.sampled_from(ADDRESSES), st.sampled_from([80, 81]), st.sampled_from(Protocol))


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (a_port(80), ":80/tcp"),
        (a_port(80, 8080), "8080:80/tcp"),
        (a_port(80, 8080, 8090), "8080-8090:80/tcp"),
        (a_port(53, protocol=Protocol.UDP, address="127.0.0.1"), "127.0.0.1::53/udp"),
        (a_port(9, 99, protocol=Protocol.SCTP, address="::1"), "[::1]:99:9/sctp"),
    ],
)
def test_a_request_prints_as_users_write_it(request_: PortRequest, text: str) -> None:
    assert str(request_) == text


def test_only_a_request_without_a_port_of_the_host_s_takes_any() -> None:
    assert (a_port(80).ephemeral, a_port(80, 8080).ephemeral, a_port(80, 1, 9).ephemeral) == (True, False, False)


def test_an_ipv6_address_stands_in_brackets_before_a_port() -> None:
    addresses = [a_socket("::1", 80), a_socket("192.0.2.1", 80, Protocol.UDP)]

    assert [str(one) for one in addresses] == ["tcp [::1]:80", "udp 192.0.2.1:80"]
    assert [str(Target(one.address, 7)) for one in addresses] == ["[::1]:7", "192.0.2.1:7"]


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (a_socket(ANY4, 80), a_socket(ANY4, 80), True),
        (a_socket(ANY4, 80), a_socket("192.0.2.1", 80), True),
        (a_socket(ANY6, 80), a_socket("::1", 80), True),
        (a_socket("192.0.2.1", 80), a_socket("192.0.2.2", 80), False),
        (a_socket(ANY4, 80), a_socket(ANY4, 81), False),
        (a_socket(ANY4, 80), a_socket(ANY4, 80, Protocol.UDP), False),
        (a_socket(ANY4, 80), a_socket(ANY6, 80), False),
        (a_socket(ANY4, 80), a_socket("::1", 80), False),
    ],
)
def test_two_ports_clash_that_cannot_both_be_held(one: HostSocket, other: HostSocket, clash: bool) -> None:
    assert (one.clashes(other), other.clashes(one)) == (clash, clash)


@given(sockets, sockets)
def test_to_clash_is_mutual_and_every_port_clashes_with_itself(one: HostSocket, other: HostSocket) -> None:
    assert one.clashes(other) is other.clashes(one)
    assert one.clashes(one)


@pytest.mark.parametrize(
    ("text", "parsed"), [("", None), ("192.0.2.1", "192.0.2.1"), ("::1", "::1"), (ANY4, ANY4), (ANY6, ANY6)]
)
def test_the_host_s_address_is_read_and_none_is_all_of_them(text: str, parsed: str | None) -> None:
    address = parse_host_address(text)

    assert (address and str(address)) == parsed


@pytest.mark.parametrize("text", ["localhost", "192.0.2.1/24", "[::1]", "192.0.2", " ", "fe80::1%", "x" * 1000])
def test_a_host_s_address_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_host_address(text)

    words = str(caught.value)
    assert words == f"host address {text[:80]!r} of a port: expected an address as 192.0.2.1"


def test_a_host_s_address_has_no_zone() -> None:
    with pytest.raises(InvalidParameter, match=r"^host address fe80::1%eth0 of a port: leave out the zone$"):
        parse_host_address("fe80::1%eth0")
