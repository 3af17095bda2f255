"""
Hearing of a flow's packets from the kernel: our two tables while it is watched, and `nft monitor trace`.

The tables are owned by the socket that made them: the kernel removes them with it, so that nothing is left of a command
that was killed. It lets nobody else change them either.
"""

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from mdnp.kernel.nftables import Nftables
from mdnp.model.errors import KernelError
from mdnp.trace import look
from mdnp.trace.flow import Flow, script, table_of

# It ends with us, also if we are killed.
_MONITOR = ("setpriv", "--pdeathsig", "KILL", "--", "nft", "--handle", "monitor", "trace")
_START_S = 5.0
_QUIET_S = 0.1
_END_S = 3.0
_NETFILTER = "12"
_NFTRACE = 1 << 8  # the group NFNLGRP_NFTRACE, as a bit


class Watch:
    """What is heard while it is open. `read` ends the hearing."""

    def __init__(self, monitor: "subprocess.Popen[bytes]", hooks: dict[str, str]) -> None:
        self._monitor = monitor
        self.hooks = hooks

    def read(self) -> str:
        """All that was told, when nothing more comes."""
        stdout = cast(IO[bytes], self._monitor.stdout)
        out = stdout.fileno()
        os.set_blocking(out, False)
        heard = bytearray()
        end = time.monotonic() + _END_S
        while time.monotonic() < end:
            if select.select([out], [], [], _QUIET_S)[0]:
                data = os.read(out, 1 << 16)
                if not data:
                    break
                heard += data
            elif _is_idle(self._monitor.pid):
                break
        self._monitor.kill()
        os.set_blocking(out, True)
        heard += stdout.read()
        return heard.decode(errors="replace")


@contextlib.contextmanager
def watch(flow: Flow) -> Iterator[Watch]:
    """
    Hear of a flow. Errors: KernelError where the kernel or nft cannot tell (it takes Linux 5.12 and libnftables).
    """
    nft = Nftables.open()
    try:
        table = table_of(os.getpid())
        nft.run(script(flow, table))
        hooks = look.hooks()
        if f"inet {table} reply" not in hooks:  # the program nft made them, and they ended with it
            raise KernelError("libnftables.so.1 is not installed: install libnftables1")
        with _monitor() as monitor:
            yield Watch(monitor, hooks)
    finally:
        nft.close()  # and with its socket our tables


@contextlib.contextmanager
def _monitor() -> Iterator["subprocess.Popen[bytes]"]:
    try:
        monitor = subprocess.Popen(_MONITOR, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise look.missing(_MONITOR[0]) from error
    with monitor:
        try:
            _wait_for(monitor)
            yield monitor
        finally:
            monitor.kill()


def _wait_for(monitor: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + _START_S
    while not _sockets(monitor.pid):
        if monitor.poll() is not None or time.monotonic() > end:
            raise KernelError("`nft monitor trace` does not start")
        time.sleep(0.005)


def _is_idle(process: int) -> bool:
    """Whether the monitor has read and said all: nothing waits in its socket, and it waits for more."""
    state = _text(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
    return all(waiting == "0" for waiting in _sockets(process)) and state[:1] in ([], ["S"], ["Z"])


def _sockets(process: int) -> list[str]:
    """How much waits in each socket of a process that hears of traces."""
    rows = [line.split() for line in _text(Path(f"/proc/{process}/net/netlink")).splitlines()[1:]]
    heard = [row for row in rows if row[1] == _NETFILTER and int(row[3], 16) & _NFTRACE]
    own = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                own.add(str(entry.readlink()))
    return [row[4] for row in heard if f"socket:[{row[-1]}]" in own]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
