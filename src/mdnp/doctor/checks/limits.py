"""What has a limit, and how near it is."""

from collections import Counter
from collections.abc import Iterator

from mdnp.dataplane import naming
from mdnp.doctor import Daemon, Facts, Finding, given, need
from mdnp.doctor.checks import networks
from mdnp.doctor.checks.findings import ok, trouble, warning
from mdnp.driver.annexes import MOST, PORTS

_MIB = 1024 * 1024
_NEAR = 0.9
_NEAR_CONNTRACK, _FULL_CONNTRACK = 0.8, 0.95
_FREE_LEAST, _FREE_SHARE, _FREE_WELL = 16 * _MIB, 0.05, 1024 * _MIB
_INODES_LEAST = 100
_RANGE_LEAST = 1000


def bridge_ports(facts: Facts) -> Iterator[Finding]:
    """Of ours we leave room for those that hold a network together; others' may take it."""
    links = need(facts.links)
    ports = Counter(one.get("master") for one in links)
    others = Counter(one.get("master") for one in links if not networks.is_ours(one))
    for name in (*networks.bridges(facts), *(one["ifname"] for one in links if naming.is_annex(one["ifname"]))):
        if others[name] > MOST or ports[name] >= PORTS:
            yield (trouble if ports[name] >= PORTS else warning)(
                f"{name} has {ports[name]} ports of {PORTS}, {others[name]} of them not mdnp's",
                f"the kernel gives a bridge no more, and mdnp counts on {PORTS - MOST}: containers may not start on it",
                "put what else is on it on a bridge of its own, or further containers on another network",
            )


def backlog(facts: Facts) -> Iterator[Finding]:
    """
    A veth hands each copy of what is for all to the processor's queue (netif_rx), which drops what is beyond its limit.
    The limit is of the whole machine, and only shown in its first network namespace.
    """
    limit = need(facts.sysctls).get("net/core/netdev_max_backlog")
    daemon = given(facts.daemon, None)
    for one in daemon.networks if daemon and limit else ():
        if one["endpoints"] >= _NEAR * int(limit or 0):
            yield warning(
                f"{one['bridge']} has {one['endpoints']} endpoints, and a processor queues {limit} packets"
                " (netdev_max_backlog)",
                "what is for all, such as ARP, does not come to all of them: neighbours are found a second late or not",
                f"`sysctl -w net.core.netdev_max_backlog={4 * one['endpoints']}`",
            )


def neighbour_table(facts: Facts) -> Iterator[Finding]:
    """What stands fast does not count (neighbour.c, since 5.0). The limit is of the whole machine."""
    values = need(facts.sysctls)
    rows = [one for one in need(facts.neighbours) if not {"PERMANENT", "NOARP"} & set(one.get("state", ()))]
    limits = {family: values.get(f"net/ipv{family}/neigh/default/gc_thresh3") for family in (4, 6)}
    for family, limit in limits.items():
        if limit is None:
            continue
        used = max(sum((":" in one["dst"]) == (family == 6) for one in rows), _endpoints(facts, family))
        if used >= _NEAR * int(limit):
            yield (trouble if used >= int(limit) else warning)(
                f"IPv{family}: {used} neighbours, and the kernel keeps {limit} (gc_thresh3)",
                "beyond it packets to further containers are dropped (`neighbour table overflow` in dmesg)",
                f"`sysctl -w net.ipv{family}.neigh.default.gc_thresh3={4 * max(used, int(limit))}`",
            )
    if None in limits.values():
        yield ok("its limits are only shown in the machine's first network namespace")


def _endpoints(facts: Facts, family: int) -> int:
    if not isinstance(facts.daemon, Daemon):
        return 0
    texts = [address for one in facts.daemon.endpoints for address in one["addresses"]]
    return sum((":" in text) == (family == 6) for text in texts)


def conntrack_table(facts: Facts) -> Iterator[Finding]:
    values = need(facts.sysctls)
    count, limit = (values.get(f"net/netfilter/nf_conntrack_{name}") for name in ("count", "max"))
    if count is None or not limit or limit == "0":
        yield ok("connections are not tracked, or without a limit")
        return
    share = int(count) / int(limit)
    if share >= _NEAR_CONNTRACK:
        yield (trouble if share >= _FULL_CONNTRACK else warning)(
            f"{count} connections are tracked of {limit}",
            "beyond it new connections are dropped (`nf_conntrack: table full` in dmesg)",
            f"`sysctl -w net.netfilter.nf_conntrack_max={4 * int(limit)}`; `conntrack -L` shows who has them",
        )
    else:
        yield ok(f"{count} of {limit}")


def port_range(facts: Facts) -> Iterator[Finding]:
    first, last = map(int, need(facts.sysctls)["net/ipv4/ip_local_port_range"].split())
    size = last - first + 1
    daemon = given(facts.daemon, None)
    ports = {one["host_port"] for one in daemon.ports if one["host_port"]} if daemon else set()
    inside = sum(first <= port <= last for port in ports)
    if size < _RANGE_LEAST or inside > size / 2:
        yield warning(
            f"the host takes its own ports from {first} to {last}, and {inside} of these {size} are published",
            "connections of the host, and ports that are published without a number, soon find none",
            '`sysctl -w net.ipv4.ip_local_port_range="32768 60999"`, or publish ports below it',
        )
    else:
        yield ok(f"{first} to {last}, {inside} of them published")


def disk(facts: Facts) -> Iterator[Finding]:
    seen = need(facts.disk)
    why = "nothing can be promised any more: no network is made, no container starts"
    do = f"make room on the file system of {seen.place}"
    if seen.free < _FREE_LEAST:
        yield trouble(f"{seen.place}: {seen.free // 1024} KiB are free", why, do)
    elif seen.free < min(_FREE_SHARE * seen.size, _FREE_WELL):
        yield warning(f"{seen.place}: {seen.free // _MIB} MiB of {seen.size // _MIB} are free", why, do)
    if seen.inodes and seen.free_inodes < _INODES_LEAST:
        yield trouble(f"{seen.place}: {seen.free_inodes} inodes are free", why, f"{do}: remove files")
