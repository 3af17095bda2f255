"""The metrics of a world, as values; and that the documents speak of those that there are."""

import json
import re
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from mdnp.admin.cluster import Cluster
from mdnp.admin.exposition import Exposition
from mdnp.admin.routes import Answer
from mdnp.admin.window import Window
from mdnp.dns import Served
from mdnp.dns.standing import Road, Standing
from mdnp.driver.keeper import NetworkKeeper
from mdnp.engine.directory import Directory
from mdnp.ipam.driver import IpamDriver
from mdnp.ipam.keeper import AddressKeeper
from mdnp.kernel import Traffic
from mdnp.measured import MeasuredKernel
from mdnp.measures import CONTENT_TYPE, Measures
from mdnp.member import About, Alone, KnownHost, Liveness, Remark
from mdnp.model.options import Mode, NetworkOptions
from mdnp.model.pool import Pool, PoolPromise
from mdnp.model.segment import Block
from mdnp.orphans.collector import Collector
from mdnp.store import Put
from mdnp.wire.calls import Calls
from mdnp.wire.ipam import IpamVerbs
from mdnp.wire.routes import Routes
from tests.admin.door import Engine, open_admin
from tests.declared.registry import FakeRegistry, a_host
from tests.ipam.engine import listing
from tests.ipam.house import request_address, request_pool
from tests.world import (
    BRIDGE,
    DB,
    NET,
    OTHER_NET,
    WEB,
    WEB_LINK,
    World,
    a_network,
    create_endpoint,
    create_network,
    join,
    publish,
)

OPERATING = Path(__file__).parents[2] / "docs/operating.md"
DASHBOARD = Path(__file__).parents[2] / "docs/grafana/mdnp.json"
_SUFFIX = re.compile(r"_(bucket|sum|count)$")

GONE = Liveness.GONE

Values = dict[tuple[str, ...], float]


class House:
    """A world with what the metrics are read from."""

    def __init__(
        self, world: World, ipam: IpamDriver, cluster: Cluster | None = None, naming: Standing | None = None
    ) -> None:
        self.world = world
        self.engine = Engine()
        self.directory = Directory(self.engine)
        keepers = (NetworkKeeper(world.store, world.driver), AddressKeeper(world.store, ipam))
        self.collector = Collector(keepers, self.directory, world.clock, 120, apart_s=0)
        self.measures = Measures()
        self.ipam = Routes({"IpamDriver": IpamVerbs(ipam).verbs()}, lambda: None)
        self.exposition = Exposition(
            measures=self.measures,
            store=world.store,
            kernel=MeasuredKernel(world.kernel, self.measures),
            reconciler=world.reconciler,
            ipam=ipam,
            collector=self.collector,
            directory=self.directory,
            version="9.9.9",
            database_bytes=lambda: 4096,
            cluster=cluster,
            naming=lambda: naming,
        )

    async def metrics(self) -> dict[str, Metric]:
        answer = await self.exposition.answer()
        assert (answer.status, answer.content_type) == (200, CONTENT_TYPE)
        text = answer.body.decode()
        names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        assert len(names) == len(set(names)), "a family stands there twice"
        return {one.name: one for one in text_string_to_metric_families(text)}

    async def values(self) -> Values:
        """By name and the values of the labels."""
        found = [sample for metric in (await self.metrics()).values() for sample in metric.samples]
        return {(one.name, *one.labels.values()): one.value for one in found}


@pytest.fixture
async def house(world: World) -> House:
    """With a network that has a joined and a created endpoint, and one without the guard."""
    house = House(world, await IpamDriver.open(world.store, world.kernel, (), world.clock))
    await world.ok("CreateNetwork", create_network(NET, "10.1.0.0/24 10.1.0.1/24"))
    await world.ok("CreateEndpoint", create_endpoint())
    await world.ok("Join", join())
    await world.ok("CreateNetwork", create_network(OTHER_NET, "10.2.0.0/24", options={"mdnp.guard": "off"}))
    await world.ok("CreateEndpoint", create_endpoint(DB, "10.2.0.3/24", network=OTHER_NET))
    return house


async def test_what_is_promised_is_counted(house: House) -> None:
    await house.world.ok("ProgramExternalConnectivity", publish((8080, 80), (8443, 443)))

    shown = await house.values()

    assert shown["mdnp_networks",] == 2
    phases = {name: shown["mdnp_endpoints", name] for name in ("created", "joined", "left")}
    assert phases == {"created": 1, "joined": 1, "left": 0}
    assert shown["mdnp_published_ports",] == len(house.world.store.promises.endpoints[WEB].ports) > 0  # type: ignore[index]
    assert shown["mdnp_database_bytes",] == 4096


async def test_traffic_is_told_as_the_container_sees_it(house: House) -> None:
    house.world.kernel.carried[WEB_LINK] = Traffic(
        rx_bytes=10, rx_packets=1, rx_dropped=5, tx_bytes=20, tx_packets=2, tx_dropped=6
    )

    shown = await house.values()

    ids = WEB[:12], NET[:12]
    assert {name: value for (name, *labels), value in shown.items() if labels == [*ids]} == {
        "mdnp_endpoint_receive_bytes_total": 10,
        "mdnp_endpoint_receive_packets_total": 1,
        "mdnp_endpoint_receive_drops_total": 5,
        "mdnp_endpoint_transmit_bytes_total": 20,
        "mdnp_endpoint_transmit_packets_total": 2,
        "mdnp_endpoint_transmit_drops_total": 6,
        "mdnp_endpoint_guard_drops_total": 0,
    }
    assert shown["mdnp_endpoint_receive_bytes_total", DB[:12], OTHER_NET[:12]] == 0


async def test_what_the_guard_dropped_is_that_of_the_last_look_and_told_only_where_there_is_one(house: House) -> None:
    house.world.kernel.dropped = {WEB_LINK: 7}

    before = await house.values()
    await house.world.reconciler.compare()
    after = await house.values()

    told = [labels for labels in after if labels[0] == "mdnp_endpoint_guard_drops_total"]
    assert told == [("mdnp_endpoint_guard_drops_total", WEB[:12], NET[:12])]
    assert (before[told[0]], after[told[0]]) == (0, 7)


async def test_a_scrape_reads_the_links_and_nothing_else_of_the_kernel(house: House) -> None:
    looks = house.world.kernel.observed

    await house.values()

    assert house.world.kernel.observed == looks


async def test_when_the_kernel_cannot_be_read_the_rest_is_told(house: House) -> None:
    house.world.kernel.unreadable = "no buffer space available"

    shown = await house.values()

    assert (shown["mdnp_traffic_readable",], shown["mdnp_networks",]) == (0, 2)
    assert not [labels for labels in shown if labels[0] == "mdnp_endpoint_receive_bytes_total"]


async def test_names_are_those_that_docker_told_last_and_a_scrape_asks_nobody(house: House) -> None:
    info = ("mdnp_endpoint_info", WEB[:12], NET[:12])

    before = await house.values()
    house.engine.listing = listing(endpoints={WEB: "web"}, networks={NET: "mynet"})
    unasked = await house.values()
    await house.directory.list()
    after = await house.values()

    assert (*info, "", "", "10.1.0.2", WEB_LINK) in before
    assert (*info, "", "", "10.1.0.2", WEB_LINK) in unasked
    assert (*info, "web", "mynet", "10.1.0.2", WEB_LINK) in after


async def test_pools_show_how_full_they_are(house: House) -> None:
    for verb, body in (
        ("RequestPool", request_pool("10.9.0.0/24")),
        ("RequestAddress", request_address("mdnp-local/10.9.0.0/24")),
    ):
        answer = await house.ipam.answer(f"/IpamDriver.{verb}", json.dumps(body).encode())
        assert answer.status == 200, answer.body

    shown = await house.values()

    pool = "mdnp-local/10.9.0.0/24"
    states = {state: shown["mdnp_pool_addresses", pool, state] for state in ("used", "reserved", "resting", "free")}
    assert states["used"] == 1
    assert sum(states.values()) == shown["mdnp_pool_size", pool]


async def test_drift_that_cannot_be_mended_and_what_was_repaired_are_told(house: House) -> None:
    kernel, reconciler = house.world.kernel, house.world.reconciler
    names = ("mdnp_drift",), ("mdnp_drift_repaired_total",), ("mdnp_lost",)
    await reconciler.converge()

    del kernel.objects["addr", BRIDGE, "10.1.0.1/24"]
    kernel.refuses = lambda _step: "refused by the test"
    await reconciler.repair()
    while_refused = await house.values()
    kernel.refuses = lambda _step: None
    await reconciler.repair()
    mended = await house.values()
    kernel.vanish(WEB_LINK)
    await reconciler.repair()
    lost = await house.values()

    shown = [[values[name] for name in names] for values in (while_refused, mended, lost)]
    assert shown[0] == [1, 0, 0]
    assert shown[1] == [0, 1, 0]
    assert shown[2][2] == 1


async def test_orphans_that_were_left_are_told_by_kind(house: House) -> None:
    house.engine.listing = listing()
    house.world.clock.now += 1000

    await house.collector.collect(unasked=True)
    shown = await house.values()

    left = {labels[1]: value for labels, value in shown.items() if labels[0] == "mdnp_orphans"}
    assert left == {"endpoint": 2, "network": 2}  # the clock was set: nothing is freed unasked now


async def test_the_process_and_its_build_are_told(house: House) -> None:
    shown = await house.values()

    [build] = [labels for labels in shown if labels[0] == "mdnp_build_info"]
    assert build[1] == "9.9.9"
    assert shown["process_resident_memory_bytes",] > 1 << 20
    assert 3 <= shown["process_open_fds",] < shown["process_max_fds",]
    assert shown["process_cpu_seconds_total",] > 0
    assert time.time() - 86400 < shown["process_start_time_seconds",] < time.time() + 2


# Where they are shown.


async def test_the_operator_s_socket_shows_them(house: House, world: World) -> None:
    admin = await open_admin(world, looks={"/metrics": house.exposition.answer})

    answer = await admin.answer("GET", "/metrics")

    assert (answer.status, answer.content_type) == (200, CONTENT_TYPE)
    assert (await admin.answer("POST", "/metrics")).status == 404


async def test_a_window_shows_what_it_is_for_and_nothing_can_be_done_through_it() -> None:
    async def look() -> Answer:
        return Answer(200, b"well", "text/plain")

    window = Window({"/metrics": look})

    statuses = [
        (await window.answer(method, path)).status
        for method, path in (("GET", "/metrics"), ("POST", "/metrics"), ("GET", "/status"), ("POST", "/gc"))
    ]
    assert statuses == [200, 405, 404, 404]


# What is written about them.


async def in_cluster(house: House) -> House:
    """The same host as one of three, with a pool that it shares and names to answer."""
    overlay = a_network("e5" * 32, "10.50.0.0/16", options=NetworkOptions(mode=Mode.OVERLAY))
    pool = ip_network("10.50.0.0/16")
    block = Block(pool, ip_network("10.50.3.0/24"))
    await house.world.store.commit(Put(PoolPromise("mdnp-local", Pool(pool), 0.0)), Put(overlay), Put(block))
    hosts = (KnownHost(a_host(1), Liveness.ALIVE), KnownHost(a_host(2), Liveness.ALIVE), KnownHost(a_host(3), GONE))
    registry = FakeRegistry(None, *hosts)
    registry.facts = {"requests": {"commit": 7}, "pending": 2, "remarks": (Remark(About.MAC, "x"),)}
    ipam = await IpamDriver.open(house.world.store, house.world.kernel, (), house.world.clock)
    naming = Standing(served={Road.SANDBOX: Served(9, 7, 1)}, sandboxes={"/a": "", "/b": "", "/c": "no"}, unlearned=2)
    return House(house.world, ipam, Cluster(registry, Alone(), (), lambda: None), naming)


async def test_the_cluster_is_told_only_where_there_is_one(house: House) -> None:
    without = await house.values()
    shown = await (await in_cluster(house)).values()

    assert not [labels for labels in without if "cluster" in labels[0] or "blocks" in labels[0]]
    assert {labels: value for labels, value in shown.items() if value and "cluster" in labels[0]} == {
        ("mdnp_cluster_up",): 1,
        ("mdnp_cluster_hosts", "alive"): 2,
        ("mdnp_cluster_hosts", "gone"): 1,
        ("mdnp_cluster_pending_rows",): 2,
        ("mdnp_cluster_remarks", "mac"): 1,
        ("mdnp_cluster_requests_total", "commit"): 7,
        ("mdnp_cluster_revision",): 100,
        ("mdnp_cluster_epoch",): 1,
    }
    assert shown["mdnp_pool_blocks", "mdnp-local/10.50.0.0/16"] == 1


async def test_names_are_told_of_only_where_there_are_any(house: House) -> None:
    without = await house.values()
    shown = await (await in_cluster(house)).values()

    assert not [labels for labels in without if "dns" in labels[0]]
    assert {labels[1:]: value for labels, value in shown.items() if labels[0] == "mdnp_dns_questions_total"} == {
        ("sandbox", "zone"): 9,
        ("sandbox", "forwarded"): 7,
        ("sandbox", "unanswered"): 1,
        ("sandbox", "dropped"): 0,
    }
    assert (shown["mdnp_dns_sandboxes", "open"], shown["mdnp_dns_sandboxes", "failed"]) == (2, 1)
    assert shown["mdnp_dns_unlearned",] == 2


async def exposed(house: House) -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of each metric, once everything has happened; counters with their `_total`."""
    Calls(house.world.routes, house.measures, lambda: "")
    measures = house.measures
    measures.docker_up = True
    for counter in (measures.steps, measures.failed_steps):
        counter.add("add", "veth")
    measures.freed.add("endpoint")
    house.engine.listing = listing()
    house.world.clock.now += 1000
    await house.collector.collect(unasked=True)
    await house.ipam.answer("/IpamDriver.RequestPool", json.dumps(request_pool("10.9.0.0/24")).encode())
    found = {}
    for name, metric in (await house.metrics()).items():
        assert metric.samples, name
        labels = frozenset(metric.samples[0].labels) - {"le"}
        found[f"{name}_total" if metric.type == "counter" else name] = (metric.type, labels)
    return found


def documented() -> Iterator[tuple[str, str, frozenset[str]]]:
    for line in OPERATING.read_text().splitlines():
        row = re.match(r"\| `((?:mdnp|process)_\w+)` \| (\w+) \|(.*?)\| (.+) \|$", line)
        if row:
            name, kind, labels, _meaning = row.groups()
            yield name, kind, frozenset(re.findall(r"\w+", labels))


async def test_each_metric_is_in_the_document_with_its_type_and_labels_and_no_other(house: House) -> None:
    rows = list(documented())

    written = {name: (kind, labels) for name, kind, labels in rows}

    assert len(written) == len(rows)
    assert written == await exposed(await in_cluster(house))


def queries(node: Any) -> Iterator[str]:
    """Of a dashboard, those of variables too."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "definition") and isinstance(value, str):
                yield value
            else:
                yield from queries(value)
    elif isinstance(node, list):
        for value in node:
            yield from queries(value)


async def test_the_dashboard_asks_only_for_metrics_and_labels_that_there_are(house: House) -> None:
    found = await exposed(await in_cluster(house))
    asked = list(queries(json.loads(DASHBOARD.read_text())))

    names = {name for query in asked for name in re.findall(r"\b(?:mdnp|process)_\w+", query)}
    histograms = {name for name, (kind, _) in found.items() if kind == "histogram"}
    unknown = {name for name in names if name not in found and _SUFFIX.sub("", name) not in histograms}
    labels = {one for query in asked for one in re.findall(r"(\w+)\s*=~?\s*\"", query)} - {"job", "instance"}

    assert len(asked) > 20
    assert unknown == set()
    assert labels <= {label for _, given in found.values() for label in given}


def test_the_dashboard_s_panels_lie_beside_each_other() -> None:
    board = json.loads(DASHBOARD.read_text())

    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    identities = [panel["id"] for panel in board["panels"]]
    assert len(set(identities)) == len(identities)
