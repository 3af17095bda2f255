"""Links and addresses: made, set and deleted, through pyroute2."""

import errno
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_interface
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from mdnp.dataplane.naming import GROUP, PEER_PREFIXES
from mdnp.dataplane.objects import Addr, Bridge, Link, MadeLink, Peer, Veth, Vxlan
from mdnp.kernel import links, tunnels
from mdnp.model.errors import InUse, KernelError
from mdnp.model.mac import MAC

_IFA_F_NODAD = 0x02  # an address of ours is ours alone, and must answer at once


class Wires:
    """`netlink` is the socket of the thread that calls."""

    def __init__(self, netlink: Callable[[], IPRoute]) -> None:
        self._netlink = netlink

    def add(self, one: MadeLink | Addr) -> None:
        """Errors: OSError, NetlinkError, KernelError."""
        match one:
            case Bridge() | Veth():
                self._add_link(one)
            case Vxlan():
                self._add_tunnel(one)
            case Peer():
                tunnels.adopt(one, index_of(one.name), index_of(one.bridge) if one.bridge else None)
            case Addr():
                self._add_addr(one)

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
            facts |= {"kind": "veth", "mtu": wanted.mtu, "master": index_of(wanted.bridge), "peer": peer}
        try:
            self._netlink().link("add", **facts)
        except NetlinkError as error:
            if error.code != errno.EEXIST or not self._equal_is_there(wanted):
                raise
        try:
            self.set(name, **then)
            if hairpin:
                self._netlink().brport("set", index=index_of(name), mode=1)
        except (OSError, NetlinkError):
            self.delete_link(name)
            raise

    def _add_tunnel(self, wanted: Vxlan) -> None:
        try:
            tunnels.add(wanted, index_of(wanted.bridge))
        except InUse:
            self.delete_link(wanted.name)
            raise
        except OSError as error:
            if error.errno != errno.EEXIST:
                self.delete_link(wanted.name)
                raise
            if self._equal_is_there(wanted):
                return
            if any(row.name == wanted.name for row in links.read()):
                raise
            raise tunnels.vni_in_use_by(wanted.tunnel) from error

    def delete_link(self, name: str) -> None:
        """Delete a link of ours. Somebody may have put one of theirs under its name, which stays."""
        for row in links.read():
            if row.name == name and row.group == GROUP:
                gone_is_done(partial(self._netlink().link, "del", index=row.index))

    def _equal_is_there(self, wanted: Bridge | Veth | Vxlan) -> bool:
        name = wanted.link().name
        rows = links.read()
        found = next((row for row in rows if row.name == name), None)
        if found is None:  # then it is the peer's name that is taken
            return False
        if found.group != GROUP:
            raise KernelError(f"a link {name} exists that is not mdnp's: choose another name, or remove it")
        return as_seen(found, {row.index: row.name for row in rows}) == wanted.link()

    def set_link(self, link: Link, was: Link) -> None:
        facts: dict[str, Any] = {"mtu": link.mtu, "group": link.group, "state": "up"}
        if link.master != was.master:
            facts["master"] = index_of(link.master) if link.master else 0
        if link.mac:
            facts["address"] = link.mac
        self.set(link.name, **facts)
        if link.hairpin is not was.hairpin or (
            link.hairpin and link.master != was.master
        ):  # a new port begins with off
            self._netlink().brport("set", index=index_of(link.name), mode=int(link.hairpin))
        if link.flags and link.flags != was.flags:
            tunnels.set_flags(index_of(link.name), link.flags)

    def set(self, name: str, **facts: Any) -> None:
        self._netlink().link("set", index=index_of(name), **facts)

    def _add_addr(self, addr: Addr) -> None:
        try:
            self._netlink().addr(
                "add",
                index=index_of(addr.link),
                address=str(addr.address.ip),
                prefixlen=addr.address.network.prefixlen,
                **({"flags": _IFA_F_NODAD} if addr.address.version == 6 else {}),
            )
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise


def as_seen(row: links.Row, names: Mapping[int, str]) -> Link:
    has_mac = row.kind == "bridge" or row.name.startswith(PEER_PREFIXES)
    return Link(
        name=row.name,
        kind=row.kind,
        mtu=row.mtu,
        master=names.get(row.master),
        mac=MAC(row.mac) if has_mac else None,
        up=row.up,
        hairpin=row.hairpin,
        alias=row.alias,
        tunnel=row.tunnel,
        flags=row.flags,
    )


def addrs(rows: list[Any], names: Mapping[int, str], holders: set[str]) -> list[Addr]:
    """Those on links that hold addresses of ours."""
    return [
        Addr(names[row["index"]], ip_interface(f"{row.get_attr('IFA_ADDRESS')}/{row['prefixlen']}"))
        for row in rows
        if names.get(row["index"]) in holders
    ]


def index_of(name: str) -> int:
    """Errors: OSError, ENODEV."""
    try:
        return socket.if_nametoindex(name)
    except OSError as error:  # it comes without a number
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error


def gone_is_done(work: Callable[[], object]) -> None:
    try:
        work()
    except (OSError, NetlinkError) as error:
        if not is_gone(error):
            raise


def is_gone(error: OSError | NetlinkError) -> bool:
    code = error.code if isinstance(error, NetlinkError) else error.errno
    return code in (errno.ENODEV, errno.ENOENT, errno.ENXIO, errno.EADDRNOTAVAIL, errno.ESRCH)


def reason_of(error: OSError | NetlinkError) -> str:
    return str(error.args[1]) if len(error.args) > 1 else str(error)
