"""The operator's paths: GET looks, POST mends or makes, DELETE removes."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from mdnp.admin import cluster as cluster_door
from mdnp.admin import views
from mdnp.admin.cluster import Cluster
from mdnp.admin.meter import Meter
from mdnp.cluster import ClusterUnavailable
from mdnp.dns.standing import Standing
from mdnp.engine import EngineUnavailable
from mdnp.engine.directory import Directory, Names
from mdnp.ipam.driver import IpamDriver
from mdnp.model.errors import KernelError, MdnpError, StoreUnavailable
from mdnp.orphans.collector import Collector
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Store

JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


Look = Callable[[], Awaitable[Answer]]


class Admin:
    """
    `version` and `settings` are the facts of this process, its effective settings as text; `looks` what else is shown,
    by path ("/metrics"); `cluster` is None where this host is in none; `naming` tells how it stands with names, None
    where there are none to answer.
    """

    def __init__(
        self,
        *,
        store: Store,
        reconciler: Reconciler,
        ipam: IpamDriver,
        collector: Collector,
        directory: Directory,
        meter: Meter,
        version: str,
        settings: Mapping[str, str],
        looks: Mapping[str, Look] | None = None,
        cluster: Cluster | None = None,
        naming: Callable[[], Standing | None] = lambda: None,
    ) -> None:
        self._store = store
        self._reconciler = reconciler
        self._ipam = ipam
        self._collector = collector
        self._directory = directory
        self._meter = meter
        self._version = version
        self._settings = settings
        self._looks = looks or {}
        self._in_cluster = cluster
        self._naming = naming
        self._started = time.monotonic()

    async def answer(self, method: str, path: str, body: bytes = b"") -> Answer:
        """
        `path` is /NOUN or /NOUN/NAME, or that of a look; `body` is JSON, where there is something to say. 200 with the
        view; otherwise {"error": …}: 404 for what is not there, 500 when the kernel cannot be read, 503 for what cannot
        be done now.
        """
        if method == "GET" and path in self._looks:
            return await self._looks[path]()
        noun, slash, name = path.removeprefix("/").partition("/")
        try:
            view = self._view(method, noun, bool(slash))
        except KeyError:
            return failure(404, f"no such path: {method[:8]} {path[:80]}")
        try:
            return Answer(200, _json(await view(name, body)))
        except MdnpError as error:
            return failure(_status_of(error), str(error))

    def _view(self, method: str, noun: str, named: bool) -> "Callable[[str, bytes], Awaitable[Any]]":
        """Errors: KeyError for a path that is none."""
        asked = (method, noun, named)
        if asked in self._of_cluster:
            return partial(self._of_cluster[asked], self)
        look = self._nouns[asked]
        return lambda name, _body: look(self, name)

    @property
    def _cluster(self) -> Cluster:
        if self._in_cluster is None:
            raise cluster_door.none()
        return self._in_cluster

    async def _names(self) -> Names:
        promises = self._store.promises
        return await self._directory.names(promises.networks, promises.endpoints)

    async def _status(self, _name: str) -> views.View:
        difference, _ = await self._reconciler.compare()
        facts = views.Facts(
            version=self._version,
            uptime_s=time.monotonic() - self._started,
            repaired=self._reconciler.repaired,
            trouble=self._reconciler.trouble,
            docker=await self._directory.health(),
            store_trouble=self._store.trouble,
            orphans=self._collector.left,
            cluster=self._in_cluster.facts if self._in_cluster else None,
            naming=self._naming(),
        )
        return views.status(self._store.promises, await self._names(), difference, self._ipam.counts(), facts)

    async def _repair(self, _name: str) -> views.View:
        return views.repair(await self._reconciler.repair())

    async def _networks(self, _name: str) -> list[views.View]:
        return views.networks(self._store.promises, await self._names())

    async def _network(self, name: str) -> views.View:
        names = await self._names()
        network = views.find_network(self._store.promises, names, name)
        flows = await self._meter.flows()
        if self._in_cluster is None:
            return views.network_detail(network, self._store.promises, names, flows)
        beyond, underlay = self._in_cluster.overlay(network), self._in_cluster.underlay(network)
        return views.network_detail(network, self._store.promises, names, flows, beyond=beyond, underlay=underlay)

    async def _endpoints(self, _name: str) -> list[views.View]:
        return views.endpoints(self._store.promises, await self._names())

    async def _endpoint(self, name: str) -> views.View:
        names = await self._names()
        endpoint = views.find_endpoint(self._store.promises, names, name)
        difference, actual = await self._reconciler.compare()
        flows = await self._meter.flows()
        return views.endpoint_detail(
            endpoint, self._store.promises, names, difference=difference, actual=actual, flows=flows
        )

    async def _ports(self, _name: str) -> list[views.View]:
        return views.ports(self._store.promises, await self._names())

    async def _pools(self, _name: str) -> list[views.View]:
        return views.pools(self._store.promises, self._ipam.counts())

    async def _pool(self, name: str) -> views.View:
        promise = views.find_pool(self._store.promises, name)
        held = self._ipam.allocations()[promise.id]
        counts = self._ipam.counts()[promise.id]
        return views.pool_detail(promise, counts, held, self._store.promises, await self._names())

    async def _history(self, name: str) -> list[views.View]:
        return views.history(await self._store.history(name))

    async def _orphans(self, _name: str) -> list[views.View]:
        return views.orphans(await self._collector.find())

    async def _collect(self, _name: str) -> list[views.View]:
        return views.orphans(await self._collector.collect())

    async def _config(self, _name: str) -> Mapping[str, str]:
        return self._settings

    async def _about(self, _name: str) -> Mapping[str, str]:
        return {"version": self._version}

    async def _hosts(self, _name: str) -> list[views.View]:
        return self._cluster.hosts()

    async def _host(self, name: str) -> views.View:
        return self._cluster.host(name)

    async def _remove_host(self, name: str, body: bytes) -> views.View:
        return await self._cluster.remove_host(name, body)

    async def _declared(self, name: str) -> list[views.View] | views.View:
        return self._cluster.network(name) if name else self._cluster.networks()

    async def _create(self, _name: str, body: bytes) -> views.View:
        return await self._cluster.create(body)

    async def _withdraw(self, name: str, _body: bytes) -> views.View:
        return await self._cluster.withdraw(name)

    _nouns: Mapping[tuple[str, str, bool], Callable[["Admin", str], Awaitable[Any]]] = {
        ("GET", "status", False): _status,
        ("GET", "network", False): _networks,
        ("GET", "network", True): _network,
        ("GET", "endpoint", False): _endpoints,
        ("GET", "endpoint", True): _endpoint,
        ("GET", "port", False): _ports,
        ("GET", "pool", False): _pools,
        ("GET", "pool", True): _pool,
        ("GET", "history", True): _history,
        ("GET", "gc", False): _orphans,
        ("POST", "gc", False): _collect,
        ("POST", "repair", False): _repair,
        ("GET", "config", False): _config,
        ("GET", "version", False): _about,
        ("GET", "host", False): _hosts,
        ("GET", "host", True): _host,
        ("GET", "declared", False): _declared,
        ("GET", "declared", True): _declared,
    }

    _of_cluster: Mapping[tuple[str, str, bool], Callable[["Admin", str, bytes], Awaitable[Any]]] = {
        ("DELETE", "host", True): _remove_host,
        ("POST", "network", False): _create,
        ("DELETE", "network", True): _withdraw,
    }


def failure(status: int, reason: str) -> Answer:
    return Answer(status, _json({"error": reason}))


def _status_of(error: MdnpError) -> int:
    if isinstance(error, KernelError):
        return 500
    return 503 if isinstance(error, EngineUnavailable | StoreUnavailable | ClusterUnavailable) else 404


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
