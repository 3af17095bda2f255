"""
A kernel in memory that refuses what Linux refuses: for tests of everything above, in the words of the contract.

It passes the suite that Linux passes; what it would let through and Linux would not is a defect of it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from mdnp.dataplane.objects import Accept, Addr, Bridge, Key, Link, Veth
from mdnp.dataplane.steps import Add, Delete, Doom, Set, Step
from mdnp.kernel import Actual, Failure, Seen, Surroundings
from mdnp.model.errors import KernelError

_NAME_LENGTH = 15
_MTU_MIN = 68
_MTU_MAX = 65535


class FakeKernel:
    """
    `foreign` are names of links that are not ours. `refuses` says for a step whether, and with which words, it fails: a
    test's way to break things, and `unreadable` the words with which every look fails. `taken` are the steps that were
    taken, in order; `observed` and `reaped` count.
    """

    def __init__(self, surroundings: Surroundings | None = None) -> None:
        self.objects: dict[Key, Seen] = {}
        self.sandbox_ends: dict[str, str] = {}
        self.foreign: set[str] = set()
        self.chains: set[Key] = {Accept(4, "").chain, Accept(6, "").chain}
        self.refuses: Callable[[Step], str | None] = lambda _step: None
        self.taken: list[Step] = []
        self.unreadable = ""
        self.observed = 0
        self.reaped = 0
        self._doomed: set[str] = set()
        self._surroundings = surroundings or Surroundings((), 1500)

    async def observe(self) -> Actual:
        await asyncio.sleep(0)
        self._check_readable()
        self.observed += 1
        return Actual(dict(self.objects), frozenset(self.chains), bool(self._doomed))

    async def surroundings(self) -> Surroundings:
        await asyncio.sleep(0)
        self._check_readable()
        return self._surroundings

    async def perform(self, steps: Sequence[Step]) -> tuple[Failure, ...]:
        await asyncio.sleep(0)
        return tuple(failure for step in steps if (failure := self._attempt(step)))

    async def reap(self) -> None:
        await asyncio.sleep(0)
        self.reaped += 1
        for name in self._doomed:
            self.vanish(name)
        self._doomed.clear()

    async def close(self) -> None:
        await asyncio.sleep(0)

    @property
    def links(self) -> dict[str, Link]:
        """The links of ours by name, without those that wait for `reap`."""
        return {one.name: one for one in self.objects.values() if isinstance(one, Link)}

    @property
    def names(self) -> set[str]:
        """Every link's name, ours or not, doomed or not, sandbox ends too."""
        return {*self.links, *self._doomed, *self.sandbox_ends.values(), *self.foreign}

    def vanish(self, name: str) -> None:
        """A link disappears, as when somebody deletes it or its sandbox dies."""
        self.objects.pop(("link", name), None)
        self.sandbox_ends.pop(name, None)
        for key, one in list(self.objects.items()):
            if isinstance(one, Addr) and one.link == name:
                del self.objects[key]
            elif isinstance(one, Link) and one.master == name:
                self.objects[key] = replace(one, master=None)

    def _check_readable(self) -> None:
        if self.unreadable:
            raise KernelError(self.unreadable)

    def _attempt(self, step: Step) -> Failure | None:
        words = self.refuses(step) or self._refusal(step)
        if words:
            return Failure(step, KernelError(f"{step}: {words}"))
        self._take(step)
        self.taken.append(step)
        return None

    def _refusal(self, step: Step) -> str | None:
        """Why Linux would refuse, or None."""
        match step:
            case Add(Bridge() | Veth() as wanted):
                return self._refused_values(wanted.link()) or self._refused_names(wanted)
            case Add(Addr(link=needed)) | Set(Link(name=needed)) if needed not in self.links:
                return "No such device"
            case Set(Link() as link):
                return self._refused_values(link)
            case Add(Accept(chain=chain)) if chain not in self.chains:
                return "iptables: No chain/target/match by that name."
            case _:
                return None

    def _refused_values(self, link: Link) -> str | None:
        if link.master and link.master not in self.links:
            return "No such device"
        if not _MTU_MIN <= link.mtu <= _MTU_MAX:
            return "Numerical result out of range"
        return None

    def _refused_names(self, wanted: Bridge | Veth) -> str | None:
        link = wanted.link()
        peer = wanted.sandbox_end if isinstance(wanted, Veth) else ""
        if max(len(link.name), len(peer)) > _NAME_LENGTH:
            return "Numerical result out of range"
        if link.name in self.foreign:
            return f"a link {link.name} exists that is not mdnp's: choose another name, or remove it"
        if link == self.links.get(link.name) and self.sandbox_ends.get(link.name, "") == peer:
            return None
        return "File exists" if {link.name, peer} & self.names else None

    def _take(self, step: Step) -> None:
        match step:
            case Add(Bridge() | Veth() as wanted):
                self.objects[wanted.key] = wanted.link()
                if isinstance(wanted, Veth):
                    self.sandbox_ends[wanted.host_end] = wanted.sandbox_end
            case Add(Addr() | Accept() as one) | Set(Link() as one):
                self.objects[one.key] = one
            case Doom(link) if self.objects.pop(link.key, None):
                self._doomed.add(link.name)
            case Delete(Link() as link):
                self.vanish(link.name)
            case Delete(Accept() as rule):
                self.objects.pop(rule.key, None)
