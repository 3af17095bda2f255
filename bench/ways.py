"""
Ways from a container on one host to a container on another, on one underlay.

vxlan    a VXLAN link in a namespace of its own on each host, and nothing else: the floor
bridged  veth, bridge and VXLAN link made by hand, without a rule: the least that containers on a bridge need
swarm    Docker's own overlay network, attachable, of two engines in a swarm
mdnp     our overlay network, of the same two engines
"""

from dataclasses import dataclass
from pathlib import Path

from rig.engine import Engine
from rig.host import Host, Namespace, Underlay
from rig.image import IMAGE
from rig.plugin import Plugin
from rig.testbed import Testbed

ENGINE = "28.5"
_PORT = 4789
_MTU = 1450


@dataclass(frozen=True)
class End:
    """A container, or what stands for one."""

    namespace: Path
    address: str


@dataclass(frozen=True)
class Way:
    name: str
    near: End
    far: End


def by_hand(underlay: Underlay) -> list[Way]:
    """On two hosts without engine and firewall."""
    hosts = [_Bare(underlay, f"bare{number}") for number in (1, 2)]
    ends = {"vxlan": [], "bridged": []}  # type: dict[str, list[End]]
    for number, (here, there) in enumerate([hosts, hosts[::-1]], start=1):
        ends["vxlan"].append(here.link(there, f"10.61.0.{number}"))
        ends["bridged"].append(here.bridge(there, f"10.62.0.{number}"))
    return [Way(name, near, far) for name, (near, far) in ends.items()]


class _Bare(Namespace):
    def __init__(self, underlay: Underlay, label: str) -> None:
        super().__init__(underlay.rig, label)
        self.vtep = underlay.plug(self)[0].ip

    def link(self, there: "_Bare", address: str) -> End:
        inside = Namespace(self.rig, f"{self.label}-link")
        self.ip(_vxlan("vx1", 1, self, there), f"link set vx1 netns {inside.name}")
        inside.ip(f"address add {address}/24 dev vx1", f"link set vx1 mtu {_MTU} up")
        return End(inside.path, address)

    def bridge(self, there: "_Bare", address: str) -> End:
        inside = Namespace(self.rig, f"{self.label}-bridge")
        self.ip(
            "link add br2 type bridge",
            _vxlan("vx2", 2, self, there),
            f"link set vx2 mtu {_MTU} master br2 up",
            f"link add veth2 mtu {_MTU} type veth peer name eth0 mtu {_MTU} netns {inside.name}",
            "link set veth2 master br2 up",
            "link set br2 up",
        )
        inside.ip(f"address add {address}/24 dev eth0", "link set eth0 up")
        return End(inside.path, address)


def _vxlan(name: str, vni: int, here: _Bare, there: _Bare) -> str:
    return f"link add {name} type vxlan id {vni} local {here.vtep} remote {there.vtep} dstport {_PORT} dev eth0"


class Pair:
    """Two hosts with an engine each."""

    def __init__(self, underlay: Underlay) -> None:
        self.hosts = [Host(underlay, label) for label in ("a", "b")]
        self.engines = [Engine(host, ENGINE) for host in self.hosts]
        for engine in self.engines:
            engine.start()

    def swarm(self) -> Way:
        first, second = self.engines
        manager, worker = (str(host.address.ip) for host in self.hosts)
        first.docker("swarm", "init", f"--advertise-addr={manager}")
        token = first.docker("swarm", "join-token", "--quiet", "worker")
        second.docker("swarm", "join", f"--token={token}", f"--advertise-addr={worker}", f"{manager}:2377")
        first.docker("network", "create", "--driver=overlay", "--attachable", "--subnet=10.63.0.0/24", "swarm")
        return self._way("swarm")

    def mdnp(self, etcd: str) -> Way:
        """The plugins end with the run."""
        for host, engine in zip(self.hosts, self.engines, strict=True):
            Plugin(host, options=[f"--etcd={etcd}"]).start()
            engine.docker("network", "create", "--driver=mdnp", "--ipam-driver=mdnp", *_OVERLAY, "mdnp")
        return self._way("mdnp")

    def _way(self, network: str) -> Way:
        near, far = (self._end(host, engine, network) for host, engine in zip(self.hosts, self.engines, strict=True))
        return Way(network, near, far)

    def _end(self, host: Host, engine: Engine, network: str) -> End:
        name = f"on-{network}"
        engine.docker("run", "--detach", f"--name={name}", f"--network={network}", IMAGE, "sleep", "infinity")
        address = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
        return End(Testbed(host, engine).key(name), engine.docker("inspect", f"--format={address}", name))


_OVERLAY = ("--opt=mdnp.mode=overlay", "--subnet=10.64.0.0/16")
