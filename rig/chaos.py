"""
`make chaos SEED=… STEPS=… ENGINE=…`: random operations on a real engine, with kills and disturbances in between.

What is done is a function of the seed alone; how it interleaves is the machine's. Nobody predicts how an operation
ends: afterwards, in quiet, what Docker lists must be what mdnp promised, what the kernel shows and what the pools hold.
"""

import argparse
import itertools
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rig.command import RigError
from rig.engine import Engine
from rig.host import Host, Underlay
from rig.image import IMAGE
from rig.plugin import Plugin
from rig.quiet import Quiet, Untrue, must
from rig.rootfs import chosen
from rig.sandbox import Run

SEED = 20261125
STEPS = 500

_NETWORKS = ("n0", "n1", "n2", "n3")
_CONTAINERS = ("c0", "c1", "c2", "c3", "c4", "c5")
_AT_ONCE = 3
_DELAY_S = 0.4  # a disturbance comes at any time while the operations of its round are under way
_BYSTANDERS = ("by0", "by1")
_GAP = 10  # pings of a fifth of a second: what a flushed firewall may cost, two seconds
_NETWORK_OPTIONS = (
    (),
    ("--ipam-driver=mdnp",),
    ("--ipam-driver=mdnp", "--ipv6", "--subnet=fd77:{0}::/64", "--subnet=10.77.{0}.0/24"),
    ("--internal",),
    ("-o", "mdnp.guard=off"),
    ("-o", "com.docker.network.bridge.enable_icc=false"),
    ("-o", "mdnp.gateway=docker"),
)
_PORTS = ((), (), ("-p", "8080:80"), ("-p", "8081-8083:81/udp"), ("-p", "90", "-p", "91/udp"))


@dataclass
class Deed:
    """An operation: what is printed, and what it does."""

    text: str
    act: Callable[[], object]


@dataclass
class Chaos:
    """One run, on an engine with live-restore: its restarts leave containers alone."""

    engine: Engine
    plugin: Plugin
    seed: int
    counted: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  # to be repeated, not to be secret
        self._host = self.engine.host
        self._quiet = Quiet(self.engine, self.plugin, _BYSTANDERS)

    def run(self, steps: int, tell: Callable[[str], None]) -> None:
        """Do `steps` operations. Untrue says what is not so in the quiet after them."""
        self._start_bystanders()
        for name in _NETWORKS:
            self.engine.docker("network", "create", "-d", "mdnp", name)
        done = 0
        while done < steps:
            deeds = self._round()
            tell(f"{done:4d} {' | '.join(deed.text for deed in deeds)}")
            self._do(deeds)
            done += len(deeds)
        tell(f"# {done} operations: {', '.join(f'{count} {what}' for what, count in sorted(self.counted.items()))}")
        self._ensure_running()
        self._quiet.calm()
        self._quiet.check()
        self._check_bystanders()
        self._quiet.remove_all()

    def _round(self) -> list[Deed]:
        names = self._random.sample(_CONTAINERS, self._random.randint(1, _AT_ONCE))
        deeds = [self._operation(name) for name in names]
        if self._random.random() < 0.4:
            deeds.append(self._disturbance())
        for deed in deeds:
            self.counted[deed.text.split()[0]] += 1
        return deeds

    def _do(self, deeds: Sequence[Deed]) -> None:
        with ThreadPoolExecutor(len(deeds)) as pool:
            for running in [pool.submit(deed.act) for deed in deeds]:
                running.result()
        self._ensure_running()

    def _ensure_running(self) -> None:
        if not self.plugin.running:
            self.plugin.start()
        if not self.engine.running:
            self.engine.start()

    def _operation(self, container: str) -> Deed:
        network = self._random.choice(_NETWORKS)
        ports = self._random.choice(_PORTS)
        number = _NETWORKS.index(network)
        options = [one.format(number) for one in self._random.choice(_NETWORK_OPTIONS)]
        run = ["run", "-d", f"--name={container}", f"--net={network}", "--stop-signal=KILL", *ports, IMAGE]
        lines: Sequence[tuple[int, list[str]]] = (
            (12, [*run, "sleep", "100000"]),
            (4, ["network", "create", "-d", "mdnp", *options, network]),
            (6, ["rm", "-f", container]),
            (1, ["network", "rm", network]),
            (4, ["network", "connect", network, container]),
            (3, ["network", "disconnect", network, container]),
            (2, ["stop", "-t", "0", container]),
            (2, ["start", container]),
            (1, ["restart", "-t", "0", container]),
        )
        line = self._random.choices([line for _, line in lines], [weight for weight, _ in lines])[0]
        text = " ".join(one for one in line if one not in ("-d", IMAGE, "sleep", "100000", "--stop-signal=KILL"))
        return Deed(text, lambda: self.engine.attempt(*line, timeout=120))

    def _disturbance(self) -> Deed:
        delay = self._random.random() * _DELAY_S
        place = self._random.random()
        deeds: Sequence[tuple[int, str, Callable[[], object]]] = (
            (14, "kill-plugin", self._kill_plugin),
            (4, "restart-plugin", self._restart_plugin),
            (1, "kill-engine", self._kill_engine),
            (1, "restart-engine", self._restart_engine),
            (2, "flush", lambda: self._host.run(["nft", "flush", "ruleset"])),
            (2, "delete-link", lambda: self._delete_link(place)),
        )
        _, text, act = self._random.choices(deeds, [weight for weight, *_ in deeds])[0]

        def later() -> None:
            time.sleep(delay)
            act()

        return Deed(f"{text} after {delay:.2f} s", later)

    def _kill_plugin(self) -> None:
        self.plugin.kill()
        self.plugin.start()

    def _restart_plugin(self) -> None:
        self.plugin.stop()
        self.plugin.start()

    def _kill_engine(self) -> None:
        self.engine.kill()
        self.engine.start()

    def _restart_engine(self) -> None:
        self.engine.stop()
        self.engine.start()

    def _delete_link(self, place: float) -> None:
        """One of ours, but for the bystanders': which one depends on what is there."""
        spared = self._links_of_bystanders()
        links = [one for one in self._quiet.links() if one not in spared and not one.startswith("mdp-")]
        if links:
            self._host.run(["ip", "link", "del", links[int(place * len(links))]], check=False)

    def _links_of_bystanders(self) -> set[str]:
        return {self._bridge, *self._veths}

    # The bystanders: two containers that nobody touches, one of which asks the other all the time.

    def _start_bystanders(self) -> None:
        identity = self.engine.docker("network", "create", "-d", "mdnp", "--subnet=10.99.0.0/24", "quiet")
        self._bridge = f"mdb-{identity[:11]}"
        for number, name in enumerate(_BYSTANDERS, start=2):
            given = [f"--name={name}", "--net=quiet", f"--ip=10.99.0.{number}", IMAGE]
            self.engine.docker("run", "-d", *given, "sh", "-c", "exec ping -i 0.2 10.99.0.3 >/tmp/pings")
        ids = self.engine.docker(
            "inspect", "--format={{.NetworkSettings.Networks.quiet.EndpointID}}", *_BYSTANDERS
        ).split()
        self._veths = {f"mdv-{one[:11]}" for one in ids}

    def _check_bystanders(self) -> None:
        said = self.engine.docker("exec", _BYSTANDERS[0], "cat", "/tmp/pings")  # noqa: S108  # in the container
        answered = [int(one) for one in re.findall(r"seq=(\d+)", said)]
        gaps = [later - earlier - 1 for earlier, later in itertools.pairwise(answered)]
        must(len(answered) > _GAP, "the bystanders heard nothing of each other")
        must(max(gaps) <= _GAP, f"the bystanders heard nothing for {max(gaps) / 5} s")
        if not self.counted["flush"]:
            must(not sum(gaps), f"the bystanders lost {sum(gaps)} pings")


def chaos_on(run: Run, version: str, seed: int, steps: int, tell: Callable[[str], None]) -> Chaos:
    host = Host(Underlay(run))
    plugin, engine = Plugin(host), Engine(host, version, live_restore=True)
    plugin.start()
    engine.start()
    chaos = Chaos(engine, plugin, seed)
    chaos.run(steps, tell)
    engine.close()
    plugin.stop()
    return chaos


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--engine", default="")
    given = parser.parse_args()
    for version in [given.engine] if given.engine else chosen():
        print(f"# chaos: engine {version}, seed {given.seed}, {given.steps} operations", flush=True)
        began = time.monotonic()
        with Run() as run:
            try:
                chaos_on(run, version, given.seed, given.steps, lambda text: print(text, flush=True))
            except (Untrue, RigError) as error:
                for log in sorted((run.folder / "a" / "log").glob("*.log")):
                    kept = Path("build") / f"chaos-{version}-{log.name}"
                    kept.write_bytes(log.read_bytes())
                    print(f"# {log.name} is kept as {kept}")
                sys.exit(f"# chaos: SEED={given.seed} STEPS={given.steps} ENGINE={version}: {error}")
        print(f"# chaos: all is true, after {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
