"""The verbs of IpamDriver: what is read from each body, and what is answered."""

from collections.abc import Mapping

from mdnp.ipam.driver import IpamDriver
from mdnp.model.errors import InvalidParameter
from mdnp.model.pool import Pool, PoolID, parse_address, parse_pool
from mdnp.wire import messages
from mdnp.wire.verbs import Reply, Verb

INTERFACE = "IpamDriver"

LOCAL_SPACE = "mdnp-local"
_GLOBAL_SPACE = "mdnp-global"
_REQUEST_TYPE = "RequestAddressType"
_GATEWAY = "com.docker.network.gateway"
_ENDPOINT_NAME = "com.docker.network.endpoint.name"


class IpamVerbs:
    def __init__(self, driver: IpamDriver) -> None:
        self._driver = driver

    def verbs(self) -> Mapping[str, Verb]:
        return {
            "GetCapabilities": Verb(None, self._capabilities),
            "GetDefaultAddressSpaces": Verb(None, self._spaces),
            "RequestPool": Verb(messages.RequestPool, self._request_pool),
            "ReleasePool": Verb(messages.OnPool, self._release_pool),
            "RequestAddress": Verb(messages.RequestAddress, self._request_address),
            "ReleaseAddress": Verb(messages.OnAddress, self._release_address),
        }

    async def _capabilities(self, _body: None) -> Reply:
        # No replay: what was given out is on our disk, and a replayed request could not be told from a new one.
        return {"RequiresMACAddress": False, "RequiresRequestReplay": False}

    async def _spaces(self, _body: None) -> Reply:
        return {"LocalDefaultAddressSpace": LOCAL_SPACE, "GlobalDefaultAddressSpace": _GLOBAL_SPACE}

    async def _request_pool(self, body: messages.RequestPool) -> Reply:
        _check_options(body.Options)
        promise = await self._driver.request_pool(body.AddressSpace or LOCAL_SPACE, _asked_pool(body), body.V6)
        return {"PoolID": promise.id, "Pool": str(promise.pool.network), "Data": {}}

    async def _release_pool(self, body: messages.OnPool) -> Reply:
        await self._driver.release_pool(PoolID(body.PoolID))
        return {}

    async def _request_address(self, body: messages.RequestAddress) -> Reply:
        identity, options = PoolID(body.PoolID), body.Options or {}
        asked = parse_address(body.Address, self._driver.pool(identity)) if body.Address else None
        if options.get(_REQUEST_TYPE) == _GATEWAY:
            address = await self._driver.request_gateway(identity, asked)
        else:
            address = await self._driver.request_address(identity, asked, options.get(_ENDPOINT_NAME, ""))
        return {"Address": address, "Data": {}}

    async def _release_address(self, body: messages.OnAddress) -> Reply:
        identity = PoolID(body.PoolID)
        if self._driver.knows(identity):
            await self._driver.release_address(identity, parse_address(body.Address, self._driver.pool(identity)))
        return {}


def _asked_pool(body: messages.RequestPool) -> Pool | None:
    if body.Pool:
        return parse_pool(body.Pool, body.SubPool, v6=body.V6)
    if body.SubPool:
        raise InvalidParameter(f"SubPool {body.SubPool[:80]}: a part of which pool? give --subnet with --ip-range")
    return None


def _check_options(options: Mapping[str, str] | None) -> None:
    """What users write with `--ipam-opt`; the engine's own keys pass."""
    unknown = [key for key in options or () if not key.startswith("com.docker.network.")]
    if unknown:
        raise InvalidParameter(f"unknown option {unknown[0][:120]}: mdnp's IPAM has none; leave --ipam-opt out")
