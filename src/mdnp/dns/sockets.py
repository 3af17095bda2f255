"""The sockets of a plain server of names."""

import socket
from typing import NamedTuple

from mdnp.model.network import IPAddress

PORT = 53
_BACKLOG = 64
# linux/in.h, linux/in6.h: not in Python's socket
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78


class Pair(NamedTuple):
    """Non-blocking; `streams` listens."""

    datagrams: socket.socket
    streams: socket.socket

    @property
    def ports(self) -> tuple[int, int]:
        """Of UDP and of TCP."""
        datagrams, streams = (one.getsockname()[1] for one in self)
        return datagrams, streams

    def close(self) -> None:
        for one in self:
            one.close()


def open_pair(address: IPAddress, port: int = 0, link: str = "") -> Pair:
    """
    For UDP and TCP, at a port each if none is named. With a `link` they hear of nothing that comes by another, and the
    address need not be there yet. Errors: OSError.
    """
    datagrams = _bound(socket.SOCK_DGRAM, address, port, link)
    try:
        return Pair(datagrams, _bound(socket.SOCK_STREAM, address, port, link))
    except OSError:
        datagrams.close()
        raise


def _bound(kind: socket.SocketKind, address: IPAddress, port: int, link: str) -> socket.socket:
    one = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, kind | socket.SOCK_NONBLOCK)
    try:
        if address.version == 6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if link:
            _stand_on(one, address, link)
        if kind is socket.SOCK_STREAM:  # what ended lately stands in TIME_WAIT, and is nobody's
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((str(address), port))
        if kind is socket.SOCK_STREAM:
            one.listen(_BACKLOG)
    except OSError:
        one.close()
        raise
    return one


def _stand_on(one: socket.socket, address: IPAddress, link: str) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
    level, option = (socket.IPPROTO_IP, _IP_FREEBIND) if address.version == 4 else (socket.IPPROTO_IPV6, _IPV6_FREEBIND)
    one.setsockopt(level, option, 1)
