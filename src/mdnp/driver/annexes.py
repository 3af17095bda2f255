"""
On which of a network's bridges a new endpoint goes: its own, or an annex, a further bridge that is joined to it.

The kernel gives a bridge 1,023 ports (BR_MAX_PORTS of net/bridge/br_private.h, less the number that means none).
"""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import Exhausted
from mdnp.model.identity import EndpointID, NetworkID, short
from mdnp.store import Store

PORTS = 1023
# Endpoints of one bridge.
ROOM = 1000
# On a network's own bridge each has a port, besides the tunnel and the host's own end.
MOST = PORTS - ROOM - 2


def choose(taken: Collection[int], room: int) -> int:
    """The first bridge with room, perhaps one that is to be made; `taken` are those of the network's endpoints."""
    full = Counter(taken)
    return next(number for number in count() if full[number] < room)


class Annexes:
    """An endpoint has its place from the choice on: others are made while it is written down."""

    def __init__(self, store: Store, room: int = ROOM) -> None:
        self._store = store
        self._room = room
        self._coming: dict[EndpointID, Endpoint] = {}

    def choose(self, network: NetworkID) -> int:
        """Errors: Exhausted."""
        endpoints = self._store.promises.endpoints
        if len(endpoints) + len(self._coming) < self._room:  # nearly always: then nobody is counted
            return 0
        every = {**endpoints, **self._coming}.values()
        chosen = choose([one.annex for one in every if one.network_id == network], self._room)
        if chosen > MOST:
            raise Exhausted(
                f"network {short(network)} has {(MOST + 1) * self._room} endpoints, and its bridges no room for more:"
                " use another network as well"
            )
        return chosen

    @contextmanager
    def holding(self, endpoint: Endpoint, annex: int) -> Iterator[Endpoint]:
        """The place that was chosen just now, until the endpoint is promised."""
        placed = replace(endpoint, annex=annex)
        self._coming[placed.id] = placed
        try:
            yield placed
        finally:
            del self._coming[placed.id]
