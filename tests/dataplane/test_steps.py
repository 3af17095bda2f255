"""Steps print as the commands that an operator would type."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from mdnp.dataplane.naming import DOOMED_GROUP, GROUP
from mdnp.dataplane.objects import Accept, Addr, Bridge, Element, HostPort, Jump, Link, Sysctl, Table, Veth, Way
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom, Set, Step
from mdnp.model.mac import MAC
from mdnp.model.port import Protocol, Target
from tests.world import ANY4, a_socket

MAC_A, MAC_B = MAC("02:00:00:00:00:0a"), MAC("02:00:00:00:00:0b")
LINK = Link("mdb-a", "bridge", 1500, mac=MAC_A)
PORT = Link("mdv-a", "veth", 1500, master="mdb-a")
TABLE = Table("inet", "chain forward { accept; }")
PORTS = Element("inet", "ports4", ("tcp", "8080"), ("10.1.0.2", "80"))
PROXY = Target(ip_address("10.1.0.2"), 53)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (
            Add(Bridge("mdb-a", MAC_A, 1500, "of a"), NOBODY),
            f"ip link add mdb-a address {MAC_A} mtu 1500 group {GROUP} alias 'of a' up type bridge",
        ),
        (
            Add(Veth("mdv-a", "mdp-a", MAC_B, 1400, "mdb-a", "of b"), NOBODY),
            (
                f"ip link add mdv-a mtu 1400 master mdb-a group {GROUP} alias 'of b' up"
                f" type veth peer mdp-a address {MAC_B} mtu 1400"
            ),
        ),
        (Add(Addr("mdb-a", ip_interface("10.1.0.1/24")), NOBODY), "ip addr add 10.1.0.1/24 dev mdb-a"),
        (Add(Addr("mdb-a", ip_interface("fd00::1/64")), NOBODY), "ip addr add fd00::1/64 dev mdb-a"),
        (
            Add(Accept(4, Way.IN, "mdb-+"), NOBODY),
            "iptables -I DOCKER-USER -i mdb-+ -m comment --comment mdnp -j ACCEPT",
        ),
        (
            Delete(Accept(6, Way.OUT, "mdb-a"), NOBODY),
            "ip6tables -D DOCKER-USER -o mdb-a -m comment --comment mdnp -j ACCEPT",
        ),
        (Add(Jump(6), NOBODY), "ip6tables -I FORWARD -m comment --comment mdnp -j DOCKER-USER"),
        (Delete(Jump(4), NOBODY), "iptables -D FORWARD -m comment --comment mdnp -j DOCKER-USER"),
        (Add(TABLE, NOBODY), "nft add table inet mdnp with its chains and rules"),
        (Delete(TABLE, NOBODY), "nft delete table inet mdnp"),
        (
            Add(Element("bridge", "macs", ('"mdv-a"', MAC_A)), NOBODY),
            f'nft add element bridge mdnp macs {{ "mdv-a" . {MAC_A} }}',
        ),
        (Delete(PORTS, NOBODY), "nft delete element inet mdnp ports4 { tcp . 8080 : 10.1.0.2 . 80 }"),
        (
            Add(Sysctl("net/ipv4/conf/mdb-a.7/route_localnet", "1"), NOBODY),
            "sysctl -w net/ipv4/conf/mdb-a.7/route_localnet=1",
        ),
        (Add(HostPort(a_socket(ANY4, 8080)), NOBODY), "hold port tcp 0.0.0.0:8080"),
        (
            Delete(HostPort(a_socket("::1", 53, Protocol.UDP), PROXY), NOBODY),
            "let go of port udp [::1]:53 proxy 10.1.0.2:53",
        ),
        (Delete(LINK, NOBODY), "ip link del mdb-a"),
        (Doom(PORT, NOBODY), f"ip link set mdv-a group {DOOMED_GROUP}"),
        (Set(LINK, Link("mdb-a", "bridge", 1400, mac=MAC_A), NOBODY), "ip link set mdb-a mtu 1500"),
        (Set(LINK, Link("mdb-a", "bridge", 1500, mac=MAC_B), NOBODY), f"ip link set mdb-a address {MAC_A}"),
        (Set(LINK, Link("mdb-a", "bridge", 1500, mac=MAC_A, up=False), NOBODY), "ip link set mdb-a up"),
        (Set(LINK, Link("mdb-a", "bridge", 1500, master="vrf-a", mac=MAC_A), NOBODY), "ip link set mdb-a nomaster"),
        (Set(PORT, Link("mdv-a", "veth", 1500), NOBODY), "ip link set mdv-a master mdb-a"),
        (
            Set(PORT, Link("mdv-a", "veth", 1400, master="br0", up=False), NOBODY),
            "ip link set mdv-a mtu 1500 master mdb-a up",
        ),
        (Set(replace(PORT, hairpin=True), PORT, NOBODY), "ip link set mdv-a type bridge_slave hairpin on"),
        (
            Set(PORT, replace(PORT, hairpin=True, mtu=1400), NOBODY),
            "ip link set mdv-a mtu 1500 type bridge_slave hairpin off",
        ),
    ],
)
def test_a_step_prints_as_the_command_for_it(step: Step, text: str) -> None:
    assert str(step) == text
