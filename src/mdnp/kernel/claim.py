"""
At most one daemon for a host's network: two would each take away what the other has promised.

The lock in the state folder does not see a managed plugin, whose state is elsewhere. What both share is the network
namespace, and with it the abstract names of sockets.
"""

import errno
import logging
import socket
import struct

from mdnp.model.errors import Conflict

log = logging.getLogger(__name__)

_NAME = "\0mdnp"
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def claim() -> socket.socket:
    """
    Held until it is closed, or the process ends. Errors: Conflict if another daemon holds it.

    Anybody on the host may take the name; who is not root is no daemon, and does not keep us from starting.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        held.bind(_NAME)
        held.listen()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            log.warning("whether another mdnp serves this host is not known: %s", error.strerror)
        elif (holder := _holder()) is not None and holder[1] == 0:
            held.close()
            pid = f" (pid {holder[0]})" if holder[0] else ""
            raise Conflict(
                f"another mdnp serves this host's networks{pid}, with state of its own: a service, or a managed plugin"
                " (`docker plugin ls`): two would take each other's networks away; stop one"
            ) from error
        else:
            log.warning("whether another mdnp serves this host is not known: somebody has taken the name @mdnp")
    return held


def _holder() -> tuple[int, int] | None:
    """Pid (0 if it cannot be seen from here) and uid of who listens; None if nobody does any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.setblocking(False)
            asking.connect(_NAME)
            pid, uid, _ = _CREDENTIALS.unpack(
                asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
        except OSError:
            return None
    return pid, uid
