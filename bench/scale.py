"""
A fleet: 200 simulated hosts of 50 containers on one real etcd, beside real daemons with real kernels.

The same is measured with 50 hosts first, so that what grows with the fleet is told from what does not. docs/scale.md
says what the figures mean.
"""

import asyncio
import json
import statistics
import sys
import time
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any

from bench.docker import new_endpoint
from bench.fleet import ENDPOINTS
from bench.inside import Rows, enter
from bench.member import Member
from mdnp.dataplane import naming
from rig.etcd import Etcd
from rig.host import GATEWAY, Underlay
from rig.sandbox import Run

_SIZES = (50, 200)
_OF_A_PROCESS = 50
_CHANGES = 30
_WARM_UP = 3
_IDLE_S = 10.0
_PATIENCE_S = 120.0
_POLL_S = 0.5  # a look at all rows takes a tenth of a second
_ROWS = 3  # of each address: fdb of the tunnel, fdb of the bridge, neighbour
_EVERYBODY = "00:00:00:00:00:00"  # where broadcasts are replicated to
_MIB = 1 << 20

Counted = dict[str, float]
Figures = dict[str, tuple[str, float]]  # a unit and a value, by what they are of


def run() -> list[dict[str, Any]]:
    """A row for each figure, with a column for each size of the fleet."""
    with Run() as rig:
        measured = asyncio.run(_measure(Underlay(rig)))
    return [
        {"figure": name, "unit": unit, **{f"{size} hosts": figures[name][1] for size, figures in measured.items()}}
        for name, (unit, _) in measured[_SIZES[0]].items()
    ]


async def _measure(underlay: Underlay) -> dict[int, Figures]:
    etcd = Etcd(underlay, address=str(GATEWAY.ip))
    etcd.start()
    site = _Site(underlay, etcd)
    try:
        await site.begin()
        return {size: await site.at(size) for size in _SIZES}
    finally:
        await site.end()


class _Crowd:
    """A process of simulated hosts."""

    def __init__(self, process: Process, orders: StreamWriter, words: StreamReader) -> None:
        self._process = process
        self._orders = orders
        self._words = words

    @classmethod
    async def start(cls, etcd: Etcd, first: int) -> "_Crowd":
        """Its hosts have told everything when it is there."""
        command = [sys.executable, "-m", "bench.fleet", etcd.url, str(first), str(_OF_A_PROCESS)]
        namespace = etcd.namespace.path
        process = await asyncio.create_subprocess_exec(
            *enter(namespace, command), stdin=PIPE, stdout=PIPE, env=etcd.namespace.rig.env()
        )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("simulated hosts without pipes")
        crowd = cls(process, process.stdin, process.stdout)
        await crowd.word("entered")
        return crowd

    def order(self, **what: Any) -> None:
        self._orders.write(json.dumps(what).encode() + b"\n")

    async def word(self, name: str) -> dict[str, Any]:
        """The next thing that it says, which is of this name."""
        async with asyncio.timeout(_PATIENCE_S):
            line = await self._words.readline()
        said: dict[str, Any] = json.loads(line)
        if name not in said:
            raise RuntimeError(f"simulated hosts say {said}; expected {name}")
        return said

    async def end(self) -> None:
        self._process.kill()
        await self._process.wait()


class _Site:
    """The real daemon that was always there, the simulated hosts, and what is counted of their etcd."""

    def __init__(self, underlay: Underlay, etcd: Etcd) -> None:
        self._underlay = underlay
        self._etcd = etcd
        self._member = Member(underlay, "a", etcd.url)
        self._rows = Rows(self._member.host.path)
        self._crowds: list[_Crowd] = []
        self._changed = ENDPOINTS

    async def begin(self) -> None:
        self._docker = await self._member.network()

    async def end(self) -> None:
        for crowd in self._crowds:
            await crowd.end()

    async def at(self, size: int) -> Figures:
        """All figures, when the fleet has grown to this size."""
        print(f"# with {size} hosts", flush=True)
        start = time.monotonic()
        for first in range(len(self._crowds) * _OF_A_PROCESS, size, _OF_A_PROCESS):
            self._crowds.append(await _Crowd.start(self._etcd, first))
        await _applied(self._member, size)
        grown = time.monotonic() - start
        await self._attach()  # once that is known to all, everything before it is
        return {
            "the hosts enter, and a daemon's kernel has their rows": ("s", round(grown, 1)),
            **await self._idle(),
            **await self._changes(),
            **await self._newcomer(size),
            **self._footprint(),
        }

    async def _idle(self) -> Figures:
        before = self._counted()
        await asyncio.sleep(_IDLE_S)
        self._rates = _per_second(before, self._counted())
        return {
            "idle: etcd is asked for keys": ("1/s", round(self._rates["calls"], 1)),
            "idle: messages to etcd": ("1/s", round(self._rates["received"])),
            "idle: etcd computes": ("% of a processor", round(self._rates["etcd"] * 100, 1)),
            "idle: the daemon computes": ("% of a processor", round(self._rates["daemon"] * 100, 1)),
        }

    async def _changes(self) -> Figures:
        start = self._counted()
        ours = [await self._attach() for _ in range(_WARM_UP + _CHANGES)]
        middle = self._counted()
        theirs = [await self._told() for _ in range(_WARM_UP + _CHANGES)]
        end = self._counted()
        calls = (middle["calls"] - start["calls"]) / len(ours)
        everywhere, here = _centiles(ours), _centiles(theirs)
        return {
            "a container attaches, known to all hosts, p50": ("ms", everywhere[0]),
            "a container attaches, known to all hosts, p99": ("ms", everywhere[1]),
            "another host's container, in the kernel, p50": ("ms", here[0]),
            "another host's container, in the kernel, p99": ("ms", here[1]),
            "another host's container: etcd computes": ("ms", self._cost_ms("etcd", middle, end, len(theirs))),
            "another host's container: the daemon computes": ("ms", self._cost_ms("daemon", middle, end, len(theirs))),
            "calls to etcd to attach and detach": ("", round(calls, 2)),
        }

    def _cost_ms(self, of: str, before: Counted, after: Counted, times: int) -> float:
        """What one of several computed, beyond what it does when nothing happens."""
        idle = self._rates[of] * (after["at"] - before["at"])
        return round((after[of] - before[of] - idle) / times * 1000, 2)

    async def _attach(self) -> float:
        """From CreateEndpoint until the last of the simulated hosts has read of it."""
        endpoint = new_endpoint()
        for crowd in self._crowds:
            crowd.order(expect=endpoint)
            await crowd.word("ready")
        began = time.monotonic()
        made = await self._docker.create_endpoint(endpoint)
        await self._docker.join(made)
        last = max([(await crowd.word("last"))["last"] for crowd in self._crowds])
        await self._docker.detach(made)
        return float(last - began)

    async def _told(self) -> float:
        """From a simulated host's commit until the daemon's kernel has the rows."""
        self._rows.forget()
        self._changed += 1
        self._crowds[0].order(change=self._changed)
        said = await self._crowds[0].word("began")
        heard = await asyncio.to_thread(self._rows.heard, said["mac"], _ROWS, _PATIENCE_S)
        return float(heard - said["began"])

    async def _newcomer(self, size: int) -> Figures:
        """A daemon that starts when all others are there, with nothing on its disk."""
        start = time.monotonic()
        member = Member(self._underlay, f"new{size}", self._etcd.url)
        serving = time.monotonic()
        rows = Rows(member.host.path)
        docker = await member.network()
        created = time.monotonic()
        applied = await asyncio.to_thread(rows.many, _rows_of(size), _PATIENCE_S)
        await _applied(member, size)
        figures: Figures = {
            "a new host: from the start of its daemon until it serves": ("s", round(serving - start, 2)),
            "a new host: until it knows all others": ("s", round(created - serving - docker.created_s, 2)),
            "a new host: CreateNetwork": ("s", round(docker.created_s, 2)),
            "a new host: until its kernel has all rows": ("s", round(max(0.0, applied - created), 2)),
            "a new host: rows": ("", _rows_of(size)),
            "a new host: its daemon's memory": ("MiB", round(member.memory_mib(), 1)),
        }
        rows.close()
        docker.close()
        member.plugin.stop()
        return figures

    def _footprint(self) -> Figures:
        counted = self._counted()
        return {
            "the daemon's memory": ("MiB", round(self._member.memory_mib(), 1)),
            "the daemon's database": ("MiB", round(self._member.database_mib(), 1)),
            "etcd's memory": ("MiB", round(counted["memory"] / _MIB)),
            "etcd's database": ("MiB", round(counted["database"] / _MIB, 1)),
        }

    def _counted(self) -> Counted:
        """What was counted so far: times in seconds, calls and messages, and what etcd takes in bytes."""
        text = self._etcd.namespace.run(["curl", "-sS", f"{self._etcd.url}/metrics"]).out
        pairs = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        samples = {name: float(value) for name, _, value in pairs}

        def total(*words: str) -> float:
            return sum(value for name, value in samples.items() if all(word in name for word in words))

        return {
            "calls": total("grpc_server_started_total", '"etcdserverpb.KV"'),
            "received": total("grpc_server_msg_received_total"),
            "at": time.monotonic(),
            "daemon": self._member.cpu_s(),
            "etcd": samples["process_cpu_seconds_total"],
            "memory": samples["process_resident_memory_bytes"],
            "database": samples["etcd_mvcc_db_total_size_in_bytes"],
        }


def _rows(member: Member) -> int:
    """How many there are in a kernel of what is elsewhere; those of the links themselves are few."""
    fdb = member.host.run(["bridge", "fdb", "show"]).out
    neighbours = member.host.run(["ip", "neigh", "show", "nud", "permanent"]).out
    remote = [line for line in fdb.splitlines() if naming.TUNNEL_PREFIX in line and not line.startswith(_EVERYBODY)]
    return len(remote) + neighbours.count("\n")


def _per_second(before: Counted, after: Counted) -> dict[str, float]:
    return {name: (after[name] - value) / (after["at"] - before["at"]) for name, value in before.items()}


def _centiles(taken: Sequence[float]) -> tuple[float, float]:
    """p50 and p99 in ms, after the warm-up."""
    centiles = statistics.quantiles(taken[_WARM_UP:], n=100, method="inclusive")
    return round(centiles[49] * 1000, 1), round(centiles[98] * 1000, 1)


async def _applied(member: Member, hosts: int) -> None:
    """Until the kernel has the rows of all the simulated hosts' addresses."""
    deadline = time.monotonic() + _PATIENCE_S
    while (there := _rows(member)) < _rows_of(hosts):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the kernel of {member.host.label} has {there} rows of {hosts} hosts")
        await asyncio.sleep(_POLL_S)


def _rows_of(hosts: int) -> int:
    return hosts * (ENDPOINTS + 1) * _ROWS


if __name__ == "__main__":
    for each in run():
        print(each)
