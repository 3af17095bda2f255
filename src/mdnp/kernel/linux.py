"""
Linux, through rtnetlink. The only module that imports pyroute2.

Netlink calls block (a deletion for some 17 ms), so they run in two threads of our own, one for steps and one for
reaping, each with its own socket: two threads, because what waits for the death of a veth must not hold up a start.
pyroute2 0.9.7: `link("get")` on a long-lived socket leaks, so links are read by dumps and indexes by if_nametoindex.
"""

import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute, NetlinkError

from mdnp.dataplane.naming import DOOMED_GROUP, GROUP
from mdnp.dataplane.objects import Accept, Addr, Bridge, Link, Veth
from mdnp.dataplane.steps import Add, Delete, Doom, Set, Step
from mdnp.kernel import Actual, Failure, Route, Seen, Surroundings, iptables
from mdnp.model.errors import KernelError
from mdnp.model.mac import MAC
from mdnp.model.network import IPNetwork

Result = TypeVar("Result")

_IFF_UP = 1
_IFA_F_NODAD = 0x02  # a gateway's address is ours alone, and must answer at once
_LINK_LOCAL = ip_network("fe80::/10")
_RT_TABLE_MAIN = 254
_RTN_UNICAST = 1


class LinuxKernel:
    """The kernel of the network namespace in which the first call is made."""

    def __init__(self) -> None:
        self._stepper = ThreadPoolExecutor(1, "mdnp-kernel")
        self._reaper = ThreadPoolExecutor(1, "mdnp-reaper")
        self._local = threading.local()

    async def observe(self) -> Actual:
        return await self._in(self._stepper, self._observe)

    async def surroundings(self) -> Surroundings:
        return await self._in(self._stepper, self._surroundings)

    async def perform(self, steps: Sequence[Step]) -> tuple[Failure, ...]:
        return await self._in(self._stepper, lambda: self._perform(steps))

    async def reap(self) -> None:
        await self._in(self._reaper, self._reap)

    async def close(self) -> None:
        for pool in (self._stepper, self._reaper):
            await self._in(pool, self._close)
            await asyncio.to_thread(pool.shutdown)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

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
            links = list(self._netlink.link("dump"))
            addrs = list(self._netlink.addr("dump"))
        except (OSError, NetlinkError) as error:
            raise KernelError(f"reading links and addresses failed: {error}") from error
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
        ours = [_link(link, names) for link in links if link.get_attr("IFLA_GROUP") == GROUP]
        bridges = {link.name for link in ours if link.kind == "bridge"}
        chains, rules = iptables.observe()
        seen: list[Seen] = [*ours, *_addrs(addrs, names, bridges), *rules]
        doomed = any(link.get_attr("IFLA_GROUP") == DOOMED_GROUP for link in links)
        return Actual({one.key: one for one in seen}, chains, doomed)

    def _surroundings(self) -> Surroundings:
        try:
            links = list(self._netlink.link("dump"))
            rows = [
                row
                for family in (socket.AF_INET, socket.AF_INET6)
                for row in self._netlink.route("dump", family=family, table=_RT_TABLE_MAIN)
            ]
        except (OSError, NetlinkError) as error:
            raise KernelError(f"reading routes failed: {error}") from error
        by_index = {link["index"]: link for link in links}
        foreign = [row for row in rows if _is_foreign(row, by_index)]
        return Surroundings(tuple(_routes(foreign, by_index)), _underlay_mtu(foreign, by_index), _resolvers())

    def _perform(self, steps: Sequence[Step]) -> tuple[Failure, ...]:
        failures = []
        for step in steps:
            try:
                self._take(step)
            except KernelError as error:
                failures.append(Failure(step, KernelError(f"{step}: {error}")))
            except (OSError, NetlinkError) as error:
                failures.append(Failure(step, KernelError(f"{step}: {_reason(error)}")))
        return tuple(failures)

    def _take(self, step: Step) -> None:
        match step:
            case Add(Bridge() | Veth() as wanted):
                self._add_link(wanted)
            case Add(Addr() as addr):
                self._add_addr(addr)
            case Add(Accept() as rule):
                iptables.add(rule)
            case Set(link, was):
                self._set_link(link, was)
            case Doom(link):
                self._gone_is_done(lambda: self._set(link.name, group=DOOMED_GROUP))
            case Delete(Link() as link):
                self._delete_link(link.name)
            case Delete(Accept() as rule):
                iptables.delete(rule)

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
        except (OSError, NetlinkError):
            self._delete_link(name)
            raise

    def _delete_link(self, name: str) -> None:
        """Delete a link of ours. Somebody may have put one of theirs under its name, which stays."""
        for link in list(self._netlink.link("dump")):
            if link.get_attr("IFLA_IFNAME") == name and link.get_attr("IFLA_GROUP") == GROUP:
                self._gone_is_done(partial(self._netlink.link, "del", index=link["index"]))

    def _equal_is_there(self, wanted: Bridge | Veth) -> bool:
        name = wanted.link().name
        links = list(self._netlink.link("dump"))
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
        found = next((link for link in links if link.get_attr("IFLA_IFNAME") == name), None)
        if found is None:  # then it is the peer's name that is taken
            return False
        if found.get_attr("IFLA_GROUP") != GROUP:
            raise KernelError(f"a link {name} exists that is not mdnp's: choose another name, or remove it")
        return _link(found, names) == wanted.link()

    def _set_link(self, link: Link, was: Link) -> None:
        facts: dict[str, Any] = {"mtu": link.mtu, "group": link.group, "state": "up"}
        if link.master != was.master:
            facts["master"] = _index(link.master) if link.master else 0
        if link.mac:
            facts["address"] = link.mac
        self._set(link.name, **facts)

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


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError as error:  # it comes without a number
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error


def _link(link: Any, names: dict[int, str]) -> Link:
    info = link.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else ""
    return Link(
        name=link.get_attr("IFLA_IFNAME"),
        kind=kind,
        mtu=link.get_attr("IFLA_MTU"),
        master=names.get(link.get_attr("IFLA_MASTER")),
        mac=MAC(link.get_attr("IFLA_ADDRESS")) if kind == "bridge" else None,
        up=bool(link["flags"] & _IFF_UP),
        alias=link.get_attr("IFLA_IFALIAS") or "",
    )


def _addrs(rows: list[Any], names: dict[int, str], bridges: set[str]) -> list[Addr]:
    return [
        Addr(names[row["index"]], ip_interface(f"{row.get_attr('IFA_ADDRESS')}/{row['prefixlen']}"))
        for row in rows
        if names.get(row["index"]) in bridges
    ]


def _is_foreign(row: Any, by_index: dict[int, Any]) -> bool:
    link = by_index.get(_oif(row))
    return row["type"] == _RTN_UNICAST and link is not None and link.get_attr("IFLA_GROUP") != GROUP


def _oif(row: Any) -> int:
    """The index of a route's link, of a route over several the first one's; 0 where there is none."""
    several = row.get_attr("RTA_MULTIPATH")
    index: int = several[0]["oif"] if several else row.get_attr("RTA_OIF") or 0
    return index


def _routes(rows: list[Any], by_index: dict[int, Any]) -> list[Route]:
    found = [
        Route(
            ip_network(f"{row.get_attr('RTA_DST')}/{row['dst_len']}"),
            by_index[_oif(row)].get_attr("IFLA_IFNAME"),
            gateway=any(row.get_attr(one) for one in ("RTA_GATEWAY", "RTA_VIA", "RTA_MULTIPATH")),
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


def _underlay_mtu(rows: list[Any], by_index: dict[int, Any]) -> int | None:
    """The MTU of the link of the IPv4 default route with the lowest metric, else of the IPv6 one."""
    defaults = [row for row in rows if row["dst_len"] == 0]
    if not defaults:
        return None
    best = min(defaults, key=lambda row: (row["family"] != socket.AF_INET, row.get_attr("RTA_PRIORITY") or 0))
    mtu: int = by_index[_oif(best)].get_attr("IFLA_MTU")
    return mtu


def _is_gone(error: OSError | NetlinkError) -> bool:
    code = error.code if isinstance(error, NetlinkError) else error.errno
    return code in (errno.ENODEV, errno.ENOENT, errno.ENXIO, errno.EADDRNOTAVAIL)


def _reason(error: OSError | NetlinkError) -> str:
    return str(error.args[1]) if len(error.args) > 1 else str(error)
