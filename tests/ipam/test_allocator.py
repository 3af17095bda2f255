"""Who is handed which address when nobody asks for one, and what a name is given again."""

from ipaddress import IPv6Address, ip_address

import pytest

from mdnp.ipam.allocator import NAMES_KEPT, REST_S, Allocator, Counts
from mdnp.model.allocation import Allocation, Freed, Kind, Purpose
from mdnp.model.errors import Exhausted
from mdnp.model.pool import Pool, parse_pool

GATEWAY = Purpose(Kind.GATEWAY)
AUXILIARY = Purpose(Kind.AUXILIARY)
ENDPOINT = Purpose(Kind.ENDPOINT)


def pool_of(network: str, sub_pool: str = "") -> Pool:
    return parse_pool(network, sub_pool)


def allocator_of(network: str, sub_pool: str = "") -> Allocator:
    return Allocator(pool_of(network, sub_pool))


def allocate(allocator: Allocator, count: int, now: float = 0.0) -> list[Allocation]:
    return [allocator.allocate(now) for _ in range(count)]


def texts(allocations: list[Allocation]) -> list[str]:
    return [str(allocation.address) for allocation in allocations]


def release(allocator: Allocator, allocation: Allocation, now: float) -> bool:
    return allocator.release(Freed(allocation, now))


def drained(allocator: Allocator, now: float = 0.0) -> list[str]:
    """What it hands out until nothing is left."""
    addresses = []
    while True:
        try:
            addresses.append(str(allocator.allocate(now).address))
        except Exhausted:
            return addresses


def state(allocator: Allocator, now: float) -> tuple[set[Allocation], set[Freed], Counts]:
    return set(allocator.allocations()), set(allocator.remembered()), allocator.counts(now)


def test_addresses_are_handed_out_in_turn_past_those_that_are_held() -> None:
    allocator = allocator_of("10.1.0.0/29")
    allocator.claim(ip_address("10.1.0.3"), ENDPOINT, 0.0)

    assert texts(allocate(allocator, 3)) == ["10.1.0.1", "10.1.0.2", "10.1.0.4"]


def test_a_freed_address_waits_for_its_turn_though_it_rested() -> None:
    allocator = allocator_of("10.1.0.0/29")
    first, *_ = allocate(allocator, 2)
    release(allocator, first, 1.0)

    later = allocate(allocator, 5, now=1.0 + REST_S)

    assert texts(later) == ["10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.1"]


def test_what_is_allocated_says_for_what_and_when() -> None:
    allocator = allocator_of("10.1.0.0/24")

    assert allocator.allocate(7.5, "web") == Allocation(ip_address("10.1.0.1"), Purpose(Kind.ENDPOINT, "web"), 7.5)


def test_a_resting_address_is_passed_over_until_its_time_is_out() -> None:
    allocator = allocator_of("10.1.0.0/29")
    first, *_ = allocate(allocator, 6)
    second = allocator.held(ip_address("10.1.0.2"))
    assert second is not None
    release(allocator, second, 10.0)
    release(allocator, first, 40.0)

    assert texts(allocate(allocator, 1, now=10.0 + REST_S)) == ["10.1.0.2"]


def test_the_longest_rested_goes_first_when_all_others_are_held() -> None:
    allocator = allocator_of("10.1.0.0/29")
    held = allocate(allocator, 6)
    for number, now in [(4, 1.0), (0, 2.0), (2, 3.0)]:
        release(allocator, held[number], now)

    assert drained(allocator, now=4.0) == ["10.1.0.5", "10.1.0.1", "10.1.0.3"]


def test_a_rest_begins_anew_each_time() -> None:
    allocator = allocator_of("10.1.0.0/30")
    first, second = allocate(allocator, 2)
    release(allocator, first, 1.0)
    again = allocator.claim(first.address, ENDPOINT, 2.0)
    release(allocator, second, 3.0)
    release(allocator, again, 4.0)

    assert allocator.counts(1.0 + REST_S).resting == 2
    assert allocator.counts(3.0 + REST_S).resting == 1


def test_the_longest_rested_is_found_by_its_last_rest() -> None:
    allocator = allocator_of("10.1.0.0/30")
    first, second = allocate(allocator, 2)
    release(allocator, first, 1.0)
    again = allocator.claim(first.address, ENDPOINT, 2.0)
    release(allocator, second, 3.0)
    release(allocator, again, 4.0)

    assert drained(allocator, now=5.0) == ["10.1.0.2", "10.1.0.1"]


def test_those_that_rested_go_by_turn_again() -> None:
    allocator = allocator_of("10.1.0.0/29")
    held = allocate(allocator, 6)
    for number, now in [(4, 1.0), (0, 2.0), (2, 3.0)]:
        release(allocator, held[number], now)

    assert drained(allocator, now=3.0 + REST_S) == ["10.1.0.1", "10.1.0.3", "10.1.0.5"]


def test_those_that_began_to_rest_together_go_by_address() -> None:
    allocator = allocator_of("10.1.0.0/29")
    held = allocate(allocator, 6)
    for number in (3, 1, 2):
        release(allocator, held[number], 1.0)

    assert drained(allocator, now=1.0) == ["10.1.0.2", "10.1.0.3", "10.1.0.4"]


def test_the_time_to_rest_can_be_chosen() -> None:
    allocator = Allocator(pool_of("10.1.0.0/30"), rest_s=5.0)
    first, second = allocate(allocator, 2)
    release(allocator, first, 0.0)
    release(allocator, second, 4.0)

    assert allocator.counts(4.9).resting == 2
    assert allocator.counts(5.0).resting == 1


def test_a_full_pool_says_how_many_it_has_and_who_has_them() -> None:
    allocator = allocator_of("10.1.0.0/24", "10.1.0.8/29")
    allocator.claim(ip_address("10.1.0.1"), GATEWAY, 0.0)
    allocator.claim(ip_address("10.1.0.8"), AUXILIARY, 0.0)
    allocate(allocator, 7)
    before = state(allocator, 0.0)

    with pytest.raises(Exhausted) as refusal:
        allocator.allocate(0.0, "web")

    assert str(refusal.value) == (
        "pool 10.1.0.0/24: all 8 addresses of 10.1.0.8/29 are held (auxiliary 1, endpoint 7);"
        " remove containers, or make a larger network"
    )
    assert state(allocator, 0.0) == before


def test_a_full_pool_gives_again_what_comes_back() -> None:
    allocator = allocator_of("10.1.0.0/30")
    first, _ = allocate(allocator, 2)
    assert drained(allocator) == []

    release(allocator, first, 1.0)

    assert drained(allocator, now=1.0) == ["10.1.0.1"]


def test_gaps_are_found_in_turn_in_a_pool_of_many_blocks() -> None:
    allocator = allocator_of("10.1.0.0/18")
    held = allocate(allocator, 2**14 - 2)
    gaps = [0, 1022, 1023, 5000, 5001, 9999, 2**14 - 3]
    for gap in gaps:
        release(allocator, held[gap], -REST_S)

    assert drained(allocator) == [str(held[gap].address) for gap in gaps]


def test_a_wide_stretch_of_claims_is_passed_over() -> None:
    allocator = allocator_of("fd00:1::/64")
    for number in range(1, 5000):
        allocator.claim(IPv6Address("fd00:1::") + number, ENDPOINT, 0.0)

    assert allocator.allocate(0.0).address == IPv6Address("fd00:1::") + 5000


def test_the_turn_goes_round_the_end_of_a_large_pool() -> None:
    last = Allocation(ip_address("fd00:1::ffff:ffff:ffff:ffff"), ENDPOINT, 1.0)
    allocator = Allocator(pool_of("fd00:1::/64"), [last])

    assert texts(allocate(allocator, 2)) == ["fd00:1::1", "fd00:1::2"]


def test_a_name_gets_its_address_again_while_it_rests_and_after() -> None:
    allocator = allocator_of("10.1.0.0/24")
    web = allocator.allocate(0.0, "web")
    allocate(allocator, 3)

    release(allocator, web, 1.0)
    again = allocator.allocate(2.0, "web")
    release(allocator, again, 3.0)
    later = allocator.allocate(3.0 + 10 * REST_S, "web")

    assert texts([web, again, later]) == ["10.1.0.1"] * 3


def test_a_returning_name_does_not_turn_the_others_back() -> None:
    allocator = allocator_of("10.1.0.0/24")
    web = allocator.allocate(0.0, "web")
    allocate(allocator, 3)
    release(allocator, web, 1.0)

    allocator.allocate(2.0, "web")

    assert texts(allocate(allocator, 1)) == ["10.1.0.5"]


def test_an_address_that_another_took_is_no_longer_the_name_s() -> None:
    allocator = allocator_of("10.1.0.0/24")
    web = allocator.allocate(0.0, "web")
    release(allocator, web, 1.0)
    other = allocator.claim(web.address, ENDPOINT, 2.0)
    release(allocator, other, 3.0)

    assert texts([allocator.allocate(1000.0, "web")]) == ["10.1.0.2"]


def test_a_name_that_is_attached_already_gets_another_address() -> None:
    allocator = allocator_of("10.1.0.0/24")

    assert texts([allocator.allocate(0.0, "web"), allocator.allocate(0.0, "web")]) == ["10.1.0.1", "10.1.0.2"]


def test_a_name_that_had_two_addresses_gets_the_later_one_back() -> None:
    allocator = allocator_of("10.1.0.0/24")
    first, second = allocator.allocate(0.0, "web"), allocator.allocate(0.0, "web")
    release(allocator, second, 1.0)
    release(allocator, first, 2.0)

    assert allocator.allocate(3.0, "web").address == first.address


def test_a_name_s_former_address_is_forgotten() -> None:
    allocator = allocator_of("10.1.0.0/24")
    release(allocator, allocator.allocate(0.0, "web"), 1.0)
    assert allocator.counts(1000.0).resting == 0
    later = allocator.claim(ip_address("10.1.0.9"), Purpose(Kind.ENDPOINT, "web"), 1000.0)
    release(allocator, later, 1001.0)

    assert list(allocator.remembered()) == [later.freed(1001.0)]


def test_a_withdrawn_claim_does_not_turn_a_name_back_to_an_older_address() -> None:
    allocator = allocator_of("10.1.0.0/24")
    first = allocator.allocate(0.0, "web")
    release(allocator, first, 1.0)
    failing = allocator.claim(first.address, ENDPOINT, 2.0)
    second = allocator.allocate(3.0, "web")
    release(allocator, second, 4.0)

    allocator.withdraw(failing)

    assert allocator.allocate(5.0, "web").address == second.address


def test_a_static_address_sticks_to_its_name_in_the_sub_pool_only() -> None:
    allocator = allocator_of("10.1.0.0/24", "10.1.0.64/26")
    named = Purpose(Kind.ENDPOINT, "web")
    inside = allocator.claim(ip_address("10.1.0.100"), named, 0.0)
    release(allocator, inside, 1.0)
    assert allocator.allocate(2.0, "web").address == inside.address

    outside = allocator.claim(ip_address("10.1.0.5"), Purpose(Kind.ENDPOINT, "db"), 0.0)
    release(allocator, outside, 1.0)

    assert texts([allocator.allocate(2.0, "db")]) == ["10.1.0.64"]


def test_names_are_forgotten_when_there_are_very_many() -> None:
    allocator = Allocator(pool_of("fd00:1::/64"), rest_s=0.0)
    for number in range(NAMES_KEPT + 1):
        release(allocator, allocator.allocate(number, f"c{number}"), number)
    allocator.counts(NAMES_KEPT)

    assert len(list(allocator.remembered())) == NAMES_KEPT
    assert allocator.allocate(NAMES_KEPT, "c1").address == IPv6Address("fd00:1::2")
    assert allocator.allocate(NAMES_KEPT, "c0").address == IPv6Address("fd00:1::") + NAMES_KEPT + 2


@pytest.mark.parametrize("restarted", [False, True])
def test_the_name_that_came_back_last_is_kept_longest(restarted: bool) -> None:
    allocator = Allocator(pool_of("fd00:1::/64"), rest_s=0.0)
    for number in range(NAMES_KEPT):
        release(allocator, allocator.allocate(number, f"c{number}"), number)
    moved = allocator.claim(IPv6Address("fd00:1::ffff:0"), Purpose(Kind.ENDPOINT, "c0"), NAMES_KEPT)
    release(allocator, moved, NAMES_KEPT)
    if restarted:
        allocator = Allocator(allocator.pool, reversed(list(allocator.remembered())), rest_s=0.0)

    release(allocator, allocator.allocate(NAMES_KEPT, "new"), NAMES_KEPT + 1)

    assert allocator.allocate(NAMES_KEPT + 1, "c0").address == moved.address
    assert allocator.allocate(NAMES_KEPT + 1, "c1").address != IPv6Address("fd00:1::2")


def test_nameless_addresses_are_forgotten_when_they_rested() -> None:
    allocator = allocator_of("fd00:1::/64")
    for allocation in allocate(allocator, 10):
        release(allocator, allocation, 1.0)
    assert len(list(allocator.remembered())) == 10

    assert allocator.counts(1.0 + REST_S).resting == 0

    assert list(allocator.remembered()) == []
