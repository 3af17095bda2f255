"""The engine's HTTP API over its unix socket."""

import contextlib
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from mdnp.engine import EngineUnavailable, Listing
from mdnp.model.network import IPAddress, IPNetwork

Body = TypeVar("Body")

# A listing of a thousand containers takes the engine some seconds; nobody waits for it.
LIMIT_S = 30.0

# The last two: a body that is no UTF-8, or nests too deep to be read.
_NO_ANSWER = (aiohttp.ClientError, OSError, ValueError, RecursionError)


class IpamConfig(msgspec.Struct):
    Subnet: str = ""
    Gateway: str = ""
    AuxiliaryAddresses: dict[str, str] | None = None


class NetworkIpam(msgspec.Struct):
    Config: list[IpamConfig] | None = None


class DockerNetwork(msgspec.Struct):
    IPAM: NetworkIpam | None = None


class Attached(msgspec.Struct):
    IPAddress: str = ""
    GlobalIPv6Address: str = ""


class Settings(msgspec.Struct):
    Networks: dict[str, Attached | None] | None = None


class Container(msgspec.Struct):
    Names: list[str] | None = None
    NetworkSettings: Settings | None = None


class DockerEngine:
    """Asks without a version in the path: the engine then speaks its newest; what is read here is in all of them."""

    def __init__(self, socket: Path, limit_s: float = LIMIT_S) -> None:
        self._socket = socket
        self._limit = aiohttp.ClientTimeout(total=limit_s, sock_connect=1)
        self._session: aiohttp.ClientSession | None = None

    async def list(self) -> Listing:
        networks = await self._get("/networks", list[DockerNetwork])
        containers = await self._get("/containers/json?all=true", list[Container])
        addresses = dict.fromkeys((address for one in networks for address in _of_network(one)), "")
        for container in containers:
            name = (container.Names or [""])[0].removeprefix("/")
            addresses |= dict.fromkeys(_of_container(container), name)
        return Listing(frozenset(subnet for one in networks for subnet in _subnets(one)), addresses)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _get(self, path: str, kind: type[Body]) -> Body:
        if self._session is None:
            connector = aiohttp.UnixConnector(str(self._socket))
            self._session = aiohttp.ClientSession(connector=connector, timeout=self._limit)
        try:
            async with self._session.get(f"http://docker{path}") as answer:
                body = await answer.read()
            if answer.status != 200:
                raise EngineUnavailable(f"Docker answers {answer.status} to {path}")
            return msgspec.json.decode(body, type=kind)
        except _NO_ANSWER as error:
            raise EngineUnavailable(f"Docker cannot be asked at {self._socket}: {error}") from error


def _subnets(network: DockerNetwork) -> Iterator[IPNetwork]:
    for config in _configs(network):
        with contextlib.suppress(ValueError):
            yield ip_network(config.Subnet, strict=False)


def _of_network(network: DockerNetwork) -> Iterator[IPAddress]:
    for config in _configs(network):
        yield from _parsed(config.Gateway, *(config.AuxiliaryAddresses or {}).values())


def _configs(network: DockerNetwork) -> list[IpamConfig]:
    return (network.IPAM.Config if network.IPAM else None) or []


def _of_container(container: Container) -> Iterator[IPAddress]:
    attached: Mapping[str, Any] = (container.NetworkSettings.Networks if container.NetworkSettings else None) or {}
    for one in attached.values():
        if one is not None:
            yield from _parsed(one.IPAddress, one.GlobalIPv6Address)


def _parsed(*texts: str) -> Iterator[IPAddress]:
    for text in texts:
        with contextlib.suppress(ValueError):
            yield ip_address(text.partition("/")[0])
