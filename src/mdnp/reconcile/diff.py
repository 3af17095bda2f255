"""Desired less actual, as ordered steps. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from mdnp.dataplane.naming import PAIR_PREFIXES, PEER_PREFIXES
from mdnp.dataplane.objects import (
    Accept,
    Addr,
    Bridge,
    Element,
    Fdb,
    HostPort,
    Jump,
    Key,
    Link,
    Lookup,
    Neigh,
    Object,
    Peer,
    PoolRoute,
    Presence,
    Sysctl,
    Table,
    Veth,
    Vxlan,
)
from mdnp.dataplane.rules import FORWARDING
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom, Removable, Set, Step
from mdnp.kernel import Actual, Seen
from mdnp.reconcile.desired import Desired, Owned
from mdnp.reconcile.memory import stands_on


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
    come after them, since they may need a bridge that was just made, and rows and routes last: they need links that are
    up and on their bridge. What stands on a link that is replaced goes with it, and is made again.
    """
    places = list(keys) if keys is not None else [*desired, *(key for key in actual.objects if key not in desired)]
    replaced = [
        key[1] for key in places if key[0] == "link" and _is_replaced(desired.get(key), actual.objects.get(key))
    ]
    steps: list[Step] = []
    lost: list[Owned] = []
    for key in places:
        wanted, seen = desired.get(key), actual.objects.get(key)
        if replaced and any(stands_on(seen, link) for link in replaced):
            seen = None
        if wanted is None:
            steps += [] if seen is None else _removal(seen, desired)
        elif seen is not None:
            steps += _change(wanted, seen)
        elif _presence(wanted) is Presence.HELD:
            lost.append(wanted)
        elif _presence(wanted) is Presence.MUST and _has_place(wanted, desired, actual):
            steps.append(Add(wanted.object, wanted.owner))
    return Difference(tuple(sorted(steps, key=_rank)), tuple(lost))


_FORWARDING6 = Sysctl(FORWARDING[6], "").key


def _presence(wanted: Owned) -> Presence:
    return wanted.object.presence if isinstance(wanted.object, Veth) else Presence.MUST


def _has_place(wanted: Owned, desired: Desired, actual: Actual) -> bool:
    """
    A rule whose chain is missing is not wanted: without the chain nothing drops what the rule would accept. Nor is a
    setting that this kernel does not have (IPv6 switched off), nor the row of an endpoint whose link died elsewhere.
    """
    match wanted.object:
        case Accept(chain=chain) | Jump(chain=chain):
            return chain in actual.chains
        case Sysctl(name=name):
            return not name.startswith("net/ipv6/") or _FORWARDING6 in actual.objects
        case Fdb(sticky=True, link=link):
            return ("link", link) in actual.objects or _presence(desired["link", link]) is Presence.MUST
        case _:
            return True


def _removal(seen: Seen, desired: Desired) -> list[Step]:
    """
    Addresses go with their link; on one that stays they are an operator's, not ours. So do rows and routes, but those
    on a link that stays are ours, and an endpoint's link dies later. Settings stay: others may rely on them by now.
    """
    match seen:
        case Addr() | Sysctl():
            return []
        case Fdb(link=link, sticky=False) | Neigh(link=link) | PoolRoute(link=link) if ("link", link) not in desired:
            return []
        case Link(kind="veth", name=name) if not name.startswith((*PAIR_PREFIXES, *PEER_PREFIXES)):
            return [Doom(seen, NOBODY)]
        case _:
            return [Delete(seen, NOBODY)]


def _change(wanted: Owned, seen: Seen) -> list[Step]:
    if wanted.object == seen:  # nearly always
        return []
    match wanted.object, seen:
        case (Bridge() | Veth() | Vxlan() | Peer()) as made, Link():
            return _change_of_link(made.link(), seen, wanted)
        case (Table() | Sysctl() | Accept() | Jump() | Fdb() | Neigh() | PoolRoute()) as one, _ if one != seen:
            return [Add(one, wanted.owner)]
        case (Element() | HostPort() | Lookup()) as one, (Element() | HostPort() | Lookup()) if one != seen:
            return [Delete(seen, wanted.owner), Add(one, wanted.owner)]
        case _:
            return []


def _change_of_link(link: Link, seen: Link, wanted: Owned) -> list[Step]:
    if seen == link:
        return []
    if _is_replaced(wanted, seen):
        return [Delete(seen, wanted.owner), Add(wanted.object, wanted.owner)]
    return [Set(link, seen, wanted.owner)]


def _is_replaced(wanted: Owned | None, seen: Seen | None) -> bool:
    """A link of another kind, or a tunnel to elsewhere: the kernel changes neither."""
    if wanted is None or not isinstance(seen, Link):
        return False
    tunnel = wanted.object.tunnel if isinstance(wanted.object, Vxlan) else None
    return seen.kind != _KINDS[type(wanted.object)] or seen.tunnel != tunnel


_KINDS: dict[type[Object], str] = {Bridge: "bridge", Veth: "veth", Vxlan: "vxlan", Peer: "veth"}

# Of two equal ranks the order is that of the plan. What nft does stands together: it is one transaction.
_REMOVALS: tuple[type[Removable], ...] = (
    Element,
    Table,
    HostPort,
    Jump,
    Accept,
    Lookup,
    PoolRoute,
    Fdb,
    Neigh,
    Link,
)
_ADDITIONS: tuple[type[Object], ...] = (
    Bridge,
    Vxlan,
    Peer,
    Sysctl,
    Addr,
    Accept,
    Jump,
    Veth,
    HostPort,
    Lookup,
    Element,
)
_LAST: tuple[type[Object], ...] = (PoolRoute, Fdb, Neigh)


def _rank(step: Step) -> tuple[int, int]:
    match step:
        case Doom():
            return 0, -1
        case Delete(one):
            return 0, _REMOVALS.index(type(one))
        case Add(one):
            return _rank_of_addition(one)
        case Set():
            return 3, 0


def _rank_of_addition(one: Object) -> tuple[int, int]:
    match one:
        case Table():
            return 1, 0
        case Element(value=()):
            return 1, 1
        case Fdb() | Neigh() | PoolRoute():
            return 4, _LAST.index(type(one))
        case Veth(host_end=name) if name.startswith(PAIR_PREFIXES):
            return 2, _ADDITIONS.index(Vxlan)  # its peer comes with it
        case Peer(bridge=str()):
            return 2, _ADDITIONS.index(Veth)  # only now are the bridges joined, and everything is set
        case _:
            return 2, _ADDITIONS.index(type(one))
