"""What we believe of the kernel between two looks at it, and how a step that was taken changes that. Pure."""

from dataclasses import replace

from mdnp.dataplane.objects import Accept, Addr, Bridge, Key, Link, Veth
from mdnp.dataplane.steps import Add, Delete, Doom, Set, Step
from mdnp.kernel import Actual, Seen


class Memory:
    """An `Actual` that follows the steps."""

    def __init__(self, seen: Actual) -> None:
        self._objects: dict[Key, Seen] = dict(seen.objects)
        self._chains = seen.chains

    @property
    def actual(self) -> Actual:
        return Actual(self._objects, self._chains)

    def follow(self, step: Step) -> None:
        match step:
            case Add(Bridge() | Veth() as made):
                self._objects[made.key] = made.link()
            case Add(Addr() | Accept() as made):
                self._objects[made.key] = made
            case Set(link, _):
                self._objects[link.key] = link
            case Doom(link) | Delete(Link() as link):
                self._forget(link)
            case Delete(Accept() as rule):
                self._objects.pop(rule.key, None)

    def _forget(self, link: Link) -> None:
        """With a bridge go its addresses, and its ports are free."""
        self._objects.pop(link.key, None)
        if link.kind != "bridge":
            return
        for key, one in list(self._objects.items()):
            if isinstance(one, Addr) and one.link == link.name:
                del self._objects[key]
            elif isinstance(one, Link) and one.master == link.name:
                self._objects[key] = replace(one, master=None)
