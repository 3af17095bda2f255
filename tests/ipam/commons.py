"""
Hosts that share pools, without an etcd: what a member would agree on with the others is agreed on at once.

Each host is an IpamDriver on a store of its own, with an overlay on it as Docker and the driver would make it.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

from mdnp.cluster import ClusterUnavailable
from mdnp.ipam.driver import IpamDriver
from mdnp.kernel.fake import FakeKernel
from mdnp.member import Foreign
from mdnp.model.errors import Conflict, Exhausted
from mdnp.model.host import Host, HostID
from mdnp.model.network import IPAddress, IPNetwork, Network, Subnet
from mdnp.model.options import GatewayMode, Mode, NetworkOptions
from mdnp.model.pool import PoolID, parse_pool
from mdnp.model.segment import Block, Segment, SegmentID
from mdnp.store import Drop, Put
from mdnp.store.sqlite import SqliteStore
from tests.world import NET, Clock, TestedStore, quick_folder

POOL = "10.50.0.0/24"
BLOCK_BITS = 4  # a block has 16 addresses


@dataclass
class Commons:
    """`owners` has each block that somebody has, `claims` each address that was asked for outside of one's own."""

    owners: dict[IPNetwork, HostID] = field(default_factory=dict)
    claims: dict[IPAddress, HostID] = field(default_factory=dict)
    hosts: dict[HostID, "Plot"] = field(default_factory=dict)
    away: bool = False
    asked: int = 0

    def check(self) -> None:
        self.asked += 1
        if self.away:
            raise ClusterUnavailable("no server answers")

    def blocks(self, host: HostID) -> list[str]:
        return sorted(str(block) for block, owner in self.owners.items() if owner == host)


class Seat:
    """The Membership of one host."""

    def __init__(self, commons: Commons, host: HostID, store: TestedStore) -> None:
        self._commons = commons
        self._store = store
        self.host = Host(host, str(host), ip_address("192.0.2.1"))
        self.told = 0

    async def join(self, wanted: Segment) -> Segment:
        self._commons.check()
        return replace(wanted, vni=7)

    def leave(self, segment: SegmentID) -> None:
        pass

    def newest_generation(self, segment: SegmentID, addresses: Collection[IPAddress]) -> int:  # noqa: ARG002
        return 0

    async def claim_block(self, pool: IPNetwork, within: IPNetwork) -> Block:
        self._commons.check()
        owners = self._commons.owners
        for network in pool.subnets(new_prefix=pool.max_prefixlen - BLOCK_BITS):
            if network.overlaps(within) and network not in owners:
                owners[network] = self.host.id
                await self._keep_claims(pool, network)
                block = Block(pool, network)
                await self._store.commit(Put(block))
                return block
        raise Exhausted(f"pool {pool}: all blocks are taken")

    async def _keep_claims(self, pool: IPNetwork, network: IPNetwork) -> None:
        me = self._commons.hosts[self.host.id].ipam.sharing
        for address, host in self._commons.claims.items():
            if address in network and host != self.host.id:
                assert await me.hold_foreign(Foreign(pool, address, host))

    async def claim_address(self, pool: IPNetwork, address: IPAddress) -> None:
        self._commons.check()
        other = self._commons.claims.get(address, self.host.id)
        owner = next((one for block, one in self._commons.owners.items() if address in block), self.host.id)
        if other != self.host.id:
            raise Conflict(f"address {address} is host {other}'s")
        if owner != self.host.id:
            allocations = self._commons.hosts[owner].ipam.sharing
            if not await allocations.hold_foreign(Foreign(pool, address, self.host.id)):
                raise Conflict(f"address {address} is in use on host {owner}")
        self._commons.claims[address] = self.host.id

    def tell(self) -> None:
        self.told += 1

    async def mend(self) -> None:
        """What a member does after `tell`."""
        if self._commons.away:
            return
        mine = {block.network for block in self._store.promises.blocks.values()}
        for block in [one for one, owner in self._commons.owners.items() if owner == self.host.id and one not in mine]:
            del self._commons.owners[block]
        held = {address for _, address in self._commons.hosts[self.host.id].ipam.sharing.outside()}
        for address in [one for one, host in self._commons.claims.items() if host == self.host.id and one not in held]:
            del self._commons.claims[address]
        for host in self._commons.hosts.values():
            for foreign in list(host.ipam.sharing.foreign()):
                if foreign.address not in self._commons.claims:
                    await host.ipam.sharing.let_go_foreign(foreign)


class Plot:
    """A host. Made by `open_plots`."""

    def __init__(self, commons: Commons, host: HostID, folder: Path, clock: Clock) -> None:
        self.commons = commons
        self.id = host
        self.clock = clock
        self.pool = PoolID("")
        self._folder = folder / host
        self.store: TestedStore
        self.ipam: IpamDriver
        self.seat: Seat

    async def start(self, *, member: bool = True) -> None:
        self.store = TestedStore(await SqliteStore.open(self._folder))
        self.seat = Seat(self.commons, self.id, self.store)
        membership = self.seat if member else None
        self.ipam = await IpamDriver.open(self.store, FakeKernel(), (), self.clock, membership)
        self.commons.hosts[self.id] = self

    async def restart(self, *, member: bool = True) -> None:
        await self.store.close()
        await self.start(member=member)

    async def create(self, pool: str = POOL, sub_pool: str = "", *, gateway: bool = True) -> Network:
        """As Docker has an overlay made."""
        promise = await self.ipam.request_pool("mdnp-local", parse_pool(pool, sub_pool), ":" in pool)
        self.pool = promise.id
        first = ip_interface(await self.ipam.request_gateway(promise.id, None)) if gateway else None
        options = NetworkOptions(mode=Mode.OVERLAY, gateway=GatewayMode.SELF if gateway else GatewayMode.NONE)
        network = Network(NET, (Subnet(promise.pool.network, first),), False, options, 1450)  # type: ignore[arg-type]
        own = await self.ipam.sharing.share(network, ())
        network = replace(network, host_addresses=own)
        await self.store.commit(Put(network))
        return network

    async def remove(self) -> None:
        """As Docker has it removed: the pool first."""
        [network] = self.store.promises.networks.values()
        await self.ipam.release_pool(self.pool)
        await self.store.commit(Drop(network))
        await self.ipam.sharing.unshare(network)
        await self.seat.mend()

    async def address(self, asked: str = "", name: str = "") -> str:
        given = await self.ipam.request_address(self.pool, ip_address(asked) if asked else None, name)
        return given.partition("/")[0]

    async def release(self, address: str) -> None:
        await self.ipam.release_address(self.pool, ip_address(address))
        await self.seat.mend()

    @property
    def blocks(self) -> list[str]:
        return sorted(str(one.network) for one in self.store.promises.blocks.values())

    def held(self, *kinds: str) -> list[str]:
        allocations = [one for some in self.ipam.allocations().values() for one in some]
        found = sorted((one for one in allocations if one.purpose.kind in kinds), key=lambda one: int(one.address))
        return [str(one.address) for one in found]


@asynccontextmanager
async def open_plots(*hosts: str, clock: Clock | None = None) -> AsyncIterator[list[Plot]]:
    async with AsyncExitStack() as leaving:
        folder = leaving.enter_context(quick_folder())
        commons, clock = Commons(), clock or Clock()
        plots = [Plot(commons, HostID(host), folder, clock) for host in hosts]
        for plot in plots:
            await plot.start()
        try:
            yield plots
        finally:
            for plot in plots:
                await plot.store.close()
