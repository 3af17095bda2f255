"""What this host's Docker has to do, from what was declared and what it lists. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mdnp.declared import LABEL, Notice, Withdrawn
from mdnp.engine import ListedNetwork, WantedNetwork, WantedPool
from mdnp.model.declaration import Declaration, DeclaredPool
from mdnp.model.identity import short


@dataclass(frozen=True)
class Task:
    """
    For one name: the networks to remove first, then the one to make. `obstacle` says why nothing can be done, and
    `declare` is what a network of ours was made of that nobody knows of any more.
    """

    name: str
    remove: tuple[str, ...] = ()
    make: WantedNetwork | None = None
    obstacle: str = ""
    declare: str = ""

    @property
    def idle(self) -> bool:
        return not (self.remove or self.make or self.obstacle or self.declare)


def plan(notices: Mapping[str, Notice], listed: Sequence[ListedNetwork], driver: str) -> tuple[Task, ...]:
    """One for each notice, and for each network of ours without one. `driver` is the name by which Docker knows us."""
    of_notices = (_of_notice(name, notice, listed, driver) for name, notice in sorted(notices.items()))
    return (*of_notices, *_unknown(notices, listed))


def _of_notice(name: str, notice: Notice, listed: Sequence[ListedNetwork], driver: str) -> Task:
    ours = [one for one in listed if one.name == name and LABEL in one.labels]
    if isinstance(notice, Withdrawn):
        return Task(name, tuple(one.id for one in ours))
    as_declared = [one.id for one in ours if one.labels[LABEL] == notice.text][:1]
    others = tuple(one.id for one in ours if one.id not in as_declared)
    if as_declared:
        return Task(name, others)
    strangers = [one for one in listed if one.name == name and LABEL not in one.labels]
    if strangers:
        return Task(name, obstacle=_in_the_way(strangers[0]))
    return Task(name, others, wanted(notice, driver))


def _unknown(notices: Mapping[str, Notice], listed: Sequence[ListedNetwork]) -> Iterator[Task]:
    found = {one.name: one.labels[LABEL] for one in listed if LABEL in one.labels and one.name not in notices}
    yield from (Task(name, declare=text) for name, text in sorted(found.items()))


def _in_the_way(one: ListedNetwork) -> str:
    return (
        f"Docker has a network {one.name} here already ({short(one.id)}, driver {one.driver or 'unknown'}) that was not"
        f" made by `mdnp network create`: remove it with `docker network rm {one.name}`, or choose another name"
    )


def wanted(declaration: Declaration, driver: str) -> WantedNetwork:
    """What Docker is to make of a declaration."""
    return WantedNetwork(
        name=declaration.name,
        driver=driver,
        pools=tuple(map(_pool, declaration.pools)),
        internal=declaration.internal,
        options=dict(declaration.options),
        labels={**dict(declaration.labels), LABEL: declaration.text},
    )


def _pool(one: DeclaredPool) -> WantedPool:
    return WantedPool(one.pool.network, one.pool.sub_pool, one.gateway, dict(one.auxiliary))
