"""The operator's side: taking hosts out of the cluster, and networks of the whole cluster."""

import re
from collections.abc import Mapping

from mdnp.cluster import Change, ClusterUnavailable, Delete, Put, Unchanged
from mdnp.member import DeclaredNetwork, blocks
from mdnp.member.blocks import NOBODY
from mdnp.member.records import BLOCKS, ROOT, alive_key, host_key, host_of, key, network_key, value
from mdnp.member.rows import BlockRow, NetworkRow, RemovedRow
from mdnp.member.seat import Council
from mdnp.member.teller import Teller
from mdnp.model.errors import Conflict, InvalidParameter, NotFound
from mdnp.model.host import HostID

_TOGETHER = 100  # changes of one commit
_TRIES = 10
# Docker's own rule for the names of networks.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")


class Registrar:
    def __init__(self, council: Council, teller: Teller) -> None:
        self._council = council
        self._teller = teller

    async def remove_host(self, host: HostID, *, force: bool = False) -> None:
        self._check_removable(host, force=force)
        conditions = [] if force else [Unchanged(alive_key(host), 0)]
        stone = RemovedRow(host)
        changes: list[Change] = [Put(key(stone), value(stone)), Delete(host_key(host)), Delete(alive_key(host))]
        if await self._council.commit(conditions, changes) is None:
            raise self._alive(host)
        told = [one for one in (await self._council.cluster.snapshot(ROOT)).entries if host_of(one) == host]
        for start in range(0, len(told), _TOGETHER):
            await self._commit([Delete(one) for one in told[start : start + _TOGETHER]])
        for _ in range(_TRIES):
            if not await self._free_blocks(host):
                break
        self._teller.tell()

    async def declare(self, network: DeclaredNetwork) -> None:
        if not _NAME.match(network.name):
            raise InvalidParameter(f"network name {network.name[:80]!r}: expected letters, digits and _.- as in blue-1")
        row = NetworkRow(network)
        if await self._council.commit([Unchanged(key(row), 0)], [Put(key(row), value(row))]) is not None:
            return
        found = await self._council.read(key(row))
        if row not in [one for one, _ in found]:
            raise Conflict(
                f"network {network.name} is declared already with other settings: choose another name, or remove it by"
                f" `mdnp network rm {network.name}`"
            )

    async def undeclare(self, name: str) -> None:
        if name not in self._council.view.networks:
            self._council.seated()
            raise NotFound(f"network {name} was not made by `mdnp network create`: `docker network rm` removes it")
        await self._commit([Delete(network_key(name))])

    def outcomes(self, name: str) -> Mapping[HostID, str]:
        ours = self._teller.reports.get(name)
        others = self._council.view.done.get(name, {})
        return {**others, **({} if ours is None else {self._council.me: ours})}

    def report(self, name: str, error: str | None) -> None:
        if error is None:
            self._teller.reports.pop(name, None)
        else:
            self._teller.reports[name] = error
        self._teller.tell()

    def _check_removable(self, host: HostID, *, force: bool) -> None:
        self._council.seated()
        view = self._council.view
        if host == view.me:
            raise Conflict("this is the host itself: stop mdnp here, and run `mdnp host remove` on another host")
        known = host in view.hosts or host in view.alive or host in view.removed or view.keys_of(host)
        if not known and not force:
            raise NotFound(f"host {host} is not known: see `mdnp host ls`")
        if host in view.alive and not force:
            raise self._alive(host)

    def _alive(self, host: HostID) -> Conflict:
        return Conflict(
            f"host {self._council.view.called(host)} is alive: stop mdnp there first. --force removes it all the same:"
            " its containers lose their networks at once"
        )

    async def _free_blocks(self, host: HostID) -> bool:
        """Take the host out of blocks' rows; whether there were any."""
        found = False
        for row, revision in await self._council.read(BLOCKS):
            if not isinstance(row, BlockRow):
                continue
            left = blocks.without_removed(row, {host})
            if left != row:
                found = True
                gone = left.owner == NOBODY and not left.claims
                change: Change = Delete(key(row)) if gone else Put(key(row), value(left))
                await self._council.commit([Unchanged(key(row), revision)], [change])
        return found

    async def _commit(self, changes: list[Change]) -> None:
        if await self._council.commit([], changes) is None:
            raise ClusterUnavailable("this host is not in the cluster any more: look at `mdnp status`, and try again")
