"""The host's own ways into segments, in a table of our own, with the rules that lead there; and its other routes."""

import errno
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from mdnp.dataplane.naming import ROUTE_PROTOCOL, ROUTE_TABLE
from mdnp.dataplane.rows import Family, Lookup, PoolRoute
from mdnp.kernel import facts, netlink, rtnetlink
from mdnp.kernel.rtnetlink import Request
from mdnp.model.errors import KernelError
from mdnp.model.network import IPNetwork

# include/uapi/linux/{rtnetlink,fib_rules}.h
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34
ROUTE = struct.Struct("=8BI")  # rtmsg: family, prefix lengths (to, from), tos, table, protocol, scope, type, flags
RULE = struct.Struct("=8BI")  # fib_rule_hdr: family, prefix lengths (to, from), tos, table, -, -, action, flags
RTA_DST, RTA_OIF, RTA_PREFSRC, RTA_TABLE = 1, 4, 7, 15
_RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_VIA = 5, 6, 9, 18
_HOP = struct.Struct("=HBBi")  # rtnexthop: length, flags, hops, index
_RT_TABLE_MAIN = 254
FRA_IIFNAME, FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL = 3, 6, 15, 21
_RT_SCOPE_LINK, _RT_SCOPE_NOWHERE, _RTN_UNICAST, _FR_ACT_TO_TBL = 253, 255, 1, 1
_PROTOCOL = netlink.attribute(FRA_PROTOCOL, bytes([ROUTE_PROTOCOL]))
_AF: Mapping[int, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
FAMILY_OF: Mapping[int, Family] = {socket.AF_INET: 4, socket.AF_INET6: 6}
_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104  # a network's address, of the default route


@dataclass(frozen=True)
class HostRoute:
    """
    A route of the host's main table to destinations elsewhere (of type unicast). `links` are the indexes of the links
    that it may take; `metric` is the lower the better.
    """

    to: IPNetwork
    links: tuple[int, ...]
    gateway: bool
    metric: int


def observe(names: Mapping[int, str], *, has_own_ends: bool) -> list[PoolRoute | Lookup]:
    """Routes go with their links, so without own ends there are none. Errors: KernelError."""
    try:
        # Of several of a family the one that should not be there is seen, so that it goes.
        rules = sorted((rule for af in FAMILY_OF for rule in _rules(af)), key=lambda one: one != Lookup(one.family))
        return [*rules, *(route for af in FAMILY_OF if has_own_ends for route in _routes(af, names))]
    except OSError as error:
        raise KernelError(f"reading routes and rules of our own failed: {error.strerror or error}") from error


def add(one: PoolRoute | Lookup) -> None:
    """A route instead of any other to there; an equal rule that is there is enough. Errors: OSError."""
    try:
        if isinstance(one, PoolRoute):
            rtnetlink.ask(Request(_RTM_NEWROUTE, rtnetlink.CREATE | rtnetlink.REPLACE, _made_route(one)))
        else:
            rtnetlink.ask(Request(_RTM_NEWRULE, rtnetlink.CREATE | rtnetlink.EXCL, _rule(one) + _PROTOCOL))
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise


def delete(one: PoolRoute | Lookup) -> None:
    """Whoever made it. Errors: OSError, ESRCH for a route that is not there and ENOENT for a rule."""
    if isinstance(one, PoolRoute):
        rtnetlink.ask(Request(_RTM_DELROUTE, 0, _route(one, protocol=0, scope=_RT_SCOPE_NOWHERE)))
    else:
        rtnetlink.ask(Request(_RTM_DELRULE, 0, _rule(one)))


def _made_route(route: PoolRoute) -> bytes:
    body = _route(route, ROUTE_PROTOCOL, _RT_SCOPE_LINK if route.to.version == 4 else 0)
    return body + (netlink.attribute(RTA_PREFSRC, route.source.packed) if route.source else b"")


def _route(route: PoolRoute, protocol: int, scope: int) -> bytes:
    head = ROUTE.pack(_AF[route.to.version], route.to.prefixlen, 0, 0, 0, protocol, scope, _RTN_UNICAST, 0)
    said = [
        netlink.attribute(RTA_DST, route.to.network_address.packed),
        facts.number(RTA_OIF, _index(route.link)),
        facts.number(RTA_TABLE, ROUTE_TABLE),
    ]
    return head + b"".join(said)


def _index(link: str) -> int:
    try:
        return socket.if_nametoindex(link)
    except OSError as error:  # it comes without a number
        raise rtnetlink.error_of(errno.ENODEV) from error


def _rule(rule: Lookup) -> bytes:
    head = RULE.pack(_AF[rule.family], 0, 0, 0, 0, 0, 0, _FR_ACT_TO_TBL, 0)
    link = [netlink.attribute(FRA_IIFNAME, rule.link.encode() + b"\0")] if rule.link else []
    return head + b"".join([*link, facts.number(FRA_PRIORITY, rule.priority), facts.number(FRA_TABLE, ROUTE_TABLE)])


def _routes(af: int, names: Mapping[int, str]) -> Iterator[PoolRoute]:
    asked = ROUTE.pack(af, 0, 0, 0, 0, 0, 0, 0, 0) + facts.number(RTA_TABLE, ROUTE_TABLE)
    bodies, _whole = rtnetlink.dump(_RTM_GETROUTE, asked, _RTM_NEWROUTE, strict=True)
    for body in bodies:
        route = parse_route(body, names.get)
        if route:
            yield route


def parse_route(body: memoryview, name_of: Callable[[int], str | None]) -> PoolRoute | None:
    """One in our table, whoever made it; None of one elsewhere, or damaged."""
    if len(body) < ROUTE.size:
        return None
    af, length, *_rest = ROUTE.unpack_from(body)
    said = netlink.attributes(body[ROUTE.size :])
    if netlink.number(said.get(RTA_TABLE)) != ROUTE_TABLE or af not in FAMILY_OF:
        return None
    to, source = said.get(RTA_DST), said.get(RTA_PREFSRC)
    try:
        return PoolRoute(
            ip_network((bytes(to) if to is not None else _ANY[FAMILY_OF[af]], length)),
            name_of(netlink.number(said.get(RTA_OIF))) or "",
            ip_address(bytes(source)) if source is not None else None,
        )
    except ValueError:
        return None


def of_host() -> list[HostRoute]:
    """Errors: OSError."""
    return [route for af in FAMILY_OF for body in _dump_main(af) for route in _host_route(body)]


def _dump_main(af: int) -> list[memoryview]:
    asked = ROUTE.pack(af, 0, 0, 0, 0, 0, 0, 0, 0) + facts.number(RTA_TABLE, _RT_TABLE_MAIN)
    return rtnetlink.dump(_RTM_GETROUTE, asked, _RTM_NEWROUTE, strict=True)[0]


def _host_route(body: memoryview) -> Iterator[HostRoute]:
    """One, if it is in the main table: where the kernel does not choose (before 4.20) the others come too."""
    af, length, _from, _tos, _table, _protocol, _scope, kind, _flags = ROUTE.unpack_from(body)
    said = netlink.attributes(body[ROUTE.size :])
    if kind != _RTN_UNICAST or netlink.number(said.get(RTA_TABLE)) != _RT_TABLE_MAIN:
        return
    to, several = said.get(RTA_DST), said.get(_RTA_MULTIPATH)
    yield HostRoute(
        to=ip_network((bytes(to) if to is not None else _ANY[FAMILY_OF[af]], length)),
        links=tuple(_hops(several)) if several is not None else (netlink.number(said.get(RTA_OIF)),),
        gateway=bool({_RTA_GATEWAY, _RTA_VIA, _RTA_MULTIPATH} & said.keys()),
        metric=netlink.number(said.get(_RTA_PRIORITY)),
    )


def _hops(rest: memoryview) -> Iterator[int]:
    """The indexes of the links of a route over several."""
    while len(rest) >= _HOP.size:
        length, _flags, _more, index = _HOP.unpack_from(rest)
        yield index
        rest = rest[max((length + 3) & ~3, _HOP.size) :]


def _rules(af: int) -> Iterator[Lookup]:
    bodies, _whole = rtnetlink.dump(_RTM_GETRULE, RULE.pack(af, 0, 0, 0, 0, 0, 0, 0, 0), _RTM_NEWRULE)
    for body in bodies:
        rule = parse_rule(body)
        if rule:
            yield rule


def parse_rule(body: memoryview) -> Lookup | None:
    """One that leads to our table, whoever made it."""
    if len(body) < RULE.size:
        return None
    af, *_rest = RULE.unpack_from(body)
    said = netlink.attributes(body[RULE.size :])
    if netlink.number(said.get(FRA_TABLE)) != ROUTE_TABLE or af not in FAMILY_OF:
        return None
    link = netlink.text(said.get(FRA_IIFNAME, b""))
    return Lookup(FAMILY_OF[af], link, netlink.number(said.get(FRA_PRIORITY)))
