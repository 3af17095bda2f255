"""
Traffic on one host, over Docker's bridge network and over ours in turn: between containers, and from outside through a
published port. What counts is the ratio to Docker's in the same round.
"""

from ipaddress import IPv4Address
from typing import Any

from bench import traffic
from bench.bed import BRIDGE, OURS, bed
from bench.traffic import ECHO_PORT, IPERF_PORT
from bench.ways import End, Way
from rig.host import UPLINK
from rig.image import IMAGE
from rig.testbed import Testbed

_NETWORKS = {BRIDGE: ("--driver=bridge",), OURS: ("--driver=mdnp", "--ipam-driver=mdnp")}


def run() -> list[dict[str, Any]]:
    with bed() as one:
        ends = {name: _ends(one.testbed, name, number) for number, name in enumerate(_NETWORKS)}
        between = [Way(name, near, far) for name, (near, far, _) in ends.items()]
        published = [Way(name, End(one.host.underlay.path, ""), far) for name, (_, _, far) in ends.items()]
        return [
            {"from": place, **row}
            for place, ways in (("a container", between), ("outside, published", published))
            for row in traffic.measure(ways, BRIDGE)
        ]


def _ends(testbed: Testbed, name: str, number: int) -> tuple[End, End, End]:
    """Two containers, and the second as it is seen from outside: by an address of the host's own."""
    own = IPv4Address(int(testbed.host.address.ip) + 100 + number)
    testbed.host.ip(f"address add {own}/24 dev {UPLINK}")
    testbed.engine.docker("network", "create", *_NETWORKS[name], f"--subnet=10.{83 + number}.0.0/24", f"on-{name}")
    ports = [f"-p={own}:{port}:{port}/{kind}" for port in (IPERF_PORT, ECHO_PORT) for kind in ("tcp", "udp")]
    near, far = (_container(testbed, name, role, options) for role, options in (("near", []), ("far", ports)))
    return near, far, End(far.namespace, str(own))


def _container(testbed: Testbed, network: str, role: str, options: list[str]) -> End:
    name = f"{network}-{role}"
    testbed.engine.docker("run", "-d", f"--name={name}", f"--net=on-{network}", *options, IMAGE, "sleep", "infinity")
    address = f'{{{{(index .NetworkSettings.Networks "on-{network}").IPAddress}}}}'
    return End(testbed.key(name), testbed.engine.docker("inspect", f"--format={address}", name))


if __name__ == "__main__":
    for each in run():
        print(each)
