"""
A host in a network namespace with the daemon's rooms on the real kernel, whose bridges take three endpoints each, and
somebody outside. What Docker would ask comes through the wire; sandboxes are namespaces.
"""

import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mdnp.dataplane import naming
from mdnp.dataplane.steps import Step
from mdnp.driver.network import NetworkDriver
from mdnp.kernel.linux import LinuxKernel
from mdnp.model.identity import EndpointID
from mdnp.model.mac import derived_mac
from mdnp.model.network import IPAddress
from mdnp.reconcile.converge import Reconciler
from mdnp.store.sqlite import SqliteStore
from mdnp.wire.network import INTERFACE, NetworkVerbs
from mdnp.wire.routes import Routes
from tests.overlay.fabric import Namespace
from tests.world import NET, Clock, create_endpoint, create_network, join, on_endpoint, on_network, publish

ROOM = 3
BROADCAST = "ff:ff:ff:ff:ff:ff"
_OF_TESTS = 0x88B5  # an EtherType for experiments (IEEE 802), about which nobody has a rule
_PORT = 5000


@dataclass
class Container:
    number: int
    identity: EndpointID
    namespace: Namespace

    def address(self, version: int) -> IPAddress:
        return ip_address(f"10.1.0.{self.number}" if version == 4 else f"fd01::{self.number:x}")

    @property
    def mac(self) -> str:
        return derived_mac((ip_interface(f"{self.address(4)}/24"),), self.identity)

    def listen(self) -> "Ear":
        return Ear(self.namespace)

    def send(self, to: str, sender: str = "") -> None:
        """A frame that says who sends it."""
        with self.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW) as opened:
            opened.bind(("eth0", 0))
            head = bytes.fromhex((to + (sender or self.mac)).replace(":", ""))
            opened.send(head + struct.pack("!HB", _OF_TESTS, self.number) + bytes(45))


class Ear:
    """Hears the frames that containers sent, those that are for others too."""

    def __init__(self, namespace: Namespace) -> None:
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_OF_TESTS))

    def heard(self) -> list[int]:
        """Who sent what came in since the last time."""
        found: list[int] = []
        while True:
            try:
                data, (_, _, kind, *_) = self._socket.recvfrom(64)
            except BlockingIOError:
                return found
            if kind != socket.PACKET_OUTGOING:
                found.append(data[14])

    def close(self) -> None:
        self._socket.close()


class Crowd:
    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.host, self.outside = self.namespace(), self.namespace()
        self.host.run(
            f"ip link add eth0 type veth peer eth0 netns {self.outside.path}; ip link set eth0 up;"
            " ip addr add 192.0.2.1/24 dev eth0; ip addr add 2001:db8::1/64 dev eth0 nodad;"
            " for p in iptables ip6tables; do $p -N DOCKER-USER; $p -A FORWARD -j DOCKER-USER; $p -P FORWARD DROP; done"
        )
        self.outside.run(
            "ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad"
        )
        self.containers: dict[int, Container] = {}

    def namespace(self) -> Namespace:
        made = Namespace()
        self._stack.callback(made.close)
        return made

    async def start_daemon(self) -> tuple[Step, ...]:
        """The steps that it took to bring the host in sync."""
        store = await SqliteStore.open(self._folder / "state")
        kernel = LinuxKernel()
        with self.host.inside():  # where its threads begin
            await kernel.observe()
            await kernel.reap()
        self.store, self.kernel = store, kernel
        self.reconciler = Reconciler(store, kernel, 3600)
        driver = NetworkDriver(store, kernel, self.reconciler, Clock(), room=ROOM)
        self._routes = Routes({INTERFACE: NetworkVerbs(driver).verbs()}, activated=self.reconciler.doubt)
        return (await self.reconciler.converge()).steps

    async def stop_daemon(self) -> None:
        await self.kernel.close()
        await self.store.close()

    async def ask(self, verb: str, body: Mapping[str, Any]) -> None:
        answer = await self._routes.answer(f"/{INTERFACE}.{verb}", json.dumps(body).encode())
        assert answer.status == 200, f"{verb}: {answer.body!r}"

    async def network(self, options: Mapping[str, Any] | None = None, *, internal: bool = False) -> None:
        subnets = ("10.1.0.0/24 10.1.0.1/24", "fd01::/64 fd01::1/64")
        await self.ask("CreateNetwork", create_network(NET, *subnets, options=options, internal=internal))

    async def start(self, *numbers: int) -> None:
        for number in numbers:
            self.containers[number] = await self._started(number)

    async def _started(self, number: int) -> Container:
        identity = EndpointID(f"{number:011x}".ljust(64, "e"))
        v4, v6 = f"10.1.0.{number}/24", f"fd01::{number:x}/64"
        await self.ask("CreateEndpoint", create_endpoint(identity, v4, v6))
        namespace = self.namespace()
        await self.ask("Join", join(identity, sandbox=namespace.path))
        self.host.run(f"ip link set {naming.sandbox_end(identity)} netns {namespace.path} name eth0")
        namespace.run(
            f"ip addr add {v4} dev eth0; ip addr add {v6} dev eth0 nodad; ip link set eth0 up;"
            " ip route add default via 10.1.0.1; ip -6 route add default via fd01::1"
        )
        return Container(number, identity, namespace)

    async def publish(self, number: int) -> int:
        """UDP port 5000 of a container, at the port of the host that is returned."""
        port = 20000 + number
        binding = {"Proto": 17, "IP": "", "Port": _PORT, "HostIP": "", "HostPort": port, "HostPortEnd": port}
        await self.ask("ProgramExternalConnectivity", publish(binding, identity=self.containers[number].identity))
        return port

    async def stop(self, number: int) -> None:
        container = self.containers.pop(number)
        await self.ask("Leave", on_endpoint(container.identity))
        container.namespace.run("ip link del eth0")
        await self.ask("DeleteEndpoint", on_endpoint(container.identity))

    async def remove_all(self) -> None:
        for number in tuple(self.containers):
            await self.stop(number)
        await self.ask("DeleteNetwork", on_network())
        await self.reconciler.bury()

    def filter_bridges(self, value: str) -> None:
        for program in ("iptables", "ip6tables"):
            self.host.set(f"net/bridge/bridge-nf-call-{program}", value)

    def shown(self) -> list[str]:
        """The links, the rows that stay, and what the bridges filter, without counts."""
        # Without states, which follow a moment later.
        stateless = "sed -E 's/ state [A-Za-z]+//; s/<[^>]*>//'"
        links = self.host.run(f"(ip -o link show; bridge -d link show) | {stateless}").splitlines()
        rows = self.host.run("bridge fdb show").splitlines()
        return [*links, *(row for row in rows if "static" in row), self.host.run("nft -s list ruleset bridge")]

    async def in_sync(self) -> None:
        difference, _ = await self.reconciler.compare()
        assert [str(one) for one in (*difference.steps, *difference.lost)] == []


@asynccontextmanager
async def crowd() -> AsyncIterator[Crowd]:
    with TemporaryDirectory(prefix="mdnp-") as folder:
        async with AsyncExitStack() as stack:
            made = Crowd(Path(folder), stack)
            await made.start_daemon()
            stack.push_async_callback(made.stop_daemon)
            yield made
