"""
The grounds that the suite of the kernel room stands on: one contract, a kernel in memory and Linux.

`Ground` is what a test does beside the room, as the rest of the host would.
"""

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mdnp.dataplane.objects import Accept, Family, Rule, Table, Tunnel, forward_chain, program_of
from mdnp.dataplane.rules import FAMILIES, TABLES
from mdnp.kernel import Kernel
from mdnp.kernel.fake import FakeKernel
from mdnp.kernel.linux import LinuxKernel
from mdnp.model import port

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

    def without_jump(self, family: Family) -> None:
        """Somebody flushed FORWARD, and Docker does not know."""

    def flush(self) -> None:
        """Somebody empties Docker's chains."""

    def duplicate(self, rule: Rule) -> None:
        """A rule of ours that is there stands once more."""

    def flush_ruleset(self) -> None:
        """Somebody empties all of nftables; Docker's chains may be legacy ones and stay."""

    def change_table(self, table: Table) -> None:
        """Somebody changes the rules in a table of ours."""

    def set(self, name: str, value: str) -> None:
        """Somebody changes a setting."""

    def take_port(self, wanted: port.HostSocket) -> None:
        """Another process takes a port, and has it to the end."""

    def take_tunnel(self, taken: Tunnel) -> None:
        """Somebody else has a VXLAN link, `theirs`, of this VNI and UDP port."""

    def close(self) -> None:
        """What others did ends."""


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
        self.fake.chains.discard(forward_chain(family))
        self._drop_rules(family)

    def without_jump(self, family: Family) -> None:
        self.fake.unreached.add(forward_chain(family))

    def flush(self) -> None:
        self._drop_rules(4)
        self._drop_rules(6)

    def duplicate(self, rule: Rule) -> None:
        self.fake.objects[rule.key] = replace(rule, copies=2)

    def flush_ruleset(self) -> None:
        for table in TABLES:
            self.fake.flush(table)

    def change_table(self, table: Table) -> None:
        self.fake.objects[table.key] = replace(table, text="")

    def set(self, name: str, value: str) -> None:
        self.fake.settings[name] = value

    def take_port(self, wanted: port.HostSocket) -> None:
        self.fake.taken_ports.add(wanted)

    def take_tunnel(self, taken: Tunnel) -> None:
        self.fake.taken_tunnels[taken.vni, taken.port] = "theirs"

    def close(self) -> None: ...

    def _drop_rules(self, family: Family) -> None:
        for key, one in list(self.fake.objects.items()):
            if isinstance(one, Accept) and one.family == family:
                del self.fake.objects[key]


class Linux:
    """In a network namespace of its own, with Docker's chains."""

    def __init__(self) -> None:
        self.kernel: Kernel = LinuxKernel()
        self._sockets: list[socket.socket] = []
        # No link-local addresses: the kernel would give them to bridges, and they are nobody's here.
        Path("/proc/sys/net/ipv6/conf/default/addr_gen_mode").write_text("1")
        for program in ("iptables", "ip6tables"):
            run(program, "-N", "DOCKER-USER")
            run(program, "-A", "FORWARD", "-j", "DOCKER-USER")

    def add_foreign(self, name: str) -> None:
        run("ip", "link", "add", name, "type", "bridge")

    def vanish(self, name: str) -> None:
        run("ip", "link", "del", name)

    def exists(self, name: str) -> bool:
        return subprocess.run(["ip", "link", "show", name], capture_output=True, check=False).returncode == 0

    def without_chain(self, family: Family) -> None:
        program = program_of(family)
        run(program, "-F", "FORWARD")
        run(program, "-F", "DOCKER-USER")
        run(program, "-X", "DOCKER-USER")

    def without_jump(self, family: Family) -> None:
        run(program_of(family), "-F", "FORWARD")

    def flush(self) -> None:
        for family in FAMILIES:
            run(program_of(family), "-F", "DOCKER-USER")

    def duplicate(self, rule: Rule) -> None:
        run(rule.program, "-A", rule.stands_in, *rule.arguments)

    def flush_ruleset(self) -> None:
        for table in TABLES:
            run("nft", "delete", "table", table.family, "mdnp")

    def change_table(self, table: Table) -> None:
        run("nft", "insert", "rule", table.family, "mdnp", "forward", "counter", "drop")

    def set(self, name: str, value: str) -> None:
        Path("/proc/sys", name).write_text(value)

    def take_port(self, wanted: port.HostSocket) -> None:
        kind = {port.Protocol.TCP: socket.SOCK_STREAM, port.Protocol.UDP: socket.SOCK_DGRAM}[wanted.protocol]
        one = socket.socket(socket.AF_INET if wanted.address.version == 4 else socket.AF_INET6, kind)
        self._sockets.append(one)
        if wanted.address.version == 6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((str(wanted.address), wanted.port))
        if wanted.protocol is port.Protocol.TCP:
            one.listen()

    def take_tunnel(self, taken: Tunnel) -> None:
        run("ip", "link", "add", "theirs", "up", "type", "vxlan", *str(taken).replace("no", "").split())

    def close(self) -> None:
        for one in self._sockets:
            one.close()


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
