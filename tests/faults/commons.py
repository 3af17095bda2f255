"""
An etcd of which a daemon that is killed takes nothing along: its data are in a file, which the next one reads.

There is another host in it, which has a network of the same segment and a container on it.
"""

import pickle
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

from mdnp import logs
from mdnp.cluster import Batch, Change, Cluster, ClusterUnavailable, Entry, Snapshot, Unchanged
from mdnp.cluster.fake import FakeCluster
from mdnp.member.records import HOST_ENDPOINT, key, value
from mdnp.member.rows import (
    BlockRow,
    EndpointRow,
    EpochRow,
    FormatRow,
    HostRow,
    MemberRow,
    Row,
    SegmentRow,
    VniRow,
)
from mdnp.model.host import HostID
from mdnp.model.mac import MAC
from mdnp.model.segment import Segment, SegmentID
from tests.faults.points import DONE, Faults

VTEP = "192.0.2.1"
SEGMENT = SegmentID("10.50.0.0/16,fd50::/64")
# By its id a host chooses its first block, which must not be that of the story's fixed address.
US, OTHER = HostID("00000000000000bb"), HostID("00000000000000aa")
_INJECTED = "an injected fault"
_VNI = 0x6D0001


class KeptCluster(FakeCluster):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists():
            self.revision, self.entries = pickle.loads(path.read_bytes())  # noqa: S301  # we wrote it
            self.compact()
        else:
            self.entries = {key(row): Entry(value(row), 1) for row in _others()}
            self._keep()

    def _apply(self, changes: Sequence[Change]) -> None:
        super()._apply(changes)
        self._keep()

    def _keep(self) -> None:
        aside = self._path.with_suffix(".new")
        aside.write_bytes(pickle.dumps((self.revision, self.entries)))
        aside.replace(self._path)


class FaultyCluster:
    """What a call of Docker's asks is a point; what is told beside the calls comes when it may, and is none."""

    def __init__(self, cluster: Cluster, faults: Faults) -> None:
        self._cluster = cluster
        self._faults = faults

    async def snapshot(self, prefix: str) -> Snapshot:
        self._begin("cluster.snapshot")
        found = await self._cluster.snapshot(prefix)
        self._end("cluster.snapshot")
        return found

    async def commit(self, conditions: Sequence[Unchanged], changes: Sequence[Change]) -> int | None:
        self._begin("cluster.commit")
        revision = await self._cluster.commit(conditions, changes)
        self._end("cluster.commit")
        return revision

    async def grant(self, ttl_s: int) -> int:
        return await self._cluster.grant(ttl_s)

    async def keep_alive(self, lease: int) -> None:
        await self._cluster.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        await self._cluster.revoke(lease)

    def watch(self, prefix: str, after: int) -> AsyncIterator[Batch]:
        return self._cluster.watch(prefix, after)

    async def close(self) -> None:
        await self._cluster.close()

    def _begin(self, point: str) -> None:
        if logs.call.get() and self._faults.reach(point):
            raise ClusterUnavailable(f"etcd cannot be asked: {_INJECTED}")

    def _end(self, point: str) -> None:
        if logs.call.get():
            self._faults.reach(point + DONE)


def of_others(entries: Sequence[str]) -> list[str]:
    """The keys that are not the other host's, nor say that there is a host and a cluster."""
    return [one for one in entries if one not in keys_of_others() and one.split("/")[3] not in ("hosts", "alive")]


def keys_of_others() -> set[str]:
    """Of what was there from the beginning."""
    return {key(row) for row in _others()}


def read(path: Path) -> dict[str, Entry]:
    _, entries = pickle.loads(path.read_bytes())  # noqa: S301  # we wrote it
    return dict(entries)


def _others() -> list[Row]:
    segment = Segment(SEGMENT, _VNI, SEGMENT, 1450, ("10.50.0.1/16", "fd50::1/64"))
    addresses = (ip_address("10.50.99.2"), ip_address("fd50::99:2"))
    return [
        FormatRow(1),
        EpochRow(1, 1, "first"),
        HostRow(OTHER, "other", ip_address("192.0.2.9"), 1),
        SegmentRow(segment),
        VniRow(_VNI, SEGMENT),
        MemberRow(SEGMENT, OTHER),
        BlockRow(ip_network("10.50.0.0/16"), ip_network("10.50.99.0/24"), OTHER, 1),
        BlockRow(ip_network("fd50::/64"), ip_network("fd50::99:0/112"), OTHER, 1),
        EndpointRow(SEGMENT, OTHER, HOST_ENDPOINT, MAC("02:6d:0a:32:63:01"), (ip_address("10.50.99.1"),)),
        EndpointRow(SEGMENT, OTHER, "e" * 64, MAC("02:6d:0a:32:63:02"), addresses, 1),
    ]
