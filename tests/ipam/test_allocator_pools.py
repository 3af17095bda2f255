"""What each pool keeps back, what it hands out, and what is refused as a pool or an address."""

import tracemalloc
from ipaddress import ip_address, ip_network

import pytest

from mdnp.ipam.allocator import Allocator
from mdnp.model.errors import InvalidParameter
from mdnp.model.pool import Pool, parse_address, parse_pool
from tests.ipam.test_allocator import ENDPOINT, allocator_of, drained, pool_of


@pytest.mark.parametrize(
    ("network", "gateway", "size", "kept_back"),
    [
        ("10.0.0.0/8", "10.0.0.1", 2**24 - 2, ["10.0.0.0", "10.255.255.255"]),
        ("10.1.0.0/16", "10.1.0.1", 65534, ["10.1.0.0", "10.1.255.255"]),
        ("10.1.0.0/24", "10.1.0.1", 254, ["10.1.0.0", "10.1.0.255"]),
        ("10.1.0.8/29", "10.1.0.9", 6, ["10.1.0.8", "10.1.0.15"]),
        ("10.1.0.4/30", "10.1.0.5", 2, ["10.1.0.4", "10.1.0.7"]),
        ("10.1.0.2/31", "10.1.0.2", 2, []),
        ("10.1.0.3/32", "10.1.0.3", 1, []),
        ("fd00:1::/64", "fd00:1::1", 2**64 - 1, ["fd00:1::"]),
        ("fd00:1::4/126", "fd00:1::5", 3, ["fd00:1::4"]),
        ("fd00:1::2/127", "fd00:1::2", 2, []),
        ("fd00:1::3/128", "fd00:1::3", 1, []),
    ],
)
def test_what_a_pool_keeps_back(network: str, gateway: str, size: int, kept_back: list[str]) -> None:
    pool = pool_of(network)

    assert str(pool.gateway) == gateway
    assert pool.dynamic_size == size
    assert [str(address) for address in pool.kept_back] == kept_back


@pytest.mark.parametrize(
    ("network", "addresses"),
    [
        ("10.1.0.8/29", ["10.1.0.9", "10.1.0.10", "10.1.0.11", "10.1.0.12", "10.1.0.13", "10.1.0.14"]),
        ("10.1.0.4/30", ["10.1.0.5", "10.1.0.6"]),
        ("10.1.0.2/31", ["10.1.0.2", "10.1.0.3"]),
        ("10.1.0.3/32", ["10.1.0.3"]),
        ("fd00:1::4/126", ["fd00:1::5", "fd00:1::6", "fd00:1::7"]),
        ("fd00:1::2/127", ["fd00:1::2", "fd00:1::3"]),
        ("fd00:1::3/128", ["fd00:1::3"]),
    ],
)
def test_a_small_pool_hands_out_all_that_is_usable(network: str, addresses: list[str]) -> None:
    assert drained(allocator_of(network)) == addresses


@pytest.mark.parametrize(
    ("network", "sub_pool", "addresses"),
    [
        ("10.1.0.0/24", "10.1.0.64/30", ["10.1.0.64", "10.1.0.65", "10.1.0.66", "10.1.0.67"]),
        ("10.1.0.0/24", "10.1.0.0/30", ["10.1.0.1", "10.1.0.2", "10.1.0.3"]),
        ("10.1.0.0/24", "10.1.0.252/30", ["10.1.0.252", "10.1.0.253", "10.1.0.254"]),
        ("10.1.0.0/30", "10.1.0.0/30", ["10.1.0.1", "10.1.0.2"]),
        ("10.1.0.0/24", "10.1.0.7/32", ["10.1.0.7"]),
        ("fd00:1::/64", "fd00:1::/127", ["fd00:1::1"]),
        ("fd00:1::/64", "fd00:1::ffff:0/127", ["fd00:1::ffff:0", "fd00:1::ffff:1"]),
    ],
)
def test_only_the_sub_pool_is_handed_out(network: str, sub_pool: str, addresses: list[str]) -> None:
    assert drained(allocator_of(network, sub_pool)) == addresses


def test_the_gateway_is_of_the_network_whatever_the_sub_pool() -> None:
    assert pool_of("10.1.0.0/16", "10.1.5.0/24").gateway == ip_address("10.1.0.1")


@pytest.mark.parametrize("network", ["10.0.0.0/8", "fd00:1::/64", "fc00::/7"])
def test_a_large_pool_costs_what_is_allocated(network: str) -> None:
    pool = pool_of(network)
    tracemalloc.start()

    allocator = Allocator(pool)
    first = allocator.allocate(0.0)
    last = allocator.claim(pool.network[-2], ENDPOINT, 0.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (first.address, last.address) == (pool.gateway, pool.network[-2])
    assert peak < 20_000


def test_a_large_pool_costs_nothing_for_what_is_free_again() -> None:
    allocator = allocator_of("10.0.0.0/8")
    tracemalloc.start()

    for number in range(0, 2**21, 2**10):
        allocator.withdraw(allocator.claim(allocator.pool.gateway + number, ENDPOINT, 0.0))
    remaining, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert remaining < 20_000


@pytest.mark.parametrize(
    ("text", "sub_text", "v6", "message"),
    [
        ("10.1.0.5/24", "", False, "Pool 10.1.0.5/24: host bits are set; the network is 10.1.0.0/24"),
        ("fd00:1::5/64", "", True, "Pool fd00:1::5/64: host bits are set; the network is fd00:1::/64"),
        ("10.1.0.0/24", "", True, "Pool 10.1.0.0/24: an IPv4 pool, and V6 is set; give an IPv6 one as fd00:1::/64"),
        ("10.1.0.0/24", "10.2.0.0/25", False, "SubPool 10.2.0.0/25: not inside the pool 10.1.0.0/24"),
        ("10.1.0.0/24", "10.1.0.0/16", False, "SubPool 10.1.0.0/16: not inside the pool 10.1.0.0/24"),
        ("10.1.0.0/24", "10.0.0.0/15", False, "SubPool 10.0.0.0/15: not inside the pool 10.1.0.0/24"),
        ("10.1.0.0/24", "10.1.0.9/29", False, "SubPool 10.1.0.9/29: host bits are set; the network is 10.1.0.8/29"),
        ("10.1.0.0/24", "fd00::/120", False, "SubPool fd00::/120: not inside the pool 10.1.0.0/24"),
        ("10.1.0.0/24", "10.1.0.0/32", False, "SubPool 10.1.0.0/32: only what 10.1.0.0/24 keeps back; make it larger"),
        ("0.0.0.0/0", "", False, "Pool 0.0.0.0/0: stands for no network, or for any; give one as 10.1.0.0/24"),
        ("::/64", "", True, "Pool ::/64: stands for no network, or for any; give one as 10.1.0.0/24"),
    ],
)
def test_a_pool_that_breaks_a_rule_is_refused_with_the_rule(text: str, sub_text: str, v6: bool, message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        parse_pool(text, sub_text, v6=v6)

    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.1.0.0",
        "10.1.0.0/",
        "10.1.0/24",
        "10.1.0.256/24",
        "10.1.0.0/33",
        "10.1.0.0/-1",
        "10.1.0.0/2 4",
        "10.1.0.0/24\n",
        "10.1.0.0/\u0662\u0664",
        "10.1.0.0/255.255.255.0",
        "fd00:::/64",
        "fd00::/129",
        "fe80::%1/64",
        "\0",
        "x" * 1000,
    ],
)
def test_garbage_is_no_pool(text: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        parse_pool(text)

    assert str(refusal.value) == f"Pool {text[:80]!r}: expected a network as 10.1.0.0/24 or fd00:1::/64"


@pytest.mark.parametrize("text", ["", "10.1.0.5/24", "10.1.0", "fe80::1%eth0", "010.1.0.5", "web", "1" * 1000])
def test_garbage_is_no_address(text: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        parse_address(text, pool_of("10.1.0.0/24"))

    assert str(refusal.value) == f"Address {text[:80]!r}: expected an address alone, as 10.1.0.1"


@pytest.mark.parametrize(
    ("text", "network", "message"),
    [
        ("10.2.0.5", "10.1.0.0/24", "Address 10.2.0.5: not in the pool 10.1.0.0/24"),
        ("10.1.0.5", "fd00:1::/64", "Address 10.1.0.5: an IPv4 address, and the pool fd00:1::/64 is IPv6"),
        ("fd00::5", "10.1.0.0/24", "Address fd00::5: an IPv6 address, and the pool 10.1.0.0/24 is IPv4"),
    ],
)
def test_an_address_of_another_pool_is_refused(text: str, network: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        parse_address(text, pool_of(network))

    assert str(refusal.value) == message


def test_an_address_outside_the_sub_pool_is_read() -> None:
    assert parse_address("10.1.0.5", pool_of("10.1.0.0/24", "10.1.0.64/26")) == ip_address("10.1.0.5")


def test_an_ipv6_pool_is_read_without_v6_too_because_swarm_never_sets_it() -> None:
    assert parse_pool("fd00:1::/64") == parse_pool("fd00:1::/64", v6=True) == Pool(ip_network("fd00:1::/64"))
