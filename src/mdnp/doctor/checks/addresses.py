"""Subnets against what else has addresses: the host's routes, its own addresses, its resolvers."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

from mdnp.dataplane import naming
from mdnp.doctor import Facts, Finding, Json, given, need
from mdnp.doctor.checks import networks
from mdnp.doctor.checks.findings import listed, ok, trouble, warning
from mdnp.doctor.firewall import IPNetwork

_DNS = 53
_STUB = "127.0.0.53"


def subnet_overlap(facts: Facts) -> Iterator[Finding]:
    seen = networks.seen(facts)
    for one in seen:
        for subnet in one.subnets:
            yield from _routes(facts, one.bridge, subnet)
            yield from _addresses(facts, one.bridge, subnet)
            yield from _resolvers(facts, one.bridge, subnet)


def _routes(facts: Facts, bridge: str, subnet: IPNetwork) -> Iterator[Finding]:
    """A wider one gives way to ours, which hides a part of what it leads to; any other takes what is ours."""
    for route in need(facts.routes):
        to = _destination(route)
        if (
            to is None
            or _is_ours(route.get("dev", ""), bridge)
            or to.version != subnet.version
            or not to.overlaps(subnet)
        ):
            continue
        text = f"route {route['dst']} {'dev ' * ('dev' in route)}{route.get('dev') or route.get('type', '')}".strip()
        if to.prefixlen < subnet.prefixlen:
            yield warning(
                f"{subnet} of {bridge} is a part of {text}",
                "the host and its containers do not reach what else has these addresses",
                "remove the network and make it with another --subnet, if something there is needed",
            )
        else:
            yield trouble(
                f"{text} overlaps {subnet} of {bridge}",
                "what is for our containers goes elsewhere, or what is for elsewhere comes to us",
                "remove the route, or make the network anew with another --subnet",
            )


def _is_ours(link: str, bridge: str) -> bool:
    """The network's bridge, or the end by which the host stands in a segment."""
    return link == bridge or link.startswith(naming.OWN_END_PREFIX)


def _destination(route: Json) -> IPNetwork | None:
    """None for what leads to no other network: the default route, and the kernel's own table."""
    if route.get("dst") == "default" or route.get("table") == "local" or route.get("type") in ("multicast", "local"):
        return None
    return ip_network(route["dst"], strict=False)


def _addresses(facts: Facts, bridge: str, subnet: IPNetwork) -> Iterator[Finding]:
    for row in need(facts.addresses):
        for one in row.get("addr_info", ()):
            # One with a prefix has a route, which was looked at.
            alone = one.get("prefixlen") == subnet.max_prefixlen
            if not _is_ours(row["ifname"], bridge) and alone and ip_address(one["local"]) in subnet:
                yield trouble(
                    f"the host has {one['local']} on {row['ifname']}, which is in {subnet} of {bridge}",
                    "a container that gets this address is not reached, and containers that ask for it reach the host",
                    "take the address away, or make the network anew with another --subnet",
                )


def _resolvers(facts: Facts, bridge: str, subnet: IPNetwork) -> Iterator[Finding]:
    inside = [one for one in given(facts.resolvers, ()) if _address(one) in subnet]
    if inside:
        yield trouble(
            f"resolver {listed(inside)} of /etc/resolv.conf is in {subnet} of {bridge}",
            "the host and its containers look for it among the containers: no name is resolved",
            "make the network anew with another --subnet, or use another resolver",
        )


def _address(text: str) -> object:
    return ip_interface(text.partition("%")[0]).ip


def resolver(facts: Facts) -> Iterator[Finding]:
    servers = need(facts.resolvers)
    if not servers:
        yield warning(
            "/etc/resolv.conf names no resolver",
            "Docker then asks public ones for its containers, or none",
            "name one there, or in `dns` of Docker's daemon.json",
        )
        return
    if all(ip_address(one.partition("%")[0]).is_loopback for one in servers):
        asked = need(facts.asked)
        if not any(port == _DNS for _, port in asked):
            yield warning(
                f"the only resolvers are {listed(servers)}, and nobody on this host listens on port {_DNS}",
                "no name is resolved, by containers neither",
                "start the host's resolver, or name another in /etc/resolv.conf",
            )
            return
    yield ok(listed(servers))
