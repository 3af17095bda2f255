"""
The grounds that the suite of the kernel room stands on: one contract, a kernel in memory and Linux.

`Ground` is what a test does beside the room, as the rest of the host would.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from mdnp.dataplane.objects import Accept, Family
from mdnp.kernel import Kernel
from mdnp.kernel.fake import FakeKernel
from mdnp.kernel.linux import LinuxKernel

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Ground(Protocol):
    """What others do on the host."""

    kernel: Kernel

    def add_foreign(self, name: str) -> None:
        """Somebody else makes a link."""

    def vanish(self, name: str) -> None:
        """Somebody deletes a link of ours, or its sandbox dies."""

    def exists(self, name: str) -> bool:
        """Whether there is a link of this name, whoever's."""

    def without_chain(self, family: Family) -> None:
        """Docker has not made its chain, or somebody took it away."""

    def flush(self) -> None:
        """Somebody empties Docker's chains."""


class Memory:
    def __init__(self) -> None:
        self.fake = FakeKernel()
        self.kernel: Kernel = self.fake

    def add_foreign(self, name: str) -> None:
        self.fake.foreign.add(name)

    def vanish(self, name: str) -> None:
        self.fake.vanish(name)

    def exists(self, name: str) -> bool:
        return name in self.fake.names

    def without_chain(self, family: Family) -> None:
        self.fake.chains.discard(Accept(family, "").chain)
        self._drop_rules(family)

    def flush(self) -> None:
        self._drop_rules(4)
        self._drop_rules(6)

    def _drop_rules(self, family: Family) -> None:
        for key, one in list(self.fake.objects.items()):
            if isinstance(one, Accept) and one.family == family:
                del self.fake.objects[key]


class Linux:
    """In a network namespace of its own, with Docker's chains."""

    def __init__(self) -> None:
        self.kernel: Kernel = LinuxKernel()
        # No link-local addresses: the kernel would give them to bridges, and they are nobody's here.
        Path("/proc/sys/net/ipv6/conf/default/addr_gen_mode").write_text("1")
        for program in ("iptables", "ip6tables"):
            run(program, "-N", "DOCKER-USER")

    def add_foreign(self, name: str) -> None:
        run("ip", "link", "add", name, "type", "bridge")

    def vanish(self, name: str) -> None:
        run("ip", "link", "del", name)

    def exists(self, name: str) -> bool:
        return subprocess.run(["ip", "link", "show", name], capture_output=True, check=False).returncode == 0

    def without_chain(self, family: Family) -> None:
        program = Accept(family, "").program
        run(program, "-F", "DOCKER-USER")
        run(program, "-X", "DOCKER-USER")

    def flush(self) -> None:
        for program in ("iptables", "ip6tables"):
            run(program, "-F", "DOCKER-USER")


@contextmanager
def own_namespace() -> Iterator[None]:
    """This thread, and those that it makes, in a new network namespace; it goes with the last of them."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _check(_libc.unshare(_CLONE_NEWNET))
        try:
            run("ip", "link", "set", "lo", "up")
            yield
        finally:
            _check(_libc.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def add_nic(name: str, mtu: int) -> None:
    """A link as a host has it: up, with a carrier."""
    run("ip", "link", "add", name, "mtu", str(mtu), "up", "type", "veth", "peer", f"{name}-far")
    run("ip", "link", "set", f"{name}-far", "up")


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
