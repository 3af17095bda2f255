"""
Linux, through netlink.

Its calls block (a deletion for some 17 ms), so they run in two threads of our own, one for steps and one for reaping:
two threads, because what waits for the death of a veth must not hold up a start.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import groupby
from typing import TypeVar

from mdnp.dataplane.naming import DOOMED_GROUP, GROUP, OWN_END_PREFIX, is_annex
from mdnp.dataplane.objects import (
    Accept,
    Addr,
    Bridge,
    Element,
    HostPort,
    Jump,
    Link,
    Lookup,
    Object,
    Peer,
    PoolRoute,
    Sysctl,
    Table,
    Veth,
    Vxlan,
)
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom, Owner, Removable, Set, Step
from mdnp.kernel import (
    Actual,
    Failure,
    Notice,
    Seen,
    Surroundings,
    Traffic,
    flows,
    iptables,
    is_row,
    links,
    routes,
    rows,
    stands_alone,
    surroundings,
    sysctl,
    traffic,
    wires,
)
from mdnp.kernel.notices import Notices
from mdnp.kernel.ports import Ports
from mdnp.kernel.rows import Rows
from mdnp.kernel.tables import Tables
from mdnp.model.errors import InUse, KernelError
from mdnp.systemd import FDStore

Result = TypeVar("Result")


class LinuxKernel:
    """The kernel of the network namespace in which the first call is made."""

    def __init__(self, fds: FDStore | None = None) -> None:
        self._stepper = ThreadPoolExecutor(1, "mdnp-kernel")
        self._reaper = ThreadPoolExecutor(1, "mdnp-reaper")
        self._rows = Rows()
        self._tables = Tables()
        self._ports = Ports(fds)
        self._notices: Notices | None = None

    @classmethod
    async def open(cls, fds: FDStore) -> "LinuxKernel":
        """As made by the constructor, and it goes on holding the ports that the last daemon left in `fds`."""
        kernel = cls(fds)
        kernel._ports.adopt(asyncio.get_running_loop())
        return kernel

    async def observe(self) -> Actual:
        return await self._in(self._stepper, self._observe)

    async def surroundings(self) -> Surroundings:
        return await self._in(self._stepper, self._surroundings)

    async def perform(self, steps: Sequence[Step]) -> tuple[Failure, ...]:
        self._loop = asyncio.get_running_loop()  # where what arrives at the ports we hold is carried
        return await self._in(self._stepper, lambda: self._perform(steps))

    async def local_ports(self) -> range:
        return await self._in(self._stepper, sysctl.local_ports)

    async def traffic(self) -> Mapping[str, Traffic]:
        return await self._in(self._reaper, traffic.read)

    async def listen(self, heard: Callable[[Notice], None]) -> None:
        self._notices = await self._in(self._stepper, Notices.open)
        self._notices.listen(asyncio.get_running_loop(), heard)

    async def reap(self) -> None:
        await self._in(self._reaper, self._reap)

    async def close(self) -> None:
        if self._notices is not None:
            self._notices.close()
        await self._in(self._stepper, self._ports.close)
        await self._in(self._stepper, self._tables.close)
        for pool in (self._stepper, self._reaper):
            await asyncio.to_thread(pool.shutdown)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        """In the context of the caller: what is logged there is about its call."""
        return await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, work)

    def _observe(self) -> Actual:
        try:
            found = links.read()
            names = {row.index: row.name for row in found}
            ours = [wires.as_seen(row, names) for row in found if row.group == GROUP]
            holders = {link.name for link in ours if link.kind == "bridge" or link.name.startswith(OWN_END_PREFIX)}
            addrs = wires.addrs(names, holders)
            ways = routes.of_host()
        except OSError as error:
            raise KernelError(f"reading links, addresses and routes failed: {wires.reason_of(error)}") from error
        rules = iptables.observe()
        tables = self._tables.observe()
        seen: list[Seen] = [
            *ours,
            *addrs,
            *rules.ours,
            *sysctl.observe(ours),
            *tables.objects,
            *self._ports.held,
            *self._others(found, names),
        ]
        return Actual(
            {one.key: one for one in seen},
            rules.chains,
            rules.unreached,
            doomed=any(row.group == DOOMED_GROUP for row in found),
            uplinks=surroundings.uplinks(found, ways),
            dropped=_dropped(tables.counted),
        )

    def _others(self, found: list[links.Row], names: Mapping[int, str]) -> list[Seen]:
        """What leads to other hosts, if anything does."""
        ours = [row for row in found if row.group == GROUP]
        below = {row.index: row.name for row in ours if row.kind == "vxlan"}
        bridges = {row.index: row.name for row in ours if row.kind == "bridge"}
        annexes = {index for index, name in bridges.items() if is_annex(name)}
        ports = {row.index: row.name for row in ours if row.master in annexes}
        has_own_ends = any(row.name.startswith(OWN_END_PREFIX) for row in ours)
        return [*self._rows.observe(below, bridges, ports), *routes.observe(names, has_own_ends=has_own_ends)]

    def _surroundings(self) -> Surroundings:
        try:
            return surroundings.read(links.read(), routes.of_host())
        except OSError as error:
            raise KernelError(f"reading routes failed: {wires.reason_of(error)}") from error

    def _perform(self, steps: Sequence[Step]) -> tuple[Failure, ...]:
        failures = _Failures()
        for batch in _batches(steps):
            self._take_batch(batch, failures)
        self._ports.settle()
        return tuple(failures.all)

    def _take_batch(self, batch: Sequence[Step], failures: "_Failures") -> None:
        """
        Rows together; steps of nft together as one transaction, and if that fails each for itself, to find whose fault
        it was.
        """
        due = failures.sift(batch)
        try:
            if due and is_row(due[0]):
                self._take_rows(due, failures)
            elif len(due) == 1:
                self._take(due[0])
            elif due:
                self._take_together(due)
        except (KernelError, OSError) as error:
            if len(due) == 1 or is_row(due[0]):
                for step in due:
                    failures.add(step, _described(step, error))
            else:
                for step in due:
                    self._take_batch([step], failures)

    def _take_rows(self, steps: Sequence[Step], failures: "_Failures") -> None:
        for step, error in rows.perform([one for one in steps if isinstance(one, Add | Delete)]):
            failures.add(step, _described(step, error))

    def _take_together(self, steps: Sequence[Step]) -> None:
        self._tables.perform(steps)
        for step in steps:
            self._end_flows(step)

    def _end_flows(self, step: Step) -> None:
        if isinstance(step, Add | Delete) and isinstance(step.object, Element):
            flows.end(step.object, wires.is_local)

    def _take(self, step: Step) -> None:
        match step:
            case Add(Table() | Element()) | Delete(Table() | Element()):
                self._tables.take(step)
                self._end_flows(step)
            case Add(one):
                self._add(one)
            case Delete(one):
                self._delete(one)
            case Set(link, was):
                wires.set_link(link, was)
            case Doom(link):
                wires.gone_is_done(lambda: wires.doom(link.name, DOOMED_GROUP))

    def _add(self, one: Object) -> None:
        match one:
            case Bridge() | Veth() | Vxlan() | Peer() | Addr():
                wires.add(one)
            case PoolRoute() | Lookup():
                routes.add(one)
            case Accept() | Jump():
                iptables.add(one)
            case Sysctl():
                sysctl.write(one)
            case HostPort():
                self._ports.hold(one, self._loop)

    def _delete(self, one: Removable) -> None:
        match one:
            case Link(name=name):
                wires.delete_link(name)
            case PoolRoute() | Lookup():
                wires.gone_is_done(lambda: routes.delete(one))
            case Accept() | Jump():
                iptables.delete(one)
            case HostPort():
                self._ports.release(one)

    def _reap(self) -> None:
        try:
            links.delete_group(DOOMED_GROUP)
        except OSError as error:
            if not wires.is_gone(error):
                raise KernelError(f"ip link del group {DOOMED_GROUP}: {wires.reason_of(error)}") from error


class _Failures:
    """What failed, and what is not tried after it."""

    def __init__(self) -> None:
        self.all: list[Failure] = []
        self._first: dict[Owner, KernelError] = {}

    def add(self, step: Step, error: KernelError) -> None:
        self.all.append(Failure(step, error))
        if step.owner != NOBODY:
            self._first.setdefault(step.owner, error)

    def sift(self, steps: Sequence[Step]) -> list[Step]:
        """The steps that are still to be tried; the others have failed with their owner's first."""
        due = []
        for step in steps:
            if step.owner not in self._first or stands_alone(step):
                due.append(step)
            else:
                self.all.append(Failure(step, self._first[step.owner]))
        return due


def _dropped(counted: Mapping[tuple[str, ...], int]) -> dict[str, int]:
    """The counters of the set `guarded`, by host end."""
    return {key[3].strip('"'): count for key, count in counted.items() if key[2] == "guarded"}


def _batches(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Steps of nft that stand together, rows that do, and every other one alone."""
    for kind, group in groupby(steps, _kind):
        if kind:
            yield list(group)
        else:
            yield from ([step] for step in group)


def _kind(step: Step) -> str:
    if isinstance(step, Add | Delete) and isinstance(step.object, Table | Element):
        return "nft"
    return "row" if is_row(step) else ""


def _described(step: Step, error: KernelError | OSError) -> KernelError:
    if isinstance(error, InUse):
        return error
    return KernelError(f"{step}: {error if isinstance(error, KernelError) else wires.reason_of(error)}")
