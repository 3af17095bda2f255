"""The cluster: whether its etcd is of use to this host, and whether the hosts reach each other and agree."""

from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from mdnp.dataplane import naming
from mdnp.doctor import Daemon, Facts, Finding, Json, given, need
from mdnp.doctor.checks.findings import listed, ok, trouble, warning
from mdnp.doctor.checks.host import OF_CLUSTER
from mdnp.model.network import IPAddress
from mdnp.model.options import Mode

_ALONE = "in no cluster: no etcd is set"
# What VXLAN puts before a frame: outer Ethernet counts for nothing of the MTU; IP, UDP, VXLAN, inner Ethernet do.
_OVERHEAD = {4: 50, 6: 70}
_CUT_OFF = "containers, networks and addresses go on; what other hosts change is not seen, and no new segment is made"


def etcd_reachable(facts: Facts) -> Iterator[Finding]:
    servers = need(facts.etcd)
    failed = {url: one.trouble for url, one in servers.items() if one.trouble}
    cut_off = len(failed) == len(servers)
    for url, said in failed.items():
        yield (trouble if cut_off else warning)(
            f"etcd {url}: {said}",
            _CUT_OFF if cut_off else "another one answers, and nothing is lost as long as one does",
            "start it, or mend what keeps us from it; `etcdctl endpoint health` asks it too",
        )
    clusters = {one.cluster for one in servers.values() if not one.trouble}
    if len(clusters) > 1:
        yield trouble(
            f"the servers in `etcd` are of {len(clusters)} clusters: {listed(servers)}",
            "what hosts tell depends on which one answers",
            "name only members of one cluster",
        )
    if not failed:
        yield ok(f"{len(servers)} answer" if servers else _ALONE)


def host_identity(facts: Facts) -> Iterator[Finding]:
    cluster = _cluster(facts)
    if cluster is None:
        yield ok(_ALONE)
        return
    host = cluster["host"]
    if cluster["trouble"] and cluster["connected"]:
        yield trouble(
            cluster["trouble"],
            "this host is not in the cluster: its containers and those of other hosts do not reach each other",
            "give each host its own host_address; a copied disk has a copied identity: stop mdnp on the copy, and take"
            " `mdnp.db` out of its state folder",
        )
    else:
        yield ok(f"{host['name']} {host['id']}")


def vtep_address(facts: Facts) -> Iterator[Finding]:
    if not _in_cluster(facts):
        yield ok(_ALONE)
        return
    vtep = _vtep(facts)
    if vtep is None and not isinstance(facts.daemon, Daemon):
        yield ok("that of the way to etcd, which the daemon looks for")
        return
    if vtep is None:
        yield trouble(
            "no address of this host is known for its tunnels",
            "no other host can send it frames",
            "set host_address to an address of the network that joins the hosts",
        )
        return
    if not _link_of(facts, vtep):
        yield trouble(
            f"no link of this host has {vtep}, the address of its tunnels",
            "frames of other hosts do not arrive here",
            "put the address on a link, or set host_address to one that is there",
        )
    hosts = given(facts.daemon, None)
    living = [one for one in (hosts.hosts if hosts else ()) if one["liveness"] == "alive"]
    for address, count in Counter(one["vtep"] for one in living).items():
        if count > 1:
            names = listed(one["name"] for one in living if one["vtep"] == address)
            yield trouble(
                f"{names} have the same address {address} for their tunnels",
                "frames go to whichever of them has it",
                "give each its own host_address",
            )


def vxlan(facts: Facts) -> Iterator[Finding]:
    if not _in_cluster(facts):
        yield ok(_ALONE)
        return
    failed = {name: said for name, said in need(facts.features).items() if said and name in OF_CLUSTER}
    for name, said in failed.items():
        yield trouble(
            f"{name}: {said.strip()}",
            "tunnels to other hosts are made of it",
            "a kernel with it (module: vxlan), and the package iproute2",
        )


def vxlan_port(facts: Facts) -> Iterator[Finding]:
    """The kernel lets all VXLAN links of a port share its socket, if their VNIs differ; nobody else may have it."""
    if not _in_cluster(facts):
        yield ok(_ALONE)
        return
    port = int(_setting(facts, "vxlan_port"))
    links = [one for one in need(facts.links) if _data(one).get("port") == port]
    ours = {_data(one)["id"] for one in links if one["ifname"].startswith(naming.TUNNEL_PREFIX)}
    others = [one for one in links if not one["ifname"].startswith(naming.TUNNEL_PREFIX)]
    wanted = ours | {one["vni"] for one in _overlays(facts)}
    for link in others:
        if _data(link)["id"] in wanted:
            yield trouble(
                f"{link['ifname']} has UDP port {port} and VNI {_data(link)['id']}, which a network of ours needs",
                "the tunnel of that network cannot be made",
                f"remove {link['ifname']}, or give it another VNI",
            )
    if not links and any(number == port for _, number in need(facts.asked)):
        yield trouble(
            f"a program has UDP port {port}",
            "the kernel cannot take it for tunnels: no network of a segment works",
            f"`ss -ulpn sport = {port}` shows who; end it, or set vxlan_port to another one on all hosts",
        )
    if others:
        yield ok(f"shared with {listed(one['ifname'] for one in others)}, which is no harm while VNIs differ")


def underlay_mtu(facts: Facts) -> Iterator[Finding]:
    vtep = _vtep(facts)
    link = _link_of(facts, vtep) if vtep else ""
    if vtep is None or not link:
        yield ok("no tunnel here")
        return
    mtu = next(one["mtu"] for one in need(facts.links) if one["ifname"] == link)
    fits = mtu - _OVERHEAD[vtep.version]
    for one in _overlays(facts):
        if one["mtu"] > fits:
            yield trouble(
                f"{one['bridge']} has MTU {one['mtu']}, and {link} with {mtu} carries {fits} in a tunnel",
                "large packets to other hosts are lost: connections begin, and then hang",
                f"an MTU of {one['mtu'] + _OVERHEAD[vtep.version]} for {link}, on all hosts and between them; or make"
                f" the network anew with -o com.docker.network.driver.mtu={fits}",
            )


def epoch(facts: Facts) -> Iterator[Finding]:
    cluster = _cluster(facts)
    if cluster is None:
        yield ok(_ALONE)
    elif cluster["waiting"]:
        yield trouble(
            f"etcd lost its data or was restored, and {listed(cluster['waiting'])} has not told yet what it has",
            "until then no segment and no block is new, so that nothing is given to two hosts",
            "start its daemon; a host that will not return: `mdnp host remove`",
        )
    else:
        yield ok(f"epoch {cluster['epoch']}")


def remarks(facts: Facts) -> Iterator[Finding]:
    cluster = _cluster(facts)
    for one in cluster["remarks"] if cluster else ():
        if not _of_clocks(one):
            yield trouble(
                f"{one['about']}: {one['text']}",
                "hosts tell what does not fit together; nothing is guessed, and one of them may not be reached",
                "`mdnp host inspect`, and restart or remove what should not have it",
            )


def networks_of_all(facts: Facts) -> Iterator[Finding]:
    cluster = _cluster(facts)
    rows = [(one, row) for one in (cluster["networks"] if cluster else ()) for row in one["hosts"]]
    for one, row in rows:
        if row["state"] == "failed":
            yield trouble(
                f"network {one['name']} is not on {row['name']}: {row['error']}",
                "containers that need it do not start there",
                "mend what it says: it is tried again; or `mdnp network rm`",
            )


def clock_skew(facts: Facts) -> Iterator[Finding]:
    cluster = _cluster(facts)
    for one in cluster["remarks"] if cluster else ():
        if _of_clocks(one):
            yield warning(
                one["text"],
                "nothing of mdnp's goes by it; logs and the history of different hosts do not match",
                "keep both clocks by NTP",
            )


def _of_clocks(remark: Json) -> bool:
    return remark["about"] == "host" and "clock" in remark["text"]


def _in_cluster(facts: Facts) -> bool:
    return bool(need(facts.etcd))


def _cluster(facts: Facts) -> Json | None:
    """As the daemon tells; None where there is none."""
    if not _in_cluster(facts):
        return None
    found: Json | None = need(facts.daemon).status.get("cluster")
    return found


def _setting(facts: Facts, name: str) -> str:
    """The daemon's, which may have been given flags."""
    if isinstance(facts.daemon, Daemon):
        return facts.daemon.settings[name]
    return str(getattr(facts.settings, name))


def _vtep(facts: Facts) -> IPAddress | None:
    """What the daemon takes; without it what is set."""
    if isinstance(facts.daemon, Daemon):
        text = (facts.daemon.status.get("cluster") or {"host": {"vtep": ""}})["host"]["vtep"]
        return ip_address(text) if text else None
    return facts.settings.host_address


def _link_of(facts: Facts, address: IPAddress) -> str:
    """The link that has an address, "" if none has."""
    for row in need(facts.addresses):
        if any(ip_address(one["local"]) == address for one in row.get("addr_info", ())):
            return str(row["ifname"])
    return ""


def _overlays(facts: Facts) -> list[Json]:
    daemon = given(facts.daemon, None)
    return [one for one in daemon.networks if one.get("kind") == Mode.OVERLAY] if daemon else []


def _data(link: Json) -> dict[str, Any]:
    info = link.get("linkinfo") or {}
    return (info.get("info_data") or {}) if info.get("info_kind") == "vxlan" else {}
