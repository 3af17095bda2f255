"""What is promised, seen and used, as metrics. Pure; what happens is counted in `measures`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from mdnp.admin import hosts
from mdnp.admin.hosts import ClusterFacts
from mdnp.admin.process import Process
from mdnp.dataplane import naming
from mdnp.dns.standing import Standing
from mdnp.engine.directory import Names
from mdnp.ipam.allocator import Counts
from mdnp.kernel import Traffic
from mdnp.measures import Family, Labels
from mdnp.member import About, Liveness
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.identity import short
from mdnp.model.pool import PoolID
from mdnp.orphans import Orphan
from mdnp.store import Promises

_ENDPOINT = ("endpoint", "network")


@dataclass(frozen=True)
class Facts:
    """
    At one moment. `traffic` and `dropped` are by host end, `names` what Docker told last; `drift` are steps that failed
    and are still needed, `orphans` those that were found last and not freed. `traffic` is None where the kernel could
    not be read. `cluster` is None where this host is in none, `remotes` counts the endpoints on other hosts. `naming`
    is None where there are no names to answer.
    """

    promises: Promises
    pools: Mapping[PoolID, Counts]
    traffic: Mapping[str, Traffic] | None
    process: Process
    build: Mapping[str, str]
    dropped: Mapping[str, int] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    orphans: Sequence[Orphan] = ()
    repaired: int = 0
    drift: int = 0
    lost: int = 0
    database_bytes: int = 0
    cluster: ClusterFacts | None = None
    remotes: int = 0
    naming: Standing | None = None


def metrics(facts: Facts) -> list[Family]:
    return [
        *_promises(facts),
        *_sync(facts),
        *_pools(facts),
        *_endpoints(facts),
        *(_cluster(facts, facts.cluster) if facts.cluster else ()),
        *(_names(facts.naming) if facts.naming else ()),
        *_process(facts),
    ]


def _promises(facts: Facts) -> Iterator[Family]:
    endpoints = facts.promises.endpoints.values()
    phases: dict[Labels, float] = {(phase.value,): 0 for phase in Phase}
    for one in endpoints:
        phases[one.phase.value,] += 1
    yield _gauge("mdnp_networks", "Networks.", len(facts.promises.networks))
    yield Family("mdnp_endpoints", "gauge", "Endpoints by phase.", ("phase",), phases)
    yield _gauge("mdnp_published_ports", "Published ports.", sum(len(one.ports) for one in endpoints))


def _sync(facts: Facts) -> Iterator[Family]:
    yield _counter("mdnp_drift_repaired_total", "What others had changed and was put back.", facts.repaired)
    yield _gauge("mdnp_drift", "Steps that are needed and failed when they were tried last.", facts.drift)
    yield _gauge("mdnp_lost", "Endpoints whose link cannot be rebuilt.", facts.lost)
    orphans: Counter[Labels] = Counter((one.kind,) for one in facts.orphans)
    yield Family("mdnp_orphans", "gauge", "Orphans found last that were not freed.", ("kind",), orphans)
    yield _gauge("mdnp_database_bytes", "Size of the database with its log.", facts.database_bytes)


def _pools(facts: Facts) -> Iterator[Family]:
    states = ("used", "reserved", "resting", "free")
    sizes: dict[Labels, float] = {(pool,): counts.size for pool, counts in facts.pools.items()}
    values: dict[Labels, float] = {
        (pool, state): getattr(counts, state) for pool, counts in facts.pools.items() for state in states
    }
    yield Family("mdnp_pool_size", "gauge", "Addresses that a pool can hand out.", ("pool",), sizes)
    yield Family("mdnp_pool_addresses", "gauge", "Addresses of a pool by what they are now.", ("pool", "state"), values)


def _endpoints(facts: Facts) -> Iterator[Family]:
    endpoints = {naming.host_end(one.id): one for one in facts.promises.endpoints.values()}
    yield _info(facts)
    for way, verb in (("rx", "receive"), ("tx", "transmit")):
        for what in ("bytes", "packets", "dropped"):
            yield Family(
                f"mdnp_endpoint_{verb}_{'drops' if what == 'dropped' else what}_total",
                "counter",
                f"As the container sees it: {verb}d {what}.",
                _ENDPOINT,
                _of(endpoints, facts.traffic or {}, f"{way}_{what}"),
            )
    guarded: dict[Labels, float] = {
        _ids(one): facts.dropped.get(link, 0)
        for link, one in endpoints.items()
        if facts.promises.networks[one.network_id].options.guard
    }
    yield Family(
        "mdnp_endpoint_guard_drops_total", "counter", "Frames of it that the guard dropped.", _ENDPOINT, guarded
    )
    yield _gauge("mdnp_traffic_readable", "Whether the kernel told the traffic.", facts.traffic is not None)


def _of(endpoints: Mapping[str, Endpoint], traffic: Mapping[str, Traffic], field: str) -> dict[Labels, float]:
    return {_ids(one): getattr(traffic[link], field) for link, one in endpoints.items() if link in traffic}


def _info(facts: Facts) -> Family:
    values: dict[Labels, float] = {}
    for one in facts.promises.endpoints.values():
        container = facts.names.containers.get(one.id, "")
        name = facts.names.networks.get(one.network_id, "")
        address = str(one.addresses[0].ip) if one.addresses else ""
        values[*_ids(one), container, name, address, naming.host_end(one.id)] = 1.0
    return Family(
        "mdnp_endpoint_info",
        "gauge",
        "Whose an endpoint is: join it by endpoint.",
        (*_ENDPOINT, "container", "network_name", "address", "link"),
        values,
    )


def _cluster(facts: Facts, cluster: ClusterFacts) -> Iterator[Family]:
    standing = cluster.standing
    states: dict[Labels, float] = {(state.value,): 0 for state in Liveness}
    for one in standing.hosts:
        states[one.liveness.value,] += 1
    remarks: dict[Labels, float] = {(about.value,): 0 for about in About}
    for remark in standing.remarks:
        remarks[remark.about.value,] += 1
    requests: dict[Labels, float] = {(kind,): count for kind, count in standing.requests.items()}
    yield _gauge("mdnp_cluster_up", "Whether this host is in the cluster and hears of it.", hosts.is_in(standing))
    yield Family("mdnp_cluster_hosts", "gauge", "Hosts by whether they are alive.", ("state",), states)
    yield _gauge("mdnp_cluster_waiting_hosts", "Hosts that have not told anew what etcd lost.", len(standing.waiting))
    yield _gauge("mdnp_cluster_pending_rows", "What etcd does not have yet of this host.", standing.pending)
    yield Family("mdnp_cluster_remarks", "gauge", "What hosts tell and does not fit together.", ("about",), remarks)
    yield Family("mdnp_cluster_requests_total", "counter", "Requests to etcd by kind.", ("kind",), requests)
    yield _gauge("mdnp_cluster_revision", "The revision of etcd's data up to which all is known.", standing.revision)
    yield _gauge("mdnp_cluster_epoch", "How often etcd's data was begun anew or restored.", standing.epoch)
    yield _gauge("mdnp_cluster_segments", "Segments of all hosts.", len(standing.segments))
    yield _gauge("mdnp_cluster_remotes", "Endpoints on other hosts that are known.", facts.remotes)
    yield Family(
        "mdnp_pool_blocks", "gauge", "Blocks that this host hands out from.", ("pool",), _blocks(facts.promises)
    )


def _blocks(promises: Promises) -> dict[Labels, float]:
    found = {one.id: hosts.blocks_of(one.pool.network, promises) for one in promises.pools.values()}
    return {(pool,): len(blocks) for pool, blocks in found.items() if blocks is not None}


def _names(standing: Standing) -> Iterator[Family]:
    questions: dict[Labels, float] = {
        (road.value, outcome): count
        for road, served in standing.served.items()
        for outcome, count in asdict(served).items()
    }
    troubles = [bool(trouble) for trouble in standing.sandboxes.values()]
    states: dict[Labels, float] = {("open",): troubles.count(False), ("failed",): troubles.count(True)}
    yield Family(
        "mdnp_dns_questions_total",
        "counter",
        "Questions of names by what became of them.",
        ("road", "outcome"),
        questions,
    )
    yield Family("mdnp_dns_sandboxes", "gauge", "Sandboxes whose questions are to come here.", ("state",), states)
    yield _gauge("mdnp_dns_unlearned", "Endpoints whose names Docker has not told.", standing.unlearned)


def _process(facts: Facts) -> Iterator[Family]:
    """Under the names that every client library of Prometheus gives."""
    used = facts.process
    yield Family("mdnp_build_info", "gauge", "What runs.", tuple(facts.build), {tuple(facts.build.values()): 1})
    yield _counter("process_cpu_seconds_total", "Processor time, user and system.", used.cpu_seconds)
    yield _gauge("process_resident_memory_bytes", "Memory that is present.", used.resident_bytes)
    yield _gauge("process_virtual_memory_bytes", "Address space.", used.virtual_bytes)
    yield _gauge("process_open_fds", "Open descriptors, held ports among them.", used.open_fds)
    yield _gauge("process_max_fds", "How many may be open.", used.max_fds)
    yield _gauge("process_start_time_seconds", "Start, since the epoch.", used.start_time)


def _ids(one: Endpoint) -> Labels:
    return short(one.id), short(one.network_id)


def _gauge(name: str, text: str, value: float) -> Family:
    return Family(name, "gauge", text, (), {(): value})


def _counter(name: str, text: str, value: float) -> Family:
    return Family(name, "counter", text, (), {(): value})
