"""What the next daemon gets of a supervisor, in the same process; and ports that stay free while nobody holds them."""

import os
import socket
from contextlib import suppress
from itertools import count

from mdnp.systemd import Ear, FDStore, Inherited
from rig.supervisor import Supervisor

_BELOW_LOCAL = range(20000, 32000)  # the kernel gives others none of these
_next = count(os.getpid() * 97)


def free_port() -> int:
    while True:
        port = _BELOW_LOCAL[next(_next) % len(_BELOW_LOCAL)]
        with socket.socket(socket.AF_INET6) as both, suppress(OSError):
            both.bind(("::", port))
            return port


def next_store(supervisor: Supervisor) -> FDStore:
    """The FD store as the next daemon finds it."""
    supervisor.settle()
    inherited = [Inherited(one.name, one.socket.dup()) for one in supervisor.kept]
    return FDStore(Ear(supervisor.env["NOTIFY_SOCKET"]), inherited)


def names(supervisor: Supervisor) -> list[str]:
    """What the store has."""
    supervisor.settle()
    return sorted(one.name for one in supervisor.kept)
