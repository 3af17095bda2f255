"""Blocks of cluster-wide pools: their size, which to take, and what becomes of a block's row. Pure."""

from collections.abc import Collection, Mapping, Set
from dataclasses import replace
from hashlib import blake2b
from ipaddress import ip_network

from mdnp.member.rows import BlockRow, Claim
from mdnp.model.errors import Exhausted
from mdnp.model.host import HostID
from mdnp.model.network import IPAddress, IPNetwork

NOBODY = HostID("")

# Half of the pool's bits are the block's: as many blocks as a block has addresses, within these bounds.
_FEWEST_BITS = 2
_MOST_BITS = {4: 8, 6: 16}


def prefix_length(pool: IPNetwork) -> int:
    """Of the pool's blocks: a /16 has /24 ones, a /24 has /28 ones, a /64 has /112 ones."""
    bits = (pool.max_prefixlen - pool.prefixlen) // 2
    bits = min(max(bits, _FEWEST_BITS), _MOST_BITS[pool.version])
    return max(pool.prefixlen, pool.max_prefixlen - bits)


def block_at(pool: IPNetwork, address: IPAddress) -> IPNetwork:
    """The block that has this address of the pool."""
    return ip_network((address, prefix_length(pool)), strict=False)


def choose(
    pool: IPNetwork, within: IPNetwork, rows: Mapping[IPNetwork, BlockRow], me: HostID, ours: Collection[IPNetwork]
) -> IPNetwork:
    """
    The block to ask for, of those that share addresses with `within`; `ours` are those that we hand out from already.

    First one that has our name and is not among them, from a claim that was cut short; then one that nobody ever had,
    each host looking from another place on, so that two seldom want the same; then one in which are only claims.

    Errors: Exhausted, with who has how many.
    """
    first, count = _indices(pool, within)
    found = [one for one in rows if one.overlaps(within)]
    left = [one for one in found if rows[one].owner == me and one not in ours]
    if left:
        return min(left, key=lambda one: int(one.network_address))
    start = int.from_bytes(blake2b(f"{me} {pool}".encode(), digest_size=8).digest()) % count
    # One more than are taken: among so many there is a free one, if there is any.
    for step in range(min(count, len(found) + 1)):
        block = _nth(pool, first + (start + step) % count)
        if block not in rows:
            return block
    unowned = [one for one in found if rows[one].owner == NOBODY]
    if unowned:
        return min(unowned, key=lambda one: (len(rows[one].claims), int(one.network_address)))
    raise _exhausted(pool, count, [rows[one] for one in found])


def without_removed(row: BlockRow, removed: Set[HostID]) -> BlockRow:
    """What is left of a block's row of hosts that were removed from the cluster."""
    claims = {address: claim for address, claim in row.claims.items() if claim.host not in removed}
    return replace(row, owner=NOBODY if row.owner in removed else row.owner, claims=claims)


def taken(row: BlockRow | None, pool: IPNetwork, network: IPNetwork, me: HostID) -> BlockRow:
    """We hand out from it now; what others claimed of it stays theirs, and what we did is part of it."""
    if row is None:
        return BlockRow(pool, network, me, 1)
    return replace(row, owner=me, generation=row.generation + 1, claims=of_others(row.claims, me))


def given_back(row: BlockRow) -> BlockRow | None:
    """Nobody hands out from it now; None: it is to be deleted."""
    return replace(row, owner=NOBODY) if row.claims else None


def with_claim(row: BlockRow | None, pool: IPNetwork, address: IPAddress, me: HostID) -> BlockRow:
    """With our claim of an address, which nobody needs to agree to where nobody hands out from the block."""
    row = row or BlockRow(pool, block_at(pool, address), NOBODY)
    return replace(row, claims={**row.claims, address: Claim(me, agreed=row.owner == NOBODY)})


def without_claims(row: BlockRow, addresses: Collection[IPAddress]) -> BlockRow | None:
    """None: it is to be deleted."""
    claims = {address: claim for address, claim in row.claims.items() if address not in addresses}
    return replace(row, claims=claims) if claims or row.owner != NOBODY else None


def with_holdings(row: BlockRow, me: HostID, wanted: Set[IPAddress], spared: Set[IPAddress]) -> BlockRow | None:
    """With our claims of these addresses and no others of ours, but for those spared. None: it is to be deleted."""
    claims = {
        address: claim
        for address, claim in row.claims.items()
        if claim.host != me or address in wanted or address in spared
    }
    new = {address: Claim(me, agreed=row.owner == NOBODY) for address in wanted if address not in claims}
    row = replace(row, claims={**claims, **new})
    return row if row.claims or row.owner != NOBODY else None


def with_answers(row: BlockRow, answers: Mapping[IPAddress, bool]) -> BlockRow:
    """Claims that the owner agrees to, or not: then they go."""
    claims = {
        address: replace(claim, agreed=claim.agreed or answers.get(address, False))
        for address, claim in row.claims.items()
        if answers.get(address, True)
    }
    return replace(row, claims=claims)


def of_others(claims: Mapping[IPAddress, Claim], me: HostID) -> dict[IPAddress, Claim]:
    return {address: claim for address, claim in claims.items() if claim.host != me}


def _indices(pool: IPNetwork, within: IPNetwork) -> tuple[int, int]:
    """The number of the first block that shares addresses with `within`, and how many do."""
    bits = pool.max_prefixlen - prefix_length(pool)
    base = int(pool.network_address)
    first = (int(within.network_address) - base) >> bits
    last = (int(within.broadcast_address) - base) >> bits
    return first, last - first + 1


def _nth(pool: IPNetwork, index: int) -> IPNetwork:
    length = prefix_length(pool)
    return ip_network((pool.network_address + (index << pool.max_prefixlen - length), length))


def _exhausted(pool: IPNetwork, count: int, rows: Collection[BlockRow]) -> Exhausted:
    owners: dict[HostID, int] = {}
    for row in rows:
        owners[row.owner] = owners.get(row.owner, 0) + 1
    listed = ", ".join(f"host {host} {number}" for host, number in sorted(owners.items()))
    return Exhausted(
        f"pool {pool}: all {count} blocks are taken ({listed}); remove containers there, `mdnp host remove` hosts that"
        " will not return, or make a larger network"
    )
