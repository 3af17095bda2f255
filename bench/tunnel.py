"""
What a tunnel between two hosts costs: iperf3 and single requests between containers, over each way in turn.

The hosts are namespaces on one machine, joined by a bridge: there is no wire, segments stay large, and all share the
processors. What counts is the ratio to the bare VXLAN link of the same round, so that the machine's moods fall on all.
"""

from typing import Any

from bench import traffic, ways
from bench.ways import Way
from rig.cluster import Cluster
from rig.sandbox import Run

_ENGINE = "28.5"


def run() -> list[dict[str, Any]]:
    with Run() as rig:
        return traffic.measure(_ways(rig), "vxlan")


def _ways(rig: Run) -> list[Way]:
    cluster = Cluster(rig, (_ENGINE, _ENGINE), live_restore=False)
    cluster.start()
    return [*ways.by_hand(cluster.underlay), ways.swarm(cluster), ways.mdnp(cluster)]


if __name__ == "__main__":
    for each in run():
        print(each)
