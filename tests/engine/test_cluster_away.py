"""When etcd is away, frozen, cut off or has lost its data: what goes on, and what is true when it comes back."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rig import truth
from rig.cluster import LEASE_S, Cluster, Node, at_once
from rig.command import Result
from rig.image import IMAGE
from rig.process import Process
from rig.quiet import Quiet
from tests.engine.fleet import OVERLAY, Box, Fleet, soon
from tests.engine.peers import Peers, Stream, target

pytestmark = pytest.mark.engine

_ATTACHES = 100
_WITHDRAWN_S = 5 * LEASE_S


@pytest.fixture
def fleet(cluster: Cluster) -> Fleet:
    return Fleet(cluster)


@pytest.fixture
def boxes(fleet: Fleet) -> list[Box]:
    fleet.network()
    boxes = fleet.boxes("a1", "b1", "c1")
    fleet.reach(boxes)
    return boxes


def _must_be_true(fleet: Fleet) -> None:
    soon(lambda: not truth.faults(fleet.cluster), lambda: "\n".join(truth.faults(fleet.cluster)))


@contextmanager
def _talking(one: Box, other: Box) -> Iterator[None]:
    """Traffic between two containers, of which not a byte may be missing afterwards."""
    with Peers(one.host.testbed) as here, Peers(other.host.testbed) as there:
        there.echo(other.name, 7)
        streams = [here.stream(one.name, target("tcp", address, 7)) for address in other.addresses]
        yield
        for stream in streams:
            _must_have_lost_nothing(stream)


def _must_have_lost_nothing(stream: Stream) -> None:
    sent, received, fault = stream.end()
    assert sent > 0
    assert (received, fault) == (sent, "")


def _rows(node: Node) -> set[str]:
    """What leads to other hosts, as bridge(8) says it."""
    return {line for line in node.host.run(["bridge", "fdb", "show"]).out.splitlines() if " dst " in line}


def _deleted(monitors: list[Process]) -> list[str]:
    return [
        line for one in monitors for line in one.log.read_text().splitlines() if "Deleted" in line and "dst" in line
    ]


def test_with_etcd_away_containers_come_and_go_and_traffic_goes_on(fleet: Fleet, boxes: list[Box]) -> None:
    a1, b1, c1 = boxes
    with _talking(a1, c1):
        with fleet.cluster.without_etcd():
            fleet.all_miss_etcd()
            new = fleet.boxes("a2", "b2", "c2")
            b1.remove()
            before = _rows(fleet.cluster.nodes[0])
            fleet.cluster.nodes[0].kill_plugin()
            fleet.cluster.nodes[0].plugin.restart()
            assert _rows(fleet.cluster.nodes[0]) == before
            fleet.reach([a1, c1])
            said = fleet[1].refused("network", "create", "-d", "mdnp", *OVERLAY, "--subnet=10.70.0.0/16", "green")
            assert "etcd" in said
            fleet[1].network("alone", "--ipam-driver=mdnp")
            moved = {box.name: box.addresses for box in new}
        fleet.reach([a1, c1, *new])
    assert {box.name: fleet.found(box.number, box.name).addresses for box in new} == moved
    _must_be_true(fleet)


def test_with_etcd_stopped_a_hundred_attaches_and_detaches_succeed(fleet: Fleet, boxes: list[Box]) -> None:
    for host in fleet.hosts:
        host.network("home", "--ipam-driver=mdnp")
        host.container("guest", network="home")

    def attach(number: int) -> list[Result]:
        verbs = ("connect", "disconnect")
        return [
            fleet[number].engine.attempt("network", verb, "blue", "guest")
            for _ in range(_ATTACHES // 3 + 1)
            for verb in verbs
        ]

    with fleet.cluster.without_etcd():
        results = [one for some in at_once(attach, range(3)) for one in some]

    assert [one.said for one in results if one.code] == []
    assert len(results) >= 2 * _ATTACHES
    fleet.reach(boxes)
    _must_be_true(fleet)


def test_an_etcd_that_freezes_and_thaws_withdraws_nobody(fleet: Fleet, boxes: list[Box]) -> None:
    """At the thaw all leases end at once."""
    monitors = [node.host.spawn(["bridge", "monitor", "fdb"], log="monitor.log") for node in fleet.cluster]
    with _talking(boxes[0], boxes[2]):
        fleet.cluster.etcd.freeze()
        fleet.all_miss_etcd()
        new = fleet.box(1, "b2")
        time.sleep(2 * LEASE_S)  # so long that all leases have run out
        fleet.cluster.etcd.thaw()
        fleet.reach([*boxes, new])
        time.sleep(2 * LEASE_S)  # a host is withdrawn after the second at the latest
    assert _deleted(monitors) == []
    for one in monitors:
        one.kill()
    _must_be_true(fleet)


@pytest.mark.parametrize("restored", [False, True], ids=["lost", "restored from a backup"])
def test_data_that_etcd_lost_is_told_anew(fleet: Fleet, boxes: list[Box], restored: bool) -> None:
    monitors = [node.host.spawn(["bridge", "monitor", "fdb"], log="monitor.log") for node in fleet.cluster]
    backup = fleet.cluster.etcd.save()
    with _talking(boxes[0], boxes[2]):
        new = fleet.boxes("a2", "c2")
        if restored:
            fleet.cluster.etcd.restore(backup)
        else:
            fleet.cluster.etcd.lose()
        fleet.reach([*boxes, *new])
        _must_be_true(fleet)
    assert _deleted(monitors) == []
    for one in monitors:
        one.kill()
    soon(lambda: _can_agree(fleet), "new things to be agreed on again")
    fleet.network("green", "--subnet=10.70.0.0/24")
    fleet.reach([*boxes, *new, fleet.box(1, "b2", "--ip=10.50.3.3")])
    _must_be_true(fleet)


def _can_agree(fleet: Fleet) -> bool:
    made = fleet[0].engine.attempt("network", "create", "-d", "mdnp", *OVERLAY, "--subnet=10.71.0.0/24", "probe")
    if made.code == 0:
        fleet[0].docker("network", "rm", "probe")
    return made.code == 0


def test_after_a_loss_nothing_new_is_agreed_on_until_all_hosts_have_told(fleet: Fleet, boxes: list[Box]) -> None:
    silent = fleet.cluster.nodes[2]
    fleet.cluster.unplug(silent.host)

    fleet.cluster.etcd.lose()

    fleet.reach(boxes[:2])
    soon(lambda: "waited for: c (" in _refused(fleet), lambda: f"the missing host to be named: {_refused(fleet)}")
    assert "mdnp host remove" in _refused(fleet)
    new = fleet.box(0, "a2")  # of a block that the host has
    fleet.cluster.heal()
    fleet.reach([*boxes, new])
    soon(lambda: _can_agree(fleet), "new things to be agreed on again")
    _must_be_true(fleet)


def _refused(fleet: Fleet) -> str:
    said = fleet[0].engine.attempt("network", "create", "-d", "mdnp", *OVERLAY, "--subnet=10.72.0.0/24", "probe")
    if said.code == 0:
        fleet[0].docker("network", "rm", "probe")
    return said.said


def test_a_host_that_is_cut_off_from_etcd_goes_on_and_is_merged(fleet: Fleet, boxes: list[Box]) -> None:
    cut = fleet.cluster.nodes[0]
    fleet.cluster.cut(cut.host, fleet.cluster.place)

    soon(lambda: fleet.misses_etcd(0), "status to say so")
    new = [fleet.box(0, "a2"), fleet.box(1, "b2")]
    assert any(row.startswith(boxes[2].station.mac) for row in _rows(cut))
    fleet.cluster.heal()

    fleet.reach([*boxes, *new])
    _must_be_true(fleet)


def test_everything_may_be_killed_in_the_middle(fleet: Fleet, boxes: list[Box]) -> None:
    """A daemon, an engine and etcd, each while containers start on all hosts."""
    kills = (fleet.cluster.nodes[0].kill_plugin, fleet.cluster.nodes[1].kill_engine, fleet.cluster.etcd.kill)
    names = [f"{label}{number}" for label in "abc" for number in range(2, 6)]
    starting = threading.Thread(target=lambda: at_once(lambda name: _attempt(fleet, name), names))
    starting.start()
    at_once(lambda kill: kill(), kills)
    fleet.cluster.etcd.start()
    starting.join()

    fleet.reach(boxes)
    # What an engine that was killed does not know any more is collected.
    at_once(lambda node: Quiet(node.engine, node.plugin).calm(), fleet.cluster.nodes)
    _must_be_true(fleet)


def _attempt(fleet: Fleet, name: str) -> None:
    fleet["abc".index(name[0])].engine.attempt(
        "run", "-d", f"--name={name}", "--net=blue", "--stop-signal=KILL", IMAGE, "sleep", "100000"
    )
