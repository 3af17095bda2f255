"""
`make chaos-cluster SEED=… STEPS=…`: random operations on three hosts, while hosts are cut off and daemons, engines and
etcd are killed, frozen, or lose their data.

What is done is a function of the seed alone. In the quiet after it each host's engine, store, kernel and pools agree,
each host's tunnels have the union of what lives on the others, no address is held twice, and all reach each other.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rig import truth
from rig.chaos import Deed
from rig.cluster import LEASE_S, Cluster, Node, at_once
from rig.command import RigError, until
from rig.image import IMAGE
from rig.quiet import Quiet, Untrue, must
from rig.sandbox import Run

SEED = 20261129
STEPS = 64

_OVERLAY = ("-d", "mdnp", "--ipam-driver=mdnp", "-o", "mdnp.mode=overlay")
# A small pool, so that hosts need each other's addresses; both families; and one without multicast.
_NETWORKS = {
    "n0": ("--subnet=10.80.0.0/26",),
    "n1": ("--ipv6", "--subnet=10.81.0.0/24", "--subnet=fd81::/64"),
    "n2": ("--subnet=10.82.0.0/16", "-o", "mdnp.multicast=off"),
}
_SHARED, _SHARED_OPTIONS = "n3", ("--subnet=10.83.0.0/24",)
_FIXED = {"n0": "10.80.0.5{}", "n1": "10.81.0.20{}", "n2": "10.82.77.{}"}
_CONTAINERS = ("c0", "c1", "c2")
_MOVERS = ("0", "1")
_AT_ONCE = 4
_QUIET_S = 60.0


@dataclass
class ClusterChaos:
    """One run on a cluster that is started."""

    cluster: Cluster
    seed: int
    counted: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  # to be repeated, not to be secret

    def run(self, steps: int, tell: Callable[[str], None]) -> None:
        """Do `steps` operations, with each disturbance once at least. Untrue says what is not so in the quiet after."""
        self.cluster.each(_create_networks)
        script = self._script(steps)
        done = 0
        for rounds, disturb in enumerate(script):
            deeds = self._round(disturb)
            tell(f"{rounds:3d} {' | '.join(deed.text for deed in deeds)}")
            self._do(deeds)
            done += len(deeds)
            self._no_address_twice()
        tell(f"# {done} operations: {', '.join(f'{count} {what}' for what, count in sorted(self.counted.items()))}")
        self._quiet(tell)

    def _script(self, steps: int) -> list[Callable[[], Deed] | None]:
        """Which disturbance each round has: each comes once, in an order and in rounds that are the seed's."""
        rounds = max(steps // _AT_ONCE, 2 * len(self._disturbances))
        once = self._random.sample(self._disturbances, len(self._disturbances))
        script: list[Callable[[], Deed] | None] = [None] * rounds
        places = sorted(self._random.sample(range(2, rounds), len(once)))
        for place, disturb in zip(places, once, strict=True):
            script[place] = disturb
        return script

    @property
    def _disturbances(self) -> Sequence[Callable[[], Deed]]:
        return (
            self._kill_plugin,
            self._kill_engine,
            self._kill_etcd,
            self._freeze_etcd,
            self._lose_etcd,
            self._cut_from_etcd,
            self._cut_from_peer,
            self._unplug,
        )

    def _round(self, disturb: Callable[[], Deed] | None) -> list[Deed]:
        places = self._random.sample([(node, name) for node in self.cluster for name in _CONTAINERS], _AT_ONCE - 1)
        deeds = [self._operation(node, name) for node, name in places]
        deeds.append(self._move())
        if disturb is not None:
            deeds.append(disturb())
        for deed in deeds:
            self.counted[deed.text.split()[1]] += 1
        return deeds

    def _do(self, deeds: Sequence[Deed]) -> None:
        """All at once; what was disturbed is mended before the round ends."""
        with ThreadPoolExecutor(len(deeds)) as pool:
            for running in [pool.submit(deed.act) for deed in deeds]:
                running.result()
        self.cluster.heal()
        self.cluster.start()

    def _operation(self, node: Node, container: str) -> Deed:
        network, here = self._random.choice([*_NETWORKS, _SHARED]), self._random.choice(list(_NETWORKS))
        lines: Sequence[tuple[int, list[str]]] = (
            (10, [*_run(container, network)]),
            (4, ["rm", "-f", container]),
            (3, ["network", "connect", network, container]),
            (2, ["network", "disconnect", network, container]),
            (1, ["restart", "-t", "0", container]),
            (1, ["network", "rm", here]),
            (2, ["network", "create", *_OVERLAY, *_NETWORKS[here], here]),
            (1, ["mdnp", "network", "create", _SHARED, *_SHARED_OPTIONS]),
            (1, ["mdnp", "network", "rm", _SHARED]),
        )
        line = self._random.choices([line for _, line in lines], [weight for weight, _ in lines])[0]
        if line[0] == "mdnp":
            return Deed(f"{node.label}: {' '.join(line)}", lambda: node.plugin.attempt(*line[1:], timeout=120))
        return Deed(f"{node.label}: {_shown(line)}", lambda: node.engine.attempt(*line, timeout=120))

    def _move(self) -> Deed:
        """A container with an address of its own, from wherever it is."""
        node = self._random.choice(self.cluster.nodes)
        network, number = self._random.choice(list(_FIXED)), self._random.choice(_MOVERS)
        address, name = _FIXED[network].format(number), f"m{network}{number}"

        def act() -> None:
            at_once(lambda other: other.engine.attempt("rm", "-f", name, timeout=120), self.cluster.nodes)
            node.engine.attempt(*_run(name, network, f"--ip={address}"), timeout=120)

        return Deed(f"{node.label}: move {name} {address}", act)

    # Disturbances. Each comes at some time while the operations are under way, and lasts for longer than they do.

    def _later(self, what: str, *acts: Callable[[], object]) -> Deed:
        """The acts one after the other, with a time between in which other hosts miss this one, or do not yet."""
        delay, between = self._random.random() * 0.5, self._random.choice((0.5, 2.5 * LEASE_S))

        def act() -> None:
            time.sleep(delay)
            for number, one in enumerate(acts):
                time.sleep(between if number else 0)
                one()

        return Deed(f"{what} after {delay:.2f} s{f' for {between:.1f} s' * (len(acts) > 1)}", act)

    def _node(self) -> Node:
        return self._random.choice(self.cluster.nodes)

    def _kill_plugin(self) -> Deed:
        node = self._node()
        return self._later(f"{node.label}: kill-plugin", node.plugin.kill, node.plugin.start)

    def _kill_engine(self) -> Deed:
        node = self._node()
        return self._later(f"{node.label}: kill-engine", node.kill_engine)

    def _kill_etcd(self) -> Deed:
        return self._later("etcd: kill-etcd", self.cluster.etcd.kill, self.cluster.etcd.start)

    def _freeze_etcd(self) -> Deed:
        return self._later("etcd: freeze-etcd", self.cluster.etcd.freeze, self.cluster.etcd.thaw)

    def _lose_etcd(self) -> Deed:
        return self._later("etcd: lose-etcd", self.cluster.etcd.lose)

    def _cut_from_etcd(self) -> Deed:
        node = self._node()
        cut = partial(self.cluster.cut, node.host, self.cluster.place)
        return self._later(f"{node.label}: cut-from-etcd", cut, self.cluster.heal)

    def _cut_from_peer(self) -> Deed:
        one, other = self._random.sample(self.cluster.nodes, 2)
        cut = partial(self.cluster.cut, one.host, other.host)
        return self._later(f"{one.label}: cut-from-{other.label}", cut, self.cluster.heal)

    def _unplug(self) -> Deed:
        node = self._node()
        return self._later(f"{node.label}: unplug", partial(self.cluster.unplug, node.host), self.cluster.heal)

    # The truth.

    def _no_address_twice(self) -> None:
        twice = truth.held_twice(self.cluster)
        must(not twice, f"in the middle of it: {twice}")

    def _quiet(self, tell: Callable[[str], None]) -> None:
        quiets = [Quiet(node.engine, node.plugin) for node in self.cluster]
        tell("# quiet: what is lost is started anew, what Docker forgot is collected")
        at_once(lambda quiet: quiet.calm(), quiets)
        _soon(lambda: [fault for quiet in quiets for fault in _unsettled(quiet)])
        _soon(lambda: truth.faults(self.cluster))
        at_once(lambda quiet: quiet.check(), quiets)
        silent = truth.silent_pairs(self.cluster)
        must(not silent, f"not answered: {silent}")
        tell("# all hosts agree, and all containers reach each other")
        self.cluster.each(lambda node: node.plugin.attempt("network", "rm", _SHARED))
        at_once(lambda quiet: quiet.remove_all(), quiets)
        _soon(lambda: truth.left(self.cluster))


def _unsettled(quiet: Quiet) -> list[str]:
    """What a host says of the cluster that should not be so in quiet."""
    view = quiet.status()["cluster"]
    said = [view["trouble"], *view["waiting"], *map(str, view["remarks"])]
    if view["pending"]:
        said.append(f"{view['pending']} rows are not told")
    return [f"{view['host']['name']}: {one}" for one in said if one]


def _soon(faults: Callable[[], list[str]]) -> None:
    """Wait until there is no fault. Untrue names those that stay."""
    try:
        until(lambda: not faults(), "", _QUIET_S)
    except RigError:
        must(False, "\n".join(faults()))


def _create_networks(node: Node) -> None:
    for name, options in _NETWORKS.items():
        node.engine.docker("network", "create", *_OVERLAY, *options, name)


def _run(name: str, network: str, *options: str) -> list[str]:
    return ["run", "-d", f"--name={name}", f"--net={network}", *options, "--stop-signal=KILL", IMAGE, "sleep", "100000"]


def _shown(line: Sequence[str]) -> str:
    unsaid = {"-d", IMAGE, "sleep", "100000", "--stop-signal=KILL", *_OVERLAY}
    return " ".join(one for one in line if one not in unsaid)


def chaos_on(cluster: Cluster, seed: int, steps: int, tell: Callable[[str], None]) -> ClusterChaos:
    """A run on a cluster that is started."""
    chaos = ClusterChaos(cluster, seed)
    chaos.run(steps, tell)
    return chaos


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos-cluster")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    began = time.monotonic()
    with Run() as run:
        cluster = Cluster(run)
        cluster.start()
        engines = ", ".join(node.engine.version for node in cluster)
        print(f"# chaos: engines {engines}, seed {given.seed}, {given.steps} operations", flush=True)
        try:
            chaos_on(cluster, given.seed, given.steps, lambda text: print(text, flush=True))
        except (Untrue, RigError) as error:
            _keep_logs(run.folder)
            sys.exit(f"# chaos: SEED={given.seed} STEPS={given.steps}: {error}")
        cluster.close()
    print(f"# chaos: all is true, after {time.monotonic() - began:.0f} s", flush=True)


def _keep_logs(folder: Path) -> None:
    for log in sorted(folder.glob("**/log/*.log")):
        kept = Path("build") / f"chaos-cluster-{log.parent.parent.name}-{log.name}"
        kept.write_bytes(log.read_bytes())
        print(f"# {log.name} is kept as {kept}")


if __name__ == "__main__":
    main()
