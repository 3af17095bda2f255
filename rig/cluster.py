"""
A cluster on one machine: hosts with real engines of several versions on one underlay, the plugin on each, and an etcd.

    with Run() as run:
        cluster = Cluster(run)
        cluster.start()

What breaks in a cluster is broken here: a host's wire, the way between two, a process killed or frozen, etcd's data.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from rig.command import until
from rig.engine import Engine
from rig.etcd import Etcd
from rig.host import GATEWAY, UPLINK, Host, Namespace, Underlay
from rig.plugin import MDNP, Plugin
from rig.rootfs import chosen
from rig.sandbox import Run
from rig.testbed import Testbed

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")

# Seconds after which a dead host is taken for one: the least that mdnp takes, so that stories need not wait long.
LEASE_S = 3
LABELS = "abcdefgh"
# Hosts have names of their own, by which an operator knows them, and resolvers of their own.
_NAMED = 'echo "$0" >/proc/sys/kernel/hostname; mount --bind "$1" /etc/resolv.conf; shift; exec "$@"'
_CUTS = """
table bridge cuts {
    set pairs { type ifname . ifname; }
    chain forward { type filter hook forward priority 0; meta iifname . meta oifname @pairs drop; }
}
"""


class Node:
    """A host of the cluster with its engine and its plugin."""

    def __init__(self, host: Host, engine: Engine, plugin: Plugin) -> None:
        self.host = host
        self.engine = engine
        self.plugin = plugin

    @property
    def label(self) -> str:
        return self.host.label

    @property
    def testbed(self) -> Testbed:
        return Testbed(self.host, self.engine)

    def kill_plugin(self) -> None:
        """SIGKILL, and a new start."""
        self.plugin.kill()
        self.plugin.start()

    def kill_engine(self) -> None:
        """SIGKILL, and a new start; with live-restore containers live on."""
        self.engine.kill()
        self.engine.start()


class Cluster:
    """
    Hosts with engines of `versions`, and an etcd, all on one underlay.

    `versions` are by default three of those that tests are run on, mixed. Engines have live-restore, so that their
    death is not that of their containers; in a swarm they must not.
    """

    def __init__(self, run: Run, versions: Sequence[str] = (), *, live_restore: bool = True) -> None:
        self.run = run
        self.underlay = Underlay(run)
        self.underlay.run(["nft", "-f", "-"], feed=_CUTS.encode())
        self.place = Namespace(run, "etcd")
        self.address, self.address6 = self.underlay.plug(self.place)
        self.etcd = Etcd(self.place, address=str(self.address.ip))
        made = versions or tuple(itertools.islice(itertools.cycle(reversed(chosen())), 3))
        hosts = [Host(self.underlay, label) for label, _ in zip(LABELS, made, strict=False)]
        engines = at_once(lambda pair: Engine(*pair, live_restore=live_restore), list(zip(hosts, made, strict=True)))
        self._runs: tuple[int, ...] = ()
        self.nodes = tuple(
            Node(host, engine, self.plugin_on(host)) for host, engine in zip(hosts, engines, strict=True)
        )

    def plugin_on(
        self,
        host: Host,
        *,
        etcd: str = "",
        address: IPv4Address | IPv6Address | None = None,
        options: Sequence[str] = (),
    ) -> Plugin:
        """
        A plugin for `host`, not yet started. By default it asks the cluster's etcd, and its tunnels end at the host's
        IPv4 address.
        """
        resolvers = host.folder / "resolv.conf"
        resolvers.write_text(f"nameserver {GATEWAY.ip}\n")
        named = ("unshare", "--uts", "--mount", "--propagation=slave", "sh", "-c", _NAMED, host.label, resolvers)
        given = [f"--etcd={etcd or self.etcd.url}", f"--host-address={address or host.address.ip}"]
        env = {"MDNP_LEASE": str(LEASE_S)}
        return Plugin(host, (*named, MDNP, "serve"), options=[*given, *options], env=env)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def start(self) -> None:
        """Start all that does not run, all at once, and wait until it serves."""
        if not self.etcd.running:
            self.etcd.start()
        self.each(_start)

    def begin(self) -> None:
        """`start`, and remember what runs, for `reset`."""
        self.start()
        self._runs = self._running()

    def each(self, act: Callable[[Node], object]) -> None:
        """Do it on all hosts at once; the first error of any is raised when all have ended."""
        at_once(act, self.nodes)

    def reset(self) -> None:
        """
        As new: no containers, no networks. If a plugin or etcd is not the one that began, none remembers anything.

        Then the plugins are stopped.
        """
        self.heal()
        if self.etcd.running:
            self.etcd.thaw()
        self.each(_clear)
        if self._runs == self._running():
            return
        if not self.etcd.running:
            self.etcd.start()
        self.each(self._forget)
        self.etcd.ctl("del", "", "--prefix")

    def _running(self) -> tuple[int, ...]:
        """The processes that hold what hosts remember of each other."""
        plugins = tuple(node.plugin.pid if node.plugin.running else 0 for node in self.nodes)
        return (self.etcd.process.pid if self.etcd.process and self.etcd.running else 0, *plugins)

    def _forget(self, node: Node) -> None:
        """With a plugin of the cluster's own: a story may have put another there."""
        node.plugin.stop()
        node.host.forget_plugin()
        node.plugin = self.plugin_on(node.host)

    def close(self) -> None:
        """End all engines and plugins; the etcd ends with the run."""
        self.each(_end)

    # What breaks. A place is a host, or the place of etcd.

    def unplug(self, place: Namespace) -> None:
        """Pull the plug: nothing reaches `place` any more, nor it anything."""
        self.underlay.ip(f"link set {self.underlay.end_of(place)} down")

    def cut(self, one: Namespace, other: Namespace) -> None:
        """Nothing gets from one of these to the other any more; both reach everybody else."""
        self._cuts("add", one, other)

    def heal(self) -> None:
        """Undo all that `unplug` and `cut` did. The kernel takes up to a second to see that a link has a carrier."""
        places = [self.place, *(node.host for node in self.nodes)]
        self.underlay.run(["nft", "flush", "set", "bridge", "cuts", "pairs"])
        self.underlay.ip(*(f"link set {self.underlay.end_of(place)} up" for place in places))
        until(lambda: all(map(_is_up, places)), "the links of the underlay to come up")

    @contextmanager
    def without_etcd(self) -> Iterator[None]:
        """No etcd meanwhile: it is stopped in order, and comes back with its data."""
        self.etcd.stop()
        try:
            yield
        finally:
            self.etcd.start()

    def _cuts(self, verb: str, one: Namespace, other: Namespace) -> None:
        ends = [self.underlay.end_of(place) for place in (one, other)]
        pairs = ", ".join(f'"{near}" . "{far}"' for near, far in (ends, ends[::-1]))
        self.underlay.run(["nft", f"{verb} element bridge cuts pairs {{ {pairs} }}"])


def at_once(act: Callable[[_Given], _Made], items: Sequence[_Given]) -> list[_Made]:
    """What `act` made of each, all at the same time."""
    with ThreadPoolExecutor(len(items)) as pool:
        return [running.result() for running in [pool.submit(act, item) for item in items]]


def _start(node: Node) -> None:
    if not node.plugin.running:
        node.plugin.start()
    if not node.engine.running:
        node.engine.start()


def _clear(node: Node) -> None:
    """A plugin must run for Docker to remove its networks."""
    _start(node)
    node.engine.clear()


def _end(node: Node) -> None:
    node.engine.close()
    if node.plugin.running:
        node.plugin.kill()


def _is_up(place: Namespace) -> bool:
    return " state UP " in place.run(["ip", "link", "show", "dev", UPLINK]).out
