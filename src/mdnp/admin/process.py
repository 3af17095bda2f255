"""What this process uses, as /proc says: proc(5)."""

import os
from dataclasses import dataclass
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_BEFORE_STATE = b") "  # the program's name may have blanks and parentheses


@dataclass(frozen=True)
class Process:
    """`start_time` is in seconds since the epoch."""

    cpu_seconds: float
    resident_bytes: int
    virtual_bytes: int
    open_fds: int
    max_fds: int
    start_time: float


def read() -> Process:
    """Of this process."""
    fields = (_PROC / "self/stat").read_bytes().rpartition(_BEFORE_STATE)[2].split()
    user, system, started = (int(fields[number - 3]) / _TICKS for number in (14, 15, 22))
    return Process(
        cpu_seconds=user + system,
        resident_bytes=int(fields[24 - 3]) * _PAGE,
        virtual_bytes=int(fields[23 - 3]),
        open_fds=sum(1 for _ in (_PROC / "self/fd").iterdir()),
        max_fds=getrlimit(RLIMIT_NOFILE)[0],
        start_time=_booted() + started,
    )


def _booted() -> float:
    for line in (_PROC / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
