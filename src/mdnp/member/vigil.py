"""
Which hosts are gone. Pure: `now` comes in, in seconds of a clock that nobody sets.

A host's liveness hangs on its lease. That the lease ended is not enough to withdraw it: an etcd that was frozen ends
all leases when it thaws. So our own session must have been well for a whole lease since: then that host had the time to
come back, as we had.
"""

from collections.abc import Collection

from mdnp.model.host import HostID


class Vigil:
    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._absent: dict[HostID, float] = {}  # since when
        self._gone: set[HostID] = set()
        self.healthy_since: float | None = None

    def recover(self, now: float) -> None:
        """Our session is well from now on, if it was not."""
        if self.healthy_since is None:
            self.healthy_since = now

    def fail(self) -> None:
        self.healthy_since = None

    def look(self, known: Collection[HostID], alive: Collection[HostID], now: float) -> frozenset[HostID]:
        """
        The hosts of `known` that are gone, by those whose lease lives. Who is gone stays so until it is alive, whatever
        becomes of our session.
        """
        self._absent = {one: self._absent.get(one, now) for one in known if one not in alive}
        self._gone &= self._absent.keys()
        if self.healthy_since is not None:
            begun = self.healthy_since
            self._gone |= {one for one, since in self._absent.items() if now >= max(since, begun) + self._lease_s}
        return frozenset(self._gone)

    def is_gone(self, host: HostID) -> bool:
        return host in self._gone
