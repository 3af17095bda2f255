"""What operators see, as JSON values. Pure: the command line draws the same values as tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from mdnp.admin import hosts
from mdnp.admin.hosts import ClusterFacts
from mdnp.admin.meter import Flow
from mdnp.admin.names import names_view
from mdnp.dataplane import naming, publishing
from mdnp.dataplane.overlay import Underlay
from mdnp.dataplane.steps import Owner
from mdnp.dns.standing import Standing
from mdnp.engine.directory import Health, Names
from mdnp.ipam.allocator import Counts
from mdnp.kernel import Actual
from mdnp.model.allocation import Allocation
from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import InvalidParameter, NotFound
from mdnp.model.identity import NetworkID
from mdnp.model.network import Network, Subnet
from mdnp.model.options import Mode
from mdnp.model.pool import PoolID, PoolPromise
from mdnp.model.port import HostSocket, Protocol, Target
from mdnp.model.segment import segment_of
from mdnp.orphans import Orphan
from mdnp.reconcile import desired
from mdnp.reconcile.converge import Outcome
from mdnp.reconcile.diff import Difference
from mdnp.store import Promises, Tenure

_NO_UNDERLAY = Underlay()

View = dict[str, Any]
Record = TypeVar("Record", Network, Endpoint, PoolPromise)


@dataclass(frozen=True)
class Facts:
    """
    Of the process and what it stands on. `repaired` counts what of ours others had changed and was put back; `trouble`
    says why what we want is not there, `store_trouble` why the last promise could not be written. `orphans` are those
    that the last collection found and left. `cluster` is None where this host is in none, `naming` where it has no
    names to answer.
    """

    version: str
    uptime_s: float
    repaired: int
    trouble: str
    docker: Health
    store_trouble: str = ""
    orphans: Sequence[Orphan] = ()
    cluster: ClusterFacts | None = None
    naming: Standing | None = None


def status(
    promises: Promises, names: Names, difference: Difference, pool_counts: Mapping[PoolID, Counts], facts: Facts
) -> View:
    """
    `drift` are the steps that would make the kernel agree, `lost` what cannot be rebuilt. It is healthy if neither is
    there, promises can be written, and nothing of the cluster needs an operator; Docker may be stopped, and orphans
    wait for it. `in_sync` is of this host alone.
    """
    counts = _counts(promises, difference)
    in_sync = not (difference.steps or difference.lost or facts.store_trouble)
    cluster = hosts.status(facts.cluster) if facts.cluster else None
    return {
        "version": facts.version,
        "uptime_s": round(facts.uptime_s, 1),
        "repaired": facts.repaired,
        "trouble": facts.trouble,
        "healthy": in_sync and (cluster is None or cluster["healthy"]),
        "docker": {"version": facts.docker.version, "trouble": facts.docker.trouble},
        "store": {"trouble": facts.store_trouble},
        "networks": [
            {**network(one, promises, names), "drift": counts.get(one.id, 0)} for one in promises.networks.values()
        ],
        "endpoints": len(promises.endpoints),
        "ports": sum(len(one.ports) for one in promises.endpoints.values()),
        "drift": [str(step) for step in difference.steps],
        "lost": [str(owned.object) for owned in difference.lost],
        "nearly_full": [one["id"] for one in pools(promises, pool_counts) if one["nearly_full"]],
        "orphans": orphans(facts.orphans),
        **({} if cluster is None else {"in_sync": in_sync, "cluster": cluster}),
        **({} if facts.naming is None else {"names": names_view(facts.naming)}),
    }


def repair(outcome: Outcome) -> View:
    """What was changed, what could not be and why, and what cannot be rebuilt."""
    return {
        "steps": [str(step) for step in outcome.steps],
        "failures": [str(failure.error) for failure in outcome.failures],
        "lost": [str(owned.object) for owned in outcome.lost],
    }


def networks(promises: Promises, names: Names) -> list[View]:
    return [network(one, promises, names) for one in promises.networks.values()]


def network(one: Network, promises: Promises, names: Names) -> View:
    return {
        "id": one.id,
        "name": names.networks.get(one.id, ""),
        "kind": one.options.mode.value,
        "bridge": naming.bridge(one),
        "subnets": [
            {
                "pool": str(subnet.pool),
                "gateway": _gateway(one, subnet),
            }
            for subnet in one.subnets
        ],
        "mtu": one.mtu,
        "internal": one.internal,
        "gateway": one.options.gateway.value,
        "interface_prefix": one.options.iface_prefix,
        "routing_ipv4": one.options.routing_ipv4.value,
        "routing_ipv6": one.options.routing_ipv6.value,
        "masquerade": one.options.masquerade,
        "icc": one.options.icc,
        "guard": one.options.guard,
        "dns": one.options.has_names,
        "annexes": one.annexes,
        "endpoints": sum(endpoint.network_id == one.id for endpoint in promises.endpoints.values()),
        **({"segment": segment_of(one), "vni": one.vni} if one.options.mode is Mode.OVERLAY else {}),
    }


def _gateway(one: Network, subnet: Subnet) -> str | None:
    """Docker before 28 names one for internal networks too; no host bears it there."""
    return str(subnet.gateway.ip) if one.has_gateway and subnet.gateway else None


def network_detail(
    one: Network,
    promises: Promises,
    names: Names,
    flows: Mapping[str, Flow],
    *,
    beyond: View | None = None,
    underlay: Underlay = _NO_UNDERLAY,
) -> View:
    """
    What its containers received and sent is the sum of their endpoints that are there now; `beyond` is what is known of
    it on other hosts, and `underlay` carries its tunnel there.
    """
    on_it = [each for each in promises.endpoints.values() if each.network_id == one.id]
    planned = [str(owned.object) for owned in desired.of_network(one, underlay).values()]
    return {
        **network(one, promises, names),
        **_traffic([flows[name] for each in on_it if (name := naming.host_end(each.id)) in flows]),
        "endpoints": [endpoint(each, names) for each in on_it],
        **(beyond or {}),
        "kernel": planned,
    }


def endpoints(promises: Promises, names: Names) -> list[View]:
    return [endpoint(one, names) for one in promises.endpoints.values()]


def endpoint(one: Endpoint, names: Names) -> View:
    return {
        "id": one.id,
        "container": names.containers.get(one.id, ""),
        "network": one.network_id,
        "network_name": names.networks.get(one.network_id, ""),
        "addresses": [str(address) for address in one.addresses],
        "mac": one.mac,
        "phase": one.phase.value,
        "host_end": naming.host_end(one.id),
        "sandbox": one.sandbox,
    }


def endpoint_detail(
    one: Endpoint,
    promises: Promises,
    names: Names,
    *,
    difference: Difference,
    actual: Actual,
    flows: Mapping[str, Flow],
) -> View:
    """`guard_drops` is None where there is no guard, and no traffic is told of an endpoint without a link."""
    host_end = naming.host_end(one.id)
    network_of_it = promises.networks[one.network_id]
    planned = [str(owned.object) for owned in desired.of_endpoint(network_of_it, one).values()]
    lost = any(owned.owner == Owner(one.id) for owned in difference.lost)
    return {
        **endpoint(one, names),
        "bridge": naming.bridge(network_of_it, one.annex),
        "allowed": [str(network) for network in one.allowed],
        "ports": [_port_text(port) for port in _ports(network_of_it, one)],
        **_traffic([flows[host_end]] if host_end in flows else []),
        "guard_drops": actual.dropped.get(host_end, 0) if network_of_it.options.guard else None,
        "kernel": planned,
        "lost": lost,
    }


def _traffic(flows: Sequence[Flow]) -> View:
    return {"received": _one_way(flows, "rx"), "sent": _one_way(flows, "tx")}


def _one_way(flows: Sequence[Flow], way: Literal["rx", "tx"]) -> View | None:
    """As containers see it. The rate is over the time since somebody looked, or over some milliseconds."""
    if not flows:
        return None
    counts = {
        count: sum(getattr(flow.total, f"{way}_{count}") for flow in flows)
        for count in ("bytes", "packets", "dropped", "errors")
    }
    return {**counts, "bytes_per_s": round(sum(getattr(flow, f"{way}_rate") for flow in flows))}


def ports(promises: Promises, names: Names) -> list[View]:
    """What is published. No host port in a routed network."""
    return [
        {"endpoint": one.id, "network": one.network_id, "container": names.containers.get(one.id, ""), **port}
        for one in promises.endpoints.values()
        for port in _ports(promises.networks[one.network_id], one)
    ]


def _ports(network_of_it: Network, one: Endpoint) -> list[View]:
    return [_port(way) for way in publishing.ways_in(network_of_it, one)]


def _port(way: publishing.WayIn) -> View:
    match way:
        case publishing.Opened(protocol, target):
            return _port_row(None, protocol, target, "routed")
        case publishing.Translated(socket, target, _):
            return _port_row(socket, socket.protocol, target, "nat")
        case publishing.Carried(socket, target):
            return _port_row(socket, socket.protocol, target, "proxy")


def _port_row(socket: HostSocket | None, protocol: Protocol, target: Target, by: str) -> View:
    return {
        "protocol": protocol.value,
        "host_address": str(socket.address) if socket else None,
        "host_port": socket.port if socket else None,
        "address": str(target.address),
        "port": target.port,
        "by": by,
    }


def _port_text(port: View) -> str:
    host = f"{port['host_address']} port {port['host_port']} to " if port["host_port"] else ""
    return f"{host}{port['address']} port {port['port']}/{port['protocol']} by {port['by']}"


def find_network(promises: Promises, names: Names, name: str) -> Network:
    """By its id or the beginning of it, by Docker's name for it, or by a bridge of it."""
    found = [
        one
        for one in promises.networks.values()
        if _begins(one.id, name)
        or naming.bridge(one) == name
        or naming.annex_of(one.id, name)
        or name == names.networks.get(one.id)
    ]
    return _only(found, "network", name)


def find_endpoint(promises: Promises, names: Names, name: str) -> Endpoint:
    """By its id or the beginning of it, by its container, by its link, or by its address."""
    found = [
        one
        for one in promises.endpoints.values()
        if _begins(one.id, name)
        or naming.host_end(one.id) == name
        or name == names.containers.get(one.id)
        or any(str(address.ip) == name for address in one.addresses)
    ]
    return _only(found, "endpoint", name)


def _only(found: list[Record], kind: str, name: str) -> Record:
    if not found:
        raise NotFound(f"no {kind} {name[:80]!r}: `mdnp {kind} ls` lists them")
    whole = [one for one in found if one.id == name]
    if len(found) > 1 and not whole:
        raise InvalidParameter(f"{kind} {name[:80]!r} names {len(found)}: give more of its id")
    return (whole or found)[0]


def _begins(identity: str, name: str) -> bool:
    """The empty name is nobody's."""
    return name != "" and identity.startswith(name)


def _counts(promises: Promises, difference: Difference) -> Mapping[str, int]:
    """Drift and loss by network, an endpoint's counted with its network's."""
    counts: dict[str, int] = {}
    owners: Iterable[str] = [*(step.owner for step in difference.steps), *(one.owner for one in difference.lost)]
    for owner in owners:
        endpoint_of_it = promises.endpoints.get(owner)  # type: ignore[call-overload]  # an owner is either id
        network_id = endpoint_of_it.network_id if endpoint_of_it else owner
        counts[network_id] = counts.get(network_id, 0) + 1
    return counts


def pools(promises: Promises, counts: Mapping[PoolID, Counts]) -> list[View]:
    return [pool(one, counts[one.id], promises) for one in promises.pools.values()]


def pool(one: PoolPromise, counts: Counts, promises: Promises) -> View:
    """A pool that other hosts share has the `blocks` that this one hands out from; the counts are of these."""
    blocks = hosts.blocks_of(one.pool.network, promises)
    return {
        "id": one.id,
        "pool": str(one.pool.network),
        "sub_pool": str(one.pool.sub_pool) if one.pool.sub_pool else None,
        "networks": one.holders,
        "size": counts.size,
        "used": counts.used,
        "reserved": counts.reserved,
        "resting": counts.resting,
        "free": counts.free,
        "nearly_full": counts.nearly_full,
        **({} if blocks is None else {"blocks": [str(block.network) for block in blocks]}),
    }


def pool_detail(one: PoolPromise, counts: Counts, held: Iterable[Allocation], promises: Promises, names: Names) -> View:
    """`endpoint` is None for what no endpoint of ours has."""
    rows = sorted(held, key=lambda allocation: allocation.address)
    return {**pool(one, counts, promises), "addresses": [_allocation(row, promises, names) for row in rows]}


def find_pool(promises: Promises, name: str) -> PoolPromise:
    """By its id, its network, or the beginning of the id of a network on it."""
    found = [
        one
        for one in promises.pools.values()
        if name in (one.id, str(one.pool.network)) or any(_begins(owner, name) for owner in _networks_on(one, promises))
    ]
    return _only(found, "pool", name)


def history(tenures: Iterable[Tenure]) -> list[View]:
    return [
        {
            "address": str(one.allocation.address),
            "pool": one.pool,
            "kind": one.allocation.purpose.kind.value,
            "name": one.allocation.purpose.name,
            "since": _time(one.allocation.allocated_at),
            "until": None if one.until is None else _time(one.until),
        }
        for one in tenures
    ]


def orphans(found: Iterable[Orphan]) -> list[View]:
    return [{"kind": one.kind, "name": one.name, "of": one.of or None, "since": _time(one.since)} for one in found]


def _allocation(one: Allocation, promises: Promises, names: Names) -> View:
    holder = next(
        (
            endpoint.id
            for endpoint in promises.endpoints.values()
            if any(address.ip == one.address for address in endpoint.addresses)
        ),
        None,
    )
    return {
        "address": str(one.address),
        "kind": one.purpose.kind.value,
        "name": one.purpose.name or names.holders.get(one.address, ""),
        "endpoint": holder,
        "since": _time(one.allocated_at),
    }


def _networks_on(one: PoolPromise, promises: Promises) -> list[NetworkID]:
    return [
        network_id
        for network_id, record in promises.networks.items()
        if any(subnet.pool == one.pool.network for subnet in record.subnets)
    ]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
