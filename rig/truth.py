"""
What must be so in a cluster that is left in quiet: each host's tunnel rows and pools, and what stands in etcd, are the
union of what the engines list. Seen with ip(8), bridge(8), etcdctl(1) and docker; with mdnp's eyes only its pools.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.cluster import Cluster, Node, at_once
from rig.command import run

KEYS = "/mdnp/v1"
_HOST = "host"
_FLOOD = "00:00:00:00:00:00"
# The folders of what goes with the last network of a segment.
OF_NETWORKS = ("segments", "vnis", "members", "endpoints", "blocks")
_LINKS = ("mdb-", "mdv-", "mdp-", "mdx-", "mdh-", "mdi-")
_TABLE = "1835298416"
# Asks all at once, and prints those that do not answer.
_PING_ALL = 'for to in "$@"; do (busybox ping -c 1 -W 2 "$to" >/dev/null 2>&1 || echo "$to") & done; wait'


@dataclass(frozen=True)
class Endpoint:
    """One of Docker's, or with the id `host` a host's own address in a segment."""

    id: str
    mac: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Seat:
    """A container's place on a network."""

    name: str
    network: str
    sandbox: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """What one host has of a segment: `rows` are those of its kernel about others, in words."""

    vtep: str
    segment: str
    endpoints: tuple[Endpoint, ...]
    rows: frozenset[str]
    held: frozenset[str]
    multicast: bool


def faults(cluster: Cluster) -> list[str]:
    """What is not so, a line each; nothing if all is true."""
    parts = [part for parts in at_once(_parts, cluster.nodes) for part in parts]
    stands = _in_etcd(cluster)
    return [
        *held_twice(cluster),
        *(fault for part in parts for fault in _rows_of(part, parts)),
        *(fault for part in parts for fault in _pool_of(part)),
        *_differences("endpoints in etcd", _told(parts), stands),
    ]


def held_twice(cluster: Cluster) -> list[str]:
    """Addresses that more than one container has now, on whatever hosts."""
    listed = [address for some in at_once(_listed, cluster.nodes) for address in some]
    return [f"{address} is held {times} times" for address, times in Counter(listed).items() if times > 1]


def left(cluster: Cluster) -> list[str]:
    """What there still is of overlay networks, a line each; nothing once the last one was removed."""
    return [
        *(f"{folder}/{key} in etcd" for folder in OF_NETWORKS for key in entries(cluster, folder)),
        *(line for lines in at_once(_left_on, cluster.nodes) for line in lines),
    ]


def silent_pairs(cluster: Cluster) -> list[str]:
    """Who of a network's containers does not answer whom of the others, on whatever hosts."""
    seats = [seat for some in at_once(_seats, cluster.nodes) for seat in some]

    def ask(seat: Seat) -> list[str]:
        others = {one for other in seats if other.network == seat.network for one in other.addresses}
        return [f"{seat.name} asks {one}" for one in sorted(silent(seat.sandbox, others))]

    return [line for lines in at_once(ask, seats) for line in lines] if seats else []


def silent(namespace: str | Path, addresses: Iterable[str]) -> set[str]:
    """Those of the addresses that do not answer a ping from a network namespace, all asked at once."""
    command = ["nsenter", f"--net={namespace}", "--", "sh", "-c", _PING_ALL, "ping", *addresses]
    return set(run(command).out.split())


def _left_on(node: Node) -> list[str]:
    links = [row["ifname"] for row in _shown(node, "ip", "link", "show") if row["ifname"].startswith(_LINKS)]
    rules = [line for line in node.host.run(["ip", "rule"]).out.splitlines() if _TABLE in line]
    rules += [line for line in node.host.run(["ip", "-6", "rule"]).out.splitlines() if _TABLE in line]
    tables = [line for line in node.host.run(["nft", "list", "tables"]).out.splitlines() if "mdnp" in line]
    return [f"{node.label}: {one}" for one in (*links, *rules, *tables)]


def _listed(node: Node) -> list[str]:
    return [address for seat in _seats(node) for address in seat.addresses]


def _seats(node: Node) -> list[Seat]:
    """Those of a host's running containers on overlay networks."""
    overlays = {one["Id"] for one in _overlays(node)}
    ids = node.engine.docker("ps", "--quiet").split()
    containers = json.loads(node.engine.docker("container", "inspect", *ids)) if ids else []
    return [
        Seat(
            f"{node.label}:{one['Name'].strip('/')}",
            name,
            one["NetworkSettings"]["SandboxKey"],
            tuple(at[key] for key in ("IPAddress", "GlobalIPv6Address") if at[key]),
        )
        for one in containers
        for name, at in one["NetworkSettings"]["Networks"].items()
        if at["NetworkID"] in overlays
    ]


def _parts(node: Node) -> list[Part]:
    return [_part(node, one) for one in _overlays(node)]


def _overlays(node: Node) -> list[dict[str, Any]]:
    ids = node.engine.docker("network", "ls", "--quiet", "--filter=driver=mdnp").split()
    networks = json.loads(node.engine.docker("network", "inspect", *ids)) if ids else []
    return [one for one in networks if one["Options"].get("mdnp.mode") == "overlay"]


def _part(node: Node, network: Mapping[str, Any]) -> Part:
    short = network["Id"][:11]
    subnets = sorted((config["Subnet"] for config in network["IPAM"]["Config"]), key=lambda one: (":" in one, one))
    docker = tuple(_endpoint(one) for one in network["Containers"].values())
    own = _own(node, f"mdh-{short}")
    return Part(
        vtep=str(node.host.address.ip),
        segment=",".join(subnets),
        endpoints=(*docker, *own),
        rows=frozenset(_rows(node, short)),
        held=frozenset(_held(node, subnets)),
        multicast=network["Options"].get("mdnp.multicast") != "off",
    )


def _endpoint(listed: Mapping[str, str]) -> Endpoint:
    addresses = (listed["IPv4Address"], listed["IPv6Address"])
    return Endpoint(
        listed["EndpointID"], listed["MacAddress"], tuple(one.partition("/")[0] for one in addresses if one)
    )


def _own(node: Node, link: str) -> Iterator[Endpoint]:
    """The host's own address in the segment; a network without a way out has none."""
    for row in _shown(node, "ip", "address", "show", "dev", link):
        addresses = (one["local"] for one in row.get("addr_info", []) if one["scope"] == "global")
        yield Endpoint(_HOST, row["address"], tuple(addresses))


def _rows(node: Node, short: str) -> Iterator[str]:
    for row in json.loads(
        node.host.run(["bridge", "-json", "fdb", "show", "dev", f"mdx-{short}"], check=False).out or "[]"
    ):
        if "dst" in row:
            yield f"self {row['mac']} dst {row['dst']}"
        elif row.get("master") and row.get("state") == "static":
            yield f"master {row['mac']}"
    for row in _shown(node, "ip", "neigh", "show", "dev", f"mdb-{short}", "nud", "permanent"):
        yield f"neigh {row['dst']} lladdr {row['lladdr']}"


def _shown(node: Node, program: str, *words: str) -> list[dict[str, Any]]:
    """Nothing of a link that is not there."""
    said = node.host.run([program, "-json", *words], check=False)
    rows: list[dict[str, Any]] = json.loads(said.out or "[]")
    return rows


def _held(node: Node, subnets: Sequence[str]) -> Iterator[str]:
    """What mdnp says of its pools: addresses of endpoints, and of the host itself."""
    pools = json.loads(node.plugin.cli("pool", "ls", "--json", check=False))
    for pool in pools:
        if pool["pool"] in subnets:
            whole = json.loads(node.plugin.cli("pool", "inspect", pool["id"], "--json", check=False))
            yield from (row["address"] for row in whole["addresses"] if row["kind"] in ("endpoint", _HOST))


def _rows_of(part: Part, parts: Iterable[Part]) -> Iterator[str]:
    others = [other for other in parts if other.segment == part.segment and other.vtep != part.vtep]
    wanted = {row for other in others for one in other.endpoints for row in _rows_for(one, other.vtep)}
    if part.multicast:
        wanted |= {f"self {_FLOOD} dst {other.vtep}" for other in others}
    yield from _differences(f"rows of {part.segment} on {part.vtep}", wanted, set(part.rows))


def _rows_for(endpoint: Endpoint, vtep: str) -> Iterator[str]:
    yield f"self {endpoint.mac} dst {vtep}"
    yield f"master {endpoint.mac}"
    yield from (f"neigh {address} lladdr {endpoint.mac}" for address in endpoint.addresses)


def _pool_of(part: Part) -> Iterator[str]:
    wanted = {address for one in part.endpoints for address in one.addresses}
    yield from _differences(f"addresses of {part.segment} on {part.vtep}", wanted, set(part.held))


def _told(parts: Iterable[Part]) -> set[str]:
    return {
        f"{part.segment} {part.vtep} {one.id} {one.mac} {' '.join(sorted(one.addresses))}"
        for part in parts
        for one in part.endpoints
    }


def _in_etcd(cluster: Cluster) -> set[str]:
    hosts = {key: value["vtep"] for key, value in entries(cluster, "hosts").items()}
    found = set()
    for key, value in entries(cluster, "endpoints").items():
        segment, host, endpoint = key.split("/")
        addresses = " ".join(sorted(value["addresses"]))
        found.add(f"{segment.replace('_', '/')} {hosts.get(host, host)} {endpoint} {value['mac']} {addresses}")
    return found


def entries(cluster: Cluster, folder: str) -> dict[str, Any]:
    """What stands in etcd below one of mdnp's folders."""
    prefix = f"{KEYS}/{folder}/"
    lines = cluster.etcd.ctl("get", "--prefix", prefix).out.splitlines()
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return {key.removeprefix(prefix): json.loads(value) for key, value in pairs}


def _differences(what: str, wanted: set[str], actual: set[str]) -> Iterator[str]:
    yield from (f"{what}: missing: {one}" for one in sorted(wanted - actual))
    yield from (f"{what}: too much: {one}" for one in sorted(actual - wanted))
