"""Doorways without a kernel's: sandboxes that are only written down, with sockets on this host's loopback address."""

import socket
from dataclasses import dataclass, field

from mdnp.model.errors import KernelError


@dataclass
class MemoryDoorways:
    """
    `there` are the sandboxes, with the number of the namespace that each has now; `refusing` why one is not opened.
    Their embedded DNS is whoever has the address `embedded`.
    """

    there: dict[str, int] = field(default_factory=dict)
    refusing: dict[str, str] = field(default_factory=dict)
    embedded: tuple[str, int] = ("127.0.0.1", 9)
    opened: list["MemoryDoorway"] = field(default_factory=list)
    tries: int = 0

    def exists(self, sandbox: str) -> bool:
        return sandbox in self.there

    async def open(self, sandbox: str) -> "MemoryDoorway":
        self.tries += 1
        if sandbox not in self.there:
            raise KernelError(f"there is no sandbox {sandbox}")
        if reason := self.refusing.get(sandbox):
            raise KernelError(reason)
        if any(one.sandbox == sandbox and one.number == self.there[sandbox] for one in self.now):
            raise KernelError(f"another process owns the table in {sandbox}")
        doorway = MemoryDoorway(self, sandbox, self.there[sandbox])
        self.opened.append(doorway)
        return doorway

    @property
    def now(self) -> list["MemoryDoorway"]:
        """Those that are open."""
        return [one for one in self.opened if not one.closed]


class MemoryDoorway:
    def __init__(self, doorways: MemoryDoorways, sandbox: str, number: int) -> None:
        self._doorways = doorways
        self.sandbox = sandbox
        self.number = number
        self.datagrams = _bound(socket.SOCK_DGRAM)
        self.streams = _bound(socket.SOCK_STREAM)
        self.streams.listen()
        self.leads_here = True
        self.closed = False

    def dial(self, kind: socket.SocketKind) -> socket.socket:
        if self.closed:
            raise KernelError(f"{self.sandbox} was closed")
        dialled = socket.socket(socket.AF_INET, kind)
        dialled.setblocking(False)
        if kind == socket.SOCK_DGRAM:
            dialled.connect(self._doorways.embedded)
        return dialled

    def stands(self) -> bool:
        return self._doorways.there.get(self.sandbox) == self.number

    def withdraw(self) -> None:
        self.leads_here = False

    def close(self) -> None:
        self.leads_here = False
        self.closed = True
        self.datagrams.close()
        self.streams.close()


def _bound(kind: socket.SocketKind) -> socket.socket:
    bound = socket.socket(socket.AF_INET, kind)
    bound.setblocking(False)
    bound.bind(("127.0.0.1", 0))
    return bound
