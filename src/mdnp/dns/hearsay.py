"""What Docker told of names, and what of it the store lacks. Pure."""

from collections.abc import Callable, Collection, Iterator, Mapping, Set

from mdnp.engine import RunningContainer
from mdnp.model.endpoint import Endpoint
from mdnp.model.identity import NetworkID
from mdnp.model.names import Called, Names
from mdnp.model.network import IPAddress, IPNetwork, Network
from mdnp.store import Drop, Promises, Put

# The subject of what is told of all networks; any other is a container.
NETWORKS = ""

# The name of who holds an address of a pool, "" if it is not known.
Holder = Callable[[IPNetwork, IPAddress], str]


class Hearsay:
    """
    What was told last of each subject. Answers come in any order: one counts if no question that was asked later, about
    the same subject, was answered before. So an old answer never takes the place of a newer one, however long it took.
    """

    def __init__(self) -> None:
        self._turns = 0
        self._heard: dict[str, tuple[int, Collection[str]]] = {}  # of each subject the turn, and what was named
        self._names: dict[str, Names] = {}

    @property
    def names(self) -> Mapping[str, Names]:
        """By the id of an endpoint or a network."""
        return self._names

    def turn(self) -> int:
        """Of a question that is asked now."""
        self._turns += 1
        return self._turns

    def hear(self, subject: str, turn: int, names: Mapping[str, Names]) -> None:
        heard, named = self._heard.get(subject, (0, ()))
        if turn < heard:
            return
        for one in named:
            self._names.pop(one, None)
        self._heard[subject] = turn, tuple(names)
        self._names.update(names)

    def keep(self, containers: Set[str], turn: int) -> None:
        """No others run, as of this turn: what was heard of them before is forgotten."""
        gone = [one for one, (heard, _) in self._heard.items() if one not in containers and heard < turn]
        for one in gone:
            if one != NETWORKS:
                self.hear(one, turn, {})
                del self._heard[one]

    def lacks(self, container: RunningContainer, endpoints: Set[str]) -> bool:
        """Whether something is to be learned of these endpoints of it: what they are called follows from its name."""
        found = (self._names.get(one) for one in container.endpoints & endpoints)
        return any(one is None or one.name != container.name for one in found)


def named(promises: Promises) -> dict[NetworkID, Network]:
    """The networks for whose containers names are answered."""
    return {one.id: one for one in promises.networks.values() if one.options.has_names}


def endpoints(promises: Promises) -> Iterator[Endpoint]:
    """Those on networks with names."""
    networks = named(promises)
    return (one for one in promises.endpoints.values() if one.network_id in networks)


def untold(promises: Promises, told: Mapping[str, Names]) -> bool:
    """Whether Docker has to tell of something yet, since we run."""
    return any(one not in told for one in (*named(promises), *(one.id for one in endpoints(promises))))


def differences(promises: Promises, told: Mapping[str, Names], holder: Holder) -> list[Put | Drop]:
    """
    What the store lacks. What Docker has not told yet keeps the names that it had, or has that which IPAM knows its
    holder by; what is not promised any more, or is on a network without names, has none.
    """
    kept = promises.called
    wanted = {identity: names for identity, names in _wanted(promises, told, holder) if names is not None}
    return [
        *(Drop(one) for one in kept.values() if one.id not in wanted),
        *(Put(one) for one in map(Called, wanted, wanted.values()) if kept.get(one.id) != one),
    ]


def _wanted(promises: Promises, told: Mapping[str, Names], holder: Holder) -> Iterator[tuple[str, Names | None]]:
    networks = named(promises)
    for identity in networks:
        yield identity, told.get(identity) or _kept(promises, identity)
    for one in endpoints(promises):
        names = told.get(one.id) or _kept(promises, one.id)
        yield one.id, names or _first(networks[one.network_id], one, holder)


def _kept(promises: Promises, identity: str) -> Names | None:
    called = promises.called.get(identity)
    return called.names if called else None


def _first(network: Network, endpoint: Endpoint, holder: Holder) -> Names | None:
    """Engines from 29 on tell a container's name to IPAM, before the endpoint is made."""
    for address in endpoint.addresses:
        subnet = network.subnet_of(address)
        if subnet is not None and (name := holder(subnet.pool, address.ip)):
            return Names(name)
    return None
