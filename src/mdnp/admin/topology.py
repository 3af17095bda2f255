"""
The host as one value for the page: its health, its networks, and what is on them. Pure.

Counters are whole numbers since a link was made, `clock_s` is when they were read: whoever asks twice has the rates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mdnp.admin import views
from mdnp.dataplane import naming
from mdnp.dataplane.steps import Owner
from mdnp.engine.directory import Names
from mdnp.ipam.allocator import Counts
from mdnp.kernel import Traffic
from mdnp.model.endpoint import Endpoint
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.network import Network
from mdnp.model.pool import PoolID
from mdnp.reconcile.diff import Difference
from mdnp.store import Promises

View = views.View

# More than this a browser's numbers do not tell apart, and nobody fills it.
_COUNTABLE = 2**53


@dataclass(frozen=True)
class Seen:
    """What was seen of the kernel: what differs, what the guard dropped and what went through, by host end."""

    difference: Difference
    dropped: Mapping[str, int]
    traffic: Mapping[str, Traffic]
    clock_s: float


def topology(
    *,
    host: str,
    promises: Promises,
    seen: Seen,
    names: Names,
    counts: Mapping[PoolID, Counts],
    facts: views.Facts,
) -> View:
    """The networks by name, each with its endpoints by container; what has no name by its id, at the end."""
    on: dict[str, list[View]] = {one: [] for one in promises.networks}
    ports = _ports(promises)
    for one in promises.endpoints.values():
        guarded = promises.networks[one.network_id].options.guard
        on[one.network_id].append({**_endpoint(one, seen, names, guarded), "ports": ports.get(one.id, [])})
    subnets = _pools(promises, counts)
    networks = [_network(one, on[one.id], names, subnets) for one in promises.networks.values()]
    difference = seen.difference
    return {
        "host": host,
        "version": facts.version,
        "uptime_s": round(facts.uptime_s, 1),
        "clock_s": round(seen.clock_s, 3),
        "docker": {"version": facts.docker.version, "trouble": facts.docker.trouble},
        "store": {"trouble": facts.store_trouble},
        "healthy": not (difference.steps or difference.lost or facts.store_trouble),
        "repaired": facts.repaired,
        "trouble": facts.trouble,
        "orphans": len(facts.orphans),
        "drift": [{"step": str(step), **_of(step.owner, promises, names)} for step in difference.steps],
        "lost": [{"object": str(one.object), **_of(one.owner, promises, names)} for one in difference.lost],
        "networks": sorted(networks, key=_by_name),
    }


def _network(one: Network, endpoints: list[View], names: Names, subnets: Mapping[str, View]) -> View:
    return {
        "id": one.id,
        "name": names.networks.get(one.id, ""),
        "kind": one.options.mode.value,
        "bridge": naming.bridge(one),
        "annexes": one.annexes,
        "mtu": one.mtu,
        "internal": one.internal,
        "gateway": one.options.gateway.value,
        "routing_ipv4": one.options.routing_ipv4.value,
        "routing_ipv6": one.options.routing_ipv6.value,
        "icc": one.options.icc,
        "guard": one.options.guard,
        "subnets": [
            {
                "pool": str(subnet.pool),
                "gateway": str(subnet.gateway.ip) if one.has_gateway and subnet.gateway else None,
                "addresses": subnets.get(str(subnet.pool)),
            }
            for subnet in one.subnets
        ],
        "endpoints": sorted(endpoints, key=lambda view: (view["container"] == "", view["container"], view["id"])),
    }


def _endpoint(one: Endpoint, seen: Seen, names: Names, guarded: bool) -> View:
    """Counters are None where there is no link; `guard_drops` where there is no guard."""
    link = naming.host_end(one.id)
    traffic = seen.traffic.get(link)
    return {
        "id": one.id,
        "container": _container(one, names),
        "addresses": [str(address) for address in one.addresses],
        "mac": one.mac,
        "phase": one.phase.value,
        "host_end": link,
        "rx_bytes": traffic.rx_bytes if traffic else None,
        "tx_bytes": traffic.tx_bytes if traffic else None,
        "guard_drops": seen.dropped.get(link, 0) if guarded else None,
    }


def _container(one: Endpoint, names: Names) -> str:
    known = names.containers.get(one.id)
    return known or next((names.holders[address.ip] for address in one.addresses if address.ip in names.holders), "")


def _ports(promises: Promises) -> Mapping[str, list[View]]:
    """What is published, by endpoint."""
    ports: dict[str, list[View]] = {}
    for row in views.ports(promises, Names()):
        keys = ("protocol", "host_address", "host_port", "port", "by")
        ports.setdefault(row["endpoint"], []).append({key: row[key] for key in keys})
    return ports


def _pools(promises: Promises, counts: Mapping[PoolID, Counts]) -> Mapping[str, View]:
    """How full pools are, by their network; of two ranges of one network the fuller. Not those of another IPAM."""
    found: dict[str, View] = {}
    for one in sorted(promises.pools.values(), key=lambda promise: _fullness(counts[promise.id])):
        count = counts[one.id]
        found[str(one.pool.network)] = {
            "size": count.size if count.size < _COUNTABLE else None,
            "used": count.used,
            "reserved": count.reserved,
            "resting": count.resting,
            "nearly_full": count.nearly_full,
        }
    return found


def _fullness(counts: Counts) -> float:
    return counts.held / counts.size if counts.size else 1.0


def _of(owner: Owner, promises: Promises, names: Names) -> View:
    """Whose something is: of an endpoint, its network's; None of both for the host's."""
    endpoint = promises.endpoints.get(EndpointID(owner))
    if endpoint is not None:
        return {"network": endpoint.network_id, "endpoint": endpoint.id, "container": _container(endpoint, names)}
    network = promises.networks.get(NetworkID(owner))
    return {"network": network.id if network else None, "endpoint": None, "container": ""}


def _by_name(view: View) -> Any:
    return view["name"] == "", view["name"], view["id"]
