"""Desired less actual, as ordered steps. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from mdnp.dataplane.objects import (
    Accept,
    Addr,
    Bridge,
    Element,
    HostPort,
    Jump,
    Key,
    Link,
    Object,
    Presence,
    Sysctl,
    Table,
    Veth,
)
from mdnp.dataplane.rules import FORWARDING
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom, Owner, Removable, Set, Step
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

    Removals come first: two bridges of one subnet would leave two equal routes. Additions follow: the tables, so that
    nothing is open before it is closed; a bridge before what stands on it; of an endpoint first its guard, then its
    veth; a port of the host before traffic is led to it, which else would be taken from whoever has that port. Changes
    come last, since they may need a bridge that was just made.
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


_FORWARDING6 = Sysctl(FORWARDING[6], "").key


def _presence(wanted: Owned) -> Presence:
    return wanted.object.presence if isinstance(wanted.object, Veth) else Presence.MUST


def _has_place(wanted: Owned, actual: Actual) -> bool:
    """
    A rule whose chain is missing is not wanted: without the chain nothing drops what the rule would accept. Nor is a
    setting that this kernel does not have (IPv6 switched off).
    """
    match wanted.object:
        case Accept(chain=chain) | Jump(chain=chain):
            return chain in actual.chains
        case Sysctl(name=name):
            return not name.startswith("net/ipv6/") or _FORWARDING6 in actual.objects
        case _:
            return True


def _removal(seen: Seen | None, owner: Owner) -> list[Step]:
    """
    Addresses go with their bridge; on a bridge that stays they are an operator's, not ours. Settings stay: others may
    rely on them by now.
    """
    if seen is None or isinstance(seen, Addr | Sysctl):
        return []
    if isinstance(seen, Link) and seen.kind == "veth":
        return [Doom(seen, owner)]
    return [Delete(seen, owner)]


def _change(wanted: Owned, seen: Seen) -> list[Step]:
    if wanted.object == seen:  # nearly always
        return []
    match wanted.object, seen:
        case (Bridge() | Veth()) as made, Link():
            return _change_of_link(made.link(), seen, wanted)
        case (Table() | Sysctl() | Accept() | Jump()) as one, _ if one != seen:
            return [Add(one, wanted.owner)]
        case (Element() | HostPort()) as one, (Element() | HostPort()) if one != seen:
            return [Delete(seen, wanted.owner), Add(one, wanted.owner)]
        case _:
            return []


def _change_of_link(link: Link, seen: Link, wanted: Owned) -> list[Step]:
    if seen == link:
        return []
    if seen.kind != link.kind:
        return [Delete(seen, wanted.owner), Add(wanted.object, wanted.owner)]
    return [Set(link, seen, wanted.owner)]


# Of two equal ranks the order is that of the plan. What nft does stands together: it is one transaction.
_REMOVALS: tuple[type[Removable], ...] = (Element, Table, HostPort, Jump, Accept, Link)
_ADDITIONS: tuple[type[Object], ...] = (Bridge, Sysctl, Addr, Accept, Jump, Veth, HostPort, Element)


def _rank(step: Step) -> tuple[int, int]:
    match step:
        case Doom():
            return 0, -1
        case Delete(one):
            return 0, _REMOVALS.index(type(one))
        case Add(Table()):
            return 1, 0
        case Add(Element(value=())):
            return 1, 1
        case Add(one):
            return 2, _ADDITIONS.index(type(one))
        case Set():
            return 3, 0
