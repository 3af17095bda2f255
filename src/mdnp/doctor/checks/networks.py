"""Our networks as the checks see them: from the daemon or, when it does not answer, from the kernel and Docker."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from mdnp.dataplane import naming
from mdnp.doctor import Daemon, Docker, Facts, Json, need
from mdnp.doctor.claims import bridge_of
from mdnp.doctor.firewall import IPNetwork, Packet


@dataclass(frozen=True)
class Seen:
    """A network. `way_out` says that its traffic to the outside passes this host."""

    bridge: str
    subnets: tuple[IPNetwork, ...]
    mtu: int
    way_out: bool
    icc: bool = True

    def families(self) -> set[int]:
        return {one.version for one in self.subnets}


def seen(facts: Facts) -> tuple[Seen, ...]:
    if isinstance(facts.daemon, Daemon):
        return tuple(map(_promised, facts.daemon.networks))
    return tuple(_in_the_kernel(facts))


def bridges(facts: Facts) -> frozenset[str]:
    return frozenset(one.bridge for one in seen(facts))


def uplink(facts: Facts, family: int) -> str:
    """The link of the default route, "" without one."""
    return next((one["dev"] for one in default_routes(facts) if _version(one) == family), "")


def default_routes(facts: Facts) -> list[Json]:
    """Those of the main table that lead to a link."""
    return [one for one in need(facts.routes) if one.get("dst") == "default" and "table" not in one and "dev" in one]


def packets(facts: Facts, one: Seen, *, within: bool = False) -> Iterator[Packet]:
    """What should pass: out to the world and in through a published port, or `within` the network itself."""
    for subnet in one.subnets:
        family = subnet.version
        if within:
            yield Packet(family, one.bridge, one.bridge, subnet, subnet)
        elif one.way_out:
            out = uplink(facts, family)
            yield Packet(family, one.bridge, out, subnet)
            yield Packet(family, out, one.bridge, None, subnet, translated=True)


def _promised(view: Json) -> Seen:
    subnets = tuple(ip_network(subnet["pool"]) for subnet in view["subnets"])
    way_out = not view["internal"] and view["gateway"] == "self"
    return Seen(view["bridge"], subnets, view["mtu"], way_out, view["icc"])


def _in_the_kernel(facts: Facts) -> Iterator[Seen]:
    """The gateway's addresses show the subnets; a bridge without any has no way out through us."""
    internal = set()
    if isinstance(facts.docker, Docker):
        internal = {bridge_of(one) for one in facts.docker.networks if one.get("Internal")}
    addressed = {row["ifname"]: row for row in need(facts.addresses)}
    for link in need(facts.links):
        name = link["ifname"]
        if is_ours(link) and link.get("linkinfo", {}).get("info_kind") == "bridge" and not naming.is_annex(name):
            subnets = tuple(_subnets(addressed.get(name, {})))
            yield Seen(name, subnets, link["mtu"], bool(subnets) and name not in internal)


def is_ours(link: Json) -> bool:
    return bool(link.get("group") == str(naming.GROUP))


def _subnets(row: Json) -> Iterator[IPNetwork]:
    for one in row.get("addr_info", ()):
        if one.get("scope") == "global":
            yield ip_interface(f"{one['local']}/{one['prefixlen']}").network


def _version(route: Json) -> int:
    """Without a gateway ip(8) does not say; IPv6 routes always have a preference."""
    return 6 if "pref" in route or ":" in route.get("gateway", "") else 4
