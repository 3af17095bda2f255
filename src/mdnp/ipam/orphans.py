"""Allocations and pools that nobody holds, by what Docker lists. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mdnp.engine import Listing
from mdnp.model.allocation import Allocation, Kind
from mdnp.model.pool import PoolID, PoolPromise


@dataclass(frozen=True)
class Orphan:
    """What nobody holds: an allocation of a pool, or, without one, the pool itself."""

    pool: PoolID
    allocation: Allocation | None
    since: float

    def __str__(self) -> str:
        if self.allocation is None:
            return f"pool {self.pool}"
        return f"address {self.allocation.address} of pool {self.pool} ({self.allocation.purpose})"


def orphans(
    pools: Iterable[PoolPromise],
    allocations: Mapping[PoolID, Sequence[Allocation]],
    listing: Listing,
    before: float,
) -> list[Orphan]:
    """
    What was given out before `before` (seconds since the epoch) and does not stand in the listing.

    A gateway stands in it with its network: the engine lists it only where a user named it.
    """
    found: list[Orphan] = []
    for promise in pools:
        in_use = promise.pool.network in listing.subnets
        held = allocations.get(promise.id, ())
        unheld = [one for one in held if not (_listed(one, listing) or (in_use and one.purpose.kind is Kind.GATEWAY))]
        found += [Orphan(promise.id, one, one.allocated_at) for one in unheld if one.allocated_at < before]
        if not in_use and promise.since < before and all(one.allocated_at < before for one in held):
            found.append(Orphan(promise.id, None, promise.since))
    return found


def _listed(allocation: Allocation, listing: Listing) -> bool:
    return allocation.address in listing.addresses
