"""
What Docker's engine says of itself over its API, asked outside of plugin calls and only if it is there; what it calls
things; and the networks that it is told to make.

Never inside a call: the engine holds locks while it waits for us, and would wait for itself.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mdnp.model.errors import MdnpError
from mdnp.model.names import Names
from mdnp.model.network import IPAddress, IPInterface, IPNetwork


class EngineUnavailable(MdnpError):
    """Docker cannot be asked now."""


class EngineRefused(MdnpError):
    """Docker will not do it, and says why in its own words."""


@dataclass(frozen=True)
class ListedPool:
    """Of a network. The gateway is not listed where we chose it."""

    subnet: IPNetwork
    sub_pool: IPNetwork | None = None
    gateway: IPAddress | None = None
    auxiliary: tuple[IPAddress, ...] = ()


@dataclass(frozen=True)
class ListedNetwork:
    id: str
    driver: str = ""
    ipam_driver: str = ""
    internal: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    pools: tuple[ListedPool, ...] = ()
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WantedPool:
    """Of a network to make, in texts as Docker reads them; what is empty was not asked for."""

    subnet: str
    sub_pool: str = ""
    gateway: str = ""
    auxiliary: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WantedNetwork:
    """A network to make; `driver` has its addresses too."""

    name: str
    driver: str
    pools: tuple[WantedPool, ...]
    internal: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ListedEndpoint:
    """One that a container has now; `container` is its name."""

    id: str
    network: str = ""
    container: str = ""
    mac: str = ""
    addresses: tuple[IPInterface, ...] = ()


@dataclass(frozen=True)
class Listing:
    """
    The subnets of all Docker networks, of every driver, and all addresses that networks and containers have: gateways,
    auxiliary ones, endpoints' with the container's name ("" for the others). Networks and endpoints by id.
    """

    subnets: frozenset[IPNetwork]
    addresses: Mapping[IPAddress, str]
    endpoints: Mapping[str, ListedEndpoint] = field(default_factory=dict)
    networks: Mapping[str, ListedNetwork] = field(default_factory=dict)


class Engine(Protocol):
    """Errors: EngineUnavailable, in a second at most when nobody answers."""

    async def list(self) -> Listing: ...

    async def version(self) -> str:
        """Of the engine, as "28.5.2". Quick, however many containers there are."""

    async def close(self) -> None: ...


class NetworkMaker(Protocol):
    """Errors of all: EngineUnavailable. Never inside a plugin call, of which these make some."""

    async def networks(self) -> Sequence[ListedNetwork]:
        """Those of every driver; what Docker made twice under one name stands there twice."""

    async def drivers(self) -> Sequence[str]:
        """The names of network drivers. Those of plugins that the engine runs itself have a tag, as mdnp:latest."""

    async def make(self, wanted: WantedNetwork) -> str:
        """Its id. Errors: EngineRefused, also when Docker has a network of that name."""

    async def remove(self, identity: str) -> None:
        """One that is not there is no error. Errors: EngineRefused, also while containers are on it."""


@dataclass(frozen=True)
class RunningContainer:
    """`endpoints` are the ids of those that it has."""

    id: str
    name: str
    endpoints: frozenset[str]


class Subject(StrEnum):
    """What is to be looked at anew."""

    ALL = "all"  # we hear what happens only from now on
    NETWORKS = "networks"
    CONTAINER = "container"
    GONE = "gone"  # the container, which does not run any more


@dataclass(frozen=True)
class Happening:
    """Something after which things may be called otherwise. `container` is an id."""

    subject: Subject
    container: str = ""


class NameSource(Protocol):
    """
    What Docker calls things. Errors of all: EngineUnavailable.

    Never inside a plugin call. Who asks while a container is started waits until it has started (seen on 20.10 and
    28.5): the engine locks it meanwhile, and calls us.
    """

    async def network_names(self) -> Mapping[str, str]:
        """Those of all networks, by id."""

    async def running(self) -> Sequence[RunningContainer]: ...

    async def names_of(self, container: str) -> Mapping[str, Names]:
        """By each endpoint that a container has. One that does not run, or is not there, has none."""

    def happenings(self) -> AsyncGenerator[Happening, None]:
        """First ALL, then what happens. It ends with EngineUnavailable, and no other way."""


class Docker(NetworkMaker, NameSource, Protocol):
    """All that is asked of Docker besides listings."""
