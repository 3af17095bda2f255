"""
`make demo-cluster`: a network across three hosts, told with the commands that a user would type on each.

Three engines of two versions, the plugin on each and an etcd run in namespaces of their own; the machine's network is
not touched, and nothing is left.
"""

import os
import re
import sys
import time

from rig.cluster import Cluster
from rig.command import RigError, until
from rig.demo import Demo
from rig.image import IMAGE
from rig.sandbox import Run
from rig.truth import KEYS, OF_NETWORKS

_CREATE = "network create -d mdnp --ipam-driver mdnp -o mdnp.mode=overlay --subnet 10.50.0.0/16 blue"
_SLEEP = f"{IMAGE} sleep 600"
_WEB = f"{IMAGE} httpd -f -h /www"
_SOON_S = 20.0


class Scene:
    """Three hosts, each with a teller of its own; the prompt says on which a command is typed."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.a, self.b, self.c = self.hosts = tuple(
            Demo(node.engine, node.plugin, f"{node.label}#") for node in cluster.nodes
        )

    @property
    def faults(self) -> int:
        return sum(host.faults for host in self.hosts)

    def tell(self, text: str) -> None:
        self.a.tell(text)

    def etcd(self, line: str) -> str:
        """Where etcd runs; without empty lines."""
        said = "\n".join(self.cluster.etcd.ctl(*line.split()).out.split())
        print(f"etcd# etcdctl {line}\n{said}", flush=True)
        return said

    def pings(self, host: Demo, container: str, address: str) -> None:
        said = host.docker(f"exec {container} ping -c 3 -i 0.2 {address}")
        host.expect(" 0% packet loss" in said, f"{address} answers")

    def address(self, number: int, container: str) -> str:
        """A container's, not shown."""
        engine = self.cluster.nodes[number].engine
        return engine.docker("inspect", "--format={{.NetworkSettings.Networks.blue.IPAddress}}", container)

    def soon(self, number: int, command: str, text: str, *, there: bool = True) -> None:
        """Wait until what `mdnp COMMAND` says on a host has a text, or has it no more."""
        plugin = self.cluster.nodes[number].plugin
        until(lambda: (text in plugin.attempt(*command.split()).said) is there, f"`mdnp {command}`: {text}", _SOON_S)


def main() -> None:
    if os.geteuid():
        sys.exit("demo: needs root, for network namespaces and Docker engines")
    started = time.monotonic()
    print("# starting three Docker engines, mdnp on each, and an etcd, in namespaces of their own", flush=True)
    with Run() as run:
        cluster = Cluster(run)
        cluster.start()
        scene = Scene(cluster)
        story(scene)
        cluster.close()
    took = time.monotonic() - started
    if scene.faults:
        sys.exit(f"# demo: {scene.faults} things were not as they should be (see NOT TRUE above)")
    print(
        f"\n# Shown in {took:.0f} s: a network across three real Docker engines without Swarm. Its containers reach"
        " each other wherever they run, by name too,"
        "\n# and keep their address when they move; each host is its own way out and in; without etcd all goes on; a"
        "\n# host that dies is withdrawn; and nothing was left."
    )


def story(scene: Scene) -> None:
    _together(scene)
    _names(scene)
    _move(scene)
    _by_one_command(scene)
    _without_etcd(scene)
    _death(scene)
    _end(scene)


def _together(scene: Scene) -> None:
    scene.tell(f"Each host runs `mdnp serve --etcd {scene.cluster.etcd.url}`, and they have found each other")
    scene.soon(0, "host ls", "c ")
    for host in scene.hosts:
        host.docker("version --format {{.Server.Version}}")
    scene.a.mdnp("host ls")

    scene.tell("A network across them: the same command on each host")
    for host in scene.hosts:
        host.docker(_CREATE)

    scene.tell("A container on each; they reach each other by address, wherever they are")
    scene.a.docker(f"run -d --name web --net=blue -p 8080:80 {_WEB}")
    scene.b.docker(f"run -d --name db --net=blue --ip=10.50.77.7 {_SLEEP}")
    scene.c.docker(f"run -d --name job --net=blue {_SLEEP}")
    web = scene.address(0, "web")
    scene.pings(scene.b, "db", web)
    scene.pings(scene.c, "job", "10.50.77.7")

    scene.tell("One interface in the container; its own host is its way out, and its way in")
    scene.a.docker("exec web ip address show eth0")
    scene.a.docker("exec web ip route")
    scene.pings(scene.c, "job", "192.0.2.1")
    page = scene.a.outside(f"curl -sS -m 3 http://{scene.a.host_address}:8080/")
    scene.a.expect("busybox" in page, "the page comes")

    scene.tell("A host reaches containers on the others")
    scene.c.expect("busybox" in scene.c.host(f"curl -sS -m 3 http://{web}/"), "the page comes")

    scene.tell("How: rows of the kernel, told by etcd; nothing is flooded to learn where a container is")
    scene.c.host("bridge fdb show brport " + _tunnel(scene, 2))
    scene.a.mdnp("status")


def _names(scene: Scene) -> None:
    scene.tell("By name too: Docker's own DNS knows the containers of its host alone, and mdnp those of the others")
    scene.pings(scene.c, "job", "web")
    for name in ("db.blue", "db.blue.mdnp"):
        scene.a.expect("10.50.77.7" in scene.a.docker(f"exec web nslookup -type=a {name}"), f"{name} has its address")
    said = scene.b.docker(f"exec db nslookup {scene.address(0, 'web')}")
    scene.b.expect("web.blue" in said, "an address has its name")


def _tunnel(scene: Scene, number: int) -> str:
    identity = scene.cluster.nodes[number].engine.docker("network", "inspect", "--format={{.Id}}", "blue")
    return f"mdx-{identity[:11]}"


def _move(scene: Scene) -> None:
    scene.tell("db moves from b to c and keeps its address and its name")
    scene.b.docker("rm -f db")
    scene.c.docker(f"run -d --name db --net=blue --ip=10.50.77.7 {_SLEEP}")
    scene.pings(scene.a, "web", "10.50.77.7")
    scene.pings(scene.a, "web", "db")

    scene.tell("An address is given once in the cluster, and hosts must agree on what they share")
    said = scene.a.refused(f"run --rm --net=blue --ip=10.50.77.7 {IMAGE} true")
    scene.a.expect("10.50.77.7" in said, "the address is named")
    green = _CREATE.replace("10.50", "10.70").replace("blue", "green")
    scene.a.docker(green)
    said = scene.b.refused(green.replace("green", "-o mdnp.multicast=off green"))
    scene.b.expect("multicast" in said, "the difference is named")
    scene.a.docker("network rm green")


def _by_one_command(scene: Scene) -> None:
    scene.tell("Or a network on all hosts by one command")
    scene.a.mdnp("network create crew --subnet 10.60.0.0/24")
    for number in range(3):
        scene.soon(number, "network ls", "crew")
    scene.b.docker("network ls --filter driver=mdnp")
    scene.c.mdnp("network rm crew")
    for number in range(3):
        scene.soon(number, "network ls", "crew", there=False)


def _without_etcd(scene: Scene) -> None:
    scene.tell("etcd is stopped: containers talk, stop and start all the same")
    scene.cluster.etcd.stop()
    scene.soon(1, "status", "no etcd is of use")
    scene.pings(scene.a, "web", "10.50.77.7")
    scene.b.docker(f"run -d --name new --net=blue {_SLEEP}")
    scene.b.mdnp("status", well=False)

    scene.tell("What only all can agree on has to wait, and says so")
    said = scene.b.refused(_CREATE.replace("10.50", "10.70").replace("blue", "green"))
    scene.b.expect("etcd" in said, "etcd is named")

    scene.tell("etcd is back: the others learn of the new container")
    scene.cluster.etcd.start()
    new = scene.address(1, "new")
    until(lambda: _answers(scene, new), f"{new} to answer", _SOON_S)
    scene.pings(scene.a, "web", new)


def _answers(scene: Scene, address: str) -> bool:
    return scene.cluster.nodes[0].engine.attempt("exec", "web", "ping", "-c", "1", "-W", "1", address).code == 0


def _death(scene: Scene) -> None:
    scene.tell("Host c dies: its plug is pulled. After its lease the others withdraw it")
    dead = scene.cluster.nodes[2]
    scene.cluster.unplug(dead.host)
    dead.plugin.kill()
    scene.soon(0, "host ls", "gone")
    scene.a.mdnp("host ls")

    scene.tell("db had a fixed address there. Its operator says that c will not come back, and db starts on a")
    said = scene.a.refused(f"run --rm --net=blue --ip={scene.address(2, 'job')} {IMAGE} true")
    scene.a.expect("host c" in said and "mdnp host remove" in said, "what to do is said")
    scene.a.mdnp("host remove c --yes")
    scene.a.docker(f"run -d --name db --net=blue --ip=10.50.77.7 {_SLEEP}")
    scene.pings(scene.b, "new", "10.50.77.7")


def _end(scene: Scene) -> None:
    scene.tell("Remove everything; nothing is left, on the hosts or in etcd")
    scene.a.docker("rm -f web db")
    scene.b.docker("rm -f new")
    for host in (scene.a, scene.b):
        host.docker("network rm blue")
        until(lambda host=host: "mdv-" not in host.links(), "the last veth to go", 5)  # type: ignore[misc]
        left = host.host("ip -brief link")
        host.expect("md" not in left.replace("cmd", ""), "no link of mdnp's is left")
    scene.a.mdnp("status")
    left = scene.etcd(f"get --prefix --keys-only {KEYS}/")
    scene.a.expect(not set(re.findall(rf"{KEYS}/(\w+)", left)) & {*OF_NETWORKS}, "etcd has nothing of blue")


if __name__ == "__main__":
    try:
        main()
    except RigError as error:
        sys.exit(f"demo: {error}")
