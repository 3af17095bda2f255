"""The verbs of Docker's IpamDriver, on values."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mdnp.ipam.allocator import Allocator, Counts, Use
from mdnp.ipam.choice import Obstacle, choose
from mdnp.ipam.ledger import NOT_DOCKERS, Ledger
from mdnp.ipam.sharing import Sharing
from mdnp.ipam.spare import shared_pools
from mdnp.kernel import Kernel
from mdnp.member import Membership
from mdnp.model.allocation import Allocation, Kind, Purpose
from mdnp.model.errors import Conflict, MdnpError
from mdnp.model.identity import short
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.pool import Pool, PoolID, PoolPromise, pool_id
from mdnp.model.supernet import Supernet
from mdnp.store import Name, Put, Store

log = logging.getLogger(__name__)


class IpamDriver:
    """
    Made by `open`. Errors of every verb: MdnpError; then nothing has changed, on disk or in memory.

    `clock` gives seconds since the epoch: what it says is kept on disk.
    """

    def __init__(
        self,
        store: Store,
        kernel: Kernel,
        supernets: Sequence[Supernet],
        clock: Callable[[], float],
        membership: Membership | None = None,
    ) -> None:
        self._store = store
        self._kernel = kernel
        self._supernets = supernets
        self._clock = clock
        self._ledger = Ledger(store, clock)
        self.sharing = Sharing(store, self._ledger, membership, clock)
        self._given: dict[int, IPNetwork] = {}  # the last automatic pool of each IP version
        self._learned: dict[tuple[PoolID, Allocation], str] = {}  # names that the engine told later
        self._lock = asyncio.Lock()  # of what is about pools; addresses need none

    @classmethod
    async def open(
        cls,
        store: Store,
        kernel: Kernel,
        supernets: Sequence[Supernet],
        clock: Callable[[], float],
        membership: Membership | None = None,
    ) -> "IpamDriver":
        """Go on where the store stands."""
        driver = cls(store, kernel, supernets, clock, membership)
        shared = shared_pools(store.promises.networks.values())
        for promise in store.promises.pools.values():
            await driver._ledger.remember(promise)
            if promise.pool.network in shared:
                driver._ledger.share(promise.pool.network)
        return driver

    async def request_pool(self, space: str, asked: Pool | None, v6: bool) -> PoolPromise:
        """
        The pool that was asked for, or one of our choice that nothing overlaps, different at each call.

        The same explicit pool may be asked for again, by a network that shares it: it counts its holders.
        """
        async with self._lock:
            pool = asked or Pool(await self._automatic(v6))
            known = self._store.promises.pools.get(pool_id(space, pool))
            now = self._clock()
            if known:
                promise = replace(known, holders=known.holders + 1, since=now)
                await self._store.commit(Put(promise))
            else:
                promise = PoolPromise(space, pool, now, automatic=asked is None)
                self._check_overlap(pool)
                await self._ledger.begin(promise)
            if asked is None:
                self._given[pool.network.version] = pool.network
            return promise

    async def release_pool(self, identity: PoolID) -> None:
        """One holder less; with the last one goes the pool, and what Docker left of allocations in it."""
        async with self._lock:
            promise = self._store.promises.pools.get(identity)
            if promise is None:
                log.info("pool %s: released already", identity)
            elif promise.holders > 1:
                await self._store.commit(Put(replace(promise, holders=promise.holders - 1)))
            else:
                await self._drop(promise)

    async def request_gateway(self, identity: PoolID, asked: IPAddress | None) -> str:
        """The gateway's address, with the pool's prefix length: the first usable one if none is asked for."""
        promise, allocator = self._ledger.find(identity)
        address = asked or promise.pool.gateway
        held = allocator.held(address)
        if held and held.purpose.kind is Kind.GATEWAY and promise.holders > 1:
            return f"{address}/{promise.pool.network.prefixlen}"  # of the network that has this pool already
        return await self._claimed(identity, address, Purpose(Kind.GATEWAY))

    async def request_address(self, identity: PoolID, asked: IPAddress | None, name: str) -> str:
        """
        An address with the pool's prefix length: this one, or the next.

        `name` is the endpoint's where the engine tells it (29 and later): it gets the address that it had last.
        """
        purpose = Purpose(Kind.ENDPOINT, name)
        promise, allocator = self._ledger.find(identity)
        if allocator.confined:
            return await self._shared_address(promise, allocator, asked, purpose)
        if asked is not None:
            return await self._claimed(identity, asked, purpose)
        return await self._held(promise, allocator, allocator.allocate(self._clock(), name))

    async def release_address(self, identity: PoolID, address: IPAddress) -> None:
        """Docker repeats no release and ignores its errors: what is not held is no error here."""
        promise = self._store.promises.pools.get(identity)
        held = self._ledger.allocators[identity].held(address) if promise else None
        if promise is None or held is None or held.purpose.kind in NOT_DOCKERS:
            log.info("address %s of pool %s: released already", address, identity)
        elif held.purpose.kind is not Kind.GATEWAY or promise.holders == 1:
            await self._freed(identity, held)

    async def free(self, identity: PoolID, allocation: Allocation) -> None:
        """Give back an allocation that nobody holds, if it is still the same one."""
        allocator = self._ledger.allocators.get(identity)
        if allocator is not None and allocator.held(allocation.address) == allocation:
            await self._freed(identity, allocation)

    async def drop(self, identity: PoolID, since: float) -> None:
        """Give back a pool that no network holds, whatever the count says, if nobody asked for it after `since`."""
        async with self._lock:
            promise = self._store.promises.pools.get(identity)
            if promise is not None and promise.since == since:
                await self._drop(promise)

    async def learn(self, names: Mapping[IPAddress, str], before: float) -> None:
        """
        Write down who holds what, where the engine did not say so when it asked (before 29).

        `names` are of `before`: what was handed out later is not what they are about.
        """
        learned: dict[tuple[PoolID, Allocation], str] = {}
        news: list[Name] = []
        for identity, held in self.allocations().items():
            for one in held:
                written = self._learned.get((identity, one), one.purpose.name)
                name = written if one.allocated_at >= before else names.get(one.address) or written
                if name != one.purpose.name:
                    learned[identity, one] = name
                if name != written:
                    news.append(Name(identity, one.address, name))
        if news:
            await self._store.commit(*news)
        self._learned = learned

    def holder(self, network: IPNetwork, address: IPAddress) -> str:
        """The name of the endpoint that holds an address of the pool with this network; "" if there is none known."""
        found = self._ledger.of(network)
        held = found[1].held(address) if found else None
        return held.purpose.name if held and held.purpose.kind is Kind.ENDPOINT else ""

    def knows(self, identity: PoolID) -> bool:
        return identity in self._store.promises.pools

    def pool(self, identity: PoolID) -> Pool:
        return self._ledger.find(identity)[0].pool

    def allocations(self) -> Mapping[PoolID, Sequence[Allocation]]:
        return {identity: list(allocator.allocations()) for identity, allocator in self._ledger.allocators.items()}

    def counts(self) -> Mapping[PoolID, Counts]:
        now = self._clock()
        return {identity: allocator.counts(now) for identity, allocator in self._ledger.allocators.items()}

    def blocks(self) -> Mapping[PoolID, Sequence[Use]]:
        """Of the pools that hosts share: what of each block of ours is held, and rests."""
        now = self._clock()
        return {
            promise.id: allocator.use((one.network for one in self._ledger.blocks(promise.pool.network)), now)
            for promise, allocator in self._ledger.pools()
            if allocator.confined
        }

    async def _claimed(self, identity: PoolID, address: IPAddress, purpose: Purpose) -> str:
        promise, allocator = self._ledger.find(identity)
        return await self._held(promise, allocator, allocator.claim(address, purpose, self._clock()))

    async def _shared_address(
        self, promise: PoolPromise, allocator: Allocator, asked: IPAddress | None, purpose: Purpose
    ) -> str:
        """Of a pool that hosts share. In a block of our own nobody is asked."""
        if asked is None:
            allocation = await self.sharing.allocate(promise, allocator, purpose.name)
        elif self.sharing.has(promise.pool.network, asked):
            allocation = allocator.claim(asked, purpose, self._clock())
        else:
            allocation = await self.sharing.claim(promise, allocator, asked, purpose)
        return await self._held(promise, allocator, allocation)

    async def _held(self, promise: PoolPromise, allocator: Allocator, allocation: Allocation) -> str:
        try:
            await self._ledger.hold(promise, allocator, allocation)
        except MdnpError:
            self._tell_of(promise.id)
            raise
        return f"{allocation.address}/{promise.pool.network.prefixlen}"

    async def _freed(self, identity: PoolID, allocation: Allocation) -> None:
        await self._ledger.free(identity, allocation)
        self._tell_of(identity)

    def _tell_of(self, identity: PoolID) -> None:
        """An address that was asked of others is theirs again."""
        allocator = self._ledger.allocators.get(identity)
        if allocator is not None and allocator.confined:
            self.sharing.changed()

    async def _drop(self, promise: PoolPromise) -> None:
        shared = promise.pool.network in self._ledger.shared
        await self._ledger.end(promise)
        if shared:
            self.sharing.changed()

    async def _automatic(self, v6: bool) -> IPNetwork:
        version = 6 if v6 else 4
        supernets = [one for one in self._supernets if one.network.version == version]
        return choose(supernets, await self._obstacles(), self._given.get(version))

    async def _obstacles(self) -> list[Obstacle]:
        """What an automatic pool must not overlap: the host's routes and resolvers, and what is ours."""
        surroundings = await self._kernel.surroundings()
        promises = self._store.promises
        return [
            *(Obstacle(route.to, f"route on {route.link}") for route in surroundings.routes),
            *(Obstacle(one, "resolver") for one in surroundings.resolvers),
            *(Obstacle(one.pool.network, f"pool {one.id}") for one in promises.pools.values()),
            *(
                Obstacle(subnet.pool, f"network {short(network.id)}")
                for network in promises.networks.values()
                for subnet in network.subnets
            ),
        ]

    def _check_overlap(self, pool: Pool) -> None:
        for other in self._store.promises.pools.values():
            if other.pool.network.overlaps(pool.network):
                raise Conflict(
                    f"pool {pool.network} overlaps {other.pool.network} of {self._owner(other)}: choose another"
                    " --subnet, or remove that network"
                )

    def _owner(self, promise: PoolPromise) -> str:
        for network in self._store.promises.networks.values():
            if any(subnet.pool == promise.pool.network for subnet in network.subnets):
                return f"network {short(network.id)}"
        return f"pool {promise.id}"
