"""Addresses that are asked for, given back, and withdrawn because a promise could not be written."""

from ipaddress import IPv6Address, ip_address

import pytest

from mdnp.ipam.allocator import Counts
from mdnp.model.allocation import Kind, Purpose
from mdnp.model.errors import Conflict, Exhausted, InvalidParameter
from tests.ipam.test_allocator import AUXILIARY, ENDPOINT, GATEWAY, allocate, allocator_of, drained, release, state


@pytest.mark.parametrize(
    ("network", "address", "message"),
    [
        ("10.1.0.0/24", "10.1.0.0", "Address 10.1.0.0: the network address of 10.1.0.0/24 is nobody's; choose another"),
        (
            "10.1.0.0/24",
            "10.1.0.255",
            "Address 10.1.0.255: the broadcast address of 10.1.0.0/24 is nobody's; choose another",
        ),
        (
            "fd00:1::/64",
            "fd00:1::",
            "Address fd00:1::: the subnet-router anycast address of fd00:1::/64 is nobody's; choose another",
        ),
        ("10.1.0.0/24", "10.1.1.0", "Address 10.1.1.0: not in the pool 10.1.0.0/24"),
        ("fd00:1::/64", "10.1.0.1", "Address 10.1.0.1: an IPv4 address, and the pool fd00:1::/64 is IPv6"),
    ],
)
def test_an_address_that_is_nobody_s_cannot_be_claimed(network: str, address: str, message: str) -> None:
    allocator = allocator_of(network)
    before = state(allocator, 0.0)

    with pytest.raises(InvalidParameter) as refusal:
        allocator.claim(ip_address(address), ENDPOINT, 0.0)

    assert str(refusal.value) == message
    assert state(allocator, 0.0) == before


@pytest.mark.parametrize(
    ("holder", "described"),
    [
        (GATEWAY, "gateway"),
        (AUXILIARY, "auxiliary"),
        (ENDPOINT, "endpoint"),
        (Purpose(Kind.ENDPOINT, "web"), "endpoint web"),
    ],
)
def test_a_held_address_is_refused_with_its_holder(holder: Purpose, described: str) -> None:
    allocator = allocator_of("10.1.0.0/24")
    allocator.claim(ip_address("10.1.0.5"), holder, 0.0)
    before = state(allocator, 0.0)

    with pytest.raises(Conflict) as refusal:
        allocator.claim(ip_address("10.1.0.5"), ENDPOINT, 1.0)

    assert str(refusal.value) == f"address 10.1.0.5: held already, by the {described}; choose another"
    assert state(allocator, 0.0) == before


@pytest.mark.parametrize("address", ["10.1.0.2", "10.1.0.64", "10.1.0.254"])
def test_gateways_and_auxiliary_addresses_may_be_in_the_sub_pool_or_not(address: str) -> None:
    allocator = allocator_of("10.1.0.0/24", "10.1.0.64/31")

    allocator.claim(ip_address(address), AUXILIARY, 0.0)

    assert drained(allocator) == [text for text in ("10.1.0.64", "10.1.0.65") if text != address]


def test_a_resting_address_can_be_claimed_at_once_and_then_is_not_handed_out() -> None:
    allocator = allocator_of("10.1.0.0/30")
    first, _ = allocate(allocator, 2)
    release(allocator, first, 1.0)

    allocator.claim(first.address, ENDPOINT, 1.0)

    assert drained(allocator, now=1.0) == []
    assert drained(allocator, now=1000.0) == []


def test_held_tells_the_allocation_and_knows_nothing_of_other_families() -> None:
    allocator = allocator_of("10.1.0.0/24")
    first = allocator.allocate(0.0)

    assert allocator.held(first.address) is first
    assert allocator.held(ip_address("10.1.0.2")) is None
    assert allocator.held(IPv6Address(int(first.address))) is None


def test_releasing_twice_changes_nothing_the_second_time() -> None:
    allocator = allocator_of("10.1.0.0/24")
    first = allocator.allocate(0.0)

    assert release(allocator, first, 1.0)
    before = state(allocator, 2.0)
    assert not release(allocator, first, 2.0)

    assert state(allocator, 2.0) == before


def test_a_late_second_release_does_not_free_what_another_claimed_meanwhile() -> None:
    allocator = allocator_of("10.1.0.0/24")
    first = allocator.allocate(0.0)
    late = first.freed(1.0)
    release(allocator, first, 1.0)
    other = allocator.claim(first.address, ENDPOINT, 2.0)

    assert not allocator.release(late)

    assert allocator.held(first.address) == other


def test_an_address_stays_its_holder_s_until_the_release() -> None:
    allocator = allocator_of("10.1.0.0/30")
    first, second = allocate(allocator, 2)
    written = first.freed(1.0)

    assert drained(allocator, now=1000.0) == []
    allocator.release(written)

    assert list(allocator.allocations()) == [second]


def test_an_allocation_under_way_is_nobody_else_s() -> None:
    allocator = allocator_of("10.1.0.0/30")

    under_way = allocate(allocator, 2)

    assert len({allocation.address for allocation in under_way}) == 2
    with pytest.raises(Exhausted):
        allocator.allocate(0.0)


def test_a_withdrawn_allocation_is_free_at_once() -> None:
    allocator = allocator_of("10.1.0.0/30")
    first, _ = allocate(allocator, 2)

    assert allocator.withdraw(first)
    assert not allocator.withdraw(first)

    assert allocator.counts(0.0) == Counts(size=2, used=1, reserved=0, resting=0, free=1, outside=0)
    assert drained(allocator) == ["10.1.0.1"]


def test_a_withdrawn_claim_rests_on_as_before() -> None:
    allocator = allocator_of("10.1.0.0/30")
    first, second = allocate(allocator, 2)
    release(allocator, first, 1.0)
    release(allocator, second, 2.0)
    before = state(allocator, 3.0)

    allocator.withdraw(allocator.claim(first.address, ENDPOINT, 3.0))

    assert state(allocator, 3.0) == before
    assert drained(allocator, now=3.0) == ["10.1.0.1", "10.1.0.2"]


def test_a_withdrawn_allocation_by_name_is_kept_for_the_name() -> None:
    allocator = allocator_of("10.1.0.0/24")
    web = allocator.allocate(0.0, "web")
    release(allocator, web, 1.0)

    allocator.withdraw(allocator.allocate(1000.0, "web"))

    assert allocator.allocate(1001.0, "web").address == web.address


def test_what_another_was_given_meanwhile_cannot_be_withdrawn() -> None:
    allocator = allocator_of("10.1.0.0/24")
    first = allocator.claim(ip_address("10.1.0.9"), ENDPOINT, 0.0)
    allocator.withdraw(first)
    other = allocator.claim(first.address, ENDPOINT, 1.0)

    assert not allocator.withdraw(first)

    assert allocator.held(first.address) == other
