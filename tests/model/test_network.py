"""Subnets and addresses, as Docker's IPAM hands them over."""

from ipaddress import ip_interface, ip_network

import pytest

from mdnp.model.errors import InvalidParameter
from mdnp.model.network import Subnet, overlapping, parse_interface, parse_subnet
from mdnp.model.options import GatewayMode, NetworkOptions
from tests.world import NET, WEB, a_network, a_subnet, an_endpoint


@pytest.mark.parametrize(
    ("pool", "gateway", "subnet"),
    [
        ("10.1.0.0/24", "10.1.0.1/24", Subnet(ip_network("10.1.0.0/24"), ip_interface("10.1.0.1/24"))),
        ("10.1.0.0/24", "", Subnet(ip_network("10.1.0.0/24"), None)),
        ("10.1.0.0/24", None, Subnet(ip_network("10.1.0.0/24"), None)),
        ("fd00::/64", "fd00::1/64", Subnet(ip_network("fd00::/64"), ip_interface("fd00::1/64"))),
        ("10.1.0.1/32", "10.1.0.1/32", Subnet(ip_network("10.1.0.1/32"), ip_interface("10.1.0.1/32"))),
    ],
)
def test_a_pool_and_its_gateway_are_a_subnet(pool: str, gateway: str | None, subnet: Subnet) -> None:
    assert parse_subnet(pool, gateway) == subnet


@pytest.mark.parametrize("pool", ["0.0.0.0/0", "::/0"])
@pytest.mark.parametrize("gateway", [None, "", "0.0.0.0/0"])
def test_the_null_ipam_s_pool_is_no_subnet(pool: str, gateway: str | None) -> None:
    assert parse_subnet(pool, gateway) is None


@pytest.mark.parametrize("pool", ["", "x", "10.1.0.1/24", "10.1.0.0/33", "10.1.0.0/-1", "10.1/16", "fe80::%eth0/64"])
def test_what_is_no_pool_is_refused(pool: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^Pool .*: expected a network as 10.1.0.0/24 "):
        parse_subnet(pool, None)


@pytest.mark.parametrize("gateway", ["x", "10.1.0.1/24/24", "10.1.0.999/24", "fe80::1%eth0/64"])
def test_what_is_no_gateway_is_refused(gateway: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^Gateway .*: expected an address with its prefix length"):
        parse_subnet("10.1.0.0/24", gateway)


@pytest.mark.parametrize("gateway", ["10.1.1.1/24", "fd00::1/64"])
def test_a_gateway_outside_its_pool_is_refused(gateway: str) -> None:
    with pytest.raises(InvalidParameter, match=rf"^Gateway {gateway}: not in the pool 10.1.0.0/24$"):
        parse_subnet("10.1.0.0/24", gateway)


def test_a_gateway_that_claims_more_than_its_pool_is_refused() -> None:
    """Its connected route would take the host's traffic for all of 10.0.0.0/8."""
    with pytest.raises(InvalidParameter, match=r"^Gateway 10.1.0.1/8: not in the pool 10.1.0.0/24$"):
        parse_subnet("10.1.0.0/24", "10.1.0.1/8")


@pytest.mark.parametrize("text", ["", "web", "10.1.0.2/99", "1" * 5000, "fe80::2%eth0/64"])
def test_what_is_no_address_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^Address .*: expected an address with its prefix length") as caught:
        parse_interface(text, "Address")

    assert len(str(caught.value)) < 400 or len(text) < 80


def test_an_address_is_of_the_subnet_that_holds_it() -> None:
    network = a_network("a1" * 32, "10.1.0.0/24 10.1.0.1/24", "fd00::/64 fd00::1/64")

    found = [network.subnet_of(ip_interface(one)) for one in ("10.1.0.9/24", "fd00::9/64", "10.2.0.9/24")]

    assert found == [*network.subnets, None]


@pytest.mark.parametrize(
    ("internal", "gateway", "has"),
    [
        (False, GatewayMode.SELF, True),
        (False, GatewayMode.DOCKER, True),
        (False, GatewayMode.NONE, False),
        (True, GatewayMode.SELF, False),
        (True, GatewayMode.DOCKER, False),
        (True, GatewayMode.NONE, False),
    ],
)
def test_the_host_stands_in_a_network_that_has_a_way_out(internal: bool, gateway: GatewayMode, has: bool) -> None:
    assert a_network(internal=internal, options=NetworkOptions(gateway=gateway)).has_gateway is has


@pytest.mark.parametrize(
    ("ours", "theirs", "clash"),
    [
        (["10.1.0.0/24"], ["10.1.0.0/24"], ("10.1.0.0/24", "10.1.0.0/24")),
        (["10.1.0.0/24"], ["10.0.0.0/8"], ("10.1.0.0/24", "10.0.0.0/8")),
        (["10.0.0.0/8"], ["10.1.0.0/24"], ("10.0.0.0/8", "10.1.0.0/24")),
        (["10.1.0.0/24", "fd00::/64"], ["10.2.0.0/24", "fd00::/48"], ("fd00::/64", "fd00::/48")),
        (["10.1.0.0/24"], ["10.1.1.0/24", "::/0", "fd00::/64"], None),
        ([], ["10.1.0.0/24"], None),
    ],
)
def test_subnets_that_share_addresses_overlap(
    ours: list[str], theirs: list[str], clash: tuple[str, str] | None
) -> None:
    found = overlapping(map(a_subnet, ours), map(ip_network, theirs))

    assert found == (clash and tuple(map(ip_network, clash)))


@pytest.mark.parametrize(
    ("internal", "gateway", "is_way_out", "has_gateway"),
    [
        (False, GatewayMode.SELF, True, True),
        (False, GatewayMode.DOCKER, False, True),
        (False, GatewayMode.NONE, False, False),
        (True, GatewayMode.SELF, False, False),
        (True, GatewayMode.DOCKER, False, False),
    ],
)
def test_traffic_goes_in_and_out_through_our_own_gateway_alone(
    internal: bool, gateway: GatewayMode, is_way_out: bool, has_gateway: bool
) -> None:
    network = a_network(internal=internal, options=NetworkOptions(gateway=gateway))

    assert (network.is_way_out, network.has_gateway) == (is_way_out, has_gateway)


def test_the_pools_of_a_family_are_told_apart() -> None:
    network = a_network(NET, "10.1.0.0/24 10.1.0.1/24", "fd00::/64", "10.2.0.0/24")

    assert [str(one) for one in network.pools(4)] == ["10.1.0.0/24", "10.2.0.0/24"]
    assert [str(one) for one in network.pools(6)] == ["fd00::/64"]


def test_an_endpoint_has_an_address_of_each_family_or_none() -> None:
    both, one = an_endpoint(WEB, "10.1.0.2/24", "fd00::2/64"), an_endpoint(WEB, "fd00::2/64")

    assert [(str(each.address(4)), str(each.address(6))) for each in (both, one)] == [
        ("10.1.0.2", "fd00::2"),
        ("None", "fd00::2"),
    ]
