"""What we believe of the kernel between two looks at it, and how a step that was taken changes that. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from mdnp.dataplane.naming import PAIR_PREFIXES, PEER_PREFIXES
from mdnp.dataplane.objects import Addr, Element, Fdb, Key, Link, MadeLink, Neigh, Object, PoolRoute, Sysctl, Table
from mdnp.dataplane.steps import Add, Delete, Doom, Set, Step
from mdnp.kernel import Actual, Seen


class Memory:
    """An `Actual` that follows the steps."""

    def __init__(self, seen: Actual) -> None:
        self._objects: dict[Key, Seen] = dict(seen.objects)
        self._seen = seen

    @property
    def actual(self) -> Actual:
        return replace(self._seen, objects=self._objects)

    def follow(self, step: Step) -> None:
        match step:
            case Add(made):
                self._objects[made.key] = _as_seen(made)
            case Set(link, _):
                self._objects[link.key] = link
            case Doom(link) | Delete(Link() as link):
                self._forget(link)
            case Delete(Table(family=family) as table):
                self._drop(one for one in self._objects.values() if isinstance(one, Element) and one.family == family)
                self._drop([table])
            case Delete(gone):
                self._drop([gone])

    def _drop(self, gone: Iterable[Seen]) -> None:
        for key in [one.key for one in gone]:
            self._objects.pop(key, None)

    def _forget(self, link: Link) -> None:
        """
        With a link goes what stands on it, and a bridge's ports are free. On a host end stands at most a row, which is
        deleted for itself.
        """
        self._objects.pop(link.key, None)
        if link.kind == "veth" and not link.name.startswith((*PAIR_PREFIXES, *PEER_PREFIXES)):
            return
        freed = {one.name for one in self._objects.values() if isinstance(one, Link) and one.master == link.name}
        for key, one in list(self._objects.items()):
            if stands_on(one, link.name) or (isinstance(one, Fdb) and one.vtep is None and one.link in freed):
                del self._objects[key]
            elif isinstance(one, Link) and one.name in freed:
                self._objects[key] = replace(one, master=None, flags=None)


def _as_seen(made: Object) -> Seen:
    return made.link() if isinstance(made, MadeLink) else made


def stands_on(one: object, link: str) -> bool:
    """Whether the kernel removes it with the link."""
    match one:
        case Addr(link=below) | Fdb(link=below) | Neigh(link=below) | PoolRoute(link=below):
            return below == link
        case Sysctl(name=name):
            return f"/conf/{link}/" in name
    return False
