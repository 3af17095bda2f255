"""The allocators of all pools, and what the store has of them: what is held in the one is held in the other."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from mdnp.ipam.allocator import Allocator, Counts
from mdnp.model.allocation import Allocation, Kind, Purpose
from mdnp.model.errors import Conflict, MdnpError, NotFound
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.pool import PoolID, PoolPromise
from mdnp.model.segment import Block
from mdnp.store import Drop, Free, Hold, Put, Store

log = logging.getLogger(__name__)

# What is this host's own, or kept for another one: it goes with the network, and no release of Docker's is about it.
NOT_DOCKERS = (Kind.HOST, Kind.FOREIGN)


class Ledger:
    """
    Errors of what writes: MdnpError; then nothing has changed, on disk or in memory.

    `shared` are the pools that are cluster-wide: there this host hands out of its own blocks alone.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._allocators: dict[PoolID, Allocator] = {}
        self._ending: set[PoolID] = set()  # those whose end is being written down
        self._warned: set[PoolID] = set()  # said to be nearly full
        self._shared: set[IPNetwork] = set()
        self._leaving: set[Block] = set()  # whose giving back is being written down

    @property
    def allocators(self) -> Mapping[PoolID, Allocator]:
        return self._allocators

    @property
    def shared(self) -> frozenset[IPNetwork]:
        return frozenset(self._shared)

    def find(self, identity: PoolID) -> tuple[PoolPromise, Allocator]:
        promise = self._store.promises.pools.get(identity)
        allocator = self._allocators.get(identity)
        if promise is None or allocator is None:
            raise NotFound(
                f"pool {identity[:80]} is not known to mdnp (was its state folder replaced?): remove the network from"
                " Docker and create it again"
            )
        return promise, allocator

    def of(self, network: IPNetwork) -> tuple[PoolPromise, Allocator] | None:
        """The pool with this network: no two overlap."""
        return next((one for one in self.pools() if one[0].pool.network == network), None)

    def pools(self) -> Iterator[tuple[PoolPromise, Allocator]]:
        for identity, promise in self._store.promises.pools.items():
            if identity in self._allocators:
                yield promise, self._allocators[identity]

    def blocks(self, network: IPNetwork) -> list[Block]:
        """Our blocks of a pool, in the order of their numbers."""
        promised = self._store.promises.blocks.values()
        blocks = (one for one in promised if one.pool == network and one not in self._leaving)
        return sorted(blocks, key=lambda one: int(one.network.network_address))

    def share(self, network: IPNetwork, *, shared: bool = True) -> None:
        """From now on this pool is cluster-wide, or is not."""
        if shared:
            self._shared.add(network)
        else:
            self._shared.discard(network)
        self.confine(network)

    def confine(self, network: IPNetwork) -> None:
        """Hand out of the blocks that we have by now."""
        found = self.of(network)
        if found is not None:
            _, allocator = found
            self._confine(network, allocator)

    async def remember(self, promise: PoolPromise) -> None:
        """With what is still of use of the addresses that a pool of this identity gave out before."""
        allocator = Allocator(promise.pool, await self._store.allocations(promise.id))
        self._confine(promise.pool.network, allocator)
        self._allocators[promise.id] = allocator

    async def begin(self, promise: PoolPromise) -> None:
        # First: whoever sees the promise finds its addresses.
        await self.remember(promise)
        try:
            await self._store.commit(Put(promise))
        except MdnpError:
            del self._allocators[promise.id]
            raise

    async def end(self, promise: PoolPromise) -> None:
        """Drop a pool, with what Docker left of allocations in it, and our blocks of it."""
        left = list(self._allocators[promise.id].allocations())
        for allocation in left:
            if allocation.purpose.kind not in NOT_DOCKERS:
                log.warning("pool %s is released with %s held (%s)", promise.id, allocation.address, allocation.purpose)
        now = self._clock()
        self._ending.add(promise.id)
        try:
            blocks = map(Drop, self.blocks(promise.pool.network))
            await self._store.commit(*(Free(promise.id, one.freed(now)) for one in left), *blocks, Drop(promise))
        finally:
            self._ending.discard(promise.id)
        del self._allocators[promise.id]
        self._shared.discard(promise.pool.network)

    async def hold(self, promise: PoolPromise, allocator: Allocator, allocation: Allocation) -> None:
        """Write an allocation down, or let it be free again."""
        try:
            self._check_goes_on(promise)
            await self._store.commit(Hold(promise.id, allocation))
        except MdnpError:
            allocator.withdraw(allocation)
            raise
        if not allocator.confined:  # else there may be another block
            self._warn(promise.id, allocator.counts(self._clock()))

    async def free(self, identity: PoolID, allocation: Allocation) -> None:
        # The allocator from before the commit: the pool may be dropped meanwhile, and then this one is nobody's.
        allocator, freed = self._allocators[identity], allocation.freed(self._clock())
        await self._store.commit(Free(identity, freed))
        allocator.release(freed)

    async def take_back(self, network: IPNetwork, kinds: Sequence[Kind], blocks: Iterable[Block] = ()) -> None:
        """Free all of these kinds in a pool, and give these blocks up, at once."""
        found = self.of(network)
        held = [one for one in found[1].allocations() if one.purpose.kind in kinds] if found else []
        freed = [one.freed(self._clock()) for one in held]
        identity = found[0].id if found else PoolID("")
        await self._store.commit(*(Free(identity, one) for one in freed), *map(Drop, blocks))
        if found:
            for one in freed:
                found[1].release(one)
        self.confine(network)

    async def give_back(self, block: Block) -> None:
        """Nothing is handed out of it from now on."""
        self._leaving.add(block)
        self.confine(block.pool)
        try:
            await self._store.commit(Drop(block))
        finally:
            self._leaving.discard(block)
            self.confine(block.pool)

    async def reserve(self, network: IPNetwork, addresses: Iterable[IPAddress]) -> None:
        """These addresses, held as if for endpoints, are Docker's auxiliary ones: a request for one does not say so."""
        found = self.of(network)
        held = [one for address in addresses if found and (one := found[1].held(address))]
        for one in held:
            if found and one.purpose.kind is Kind.ENDPOINT:
                await self._replace(*found, one, replace(one, purpose=Purpose(Kind.AUXILIARY)))

    async def _replace(self, promise: PoolPromise, allocator: Allocator, old: Allocation, new: Allocation) -> None:
        freed = old.freed(self._clock())
        await self._store.commit(Free(promise.id, freed), Hold(promise.id, new))
        allocator.release(freed)
        allocator.claim(new.address, new.purpose, new.allocated_at)

    def _confine(self, network: IPNetwork, allocator: Allocator) -> None:
        allocator.confine([one.network for one in self.blocks(network)] if network in self._shared else None)

    def _check_goes_on(self, promise: PoolPromise) -> None:
        """What was handed out while the end of its pool is written down would be held for ever."""
        if promise.id in self._ending:
            raise Conflict(f"pool {promise.id} is being given back: ask for it again")

    def _warn(self, identity: PoolID, counts: Counts) -> None:
        """Once, each time that a pool becomes nearly full."""
        if not counts.nearly_full:
            self._warned.discard(identity)
        elif identity not in self._warned:
            self._warned.add(identity)
            log.warning("pool %s is nearly full: %d of %d", identity, counts.held, counts.size)
