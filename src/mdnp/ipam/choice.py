"""Which network an automatic pool becomes. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mdnp.model.errors import Exhausted
from mdnp.model.network import IPNetwork
from mdnp.model.supernet import Supernet

_NAMED = 5  # obstacles, in the error


@dataclass(frozen=True)
class Obstacle:
    """A network that must not be overlapped, and what it is, for people."""

    network: IPNetwork
    what: str

    def __str__(self) -> str:
        return f"{self.network} ({self.what})"


def choose(supernets: Sequence[Supernet], obstacles: Iterable[Obstacle], after: IPNetwork | None = None) -> IPNetwork:
    """
    The first free network of the first supernet that has one, from behind `after` on and then from the beginning.

    Turning like this, a pool that was just given back is not given out again while others are free: it may still stand
    in somebody's tables. Errors: Exhausted, which names what is in the way.
    """
    known = tuple(obstacles)
    again = None
    for supernet in supernets:
        first = int(supernet.network[0])
        for begin in (_behind(after, supernet), first):
            found = next(_free(supernet, known, begin), None)
            if found is not None and found != after:
                return found
            again = again or found
    if again is None:
        raise Exhausted(_in_the_way(supernets, known))
    return again


def _behind(after: IPNetwork | None, supernet: Supernet) -> int:
    if after is None or not after.overlaps(supernet.network):
        return int(supernet.network[0])
    return int(after.broadcast_address) + 1


def _free(supernet: Supernet, obstacles: Iterable[Obstacle], begin: int) -> Iterator[IPNetwork]:
    """The free networks of a supernet, from the number `begin` on: a walk along the obstacles in their order."""
    size = 1 << (supernet.network.max_prefixlen - supernet.size)
    end = int(supernet.network.broadcast_address) + 1
    position = _aligned(begin, size)
    for first, last in [*_spans(supernet, obstacles), (end, end)]:
        while position + size <= first:
            yield type(supernet.network)((position, supernet.size))
            position += size
        position = max(position, _aligned(last + 1, size))


def _spans(supernet: Supernet, obstacles: Iterable[Obstacle]) -> list[tuple[int, int]]:
    """First and last address of each obstacle in the supernet, sorted."""
    inside = [one.network for one in obstacles if one.network.overlaps(supernet.network)]
    return sorted((int(network.network_address), int(network.broadcast_address)) for network in inside)


def _aligned(number: int, size: int) -> int:
    return -(-number // size) * size


def _in_the_way(supernets: Sequence[Supernet], obstacles: Sequence[Obstacle]) -> str:
    inside = [one for one in obstacles if any(one.network.overlaps(supernet.network) for supernet in supernets)]
    largest = sorted(inside, key=lambda one: one.network.prefixlen)
    named = ", ".join(map(str, largest[:_NAMED])) or "nothing"
    more = f" and {len(largest) - _NAMED} more" if len(largest) > _NAMED else ""
    searched = ", ".join(f"{one.network} (/{one.size})" for one in supernets) or "no supernet"
    return (
        f"no free network is left in {searched}; in the way: {named}{more}. Give one with --subnet, or configure"
        " address_pools"
    )
