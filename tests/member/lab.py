"""Hosts on one etcd in memory, each with a member, a store in memory, and what stands for its IPAM and its verbs."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from mdnp.cluster import Batch, Change, ClusterUnavailable, Delete, Snapshot, Unchanged
from mdnp.cluster.fake import FakeCluster
from mdnp.member import Foreign, News
from mdnp.member.session import Local, Member
from mdnp.model.allocation import Record
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.errors import MdnpError, StoreUnavailable
from mdnp.model.host import HostID
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.mac import MAC, derived_mac
from mdnp.model.names import Called, Names
from mdnp.model.network import IPAddress, IPNetwork, Network, Subnet
from mdnp.model.options import Mode, NetworkOptions
from mdnp.model.pool import PoolID
from mdnp.model.segment import Block, RemoteEndpoint, Segment, SegmentID, segment_id
from mdnp.store import Change as StoreChange
from mdnp.store import Drop, Fact, Known, Promises, Put, Tenure

LEASE_S = 15
POOL = "10.50.0.0/16"
BLUE = SegmentID(POOL)


class TimedCluster(FakeCluster):
    """Its leases end by themselves, in the loop's time; a frozen one ends all when it thaws, as etcd does."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: dict[int, tuple[int, asyncio.TimerHandle]] = {}

    async def grant(self, ttl_s: int) -> int:
        lease = await super().grant(ttl_s)
        self._wind(lease, ttl_s)
        return lease

    async def keep_alive(self, lease: int) -> None:
        await super().keep_alive(lease)
        if lease in self._timers:
            self._wind(lease, self._timers[lease][0])

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        self.frozen = False
        self.expire()

    def come_back(self) -> None:
        """A server that starts gives each lease its whole time again."""
        self.away = False
        for lease in self.leases:
            if lease in self._timers:
                self._wind(lease, self._timers[lease][0])

    def _wind(self, lease: int, ttl_s: int) -> None:
        if lease in self._timers:
            self._timers[lease][1].cancel()
        timer = asyncio.get_running_loop().call_later(ttl_s, self._run_out, lease)
        self._timers[lease] = (ttl_s, timer)

    def _run_out(self, lease: int) -> None:
        if not self.frozen and not self.away and lease in self.leases:
            self.expire(lease)

    def keys(self, part: str = "") -> list[str]:
        """The keys that contain `part`, without our root."""
        return [key.removeprefix("/mdnp/v1/") for key in sorted(self.entries) if part in key]


class Line:
    """One host's way to the cluster. `cut`: nothing passes; `deaf`: what happens is not heard of."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.cut = False
        self.deaf = False
        self.written: list[tuple[Change, ...]] = []

    async def snapshot(self, prefix: str) -> Snapshot:
        self._pass()
        return await self.cluster.snapshot(prefix)

    async def commit(self, conditions: Sequence[Unchanged], changes: Sequence[Change]) -> int | None:
        self._pass()
        revision = await self.cluster.commit(conditions, changes)
        if revision is not None:
            self.written.append(tuple(changes))
        return revision

    async def grant(self, ttl_s: int) -> int:
        self._pass()
        return await self.cluster.grant(ttl_s)

    async def keep_alive(self, lease: int) -> None:
        self._pass()
        await self.cluster.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        self._pass()
        await self.cluster.revoke(lease)

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Batch]:
        self._pass()
        async with aclosing(self.cluster.watch(prefix, after)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                self._pass()
                if self.deaf:
                    continue
                yield batch

    async def close(self) -> None: ...

    @property
    def deleted(self) -> set[str]:
        return {one.key for changes in self.written for one in changes if isinstance(one, Delete)}

    def _pass(self) -> None:
        if self.cut:
            raise ClusterUnavailable("the network is partitioned")


class Notebook:
    """A store in memory: what was committed stays when a daemon is started anew."""

    def __init__(self) -> None:
        self.networks: dict[NetworkID, Network] = {}
        self.endpoints: dict[EndpointID, Endpoint] = {}
        self.blocks: dict[str, Block] = {}
        self.called: dict[str, Called] = {}
        self.facts: dict[str, str] = {}
        self.rows: dict[str, Known] = {}
        self.trouble = ""

    @property
    def promises(self) -> Promises:
        return Promises(self.networks, self.endpoints, {}, self.blocks, self.called)

    async def commit(self, *changes: StoreChange) -> None:
        await asyncio.sleep(0)
        if self.trouble:
            raise StoreUnavailable(self.trouble)
        for change in changes:
            match change:
                case Put(record):
                    self._kept(record)[record.id] = record
                case Drop(record):
                    self._kept(record).pop(record.id, None)
                case Fact(name, value):
                    self.facts[name] = value
                case Known(key, None):
                    self.rows.pop(key, None)
                case Known(key):
                    self.rows[key] = change

    async def fact(self, name: str, first: str) -> str:
        return self.facts.setdefault(name, first)

    async def known(self) -> Sequence[Known]:
        return list(self.rows.values())

    async def forget_known(self) -> None:
        self.rows.clear()

    async def allocations(self, pool: PoolID) -> Sequence[Record]:  # noqa: ARG002  # the contract's
        return []

    async def history(self, name: str) -> Sequence[Tenure]:  # noqa: ARG002  # the contract's
        return []

    async def close(self) -> None: ...

    def _kept(self, record: Any) -> dict[Any, Any]:
        kept: dict[type[Any], dict[Any, Any]] = {
            Network: self.networks,
            Endpoint: self.endpoints,
            Block: self.blocks,
            Called: self.called,
        }
        return kept[type(record)]


class Addresses:
    """What stands for the IPAM of a host: addresses held by its endpoints, and those kept for others."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self.held: set[tuple[IPNetwork, IPAddress]] = set()
        self.kept: dict[tuple[IPNetwork, IPAddress], Foreign] = {}
        self.lost: list[Block] = []

    async def hold_foreign(self, foreign: Foreign) -> bool:
        await asyncio.sleep(0)
        place = foreign.pool, foreign.address
        if place in self.held:
            return False
        return self.kept.setdefault(place, foreign) == foreign

    async def let_go_foreign(self, foreign: Foreign) -> None:
        await asyncio.sleep(0)
        if self.kept.get((foreign.pool, foreign.address)) == foreign:
            del self.kept[foreign.pool, foreign.address]

    def foreign(self) -> Iterable[Foreign]:
        return list(self.kept.values())

    def outside(self) -> Iterable[tuple[IPNetwork, IPAddress]]:
        blocks = [one.network for one in self._notebook.blocks.values()]
        return [(pool, one) for pool, one in self.held if not any(one in block for block in blocks)]

    async def lose_block(self, block: Block) -> None:
        self.lost.append(block)

    def next(self, pool: IPNetwork) -> IPAddress | None:
        """A free one of our blocks."""
        for block in self._notebook.blocks.values():
            if block.pool != pool:
                continue
            for number in range(2, min(200, block.network.num_addresses - 1)):
                one = block.network.network_address + number
                if (pool, one) not in self.held and (pool, one) not in self.kept:
                    return one
        return None


@dataclass(frozen=True)
class Wanted:
    """A network as a user asks for it."""

    subnets: tuple[str, ...] = (POOL,)
    label: str = ""
    mtu: int = 1450
    multicast: bool = True

    @property
    def segment(self) -> SegmentID:
        return segment_id(map(ip_network, self.subnets))


class Machine:
    """A host of the lab; `start` and `stop` are its daemon's, what it promised stays."""

    def __init__(self, cluster: FakeCluster, name: str, number: int) -> None:
        self.name = name
        self.line = Line(cluster)
        self.notebook = Notebook()
        self.addresses = Addresses(self.notebook)
        self.vtep: IPAddress | None = ip_address("192.0.2.0") + number
        self.machine = f"machine {number}"
        self.clock = 1000.0
        self.news: list[News] = []
        self.withdrawn = 0
        self.entered = 0
        self._draws = iter(f"{number:02x}{'0' * 12}{draw:02x}" for draw in range(256))
        self._task: asyncio.Task[None] | None = None
        self.member: Member

    async def start(self) -> None:
        local = Local(self.name, self.machine, 4789, lambda: self.vtep)
        self.member = await Member.open(
            self.line,
            self.notebook,
            local,
            self.news.append,
            lease_s=LEASE_S,
            clock=lambda: self.clock,
            draw=lambda: next(self._draws),
        )
        self._task = asyncio.create_task(self.member.run(self.addresses, self))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @property
    def runs(self) -> bool:
        return self._task is not None

    @property
    def id(self) -> HostID:
        return HostID(self.notebook.facts["host_id"])

    @property
    def known(self) -> set[HostID]:
        """The hosts that we know of, if etcd were lost now, by memory or from what was written down."""
        if self.runs:
            return {one.host.id for one in self.member.standing().hosts}
        return {HostID(key.rpartition("/")[2]) for key in self.notebook.rows if "/hosts/" in key}

    @property
    def trouble(self) -> str:
        return self.member.standing().trouble

    @property
    def remarks(self) -> list[str]:
        return [one.text for one in self.member.standing().remarks]

    async def withdraw(self) -> None:
        self.withdrawn += 1
        await self.notebook.commit(
            *map(Drop, self.notebook.endpoints.values()), *map(Drop, self.notebook.blocks.values())
        )
        self.addresses.held.clear()
        self.addresses.kept.clear()

    async def enter(self) -> None:
        self.entered += 1
        for network in self.notebook.networks.values():
            for subnet in network.subnets:
                if not any(one.pool == subnet.pool for one in self.notebook.blocks.values()):
                    await self.member.claim_block(subnet.pool, subnet.pool)

    async def network(self, wanted: Wanted = Wanted()) -> Network:
        """As CreateNetwork."""
        subnets = tuple(Subnet(ip_network(one), ip_interface(_gateway(one))) for one in wanted.subnets)
        segment = Segment(wanted.segment, 0, wanted.label or wanted.segment, wanted.mtu, multicast=wanted.multicast)
        segment = replace(segment, gateways=tuple(sorted(str(one.gateway) for one in subnets)))
        joined = await self.member.join(segment)
        try:
            for subnet in subnets:
                if not any(one.pool == subnet.pool for one in self.notebook.blocks.values()):
                    await self.member.claim_block(subnet.pool, subnet.pool)
        except MdnpError:
            self.member.leave(wanted.segment)
            raise
        options = NetworkOptions(mode=Mode.OVERLAY, segment=wanted.label, multicast=wanted.multicast)
        network = Network(NetworkID(wanted.segment), subnets, False, options, joined.mtu, vni=joined.vni)
        await self.notebook.commit(Put(network))
        self.member.tell()
        return network

    async def remove_network(self, segment: SegmentID = BLUE) -> None:
        """As DeleteNetwork, with what Docker left on it."""
        network = self.notebook.networks[NetworkID(segment)]
        pools = {subnet.pool for subnet in network.subnets}
        left = [one for one in self.notebook.endpoints.values() if one.network_id == network.id]
        blocks = [one for one in self.notebook.blocks.values() if one.pool in pools]
        await self.notebook.commit(*map(Drop, left), *map(Drop, blocks), Drop(network))
        self.addresses.held = {place for place in self.addresses.held if place[0] not in pools}
        self.member.tell()

    async def attach(self, segment: SegmentID = BLUE, *, at: str = "", mac: str = "", name: str = "") -> Endpoint:
        """As RequestAddress, CreateEndpoint and Join."""
        network = self.notebook.networks[NetworkID(segment)]
        pool = network.subnets[0].pool
        address = ip_address(at) if at else self.addresses.next(pool)
        assert address is not None, "no free address"
        place = pool, address
        assert place not in self.addresses.held, f"{address} is held already"
        self.addresses.held.add(place)
        try:
            if not any(address in one.network for one in self.notebook.blocks.values()):
                await self.member.claim_address(pool, address)
        except BaseException:
            self.addresses.held.discard(place)
            self.member.tell()
            raise
        addresses = (ip_interface(f"{address}/{pool.prefixlen}"),)
        generation = self.member.newest_generation(segment, [address]) + 1
        endpoint = Endpoint(
            EndpointID(name or f"{self.name}-{address}-{generation}"),
            network.id,
            MAC(mac) if mac else derived_mac(addresses, ""),
            bool(mac),
            addresses,
            Phase.JOINED,
            generation=generation,
        )
        await self.notebook.commit(Put(endpoint))
        self.member.tell()
        return endpoint

    async def call(self, endpoint: Endpoint, names: Names) -> None:
        """As Docker's names are learned."""
        await self.notebook.commit(Put(Called(endpoint.id, names)))
        self.member.tell()

    async def give_back(self, index: int) -> None:
        """One of our blocks, if nothing of it is held or kept for another."""
        places = {*self.addresses.held, *self.addresses.kept}
        unused = [
            one
            for one in self.notebook.blocks.values()
            if not any(pool == one.pool and address in one.network for pool, address in places)
        ]
        if unused:
            await self.notebook.commit(Drop(unused[index % len(unused)]))
            self.member.tell()

    async def detach(self, endpoint: Endpoint) -> None:
        await self.notebook.commit(Drop(endpoint))
        network = self.notebook.networks[endpoint.network_id]
        for address in endpoint.addresses:
            self.addresses.held.discard((network.subnets[0].pool, address.ip))
        self.member.tell()

    @property
    def seen(self) -> list[str]:
        """The remote endpoints, as text."""
        return sorted(map(_shown, self.member.remotes.values()))

    @property
    def names(self) -> dict[str, Names | None]:
        """Those that the other hosts told, by address."""
        return {str(one.addresses[0]): one.names for one in self.member.remotes.values()}

    @property
    def promised(self) -> list[str]:
        """What the others should see of us."""
        return sorted(
            f"{one.addresses[0].ip} on {self.vtep}"
            for one in self.notebook.endpoints.values()
            if one.phase is not Phase.LEFT
        )


class Lab:
    def __init__(self) -> None:
        self.cluster = TimedCluster()
        self.machines: list[Machine] = []

    async def add(self, name: str = "", *, start: bool = True) -> Machine:
        number = len(self.machines) + 1
        machine = Machine(self.cluster, name or f"host{number}", number)
        self.machines.append(machine)
        if start:
            await machine.start()
            await quiet(1)
        return machine

    async def close(self) -> None:
        for machine in self.machines:
            await machine.stop()


@asynccontextmanager
async def lab(hosts: int = 0) -> AsyncIterator[Lab]:
    made = Lab()
    for _ in range(hosts):
        await made.add()
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def blue(hosts: int, *, endpoints: int = 1) -> AsyncIterator[Lab]:
    """A lab whose hosts have a network of one segment, and containers on it."""
    async with lab() as made:
        for _ in range(hosts):
            machine = await made.add()
            await machine.network()
            for _ in range(endpoints):
                await machine.attach()
        await quiet()
        yield made


async def quiet(seconds: float = 3) -> None:
    """Let so much time pass."""
    await asyncio.sleep(seconds)


def _gateway(pool: str) -> str:
    network = ip_network(pool)
    return f"{network.network_address + 1}/{network.prefixlen}"


def _shown(remote: RemoteEndpoint) -> str:
    return f"{remote.addresses[0]} on {remote.vtep}"
