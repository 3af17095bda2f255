"""What the host has besides ours, from its links and the routes of its main table as pyroute2 reads them."""

import contextlib
import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from mdnp.dataplane.naming import GROUP
from mdnp.kernel import Route, Surroundings, links
from mdnp.model.network import IPNetwork

_LINK_LOCAL = ip_network("fe80::/10")
_RTN_UNICAST = 1


def read(rows: list[links.Row], routes: list[Any]) -> Surroundings:
    by_index = {row.index: row for row in rows}
    foreign = [route for route in routes if _is_foreign(route, by_index)]
    return Surroundings(tuple(_routes(foreign, by_index)), _underlay_mtu(foreign, by_index), _resolvers())


def uplinks(rows: list[links.Row], routes: list[Any]) -> frozenset[str]:
    """
    Bridges that are not ours and lead to other hosts: one with a port that is a NIC or stands on one, or one over
    which a router is reached. Containers and virtual machines are on veth and tun.
    """
    bridges = {row.index: row.name for row in rows if row.kind == "bridge" and row.group != GROUP}
    leading = {row.master for row in rows if row.kind not in ("veth", "tun")}
    leading |= {index for route in routes if _has_router(route) or not route["dst_len"] for index in _oifs(route)}
    return frozenset(name for index, name in bridges.items() if index in leading)


def _is_foreign(row: Any, by_index: dict[int, links.Row]) -> bool:
    link = by_index.get(_oif(row))
    return row["type"] == _RTN_UNICAST and link is not None and link.group != GROUP


def _oif(row: Any) -> int:
    """The index of a route's link, of a route over several the first one's; 0 where there is none."""
    return _oifs(row)[0]


def _oifs(row: Any) -> list[int]:
    several = row.get_attr("RTA_MULTIPATH")
    return [hop["oif"] for hop in several] if several else [row.get_attr("RTA_OIF") or 0]


def _has_router(row: Any) -> bool:
    return any(row.get_attr(one) for one in ("RTA_GATEWAY", "RTA_VIA", "RTA_MULTIPATH"))


def _routes(rows: list[Any], by_index: dict[int, links.Row]) -> list[Route]:
    found = [
        Route(
            ip_network(f"{row.get_attr('RTA_DST')}/{row['dst_len']}"),
            by_index[_oif(row)].name,
            gateway=_has_router(row),
            mtu=by_index[_oif(row)].mtu,
        )
        for row in rows
        if row["dst_len"]
    ]
    return [route for route in found if not route.to.overlaps(_LINK_LOCAL)]  # every link has those


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


def _underlay_mtu(rows: list[Any], by_index: dict[int, links.Row]) -> int | None:
    """The MTU of the link of the IPv4 default route with the lowest metric, else of the IPv6 one."""
    defaults = [row for row in rows if row["dst_len"] == 0]
    if not defaults:
        return None
    best = min(defaults, key=lambda row: (row["family"] != socket.AF_INET, row.get_attr("RTA_PRIORITY") or 0))
    return by_index[_oif(best)].mtu
