"""What this host's Docker has to do, from what is declared and what it lists. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mdnp.declared import LABEL, text_of
from mdnp.engine import ListedNetwork, WantedNetwork, WantedPool
from mdnp.member import DeclaredNetwork, DeclaredSubnet
from mdnp.model.identity import short


@dataclass(frozen=True)
class Task:
    """
    For one name: the networks to remove first, then the one to make. `obstacle` says why nothing can be done; `declare`
    is what to declare anew.
    """

    name: str
    remove: tuple[str, ...] = ()
    make: WantedNetwork | None = None
    obstacle: str = ""
    declare: str = ""


def plan(
    declared: Mapping[str, DeclaredNetwork],
    listed: Sequence[ListedNetwork],
    seen: Mapping[str, int],
    epoch: int,
    driver: str,
) -> tuple[Task, ...]:
    """
    One for each declared network, and for each of ours that is declared no more.

    `seen` has the epoch in which each was last seen declared: one that is missing in the same epoch was withdrawn; in
    another it was lost with etcd's data, and is declared anew. `driver` is the name by which Docker knows us.
    """
    tasks = (_of_declared(one, listed, driver) for one in declared.values())
    return (*tasks, *_of_others(declared, listed, seen, epoch))


def _of_declared(declared: DeclaredNetwork, listed: Sequence[ListedNetwork], driver: str) -> Task:
    named = [one for one in listed if one.name == declared.name]
    ours = [one for one in named if LABEL in one.labels]
    kept = next((one for one in ours if one.labels[LABEL] == text_of(declared)), None)
    others = tuple(one.id for one in ours if one is not kept)
    if kept:
        return Task(declared.name, others)
    if len(named) > len(ours):
        stranger = next(one for one in named if one not in ours)
        return Task(declared.name, others, obstacle=_in_the_way(stranger))
    return Task(declared.name, others, wanted(declared, driver))


def _of_others(
    declared: Mapping[str, DeclaredNetwork], listed: Sequence[ListedNetwork], seen: Mapping[str, int], epoch: int
) -> Iterator[Task]:
    ours = [one for one in listed if LABEL in one.labels and one.name not in declared]
    for name in dict.fromkeys(one.name for one in ours):
        of_name = [one for one in ours if one.name == name]
        if name not in seen:
            yield Task(name, obstacle=_of_nobody(name))
        elif seen[name] == epoch:
            yield Task(name, tuple(one.id for one in of_name))
        else:
            yield Task(name, declare=of_name[0].labels[LABEL])


def _in_the_way(one: ListedNetwork) -> str:
    return (
        f"Docker has a network {one.name} here already ({short(one.id)}, driver {one.driver or 'unknown'}) that was not"
        f" made by `mdnp network create`: remove it with `docker network rm {one.name}`, or choose another name"
    )


def _of_nobody(name: str) -> str:
    return (
        f"Docker has a network {name} here that was made by `mdnp network create`, in a cluster or a state that is not"
        f" this one: `docker network rm {name}` if nobody needs it, or declare it again"
    )


def called(name: str, drivers: Sequence[str]) -> str:
    """By which name Docker knows the driver: its own, or that of a plugin which the engine runs itself, with a tag."""
    if name in drivers:
        return name
    managed = [one for one in drivers if one.rpartition("/")[2].partition(":")[0] == name]
    return managed[0] if len(managed) == 1 else name


def wanted(declared: DeclaredNetwork, driver: str) -> WantedNetwork:
    """What Docker is to make of it."""
    return WantedNetwork(
        name=declared.name,
        driver=driver,
        pools=tuple(map(_pool, declared.subnets)),
        internal=declared.internal,
        options=declared.options,
        labels={**declared.labels, LABEL: text_of(declared)},
    )


def _pool(one: DeclaredSubnet) -> WantedPool:
    return WantedPool(one.pool, one.ip_range, one.gateway, one.auxiliary)
