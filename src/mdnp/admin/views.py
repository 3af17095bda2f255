"""What operators see, as JSON values. Pure: the command line draws the same values as tables."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from mdnp.dataplane import naming
from mdnp.dataplane.steps import Owner
from mdnp.ipam.allocator import Counts
from mdnp.ipam.orphans import Orphan
from mdnp.model.allocation import Allocation
from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import InvalidParameter, NotFound
from mdnp.model.identity import NetworkID
from mdnp.model.network import IPAddress, Network
from mdnp.model.pool import PoolID, PoolPromise
from mdnp.reconcile import desired
from mdnp.reconcile.diff import Difference
from mdnp.store import Promises, Tenure

View = dict[str, Any]
Record = TypeVar("Record", Network, Endpoint, PoolPromise)


def status(
    promises: Promises, difference: Difference, pool_counts: Mapping[PoolID, Counts], version: str, uptime_s: float
) -> View:
    """`drift` are the steps that would make the kernel agree, `lost` what cannot be rebuilt."""
    counts = _counts(promises, difference)
    return {
        "version": version,
        "uptime_s": round(uptime_s, 1),
        "healthy": not difference.steps and not difference.lost,
        "networks": [{**network(one, promises), "drift": counts.get(one.id, 0)} for one in promises.networks.values()],
        "drift": [str(step) for step in difference.steps],
        "lost": [str(owned.object) for owned in difference.lost],
        "nearly_full": [one["id"] for one in pools(promises, pool_counts) if one["nearly_full"]],
    }


def networks(promises: Promises) -> list[View]:
    return [network(one, promises) for one in promises.networks.values()]


def network(one: Network, promises: Promises) -> View:
    return {
        "id": one.id,
        "kind": one.options.mode.value,
        "bridge": naming.bridge(one),
        "subnets": [
            {"pool": str(subnet.pool), "gateway": str(subnet.gateway.ip) if subnet.gateway else None}
            for subnet in one.subnets
        ],
        "mtu": one.mtu,
        "internal": one.internal,
        "gateway": one.options.gateway.value,
        "interface_prefix": one.options.iface_prefix,
        "endpoints": sum(endpoint.network_id == one.id for endpoint in promises.endpoints.values()),
    }


def network_detail(one: Network, promises: Promises) -> View:
    on_it = [endpoint_view for endpoint_view in endpoints(promises) if endpoint_view["network"] == one.id]
    planned = [str(owned.object) for owned in desired.of_network(one).values()]
    return {**network(one, promises), "endpoints": on_it, "kernel": planned}


def endpoints(promises: Promises) -> list[View]:
    return [endpoint(one) for one in promises.endpoints.values()]


def endpoint(one: Endpoint) -> View:
    return {
        "id": one.id,
        "network": one.network_id,
        "addresses": [str(address) for address in one.addresses],
        "mac": one.mac,
        "phase": one.phase.value,
        "host_end": naming.host_end(one.id),
        "sandbox": one.sandbox,
    }


def endpoint_detail(one: Endpoint, promises: Promises, difference: Difference) -> View:
    network_of_it = promises.networks[one.network_id]
    planned = [str(owned.object) for owned in desired.of_endpoint(network_of_it, one).values()]
    lost = any(owned.owner == Owner(one.id) for owned in difference.lost)
    return {**endpoint(one), "bridge": naming.bridge(network_of_it), "kernel": planned, "lost": lost}


def find_network(promises: Promises, name: str) -> Network:
    """By its id or the beginning of it, or by its bridge."""
    found = [one for one in promises.networks.values() if _begins(one.id, name) or naming.bridge(one) == name]
    return _only(found, "network", name)


def find_endpoint(promises: Promises, name: str) -> Endpoint:
    """By its id or the beginning of it, by its link, or by its address."""
    found = [
        one
        for one in promises.endpoints.values()
        if _begins(one.id, name)
        or naming.host_end(one.id) == name
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
    return [pool(one, counts[one.id]) for one in promises.pools.values()]


def pool(one: PoolPromise, counts: Counts) -> View:
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
    }


def pool_detail(
    one: PoolPromise, counts: Counts, held: Iterable[Allocation], promises: Promises, names: Mapping[IPAddress, str]
) -> View:
    """`names` are the containers that Docker listed last; `endpoint` is None for what no endpoint of ours has."""
    rows = sorted(held, key=lambda allocation: allocation.address)
    return {**pool(one, counts), "addresses": [_allocation(row, promises, names) for row in rows]}


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
    return [
        {
            "pool": one.pool,
            "address": str(one.allocation.address) if one.allocation else None,
            "kind": one.allocation.purpose.kind.value if one.allocation else "pool",
            "since": _time(one.since),
        }
        for one in found
    ]


def _allocation(one: Allocation, promises: Promises, names: Mapping[IPAddress, str]) -> View:
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
        "name": one.purpose.name or names.get(one.address, ""),
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
