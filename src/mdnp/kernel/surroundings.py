"""What the host has besides ours, from its links and the routes of its main table."""

import contextlib
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

from mdnp.dataplane.naming import GROUP
from mdnp.kernel import Route, Surroundings, links
from mdnp.kernel.routes import HostRoute
from mdnp.model.network import IPNetwork

_LINK_LOCAL = ip_network("fe80::/10")


def read(rows: Sequence[links.Row], routes: Sequence[HostRoute]) -> Surroundings:
    by_index = {row.index: row for row in rows}
    foreign = [route for route in routes if _is_foreign(route, by_index)]
    return Surroundings(tuple(_routes(foreign, by_index)), _underlay_mtu(foreign, by_index), _resolvers())


def uplinks(rows: Sequence[links.Row], routes: Sequence[HostRoute]) -> frozenset[str]:
    """
    Bridges that are not ours and lead to other hosts: one with a port that is a NIC or stands on one, or one over
    which a router is reached. Containers and virtual machines are on veth and tun.
    """
    bridges = {row.index: row.name for row in rows if row.kind == "bridge" and row.group != GROUP}
    leading = {row.master for row in rows if row.kind not in ("veth", "tun")}
    leading |= {index for route in routes if route.gateway or not route.to.prefixlen for index in route.links}
    return frozenset(name for index, name in bridges.items() if index in leading)


def _is_foreign(route: HostRoute, by_index: dict[int, links.Row]) -> bool:
    """By the first of its links."""
    link = by_index.get(route.links[0])
    return link is not None and link.group != GROUP


def _routes(routes: Sequence[HostRoute], by_index: dict[int, links.Row]) -> list[Route]:
    """But those to link-local addresses, which every link has."""
    return [
        Route(one.to, by_index[one.links[0]].name, gateway=one.gateway, mtu=by_index[one.links[0]].mtu)
        for one in routes
        if one.to.prefixlen and not one.to.overlaps(_LINK_LOCAL)
    ]


def _resolvers(file: Path = Path("/etc/resolv.conf")) -> tuple[IPNetwork, ...]:
    """The name servers of resolv.conf(5); a scope ("%eth0") is left off, and a line that names none is passed over."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                found.append(ip_network(words[1].partition("%")[0]))
    return tuple(found)


def _underlay_mtu(routes: Sequence[HostRoute], by_index: dict[int, links.Row]) -> int | None:
    """The MTU of the link of the IPv4 default route with the lowest metric, else of the IPv6 one."""
    defaults = [route for route in routes if not route.to.prefixlen]
    if not defaults:
        return None
    best = min(defaults, key=lambda route: (route.to.version, route.metric))
    return by_index[best.links[0]].mtu
