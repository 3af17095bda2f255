"""
Linux, through rtnetlink. With `flows` the only module that imports pyroute2.

Netlink calls block (a deletion for some 17 ms), so they run in two threads of our own, one for steps and one for
reaping, each with its own socket: two threads, because what waits for the death of a veth must not hold up a start.
pyroute2 0.9.7: `link("get")` on a long-lived socket leaks, so indexes are read by if_nametoindex, and links by `links`.
"""

import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from ipaddress import ip_interface, ip_network
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute, NetlinkError

from mdnp.dataplane.naming import DOOMED_GROUP, GROUP
from mdnp.dataplane.objects import Accept, Addr, Bridge, Element, HostPort, Jump, Link, Object, Sysctl, Table, Veth
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom, Owner, Removable, Set, Step
from mdnp.kernel import (
    Actual,
    Failure,
    Notice,
    Route,
    Seen,
    Surroundings,
    Traffic,
    iptables,
    links,
    stands_alone,
    sysctl,
    traffic,
)
from mdnp.kernel.flows import Flows
from mdnp.kernel.notices import Notices
from mdnp.kernel.ports import Ports
from mdnp.kernel.tables import Tables
from mdnp.model.errors import InUse, KernelError
from mdnp.model.mac import MAC
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.systemd import FDStore

Result = TypeVar("Result")

_IFA_F_NODAD = 0x02  # a gateway's address is ours alone, and must answer at once
_LINK_LOCAL = ip_network("fe80::/10")
_RT_TABLE_MAIN = 254
_RTN_UNICAST = 1


class LinuxKernel:
    """The kernel of the network namespace in which the first call is made."""

    def __init__(self, fds: FDStore | None = None) -> None:
        self._stepper = ThreadPoolExecutor(1, "mdnp-kernel")
        self._reaper = ThreadPoolExecutor(1, "mdnp-reaper")
        self._local = threading.local()
        self._tables = Tables()
        self._flows = Flows()
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
        await self._in(self._stepper, self._flows.close)
        for pool in (self._stepper, self._reaper):
            await self._in(pool, self._close)
            await asyncio.to_thread(pool.shutdown)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        """In the context of the caller: what is logged there is about its call."""
        return await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, work)

    @property
    def _netlink(self) -> IPRoute:
        if not hasattr(self._local, "netlink"):
            self._local.netlink = IPRoute()
        return self._local.netlink

    def _close(self) -> None:
        """Close the socket of the thread that this runs in: pyroute2 keeps a loop for each thread that used it."""
        if hasattr(self._local, "netlink"):
            self._local.netlink.close()

    def _observe(self) -> Actual:
        try:
            rows = links.read()
            addrs = list(self._netlink.addr("dump"))
            routes = self._routes()
        except (OSError, NetlinkError) as error:
            raise KernelError(f"reading links, addresses and routes failed: {error}") from error
        names = {row.index: row.name for row in rows}
        ours = [_link(row, names) for row in rows if row.group == GROUP]
        bridges = {link.name for link in ours if link.kind == "bridge"}
        rules = iptables.observe()
        tables = self._tables.observe()
        seen: list[Seen] = [
            *ours,
            *_addrs(addrs, names, bridges),
            *rules.ours,
            *sysctl.observe(bridges),
            *tables.objects,
            *self._ports.held,
        ]
        return Actual(
            {one.key: one for one in seen},
            rules.chains,
            rules.unreached,
            doomed=any(row.group == DOOMED_GROUP for row in rows),
            uplinks=_uplinks(rows, routes),
            dropped=_dropped(tables.counted),
        )

    def _surroundings(self) -> Surroundings:
        try:
            by_index = {row.index: row for row in links.read()}
            rows = self._routes()
        except (OSError, NetlinkError) as error:
            raise KernelError(f"reading routes failed: {error}") from error
        foreign = [row for row in rows if _is_foreign(row, by_index)]
        return Surroundings(tuple(_routes(foreign, by_index)), _underlay_mtu(foreign, by_index), _resolvers())

    def _routes(self) -> list[Any]:
        return [
            row
            for family in (socket.AF_INET, socket.AF_INET6)
            for row in self._netlink.route("dump", family=family, table=_RT_TABLE_MAIN)
        ]

    def _perform(self, steps: Sequence[Step]) -> tuple[Failure, ...]:
        failures = _Failures()
        for batch in _batches(steps):
            self._take_batch(batch, failures)
        self._ports.settle()
        return tuple(failures.all)

    def _take_batch(self, batch: Sequence[Step], failures: "_Failures") -> None:
        """Steps of nft together as one transaction; if that fails each for itself, to find whose fault it was."""
        due = failures.sift(batch)
        try:
            if len(due) == 1:
                self._take(due[0])
            elif due:
                self._take_together(due)
        except (KernelError, OSError, NetlinkError) as error:
            if len(due) == 1:
                failures.add(due[0], _described(due[0], error))
            else:
                for step in due:
                    self._take_batch([step], failures)

    def _take_together(self, steps: Sequence[Step]) -> None:
        self._tables.perform(steps)
        for step in steps:
            self._end_flows(step)

    def _end_flows(self, step: Step) -> None:
        if isinstance(step, Add | Delete) and isinstance(step.object, Element):
            self._flows.end(step.object, self._is_local)

    def _is_local(self, address: IPAddress) -> bool:
        return address.is_loopback or any(
            row.get_attr("IFA_LOCAL") == str(address) or row.get_attr("IFA_ADDRESS") == str(address)
            for row in self._netlink.addr("dump")
        )

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
                self._set_link(link, was)
            case Doom(link):
                self._gone_is_done(lambda: self._set(link.name, group=DOOMED_GROUP))

    def _add(self, one: Object) -> None:
        match one:
            case Bridge() | Veth():
                self._add_link(one)
            case Addr():
                self._add_addr(one)
            case Accept() | Jump():
                iptables.add(one)
            case Sysctl():
                sysctl.write(one)
            case HostPort():
                self._ports.hold(one, self._loop)

    def _delete(self, one: Removable) -> None:
        match one:
            case Link(name=name):
                self._delete_link(name)
            case Accept() | Jump():
                iptables.delete(one)
            case HostPort():
                self._ports.release(one)

    def _reap(self) -> None:
        try:
            self._netlink.link("del", group=DOOMED_GROUP)
        except (OSError, NetlinkError) as error:
            if not _is_gone(error):
                raise KernelError(f"ip link del group {DOOMED_GROUP}: {_reason(error)}") from error

    def _add_link(self, wanted: Bridge | Veth) -> None:
        name = wanted.link().name
        facts: dict[str, Any] = {"ifname": name, "group": GROUP, "state": "up"}
        # The kernel ignores an alias in the message that makes a link (rtnl_newlink_create), so it follows.
        then: dict[str, Any] = {"ifalias": wanted.alias}
        hairpin = isinstance(wanted, Veth) and wanted.hairpin
        if isinstance(wanted, Bridge):
            facts |= {"kind": "bridge", "address": wanted.mac}
            # An MTU from the making does not last: when the last port goes, the kernel sets 1500 (br_mtu_auto_adjust)
            # unless the MTU was changed on a bridge that was there.
            then["mtu"] = wanted.mtu
        else:
            peer = {"ifname": wanted.sandbox_end, "address": wanted.mac, "mtu": wanted.mtu}
            facts |= {"kind": "veth", "mtu": wanted.mtu, "master": _index(wanted.bridge), "peer": peer}
        try:
            self._netlink.link("add", **facts)
        except NetlinkError as error:
            if error.code != errno.EEXIST or not self._equal_is_there(wanted):
                raise
        try:
            self._set(name, **then)
            if hairpin:
                self._netlink.brport("set", index=_index(name), mode=1)
        except (OSError, NetlinkError):
            self._delete_link(name)
            raise

    def _delete_link(self, name: str) -> None:
        """Delete a link of ours. Somebody may have put one of theirs under its name, which stays."""
        for row in links.read():
            if row.name == name and row.group == GROUP:
                self._gone_is_done(partial(self._netlink.link, "del", index=row.index))

    def _equal_is_there(self, wanted: Bridge | Veth) -> bool:
        name = wanted.link().name
        rows = links.read()
        found = next((row for row in rows if row.name == name), None)
        if found is None:  # then it is the peer's name that is taken
            return False
        if found.group != GROUP:
            raise KernelError(f"a link {name} exists that is not mdnp's: choose another name, or remove it")
        return _link(found, {row.index: row.name for row in rows}) == wanted.link()

    def _set_link(self, link: Link, was: Link) -> None:
        facts: dict[str, Any] = {"mtu": link.mtu, "group": link.group, "state": "up"}
        if link.master != was.master:
            facts["master"] = _index(link.master) if link.master else 0
        if link.mac:
            facts["address"] = link.mac
        self._set(link.name, **facts)
        if link.hairpin is not was.hairpin or (
            link.hairpin and link.master != was.master
        ):  # a new port begins with off
            self._netlink.brport("set", index=_index(link.name), mode=int(link.hairpin))

    def _set(self, name: str, **facts: Any) -> None:
        self._netlink.link("set", index=_index(name), **facts)

    def _add_addr(self, addr: Addr) -> None:
        try:
            self._netlink.addr(
                "add",
                index=_index(addr.link),
                address=str(addr.address.ip),
                prefixlen=addr.address.network.prefixlen,
                **({"flags": _IFA_F_NODAD} if addr.address.version == 6 else {}),
            )
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise

    def _gone_is_done(self, work: Callable[[], object]) -> None:
        try:
            work()
        except (OSError, NetlinkError) as error:
            if not _is_gone(error):
                raise


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
        due = [step for step in steps if step.owner not in self._first or stands_alone(step)]
        self.all += [Failure(step, self._first[step.owner]) for step in steps if step not in due]
        return due


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError as error:  # it comes without a number
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error


def _link(row: links.Row, names: dict[int, str]) -> Link:
    return Link(
        name=row.name,
        kind=row.kind,
        mtu=row.mtu,
        master=names.get(row.master),
        mac=MAC(row.mac) if row.kind == "bridge" else None,
        up=row.up,
        hairpin=row.hairpin,
        alias=row.alias,
    )


def _uplinks(rows: list[links.Row], routes: list[Any]) -> frozenset[str]:
    """
    Bridges that are not ours and lead to other hosts: one with a port that is a NIC or stands on one, or one over
    which a router is reached. Containers and virtual machines are on veth and tun.
    """
    bridges = {row.index: row.name for row in rows if row.kind == "bridge" and row.group != GROUP}
    leading = {row.master for row in rows if row.kind not in ("veth", "tun")}
    leading |= {index for route in routes if _has_router(route) or not route["dst_len"] for index in _oifs(route)}
    return frozenset(name for index, name in bridges.items() if index in leading)


def _dropped(counted: Mapping[tuple[str, ...], int]) -> dict[str, int]:
    """The counters of the set `guarded`, by host end."""
    return {key[3].strip('"'): count for key, count in counted.items() if key[2] == "guarded"}


def _batches(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Steps of nft that stand together, and every other one alone."""
    for is_nft, group in groupby(steps, _is_nft):
        if is_nft:
            yield list(group)
        else:
            yield from ([step] for step in group)


def _is_nft(step: Step) -> bool:
    return isinstance(step, Add | Delete) and isinstance(step.object, Table | Element)


def _described(step: Step, error: KernelError | OSError | NetlinkError) -> KernelError:
    if isinstance(error, InUse):
        return error
    return KernelError(f"{step}: {error if isinstance(error, KernelError) else _reason(error)}")


def _addrs(rows: list[Any], names: dict[int, str], bridges: set[str]) -> list[Addr]:
    return [
        Addr(names[row["index"]], ip_interface(f"{row.get_attr('IFA_ADDRESS')}/{row['prefixlen']}"))
        for row in rows
        if names.get(row["index"]) in bridges
    ]


def _is_foreign(row: Any, by_index: dict[int, links.Row]) -> bool:
    link = by_index.get(_oif(row))
    return row["type"] == _RTN_UNICAST and link is not None and link.group != GROUP


def _oif(row: Any) -> int:
    """The index of a route's link, of a route over several the first one's; 0 where there is none."""
    return _oifs(row)[0]


def _oifs(row: Any) -> list[int]:
    several = row.get_attr("RTA_MULTIPATH")
    return [hop["oif"] for hop in several] if several else [row.get_attr("RTA_OIF") or 0]


def _has_router(row: Any) -> bool:
    return any(row.get_attr(one) for one in ("RTA_GATEWAY", "RTA_VIA", "RTA_MULTIPATH"))


def _routes(rows: list[Any], by_index: dict[int, links.Row]) -> list[Route]:
    found = [
        Route(
            ip_network(f"{row.get_attr('RTA_DST')}/{row['dst_len']}"),
            by_index[_oif(row)].name,
            gateway=_has_router(row),
        )
        for row in rows
        if row["dst_len"]
    ]
    return [route for route in found if not route.to.overlaps(_LINK_LOCAL)]  # every link has those


def _resolvers(file: Path = Path("/etc/resolv.conf")) -> tuple[IPNetwork, ...]:
    """The name servers of resolv.conf(5); a scope ("%eth0") is left off, and a line that names none is passed over."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                found.append(ip_network(words[1].partition("%")[0]))
    return tuple(found)


def _underlay_mtu(rows: list[Any], by_index: dict[int, links.Row]) -> int | None:
    """The MTU of the link of the IPv4 default route with the lowest metric, else of the IPv6 one."""
    defaults = [row for row in rows if row["dst_len"] == 0]
    if not defaults:
        return None
    best = min(defaults, key=lambda row: (row["family"] != socket.AF_INET, row.get_attr("RTA_PRIORITY") or 0))
    return by_index[_oif(best)].mtu


def _is_gone(error: OSError | NetlinkError) -> bool:
    code = error.code if isinstance(error, NetlinkError) else error.errno
    return code in (errno.ENODEV, errno.ENOENT, errno.ENXIO, errno.EADDRNOTAVAIL)


def _reason(error: OSError | NetlinkError) -> str:
    return str(error.args[1]) if len(error.args) > 1 else str(error)
