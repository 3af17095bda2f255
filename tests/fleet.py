"""Hosts of a cluster, each with what the daemon builds on a kernel in memory, and Docker's calls to them."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

from mdnp.cluster import Cluster
from mdnp.cluster.fake import FakeCluster
from mdnp.clustering import owners
from mdnp.dataplane.rows import Neigh
from mdnp.driver.network import NetworkDriver
from mdnp.driver.overlays import Overlays
from mdnp.ipam.driver import IpamDriver
from mdnp.kernel.fake import FakeKernel
from mdnp.member import News
from mdnp.member.session import Local, Member
from mdnp.model.identity import NetworkID
from mdnp.model.network import Network
from mdnp.reconcile.converge import Reconciler
from mdnp.store.sqlite import SqliteStore
from mdnp.wire.ipam import IpamVerbs
from mdnp.wire.network import NetworkVerbs
from mdnp.wire.routes import Routes
from tests.ipam.house import GATEWAY, named, request_address, request_pool
from tests.world import (
    Clock,
    TestedStore,
    create_endpoint,
    create_network,
    join,
    on_endpoint,
    on_network,
    quick_folder,
)

SUBNET = "10.50.0.0/16"
OVERLAY = {"mdnp.mode": "overlay"}
PATIENCE_S = 20.0


class Refused(Exception):
    """What Docker shows its user."""


class Site:
    """
    A host, with Docker's beliefs: `networks` by name, and `containers` with their address and endpoint by name. Its
    kernel outlives the daemon.
    """

    def __init__(self, name: str, number: int, folder: Path, cluster: Cluster | None) -> None:
        self.name = name
        self.kernel = FakeKernel()
        self.clock = Clock()
        self.vtep = ip_address(f"192.0.2.{number}")
        self.networks: dict[str, tuple[str, list[str], list[str]]] = {}  # id, pools and gateways
        self.containers: dict[str, tuple[str, str, str]] = {}  # address, endpoint and network's name
        self._cluster = cluster
        self._folder = folder / name
        self._made = 0
        # By its id a host chooses its first block: drawn ones would now and then choose that of a test's fixed address.
        self._draws = (f"{number:02x}{draw:014x}" for draw in count())
        self._tasks: list[asyncio.Task[None]] = []
        self.store: TestedStore
        self.member: Member | None = None
        self.reconciler: Reconciler
        self.ipam: IpamDriver
        self.routes: Routes

    async def start(self, *, wait: bool = True) -> None:
        """As the daemon starts."""
        self.store = TestedStore(await SqliteStore.open(self._folder))

        def changed(news: News) -> None:
            self.reconciler.changed(owners(news, self.store.promises.networks.values()))

        if self._cluster is not None:
            local = Local(self.name, self.name, 4789, lambda: self.vtep)
            self.member = await Member.open(self._cluster, self.store, local, changed, draw=lambda: next(self._draws))
        self.reconciler = (
            Reconciler(self.store, self.kernel, 3600, outlook=self.member)
            if self.member
            else Reconciler(self.store, self.kernel, 3600)
        )
        await self.reconciler.converge()
        self.ipam = await IpamDriver.open(self.store, self.kernel, (), self.clock, self.member)
        overlays = Overlays(self.member, self.ipam.sharing)
        driver = NetworkDriver(self.store, self.kernel, self.reconciler, self.clock, overlays)
        interfaces = {"NetworkDriver": NetworkVerbs(driver).verbs(), "IpamDriver": IpamVerbs(self.ipam).verbs()}
        self.routes = Routes(interfaces, activated=self.reconciler.doubt)
        running = [self.reconciler.run(), self.ipam.sharing.run()]
        if self.member is not None:
            running.append(self.member.run(self.ipam.sharing, driver))
        self._tasks = [asyncio.create_task(one) for one in running]
        if wait and self.member is not None:
            await until(lambda: self.connected, f"{self.name} to be in the cluster")

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.close()

    async def restart(self, *, wait: bool = True) -> None:
        await self.stop()
        await self.start(wait=wait)

    @property
    def connected(self) -> bool:
        return self.member is not None and self.member.standing().connected

    @property
    def settled(self) -> bool:
        """All that is to be told is told."""
        return self.member is not None and self.connected and self.member.standing().pending == 0

    # What Docker asks.

    async def call(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Errors: Refused."""
        answer = await self.routes.answer(f"/{verb}", json.dumps(body).encode())
        reply: dict[str, Any] = json.loads(answer.body)
        if answer.status != 200:
            raise Refused(reply["Err"])
        return reply

    async def create(
        self,
        name: str = "blue",
        *subnets: str,
        options: Mapping[str, str] | None = None,
        internal: bool = False,
        auxiliary: Sequence[str] = (),
    ) -> None:
        """`docker network create`. Errors: Refused; then Docker has given back what it asked for."""
        pools: list[str] = []
        gateways: list[str] = []
        identity = self.identity()
        try:
            for subnet in subnets or (SUBNET,):
                pools.append((await self.call("IpamDriver.RequestPool", request_pool(subnet)))["PoolID"])
                if not internal:
                    asked = request_address(pools[-1], "", GATEWAY)
                    gateways.append((await self.call("IpamDriver.RequestAddress", asked))["Address"])
            for address in auxiliary:
                await self.call("IpamDriver.RequestAddress", request_address(pools[0], address))
            both = [f"{one} {gateway}" for one, gateway in zip(subnets or (SUBNET,), gateways, strict=not internal)]
            body = create_network(
                identity, *(both or subnets or (SUBNET,)), internal=internal, options={**OVERLAY, **(options or {})}
            )
            if auxiliary:
                length = (subnets or (SUBNET,))[0].partition("/")[2]
                body["IPv4Data"][0]["AuxAddresses"] = {one: f"{one}/{length}" for one in auxiliary}
            await self.call("NetworkDriver.CreateNetwork", body)
        except Refused:
            await self._release(pools, gateways, auxiliary)
            raise
        self.networks[name] = identity, pools, [*gateways, *auxiliary]

    async def remove(self, name: str = "blue") -> None:
        """`docker network rm`."""
        identity, pools, addresses = self.networks.pop(name)
        await self._release(pools, addresses)
        await self.call("NetworkDriver.DeleteNetwork", on_network(identity))

    async def _release(self, pools: Sequence[str], *addresses: Sequence[str]) -> None:
        for pool in pools:
            for address in (one.partition("/")[0] for some in addresses for one in some):
                if (":" in address) == (":" in pool):
                    await self.call("IpamDriver.ReleaseAddress", {"PoolID": pool, "Address": address})
            await self.call("IpamDriver.ReleasePool", {"PoolID": pool})

    async def run(self, container: str, ip: str = "", network: str = "blue", mac: str = "") -> str:
        """`docker run`; its address. Errors: Refused; then nothing of it is left."""
        identity, pools, _ = self.networks[network]
        asked = request_address(pools[0], ip, named(container))
        given = str((await self.call("IpamDriver.RequestAddress", asked))["Address"])
        address = given.partition("/")[0]
        endpoint = self.identity()
        families = ("", given) if ":" in given else (given, "")
        try:
            body = create_endpoint(endpoint, *families, network=identity, mac=mac)
            await self.call("NetworkDriver.CreateEndpoint", body)
            await self.call("NetworkDriver.Join", join(endpoint, identity))
        except Refused:
            await self.call("NetworkDriver.DeleteEndpoint", on_endpoint(endpoint, identity))
            await self.call("IpamDriver.ReleaseAddress", {"PoolID": pools[0], "Address": address})
            raise
        self.containers[container] = address, endpoint, network
        return address

    async def kill(self, container: str) -> None:
        """`docker rm -f`."""
        address, endpoint, network = self.containers.pop(container)
        identity, pools, _ = self.networks[network]
        await self.call("NetworkDriver.Leave", on_endpoint(endpoint, identity))
        await self.call("NetworkDriver.DeleteEndpoint", on_endpoint(endpoint, identity))
        await self.call("IpamDriver.ReleaseAddress", {"PoolID": pools[0], "Address": address})

    def identity(self) -> str:
        self._made += 1
        return hashlib.sha256(f"{self.name} {self._made}".encode()).hexdigest()

    # What is seen.

    def promised(self, name: str = "blue") -> Network:
        return self.store.promises.networks[NetworkID(self.networks[name][0])]

    @property
    def blocks(self) -> list[str]:
        return sorted(str(one.network) for one in self.store.promises.blocks.values())

    @property
    def neighbours(self) -> set[str]:
        """The addresses to which rows of ours lead."""
        return {str(one.address) for one in self.kernel.objects.values() if isinstance(one, Neigh)}

    @property
    def own(self) -> set[str]:
        return {str(one.ip) for network in self.store.promises.networks.values() for one in network.host_addresses}

    @property
    def running(self) -> set[str]:
        return {address for address, _, _ in self.containers.values()}


async def until(holds: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110  # many things, that tell nobody
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"waited {PATIENCE_S:g} s for {what}") from None


async def quiet(*sites: Site) -> None:
    """Each host has told all, and has rows to all that the others have."""

    def amiss() -> list[str]:
        found = [f"{site.name} has something to tell" for site in sites if not site.settled]
        for site in (one for one in sites if one.networks):
            theirs = {address for other in sites if other is not site for address in other.running | other.own}
            found += [f"{site.name} has no way to {one}" for one in theirs - site.neighbours]
            found += [f"{site.name} has a way to {one}" for one in site.neighbours - theirs]
        return found

    try:
        await until(lambda: not amiss(), "the hosts to agree")
    except AssertionError as error:
        raise AssertionError(f"{error}: {', '.join(amiss())}") from None


@asynccontextmanager
async def open_fleet(*names: str, cluster: FakeCluster | None = None) -> AsyncIterator[list[Site]]:
    """Hosts of one cluster, all in it."""
    cluster = cluster or FakeCluster()
    async with AsyncExitStack() as leaving:
        folder = leaving.enter_context(quick_folder())
        sites = [Site(name, number, folder, cluster) for number, name in enumerate(names, 1)]
        for site in sites:
            await site.start()
        try:
            yield sites
        finally:
            for site in sites:
                await site.stop()
