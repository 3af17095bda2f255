"""Facts of a host that is well, for tests to spoil one at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mdnp
from mdnp.config import Settings, shown
from mdnp.dataplane.naming import GROUP
from mdnp.doctor import Clock, Daemon, Disk, Docker, Etcd, Facts, File, Modules, Units
from mdnp.doctor.checks import CHECKS, judge
from mdnp.doctor.firewall import Chain, from_iptables

NET = "a1" + 62 * "0"
WEB = "b2" + 62 * "0"
BRIDGE = "mdb-a1000000000"
LINK = "mdv-b2000000000"
NOW = 1_790_000_000.0
GIB = 1024**3

IPTABLES = """
*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -o mdb-+ -m comment --comment mdnp -j ACCEPT
-A DOCKER-USER -i mdb-+ -m comment --comment mdnp -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
"""

NETWORK: Mapping[str, Any] = {
    "id": NET,
    "bridge": BRIDGE,
    "subnets": [{"pool": "10.1.0.0/24", "gateway": "10.1.0.1"}, {"pool": "fd01::/64", "gateway": "fd01::1"}],
    "mtu": 1500,
    "internal": False,
    "gateway": "self",
    "icc": True,
    "endpoints": 1,
}
ENDPOINT: Mapping[str, Any] = {"id": WEB, "network": NET, "addresses": ["10.1.0.2/24", "fd01::2/64"]}
STATUS: Mapping[str, Any] = {
    "version": mdnp.__version__,
    "drift": [],
    "lost": [],
    "trouble": "",
    "nearly_full": [],
    "store": {"trouble": ""},
}
DAEMON = Daemon(STATUS, [NETWORK], [ENDPOINT], [{"host_port": 8080}], [], shown(Settings()))

CONTAINER = {"Names": ["/web"], "NetworkSettings": {"Networks": {"mynet": {"NetworkID": NET, "EndpointID": WEB}}}}
DOCKER = Docker(
    {"Version": "28.5.2+dfsg4"},
    {"FirewallBackend": {"Driver": "iptables"}, "Plugins": {"Network": ["bridge", "mdnp"]}},
    [{"Id": NET, "Name": "mynet", "Driver": "mdnp", "Internal": False, "Options": {}}],
    [CONTAINER],
)

LINKS: Sequence[Mapping[str, Any]] = (
    {"ifname": "eth0", "mtu": 1500},
    {"ifname": BRIDGE, "mtu": 1500, "group": str(GROUP), "linkinfo": {"info_kind": "bridge"}},
    {"ifname": LINK, "mtu": 1500, "group": str(GROUP), "master": BRIDGE},
)
ADDRESSES: Sequence[Mapping[str, Any]] = (
    {"ifname": "eth0", "addr_info": [{"local": "192.0.2.2", "prefixlen": 24, "scope": "global"}]},
    {
        "ifname": BRIDGE,
        "addr_info": [
            {"local": "10.1.0.1", "prefixlen": 24, "scope": "global"},
            {"local": "fd01::1", "prefixlen": 64, "scope": "global"},
            {"local": "fe80::1", "prefixlen": 64, "scope": "link"},
        ],
    },
)
ROUTES: Sequence[Mapping[str, Any]] = (
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
    {"dst": "10.1.0.0/24", "dev": BRIDGE},
    {"dst": "192.0.2.0/24", "dev": "eth0"},
    {"type": "local", "dst": "10.1.0.1", "dev": BRIDGE, "table": "local"},
    {"dst": "default", "gateway": "2001:db8::1", "dev": "eth0", "pref": "medium"},
    {"type": "unreachable", "dst": "2001:db8:f::/48", "dev": "lo", "pref": "medium"},
)
SYSCTLS: Mapping[str, str] = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/rp_filter": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/bridge/bridge-nf-call-ip6tables": "1",
    "net/netfilter/nf_conntrack_count": "10",
    "net/netfilter/nf_conntrack_max": "1000",
    "net/ipv4/neigh/default/gc_thresh3": "1024",
    "net/ipv6/neigh/default/gc_thresh3": "1024",
    "net/ipv4/ip_local_port_range": "32768\t60999",
    "net/core/netdev_max_backlog": "1000",
}
FILES: Mapping[str, File] = {
    "plugin socket": File("socket", 0o600, 0),
    "operator's socket": File("socket", 0o600, 0),
    "state folder": File("folder", 0o700, 0),
    "database": File("file", 0o600, 0),
}
PLACES = {role: Path("/", role.replace(" ", "-")) for role in FILES}

SOCKET_UNIT = {"Unit.Before": ["docker.service"], "Install.WantedBy": ["sockets.target"]}
UNITS = Units(
    True,
    {"mdnp.socket": SOCKET_UNIT, "mdnp.service": {}, "docker.service": {"Unit.After": ["network-online.target"]}},
    frozenset({"mdnp.socket"}),
)


def chains(iptables: str = IPTABLES, ip6tables: str = IPTABLES.replace("172.17.0.0/16", "fd17::/64")) -> list[Chain]:
    return [*from_iptables("iptables", iptables), *from_iptables("ip6tables", ip6tables)]


WELL = Facts(
    settings=Settings(),
    superuser=True,
    configuration="",
    daemon=DAEMON,
    docker=DOCKER,
    unclaimed=frozenset(),
    links=LINKS,
    addresses=ADDRESSES,
    routes=ROUTES,
    neighbours=[{"dst": "10.1.0.2", "state": ["REACHABLE"]}, {"dst": "10.1.0.9", "state": ["PERMANENT"]}],
    chains=chains(),
    sysctls=SYSCTLS,
    features={"veth": "", "bridge": ""},
    modules=Modules("6.1.0", modular=True, folder=True),
    library="/usr/lib/libnftables.so.1.1.0",
    nft="nftables v1.0.6",
    iptables="iptables v1.8.9 (nf_tables)",
    files=FILES,
    places=PLACES,
    disk=Disk(Path("/var/lib/mdnp"), 100 * GIB, 200 * GIB, 10_000, 20_000),
    listening=frozenset({"/run/docker/plugins/.mdnp.sock.77", "/run/mdnp/.admin.sock.77"}),
    asked=frozenset(),
    resolvers=("192.0.2.53",),
    resolved=(),
    specs=(),
    units=UNITS,
    clock=Clock(NOW, NOW - 5, synchronised=True, keepers=frozenset({"chronyd"})),
    certificates={"/etc/mdnp/tls/server.pem": NOW + 400 * 86400},
    etcd={},
)

# The same host as one of two.

ETCD = "http://192.0.2.9:2379"
VNI = 0x6D0001
CLUSTER: Mapping[str, Any] = {
    "connected": True,
    "trouble": "",
    "epoch": 1,
    "host": {"id": "1" * 16, "name": "host1", "vtep": "192.0.2.2"},
    "waiting": [],
    "remarks": [],
    "networks": [],
}
HOSTS: Sequence[Mapping[str, Any]] = (
    {"name": "host1", "vtep": "192.0.2.2", "liveness": "alive"},
    {"name": "host2", "vtep": "192.0.2.3", "liveness": "alive"},
    {"name": "host3", "vtep": "192.0.2.3", "liveness": "gone"},
)
OVERLAY: Mapping[str, Any] = {**NETWORK, "kind": "overlay", "mtu": 1450, "vni": VNI}
TUNNEL: Mapping[str, Any] = {
    "ifname": "mdx-a1000000000",
    "mtu": 1450,
    "group": str(GROUP),
    "master": BRIDGE,
    "linkinfo": {"info_kind": "vxlan", "info_data": {"id": VNI, "port": 4789, "local": "192.0.2.2"}},
}
OWN_END = "mdh-a1000000000"
MEMBER = replace(
    WELL,
    daemon=replace(
        DAEMON,
        status={**STATUS, "cluster": CLUSTER},
        networks=[OVERLAY],
        settings={**DAEMON.settings, "etcd": ETCD},
        hosts=HOSTS,
    ),
    links=[*LINKS, TUNNEL, {"ifname": OWN_END, "mtu": 1450, "group": str(GROUP)}],
    addresses=[
        *ADDRESSES,
        {"ifname": OWN_END, "addr_info": [{"local": "10.1.0.9", "prefixlen": 32, "scope": "global"}]},
    ],
    routes=[*ROUTES, {"dst": "10.1.0.0/24", "dev": OWN_END, "table": str(GROUP)}],
    asked=frozenset({("00000000", 4789)}),
    features={"veth": "", "bridge": "", "vxlan": "", "neigh-suppress": ""},
    etcd={ETCD: Etcd(7)},
)


def told(**changes: Any) -> Daemon:
    """The daemon of the host in the cluster, with what it tells of that changed."""
    daemon = MEMBER.daemon
    assert isinstance(daemon, Daemon)
    return replace(daemon, status={**STATUS, "cluster": {**CLUSTER, **changes}})


def spoiled(**changes: Any) -> Facts:
    return replace(WELL, **changes)


def promised(**changes: Any) -> Daemon:
    """The daemon, with its network changed."""
    return replace(DAEMON, networks=[{**NETWORK, **changes}])


def sysctls(**changes: str) -> dict[str, str]:
    """By the last part of their names."""
    return {name: changes.get(name.rpartition("/")[2], value) for name, value in SYSCTLS.items()}


def found(facts: Facts) -> dict[str, str]:
    """What is not well: by check its verdict and what it found first."""
    return {
        report.name: f"{report.verdict}: {report.findings[0].what}"
        for report in judge(facts, tuple(CHECKS))
        if report.verdict != "ok"
    }
