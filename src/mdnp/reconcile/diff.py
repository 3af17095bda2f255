"""Desired less actual, as ordered steps. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from mdnp.dataplane.objects import Accept, Addr, Bridge, Key, Link, Presence, Veth
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom, Owner, Set, Step
from mdnp.kernel import Actual, Seen
from mdnp.reconcile.desired import Desired, Owned


@dataclass(frozen=True)
class Difference:
    """The steps that would make the kernel agree, in order, and what cannot be rebuilt."""

    steps: tuple[Step, ...]
    lost: tuple[Owned, ...] = ()


def diff(desired: Desired, actual: Actual, keys: Iterable[Key] | None = None) -> Difference:
    """
    Compare at `keys`, or everywhere.

    Removals come first: two bridges of one subnet would leave two equal routes. Additions follow, a bridge before
    what stands on it, and changes last, since they may need a bridge that was just made.
    """
    places = list(keys) if keys is not None else [*desired, *(key for key in actual.objects if key not in desired)]
    steps: list[Step] = []
    lost: list[Owned] = []
    for key in places:
        wanted, seen = desired.get(key), actual.objects.get(key)
        if wanted is None:
            steps += _removal(seen, NOBODY)
        elif seen is not None:
            steps += _change(wanted, seen)
        elif _presence(wanted) is Presence.HELD:
            lost.append(wanted)
        elif _presence(wanted) is Presence.MUST and _has_place(wanted, actual):
            steps.append(Add(wanted.object, wanted.owner))
    return Difference(tuple(sorted(steps, key=_rank)), tuple(lost))


def _presence(wanted: Owned) -> Presence:
    return wanted.object.presence if isinstance(wanted.object, Veth) else Presence.MUST


def _has_place(wanted: Owned, actual: Actual) -> bool:
    """A rule whose chain is missing is not wanted: without the chain nothing drops what the rule would accept."""
    return not isinstance(wanted.object, Accept) or wanted.object.chain in actual.chains


def _removal(seen: Seen | None, owner: Owner) -> list[Step]:
    """Addresses go with their bridge; on a bridge that stays they are an operator's, not ours."""
    if seen is None or isinstance(seen, Addr):
        return []
    if isinstance(seen, Link) and seen.kind == "veth":
        return [Doom(seen, owner)]
    return [Delete(seen, owner)]


def _change(wanted: Owned, seen: Seen) -> list[Step]:
    if not (isinstance(wanted.object, Bridge | Veth) and isinstance(seen, Link)):
        return []
    link = wanted.object.link()
    if seen == link:
        return []
    if seen.kind != link.kind:
        return [Delete(seen, wanted.owner), Add(wanted.object, wanted.owner)]
    return [Set(link, seen, wanted.owner)]


def _rank(step: Step) -> int:
    match step:
        case Doom() | Delete(Accept()):
            return 0
        case Delete():
            return 1
        case Add(Bridge()):
            return 2
        case Add(Addr() | Accept()):
            return 3
        case Add():
            return 4
        case Set():
            return 5
