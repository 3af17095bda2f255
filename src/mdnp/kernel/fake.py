"""
A kernel in memory that refuses what Linux refuses: for tests of everything above, in the words of the contract.

It passes the suite that Linux passes; what it would let through and Linux would not is a defect of it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mdnp.dataplane.objects import (
    Accept,
    Addr,
    Bridge,
    Element,
    Fdb,
    HostPort,
    Jump,
    Key,
    Link,
    Neigh,
    Object,
    Peer,
    PoolRoute,
    Sysctl,
    Table,
    Veth,
    Vxlan,
    forward_chain,
)
from mdnp.dataplane.rules import FORWARDING
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom, Owner, Set, Step
from mdnp.kernel import (
    Actual,
    Failure,
    Notice,
    Seen,
    Surroundings,
    Traffic,
    stands_alone,
    tunnel_port_in_use,
    vni_in_use,
)
from mdnp.model.errors import InUse, KernelError
from mdnp.model.network import IPAddress
from mdnp.model.port import HostSocket, Protocol

_NAME_LENGTH = 15
_MTU_MIN = 68
_MTU_MAX = 65535


class FakeKernel:
    """
    `foreign` are names of links that are not ours, `taken_ports` ports that another process has, `taken_tunnels` the
    VXLAN links that are not ours by VNI and UDP port, `carried` what went over a host end. `refuses` says for a
    step whether, and with which words, it fails: a test's way to break things, and `unreadable` the words with which
    every look fails. `taken` are the steps that were taken, in order; `observed` and `reaped` count.
    """

    def __init__(self, surroundings: Surroundings | None = None) -> None:
        self.objects: dict[Key, Seen] = {}
        self.sandbox_ends: dict[str, str] = {}
        self.foreign: set[str] = set()
        self.taken_ports: set[HostSocket] = set()
        self.taken_tunnels: dict[tuple[int, int], str] = {}
        self.settings: dict[str, str] = dict.fromkeys(FORWARDING.values(), "0")
        self.uplinks: frozenset[str] = frozenset()
        self.dropped: dict[str, int] = {}
        self.carried: dict[str, Traffic] = {}
        self.heard: Callable[[Notice], None] = lambda _notice: None
        self.chains: set[Key] = {forward_chain(4), forward_chain(6)}
        self.unreached: set[Key] = set()
        self.refuses: Callable[[Step], str | None] = lambda _step: None
        self.taken: list[Step] = []
        self.unreadable = ""
        self.observed = 0
        self.reaped = 0
        self._doomed: set[str] = set()
        self._surroundings = surroundings or Surroundings((), 1500)

    async def observe(self) -> Actual:
        await asyncio.sleep(0)
        self._check_readable()
        self.observed += 1
        settings = [Sysctl(name, value) for name, value in self.settings.items()]
        objects = self.objects | {one.key: one for one in settings}
        return Actual(
            objects,
            frozenset(self.chains),
            frozenset(self.unreached & self.chains),
            bool(self._doomed),
            self.uplinks,
            dict(self.dropped),
        )

    async def surroundings(self) -> Surroundings:
        await asyncio.sleep(0)
        self._check_readable()
        return self._surroundings

    async def perform(self, steps: Sequence[Step]) -> tuple[Failure, ...]:
        await asyncio.sleep(0)
        failures: list[Failure] = []
        failed: dict[Owner, KernelError] = {}
        for step in steps:
            skipped = step.owner in failed and not stands_alone(step)
            failure = Failure(step, failed[step.owner]) if skipped else self._attempt(step)
            if failure:
                failures.append(failure)
                if step.owner != NOBODY:
                    failed.setdefault(step.owner, failure.error)
        return tuple(failures)

    async def local_ports(self) -> range:
        await asyncio.sleep(0)
        self._check_readable()
        return range(32768, 61000)

    async def traffic(self) -> Mapping[str, Traffic]:
        await asyncio.sleep(0)
        self._check_readable()
        return {name: self.carried.get(name, Traffic()) for name in self.links if name in self.sandbox_ends}

    async def listen(self, heard: Callable[[Notice], None]) -> None:
        await asyncio.sleep(0)
        self.heard = heard

    async def reap(self) -> None:
        await asyncio.sleep(0)
        self.reaped += 1
        for name in self._doomed:
            self.vanish(name)
        self._doomed.clear()

    async def close(self) -> None:
        await asyncio.sleep(0)

    @property
    def links(self) -> dict[str, Link]:
        """The links of ours by name, without those that wait for `reap`."""
        return {one.name: one for one in self.objects.values() if isinstance(one, Link)}

    @property
    def names(self) -> set[str]:
        """Every link's name, ours or not, doomed or not, sandbox ends too."""
        return {*self.links, *self._doomed, *self.sandbox_ends.values(), *self.foreign}

    def vanish(self, name: str) -> None:
        """A link disappears, as when somebody deletes it or its sandbox dies; with a veth's end the other."""
        self.objects.pop(("link", name), None)
        ends = {name, self.sandbox_ends.pop(name, name)}
        ends |= {one for one, other in self.sandbox_ends.items() if other == name}
        self.settings = {key: value for key, value in self.settings.items() if f"/conf/{name}/" not in key}
        for key, one in list(self.objects.items()):
            if isinstance(one, Addr | Fdb | Neigh | PoolRoute) and one.link == name:
                del self.objects[key]
            elif isinstance(one, Link) and one.master == name:
                self._free(one)
        for other in ends - {name}:
            if other in self.links:
                self.vanish(other)

    def _free(self, port: Link) -> None:
        """Of a port that loses its bridge, what the bridge knew of it goes."""
        self.objects[port.key] = replace(port, master=None, flags=None)
        for key, one in list(self.objects.items()):
            if isinstance(one, Fdb) and one.link == port.name and one.vtep is None:
                del self.objects[key]

    def _check_readable(self) -> None:
        if self.unreadable:
            raise KernelError(self.unreadable)

    def _attempt(self, step: Step) -> Failure | None:
        words = self.refuses(step) or self._refusal(step)
        if words:
            return Failure(step, KernelError(f"{step}: {words}"))
        in_use = self._in_use(step.object) if isinstance(step, Add) else ""
        if in_use:
            return Failure(step, InUse(in_use))
        self._take(step)
        self.taken.append(step)
        return None

    def _refusal(self, step: Step) -> str | None:
        """Why Linux would refuse, or None."""
        match step:
            case Add(Peer(bridge=str(bridge))) if bridge not in self.links:
                return "No such device"
            case Add(Bridge() | Veth() | Vxlan() as wanted):
                return self._refused_values(wanted.link()) or self._refused_names(wanted)
            case Set(Link(name=name) as link):
                return self._refused_values(link) if name in self.links else "No such device"
            case Add(Accept(chain=chain) | Jump(chain=chain)):
                return None if chain in self.chains else "iptables: No chain/target/match by that name."
            case Add(one):
                return self._refused_object(one)
        return None

    def _refused_object(self, one: Object) -> str | None:
        match one:
            case Element():
                return self._refused_element(one)
            case Sysctl(name=name):
                return self._refused_setting(name)
            case (
                Peer(name=needed) | Addr(link=needed) | Fdb(link=needed) | Neigh(link=needed) | PoolRoute(link=needed)
            ) if needed not in {*self.links, *self.sandbox_ends.values()}:
                return "No such device"
            case Fdb(link=name, vtep=None) if self.links[name].master is None:
                return "Operation not supported"
            case PoolRoute(source=source) if source not in self._addresses:
                return "Invalid argument"
        return None

    @property
    def _addresses(self) -> list[IPAddress]:
        return [one.address.ip for one in self.objects.values() if isinstance(one, Addr)]

    def _in_use(self, one: Object) -> str:
        """What somebody else has, and what to do."""
        if isinstance(one, HostPort) and self._is_taken(one):
            return f"{one.socket} is in use by another process"
        if isinstance(one, Vxlan) and one.link() != self.links.get(one.name):
            vni, port = one.tunnel.vni, one.tunnel.port
            ours = {(link.tunnel.vni, link.tunnel.port): link.name for link in self.links.values() if link.tunnel}
            holder = (self.taken_tunnels | ours).get((vni, port))
            if holder is not None:
                return vni_in_use(vni, port, holder)
            if port in {taken.port for taken in self.taken_ports if taken.protocol is Protocol.UDP}:
                return tunnel_port_in_use(port)
        return ""

    def _is_taken(self, port: HostPort) -> bool:
        held = [one.socket for one in self.objects.values() if isinstance(one, HostPort) and one != port]
        return any(port.socket.clashes(other) for other in (*held, *self.taken_ports))

    def _refused_element(self, element: Element) -> str | None:
        if ("table", element.family) not in self.objects:
            return "nft: No such file or directory"
        there = self.objects.get(element.key)
        return "nft: Could not process rule: File exists" if there not in (None, element) else None

    def _refused_setting(self, name: str) -> str | None:
        """Those of a link are there while it is."""
        link = name.partition("/conf/")[2].partition("/")[0]
        there = name in self.settings or link in {*self.links, *self.sandbox_ends.values()}
        return None if there else f"/proc/sys/{name}: No such file or directory"

    def _refused_values(self, link: Link) -> str | None:
        if link.master and link.master not in self.links:
            return "No such device"
        if not _MTU_MIN <= link.mtu <= _MTU_MAX:
            return "Numerical result out of range"
        return None

    def _refused_names(self, wanted: Bridge | Veth | Vxlan) -> str | None:
        link = wanted.link()
        peer = wanted.sandbox_end if isinstance(wanted, Veth) else ""
        if max(len(link.name), len(peer)) > _NAME_LENGTH:
            return "Numerical result out of range"
        if link.name in self.foreign:
            return f"a link {link.name} exists that is not mdnp's: choose another name, or remove it"
        if link == self.links.get(link.name) and self.sandbox_ends.get(link.name, "") == peer:
            return None
        return "File exists" if {link.name, peer} & self.names else None

    def _take(self, step: Step) -> None:
        match step:
            case Add(one):
                self._add(one)
            case Set(link):
                if self.links[link.name].master not in (None, link.master):
                    self._free(link)
                self.objects[link.key] = link
            case Doom(link) if self.objects.pop(link.key, None):
                self._doomed.add(link.name)
            case Delete(Link() as link):
                self.vanish(link.name)
            case Delete(Table() as table):
                self.flush(table)
            case Delete(gone):
                self.objects.pop(gone.key, None)

    def _add(self, one: Object) -> None:
        match one:
            case Bridge() | Veth() | Vxlan() | Peer():
                self.objects[one.key] = one.link()
                if isinstance(one, Veth):
                    self.sandbox_ends[one.host_end] = one.sandbox_end
            case Sysctl(name, value):
                self.settings[name] = value
            case _:
                self.objects[one.key] = one

    def flush(self, table: Table) -> None:
        """A table disappears, with all that is in it."""
        self.objects.pop(table.key, None)
        for key, one in list(self.objects.items()):
            if isinstance(one, Element) and one.family == table.family:
                del self.objects[key]
