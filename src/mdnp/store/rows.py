"""Changes as statements, and rows of the database as records. Pure."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec

from mdnp.model.allocation import Allocation, Freed, Kind, Purpose, Record
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.identity import EndpointID, NetworkID, short
from mdnp.model.mac import MAC
from mdnp.model.names import Called, Names
from mdnp.model.network import Network, Subnet
from mdnp.model.options import NetworkOptions
from mdnp.model.pool import Pool, PoolID, PoolPromise
from mdnp.model.port import PortRequest, Protocol, Publication
from mdnp.model.segment import Block
from mdnp.store import Change, Drop, Fact, Free, Hold, Known, Name, Put, Tenure

Row = Sequence[str | int | float | bytes | None]
Statement = tuple[str, Row]
Promise = Network | Endpoint | PoolPromise | Block | Called

_TABLES: dict[type[Promise], str] = {
    Network: "network",
    Endpoint: "endpoint",
    PoolPromise: "pool",
    Block: "block",
    Called: "called",
}

_HELD = "WHERE pool_id = ? AND address = ? AND freed_at IS NULL"

# What is held, and of each address that is not the tenure that ended last (SQLite takes the other columns from the row
# that has the maximum).
ALLOCATIONS = """
    SELECT pool_id, address, kind, name, allocated_at, freed_at FROM allocation
    WHERE pool_id = :pool AND freed_at IS NULL
    UNION ALL
    SELECT pool_id, address, kind, name, allocated_at, max(freed_at) FROM allocation
    WHERE pool_id = :pool AND address NOT IN
        (SELECT address FROM allocation WHERE pool_id = :pool AND freed_at IS NULL)
    GROUP BY address
"""
HISTORY = """
    SELECT pool_id, address, kind, name, allocated_at, freed_at FROM allocation
    WHERE address = :name OR (name = :name AND name <> '')
    ORDER BY allocated_at
"""


def statement(change: Change) -> Statement:
    match change:
        case Fact() | Known():
            return _kept(change)
        case Put(record):
            return _put(record)
        case Drop(record):
            return f"DELETE FROM {_TABLES[type(record)]} WHERE id = ?", (record.id,)  # noqa: S608  # a word of ours
        case Hold(pool, allocation):
            purpose = allocation.purpose
            facts = (pool, str(allocation.address), purpose.kind.value, purpose.name, allocation.allocated_at)
            return "INSERT INTO allocation VALUES (?, ?, ?, ?, ?, NULL)", facts
        case Free(pool, freed):
            return f"UPDATE allocation SET freed_at = ? {_HELD}", (freed.freed_at, pool, str(freed.allocation.address))  # noqa: S608
        case Name(pool, address, name):
            return f"UPDATE allocation SET name = ? {_HELD}", (name, pool, str(address))  # noqa: S608  # words of ours


def described(change: Change) -> str:
    match change:
        case Put(PoolPromise() as promise) | Drop(PoolPromise() as promise):
            return f"pool {promise.id}"
        case Put(record) | Drop(record):
            return f"{_TABLES[type(record)]} {short(record.id)}"
        case Hold(pool, allocation):
            return f"address {allocation.address} of pool {pool}"
        case Free(pool, freed):
            return f"address {freed.allocation.address} of pool {pool}"
        case Name(pool, address, _):
            return f"address {address} of pool {pool}"
        case Fact(name) | Known(name):
            return name


def _kept(change: Fact | Known) -> Statement:
    match change:
        case Fact(name, value):
            return "INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value)
        case Known(key, None):
            return "DELETE FROM known WHERE key = ?", (key,)
        case Known(key, value, revision):
            return "INSERT OR REPLACE INTO known VALUES (?, ?, ?)", (key, value, revision)


def _put(record: Promise) -> Statement:
    match record:
        case Network():
            row = _network_row(record)
        case Endpoint():
            row = _endpoint_row(record)
        case PoolPromise():
            pool = record.pool
            sub_pool = str(pool.sub_pool or "")
            automatic = int(record.automatic)
            row = (record.id, record.space, str(pool.network), sub_pool, record.since, record.holders, automatic)
        case Block():
            row = (record.id, str(record.pool), str(record.network))
        case Called(identity, names):
            row = (identity, names.name, _text(names.aliases), names.hostname, names.service)
    places = ", ".join("?" * len(row))
    return f"INSERT OR REPLACE INTO {_TABLES[type(record)]} VALUES ({places})", row  # noqa: S608  # a word of ours


def pool_of(row: Row) -> PoolPromise:
    _, space, network, sub_pool, since, holders, automatic = map(str, row)
    pool = Pool(ip_network(network), ip_network(sub_pool) if sub_pool else None)
    return PoolPromise(space, pool, float(since), int(holders), automatic == "1")


def block_of(row: Row) -> Block:
    _, pool, network = map(str, row)
    return Block(ip_network(pool), ip_network(network))


def called_of(row: Row) -> Called:
    identity, name, aliases, hostname, service = map(str, row)
    return Called(identity, Names(name, tuple(msgspec.json.decode(aliases)), hostname, service))


def tenure_of(row: Row) -> Tenure:
    pool, address, kind, name, allocated_at, freed_at = row
    allocation = Allocation(ip_address(str(address)), Purpose(Kind(str(kind)), str(name)), _seconds(allocated_at))
    return Tenure(PoolID(str(pool)), allocation, None if freed_at is None else _seconds(freed_at))


def record_of(row: Row) -> Record:
    tenure = tenure_of(row)
    return tenure.allocation if tenure.until is None else Freed(tenure.allocation, tenure.until)


def known_of(row: Row) -> Known:
    key, value, revision = row
    return Known(str(key), value if isinstance(value, bytes) else b"", int(str(revision)))


def _seconds(value: str | int | float | bytes | None) -> float:
    return float(value or 0)


def _network_row(network: Network) -> Row:
    subnets = [
        {"pool": str(subnet.pool), "gateway": str(subnet.gateway) if subnet.gateway else None}
        for subnet in network.subnets
    ]
    options, listed = _text(network.options), int(network.listed)
    hosts = _text([str(address) for address in network.host_addresses])
    return (
        network.id,
        int(network.internal),
        network.mtu,
        options,
        _text(subnets),
        network.since,
        listed,
        network.vni,
        hosts,
        network.annexes,
    )


def network_of(row: Row) -> Network:
    identity, internal, mtu, options, subnets, since, listed, vni, hosts, annexes = row
    return Network(
        id=NetworkID(str(identity)),
        subnets=tuple(
            Subnet(ip_network(one["pool"]), ip_interface(one["gateway"]) if one["gateway"] else None)
            for one in msgspec.json.decode(str(subnets))
        ),
        internal=bool(internal),
        options=msgspec.json.decode(str(options), type=NetworkOptions, dec_hook=_parsed),
        mtu=int(str(mtu)),
        since=_seconds(since),
        listed=bool(listed),
        vni=int(str(vni)),
        host_addresses=tuple(ip_interface(text) for text in msgspec.json.decode(str(hosts))),
        annexes=int(str(annexes)),
    )


def _endpoint_row(endpoint: Endpoint) -> Row:
    addresses = _text([str(address) for address in endpoint.addresses])
    given = int(endpoint.mac_given)
    return (
        endpoint.id,
        endpoint.network_id,
        endpoint.mac,
        given,
        addresses,
        endpoint.phase.value,
        endpoint.sandbox,
        _text([str(network) for network in endpoint.allowed]),
        _text([_port_row(one) for one in endpoint.ports]),
        endpoint.since,
        endpoint.generation,
        endpoint.annex,
    )


def endpoint_of(row: Row) -> Endpoint:
    identity, network, mac, given, addresses, phase, sandbox, allowed, ports, since, generation, annex = map(str, row)
    return Endpoint(
        id=EndpointID(identity),
        network_id=NetworkID(network),
        mac=MAC(mac),
        mac_given=given == "1",
        addresses=tuple(ip_interface(text) for text in msgspec.json.decode(addresses)),
        phase=Phase(phase),
        sandbox=sandbox,
        allowed=tuple(ip_network(text) for text in msgspec.json.decode(allowed)),
        ports=tuple(map(_publication_of, msgspec.json.decode(ports))),
        since=float(since),
        generation=int(generation),
        annex=int(annex),
    )


def _port_row(one: Publication) -> dict[str, object]:
    asked = one.request
    return {
        "protocol": asked.protocol.value,
        "port": asked.port,
        "host": str(asked.host_address) if asked.host_address else None,
        "first": asked.first,
        "last": asked.last,
        "host_port": one.host_port,
        "carried": one.carried,
    }


def _publication_of(row: Mapping[str, Any]) -> Publication:
    host = ip_address(row["host"]) if row["host"] else None
    asked = PortRequest(Protocol(row["protocol"]), row["port"], host, row["first"], row["last"])
    return Publication(asked, row["host_port"], row["carried"])


def _text(value: object) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def _parsed(kind: Any, text: Any) -> Any:
    """A value of a type that JSON does not have, an address, from its text."""
    return kind(text)
