"""What nobody holds, by what Docker lists."""

from ipaddress import ip_address

from mdnp.ipam.keeper import orphans
from mdnp.model.allocation import Allocation, Kind, Purpose
from mdnp.model.pool import PoolID, PoolPromise, parse_pool
from mdnp.orphans import Orphan
from tests.ipam.engine import listing

POOL = PoolID("mdnp-local/10.1.0.0/24")
BEFORE = 100.0


def a_pool(network: str = "10.1.0.0/24", sub_pool: str = "", *, since: float = 10.0, holders: int = 1) -> PoolPromise:
    return PoolPromise("mdnp-local", parse_pool(network, sub_pool), since, holders)


def an_allocation(address: str, since: float = 10.0, kind: Kind = Kind.ENDPOINT, name: str = "") -> Allocation:
    return Allocation(ip_address(address), Purpose(kind, name), since)


def of(allocation: Allocation, pool: PoolID = POOL) -> Orphan:
    kind = allocation.purpose.kind.value
    return Orphan(kind, str(allocation.address), pool, allocation.allocated_at, allocation)


def of_pool(promise: PoolPromise) -> Orphan:
    return Orphan("pool", promise.id, "", promise.since, promise)


GATEWAY = an_allocation("10.1.0.1", kind=Kind.GATEWAY)
WEB = an_allocation("10.1.0.2", name="web")


def test_what_is_listed_is_nobody_s_orphan() -> None:
    found = orphans([a_pool()], {POOL: [WEB]}, listing("10.1.0.0/24", held=["10.1.0.2"]), BEFORE)

    assert found == []


def test_an_address_that_is_not_listed_is_an_orphan_of_a_pool_that_is_in_use() -> None:
    other = an_allocation("10.1.0.3", since=20.0)

    found = orphans([a_pool()], {POOL: [WEB, other]}, listing("10.1.0.0/24", held=["10.1.0.2"]), BEFORE)

    assert found == [of(other)]


def test_the_gateway_of_a_listed_network_is_no_orphan() -> None:
    """The engine lists it only where a user named it."""
    assert orphans([a_pool()], {POOL: [GATEWAY]}, listing("10.1.0.0/24"), BEFORE) == []


def test_an_auxiliary_address_stands_in_the_listing() -> None:
    aux = an_allocation("10.1.0.9", kind=Kind.AUXILIARY)
    pools, held = [a_pool()], {POOL: [aux]}

    assert orphans(pools, held, listing("10.1.0.0/24", held=["10.1.0.9"]), BEFORE) == []
    assert orphans(pools, held, listing("10.1.0.0/24"), BEFORE) == [of(aux)]


def test_a_pool_of_no_network_is_an_orphan_with_all_that_it_has() -> None:
    pool = a_pool(since=5.0, holders=3)

    found = orphans([pool], {POOL: [GATEWAY, WEB]}, listing("10.3.0.0/24"), BEFORE)

    assert found == [of(GATEWAY), of(WEB), of_pool(pool)]


def test_an_empty_pool_of_no_network_is_an_orphan() -> None:
    assert orphans([a_pool()], {POOL: []}, listing(), BEFORE) == [of_pool(a_pool())]
    assert orphans([a_pool()], {}, listing(), BEFORE) == [of_pool(a_pool())]


def test_only_the_very_network_makes_a_pool_used() -> None:
    around = listing("10.0.0.0/8", "10.1.0.0/25", "10.1.0.128/25", "fd00:1::/64")

    assert orphans([a_pool()], {}, around, BEFORE) == [of_pool(a_pool())]


def test_a_pool_with_a_sub_pool_is_listed_by_its_network() -> None:
    pool = a_pool("10.2.0.0/24", "10.2.0.64/26")

    assert orphans([pool], {}, listing("10.2.0.0/24"), BEFORE) == []
    assert orphans([pool], {}, listing("10.2.0.64/26"), BEFORE) == [of_pool(pool)]


def test_what_is_young_is_no_orphan() -> None:
    young, old = an_allocation("10.1.0.3", since=BEFORE), an_allocation("10.1.0.4", since=BEFORE - 0.1)

    found = orphans([a_pool()], {POOL: [young, old]}, listing("10.1.0.0/24"), BEFORE)

    assert found == [of(old)]


def test_a_young_pool_is_no_orphan() -> None:
    """A network that is being made is not listed yet; `since` is of the last holder."""
    assert orphans([a_pool(since=BEFORE, holders=2)], {}, listing(), BEFORE) == []


def test_a_pool_with_a_young_address_is_no_orphan() -> None:
    young = an_allocation("10.1.0.3", since=BEFORE)

    assert orphans([a_pool()], {POOL: [WEB, young]}, listing(), BEFORE) == [of(WEB)]


def test_ipv6_addresses_are_compared_as_addresses() -> None:
    pool = a_pool("fd00:1::/64")
    held = {PoolID("mdnp-local/fd00:1::/64"): [an_allocation("fd00:1::2")]}

    assert orphans([pool], held, listing("fd00:1:0::/64", held=["fd00:1:0:0::0002"]), BEFORE) == []


def test_an_orphan_is_told_in_one_line() -> None:
    assert [str(one) for one in (of(WEB), of(GATEWAY), of_pool(a_pool()))] == [
        f"endpoint 10.1.0.2 of {POOL}",
        f"gateway 10.1.0.1 of {POOL}",
        f"pool {POOL}",
    ]
