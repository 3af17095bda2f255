"""The allocator against one made of plain lists and dicts, over any order of requests, failures and restarts."""

from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mdnp.ipam.allocator import Allocator, Counts, Use
from mdnp.model.allocation import Allocation, Freed, Kind, Purpose, Record
from mdnp.model.errors import Conflict, Exhausted, InvalidParameter
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.pool import Pool, parse_pool

pytestmark = pytest.mark.long

REST_S = 10.0
POOLS = [
    ("10.1.0.0/29", ""),
    ("10.1.0.0/28", "10.1.0.4/30"),
    ("10.1.0.0/28", "10.1.0.0/30"),
    ("10.1.0.0/28", "10.1.0.12/30"),
    ("10.1.0.2/31", ""),
    ("10.1.0.3/32", ""),
    ("fd00:1::/125", ""),
    ("fd00:1::/64", "fd00:1::/126"),
    ("fd00:1::2/127", ""),
]
# What a pool of 16 is confined to: nothing, a block, two with a gap between them or not, all, more; None: it is not.
CONFINED: list[list[str] | None] = [None, [], ["/30 1"], ["/30 0", "/30 2"], ["/30 2", "/30 1"], ["/28 0"], ["/27 0"]]


@dataclass
class Reference:
    """Says what should be, by looking through everything each time."""

    pool: Pool
    held: dict[IPAddress, Allocation] = field(default_factory=dict)
    before: dict[IPAddress, Freed] = field(default_factory=dict)
    freed: dict[IPAddress, Freed] = field(default_factory=dict)
    names: dict[str, Freed] = field(default_factory=dict)
    last: IPAddress | None = None
    confined: list[IPNetwork] | None = None

    @property
    def dynamic(self) -> list[IPAddress]:
        return [address for address in self.pool.dynamic if address not in self.pool.kept_back]

    @property
    def handed_out(self) -> list[IPAddress]:
        return [one for one in self.dynamic if self.confined is None or any(one in part for part in self.confined)]

    def resting(self, now: float) -> list[Freed]:
        return [freed for freed in self.freed.values() if freed.freed_at + REST_S > now]

    def tidy(self, now: float) -> None:
        useful = [*self.resting(now), *self.names.values()]
        self.freed = {address: freed for address, freed in self.freed.items() if freed in useful}

    def next(self, now: float, name: str, only_rested: bool = False) -> IPAddress | None:
        if name in self.names and self.names[name].allocation.address in self.handed_out:
            return self.names[name].allocation.address
        resting = sorted(self.resting(now), key=lambda freed: (freed.freed_at, freed.allocation.address))
        rest = [freed.allocation.address for freed in resting if freed.allocation.address in self.handed_out]
        free = [address for address in self.handed_out if address not in self.held and address not in rest]
        after = [address for address in free if self.last is None or int(address) > int(self.last)]
        if free:
            self.last = [*after, *free][0]
            return self.last
        return rest[0] if rest and not only_rested else None

    def hold(self, allocation: Allocation) -> None:
        address = allocation.address
        self.held[address] = allocation
        self.before.pop(address, None)
        if address in self.freed:
            self.before[address] = self.freed.pop(address)
        self.names = {name: freed for name, freed in self.names.items() if freed.allocation.address != address}

    def let_go(self, address: IPAddress, freed: Freed | None) -> None:
        del self.held[address]
        if freed is not None and address in self.dynamic:
            self.rest(freed)

    def rest(self, freed: Freed) -> None:
        self.freed[freed.allocation.address] = freed
        name = freed.allocation.purpose.name if freed.allocation.purpose.kind is Kind.ENDPOINT else ""
        if name and (name not in self.names or self.names[name].freed_at <= freed.freed_at):
            self.names[name] = freed

    def restarted(self) -> "Reference":
        other = Reference(self.pool, held=dict(self.held), confined=self.confined)
        for freed in sorted(self.freed.values(), key=lambda freed: freed.freed_at):
            other.rest(freed)
        known = [*self.held.values(), *(freed.allocation for freed in self.freed.values())]
        inside = [allocation for allocation in known if allocation.address in self.dynamic]
        latest = max(inside, key=lambda allocation: allocation.allocated_at, default=None)
        other.last = latest.address if latest else None
        return other

    def counts(self, now: float) -> Counts:
        handed_out = self.handed_out
        inside = [allocation for address, allocation in self.held.items() if address in handed_out]
        used = sum(allocation.purpose.kind is Kind.ENDPOINT for allocation in inside)
        size = len(handed_out)
        resting = sum(freed.allocation.address in handed_out for freed in self.resting(now))
        free = size - len(inside) - resting
        return Counts(size, used, len(inside) - used, resting, free, len(self.held) - len(inside))


class Requests(RuleBasedStateMachine):
    @initialize(pool=st.sampled_from(POOLS))
    def begin(self, pool: tuple[str, str]) -> None:
        self.now = 1000.0
        self.pool = parse_pool(*pool)
        self.allocator = Allocator(self.pool, rest_s=REST_S)
        self.reference = Reference(self.pool)
        self.unanswered: list[Allocation] = []
        self.past: list[Freed] = []
        first = self.pool.network.network_address
        self.addresses = [first + number for number in range(min(self.pool.network.num_addresses, 16))]

    def tick(self, seconds: float = 0.25) -> None:
        """No two things happen at one time: then which was last is never in doubt."""
        self.now += seconds
        self.reference.tidy(self.now)

    @rule(seconds=st.sampled_from([1.0, REST_S / 2, REST_S, 10 * REST_S]))
    def wait(self, seconds: float) -> None:
        self.tick(seconds)

    @rule(parts=st.sampled_from(CONFINED))
    def confine(self, parts: list[str] | None) -> None:
        self.tick()
        networks = None if parts is None else [self.part(one) for one in parts]
        self.allocator.confine(networks)
        self.reference.confined = networks

    def part(self, text: str) -> IPNetwork:
        """The nth part of this size of the pool's first 16 addresses."""
        length, number = map(int, text[1:].split())
        size = 32 - length
        first = int(self.pool.network.network_address) + (number << size)
        return ip_network((first >> size << size, self.pool.network.max_prefixlen - size))

    @rule()
    def use(self) -> None:
        self.tick()
        parts = [self.part(f"/30 {number}") for number in range(4)]
        resting = [freed.allocation.address for freed in self.reference.resting(self.now)]
        counted = [
            Use(part, *(sum(one in part for one in some) for some in (self.reference.held, resting))) for part in parts
        ]
        assert self.allocator.use(parts, self.now) == counted

    @rule(
        name=st.sampled_from(["", "", "web", "db"]), seconds=st.sampled_from([0.25, REST_S]), only_rested=st.booleans()
    )
    def allocate(self, name: str, seconds: float, only_rested: bool) -> None:
        self.tick(seconds)
        address = self.reference.next(self.now, name, only_rested)
        try:
            allocation = self.allocator.allocate(self.now, name, only_rested=only_rested)
        except Exhausted:
            assert address is None
            return
        assert allocation == Allocation(address or self.pool.gateway, Purpose(Kind.ENDPOINT, name), self.now)
        assert address is not None
        self.reference.hold(allocation)
        self.unanswered.append(allocation)

    @rule(data=st.data(), kind=st.sampled_from(Kind), name=st.sampled_from(["", "web"]))
    def claim(self, data: st.DataObject, kind: Kind, name: str) -> None:
        self.tick()
        address = data.draw(st.sampled_from(self.addresses))
        purpose = Purpose(kind, name if kind in (Kind.ENDPOINT, Kind.FOREIGN) else "")
        try:
            allocation = self.allocator.claim(address, purpose, self.now)
        except InvalidParameter:
            assert address in self.pool.kept_back
        except Conflict:
            assert address in self.reference.held
        else:
            assert address not in self.reference.held
            assert address not in self.pool.kept_back
            assert allocation == Allocation(address, purpose, self.now)
            self.reference.hold(allocation)
            self.unanswered.append(allocation)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.tick()
        address = data.draw(st.sampled_from(self.addresses))
        allocation = self.allocator.held(address)
        assert allocation == self.reference.held.get(address)
        if allocation is None:
            return
        freed = allocation.freed(self.now)
        assert self.allocator.release(freed)
        self.reference.let_go(address, freed)
        self.past.append(freed)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def release_again(self, data: st.DataObject) -> None:
        self.tick()
        assert not self.allocator.release(data.draw(st.sampled_from(self.past)))

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """Of what was released meanwhile too: then nothing may happen."""
        self.tick()
        allocation = data.draw(st.sampled_from(self.unanswered))
        self.unanswered.remove(allocation)
        current = self.reference.held.get(allocation.address) == allocation
        assert self.allocator.withdraw(allocation) == current
        if current:
            self.reference.let_go(allocation.address, self.reference.before.get(allocation.address))
            self.reference.tidy(self.now)

    @rule()
    def restart(self) -> None:
        self.tick()
        self.allocator.counts(self.now)
        records: list[Record] = [*self.allocator.remembered(), *self.allocator.allocations()]
        self.allocator = Allocator(self.pool, records, rest_s=REST_S)
        if self.reference.confined is not None:
            self.allocator.confine(self.reference.confined)
        self.reference = self.reference.restarted()
        self.unanswered.clear()

    @invariant()
    def both_agree(self) -> None:
        self.reference.tidy(self.now)
        assert self.allocator.counts(self.now) == self.reference.counts(self.now)
        assert set(self.allocator.allocations()) == set(self.reference.held.values())
        assert set(self.allocator.remembered()) == set(self.reference.freed.values())


TestRequests = Requests.TestCase
TestRequests.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
