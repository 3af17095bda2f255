"""What the stories of a cluster say about the world: hosts, and containers that are on one of them."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rig import truth
from rig.cluster import LABELS, Cluster, Node, at_once
from rig.command import until
from tests.engine.conftest import Story
from tests.engine.frames import NOBODY6, Station

BLUE = ("--subnet=10.50.0.0/16", "--ipv6", "--subnet=fd50::/64")
OVERLAY = ("--ipam-driver=mdnp", "-o", "mdnp.mode=overlay")
# As mDNS uses them.
GROUPS = ("udp:224.0.0.251:5353", "udp:[ff02::fb]:5353")
# How soon what one host did is known on all the others; far more than it takes, on a busy machine too.
SOON_S = 10.0


@dataclass(frozen=True)
class Box:
    """A container on a host, with what Docker says of its endpoint."""

    number: int  # the host's
    host: Story
    name: str
    station: Station
    sandbox: str
    network: str

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(str(one) for one in (self.station.ip4, self.station.ip6) if one != NOBODY6)

    def silent(self, addresses: Iterable[str]) -> set[str]:
        """Those of the addresses that do not answer a ping of this container's, all asked at once."""
        return truth.silent(self.sandbox, addresses)

    def remove(self) -> None:
        self.host.docker("rm", "-f", self.name)


@dataclass(frozen=True)
class Fleet:
    """The hosts of a cluster, in order: `fleet[0]` is one with all the sentences of a story on one host."""

    cluster: Cluster

    def __getitem__(self, number: int) -> Story:
        return story_of(self.cluster.nodes[number])

    @property
    def hosts(self) -> tuple[Story, ...]:
        return tuple(map(story_of, self.cluster.nodes))

    def network(self, name: str = "blue", *options: str) -> None:
        """An overlay network, made on each host at once."""
        at_once(lambda host: host.network(name, *OVERLAY, *(options or BLUE)), self.hosts)

    def box(self, number: int, name: str, *options: str, network: str = "blue") -> Box:
        """A new container on a host."""
        self[number].container(name, *options, network=network)
        return self.found(number, name, network)

    def found(self, number: int, name: str, network: str = "blue") -> Box:
        """A container that is there."""
        host = self[number]
        [whole] = json.loads(host.docker("inspect", name))
        settings = whole["NetworkSettings"]
        station = Station.of(settings["Networks"][network])
        return Box(number, host, name, station, settings["SandboxKey"], network)

    def boxes(self, *names: str, options: Sequence[str] = (), network: str = "blue") -> list[Box]:
        """Containers, all started at once; the first letter of a name is that of its host."""
        return at_once(lambda name: self.box(LABELS.index(name[0]), name, *options, network=network), names)

    def reach(self, boxes: Sequence[Box]) -> None:
        """Each reaches each address of each other, soon."""
        everything = {address for box in boxes for address in box.addresses}
        silence: dict[str, set[str]] = {}

        def all_answer() -> bool:
            asked = at_once(lambda box: (box.name, box.silent(everything - {*box.addresses})), boxes)
            silence.clear()
            silence.update({name: silent for name, silent in asked if silent})
            return not silence

        soon(all_answer, lambda: f"all to reach each other; not answered: {silence}")

    def joined(self, count: int = 3) -> None:
        """All are in the cluster, soon, and know each other alive."""
        soon(
            lambda: all(self._stands(number) == (True, "", count) for number in range(count)),
            lambda: f"all to join: {[self._stands(number) for number in range(count)]}",
        )

    def misses_etcd(self, number: int) -> bool:
        """Whether a host says so; it says why, and to people too."""
        connected, trouble, _ = self._stands(number)
        return not connected and bool(trouble) and trouble in self[number].plugin.cli("status", check=False)

    def all_miss_etcd(self) -> None:
        soon(lambda: all(map(self.misses_etcd, range(3))), "status to say that etcd is away")

    def _stands(self, number: int) -> tuple[bool, str, int]:
        view = self[number].status()["cluster"]
        return view["connected"], view["trouble"], view["hosts"]["alive"]

    def mdnp(self, number: int, *words: str) -> Any:
        """What a command says as --json."""
        return json.loads(self[number].plugin.cli(*words, "--json", check=False))


def story_of(node: Node) -> Story:
    return Story(node.testbed, node.plugin)


def soon(holds: Callable[[], bool], what: str | Callable[[], str] = "", within_s: float = SOON_S) -> None:
    """Wait until it holds."""
    try:
        until(holds, "", within_s)
    except Exception as error:
        raise AssertionError(f"waited {within_s} s for {what if isinstance(what, str) else what()}") from error
