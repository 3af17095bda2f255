"""
Requests over netlink, to rtnetlink or netfilter; each has a socket of its own, in the namespace of the calling thread.
"""

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from mdnp.kernel import netlink

# include/uapi/linux/netlink.h
_NETLINK_ROUTE = 0
_NLMSG_DONE = 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK = 10, 12
_SO_RCVBUFFORCE = 33

_DATAGRAM = 1 << 18
_PATIENCE_S = 5.0  # the kernel answers a dump as it is read
# Sent at once. Each that fails is answered, and all answers must find room, some 800 bytes each.
_AT_ONCE = 1000
_BUFFER = 4 << 20


@dataclass(frozen=True)
class Request:
    """A message to be sent: what it asks for, whether to make or replace something, and its body."""

    kind: int
    flags: int
    body: bytes


def dump(
    kind: int, body: bytes, answer: int, *, strict: bool = False, protocol: int = _NETLINK_ROUTE
) -> tuple[list[memoryview], bool]:
    """
    The bodies of the answers of a kind, and whether none is missing. `strict` lets the kernel choose by the body, if it
    can. Errors: OSError.
    """
    with _opened(protocol) as asking:
        if strict:
            with suppress(OSError):  # before Linux 4.20 it does not choose
                asking.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        asking.send(netlink.message(kind, _REQUEST | _DUMP, 1, body))
        datagrams = list(_datagrams(asking))
    bodies = [body for data in datagrams for found, _, body in netlink.messages(data) if found == answer]
    return bodies, not any(map(netlink.is_interrupted, datagrams))


def perform(requests: Sequence[Request], protocol: int = _NETLINK_ROUTE) -> dict[int, int]:
    """
    Send them in order; of those that failed, by their place, the error number. One that fails does not keep back the
    others. Errors: OSError when the kernel does not answer.
    """
    failed: dict[int, int] = {}
    with _opened(protocol) as asking:
        for first in range(0, len(requests), _AT_ONCE):
            _send(asking, requests[first : first + _AT_ONCE], first, failed)
    return failed


def ask(request: Request, protocol: int = _NETLINK_ROUTE) -> None:
    """Errors: OSError."""
    failed = perform([request], protocol)
    if failed:
        raise error_of(failed[0])


def error_of(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _send(asking: socket.socket, requests: Sequence[Request], first: int, failed: dict[int, int]) -> None:
    """What succeeds is answered only where it is the last: that it was reached says that all were."""
    last = len(requests) - 1
    asking.send(
        b"".join(
            netlink.message(one.kind, one.flags | _REQUEST | (_ACK if place == last else 0), place + 1, one.body)
            for place, one in enumerate(requests)
        )
    )
    while True:
        for sequence, number in netlink.answers(asking.recv(_DATAGRAM)):
            if number:
                failed[first + sequence - 1] = number
            if sequence == last + 1:
                return


@contextmanager
def _opened(protocol: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as asking:
        asking.settimeout(_PATIENCE_S)
        with suppress(OSError):
            asking.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        with suppress(OSError):
            asking.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        asking.bind((0, 0))
        yield asking


def _datagrams(asking: socket.socket) -> Iterator[bytes]:
    """All of an answer, the one with its end too."""
    while True:
        data = asking.recv(_DATAGRAM)
        yield data
        for kind, _port, body in netlink.messages(data):
            if kind == _NLMSG_DONE:
                return
            if kind == netlink.NLMSG_ERROR:
                raise error_of(-netlink.ERROR.unpack_from(body)[0] or errno.EIO)
