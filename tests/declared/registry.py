"""The operator's side of a member, in memory and shared by several hosts; and a Docker that makes networks."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from mdnp.cluster import ClusterUnavailable
from mdnp.engine import EngineRefused, EngineUnavailable, ListedNetwork, WantedNetwork
from mdnp.member import DeclaredNetwork, KnownHost, Liveness, Standing
from mdnp.model.errors import Conflict, NotFound
from mdnp.model.host import Host, HostID


def a_host(number: int, name: str = "") -> Host:
    """By its VTEP, 192.0.2.NUMBER."""
    return Host(HostID(f"{number:016x}"), name or f"host{number}", ip_address(f"192.0.2.{number}"))


def a_standing(*known: KnownHost, host: Host | None = None, **facts: object) -> Standing:
    """Of a host that is well, but for `facts`; of the first known one, if none is named."""
    ours = host or (known[0].host if known else a_host(1))
    well = Standing(
        host=ours.id,
        name=ours.name,
        vtep=ours.vtep,
        connected=True,
        trouble="",
        healthy_s=60.0,
        revision=100,
        epoch=1,
        waiting=(),
        pending=0,
        requests={},
        hosts=known or (KnownHost(ours, Liveness.ALIVE),),
        segments=(),
        remarks=(),
    )
    return replace(well, **facts)  # type: ignore[arg-type]  # each is a field of it


@dataclass
class Wall:
    """What stands in etcd."""

    epoch: int = 1
    declared: dict[str, DeclaredNetwork] = field(default_factory=dict)
    outcomes: dict[str, dict[HostID, str]] = field(default_factory=dict)

    def lose(self) -> None:
        """All data."""
        self.epoch += 1
        self.declared.clear()
        self.outcomes.clear()


class FakeRegistry:
    """One host's side of it. `facts` change how it stands in the cluster; `removed` are the hosts that it removed."""

    def __init__(self, wall: Wall | None = None, *known: KnownHost) -> None:
        self.wall = wall or Wall()
        self.known = known or (KnownHost(a_host(1), Liveness.ALIVE),)
        self.facts: dict[str, object] = {}
        self.removed: list[tuple[HostID, bool]] = []

    def standing(self) -> Standing:
        return replace(a_standing(*self.known, epoch=self.wall.epoch), **self.facts)  # type: ignore[arg-type]  # as above

    async def remove_host(self, host: HostID, *, force: bool = False) -> None:
        self._ask()
        found = next(one for one in self.known if one.host.id == host)
        if found.liveness is Liveness.ALIVE and not force:
            raise Conflict(f"host {found.host.name} is alive: stop its daemon first")
        self.removed.append((host, force))

    @property
    def declared(self) -> Mapping[str, DeclaredNetwork]:
        return self.wall.declared

    def outcomes(self, name: str) -> Mapping[HostID, str]:
        return self.wall.outcomes.get(name, {})

    async def declare(self, network: DeclaredNetwork) -> None:
        self._ask()
        if self.wall.declared.get(network.name, network) != network:
            raise Conflict(f"network {network.name} is declared already, otherwise")
        self.wall.declared[network.name] = network

    async def undeclare(self, name: str) -> None:
        self._ask()
        if self.wall.declared.pop(name, None) is None:
            raise NotFound(f"no network {name!r} is declared")

    def report(self, name: str, error: str | None) -> None:
        rows = self.wall.outcomes.setdefault(name, {})
        if error is None:
            rows.pop(self.standing().host, None)
        else:
            rows[self.standing().host] = error

    def _ask(self) -> None:
        if not self.facts.get("connected", True):
            raise ClusterUnavailable("no etcd answers: http://192.0.2.9:2379: connection refused")


class FakeMaker:
    """`busy` are the names of networks with containers on them; `refuses` says why none can be made."""

    def __init__(self) -> None:
        self.there: dict[str, ListedNetwork] = {}
        self.busy: set[str] = set()
        self.refuses = ""
        self.away = False
        self.plugins = ["bridge", "host", "null"]  # ours is listed only where Docker runs it itself
        self.made: list[WantedNetwork] = []
        self.has_made = asyncio.Event()
        self.removed: list[str] = []

    async def networks(self) -> Sequence[ListedNetwork]:
        if self.away:
            raise EngineUnavailable("Docker cannot be asked: it does not run")
        return list(self.there.values())

    async def drivers(self) -> Sequence[str]:
        return self.plugins

    async def make(self, wanted: WantedNetwork) -> str:
        if self.refuses:
            raise EngineRefused(self.refuses)
        if wanted.name in self.names:
            raise EngineRefused(f"network with name {wanted.name} already exists")
        self.made.append(wanted)
        self.has_made.set()
        identity = f"{len(self.made):064x}"
        self.there[identity] = as_listed(wanted, identity)
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


def as_listed(wanted: WantedNetwork, identity: str) -> ListedNetwork:
    """Of what Docker lists of a network that it made, what is read."""
    return ListedNetwork(identity, wanted.driver, name=wanted.name, labels=wanted.labels)
