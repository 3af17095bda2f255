"""
Hosts in network namespaces on one underlay, each with the real kernel room, reconciler and store, and an outlook that
is what the others promised; containers are namespaces too. Neither Docker nor etcd.
"""

import asyncio
import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

from mdnp.dataplane import naming, overlay
from mdnp.dataplane.steps import Owner
from mdnp.kernel.linux import LinuxKernel
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.mac import derived_mac
from mdnp.model.network import IPAddress, Network
from mdnp.model.options import NetworkOptions
from mdnp.model.port import Publication
from mdnp.model.segment import RemoteEndpoint
from mdnp.reconcile.converge import Outcome, Reconciler
from mdnp.store import Drop, Put
from mdnp.store.sqlite import SqliteStore
from tests.overlays import Told, a_remote, an_overlay

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
PORT = 4789
PATIENCE_S = 20.0


class Namespace:
    """A network namespace; it goes when it is closed and nobody is in it."""

    def __init__(self) -> None:
        before = _current()
        try:
            _check(_libc.unshare(_CLONE_NEWNET))
            self.fd = _current()
        finally:
            _enter(before)
            os.close(before)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.run("ip link set lo up")

    def run(self, command: str) -> str:
        whole = ["nsenter", f"--net={self.path}", "sh", "-ec", command]
        done = subprocess.run(whole, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is in it: sockets and threads that are made here stay here."""
        before = _current()
        try:
            _enter(self.fd)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.inside():
            opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        return opened

    def set(self, name: str, value: str) -> None:
        with self.inside():
            Path("/proc/sys", name).write_text(value)

    def close(self) -> None:
        os.close(self.fd)


@dataclass
class Container:
    """An endpoint whose sandbox end is in a namespace of its own, as Docker puts it there."""

    endpoint: Endpoint
    namespace: Namespace

    def address(self, version: int) -> IPAddress:
        found = self.endpoint.address(version)
        assert found is not None
        return found


@dataclass
class Host:
    name: str
    number: int
    namespace: Namespace
    kernel: LinuxKernel
    reconciler: Reconciler
    store: SqliteStore
    outlook: Told
    networks: list[Network] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)

    @property
    def network(self) -> Network:
        return self.networks[0]

    def own(self, version: int) -> IPAddress:
        return next(one.ip for one in self.network.host_addresses if one.version == version)

    def told(self) -> list[RemoteEndpoint]:
        """What the others see of it."""
        vtep = str(self.outlook.vtep)
        found = [
            a_remote(one.endpoint.id, *(str(a.ip) for a in one.endpoint.addresses), host=self.name, vtep=vtep)
            for one in self.containers
        ]
        for network in self.networks:
            addresses = [str(one.ip) for one in network.host_addresses]
            if addresses:
                mac = overlay.own_mac(network)
                found.append(a_remote("host", *addresses, host=self.name, vtep=vtep, mac=mac))
        return found

    async def converge(self, *owners: str) -> Outcome:
        outcome = await self.reconciler.converge(*map(Owner, owners))
        assert [str(one.error) for one in outcome.failures] == []
        return outcome

    async def in_sync(self) -> None:
        difference, _ = await self.reconciler.compare()
        assert [str(one) for one in difference.steps] == []


class Fabric:
    """`underlay` is the namespace in which the hosts meet, on the bridge `meet`."""

    def __init__(self, version: int, folder: Path) -> None:
        self.version = version
        self.folder = folder
        self.hosts: list[Host] = []
        self._stack = AsyncExitStack()
        self.underlay = self._namespace()
        self.underlay.run("ip link add meet type bridge mcast_snooping 0; ip link set meet up")

    def vtep(self, number: int) -> IPAddress:
        return ip_address(f"192.0.2.{number}" if self.version == 4 else f"2001:db8::{number}")

    async def add_host(self) -> Host:
        number = len(self.hosts) + 1
        namespace = self.plug(number)
        namespace.run(
            "for p in iptables ip6tables; do $p -N DOCKER-USER; $p -A FORWARD -j DOCKER-USER; $p -P FORWARD DROP; done"
        )
        name = "abcdef"[number - 1]
        store = await SqliteStore.open(self.folder / name)
        self._stack.push_async_callback(store.close)
        outlook = Told(vtep=self.vtep(number), members=())
        kernel = LinuxKernel()
        reconciler = Reconciler(store, kernel, 3600, outlook=outlook)
        self._stack.push_async_callback(kernel.close)
        with namespace.inside():  # where its threads begin
            await kernel.observe()
            await kernel.reap()
        host = Host(name, number, namespace, kernel, reconciler, store, outlook)
        self.hosts.append(host)
        return host

    def plug(self, number: int) -> Namespace:
        """A namespace with an address of its own on the underlay, as a host has it."""
        namespace = self._namespace()
        self.underlay.run(
            f"ip link add to{number} master meet type veth peer eth0 netns {namespace.path};"
            f" sysctl -qw net.ipv6.conf.to{number}.disable_ipv6=1; ip link set to{number} up"
        )
        namespace.run(
            f"ip addr add 192.0.2.{number}/24 dev eth0; ip -6 addr add 2001:db8::{number}/64 dev eth0 nodad;"
            " ip link set eth0 up"
        )
        return namespace

    async def join(self, host: Host, options: NetworkOptions | None = None) -> Network:
        """The host makes its network of the segment; the others hear of it by `tell`."""
        own = f"10.50.0.{20 + host.number}/16", f"fd50::{20 + host.number:x}/64"
        identity = f"{host.number}" * 64
        network = an_overlay(identity, own=own, options=options)
        network = replace(network, mtu=1500 - (50 if self.version == 4 else 70))
        await host.store.commit(Put(network))
        host.networks.append(network)
        await host.converge(network.id)
        return network

    async def start(
        self,
        host: Host,
        last: int,
        *ports: Publication,
        home: int = 0,
        allowed: Sequence[str] = (),
        annex: int = 0,
    ) -> Container:
        """A container with the address `last` of its host, or of the host `home`, from which it comes."""
        network, home = host.network, home or host.number
        addresses = ip_interface(f"10.50.{home}.{last}/16"), ip_interface(f"fd50::{home}:{last:x}/64")
        identity = f"{host.number}{home}{last:03}".ljust(64, "e")
        endpoint = Endpoint(
            EndpointID(identity),
            NetworkID(network.id),
            derived_mac(addresses, identity),
            mac_given=False,
            addresses=addresses,
            ports=ports,
            allowed=tuple(map(ip_network, allowed)),
            annex=annex,
        )
        await host.store.commit(Put(endpoint))
        await host.converge(endpoint.id)
        namespace = self._namespace()
        host.namespace.run(f"ip link set {naming.sandbox_end(endpoint.id)} netns {namespace.path} name eth0")
        namespace.run(
            "; ".join(
                [
                    *(f"ip addr add {one} dev eth0 {'nodad' * (one.version == 6)}" for one in addresses),
                    "ip link set eth0 up",
                    "ip route add default via 10.50.0.1",
                    "ip -6 route add default via fd50::1",
                ]
            )
        )
        joined = replace(endpoint, phase=Phase.JOINED)
        await host.store.commit(Put(joined))
        container = Container(joined, namespace)
        host.containers.append(container)
        return container

    def outside(self, number: int = 99) -> Namespace:
        """Somebody else on the underlay, who knows nothing of the hosts' networks."""
        return self.plug(number)

    async def stop(self, host: Host, container: Container) -> None:
        container.namespace.run("ip link del eth0")
        await host.store.commit(Drop(container.endpoint))
        await host.converge(container.endpoint.id)
        host.containers.remove(container)

    async def tell(self) -> None:
        """What each host promised is known to the others, and converged there."""
        for host in self.hosts:
            others = [one for one in self.hosts if one is not host and one.networks]
            host.outlook.members = tuple(vtep for one in others if (vtep := one.outlook.vtep))
            before = host.outlook.remotes
            host.outlook.endpoints = {one.id: one for other in others for one in other.told()}
            changed = {*before, *host.outlook.endpoints}
            await host.converge(*(one.id for one in host.networks), *changed)

    def listen_at(self, number: int) -> "Wire":
        wire = Wire(self.underlay, f"to{number}")
        self._stack.callback(wire.close)
        return wire

    async def close(self) -> None:
        await self._stack.aclose()

    def _namespace(self) -> Namespace:
        namespace = Namespace()
        self._stack.callback(namespace.close)
        return namespace


@asynccontextmanager
async def fabric(version: int = 4, hosts: int = 2) -> AsyncIterator[Fabric]:
    with TemporaryDirectory(prefix="mdnp-") as folder:
        made = Fabric(version, Path(folder))
        try:
            for _ in range(hosts):
                await made.add_host()
            yield made
        finally:
            await made.close()


@dataclass(frozen=True)
class Frame:
    """What a tunnel carried; `outer` is the size of the packet that carried it, without its Ethernet header."""

    vni: int
    to: str
    sender: str
    ethertype: int
    payload: bytes
    outer: int

    @property
    def is_for_all(self) -> bool:
        return bool(int(self.to[:2], 16) & 1)

    @property
    def asks(self) -> bool:
        """ARP, or neighbour discovery with its routers."""
        is_icmp6 = self.ethertype == 0x86DD and self.payload[6] == socket.IPPROTO_ICMPV6
        return self.ethertype == 0x0806 or (is_icmp6 and self.payload[40] in range(133, 138))

    @property
    def joins(self) -> bool:
        """A report to the group of those that hear MLDv2 (RFC 3810), repeated up to some seconds after a start."""
        return self.to == "33:33:00:00:00:16"


class Wire:
    """What passes a port of the underlay, both ways, from now on."""

    def __init__(self, namespace: Namespace, link: str) -> None:
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self._socket.bind((link, 3))
        self._frames: list[Frame] = []

    def frames(self) -> list[Frame]:
        """All that the tunnels carried since it was made."""
        while True:
            try:
                frame = _carried(self._socket.recv(65536))
            except BlockingIOError:
                return self._frames
            if frame:
                self._frames.append(frame)

    def close(self) -> None:
        self._socket.close()


def _carried(data: bytes) -> Frame | None:
    kind, packet = struct.unpack_from("!12xH", data)[0], data[14:]
    if kind == 0x0800 and packet[9] == socket.IPPROTO_UDP:
        datagram = packet[20:]
    elif kind == 0x86DD and packet[6] == socket.IPPROTO_UDP:
        datagram = packet[40:]
    else:
        return None
    if struct.unpack_from("!2xH", datagram)[0] != PORT:
        return None
    inner = datagram[16:]
    return Frame(
        int.from_bytes(datagram[12:15], "big"),
        inner[:6].hex(":"),
        inner[6:12].hex(":"),
        int.from_bytes(inner[12:14], "big"),
        inner[14:],
        len(packet),
    )


@contextmanager
def listening(namespace: Namespace, address: IPAddress, port: int = 5000) -> Iterator[socket.socket]:
    with ExitStack() as stack:
        opened = stack.enter_context(namespace.socket(_family(address.version), socket.SOCK_DGRAM))
        opened.bind((str(address), port))
        yield opened


async def reaches(
    sender: Namespace,
    receiver: Namespace,
    to: IPAddress,
    *,
    size: int = 32,
    patience_s: float = PATIENCE_S,
    port: int = 5000,
) -> str:
    """Send a datagram, and have it answered; who it seemed to come from, or "" if it or the answer did not come."""
    with listening(receiver, to, port) as listener:
        return await asks(sender, listener, to, size=size, patience_s=patience_s, port=port)


async def asks(
    sender: Namespace,
    listener: socket.socket,
    to: IPAddress,
    *,
    size: int = 32,
    patience_s: float = PATIENCE_S,
    port: int = 5000,
) -> str:
    """As `reaches`, to whom listens already; `to` and `port` may be another's than where it arrives."""
    loop = asyncio.get_running_loop()
    with sender.socket(_family(to.version), socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.IPPROTO_IP, 10, 2) if to.version == 4 else None  # IP_MTU_DISCOVER: DF
        try:
            asking.sendto(b"?" * size, (str(to), port))
            async with asyncio.timeout(patience_s):
                data, source = await loop.sock_recvfrom(listener, 65536)
                assert len(data) == size
                await loop.sock_sendto(listener, b"!" * size, source)
                answer = await loop.sock_recv(asking, 65536)
                assert answer == b"!" * size
        except (TimeoutError, OSError):
            return ""
        return str(source[0])


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # what the kernel does tells nobody here
            await asyncio.sleep(0.005)


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _enter(fd: int) -> None:
    _check(_libc.setns(fd, _CLONE_NEWNET))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
