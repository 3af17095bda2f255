"""The engine's HTTP API over its unix socket."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from mdnp.engine import (
    EngineRefused,
    EngineUnavailable,
    Happening,
    ListedEndpoint,
    ListedNetwork,
    ListedPool,
    Listing,
    RunningContainer,
    Subject,
    WantedNetwork,
    WantedPool,
)
from mdnp.engine.events import EVENTS, Lines, happening
from mdnp.model.names import Names
from mdnp.model.network import IPAddress, IPNetwork

Body = TypeVar("Body")

# A listing of a thousand containers takes the engine some seconds; nobody waits for it.
LIMIT_S = 30.0

_SERVICE = "com.docker.compose.service"  # Compose's label

_ENDLESS = aiohttp.ClientTimeout(total=None, sock_connect=1)
_OK, _CREATED, _NO_CONTENT, _NOT_FOUND = 200, 201, 204, 404
_NO_ANSWER = (aiohttp.ClientError, OSError, ValueError)
_UNREADABLE = (ValueError, RecursionError)  # no UTF-8, or nests too deep


class IpamConfig(msgspec.Struct):
    Subnet: str = ""
    IPRange: str = ""
    Gateway: str = ""
    AuxiliaryAddresses: dict[str, str] | None = None


class NetworkIpam(msgspec.Struct):
    Driver: str = ""
    Config: list[IpamConfig] | None = None


class DockerNetwork(msgspec.Struct):
    Id: str = ""
    Name: str = ""
    Driver: str = ""
    Internal: bool = False
    Options: dict[str, str] | None = None
    IPAM: NetworkIpam | None = None
    Labels: dict[str, str] | None = None


class Attached(msgspec.Struct):
    NetworkID: str = ""
    EndpointID: str = ""
    IPAddress: str = ""
    IPPrefixLen: int = 0
    GlobalIPv6Address: str = ""
    GlobalIPv6PrefixLen: int = 0
    MacAddress: str = ""
    Aliases: list[str] | None = None
    DNSNames: list[str] | None = None  # since 25


class Settings(msgspec.Struct):
    Networks: dict[str, Attached | None] | None = None


class Version(msgspec.Struct):
    Version: str = ""


class Container(msgspec.Struct):
    Id: str = ""
    Names: list[str] | None = None
    NetworkSettings: Settings | None = None


class RunState(msgspec.Struct):
    Running: bool = False


class ContainerConfig(msgspec.Struct):
    Hostname: str = ""
    Labels: dict[str, str] | None = None


class InspectedContainer(msgspec.Struct):
    Name: str = ""
    State: RunState | None = None
    Config: ContainerConfig | None = None
    NetworkSettings: Settings | None = None


class DriverNames(msgspec.Struct):
    Network: list[str] | None = None


class Info(msgspec.Struct):
    Plugins: DriverNames | None = None


class Made(msgspec.Struct):
    Id: str = ""


class Complaint(msgspec.Struct):
    message: str = ""


class DockerEngine:
    """Asks without a version in the path: the engine then speaks its newest; what is read here is in all of them."""

    def __init__(self, socket: Path, limit_s: float = LIMIT_S) -> None:
        self._socket = socket
        self._limit = aiohttp.ClientTimeout(total=limit_s, sock_connect=1)
        self._session: aiohttp.ClientSession | None = None

    async def list(self) -> Listing:
        networks = await self._get("/networks", list[DockerNetwork])
        containers = await self._get("/containers/json?all=true", list[Container])
        listed = {one.Id: _network(one) for one in networks}
        pools = [pool for one in listed.values() for pool in one.pools]
        addresses = {address: "" for pool in pools for address in (pool.gateway, *pool.auxiliary) if address}
        endpoints: dict[str, ListedEndpoint] = {}
        for container in containers:
            name = _name(container)
            for one in _attached(container.NetworkSettings):
                endpoint = _endpoint(one, name)
                addresses |= {address.ip: name for address in endpoint.addresses}
                if endpoint.id:
                    endpoints[endpoint.id] = endpoint
        return Listing(frozenset(pool.subnet for pool in pools), addresses, endpoints, listed)

    async def version(self) -> str:
        return (await self._get("/version", Version)).Version

    async def networks(self) -> Sequence[ListedNetwork]:
        return [_network(one) for one in await self._get("/networks", list[DockerNetwork])]

    async def drivers(self) -> Sequence[str]:
        plugins = (await self._get("/info", Info)).Plugins
        return (plugins.Network if plugins else None) or ()

    async def make(self, wanted: WantedNetwork) -> str:
        status, body = await self._ask("POST", "/networks/create", _body(wanted))
        if status != _CREATED:
            raise EngineRefused(_complaint(status, body))
        return self._read(body, Made).Id

    async def remove(self, identity: str) -> None:
        status, body = await self._ask("DELETE", f"/networks/{quote(identity, safe='')}")
        if status not in (_OK, _NO_CONTENT, _NOT_FOUND):
            raise EngineRefused(_complaint(status, body))

    async def network_names(self) -> Mapping[str, str]:
        return {one.id: one.name for one in await self.networks()}

    async def running(self) -> Sequence[RunningContainer]:
        containers = await self._get("/containers/json", list[Container])
        return [
            RunningContainer(
                one.Id,
                _name(one),
                frozenset(attached.EndpointID for attached in _attached(one.NetworkSettings) if attached.EndpointID),
            )
            for one in containers
        ]

    async def names_of(self, container: str) -> Mapping[str, Names]:
        path = f"/containers/{quote(container, safe='')}/json"
        status, body = await self._ask("GET", path)
        if status == _NOT_FOUND:
            return {}
        if status != _OK:
            raise EngineUnavailable(f"Docker answers {status} to {path}")
        return _names(self._read(body, InspectedContainer))

    async def happenings(self) -> AsyncGenerator[Happening, None]:
        answer = await self._listen()
        try:
            yield Happening(Subject.ALL)
            lines = Lines()
            async for part in answer.content.iter_any():
                for line in lines.cut(part):
                    if (one := happening(line)) is not None:
                        yield one
        except _NO_ANSWER as error:
            raise self._unavailable(error) from error
        finally:
            answer.close()
        raise EngineUnavailable(f"Docker at {self._socket} tells no more what happens")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _get(self, path: str, kind: type[Body]) -> Body:
        status, body = await self._ask("GET", path)
        if status != _OK:
            raise EngineUnavailable(f"Docker answers {status} to {path}")
        return self._read(body, kind)

    def _read(self, body: bytes, kind: type[Body]) -> Body:
        try:
            return msgspec.json.decode(body, type=kind)
        except _UNREADABLE as error:
            raise self._unavailable(error) from error

    async def _ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        try:
            async with self._opened().request(method, f"http://docker{path}", json=body) as answer:
                return answer.status, await answer.read()
        except _NO_ANSWER as error:
            raise self._unavailable(error) from error

    async def _listen(self) -> aiohttp.ClientResponse:
        """The events, of which the head comes at once and the rest when it happens."""
        try:
            async with asyncio.timeout(self._limit.total):
                answer = await self._opened().get(f"http://docker{EVENTS}", timeout=_ENDLESS)
        except (*_NO_ANSWER, TimeoutError) as error:
            raise self._unavailable(error) from error
        if answer.status != _OK:
            answer.close()
            raise EngineUnavailable(f"Docker answers {answer.status} to {EVENTS}")
        return answer

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.UnixConnector(str(self._socket))
            self._session = aiohttp.ClientSession(connector=connector, timeout=self._limit)
        return self._session

    def _unavailable(self, error: Exception) -> EngineUnavailable:
        return EngineUnavailable(f"Docker cannot be asked at {self._socket}: {error}")


def _body(wanted: WantedNetwork) -> Mapping[str, Any]:
    """
    Of /networks/create. Engines before 25 refuse a name that is taken only if they are told to, those from 28 on leave
    out IPv4 only if they are told to; others pass over what they do not know.
    """
    versions = {6 if ":" in one.subnet else 4 for one in wanted.pools}
    return {
        "Name": wanted.name,
        "CheckDuplicate": True,
        "Driver": wanted.driver,
        "Internal": wanted.internal,
        "EnableIPv4": 4 in versions,
        "EnableIPv6": 6 in versions,
        "IPAM": {"Driver": wanted.driver, "Config": [_pool_body(one) for one in wanted.pools]},
        "Options": dict(wanted.options),
        "Labels": dict(wanted.labels),
    }


def _pool_body(one: WantedPool) -> Mapping[str, Any]:
    said = {
        "Subnet": one.subnet,
        "IPRange": one.sub_pool,
        "Gateway": one.gateway,
        "AuxiliaryAddresses": dict(one.auxiliary),
    }
    return {key: value for key, value in said.items() if value}


def _complaint(status: int, body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=Complaint).message.strip() or f"Docker answers {status}"
    except _UNREADABLE:
        return f"Docker answers {status}"


def _network(network: DockerNetwork) -> ListedNetwork:
    ipam = network.IPAM or NetworkIpam()
    pools = (pool for config in ipam.Config or () if (pool := _pool(config)))
    return ListedNetwork(
        network.Id,
        network.Driver,
        ipam.Driver,
        network.Internal,
        network.Options or {},
        tuple(pools),
        network.Name,
        network.Labels or {},
    )


def _pool(config: IpamConfig) -> ListedPool | None:
    """None for what is no subnet; of the rest what cannot be read is left out."""
    subnets = list(_networks(config.Subnet))
    if not subnets:
        return None
    return ListedPool(
        subnets[0],
        next(_networks(config.IPRange), None),
        next(_addresses(config.Gateway), None),
        tuple(_addresses(*(config.AuxiliaryAddresses or {}).values())),
    )


def _name(container: Container) -> str:
    return (container.Names or [""])[0].removeprefix("/")


def _attached(settings: Settings | None) -> list[Attached]:
    networks = (settings.Networks if settings else None) or {}
    return [one for one in networks.values() if one is not None]


def _names(container: InspectedContainer) -> dict[str, Names]:
    """An engine that was killed remembers endpoints of containers that do not run (seen on 20.10)."""
    if container.State is None or not container.State.Running:
        return {}
    name, config = container.Name.removeprefix("/"), container.Config or ContainerConfig()
    service = (config.Labels or {}).get(_SERVICE, "")
    return {
        one.EndpointID: Names(
            name,
            tuple(dict.fromkeys(other for other in (*(one.Aliases or ()), *(one.DNSNames or ())) if other != name)),
            config.Hostname,
            service,
        )
        for one in _attached(container.NetworkSettings)
        if one.EndpointID
    }


def _endpoint(one: Attached, container: str) -> ListedEndpoint:
    addresses = (
        ip_interface(f"{address}/{prefix if 0 < prefix <= address.max_prefixlen else address.max_prefixlen}")
        for text, prefix in ((one.IPAddress, one.IPPrefixLen), (one.GlobalIPv6Address, one.GlobalIPv6PrefixLen))
        for address in _addresses(text)
    )
    return ListedEndpoint(one.EndpointID, one.NetworkID, container, one.MacAddress, tuple(addresses))


def _networks(text: str) -> Iterator[IPNetwork]:
    with contextlib.suppress(ValueError):
        yield ip_network(text, strict=False)


def _addresses(*texts: str) -> Iterator[IPAddress]:
    for text in texts:
        with contextlib.suppress(ValueError):
            yield ip_address(text.partition("/")[0])
