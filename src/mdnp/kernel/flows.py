"""
What the kernel remembers of UDP to a port of the host, ended when the port leads elsewhere.

The translation of a flow is decided by its first packet and lasts as long as packets follow. A client that keeps its
port, as a sender of syslog does, would for ever send to a container that is gone, or to the host itself if it sent
before the container came. TCP needs none of this: a connection ends with its container, and the next has a new port.
"""

import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from mdnp.dataplane.objects import Element
from mdnp.kernel import netlink, nfnetlink, rtnetlink
from mdnp.kernel.nfnetlink import HEADER
from mdnp.kernel.rtnetlink import Request
from mdnp.model.network import IPAddress

log = logging.getLogger(__name__)

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
# include/uapi/linux/netfilter/nfnetlink_conntrack.h
_NEW, _GET, _DELETE = (1 << 8 | kind for kind in (0, 1, 2))  # of subsystem 1, NFNL_SUBSYS_CTNETLINK
_TUPLE, _ID, _FILTER = 1, 12, 25
_ADDRESSES, _PROTOCOL = 1, 2
_TO = {4: 2, 6: 4}  # CTA_IP_V4_DST, CTA_IP_V6_DST
_NUMBER, _TO_PORT = 1, 3
_FILTER_FLAGS = 1  # CTA_FILTER_ORIG_FLAGS
_BY_PROTOCOL_AND_PORT = 1 << 3 | 1 << 5  # net/netfilter/nf_conntrack_netlink.c: PROTO_NUM, PROTO_DST_PORT


@dataclass(frozen=True)
class _Flow:
    to: IPAddress
    port: int
    name: bytes  # what the kernel knows it by, as attributes


def end(changed: Element, is_local: Callable[[IPAddress], bool]) -> None:
    """
    End the flows to the host's port of an element of `ports4`, `bound4` and their like, if it is of UDP.

    What cannot be ended (a kernel without conntrack's netlink) is only logged: it ends by itself when the client
    pauses.
    """
    if not changed.value or changed.parts[-2] != "udp":
        return
    *address, _, port = changed.parts
    version = ip_address(changed.value[0]).version
    try:
        for flow in list(_flows(version, int(port))):
            if flow.to == ip_address(address[0]) if address else is_local(flow.to):
                _forget(version, flow)
    except OSError as error:
        log.warning("UDP clients of port %s that do not pause may not reach its new container: %s", port, error)


def _flows(version: int, port: int) -> Iterator[_Flow]:
    """The kernel filters, so that a host with a million flows answers as fast (Linux 5.8)."""
    said = [
        netlink.nested(
            _TUPLE,
            netlink.nested(
                _PROTOCOL,
                netlink.attribute(_NUMBER, bytes([socket.IPPROTO_UDP])),
                netlink.attribute(_TO_PORT, struct.pack("!H", port)),
            ),
        ),
        netlink.nested(_FILTER, netlink.attribute(_FILTER_FLAGS, struct.pack("=I", _BY_PROTOCOL_AND_PORT))),
    ]
    bodies, _whole = rtnetlink.dump(_GET, _head(version) + b"".join(said), _NEW, protocol=nfnetlink.PROTOCOL)
    for body in bodies:
        flow = _parse(version, body)
        if flow is not None and flow.port == port:
            yield flow


def _parse(version: int, body: memoryview) -> _Flow | None:
    """One of UDP."""
    said = netlink.attributes(body[HEADER.size :])
    tuple_ = netlink.attributes(said.get(_TUPLE, memoryview(b"")))
    addresses = netlink.attributes(tuple_.get(_ADDRESSES, memoryview(b"")))
    protocol = netlink.attributes(tuple_.get(_PROTOCOL, memoryview(b"")))
    to, port = addresses.get(_TO[version]), protocol.get(_TO_PORT)
    if to is None or port is None or netlink.number(protocol.get(_NUMBER)) != socket.IPPROTO_UDP:
        return None
    name = netlink.nested(_TUPLE, bytes(said[_TUPLE])) + netlink.attribute(_ID, bytes(said.get(_ID, b"")))
    return _Flow(ip_address(bytes(to)), int.from_bytes(port, "big"), name)


def _forget(version: int, flow: _Flow) -> None:
    try:
        rtnetlink.ask(Request(_DELETE, 0, _head(version) + flow.name), nfnetlink.PROTOCOL)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        log.debug("a flow had ended already")


def _head(version: int) -> bytes:
    return HEADER.pack(_FAMILIES[version], 0, 0)
