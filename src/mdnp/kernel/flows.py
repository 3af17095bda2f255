"""
What the kernel remembers of UDP to a port of the host, ended when the port leads elsewhere.

The translation of a flow is decided by its first packet and lasts as long as packets follow. A client that keeps its
port, as a sender of syslog does, would for ever send to a container that is gone, or to the host itself if it sent
before the container came. TCP needs none of this: a connection ends with its container, and the next has a new port.
"""

import logging
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address

from pyroute2 import NetlinkError, NFCTSocket
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

from mdnp.dataplane.objects import Element
from mdnp.model.network import IPAddress

log = logging.getLogger(__name__)

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Flows:
    """For one thread. A socket is kept for each family: to open one takes 10 ms, to use it one."""

    def __init__(self) -> None:
        self._sockets: dict[int, NFCTSocket] = {}

    def end(self, changed: Element, is_local: Callable[[IPAddress], bool]) -> None:
        """
        End the flows to the host's port of an element of `ports4`, `bound4` and their like, if it is of UDP.

        What cannot be ended (a kernel without conntrack's netlink) is only logged: it ends by itself when the client
        pauses.
        """
        if not changed.value or changed.parts[-2] != "udp":
            return
        *address, _, port = changed.parts
        family = _FAMILIES[ip_address(changed.value[0]).version]
        try:
            conntrack = self._socket(family)
            for flow in list(_flows(conntrack, family, int(port))):
                to = ip_address(flow.daddr)
                if to == ip_address(address[0]) if address else is_local(to):
                    _forget(conntrack, flow)
        except (NetlinkError, OSError) as error:
            log.warning("UDP clients of port %s that do not pause may not reach its new container: %s", port, error)

    def close(self) -> None:
        for one in self._sockets.values():
            one.close()

    def _socket(self, family: int) -> NFCTSocket:
        if family not in self._sockets:
            self._sockets[family] = NFCTSocket(nfgen_family=family)
        return self._sockets[family]


def _flows(conntrack: NFCTSocket, family: int, port: int) -> Iterator[NFCTAttrTuple]:
    """The kernel filters, so that a host with a million flows answers as fast (Linux 5.8)."""
    wanted = NFCTAttrTuple(family=family, proto=socket.IPPROTO_UDP, dport=port)
    for row in conntrack.dump(tuple_orig=wanted):
        flow = NFCTAttrTuple.from_netlink(family, row.get_attr("CTA_TUPLE_ORIG"))
        if (flow.proto, flow.dport) == (socket.IPPROTO_UDP, port):
            yield flow


def _forget(conntrack: NFCTSocket, flow: NFCTAttrTuple) -> None:
    try:
        conntrack.entry("del", tuple_orig=flow)
    except NetlinkError as error:
        log.debug("a flow had ended already: %s", error)
