"""
What a daemon that hands out addresses may answer, in sets and dicts: it looks through everything each time.

No code of the allocator is used here, nor of the model room: what is wrong there must not be wrong here too.
"""

import copy
import time
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

SPACE = "mdnp-local"
REST_S = 60.0
_DOUBT_S = 5.0  # about how long ago something was in the daemon's time

Answer = str | None  # an id, an address, "" for done; None for a refusal


@dataclass(frozen=True)
class Op:
    """A call: its verb, and what it is about. `pool` is an id, or what "pool" asks for: "NETWORK" or "NETWORK SUB"."""

    verb: str  # pool, automatic, end, next, claim, gateway, release
    pool: str = ""
    address: str = ""
    name: str = ""


@dataclass
class Pool:
    """Kept when it has no holder any more: the next of its identity goes on with what it remembers."""

    network: str
    usable: list[str]  # for whoever asks for none
    claimable: set[str]
    gateway: str
    holders: int = 0
    held: dict[str, tuple[str, str]] = field(default_factory=dict)  # kind and name
    ended: dict[str, tuple[int, float, str]] = field(default_factory=dict)  # count of events, when, and for which name
    kept: dict[str, str | None] = field(default_factory=dict)  # a name's address; None: one of several

    def hold(self, address: str, kind: str, name: str) -> None:
        self.held[address] = (kind, name)
        self.ended.pop(address, None)
        self.kept = {one: where for one, where in self.kept.items() if where != address}

    def free(self, address: str, event: int) -> None:
        _, name = self.held.pop(address)
        if address in self.usable:
            self.ended[address] = (event, time.monotonic(), name)
            if name:
                self.kept[name] = address

    def end(self, event: int) -> None:
        self.holders = 0
        for address in list(self.held):
            self.free(address, event)

    def reload(self) -> None:
        """As who reads it from disk: a name has the address that it gave back last, of those nobody took."""
        self.kept = {}
        last: dict[str, int] = {}
        for address, (event, _, name) in sorted(self.ended.items(), key=lambda item: item[1]):
            if name:
                self.kept[name] = None if last.get(name) == event else address
                last[name] = event

    def next(self, name: str) -> set[Answer]:
        """Which addresses one that asks for none may get."""
        kept = self.kept.get(name)
        if kept is not None:
            return {kept}
        free = [one for one in self.usable if one not in self.held]
        now = time.monotonic()
        resting = [one for one in free if one in self.ended and now - self.ended[one][1] < REST_S - _DOUBT_S]
        rested = [one for one in free if one not in self.ended or now - self.ended[one][1] > REST_S + _DOUBT_S]
        if not free:
            return {None}
        if name in self.kept:
            return set(free)
        if rested:
            return {one for one in free if one not in resting}
        if len(resting) == len(free):
            return {min(resting, key=lambda one: (self.ended[one][0], int(ip_address(one))))}
        return set(free)


class Plain:
    """
    `answers` says what a call may be answered with now, `apply` goes on from there. What is not known to have happened
    is two of these.
    """

    def __init__(self, supernet: str, size: int) -> None:
        self.pools: dict[str, Pool] = {}
        self._candidates = [str(one) for one in ip_network(supernet).subnets(new_prefix=size)]
        self._given = ""
        self._events = 0

    def answers(self, op: Op) -> set[Answer]:
        if op.verb == "pool":
            return self._pool_answers(op.pool)
        if op.verb == "automatic":
            return self._automatic_answers()
        pool = self._of(op.pool)
        if op.verb == "end":
            return {""}
        if op.verb == "release":
            return {None if pool and ip_address(op.address) not in ip_network(pool.network) else ""}
        return self._address_answers(pool, op) if pool else {None}

    def apply(self, op: Op, answer: Answer) -> None:
        if answer is None:
            return
        self._events += 1
        if op.verb in ("pool", "automatic"):
            self._take(op, answer)
        elif op.verb == "end":
            self._end(op.pool)
        elif op.verb == "release":
            self._release(op)
        else:
            kind = "gateway" if op.verb == "gateway" else "endpoint"
            pool = self.pools[op.pool]
            if answer not in pool.held:  # a shared gateway
                pool.hold(answer, kind, op.name)
            if op.verb == "next" and pool.kept.get(op.name, "") is None:
                del pool.kept[op.name]

    def restarted(self) -> None:
        self._given = ""
        for pool in self.pools.values():
            pool.reload()

    def copy(self) -> "Plain":
        return copy.deepcopy(self)

    @property
    def shown(self) -> dict[str, tuple[int, dict[str, tuple[str, str]]]]:
        """As the operator sees it: pools with their holders, and who has which address."""
        return {identity: (pool.holders, dict(pool.held)) for identity, pool in self.pools.items() if pool.holders}

    def _of(self, identity: str) -> Pool | None:
        pool = self.pools.get(identity)
        return pool if pool and pool.holders else None

    def _pool_answers(self, text: str) -> set[Answer]:
        identity = identity_of(text)
        if self._of(identity):
            return {identity}
        network = text.partition(" ")[0]
        return {None if self._overlapped(network) else identity}

    def _automatic_answers(self) -> set[Answer]:
        free = {one for one in self._candidates if not self._overlapped(one)}
        others = (free - {self._given}) or free
        return {identity_of(one) for one in others} or {None}

    def _address_answers(self, pool: Pool, op: Op) -> set[Answer]:
        if op.verb == "next":
            return pool.next(op.name)
        address = op.address or pool.gateway
        kind, _ = pool.held.get(address, ("", ""))
        if op.verb == "gateway" and kind == "gateway" and pool.holders > 1:
            return {address}
        return {address if address in pool.claimable and not kind else None}

    def _overlapped(self, network: str) -> bool:
        one = ip_network(network)
        return any(pool.holders and ip_network(pool.network).overlaps(one) for pool in self.pools.values())

    def _take(self, op: Op, identity: str) -> None:
        pool = self.pools.setdefault(identity, plain_pool(op.pool or identity.removeprefix(f"{SPACE}/")))
        if not pool.holders:
            pool.reload()
        pool.holders += 1
        if op.verb == "automatic":
            self._given = pool.network

    def _end(self, identity: str) -> None:
        pool = self._of(identity)
        if pool and pool.holders > 1:
            pool.holders -= 1
        elif pool:
            pool.end(self._events)

    def _release(self, op: Op) -> None:
        pool = self._of(op.pool)
        kind, _ = pool.held.get(op.address, ("", "")) if pool else ("", "")
        if pool and kind and (kind != "gateway" or pool.holders == 1):
            pool.free(op.address, self._events)


def identity_of(text: str) -> str:
    return "/".join([SPACE, *text.split()])


def plain_pool(text: str) -> Pool:
    network, _, sub_pool = text.partition(" ")
    every = [str(one) for one in ip_network(network)]
    nobody = {every[0]} if ":" in network else {every[0], every[-1]}
    claimable = [one for one in every if one not in nobody]
    inside = {str(one) for one in ip_network(sub_pool or network)}
    return Pool(network, [one for one in claimable if one in inside], set(claimable), claimable[0])
