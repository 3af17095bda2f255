"""
Blocks and addresses of cluster-wide pools: asking for them, answering for ours, mending what stands of them in etcd.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from mdnp.cluster import Change, Delete, Put, Unchanged
from mdnp.member import About, Allocations, Foreign, blocks
from mdnp.member.blocks import NOBODY
from mdnp.member.records import block_key, blocks_prefix, value
from mdnp.member.rows import BlockRow, Claim
from mdnp.member.seat import Council, within_limit
from mdnp.model.errors import Conflict
from mdnp.model.host import HostID
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.segment import Block
from mdnp.store import Drop, Store
from mdnp.store import Put as Promise

log = logging.getLogger(__name__)

# What a block's owner has to agree in; the rest of a second is for taking the claim back.
_ANSWER_S = 0.7

_Place = tuple[IPNetwork, IPAddress]


@dataclass(frozen=True)
class _Found:
    """A block's row, without what removed hosts left in it, and its revision. 0: none is there."""

    row: BlockRow | None
    revision: int = 0
    written: BlockRow | None = None  # as it stands there


_NOTHING = _Found(None)


class Claims:
    """`allocations` are set before there is a seat."""

    allocations: Allocations

    def __init__(self, council: Council, store: Store, wake: Callable[[], None]) -> None:
        self._council = council
        self._store = store
        self._wake = wake
        self._lock = asyncio.Lock()  # of whether a block is ours
        self._asking: set[_Place] = set()
        self._waiting: set[_Place] = set()  # held, claimed again, and not answered yet
        self._refused: set[_Place] = set()
        self._lost: set[Block] = set()
        self._restored = 0  # the epoch for which our blocks have again what we keep for others

    async def claim_block(self, pool: IPNetwork, within: IPNetwork) -> Block:
        async with within_limit(f"a block of {pool}"), self._lock:
            self._council.check_agreed()
            found = {one: self._seen(pool, one) for one in self._council.view.blocks.get(pool, {})}
            while True:
                rows = {network: one.row for network, one in found.items() if one.row is not None}
                network = blocks.choose(pool, within, rows, self._council.me, self._ours(pool))
                before = found.get(network, _NOTHING)
                row = blocks.taken(before.row, pool, network, self._council.me)
                if await self._write(pool, network, row, before.revision):
                    break
                found = await self._read(pool)
            # First what others have in it: from the moment that it is in the store it is handed out from.
            for address, claim in row.claims.items():
                await self.allocations.hold_foreign(Foreign(pool, address, claim.host))
            block = Block(pool, network)
            await self._store.commit(Promise(block))
        self._wake()
        return block

    async def claim_address(self, pool: IPNetwork, address: IPAddress) -> None:
        place = pool, address
        self._asking.add(place)
        try:
            async with within_limit(f"address {address}"):
                await self._claim(pool, address)
        finally:
            self._asking.discard(place)
            self._wake()  # a claim that came to nothing goes

    async def mend(self, *, afresh: bool) -> None:
        """
        Make the rows of blocks what they should be, by what we hand out from, hold, and keep for others; `afresh` asks
        those again that did not agree.
        """
        for block in list(self._store.promises.blocks.values()):
            async with self._lock:
                await self._mend_ours(block)
        await self._give_back()
        await self._mend_outside(afresh=afresh)
        if self._restored == self._council.view.epoch:
            await self._let_go()
        self._restored = self._council.view.epoch

    # What is ours.

    async def _mend_ours(self, block: Block) -> None:
        if block.id not in self._store.promises.blocks:
            return
        found = self._seen(block.pool, block.network)
        if found.row is not None and found.row.owner not in (self._council.me, NOBODY):
            await self._lose(block, found.row.owner)
            return
        row = self._owned(block, found.row)
        row = blocks.with_answers(row, await self._answers(row))
        if row != found.written:
            await self._write(block.pool, block.network, row, found.revision)

    def _owned(self, block: Block, row: BlockRow | None) -> BlockRow:
        """The row of a block of ours: without claims of our own, and with those that were lost since we agreed."""
        me = self._council.me
        fresh = row is None or row.owner != me
        owned = blocks.taken(row, block.pool, block.network, me) if row is None or fresh else row
        claims = {address: claim for address, claim in owned.claims.items() if claim.host != me}
        if fresh or self._restored != self._council.view.epoch:
            kept = {one.address: Claim(one.host, agreed=True) for one in self._kept(block)}
            claims = {**kept, **claims}
        return replace(owned, claims=claims)

    async def _answers(self, row: BlockRow) -> Mapping[IPAddress, bool]:
        kept = {one.address: one.host for one in self._kept(Block(row.pool, row.network))}
        answers: dict[IPAddress, bool] = {}
        for address, claim in row.claims.items():
            if kept.get(address) == claim.host:
                answers[address] = True
            else:
                answers[address] = await self.allocations.hold_foreign(Foreign(row.pool, address, claim.host))
                asker = self._council.view.called(claim.host)
                log.info("address %s: %s", address, f"{'kept for' if answers[address] else 'refused to'} host {asker}")
        return answers

    async def _lose(self, block: Block, owner: HostID) -> None:
        text = (
            f"block {block.network} of pool {block.pool} is host {self._council.view.called(owner)}'s too, since etcd's"
            " data was lost: nothing more is handed out from it here; containers that have addresses of it keep them"
        )
        log.error("%s", text)
        self._council.remark(About.BLOCK, block.id, text)
        self._lost.add(block)
        await self._store.commit(Drop(block))
        await self.allocations.lose_block(block)

    async def _give_back(self) -> None:
        """Blocks that have our name and are not in the store."""
        for row in self._council.view.blocks_of(self._council.me):
            async with self._lock:
                found = self._seen(row.pool, row.network)
                if found.row is not None and row.network not in self._ours(row.pool):
                    left = replace(found.row, claims=blocks.of_others(found.row.claims, self._council.me))
                    await self._write(row.pool, row.network, blocks.given_back(left), found.revision)

    async def _let_go(self) -> None:
        """What we keep for others and they do not claim any more."""
        for foreign in list(self.allocations.foreign()):
            network = blocks.block_at(foreign.pool, foreign.address)
            row = self._seen(foreign.pool, network).row
            if network in self._ours(foreign.pool):
                if row is None or row.owner != self._council.me:
                    continue  # it is being put there again, with its claims
                claim = row.claims.get(foreign.address)
                if claim is not None and claim.host == foreign.host:
                    continue
            await self.allocations.let_go_foreign(foreign)

    # What is not.

    async def _claim(self, pool: IPNetwork, address: IPAddress) -> None:
        self._council.check_agreed()
        network = blocks.block_at(pool, address)
        if network in self._ours(pool):
            return
        found = self._seen(pool, network)
        while True:
            owner = self._check_claimable(found.row, address)
            claimed = blocks.with_claim(found.row, pool, address, self._council.me)
            revision = await self._write(pool, network, claimed, found.revision)
            if revision:
                break
            found = (await self._read(pool)).get(network, _NOTHING)
        if owner == NOBODY:
            return
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._council.reached(revision)
                while not self._is_agreed(self._seen(pool, network).row, address, owner):
                    await self._council.more()
        except TimeoutError:
            await self._take_back(pool, address, owner)

    def _check_claimable(self, row: BlockRow | None, address: IPAddress) -> HostID:
        """The block's owner. Errors: Conflict when somebody has the address, or the owner cannot be asked."""
        if row is None:
            return NOBODY
        view = self._council.view
        claim = row.claims.get(address)
        if claim is not None and claim.host != self._council.me:
            raise Conflict(
                f"address {address} is held on host {view.called(claim.host)}: choose another, or, if that host will"
                f" not return, take it out of the cluster: `mdnp host remove {claim.host}`"
            )
        if row.owner not in (NOBODY, self._council.me) and row.owner not in view.alive:
            raise self._no_answer(address, row.owner)
        return row.owner

    def _is_agreed(self, row: BlockRow | None, address: IPAddress, owner: HostID) -> bool:
        claim = row.claims.get(address) if row else None
        if claim is None or claim.host != self._council.me:
            raise Conflict(f"address {address} is held on host {self._council.view.called(owner)}: choose another")
        return claim.agreed

    async def _take_back(self, pool: IPNetwork, address: IPAddress, owner: HostID) -> None:
        """The owner did not answer, as far as we saw; if it did meanwhile, this returns."""
        network = blocks.block_at(pool, address)
        while True:
            found = (await self._read(pool)).get(network, _NOTHING)
            if found.row is None or self._is_agreed(found.row, address, owner):
                return
            left = blocks.without_claims(found.row, [address])
            if await self._write(pool, network, left, found.revision):
                raise self._no_answer(address, owner)

    def _no_answer(self, address: IPAddress, owner: HostID) -> Conflict:
        called = self._council.view.called(owner)
        return Conflict(
            f"address {address} is of a block of host {called}, which does not answer: start mdnp there, choose another"
            f" address, or, if that host will not return, take it out of the cluster: `mdnp host remove {owner}`"
        )

    async def _mend_outside(self, *, afresh: bool) -> None:
        """Our claims in blocks that are not ours are what we hold there."""
        if afresh:
            self._refused.clear()
        held = set(self.allocations.outside()) - self._asking
        rows = self._council.view.claimed_by(self._council.me)
        self._note_answers(held, rows)
        places = {(pool, blocks.block_at(pool, address)) for pool, address in held}
        for pool, network in places | {(row.pool, row.network) for row in rows}:
            if network in self._ours(pool):
                continue
            found = self._seen(pool, network)
            wanted = {address for of, address in held - self._refused if of == pool and address in network}
            spared = {address for of, address in self._asking if of == pool}
            before = found.row or BlockRow(pool, network, NOBODY)
            row = blocks.with_holdings(before, self._council.me, wanted, spared)
            if row != found.written:
                await self._write(pool, network, row, found.revision)

    def _note_answers(self, held: set[_Place], rows: Iterable[BlockRow]) -> None:
        """What became of claims of addresses that we hold already: etcd lost them, and their owners agree or not."""
        mine = {
            (row.pool, address): claim.agreed
            for row in rows
            for address, claim in row.claims.items()
            if claim.host == self._council.me
        }
        for place in held:
            if mine.get(place):
                self._forget_answer(place)
            elif place in mine:
                self._waiting.add(place)
            elif place in self._waiting or self._holder(*place):
                self._refuse(*place)
        for place in (self._waiting | self._refused) - held:
            self._forget_answer(place)
        for block in [one for one in self._lost if not any(address in one.network for _, address in held)]:
            self._lost.discard(block)
            self._council.settled(About.BLOCK, block.id)

    def _refuse(self, pool: IPNetwork, address: IPAddress) -> None:
        row = self._seen(pool, blocks.block_at(pool, address)).row
        holder = self._holder(pool, address) or (row.owner if row else NOBODY)
        self._waiting.discard((pool, address))
        self._refused.add((pool, address))
        self._council.remark(
            About.CLAIM,
            str(address),
            f"address {address} of pool {pool} is held here, and host {self._council.view.called(holder)} has it too,"
            " or does not agree: remove one of the containers",
        )

    def _forget_answer(self, place: _Place) -> None:
        self._waiting.discard(place)
        self._refused.discard(place)
        self._council.settled(About.CLAIM, str(place[1]))

    def _holder(self, pool: IPNetwork, address: IPAddress) -> HostID | None:
        """Another host that claimed it."""
        row = self._seen(pool, blocks.block_at(pool, address)).row
        claim = row.claims.get(address) if row else None
        return claim.host if claim is not None and claim.host != self._council.me else None

    # Rows.

    def _ours(self, pool: IPNetwork) -> set[IPNetwork]:
        return {one.network for one in self._store.promises.blocks.values() if one.pool == pool}

    def _kept(self, block: Block) -> list[Foreign]:
        kept = self.allocations.foreign()
        return [one for one in kept if one.pool == block.pool and one.address in block.network]

    def _seen(self, pool: IPNetwork, network: IPNetwork) -> _Found:
        view = self._council.view
        return self._found(view.blocks.get(pool, {}).get(network), view.revision_of(block_key(pool, network)))

    async def _read(self, pool: IPNetwork) -> dict[IPNetwork, _Found]:
        """The blocks of a pool as they are in etcd now, where the view may be behind."""
        rows = await self._council.read(blocks_prefix(pool))
        return {row.network: self._found(row, revision) for row, revision in rows if isinstance(row, BlockRow)}

    def _found(self, row: BlockRow | None, revision: int) -> _Found:
        if row is None:
            return _Found(None, revision)
        return _Found(blocks.without_removed(row, self._council.view.removed), revision, row)

    async def _write(self, pool: IPNetwork, network: IPNetwork, row: BlockRow | None, revision: int) -> int | None:
        """Make the block's row this, None for none, if it was written by this revision last."""
        key = block_key(pool, network)
        if row is None and revision == 0:
            return None
        change: Change = Delete(key) if row is None else Put(key, value(row))
        return await self._council.commit([Unchanged(key, revision)], [change])
