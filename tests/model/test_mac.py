"""MAC addresses: what is taken, and what is derived where none was given."""

from ipaddress import IPv4Interface, IPv6Interface, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.model.errors import InvalidParameter
from mdnp.model.mac import derived_mac, parse_mac

v4 = st.ip_addresses(v=4).map(lambda ip: IPv4Interface((ip, 24)))
v6 = st.ip_addresses(v=6).map(lambda ip: IPv6Interface((ip, 64)))
addresses = st.lists(v4 | v6, max_size=4).map(tuple)


@given(addresses, st.text())
def test_a_derived_address_is_a_unicast_one_of_nobody_s(
    addresses: tuple[IPv4Interface | IPv6Interface, ...], fallback: str
) -> None:
    mac = derived_mac(addresses, fallback)

    first = int(mac[:2], 16)
    assert (parse_mac(mac), first & 0b01, first & 0b10) == (mac, 0, 2)


@given(addresses, st.text())
def test_the_same_addresses_give_the_same_mac(
    addresses: tuple[IPv4Interface | IPv6Interface, ...], fallback: str
) -> None:
    assert derived_mac(addresses, fallback) == derived_mac(addresses, fallback)


@given(v4, v4)
def test_different_ipv4_addresses_give_different_macs(one: IPv4Interface, other: IPv4Interface) -> None:
    assert (derived_mac((one,), "x") == derived_mac((other,), "x")) == (one.ip == other.ip)


@given(v4, v6, st.text())
def test_the_ipv4_address_decides_whichever_comes_first(one: IPv4Interface, six: IPv6Interface, fallback: str) -> None:
    assert derived_mac((six, one), fallback) == derived_mac((one, six), "") == derived_mac((one,), "")


@given(
    st.lists(v6, min_size=2, max_size=20, unique_by=lambda one: one.ip), st.lists(st.text(), unique=True, max_size=20)
)
def test_without_ipv4_different_causes_give_different_macs(six: list[IPv6Interface], names: list[str]) -> None:
    macs = [derived_mac((one,), "") for one in six] + [derived_mac((), name) for name in names]

    assert len(set(macs)) == len(six) + len(names)


@pytest.mark.parametrize(
    ("addresses", "fallback", "mac"),
    [
        (("10.1.0.2/24",), "", "02:6d:0a:01:00:02"),
        (("10.1.0.2/16", "fd00::2/64"), "", "02:6d:0a:01:00:02"),
        (("fd00::2/64",), "", "06:0a:33:79:06:87"),
        ((), "c3c3", "0a:e3:fa:29:5d:3d"),
    ],
)
def test_a_derivation_never_changes_between_versions(addresses: tuple[str, ...], fallback: str, mac: str) -> None:
    assert derived_mac(tuple(map(ip_interface, addresses)), fallback) == mac


@pytest.mark.parametrize("text", ["02:42:0a:00:00:05", "02:42:0A:00:00:05", "02-42-0a-00-00-05"])
def test_an_address_is_taken_in_any_usual_writing(text: str) -> None:
    assert parse_mac(text) == "02:42:0a:00:00:05"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:42:0a:00:00",
        "02:42:0a:00:00:05:06",
        "0242.0a00.0005",
        "02:42:0a:00:00:0g",
        "02:42:0a:00:00:05\n",
        "x" * 999,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="expected six pairs of hex digits, as 02:42:0a:00:00:05") as caught:
        parse_mac(text)

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("01:00:5e:00:00:01", "a multicast address cannot be a link's"),
        ("ff:ff:ff:ff:ff:ff", "a multicast address cannot be a link's"),
        ("00:00:00:00:00:00", "the zero address cannot be a link's"),
    ],
)
def test_an_address_that_no_link_can_have_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidParameter, match=why):
        parse_mac(text)
