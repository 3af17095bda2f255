"""What we believe of the kernel between two looks at it, and how a step that was taken changes that. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from mdnp.dataplane.objects import Accept, Addr, Bridge, Element, HostPort, Jump, Key, Link, Sysctl, Table, Veth
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
            case Add(Bridge() | Veth() as made):
                self._objects[made.key] = made.link()
            case Add(Addr() | Accept() | Jump() | Sysctl() | Table() | Element() | HostPort() as made):
                self._objects[made.key] = made
            case Set(link, _):
                self._objects[link.key] = link
            case Doom(link) | Delete(Link() as link):
                self._forget(link)
            case Delete(Table(family=family) as table):
                self._drop(one for one in self._objects.values() if isinstance(one, Element) and one.family == family)
                self._drop([table])
            case Delete(Accept() | Jump() | Element() | HostPort() as gone):
                self._drop([gone])

    def _drop(self, gone: Iterable[Seen]) -> None:
        for key in [one.key for one in gone]:
            self._objects.pop(key, None)

    def _forget(self, link: Link) -> None:
        """With a bridge go its addresses and settings, and its ports are free."""
        self._objects.pop(link.key, None)
        if link.kind != "bridge":
            return
        for key, one in list(self._objects.items()):
            if _goes_with(one, link.name):
                del self._objects[key]
            elif isinstance(one, Link) and one.master == link.name:
                self._objects[key] = replace(one, master=None)


def _goes_with(one: Seen, bridge: str) -> bool:
    match one:
        case Addr(link=link):
            return link == bridge
        case Sysctl(name=name):
            return f"/conf/{bridge}/" in name
    return False
