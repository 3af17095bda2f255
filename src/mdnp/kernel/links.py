"""
The links of a network namespace: read by one dump, made, changed and deleted; of the namespace of the calling thread.
"""

import socket
from collections.abc import Sequence, Set
from dataclasses import dataclass
from ipaddress import ip_address

from mdnp.dataplane.links import PortFlags, Tunnel
from mdnp.kernel import facts, netlink, rtnetlink
from mdnp.kernel.rtnetlink import Request
from mdnp.model.errors import KernelError

# include/uapi/linux/{rtnetlink,if_link}.h
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
IFLA_VXLAN_ID, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT, IFLA_VXLAN_LOCAL6 = 1, 4, 7, 15, 17
_OF_A_LINK = frozenset(
    {
        facts.IFLA_ADDRESS,
        netlink.IFLA_IFNAME,
        facts.IFLA_MTU,
        facts.IFLA_MASTER,
        facts.IFLA_LINKINFO,
        facts.IFLA_IFALIAS,
        netlink.IFLA_GROUP,
    }
)
# Most ports are only asked for their mode, which stands in front.
_OF_A_PORT = frozenset({facts.IFLA_BRPORT_MODE})
_OF_A_TUNNEL_S_PORT = _OF_A_PORT | frozenset(facts.PORT_FLAGS.values())

# Of a dump during which links came or went the kernel says so: what was read may lack links that are there. Where so
# many start at once that each try meets a change, the last one must do.
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Row:
    """
    A link as the kernel tells of it. `master` is an index, 0 where there is none; `mac` has colons, or is ""; `tunnel`
    is that of a VXLAN link, and `flags` those of its bridge port.
    """

    index: int
    name: str
    kind: str
    mtu: int
    master: int
    mac: str
    up: bool
    group: int
    alias: str
    hairpin: bool
    tunnel: Tunnel | None = None
    flags: PortFlags | None = None


def read() -> list[Row]:
    """Of the network namespace of this thread. Errors: KernelError."""
    for _ in range(_TRIES):
        bodies, whole = dump()
        if whole:
            break
    return [parse(body) for body in bodies]


def dump() -> tuple[Sequence[memoryview], bool]:
    """The bodies of the links' messages, and whether none is missing. Errors: KernelError."""
    try:
        return rtnetlink.dump(_RTM_GETLINK, netlink.LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _RTM_NEWLINK)
    except OSError as error:
        raise KernelError(f"reading links failed: {error.strerror or error}") from error


def make(*said: bytes, up: bool = False) -> None:
    """Errors: OSError, EEXIST where its name is taken."""
    rtnetlink.ask(Request(_RTM_NEWLINK, rtnetlink.CREATE | rtnetlink.EXCL, facts.link(*said, up=up)))


def change(index: int, *said: bytes, up: bool = False) -> None:
    """Errors: OSError."""
    rtnetlink.ask(Request(_RTM_NEWLINK, 0, facts.link(*said, index=index, up=up)))


def delete(index: int) -> None:
    """The kernel waits for an RCU grace period, some 17 ms. Errors: OSError."""
    rtnetlink.ask(Request(_RTM_DELLINK, 0, facts.link(index=index)))


def delete_group(number: int) -> None:
    """All links of a group, in the time of one. Errors: OSError, ENODEV when there is none."""
    rtnetlink.ask(Request(_RTM_DELLINK, 0, facts.link(facts.group(number))))


def parse(body: memoryview) -> Row:
    """One message of a dump."""
    _family, _type, index, flags, _changed = netlink.LINK.unpack_from(body)
    found = netlink.attributes(body[netlink.LINK.size :], _OF_A_LINK)
    info = netlink.attributes(found.get(facts.IFLA_LINKINFO, memoryview(b"")))
    kind = netlink.text(info.get(facts.IFLA_INFO_KIND, b""))
    port = _port(info, _OF_A_TUNNEL_S_PORT if kind == "vxlan" else _OF_A_PORT)
    return Row(
        index=index,
        name=netlink.text(found.get(netlink.IFLA_IFNAME, b"")),
        kind=kind,
        mtu=netlink.number(found.get(facts.IFLA_MTU)),
        master=netlink.number(found.get(facts.IFLA_MASTER)),
        mac=bytes(found.get(facts.IFLA_ADDRESS, b"")).hex(":"),
        up=bool(flags & facts.IFF_UP),
        group=netlink.number(found.get(netlink.IFLA_GROUP)),
        alias=netlink.text(found.get(facts.IFLA_IFALIAS, b"")),
        hairpin=bool(netlink.number(port.get(facts.IFLA_BRPORT_MODE))),
        tunnel=_tunnel(info.get(facts.IFLA_INFO_DATA)) if kind == "vxlan" else None,
        flags=_flags(port) if kind == "vxlan" and port else None,
    )


def _port(info: dict[int, memoryview], wanted: Set[int]) -> dict[int, memoryview]:
    """The attributes of a port mean other things below other kinds of masters."""
    if netlink.text(info.get(facts.IFLA_INFO_SLAVE_KIND, b"")) != "bridge":
        return {}
    return netlink.attributes(info[facts.IFLA_INFO_SLAVE_DATA], wanted)


def _flags(port: dict[int, memoryview]) -> PortFlags:
    return PortFlags(**{name: bool(netlink.number(port.get(one))) for name, one in facts.PORT_FLAGS.items()})


def _tunnel(data: memoryview | None) -> Tunnel | None:
    """None of one without an address of its own, which is not ours."""
    found = netlink.attributes(data) if data is not None else {}
    local = found.get(IFLA_VXLAN_LOCAL) or found.get(IFLA_VXLAN_LOCAL6)
    if local is None:
        return None
    return Tunnel(
        vni=netlink.number(found.get(IFLA_VXLAN_ID)),
        local=ip_address(bytes(local)),
        port=int.from_bytes(found.get(IFLA_VXLAN_PORT, b""), "big"),
        learning=bool(netlink.number(found.get(IFLA_VXLAN_LEARNING))),
    )
