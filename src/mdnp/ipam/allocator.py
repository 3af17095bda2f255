"""
Pools, and which of a pool's addresses is whose. Pure: time comes in as `now`, in seconds, and nothing is written here.

What is held here is always at least what is on disk, so that no address gets two holders whatever fails between:

- `allocate` and `claim` hold the address at once. Write the Allocation down, then answer. If it could not be written,
  `withdraw` it: the address is again what it was before.
- `held` tells who has an address and changes nothing. Write down `held(address).freed(now)`, and only then `release`
  that. If it could not be written, there is nothing to undo: the address is still its holder's.

Each takes back the very Allocation that it is about, never just an address: a request that comes twice, or late,
cannot free what meanwhile belongs to another.
"""

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv6Address
from operator import attrgetter

from mdnp.ipam.sparse import SparseSet
from mdnp.model.allocation import Allocation, Freed, Kind, Purpose, Record
from mdnp.model.errors import Conflict, Exhausted
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.pool import Pool

# Longer than a neighbour that keeps sending uses the former holder's MAC. Linux: reachable for up to 45 s, then 5 s of
# delay, then three probes a second apart.
REST_S = 60.0
# Engines name each nameless container anew, so names never end. A Compose project has tens of them.
NAMES_KEPT = 4096

_NEARLY_FULL = 0.9
_NAMELESS = Purpose(Kind.ENDPOINT)


@dataclass(frozen=True)
class Counts:
    """
    The addresses that are handed out when none is asked for, kept-back ones left out, by what they are now.

    `size` is the sum of `used` (endpoints), `reserved` (all others that are held), `resting` and `free`. `outside` are
    those held in the pool's network but not in its sub-pool, nor where it is confined to.
    """

    size: int
    used: int
    reserved: int
    resting: int
    free: int
    outside: int

    @property
    def held(self) -> int:
        return self.used + self.reserved

    @property
    def nearly_full(self) -> bool:
        return self.held >= _NEARLY_FULL * self.size


@dataclass(frozen=True)
class Use:
    """How many addresses of a part of a pool are held, and how many rest."""

    network: IPNetwork
    held: int
    resting: int

    @property
    def idle(self) -> bool:
        return not self.held and not self.resting


class Allocator:
    """
    The addresses of one pool: held, resting or free. Memory follows what is held, rests or is remembered by name.

    Addresses are handed out in turn, onwards from the last. One given back rests for `rest_s`; when only resting
    ones are left the one that rested longest goes first. An endpoint with a name gets the address that it had last, if
    nobody else had it since. Each takes logarithmic time, the end of a rest being paid by the release before it.

    One that is `confined` hands out of those networks alone; each of them that is full costs a look more.
    """

    def __init__(self, pool: Pool, records: Iterable[Record] = (), rest_s: float = REST_S) -> None:
        """
        Begin where `records` stopped, in any order; one per address.

        Errors: InvalidParameter when a record is of another pool, Conflict when two are of one address.
        """
        self.pool = pool
        self._rest_s = rest_s
        self._first = int(pool.dynamic.network_address)
        self._size = pool.dynamic.num_addresses
        self._spans = [(0, self._size)]  # offsets in pool.dynamic from which addresses are handed out, sorted
        self._confined = False
        self._usable = pool.dynamic_size
        self._address: type[IPv4Address] | type[IPv6Address] = IPv4Address if pool.network.version == 4 else IPv6Address
        # All keys are addresses as numbers: hashing an address object costs more than all the rest.
        self._held: dict[int, tuple[Allocation, Freed | None]] = {}  # with what `withdraw` puts back
        self._freed: dict[int, Freed] = {}  # resting, or kept for a name
        self._resting: dict[int, float] = {}  # since when
        self._rests: list[tuple[float, int]] = []  # heap of (since when, key), some of which rest no longer
        self._names: OrderedDict[str, int] = OrderedDict()  # where to find a name in _freed, oldest first
        self._taken = SparseSet(self._size)  # of offsets in pool.dynamic: held, resting, kept back
        self._held_by = dict.fromkeys(Kind, 0)  # of those that are handed out
        self._at_rest = 0  # of them too
        self._turn = 0  # the offset to look at first
        self._keep_back()
        self._restore(list(records))

    @property
    def confined(self) -> bool:
        return self._confined

    def confine(self, networks: Iterable[IPNetwork] | None) -> None:
        """
        Hand out of these parts of the pool alone from now on, or of all (None) again. What is held stays held, and what
        rests goes on resting.
        """
        self._confined = networks is not None
        parts = [self.pool.dynamic] if networks is None else networks
        self._spans = sorted(span for network in parts if (span := self._span(network)))
        kept_back = sum(self._inside(int(address)) for address in self.pool.kept_back)
        self._usable = sum(end - first for first, end in self._spans) - kept_back
        self._held_by = dict.fromkeys(Kind, 0)
        for key, (allocation, _) in self._held.items():
            self._held_by[allocation.purpose.kind] += self._inside(key)
        self._at_rest = sum(map(self._inside, self._resting))

    def allocate(
        self, now: float, name: str = "", *, kind: Kind = Kind.ENDPOINT, only_rested: bool = False
    ) -> Allocation:
        """
        Hold the next address, for an endpoint if nothing else is said; `only_rested` leaves those alone that rest, but
        for the one that the name had. Errors: Exhausted, and nothing has changed.
        """
        self._wake(now)
        key = self._named(name)
        if key is None:
            key = self._next()
        if key is None and not only_rested:
            key = self._longest_resting()
        if key is None:
            raise self._exhausted()
        purpose = Purpose(kind, name) if name or kind is not Kind.ENDPOINT else _NAMELESS
        return self._hold(key, Allocation(self._address(key), purpose, now))

    def claim(self, address: IPAddress, purpose: Purpose, now: float) -> Allocation:
        """
        Hold this address, even while it rests.

        Errors: InvalidParameter when it is nobody's to have, Conflict when it is held; nothing has changed then.
        """
        key = self._claimable(address)
        return self._hold(key, Allocation(self._address(key), purpose, now))

    def withdraw(self, allocation: Allocation) -> bool:
        """Undo an `allocate` or `claim` that was never answered. False when it is not held: nothing has changed."""
        if not self._holds(allocation):
            return False
        key = int(allocation.address)
        before = self._let_go(key)
        if before is not None:
            self._rest(key, before)
        elif self._dynamic(key):
            self._taken.remove(key - self._first)
        return True

    def held(self, address: IPAddress) -> Allocation | None:
        if address.version != self.pool.network.version:
            return None
        allocation, _ = self._held.get(int(address), (None, None))
        return allocation

    def release(self, freed: Freed) -> bool:
        """Let an address rest, its giving back being on disk. False when it was not held: nothing has changed."""
        if not self._holds(freed.allocation):
            return False
        key = int(freed.allocation.address)
        self._let_go(key)
        if self._dynamic(key):  # the others are given to nobody unasked: they need no rest
            self._rest(key, freed)
        return True

    def allocations(self) -> Iterator[Allocation]:
        return (allocation for allocation, _ in self._held.values())

    def outside(self, networks: Iterable[IPNetwork]) -> Iterator[Allocation]:
        """What is held in none of these parts of the pool, none within another."""
        ordered = sorted(networks, key=lambda one: int(one.network_address))
        places = zip(self._held.values(), _places(ordered, self._held), strict=True)
        return (allocation for (allocation, _), place in places if place is None)

    def remembered(self) -> Iterator[Freed]:
        """What is still of use of the addresses given back; records of others need not be kept."""
        return iter(self._freed.values())

    def counts(self, now: float) -> Counts:
        self._wake(now)
        used = self._held_by[Kind.ENDPOINT]
        inside = sum(self._held_by.values())
        return Counts(
            size=self._usable,
            used=used,
            reserved=inside - used,
            resting=self._at_rest,
            free=self._free(),
            outside=len(self._held) - inside,
        )

    def use(self, networks: Iterable[IPNetwork], now: float) -> list[Use]:
        """What is held and rests in each of these parts of the pool, none within another, in order. Looks at all."""
        self._wake(now)
        ordered = sorted(networks, key=lambda one: int(one.network_address))
        held, resting = (_counted(ordered, keys) for keys in (self._held, self._resting))
        return [Use(one, held[place], resting[place]) for place, one in enumerate(ordered)]

    def _keep_back(self) -> None:
        for address in self.pool.kept_back:
            if address in self.pool.dynamic:
                self._taken.add(int(address) - self._first)

    def _restore(self, records: Sequence[Record]) -> None:
        held = [record for record in records if isinstance(record, Allocation)]
        given_back = sorted((record for record in records if isinstance(record, Freed)), key=attrgetter("freed_at"))
        for allocation in held:
            self._hold(self._claimable(allocation.address), allocation)
        for freed in given_back:
            self._restore_freed(self._claimable(freed.allocation.address), freed)
        self._turn = self._after_latest([*held, *(freed.allocation for freed in given_back)])

    def _restore_freed(self, key: int, freed: Freed) -> None:
        if key in self._freed:
            raise Conflict(f"address {freed.allocation.address}: two records say when it was given back")
        if self._dynamic(key):
            self._taken.add(key - self._first)
            self._rest(key, freed)

    def _after_latest(self, allocations: Sequence[Allocation]) -> int:
        inside = [allocation for allocation in allocations if self._dynamic(int(allocation.address))]
        latest = max(inside, key=attrgetter("allocated_at"), default=None)
        return 0 if latest is None else int(latest.address) - self._first + 1

    def _free(self) -> int:
        return self._usable - sum(self._held_by.values()) - self._at_rest

    def _dynamic(self, key: int) -> bool:
        return 0 <= key - self._first < self._size

    def _inside(self, key: int) -> bool:
        """Whether it is one of those that are handed out."""
        offset = key - self._first
        place = bisect_right(self._spans, (offset, self._size)) - 1
        return place >= 0 and self._spans[place][0] <= offset < self._spans[place][1]

    def _span(self, network: IPNetwork) -> tuple[int, int] | None:
        """The offsets in pool.dynamic that a network has, if any."""
        if not network.overlaps(self.pool.dynamic):
            return None
        first = int(network.network_address) - self._first
        return max(first, 0), min(first + network.num_addresses, self._size)

    def _claimable(self, address: IPAddress) -> int:
        self.pool.check_usable(address)
        key = int(address)
        if key in self._held:
            raise Conflict(f"address {address}: held already, by the {self._held[key][0].purpose}; choose another")
        return key

    def _holds(self, allocation: Allocation) -> bool:
        current, _ = self._held.get(int(allocation.address), (None, None))
        return current is allocation or current == allocation

    def _next(self) -> int | None:
        if not self._free():
            return None
        offset = self._gap(self._turn)
        if offset is None:
            offset = self._gap(0)
        if offset is None:
            return None
        self._turn = offset + 1
        return self._first + offset

    def _gap(self, start: int) -> int | None:
        """The first free offset from `start` on."""
        place = max(0, bisect_right(self._spans, (start, self._size)) - 1)
        for first, end in self._spans[place:]:
            offset = self._taken.gap(max(start, first))
            if offset is not None and offset < end:
                return offset
        return None

    def _named(self, name: str) -> int | None:
        """The address that a name had last: free or resting, or it would not stand there."""
        key = self._names.get(name) if name else None
        return key if key is not None and self._inside(key) else None

    def _longest_resting(self) -> int | None:
        if not self._at_rest:
            return None
        others: list[tuple[float, int]] = []  # that rest too, but are not handed out
        found = None
        while found is None and self._rests:
            since, key = heappop(self._rests)
            if self._resting.get(key) != since:
                continue
            if self._inside(key):
                found = key
            else:
                others.append((since, key))
        for one in others:
            heappush(self._rests, one)
        return found

    def _hold(self, key: int, allocation: Allocation) -> Allocation:
        self._held[key] = (allocation, self._forget(key))
        if self._dynamic(key):
            self._taken.add(key - self._first)
            self._held_by[allocation.purpose.kind] += self._inside(key)
        return allocation

    def _let_go(self, key: int) -> Freed | None:
        """What the address was before; it stays taken, for the caller to rest or to free."""
        allocation, before = self._held.pop(key)
        self._held_by[allocation.purpose.kind] -= self._inside(key)
        return before

    def _rest(self, key: int, freed: Freed) -> None:
        """Begin a rest, or go on with it, of an address that is taken."""
        self._freed[key] = freed
        self._resting[key] = freed.freed_at
        self._at_rest += self._inside(key)
        heappush(self._rests, (freed.freed_at, key))
        if freed.allocation.purpose.name and freed.allocation.purpose.kind is Kind.ENDPOINT:
            self._keep_name(key, freed)

    def _wake(self, now: float) -> None:
        """End the rests that are over."""
        while self._rests and self._rests[0][0] + self._rest_s <= now:
            since, key = heappop(self._rests)
            if self._resting.get(key) == since:
                del self._resting[key]
                self._at_rest -= self._inside(key)
                self._taken.remove(key - self._first)
                self._drop_useless(key)

    def _keep_name(self, key: int, freed: Freed) -> None:
        name = freed.allocation.purpose.name
        other = self._names.get(name)
        if other is not None and self._freed[other].freed_at > freed.freed_at:
            return
        self._names[name] = key
        self._names.move_to_end(name)
        if other is not None:
            self._drop_useless(other)
        if len(self._names) > NAMES_KEPT:
            self._drop_useless(self._names.popitem(last=False)[1])

    def _drop_useless(self, key: int) -> None:
        if key not in self._resting and self._names.get(self._freed[key].allocation.purpose.name) != key:
            del self._freed[key]

    def _forget(self, key: int) -> Freed | None:
        """The address belongs to another from now on."""
        freed = self._freed.pop(key, None)
        if freed is None:
            return None
        if self._resting.pop(key, None) is not None:
            self._at_rest -= self._inside(key)
        if self._names.get(freed.allocation.purpose.name) == key:
            del self._names[freed.allocation.purpose.name]
        return freed

    def _exhausted(self) -> Exhausted:
        holders = ", ".join(f"{kind} {count}" for kind, count in self._held_by.items() if count)
        where = "this host's blocks" if self._confined else str(self.pool.dynamic)
        return Exhausted(
            f"pool {self.pool.network}: all {self._usable} addresses of {where} are held"
            f" ({holders or 'none'}); remove containers, or make a larger network"
        )


def _counted(ordered: Sequence[IPNetwork], keys: Iterable[int]) -> Counter[int]:
    """How many keys are in each of the networks, by its place."""
    return Counter(place for place in _places(ordered, keys) if place is not None)


def _places(ordered: Sequence[IPNetwork], keys: Iterable[int]) -> Iterator[int | None]:
    """Of each key the place of the network that has it."""
    firsts = [int(one.network_address) for one in ordered]
    lasts = [int(one.broadcast_address) for one in ordered]
    for key in keys:
        place = bisect_right(firsts, key) - 1
        yield place if place >= 0 and key <= lasts[place] else None
