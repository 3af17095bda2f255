"""What operators see of a cluster: its hosts, how this one stands in it, what it knows of the others. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mdnp.dataplane import naming
from mdnp.declared import NOT_REMOVED
from mdnp.member import DeclaredNetwork, KnownHost, Liveness, Outlook, Standing
from mdnp.model.errors import InvalidParameter, NotFound
from mdnp.model.host import HostID
from mdnp.model.network import IPNetwork, Network
from mdnp.model.options import Mode
from mdnp.model.segment import Block, segment_of
from mdnp.store import Promises

_BEGINNING = 4  # hex digits of a host's id

View = dict[str, Any]


@dataclass(frozen=True)
class Declared:
    """A network of the whole cluster, by its name; `network` is None when it was withdrawn."""

    name: str
    network: DeclaredNetwork | None
    outcomes: Mapping[HostID, str]


@dataclass(frozen=True)
class ClusterFacts:
    """`servers` are those of etcd that were configured."""

    standing: Standing
    servers: tuple[str, ...]
    declared: tuple[Declared, ...] = ()


def status(facts: ClusterFacts) -> View:
    """`healthy` is whether nothing needs an operator: that other hosts are gone is for them to say."""
    standing = facts.standing
    alive = [one for one in standing.hosts if one.liveness is Liveness.ALIVE]
    failed = [row for one in facts.declared for row in declared(one, standing)["hosts"] if row["state"] == "failed"]
    return {
        "healthy": not (_trouble(standing) or standing.waiting or standing.remarks or failed),
        "servers": list(facts.servers),
        "connected": standing.connected,
        "trouble": _trouble(standing),
        "healthy_s": None if standing.healthy_s is None else round(standing.healthy_s, 1),
        "epoch": standing.epoch,
        "revision": standing.revision,
        "host": {"id": standing.host, "name": standing.name, "vtep": str(standing.vtep or "")},
        "hosts": {"alive": len(alive), "known": len(standing.hosts)},
        "segments": len(standing.segments),
        "blocks": sum(len(one.blocks) for one in standing.hosts if one.host.id == standing.host),
        "pending": standing.pending,
        "waiting": list(standing.waiting),
        "remarks": [{"about": one.about.value, "text": one.text} for one in standing.remarks],
        "networks": [declared(one, standing) for one in facts.declared],
    }


def is_in(standing: Standing) -> bool:
    """Whether this host is in the cluster, and what it knows of it is of now."""
    return not _trouble(standing)


def _trouble(standing: Standing) -> str:
    if standing.trouble or standing.connected:
        return standing.trouble
    return "etcd is not connected"


def hosts(standing: Standing) -> list[View]:
    return [host(one, standing) for one in _by_name(standing)]


def _by_name(standing: Standing) -> list[KnownHost]:
    return sorted(standing.hosts, key=lambda one: (one.host.name, one.host.id))


def host(one: KnownHost, standing: Standing) -> View:
    """`here` is this host; `seeded` says that it told everything since etcd's data was lost or restored."""
    return {
        "id": one.host.id,
        "name": one.host.name,
        "vtep": str(one.host.vtep),
        "liveness": one.liveness.value,
        "here": one.host.id == standing.host,
        "segments": list(one.segments),
        "endpoints": one.endpoints,
        "blocks": [str(block.network) for block in one.blocks],
        "seeded": one.seeded,
    }


def host_detail(one: KnownHost, standing: Standing) -> View:
    """With the remarks that name it, and the epoch of the data that it has told."""
    names = {one.host.id, one.host.name, str(one.host.vtep)}
    return {
        **host(one, standing),
        "blocks": [f"{block.network} of {block.pool}" for block in one.blocks],
        "epoch": standing.epoch if one.seeded else None,
        "segments": [
            f"{known.segment.id} (VNI {known.segment.vni})" for known in standing.segments if one.host.id in known.hosts
        ],
        "remarks": [remark.text for remark in standing.remarks if names & set(_words(remark.text))],
    }


def _words(text: str) -> Iterable[str]:
    return (word.strip(".,;:()'\"") for word in text.split())


def find_host(standing: Standing, name: str) -> KnownHost:
    """By its id, its name or its VTEP; else by the beginning of its id, long enough not to be a name mistyped."""
    whole = [one for one in standing.hosts if name in (one.host.id, one.host.name, str(one.host.vtep))]
    begun = len(name) >= _BEGINNING
    found = whole or [one for one in standing.hosts if begun and one.host.id.startswith(name)]
    if not found:
        raise NotFound(f"no host {name[:80]!r}: `mdnp host ls` lists them")
    if len(found) > 1:
        raise InvalidParameter(f"host {name[:80]!r} names {len(found)}: give its id, or more of it")
    return found[0]


def declared(one: Declared, standing: Standing) -> View:
    """What each host made of a network of the whole cluster: made, removed, failed with the error, or pending."""
    subnets = one.network.subnets if one.network else ()
    return {
        "name": one.name,
        "declared": one.network is not None,
        "subnets": [subnet.pool for subnet in subnets],
        "hosts": [_outcome(known, one) for known in _by_name(standing)],
    }


def _outcome(known: KnownHost, one: Declared) -> View:
    told = one.outcomes.get(known.host.id)
    state = _state(told) if one.network else _state_withdrawn(told)
    return {
        "id": known.host.id,
        "name": known.host.name,
        "liveness": known.liveness.value,
        "state": state,
        "error": (told or "") if state == "failed" else "",
    }


def _state(told: str | None) -> str:
    if told is None:
        return "pending"
    return "failed" if told else "made"


def _state_withdrawn(told: str | None) -> str:
    if told is None:
        return "removed"
    return "failed" if told.startswith(NOT_REMOVED) else "pending"


def overlay(network: Network, outlook: Outlook, standing: Standing) -> View:
    """What a network of a segment has besides: nothing of another network."""
    if network.options.mode is not Mode.OVERLAY:
        return {}
    segment = segment_of(network)
    names = {one.host.id: one.host.name for one in standing.hosts}
    members = [one.host for one in _by_name(standing) if segment in one.segments]
    return {
        "vtep": str(outlook.vtep or ""),
        "udp_port": outlook.port,
        "tunnel": naming.tunnel(network),
        "host_addresses": [str(address) for address in network.host_addresses],
        "hosts": [f"{one.name} {one.vtep}" for one in members],
        "remotes": [
            {
                "host": names.get(remote.host, remote.host),
                "vtep": str(remote.vtep),
                "mac": remote.mac,
                "addresses": [str(address) for address in remote.addresses],
            }
            for remote in outlook.remotes_of(segment)
        ],
    }


def blocks_of(pool: IPNetwork, promises: Promises) -> list[Block] | None:
    """Of a pool that is shared with other hosts, the blocks that this one hands out from; None for another pool."""
    overlays = [one for one in promises.networks.values() if one.options.mode is Mode.OVERLAY]
    if not any(subnet.pool == pool for one in overlays for subnet in one.subnets):
        return None
    found = [block for block in promises.blocks.values() if block.pool == pool]
    return sorted(found, key=lambda one: int(one.network.network_address))
