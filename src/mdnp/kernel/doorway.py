"""
A way into a sandbox for its questions of names: sockets of ours in its network namespace, and a rule that leads there.

The contract; that of Linux is in `sandbox.py`, for tests there is one in memory.
"""

import socket
from typing import Protocol


class Doorway(Protocol):
    """
    `datagrams` and `streams` (listening) get what processes of the sandbox send to port 53 of Docker's embedded DNS,
    127.0.0.11. All are non-blocking. It holds while this process lives and no longer: if it dies, the kernel takes the
    rule away with it, and questions go to the embedded DNS as if we had never been there.
    """

    datagrams: socket.socket
    streams: socket.socket

    def dial(self, kind: socket.SocketKind) -> socket.socket:
        """
        A socket in the sandbox from which the embedded DNS itself is asked: SOCK_DGRAM connected to it, SOCK_STREAM not
        connected yet; non-blocking. Errors: KernelError.
        """

    def stands(self) -> bool:
        """Whether the sandbox's path is still that of its namespace, which the sockets alone keep alive otherwise."""

    def withdraw(self) -> None:
        """
        Questions go to the embedded DNS again, those of who asked us before too; the sockets may still answer what they
        got. Twice is no error, nor after `close`.
        """

    def close(self) -> None:
        """All goes. Twice is no error. It takes a grace period of RCU, 10 to 30 ms: not for the loop's thread."""


class Doorways(Protocol):
    def exists(self, sandbox: str) -> bool:
        """Whether the path is that of a network namespace now. Engines before 26 make it after Join."""

    async def open(self, sandbox: str) -> Doorway:
        """Errors: KernelError, also when there is no such namespace."""
