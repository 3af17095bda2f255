"""What the allocator counts, and what it goes on from after a restart."""

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

import pytest

from mdnp.ipam.allocator import REST_S, Allocator, Counts
from mdnp.model.allocation import Allocation, Record
from mdnp.model.errors import Conflict, InvalidParameter
from mdnp.model.network import IPAddress
from tests.ipam.test_allocator import (
    AUXILIARY,
    ENDPOINT,
    GATEWAY,
    allocate,
    allocator_of,
    drained,
    pool_of,
    release,
    state,
    texts,
)


def test_counts_tell_the_sub_pool_and_what_is_held_outside_of_it() -> None:
    allocator = allocator_of("10.1.0.0/24", "10.1.0.64/28")
    allocator.claim(ip_address("10.1.0.1"), GATEWAY, 0.0)
    allocator.claim(ip_address("10.1.0.79"), AUXILIARY, 0.0)
    first, *_ = allocate(allocator, 3)
    release(allocator, first, 1.0)

    assert allocator.counts(1.0) == Counts(size=16, used=2, reserved=1, resting=1, free=12, outside=1)
    assert allocator.counts(1000.0) == Counts(size=16, used=2, reserved=1, resting=0, free=13, outside=1)


def test_counts_of_an_untouched_pool_are_exact_at_any_size() -> None:
    assert allocator_of("fd00:1::/64").counts(0.0) == Counts(2**64 - 1, 0, 0, 0, 2**64 - 1, 0)


def worked() -> Allocator:
    allocator = allocator_of("10.1.0.0/24", "10.1.0.64/29")
    allocator.claim(ip_address("10.1.0.1"), GATEWAY, 0.0)
    web, db, other = allocator.allocate(1.0, "web"), allocator.allocate(2.0, "db"), allocator.allocate(3.0)
    allocator.allocate(4.0)
    release(allocator, other, 5.0)
    release(allocator, web, 6.0)
    release(allocator, db, 7.0)
    return allocator


@pytest.mark.parametrize(
    "work",
    [
        lambda allocator: drained(allocator, now=20.0),
        lambda allocator: drained(allocator, now=5.0 + REST_S),
        lambda allocator: texts([allocator.allocate(20.0, name) for name in ("db", "", "web", "db")]),
        lambda allocator: allocator.counts(6.0 + REST_S),
        lambda allocator: allocator.held(ip_address("10.1.0.1")),
    ],
)
def test_a_restored_allocator_goes_on_as_the_one_before(work: Callable[[Allocator], object]) -> None:
    before = worked()
    records: list[Record] = [*before.remembered(), *before.allocations()]

    restored = Allocator(before.pool, records)

    assert state(restored, 20.0) == state(before, 20.0)
    assert work(restored) == work(before)


@pytest.mark.parametrize("address", ["10.2.0.5", "10.1.0.0", "fd00::1"])
def test_a_record_of_another_pool_is_refused(address: str) -> None:
    record = Allocation(ip_address(address), ENDPOINT, 0.0)

    for records in ([record], [record.freed(1.0)]):
        with pytest.raises(InvalidParameter, match=address):
            Allocator(pool_of("10.1.0.0/24"), records)


def test_two_records_of_one_address_are_refused() -> None:
    record = Allocation(ip_address("10.1.0.5"), ENDPOINT, 0.0)

    for other in (record, record.freed(1.0)):
        with pytest.raises(Conflict, match=r"10\.1\.0\.5: held already, by the endpoint"):
            Allocator(pool_of("10.1.0.0/24"), [other, record])
    with pytest.raises(Conflict, match=r"10\.1\.0\.5: two records"):
        Allocator(pool_of("10.1.0.0/24"), [record.freed(1.0), record.freed(2.0)])


def test_an_address_with_a_zone_is_held_without_it() -> None:
    zoned: IPAddress = IPv6Address("fe80::5%eth0")

    assert allocator_of("fe80::/64").claim(zoned, ENDPOINT, 0.0).address == IPv6Address("fe80::5")
