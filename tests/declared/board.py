"""A board in memory that several hosts share, and a Docker that makes networks."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mdnp.cluster import ClusterUnavailable
from mdnp.engine import EngineRefused, EngineUnavailable, ListedNetwork, ListedPool, WantedNetwork
from mdnp.model.errors import Conflict
from mdnp.model.host import HostID


@dataclass
class Wall:
    """What all hosts see."""

    notices: dict[str, str] = field(default_factory=dict)
    reports: dict[str, dict[HostID, str]] = field(default_factory=dict)


class FakeBoard:
    """One host's sight of the wall, while it is `connected`."""

    def __init__(self, wall: Wall, host: str) -> None:
        self.wall = wall
        self.connected = True
        self.writes = 0
        self.told = asyncio.Event()
        self.host = HostID(host)

    @property
    def notices(self) -> Mapping[str, str]:
        return self.wall.notices

    def reports(self, name: str) -> Mapping[HostID, str]:
        return self.wall.reports.get(name, {})

    async def post(self, name: str, text: str, instead_of: str | None) -> None:
        self._write()
        if self.wall.notices.get(name) != instead_of:
            raise Conflict(f"network {name} was just declared otherwise: look again")
        self.wall.notices[name] = text

    async def report(self, name: str, text: str) -> None:
        self._write()
        self.wall.reports.setdefault(name, {})[self.host] = text
        self.told.set()

    def _write(self) -> None:
        if not self.connected:
            raise ClusterUnavailable("no etcd answers")
        self.writes += 1


class FakeMaker:
    """`busy` are the names of networks with containers on them; `refuses` says why none can be made."""

    def __init__(self) -> None:
        self.there: dict[str, ListedNetwork] = {}
        self.busy: set[str] = set()
        self.refuses = ""
        self.away = False
        self.made: list[WantedNetwork] = []
        self.removed: list[str] = []

    async def networks(self) -> Sequence[ListedNetwork]:
        if self.away:
            raise EngineUnavailable("Docker cannot be asked: it does not run")
        return list(self.there.values())

    async def make(self, wanted: WantedNetwork) -> str:
        if self.refuses:
            raise EngineRefused(self.refuses)
        if any(one.name == wanted.name for one in self.there.values()):
            raise EngineRefused(f"network with name {wanted.name} already exists")
        self.made.append(wanted)
        identity = f"{len(self.made):064x}"
        self.there[identity] = listed(wanted, identity)
        return identity

    async def remove(self, identity: str) -> None:
        network = self.there.get(identity)
        if network is None:
            return
        if network.name in self.busy:
            raise EngineRefused(f"error while removing network: network {network.name} has active endpoints")
        self.removed.append(network.name)
        del self.there[identity]

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.there.values()]


def listed(wanted: WantedNetwork, identity: str) -> ListedNetwork:
    """As Docker lists what it made."""
    return ListedNetwork(
        id=identity,
        driver=wanted.driver,
        ipam_driver=wanted.driver,
        internal=wanted.internal,
        options=wanted.options,
        pools=tuple(
            ListedPool(one.subnet, one.sub_pool, one.gateway, tuple(one.auxiliary.values())) for one in wanted.pools
        ),
        name=wanted.name,
        labels=wanted.labels,
    )
