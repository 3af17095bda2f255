"""
Many simulated hosts in one process: each tells what a host of so many containers tells, keeps its lease, and watches.

They are drivers of the contract of the cluster: each has a connection, a lease and a watch of its own and reads every
row that comes, and has no store, no kernel and no mirror. Orders come as lines of JSON; each is answered by one.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from mdnp.cluster import Batch, Change, Cluster, ClusterUnavailable, Put
from mdnp.cluster.access import Access, connect
from mdnp.member import records, rows
from mdnp.model.etcd_url import parse_etcd_url
from mdnp.model.host import HostID
from mdnp.model.identity import EndpointID
from mdnp.model.mac import derived_mac
from mdnp.model.segment import segment_id

POOL = IPv4Network("10.64.0.0/16")
ENDPOINTS = 50
SEGMENT = segment_id([POOL])
_VTEPS = IPv4Address("198.18.0.0")
_BLOCK_PREFIX = 24
_LEASE_S = 15
_AT_ONCE = 100  # changes of one commit
_ENTERING = 8  # hosts at the same time
_PAUSE_S = 0.2  # between two tries


class SimulatedHost:
    """`number` tells it from the others; `epoch` is the one of the data; `block` is free."""

    def __init__(self, cluster: Cluster, number: int, epoch: int, block: IPv4Network) -> None:
        self.id = HostID(f"{number:016x}")
        self._cluster = cluster
        self._epoch = epoch
        self._block = block
        self._vtep = _VTEPS + number
        self._lease = 0
        self._awaited = ""
        self._seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def enter(self) -> None:
        """Tell everything, as one who was never here."""
        self._lease = await self._cluster.grant(_LEASE_S)
        changes = self._rows()
        for first in range(0, len(changes), _AT_ONCE):
            await self._cluster.commit([], changes[first : first + _AT_ONCE])

    async def live(self, after: int) -> None:
        """Keep the lease, and read what others tell after a revision."""
        self._revision = after
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep())
            group.create_task(self._watch())

    def expect(self, ending: str) -> asyncio.Future[float]:
        """The moment, by monotonic(), at which it is read here that a key with this ending was put."""
        self._awaited = ending
        self._seen = asyncio.get_running_loop().create_future()
        return self._seen

    async def change(self, number: int) -> str:
        """One more endpoint; its MAC."""
        made = self._endpoint(number)
        await self._cluster.commit([], [_put(made)])
        return made.mac

    def _rows(self) -> list[Change]:
        name = f"simulated-{self.id}"
        alive = rows.AliveRow(self.id, "bench", self._vtep, name, self.id, time.time())
        return [
            *(_put(self._endpoint(number)) for number in range(ENDPOINTS + 1)),
            _put(rows.BlockRow(POOL, self._block, self.id)),
            _put(rows.MemberRow(SEGMENT, self.id)),
            _put(rows.HostRow(self.id, name, self._vtep, self._epoch)),
            Put(records.key(alive), records.value(alive), self._lease),
        ]

    def _endpoint(self, number: int) -> rows.EndpointRow:
        """The first is the host's own address."""
        address = self._block.network_address + 1 + number
        identity = EndpointID(f"{self.id}{number:048x}")
        mac = derived_mac((IPv4Interface(address),), identity)
        return rows.EndpointRow(SEGMENT, self.id, identity if number else records.HOST_ENDPOINT, mac, (address,))

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_LEASE_S / 3)
            with suppress(ClusterUnavailable):  # all of a process share one loop, which may be late
                await self._cluster.keep_alive(self._lease)

    async def _watch(self) -> None:
        while True:
            with suppress(ClusterUnavailable):
                async for batch in self._cluster.watch(records.ROOT, self._revision):
                    self._revision = batch.revision
                    self._read(batch)
            await asyncio.sleep(_PAUSE_S)

    def _read(self, batch: Batch) -> None:
        for key, entry in ((event.key, event.entry) for event in batch.events):
            if entry is not None:
                records.decode(key, entry.value)
                if self._awaited and key.endswith(self._awaited) and not self._seen.done():
                    self._seen.set_result(time.monotonic())


def _put(row: rows.Row) -> Put:
    return Put(records.key(row), records.value(row))


async def serve(url: str, first: int, count: int) -> None:
    """Hosts from number `first` on, until the orders end."""
    clusters = [connect([parse_etcd_url(url)], Access()) for _ in range(count)]
    epoch, blocks = await _ground(clusters[0])
    hosts = [
        SimulatedHost(cluster, number, epoch, blocks[number]) for number, cluster in enumerate(clusters, start=first)
    ]
    entering = asyncio.Semaphore(_ENTERING)

    async def enter(host: SimulatedHost) -> None:
        async with entering:
            await host.enter()

    await asyncio.gather(*map(enter, hosts))
    revision = (await clusters[0].snapshot(records.EPOCH)).revision
    async with asyncio.TaskGroup() as group:
        lives = [group.create_task(host.live(revision)) for host in hosts]
        _say({"entered": len(hosts)})
        await _obey(hosts)
        for life in lives:
            life.cancel()
    for cluster in clusters:
        await cluster.close()


async def _ground(cluster: Cluster) -> tuple[int, Sequence[IPv4Network]]:
    """The epoch that a real host wrote, and the blocks that no real host has. Others of us may be entering."""
    snapshot = await cluster.snapshot(records.ROOT)
    told = [records.decode(key, entry.value) for key, entry in snapshot.entries.items()]
    epoch = next(row.number for row in told if isinstance(row, rows.EpochRow))
    taken = {row.network for row in told if isinstance(row, rows.BlockRow) and not row.owner.startswith("0000")}
    return epoch, [block for block in POOL.subnets(new_prefix=_BLOCK_PREFIX) if block not in taken]


async def _obey(hosts: Sequence[SimulatedHost]) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        if "expect" in order:
            seen = [host.expect(order["expect"]) for host in hosts]
            _say({"ready": True})
            _say({"last": max(await asyncio.gather(*seen))})
        else:
            began = time.monotonic()
            mac = await hosts[0].change(order["change"])
            _say({"began": began, "mac": mac})


def _say(word: dict[str, Any]) -> None:
    print(json.dumps(word), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
