"""IpamDriver as the daemon builds it, over bytes, on the real store; kernel, clock and full disks are a test's."""

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from mdnp.driver.network import NetworkDriver
from mdnp.ipam.allocator import Counts
from mdnp.ipam.driver import IpamDriver
from mdnp.kernel import Route, Surroundings
from mdnp.kernel.fake import FakeKernel
from mdnp.model.allocation import Allocation
from mdnp.model.errors import StoreUnavailable
from mdnp.model.pool import PoolID
from mdnp.model.supernet import Supernet, parse_supernet
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Change
from mdnp.store.sqlite import FILE, SqliteStore
from mdnp.wire.ipam import IpamVerbs
from mdnp.wire.network import NetworkVerbs
from mdnp.wire.routes import Routes
from mdnp.wire.verbs import Answer
from tests.world import Clock, TestedStore

Body = Mapping[str, Any]
State = tuple[tuple[str, ...], Mapping[PoolID, Sequence[Allocation]], Mapping[PoolID, Counts]]

GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}
SUPERNETS = ("base=10.0.0.0/16,size=18", "base=fd00:7::/62,size=64")


class BrittleStore(TestedStore):
    """`breaks` says which commits fail."""

    __test__ = False

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store)
        self.breaks: Callable[[Sequence[Change]], bool] = lambda _changes: False

    async def commit(self, *changes: Change) -> None:
        if self.breaks(changes):
            raise StoreUnavailable("cannot write the state: disk I/O error; nothing was changed")
        await super().commit(*changes)


class House:
    """Made by `open_house`."""

    def __init__(self, folder: Path, kernel: FakeKernel, supernets: Sequence[Supernet], clock: Clock) -> None:
        self.folder = folder
        self.kernel = kernel
        self.clock = clock
        self._supernets = supernets
        self.store: BrittleStore
        self.ipam: IpamDriver
        self.routes: Routes

    async def start(self) -> None:
        self.store = BrittleStore(await SqliteStore.open(self.folder))
        self.ipam = await IpamDriver.open(self.store, self.kernel, self._supernets, self.clock)
        reconciler = Reconciler(self.store, self.kernel, 3600)
        network = NetworkDriver(self.store, self.kernel, reconciler, self.clock)
        interfaces = {"NetworkDriver": NetworkVerbs(network).verbs(), "IpamDriver": IpamVerbs(self.ipam).verbs()}
        self.routes = Routes(interfaces, activated=lambda: None)

    async def restart(self) -> None:
        """The daemon stops and starts: only what is on disk goes on."""
        await self.store.close()
        await self.start()

    async def call(self, verb: str, body: Body | bytes = b"", interface: str = "IpamDriver") -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.routes.answer(f"/{interface}.{verb}", data)

    async def ok(self, verb: str, body: Body | bytes = b"", interface: str = "IpamDriver") -> dict[str, Any]:
        """The reply to a call that must succeed."""
        answer = await self.call(verb, body, interface)
        reply: dict[str, Any] = json.loads(answer.body)
        assert answer.status == 200, f"{verb}: {reply}"
        assert not {"Err", "Error"} & set(reply)
        return reply

    async def refused(self, verb: str, body: Body | bytes = b"") -> tuple[int, str]:
        """Status and text of a call that must fail: the text in the form of both kinds of drivers, nothing changed."""
        before = self.state
        answer = await self.call(verb, body)
        reply = json.loads(answer.body)
        assert answer.status != 200, f"{verb}: {reply}"
        assert reply == {"Err": reply["Err"], "Error": reply["Err"]}
        assert self.state == before
        return answer.status, reply["Err"]

    async def pool(self, network: str = "10.1.0.0/24", sub_pool: str = "", *, v6: bool = False) -> str:
        return str((await self.ok("RequestPool", request_pool(network, sub_pool, v6=v6)))["PoolID"])

    async def gateway(self, pool: str, address: str = "") -> str:
        return str((await self.ok("RequestAddress", request_address(pool, address, GATEWAY)))["Address"])

    async def address(self, pool: str, address: str = "", *, name: str = "") -> str:
        """For an endpoint. Without a name it is as from an engine before 29."""
        return str((await self.ok("RequestAddress", request_address(pool, address, named(name))))["Address"])

    async def release(self, pool: str, address: str) -> None:
        """`address` as it was answered, or bare."""
        await self.ok("ReleaseAddress", {"PoolID": pool, "Address": address.partition("/")[0]})

    async def release_pool(self, pool: str) -> None:
        await self.ok("ReleasePool", {"PoolID": pool})

    @property
    def rows(self) -> tuple[str, ...]:
        """All that is on disk, as another process reads it."""
        with closing(sqlite3.connect(f"file:{self.folder / FILE}?mode=ro", uri=True)) as connection:
            return tuple(connection.iterdump())

    @property
    def state(self) -> State:
        """All that is on disk and in memory, but for whose turn it is."""
        return self.rows, self.ipam.allocations(), self.ipam.counts()

    @property
    def held(self) -> dict[str, list[str]]:
        """The addresses that are held, by pool, in the order of their numbers."""
        return {
            pool: [str(address) for address in sorted((one.address for one in allocations), key=int)]
            for pool, allocations in self.ipam.allocations().items()
        }

    @property
    def holders(self) -> dict[str, int]:
        return {one.id: one.holders for one in self.store.promises.pools.values()}


@asynccontextmanager
async def open_house(
    folder: Path,
    *,
    surroundings: Surroundings | None = None,
    supernets: Sequence[str] = SUPERNETS,
    clock: Clock | None = None,
) -> AsyncIterator[House]:
    parsed = tuple(map(parse_supernet, supernets))
    house = House(folder, FakeKernel(surroundings), parsed, clock or Clock())
    await house.start()
    try:
        yield house
    finally:
        await house.store.close()


def request_pool(
    network: str = "", sub_pool: str = "", *, v6: bool = False, space: str = "mdnp-local", options: Any = None
) -> dict[str, Any]:
    return {"AddressSpace": space, "Pool": network, "SubPool": sub_pool, "Options": options, "V6": v6}


def request_address(pool: str, address: str = "", options: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"PoolID": pool, "Address": address, "Options": options}


def named(name: str) -> dict[str, str] | None:
    """The options with which an engine of 29 or later tells an endpoint's name; older ones send none."""
    return {"com.docker.network.endpoint.name": name} if name else None


def around(*routes: str, resolvers: Sequence[str] = ()) -> Surroundings:
    """A host with these routes over eth0 ("NETWORK" or "NETWORK via"), and these resolvers."""
    parsed = tuple(Route(ip_network(one.split()[0]), "eth0", one.endswith(" via")) for one in routes)
    return Surroundings(parsed, 1500, tuple(map(ip_network, resolvers)))
