"""
What hosts tell each other, kept by etcd v3: a narrow contract of keys, values and revisions.

It decides nothing and knows nothing of what the values mean: that is `member`'s. `etcd` is the real one, `fake` one in
memory that several members share; one suite of tests runs on both. A revision is etcd's: each commit that changes
something has the next one.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mdnp.model.errors import MdnpError

# How long any one call may take: Docker may be waiting for it.
LIMIT_S = 1.0
# How often a watch is told at least something, and how long its silence may last: a frozen server keeps its
# connections.
HEARTBEAT_S = 1.0
SILENCE_S = 3.0


class ClusterUnavailable(MdnpError):
    """No server answered in time, or none is as it should be; the text names each and why. Try again later."""


class Compacted(MdnpError):
    """What happened since that revision is forgotten: take a snapshot."""


class LeaseGone(MdnpError):
    """The lease has ended, and with it the keys that hung on it: grant another, and put them again."""


@dataclass(frozen=True)
class Entry:
    """A value, and the revision that wrote it."""

    value: bytes
    revision: int


@dataclass(frozen=True)
class Snapshot:
    """All keys with a prefix as of `revision`. `cluster` is the id of the etcd cluster: other data, another id."""

    cluster: int
    revision: int
    entries: Mapping[str, Entry]


@dataclass(frozen=True)
class Put:
    """`lease` is 0 for a key that stays until it is deleted."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True)
class Delete:
    key: str


@dataclass(frozen=True)
class Unchanged:
    """A condition: the key was last written by this revision. 0: it is not there."""

    key: str
    revision: int


Change = Put | Delete


@dataclass(frozen=True)
class Event:
    """What became of a key; None: it is gone."""

    key: str
    entry: Entry | None


@dataclass(frozen=True)
class Batch:
    """What happened up to `revision`, in order. Without events it says only that the server is alive and well."""

    revision: int
    events: tuple[Event, ...] = ()


class Cluster(Protocol):
    """Errors of every call: ClusterUnavailable, after LIMIT_S at most."""

    async def snapshot(self, prefix: str) -> Snapshot:
        """Of thousands of keys it may take longer, as long as some come within each LIMIT_S."""

    async def commit(self, conditions: Sequence[Unchanged], changes: Sequence[Change]) -> int | None:
        """
        Make the changes, all or none, if all conditions hold; the revision, or None if one did not hold.

        At most 100 changes, each of another key. Errors: LeaseGone also, if the conditions hold. A ClusterUnavailable
        leaves open whether it was done: look again.
        """

    async def grant(self, ttl_s: int) -> int:
        """A lease: keys put on it go when nobody kept it alive for `ttl_s` seconds, or a little more."""

    async def keep_alive(self, lease: int) -> None:
        """Errors: LeaseGone also."""

    async def revoke(self, lease: int) -> None:
        """End a lease, and the keys on it. One that is gone is no error."""

    def watch(self, prefix: str, after: int) -> AsyncIterator[Batch]:
        """
        What happens to keys with a prefix after the revision `after`, from then on; a batch every HEARTBEAT_S at least.

        It ends only by an error: ClusterUnavailable when the connection breaks or nothing came for SILENCE_S;
        Compacted, also where `after` is no revision of the data that are there now.
        """

    async def close(self) -> None: ...
