"""The operator's paths, read only."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from mdnp.admin import views
from mdnp.model.errors import KernelError, MdnpError
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Store

CONTENT_TYPE = "application/json"


class Admin:
    """`version` and `settings` are the facts of this process, its effective settings as text."""

    def __init__(self, store: Store, reconciler: Reconciler, version: str, settings: Mapping[str, str]) -> None:
        self._store = store
        self._reconciler = reconciler
        self._version = version
        self._settings = settings
        self._started = time.monotonic()

    async def answer(self, path: str) -> tuple[int, bytes]:
        """`path` is /NOUN or /NOUN/NAME. 200 with the view, 404 with {"error": …}, 500 if the kernel cannot be read."""
        noun, _, name = path.strip("/").partition("/")
        try:
            view = self._nouns[noun, bool(name)]
        except KeyError:
            return 404, _json({"error": f"no such path: {path[:80]}"})
        try:
            return 200, _json(await view(self, name))
        except KernelError as error:
            return 500, _json({"error": str(error)})
        except MdnpError as error:
            return 404, _json({"error": str(error)})

    async def _status(self, _name: str) -> views.View:
        difference = await self._reconciler.compare()
        return views.status(self._store.promises, difference, self._version, time.monotonic() - self._started)

    async def _networks(self, _name: str) -> list[views.View]:
        return views.networks(self._store.promises)

    async def _network(self, name: str) -> views.View:
        return views.network_detail(views.find_network(self._store.promises, name), self._store.promises)

    async def _endpoints(self, _name: str) -> list[views.View]:
        return views.endpoints(self._store.promises)

    async def _endpoint(self, name: str) -> views.View:
        endpoint = views.find_endpoint(self._store.promises, name)
        return views.endpoint_detail(endpoint, self._store.promises, await self._reconciler.compare())

    async def _config(self, _name: str) -> Mapping[str, str]:
        return self._settings

    async def _about(self, _name: str) -> Mapping[str, str]:
        return {"version": self._version}

    _nouns: Mapping[tuple[str, bool], Callable[["Admin", str], Awaitable[Any]]] = {
        ("status", False): _status,
        ("network", False): _networks,
        ("network", True): _network,
        ("endpoint", False): _endpoints,
        ("endpoint", True): _endpoint,
        ("config", False): _config,
        ("version", False): _about,
    }


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
