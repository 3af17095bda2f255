"""The operator's paths: GET looks, POST mends."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from mdnp.admin import views
from mdnp.engine import EngineUnavailable
from mdnp.ipam.collector import Collector
from mdnp.ipam.driver import IpamDriver
from mdnp.model.errors import KernelError, MdnpError, StoreUnavailable
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Store

CONTENT_TYPE = "application/json"


class Admin:
    """`version` and `settings` are the facts of this process, its effective settings as text."""

    def __init__(
        self,
        *,
        store: Store,
        reconciler: Reconciler,
        ipam: IpamDriver,
        collector: Collector,
        version: str,
        settings: Mapping[str, str],
    ) -> None:
        self._store = store
        self._reconciler = reconciler
        self._ipam = ipam
        self._collector = collector
        self._version = version
        self._settings = settings
        self._started = time.monotonic()

    async def answer(self, method: str, path: str) -> tuple[int, bytes]:
        """
        `path` is /NOUN or /NOUN/NAME. 200 with the view; otherwise {"error": …}: 404 for what is not there, 500 when
        the kernel cannot be read, 503 for what cannot be done now.
        """
        noun, slash, name = path.removeprefix("/").partition("/")
        try:
            view = self._nouns[method, noun, bool(slash)]
        except KeyError:
            return 404, _json({"error": f"no such path: {method[:8]} {path[:80]}"})
        try:
            return 200, _json(await view(self, name))
        except MdnpError as error:
            return _status_of(error), _json({"error": str(error)})

    async def _status(self, _name: str) -> views.View:
        difference = await self._reconciler.compare()
        counts = self._ipam.counts()
        return views.status(self._store.promises, difference, counts, self._version, time.monotonic() - self._started)

    async def _networks(self, _name: str) -> list[views.View]:
        return views.networks(self._store.promises)

    async def _network(self, name: str) -> views.View:
        return views.network_detail(views.find_network(self._store.promises, name), self._store.promises)

    async def _endpoints(self, _name: str) -> list[views.View]:
        return views.endpoints(self._store.promises)

    async def _endpoint(self, name: str) -> views.View:
        endpoint = views.find_endpoint(self._store.promises, name)
        return views.endpoint_detail(endpoint, self._store.promises, await self._reconciler.compare())

    async def _pools(self, _name: str) -> list[views.View]:
        return views.pools(self._store.promises, self._ipam.counts())

    async def _pool(self, name: str) -> views.View:
        promise = views.find_pool(self._store.promises, name)
        held = self._ipam.allocations()[promise.id]
        counts = self._ipam.counts()[promise.id]
        return views.pool_detail(promise, counts, held, self._store.promises, self._collector.names)

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

    _nouns: Mapping[tuple[str, str, bool], Callable[["Admin", str], Awaitable[Any]]] = {
        ("GET", "status", False): _status,
        ("GET", "network", False): _networks,
        ("GET", "network", True): _network,
        ("GET", "endpoint", False): _endpoints,
        ("GET", "endpoint", True): _endpoint,
        ("GET", "pool", False): _pools,
        ("GET", "pool", True): _pool,
        ("GET", "history", True): _history,
        ("GET", "gc", False): _orphans,
        ("POST", "gc", False): _collect,
        ("GET", "config", False): _config,
        ("GET", "version", False): _about,
    }


def _status_of(error: MdnpError) -> int:
    if isinstance(error, KernelError):
        return 500
    return 503 if isinstance(error, EngineUnavailable | StoreUnavailable) else 404


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
