"""When this host needs another block of a cluster-wide pool, and when it has one too many. Pure."""

from collections.abc import Iterable, Sequence

from mdnp.ipam.allocator import Counts, Use
from mdnp.model.network import IPNetwork, Network
from mdnp.model.options import Mode
from mdnp.model.segment import Block


def shared_pools(networks: Iterable[Network]) -> set[IPNetwork]:
    """The pools that are cluster-wide: those that an overlay has."""
    overlays = (one for one in networks if one.options.mode is Mode.OVERLAY)
    return {subnet.pool for network in overlays for subnet in network.subnets}


def runs_low(blocks: Sequence[Block], counts: Counts) -> bool:
    """Less than a quarter of a block is free: another one is claimed before it is needed."""
    return bool(blocks) and 4 * counts.free < blocks[0].network.num_addresses


def too_many(blocks: Sequence[Block], uses: Iterable[Use], counts: Counts) -> Block | None:
    """
    A block in which nothing is held or rests, if enough is free without it: half a block, or the next container
    would have it claimed again. The last one stays.
    """
    if len(blocks) < 2:
        return None
    size = blocks[0].network.num_addresses
    idle = {use.network for use in uses if use.idle}
    enough = 2 * (counts.free - size) >= size
    return next((one for one in reversed(blocks) if one.network in idle), None) if enough else None
