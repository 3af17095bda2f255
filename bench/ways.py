"""
Ways from a container on one host to a container on another, on one underlay.

vxlan    a VXLAN link in a namespace of its own on each host, and nothing else: the floor
bridged  veth, bridge and VXLAN link made by hand, without a rule: the least that containers on a bridge need
swarm    Docker's own overlay network, attachable, of two engines in a swarm
mdnp     our overlay network, of the same two engines
"""

from dataclasses import dataclass
from pathlib import Path

from rig.cluster import Cluster, Node
from rig.host import Namespace, Underlay
from rig.image import IMAGE

_OVERLAY = ("--opt=mdnp.mode=overlay", "--subnet=10.64.0.0/16")
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


def swarm(cluster: Cluster) -> Way:
    """Made on the engines of two hosts."""
    first, second = cluster.nodes
    manager, worker = (str(node.host.address.ip) for node in cluster.nodes)
    first.engine.docker("swarm", "init", f"--advertise-addr={manager}")
    token = first.engine.docker("swarm", "join-token", "--quiet", "worker")
    second.engine.docker("swarm", "join", f"--token={token}", f"--advertise-addr={worker}", f"{manager}:2377")
    first.engine.docker("network", "create", "--driver=overlay", "--attachable", "--subnet=10.63.0.0/24", "swarm")
    return _between("swarm", cluster)


def mdnp(cluster: Cluster) -> Way:
    """Made on the engines of two hosts, whose plugins run."""
    for node in cluster:
        node.engine.docker("network", "create", "--driver=mdnp", "--ipam-driver=mdnp", *_OVERLAY, "mdnp")
    return _between("mdnp", cluster)


def _between(network: str, cluster: Cluster) -> Way:
    near, far = (_container(node, network) for node in cluster.nodes)
    return Way(network, near, far)


def _container(node: Node, network: str) -> End:
    name = f"on-{network}"
    node.engine.docker("run", "--detach", f"--name={name}", f"--network={network}", IMAGE, "sleep", "infinity")
    address = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return End(node.testbed.key(name), node.engine.docker("inspect", f"--format={address}", name))
