"""Messages to netfilter's parts over netlink, and transactions of nf_tables."""

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from mdnp.kernel import netlink

PROTOCOL = 12  # NETLINK_NETFILTER
# include/uapi/linux/{netlink,netfilter/nfnetlink}.h
HEADER = struct.Struct("!BBH")  # nfgenmsg: family, version, resource
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NF_TABLES = 10
_REQUEST, _ACK = 0x1, 0x4

_SOL_NETLINK, _NETLINK_CAP_ACK = 270, 10
_SO_SNDBUFFORCE = 32

_BUFFER = 1 << 16
_SEND_BUFFER = 1 << 16  # what every host lets a socket send
_PATIENCE_S = 10.0  # the kernel answers before the sending ends


@dataclass(frozen=True)
class Message:
    """To nf_tables: what it asks for (NFT_MSG_NEWTABLE is 0 and so on), of which family, and its attributes."""

    kind: int
    flags: int
    family: int
    body: bytes


def opened() -> socket.socket:
    """For transactions, in the network namespace of the calling thread. Errors: OSError."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, PROTOCOL)
    made.settimeout(_PATIENCE_S)
    made.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
    made.bind((0, 0))
    return made


def transact(asking: socket.socket, messages: Sequence[Message]) -> None:
    """Errors: OSError, the first that the kernel answers; then nothing of it was done."""
    said = _transaction(messages)
    if len(said) > _SEND_BUFFER:
        asking.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * len(said))
    asking.send(said)
    answers: dict[int, int] = {}
    while len(messages) not in answers:
        answers |= dict(netlink.answers(asking.recv(_BUFFER)))
    failed = next(filter(None, answers.values()), 0)
    if failed:
        raise OSError(failed, os.strerror(failed))


def _transaction(messages: Sequence[Message]) -> bytes:
    """
    What fails is answered, and the last message: thousands of answers would find no room. They come when all is done,
    in the order of the messages.
    """
    border = HEADER.pack(0, 0, _NF_TABLES)
    parts = [netlink.message(_BATCH_BEGIN, _REQUEST, 0, border)]
    for place, one in enumerate(messages, 1):
        flags = one.flags | _REQUEST | (_ACK if place == len(messages) else 0)
        body = HEADER.pack(one.family, 0, 0) + one.body
        parts.append(netlink.message(_NF_TABLES << 8 | one.kind, flags, place, body))
    parts.append(netlink.message(_BATCH_END, _REQUEST, 0, border))
    return b"".join(parts)
