"""A host with mdnp on it and a kernel in memory, and builders of what Docker sends to it."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mdnp.dataplane.objects import Addr, Bridge, HostPort, Key, Link, MadeLink, Object, Sysctl, Veth
from mdnp.dataplane.rules import FORWARDING
from mdnp.dataplane.steps import Add, Delete, Step
from mdnp.driver.annexes import ROOM
from mdnp.driver.network import NetworkDriver
from mdnp.kernel import Actual, Seen, Surroundings
from mdnp.kernel.fake import FakeKernel
from mdnp.model.allocation import Record
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.errors import StoreUnavailable
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.mac import MAC
from mdnp.model.network import Network, Subnet
from mdnp.model.options import NetworkOptions
from mdnp.model.pool import PoolID
from mdnp.model.port import HostSocket, PortRequest, Protocol, Publication
from mdnp.reconcile import desired
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Change, Known, Promises, Tenure
from mdnp.store.sqlite import SqliteStore
from mdnp.wire.network import INTERFACE, NetworkVerbs
from mdnp.wire.routes import Routes
from mdnp.wire.verbs import Answer

Body = Mapping[str, Any]

# Ids as Docker sends them, told apart by their first characters.
NET = "a1" * 32
OTHER_NET = "b2" * 32
WEB = "c3" * 32
DB = "d4" * 32

BRIDGE = f"mdb-{NET[:11]}"
WEB_LINK = f"mdv-{WEB[:11]}"
DB_LINK = f"mdv-{DB[:11]}"
WEB_MAC = "02:6d:0a:01:00:02"
SANDBOX = "/var/run/docker/netns/0123456789ab"

GENERIC = "com.docker.network.generic"
PORTMAP = "com.docker.network.portmap"
NO_PROXY = "com.docker.network.driver.private.no_proxy_6to4"
ANY4, ANY6 = "0.0.0.0", "::"  # noqa: S104  # every address of the host
TCP, UDP, SCTP = 6, 17, 132


class TestedStore:
    """The real store, with a disk that can be full."""

    __test__ = False  # pytest: no class of tests
    _FULL = "cannot write the state: database or disk is full; nothing was changed"

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.full = False
        self.commits: list[tuple[Change, ...]] = []

    @property
    def promises(self) -> Promises:
        return self._store.promises

    @property
    def trouble(self) -> str:
        return self._FULL if self.full else self._store.trouble

    async def commit(self, *changes: Change) -> None:
        if self.full:
            raise StoreUnavailable(self._FULL)
        await self._store.commit(*changes)
        self.commits.append(changes)

    async def allocations(self, pool: PoolID) -> Sequence[Record]:
        return await self._store.allocations(pool)

    async def history(self, name: str) -> Sequence[Tenure]:
        return await self._store.history(name)

    async def fact(self, name: str, first: str) -> str:
        return await self._store.fact(name, first)

    async def known(self) -> Sequence[Known]:
        return await self._store.known()

    async def forget_known(self) -> None:
        await self._store.forget_known()

    async def close(self) -> None:
        await self._store.close()


class Clock:
    """Stands still until it is set."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class World:
    """What the daemon builds, on a kernel in memory."""

    clock: Clock
    kernel: FakeKernel
    store: TestedStore
    reconciler: Reconciler
    driver: NetworkDriver
    routes: Routes

    async def call(self, verb: str, body: Body | bytes = b"") -> Answer:
        """A call as it comes from Docker."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.routes.answer(f"/{INTERFACE}.{verb}", data)

    async def ok(self, verb: str, body: Body | bytes = b"") -> dict[str, Any]:
        """The reply to a call that must succeed."""
        answer = await self.call(verb, body)
        reply: dict[str, Any] = json.loads(answer.body)
        assert answer.status == 200, f"{verb}: {reply}"
        assert not {"Err", "Error"} & set(reply)
        return reply

    async def refused(self, verb: str, body: Body | bytes = b"") -> tuple[int, str]:
        """Status and text of a call that must fail, in the form that both kinds of driver proxies read."""
        answer = await self.call(verb, body)
        reply = json.loads(answer.body)
        assert answer.status != 200, f"{verb}: {reply}"
        assert reply == {"Err": reply["Err"], "Error": reply["Err"]}
        return answer.status, reply["Err"]

    async def with_endpoint(self, endpoint: str = WEB, address: str = "10.1.0.2/24", **network: Any) -> None:
        """A network and an endpoint on it, as Docker makes them."""
        await self.ok("CreateNetwork", create_network(**network))
        await self.ok("CreateEndpoint", create_endpoint(endpoint, address))

    @property
    def links(self) -> list[str]:
        """The names of the links of ours, in the order in which they were made."""
        return list(self.kernel.links)

    @property
    def seen(self) -> list[str]:
        """All that is ours in the kernel, and every setting, sorted."""
        settings = (f"{name}={value}" for name, value in self.kernel.settings.items())
        return sorted([*map(str, self.kernel.objects.values()), *settings])

    @property
    def taken(self) -> list[str]:
        """The steps taken since this was asked last."""
        return text(self._taken())

    @property
    def taken_links(self) -> list[str]:
        """Of the steps taken since the last time those on links and their addresses."""
        return self.taken_on(Bridge, Veth, Link, Addr)

    def taken_on(self, *kinds: type[Object | Link]) -> list[str]:
        """Of the steps taken since the last time those on such objects."""
        return text([step for step in self._taken() if isinstance(_subject(step), kinds)])

    def _taken(self) -> list[Step]:
        steps = list(self.kernel.taken)
        self.kernel.taken.clear()
        return steps

    @property
    def promised(self) -> tuple[list[str], list[str]]:
        """The ids of the promised networks and endpoints."""
        return list(self.store.promises.networks), list(self.store.promises.endpoints)

    @property
    def planned(self) -> dict[Key, Seen]:
        """What the kernel should show for what is promised, by the planners alone."""
        promises = self.store.promises
        networks = promises.networks
        plans = [
            desired.of_host(networks.values(), self._host()),
            *(desired.of_network(one) for one in networks.values()),
            *(desired.of_endpoint(networks[one.network_id], one) for one in promises.endpoints.values()),
        ]
        return {key: as_seen(owned.object) for plan in plans for key, owned in plan.items()}

    def _host(self) -> Actual:
        """What the host has besides ours, on which our own part depends."""
        kernel = self.kernel
        return Actual({}, frozenset(kernel.chains), frozenset(kernel.unreached), uplinks=kernel.uplinks)

    @property
    def kept(self) -> dict[Key, Seen]:
        """
        What of ours is in the kernel. That the host forwards is ours while it is planned: once made, it is never taken
        back. Settings of a link go with it.
        """
        settings = [Sysctl(name, value) for name, value in self.kernel.settings.items()]
        ours = [one for one in settings if one.name not in FORWARDING.values() or one.key in self.planned]
        return self.kernel.objects | {one.key: one for one in ours}

    @property
    def ports(self) -> list[str]:
        """The ports of the host that are held, and where what comes there is carried, if it is."""
        return sorted(str(one) for one in self.kernel.objects.values() if isinstance(one, HostPort))

    def elements(self, *sets: str) -> list[str]:
        """What stands in these sets and maps of our tables, sorted."""
        return sorted(str(one) for key, one in self.kernel.objects.items() if key[0] == "element" and key[2] in sets)

    def restarted(self) -> "World":
        """The daemon is killed and started: what it held is free, what is in the kernel stays. It has not looked."""
        for key, one in list(self.kernel.objects.items()):
            if isinstance(one, HostPort):
                del self.kernel.objects[key]
        return build_world(self.store, self.kernel, clock=self.clock)


def as_seen(one: Object) -> Seen:
    """As the kernel shows what was made."""
    return one.link() if isinstance(one, MadeLink) else one


def _subject(step: Step) -> Object | Link:
    return step.object if isinstance(step, Add | Delete) else step.link


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where the host has some for that: a disk takes milliseconds for each sync."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="mdnp-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@asynccontextmanager
async def open_world(folder: Path, surroundings: Surroundings | None = None) -> AsyncIterator[World]:
    store = TestedStore(await SqliteStore.open(folder))
    try:
        yield build_world(store, FakeKernel(surroundings))
    finally:
        await store.close()


def build_world(
    store: TestedStore,
    kernel: FakeKernel,
    check_interval_s: float = 3600,
    clock: Clock | None = None,
    room: int = ROOM,
) -> World:
    """The daemon's house, as `daemon.py` builds it. Built twice on one store and kernel, it is a restart."""
    clock = clock or Clock()
    reconciler = Reconciler(store, kernel, check_interval_s)
    driver = NetworkDriver(store, kernel, reconciler, clock, room=room)
    routes = Routes({INTERFACE: NetworkVerbs(driver).verbs()}, activated=reconciler.doubt)
    return World(clock, kernel, store, reconciler, driver, routes)


def text(steps: Sequence[Step]) -> list[str]:
    return [str(step) for step in steps]


# Requests, as Docker 29 sends them. A subnet is "pool gateway", or just a pool.


def create_network(
    identity: str = NET, *subnets: str, internal: bool = False, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    data = [_ipam_data(one) for one in subnets or ("10.1.0.0/24 10.1.0.1/24",)]
    asked: dict[str, Any] = {GENERIC: dict(options or {}), "com.docker.network.enable_ipv6": False}
    if internal:
        asked["com.docker.network.internal"] = True
    return {
        "NetworkID": identity,
        "Options": asked,
        "IPv4Data": [one for one in data if ":" not in one["Pool"]],
        "IPv6Data": [one for one in data if ":" in one["Pool"]],
    }


def create_endpoint(
    identity: str = WEB,
    address: str = "10.1.0.2/24",
    address6: str = "",
    *,
    mac: str = "",
    network: str = NET,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "NetworkID": network,
        "EndpointID": identity,
        "Interface": {"Address": address, "AddressIPv6": address6, "MacAddress": mac},
        "Options": {"com.docker.network.endpoint.exposedports": [], PORTMAP: [], **(options or {})},
    }


def join(identity: str = WEB, network: str = NET, sandbox: str = "") -> dict[str, Any]:
    """In a sandbox of its own, if none is named: WEB's is SANDBOX."""
    sandbox = sandbox or (SANDBOX if identity == WEB else f"/var/run/docker/netns/{identity[:12]}")
    return {"NetworkID": network, "EndpointID": identity, "SandboxKey": sandbox, "Options": {PORTMAP: []}}


def on_endpoint(identity: str = WEB, network: str = NET) -> dict[str, Any]:
    return {"NetworkID": network, "EndpointID": identity}


def on_network(identity: str = NET) -> dict[str, Any]:
    return {"NetworkID": identity}


def publish(
    *ports: tuple[int, int] | Mapping[str, Any], identity: str = WEB, network: str = NET, carried: bool = True
) -> dict[str, Any]:
    """ProgramExternalConnectivity, with (host port, port) pairs of TCP and what `binding` makes."""
    bindings = [binding(one[1], one[0]) if isinstance(one, tuple) else one for one in ports]
    private = {} if carried else {NO_PROXY: True}
    return {"NetworkID": network, "EndpointID": identity, "Options": {PORTMAP: bindings, **private}}


def binding(port: int, first: int = 0, last: int | None = None, proto: int = TCP, ip: str = "") -> dict[str, Any]:
    """A port to publish, as Docker asks for it; `first` and `last` are the host's, 0 for any."""
    return {
        "Proto": proto,
        "IP": "",
        "Port": port,
        "HostIP": ip,
        "HostPort": first,
        "HostPortEnd": first if last is None else last,
    }


def _ipam_data(subnet: str) -> dict[str, Any]:
    pool, _, gateway = subnet.partition(" ")
    return {
        "AddressSpace": "LocalDefault",
        "Pool": pool,
        **({"Gateway": gateway} if gateway else {}),
        "AuxAddresses": {},
    }


# Values, for the rooms below the wire.


def a_network(
    identity: str = NET,
    *subnets: str,
    internal: bool = False,
    options: NetworkOptions | None = None,
    mtu: int = 1500,
) -> Network:
    return Network(
        id=NetworkID(identity),
        subnets=tuple(map(a_subnet, subnets or ("10.1.0.0/24 10.1.0.1/24",))),
        internal=internal,
        options=options or NetworkOptions(),
        mtu=mtu,
    )


def a_subnet(subnet: str) -> Subnet:
    pool, _, gateway = subnet.partition(" ")
    return Subnet(ip_network(pool), ip_interface(gateway) if gateway else None)


def an_endpoint(
    identity: str = WEB,
    *addresses: str,
    network: str = NET,
    phase: Phase = Phase.CREATED,
    sandbox: str = "",
    mac: str = WEB_MAC,
    mac_given: bool = False,
    allowed: Sequence[str] = (),
    ports: Sequence[Publication] = (),
) -> Endpoint:
    """At 10.1.0.2/24 if no address is named; `replace` makes one without any."""
    return Endpoint(
        id=EndpointID(identity),
        network_id=NetworkID(network),
        mac=MAC(mac),
        mac_given=mac_given,
        addresses=tuple(map(ip_interface, addresses or ("10.1.0.2/24",))),
        phase=phase,
        sandbox=sandbox,
        allowed=tuple(map(ip_network, allowed)),
        ports=tuple(ports),
    )


def a_port(
    port: int, first: int = 0, last: int | None = None, protocol: Protocol = Protocol.TCP, address: str = ""
) -> PortRequest:
    """A request to publish; without `first` at any port of the host, without `address` at all of its addresses."""
    host = ip_address(address) if address else None
    return PortRequest(protocol, port, host, first, first if last is None else last)


def a_socket(address: str, port: int, protocol: Protocol = Protocol.TCP) -> HostSocket:
    return HostSocket(protocol, ip_address(address), port)
