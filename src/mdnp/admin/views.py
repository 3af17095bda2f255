"""What operators see, as JSON values. Pure: the command line draws the same values as tables."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from mdnp.dataplane import naming
from mdnp.dataplane.steps import Owner
from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import InvalidParameter, NotFound
from mdnp.model.network import Network
from mdnp.reconcile import desired
from mdnp.reconcile.diff import Difference
from mdnp.store import Promises

View = dict[str, Any]
Record = TypeVar("Record", Network, Endpoint)


def status(promises: Promises, difference: Difference, version: str, uptime_s: float) -> View:
    """`drift` are the steps that would make the kernel agree, `lost` what cannot be rebuilt."""
    counts = _counts(promises, difference)
    return {
        "version": version,
        "uptime_s": round(uptime_s, 1),
        "healthy": not difference.steps and not difference.lost,
        "networks": [{**network(one, promises), "drift": counts.get(one.id, 0)} for one in promises.networks.values()],
        "drift": [str(step) for step in difference.steps],
        "lost": [str(owned.object) for owned in difference.lost],
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
    """By the beginning of its id, or by its bridge."""
    found = [one for one in promises.networks.values() if one.id.startswith(name) or naming.bridge(one) == name]
    return _only(found, "network", name)


def find_endpoint(promises: Promises, name: str) -> Endpoint:
    """By the beginning of its id, by its link, or by its address."""
    found = [
        one
        for one in promises.endpoints.values()
        if one.id.startswith(name)
        or naming.host_end(one.id) == name
        or any(str(address.ip) == name for address in one.addresses)
    ]
    return _only(found, "endpoint", name)


def _only(found: list[Record], kind: str, name: str) -> Record:
    if not found:
        raise NotFound(f"no {kind} {name[:80]!r}: `mdnp {kind} ls` lists them")
    if len(found) > 1:
        raise InvalidParameter(f"{kind} {name[:80]!r} names {len(found)}: give more of its id")
    return found[0]


def _counts(promises: Promises, difference: Difference) -> Mapping[str, int]:
    """Drift and loss by network, an endpoint's counted with its network's."""
    counts: dict[str, int] = {}
    owners: Iterable[str] = [*(step.owner for step in difference.steps), *(one.owner for one in difference.lost)]
    for owner in owners:
        endpoint_of_it = promises.endpoints.get(owner)  # type: ignore[call-overload]  # an owner is either id
        network_id = endpoint_of_it.network_id if endpoint_of_it else owner
        counts[network_id] = counts.get(network_id, 0) + 1
    return counts
