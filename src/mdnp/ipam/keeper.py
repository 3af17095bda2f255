"""Allocations and pools that nobody holds, by what Docker lists."""

from collections.abc import Iterable, Mapping, Sequence

from mdnp.engine import Listing
from mdnp.ipam.driver import IpamDriver
from mdnp.ipam.ledger import NOT_DOCKERS
from mdnp.model.allocation import Allocation, Kind
from mdnp.model.pool import PoolID, PoolPromise
from mdnp.orphans import Orphan
from mdnp.store import Store

POOL = "pool"


class AddressKeeper:
    def __init__(self, store: Store, ipam: IpamDriver) -> None:
        self._store = store
        self._ipam = ipam
        self._seen: set[PoolID] = set()  # pools that this engine has listed while we ran

    async def learn(self, listing: Listing, began: float) -> None:
        await self._ipam.learn({address: name for address, name in listing.addresses.items() if name}, began)
        pools = self._store.promises.pools.values()
        self._seen |= {one.id for one in pools if one.pool.network in listing.subnets}

    def orphans(self, listing: Listing, before: float) -> list[Orphan]:
        return orphans(self._store.promises.pools.values(), self._ipam.allocations(), listing, before)

    def is_engines(self, orphan: Orphan) -> bool:
        return (orphan.of or orphan.name) in self._seen

    async def free(self, orphan: Orphan) -> None:
        if orphan.kind == POOL:
            await self._ipam.drop(PoolID(orphan.name), orphan.since)
        else:
            await self._ipam.free(PoolID(orphan.of), orphan.promise)


def orphans(
    pools: Iterable[PoolPromise],
    allocations: Mapping[PoolID, Sequence[Allocation]],
    listing: Listing,
    before: float,
) -> list[Orphan]:
    """
    What was given out before `before` (seconds since the epoch) and does not stand in the listing.

    A gateway stands in it with its network: the engine lists it only where a user named it. What is this host's own, or
    kept for another host, the engine never had.
    """
    found: list[Orphan] = []
    for promise in pools:
        in_use = promise.pool.network in listing.subnets
        held = [one for one in allocations.get(promise.id, ()) if one.purpose.kind not in NOT_DOCKERS]
        unheld = [one for one in held if not (_listed(one, listing) or (in_use and one.purpose.kind is Kind.GATEWAY))]
        found += [_of_allocation(promise.id, one) for one in unheld if one.allocated_at < before]
        if not in_use and promise.since < before and all(one.allocated_at < before for one in held):
            found.append(Orphan(POOL, promise.id, "", promise.since, promise))
    return found


def _of_allocation(pool: PoolID, one: Allocation) -> Orphan:
    return Orphan(one.purpose.kind.value, str(one.address), pool, one.allocated_at, one)


def _listed(allocation: Allocation, listing: Listing) -> bool:
    return allocation.address in listing.addresses
