"""Links and addresses, as steps make, set and delete them; in the network namespace of the calling thread."""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import partial
from ipaddress import ip_interface

from mdnp.dataplane.naming import GROUP, PEER_PREFIXES
from mdnp.dataplane.objects import Addr, Bridge, Link, MadeLink, Peer, Veth, Vxlan
from mdnp.kernel import facts, links, netlink, rtnetlink, tunnels
from mdnp.kernel.rtnetlink import Request
from mdnp.model.errors import InUse, KernelError
from mdnp.model.mac import MAC
from mdnp.model.network import IPAddress, IPInterface

# include/uapi/linux/{rtnetlink,if_addr}.h
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_ADDRESS = struct.Struct("=BBBBi")  # ifaddrmsg: family, prefix length, flags, scope, index
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 0x02  # an address of ours is ours alone, and must answer at once
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def add(one: MadeLink | Addr) -> None:
    """Errors: OSError, KernelError."""
    match one:
        case Bridge():
            # An MTU from the making does not last: when the last port goes, the kernel sets 1500 (br_mtu_auto_adjust)
            # unless the MTU was changed on a bridge that was there.
            _add_link(one, [facts.mac(one.mac), facts.kind("bridge")], [facts.mtu(one.mtu)])
        case Veth():
            _add_link(one, _pair(one), [facts.hairpin(on=True)] if one.hairpin else [])
        case Vxlan():
            _add_tunnel(one)
        case Peer():
            tunnels.adopt(one, index_of(one.name), index_of(one.bridge) if one.bridge else None)
        case Addr():
            _add_addr(one)


def _add_link(wanted: Bridge | Veth, made: Sequence[bytes], then: Sequence[bytes]) -> None:
    """The kernel ignores an alias in the message that makes a link (rtnl_newlink_create), so it follows."""
    name = wanted.link().name
    try:
        links.make(facts.name(name), facts.group(), *made, up=True)
    except OSError as error:
        if error.errno != errno.EEXIST or not _equal_is_there(wanted):
            raise
    try:
        links.change(index_of(name), facts.alias(wanted.alias), *then)
    except OSError:
        delete_link(name)
        raise


def _pair(wanted: Veth) -> list[bytes]:
    mtu = facts.mtu(wanted.mtu)
    peer = facts.peer(facts.name(wanted.sandbox_end), facts.mac(wanted.mac), mtu)
    return [mtu, facts.master(index_of(wanted.bridge)), facts.kind("veth", peer)]


def _add_tunnel(wanted: Vxlan) -> None:
    try:
        tunnels.add(wanted, index_of(wanted.bridge))
    except InUse:
        delete_link(wanted.name)
        raise
    except OSError as error:
        if error.errno != errno.EEXIST:
            delete_link(wanted.name)
            raise
        if _equal_is_there(wanted):
            return
        if any(row.name == wanted.name for row in links.read()):
            raise
        raise tunnels.vni_in_use_by(wanted.tunnel) from error


def delete_link(name: str) -> None:
    """Delete a link of ours. Somebody may have put one of theirs under its name, which stays."""
    for row in links.read():
        if row.name == name and row.group == GROUP:
            gone_is_done(partial(links.delete, row.index))


def _equal_is_there(wanted: Bridge | Veth | Vxlan) -> bool:
    name = wanted.link().name
    rows = links.read()
    found = next((row for row in rows if row.name == name), None)
    if found is None:  # then it is the peer's name that is taken
        return False
    if found.group != GROUP:
        raise KernelError(f"a link {name} exists that is not mdnp's: choose another name, or remove it")
    return as_seen(found, {row.index: row.name for row in rows}) == wanted.link()


def set_link(link: Link, was: Link) -> None:
    """Errors: OSError."""
    said = [facts.mtu(link.mtu), facts.group(link.group)]
    if link.master != was.master:
        said.append(facts.master(index_of(link.master) if link.master else 0))
    if link.mac:
        said.append(facts.mac(link.mac))
    index = index_of(link.name)
    links.change(index, *said, up=True)
    if link.hairpin is not was.hairpin or (link.hairpin and link.master != was.master):  # a new port begins with off
        links.change(index, facts.hairpin(on=link.hairpin))
    if link.flags and link.flags != was.flags:
        tunnels.set_flags(index, link.flags)


def doom(name: str, group: int) -> None:
    """Put it into another group than ours. Errors: OSError."""
    links.change(index_of(name), facts.group(group))


def _add_addr(addr: Addr) -> None:
    one = addr.address
    flags = _IFA_F_NODAD if one.version == 6 else 0
    head = _ADDRESS.pack(_FAMILIES[one.version], one.network.prefixlen, flags, 0, index_of(addr.link))
    said = [netlink.attribute(kind, one.ip.packed) for kind in (_IFA_LOCAL, _IFA_ADDRESS)]
    try:
        rtnetlink.ask(Request(_RTM_NEWADDR, rtnetlink.CREATE | rtnetlink.EXCL, head + b"".join(said)))
    except OSError as error:
        if error.errno != errno.EEXIST:
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


def addrs(names: Mapping[int, str], holders: Set[str]) -> list[Addr]:
    """Those on links that hold addresses of ours. Errors: OSError."""
    return [Addr(names[index], one) for index, one in _addresses() if names.get(index) in holders]


def is_local(address: IPAddress) -> bool:
    """Whether it is one of the host's. Errors: OSError."""
    return address.is_loopback or any(one.ip == address for _, one in _addresses())


def _addresses() -> Iterator[tuple[int, IPInterface]]:
    """With the index of its link. The kernel has the host's own of a point-to-point link in IFA_LOCAL, for IPv4."""
    bodies, _whole = rtnetlink.dump(_RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0), _RTM_NEWADDR)
    for body in bodies:
        _family, length, _flags, _scope, index = _ADDRESS.unpack_from(body)
        said = netlink.attributes(body[_ADDRESS.size :])
        address = said.get(_IFA_LOCAL) or said.get(_IFA_ADDRESS)
        if address is not None:
            yield index, ip_interface((bytes(address), length))


def index_of(name: str) -> int:
    """Errors: OSError, ENODEV."""
    try:
        return socket.if_nametoindex(name)
    except OSError as error:  # it comes without a number
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error


def gone_is_done(work: Callable[[], object]) -> None:
    try:
        work()
    except OSError as error:
        if not is_gone(error):
            raise


def is_gone(error: OSError) -> bool:
    return error.errno in (errno.ENODEV, errno.ENOENT, errno.ENXIO, errno.EADDRNOTAVAIL, errno.ESRCH)


def reason_of(error: OSError) -> str:
    return error.strerror or str(error)
