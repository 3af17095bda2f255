"""
Pools that hosts share: this host's blocks of them, and what is asked of other hosts.

An address comes out of a block of ours without a word to anybody. Another block is claimed before the last one is
full, outside of calls; what no block of ours has is asked for within the call, for a second at most.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_interface

from mdnp.cluster import LIMIT_S, ClusterUnavailable
from mdnp.ipam.allocator import Allocator
from mdnp.ipam.ledger import NOT_DOCKERS, Ledger
from mdnp.ipam.spare import runs_low, shared_pools, too_many
from mdnp.member import Foreign, Membership
from mdnp.model.allocation import Allocation, Kind, Purpose
from mdnp.model.errors import Conflict, Exhausted, InvalidParameter, MdnpError, Unsupported
from mdnp.model.host import HostID
from mdnp.model.network import IPAddress, IPInterface, IPNetwork, Network
from mdnp.model.pool import Pool, PoolPromise
from mdnp.model.segment import Block
from mdnp.store import Store

log = logging.getLogger(__name__)

# How often blocks are looked at without a reason: an address rests for a minute before its block can go.
_INTERVAL_S = 30.0
_AGAIN_S = 2.0  # from a claim in the background that failed to the next one
_NO_CLUSTER = (
    "this host is in no cluster: give mdnp the URLs of its etcd (--etcd, MDNP_ETCD, or etcd in the configuration file)"
)


class Sharing:
    """
    `membership` is None on a host that is in no cluster. It is also the side that other hosts ask (`Allocations` of the
    member room).
    """

    def __init__(self, store: Store, ledger: Ledger, membership: Membership | None, clock: Callable[[], float]) -> None:
        self._store = store
        self._ledger = ledger
        self._member = membership
        self._clock = clock
        self._claims: dict[IPNetwork, asyncio.Future[None]] = {}  # under way, by pool
        self._wake = asyncio.Event()
        self._told: dict[IPNetwork, str] = {}  # why a pool has no other block, said once

    def check(self, network: Network) -> None:
        """Errors: Unsupported, InvalidParameter when the pools of a network cannot be shared."""
        if self._member is None:
            raise Unsupported(f"an overlay needs a cluster, and {_NO_CLUSTER}")
        if not network.subnets:
            raise InvalidParameter("an overlay needs addresses that hosts agree on: give --subnet, and not null IPAM")
        for subnet in network.subnets:
            found = self._ledger.of(subnet.pool)
            if found is None:
                raise InvalidParameter(
                    f"subnet {subnet.pool}: an overlay needs mdnp's own IPAM, since another one on each host would give"
                    " one address twice: add --ipam-driver with the name of this driver"
                )
            if found[0].automatic:
                raise InvalidParameter(
                    f"subnet {subnet.pool} was chosen by this host alone, and an overlay's must be the same on all:"
                    " give --subnet"
                )

    async def share(self, network: Network, reserved: Collection[IPAddress]) -> tuple[IPInterface, ...]:
        """
        Make the pools of a network cluster-wide: each has a block of ours, and an address of this host's own where the
        host stands in the network. May come twice. Errors: as of `check`, ClusterUnavailable, Exhausted, Conflict;
        what was done until then is taken back by `unshare`.
        """
        self.check(network)
        own: list[IPInterface] = []
        for pool in (subnet.pool for subnet in network.subnets):
            await self._ledger.reserve(pool, reserved)
            self._ledger.share(pool)
            if not self._ledger.blocks(pool):
                await self.another_block(self._pool(pool)[0].pool)
            if network.has_gateway:
                own.append(await self._own_address(pool))
        return tuple(own)

    async def unshare(self, network: Network) -> None:
        """
        The network goes, and with it our blocks and our own addresses, unless another one has its pools. Errors:
        StoreUnavailable; then that is tried again soon.
        """
        others = shared_pools(one for one in self._store.promises.networks.values() if one.id != network.id)
        for pool in (subnet.pool for subnet in network.subnets):
            if pool not in others:
                self._ledger.share(pool, shared=False)
        self._wake.set()
        await self._tidy()

    async def allocate(
        self, promise: PoolPromise, allocator: Allocator, name: str, kind: Kind = Kind.ENDPOINT
    ) -> Allocation:
        """The next address of our blocks; of another one if they are full, and of those that rest if there is none."""
        clock = asyncio.get_running_loop().time
        until = clock() + LIMIT_S
        while True:
            with suppress(Exhausted):
                allocation = allocator.allocate(self._clock(), name, kind=kind, only_rested=True)
                self._look_ahead(promise, allocator)
                return allocation
            try:
                await self.another_block(promise.pool)
            except MdnpError as error:
                return self._resting(allocator, name, kind, error)
            if clock() > until:
                raise ClusterUnavailable(f"pool {promise.pool.network}: others took each block that came: try again")

    def has(self, network: IPNetwork, address: IPAddress) -> bool:
        """Whether an address of a cluster-wide pool is in a block of ours."""
        return any(address in one.network for one in self._ledger.blocks(network))

    async def claim(
        self, promise: PoolPromise, allocator: Allocator, address: IPAddress, purpose: Purpose
    ) -> Allocation:
        """An address outside of our blocks. Errors: Conflict that names who has it; ClusterUnavailable."""
        member = self._required()
        allocation = allocator.claim(address, purpose, self._clock())
        with self._or_withdrawn(allocator, allocation):
            await member.claim_address(promise.pool.network, address)
        return allocation

    async def another_block(self, pool: Pool) -> None:
        """Claim a block more. Who asks while that is under way awaits the same one, and shares its end."""
        under_way = self._claims.get(pool.network)
        if under_way is not None:
            await asyncio.shield(under_way)
            return
        done = self._claims[pool.network] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_looked_at)
        try:
            await self._required().claim_block(pool.network, pool.dynamic)
        except BaseException as error:
            told = isinstance(error, MdnpError)
            done.set_exception(error if told else ClusterUnavailable(f"pool {pool.network}: the claim was cut off"))
            raise
        finally:
            del self._claims[pool.network]
            self._ledger.confine(pool.network)
        done.set_result(None)
        if pool.network not in self._ledger.shared:
            self._wake.set()  # it ended meanwhile

    def reserved(self, network: Network) -> Collection[IPAddress]:
        found = [one for subnet in network.subnets if (one := self._ledger.of(subnet.pool))]
        held = [one for _, allocator in found for one in allocator.allocations()]
        return [one.address for one in held if one.purpose.kind is Kind.AUXILIARY]

    async def surrender(self, network: Network) -> None:
        """Our addresses in a network may be others' by now: no container, and no block, has any of them."""
        for pool in (subnet.pool for subnet in network.subnets):
            await self._ledger.take_back(pool, (*NOT_DOCKERS, Kind.ENDPOINT), self._ledger.blocks(pool))

    def changed(self) -> None:
        """What we hold is another: what stands in etcd of it is mended, and blocks are looked at."""
        if self._member is not None:
            self._member.tell()

    async def run(self) -> None:
        """Claim blocks before they are needed, and give back those that are not, until cancelled."""
        while self._member is not None:
            try:
                await self.tend()
            except MdnpError as error:
                log.warning("blocks will be looked at again in %g s: %s", _AGAIN_S, error)
                await asyncio.sleep(_AGAIN_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL_S):
                    await self._wake.wait()
            self._wake.clear()

    async def tend(self) -> None:
        """One look. Errors: MdnpError."""
        await self._tidy()
        for pool in self._ledger.shared:
            await self._tend(pool)

    # What other hosts ask, through the member.

    async def hold_foreign(self, foreign: Foreign) -> bool:
        found = self._ledger.of(foreign.pool)
        if found is None or foreign.pool not in self._ledger.shared:
            return False
        promise, allocator = found
        purpose = Purpose(Kind.FOREIGN, foreign.host)
        held = allocator.held(foreign.address)
        if held is not None:
            return held.purpose == purpose
        try:
            allocation = allocator.claim(foreign.address, purpose, self._clock())
        except InvalidParameter:
            return False
        await self._ledger.hold(promise, allocator, allocation)
        return True

    async def let_go_foreign(self, foreign: Foreign) -> None:
        found = self._ledger.of(foreign.pool)
        held = found[1].held(foreign.address) if found else None
        if found and held and held.purpose == Purpose(Kind.FOREIGN, foreign.host):
            await self._ledger.free(found[0].id, held)

    def foreign(self) -> Iterable[Foreign]:
        for network, one in self._held():
            if one.purpose.kind is Kind.FOREIGN:
                yield Foreign(network, one.address, HostID(one.purpose.name))

    def outside(self) -> Iterable[tuple[IPNetwork, IPAddress]]:
        for network in self._ledger.shared:
            found = self._ledger.of(network)
            blocks = [one.network for one in self._ledger.blocks(network)]
            for one in found[1].outside(blocks) if found else ():
                if one.purpose.kind in (Kind.ENDPOINT, Kind.HOST):
                    yield network, one.address

    async def lose_block(self, block: Block) -> None:
        await self._ledger.give_back(block)

    def _held(self) -> Iterator[tuple[IPNetwork, Allocation]]:
        """All that is held in cluster-wide pools."""
        for network in self._ledger.shared:
            found = self._ledger.of(network)
            yield from ((network, one) for one in (found[1].allocations() if found else ()))

    async def _own_address(self, network: IPNetwork) -> IPInterface:
        promise, allocator = self._pool(network)
        own = next((one for one in allocator.allocations() if one.purpose.kind is Kind.HOST), None)
        if own is None:
            own = await self.allocate(promise, allocator, "", Kind.HOST)
            await self._ledger.hold(promise, allocator, own)
        return ip_interface(f"{own.address}/{network.prefixlen}")

    def _pool(self, network: IPNetwork) -> tuple[PoolPromise, Allocator]:
        found = self._ledger.of(network)
        if found is None:
            raise Conflict(f"pool {network} was given back meanwhile: try again")
        return found

    def _resting(self, allocator: Allocator, name: str, kind: Kind, error: MdnpError) -> Allocation:
        """One of the addresses that rest, since no other block is to be had."""
        try:
            return allocator.allocate(self._clock(), name, kind=kind)
        except Exhausted as exhausted:
            raise type(error)(f"{exhausted}. Another block could not be had: {error}") from error

    def _look_ahead(self, promise: PoolPromise, allocator: Allocator) -> None:
        if promise.pool.network not in self._told and runs_low(
            self._ledger.blocks(promise.pool.network), allocator.counts(self._clock())
        ):
            self._wake.set()

    async def _tend(self, network: IPNetwork) -> None:
        found = self._ledger.of(network)
        if found is None:
            return
        promise, allocator = found
        self._ledger.confine(network)  # the member may have found a block that is ours
        blocks, counts = self._ledger.blocks(network), allocator.counts(self._clock())
        if not blocks or runs_low(blocks, counts):
            await self._claim_ahead(promise.pool)
        else:
            await self._give_back(blocks, allocator)

    async def _claim_ahead(self, pool: Pool) -> None:
        try:
            await self.another_block(pool)
        except Exhausted as error:
            if self._told.get(pool.network) != str(error):
                log.warning("pool %s: no other block can be claimed: %s", pool.network, error)
            self._told[pool.network] = str(error)
        else:
            self._told.pop(pool.network, None)

    async def _give_back(self, blocks: Sequence[Block], allocator: Allocator) -> None:
        uses = allocator.use([one.network for one in blocks], self._clock())
        spare = too_many(blocks, uses, allocator.counts(self._clock()))
        if spare is not None:
            log.info("block %s of pool %s is given back: it is not needed any more", spare.network, spare.pool)
            await self._ledger.give_back(spare)
            self.changed()

    async def _tidy(self) -> None:
        """Take back what is left of pools that are shared no more."""
        left = [one for one in self._store.promises.blocks.values() if one.pool not in self._ledger.shared]
        pools = {one.pool for one in left} | self._with_others()
        for pool in pools:
            await self._ledger.take_back(pool, NOT_DOCKERS, [one for one in left if one.pool == pool])
        if pools:
            self.changed()

    def _with_others(self) -> set[IPNetwork]:
        """Pools that are not shared, in which something is held that only shared ones have."""
        return {
            promise.pool.network
            for promise, allocator in self._ledger.pools()
            if promise.pool.network not in self._ledger.shared
            and any(one.purpose.kind in NOT_DOCKERS for one in allocator.allocations())
        }

    @contextmanager
    def _or_withdrawn(self, allocator: Allocator, allocation: Allocation) -> Iterator[None]:
        try:
            yield
        except BaseException:
            allocator.withdraw(allocation)
            self.changed()
            raise

    def _required(self) -> Membership:
        if self._member is None:
            raise ClusterUnavailable(_NO_CLUSTER)
        return self._member


def _looked_at(done: "asyncio.Future[None]") -> None:
    """Nobody may have awaited it."""
    if not done.cancelled():
        done.exception()
