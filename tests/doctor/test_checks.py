"""The checks by values: a host that is well, and what is found when one fact of it is another."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mdnp.config import Settings
from mdnp.doctor import Clock, Disk, File, Modules, Units, Unknown, Verdict
from mdnp.doctor.checks import CHECKS, chosen, judge
from mdnp.model.errors import InvalidParameter
from tests.doctor.wards import (
    ADDRESSES,
    BRIDGE,
    DAEMON,
    DOCKER,
    FILES,
    GIB,
    IPTABLES,
    LINK,
    LINKS,
    NET,
    NOW,
    ROUTES,
    SOCKET_UNIT,
    STATUS,
    UNITS,
    WELL,
    chains,
    found,
    promised,
    spoiled,
    sysctls,
)

_WITHOUT_OURS = IPTABLES.replace("-A FORWARD -j DOCKER-USER\n", "")
_LEGACY = [replace(one, by="iptables-legacy") for one in chains()]


def units(enabled: frozenset[str] = frozenset({"mdnp.socket"}), **changes: Any) -> Units:
    """`socket`, `service` and `docker` are the units' settings."""
    names = {"socket": "mdnp.socket", "service": "mdnp.service", "docker": "docker.service"}
    return Units(True, {**UNITS.units, **{names[key]: value for key, value in changes.items()}}, enabled)


def test_a_host_that_is_well_has_no_finding() -> None:
    assert found(WELL) == {}


def test_names_are_in_kebab_case_and_in_the_operators_page() -> None:
    page = (Path(__file__).parents[2] / "docs/operating.md").read_text()

    assert all(name == name.lower() and name.replace("-", "").isalnum() for name in CHECKS)
    assert [name for name in CHECKS if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize(
    ("facts", "check", "says"),
    [
        ({"configuration": Unknown("x: no")}, "configuration", "trouble: the settings cannot be used: x: no"),
        (
            {"daemon": replace(DAEMON, status={**STATUS, "version": "0.0.9"})},
            "version",
            "warning: the daemon is mdnp 0.0",
        ),
        (
            {"settings": Settings(grace=7)},
            "settings-in-force",
            "warning: grace is '120' in the daemon, and '7' in the configuration",
        ),
        (
            {"daemon": replace(DAEMON, status={**STATUS, "store": {"trouble": "disk full"}})},
            "store",
            "trouble: disk full",
        ),
        ({"files": {**FILES, "plugin socket": None}}, "plugin-socket", "trouble: /run/docker/plugins/mdnp.sock is not"),
        (
            {"files": {**FILES, "plugin socket": File("file", 0o600, 0)}},
            "plugin-socket",
            "trouble: /run/docker/plugins",
        ),
        ({"listening": frozenset({"/run/mdnp.sock"})}, "plugin-socket", "trouble: /run/docker/plugins/mdnp.sock is th"),
        ({"specs": (Path("/etc/docker/plugins/mdnp.json"),)}, "duplicate-plugin", "warning: mdnp can be found in more"),
        (
            {"docker": replace(DOCKER, info={"Plugins": {"Network": ["mdnp", "example.com/me/mdnp:2"]}})},
            "duplicate-plugin",
            "warning: mdnp can be found in more than one way: /run/docker/plugins/mdnp.sock, example.com/me/mdnp:2",
        ),
        (
            {"settings": Settings(Path("/run/x/mdnp.sock")), "listening": frozenset({"/run/x/mdnp.sock"})},
            "plugin-socket",
            "trouble: /run/x/mdnp.sock is not where Docker looks, and no file leads there",
        ),
        ({"certificates": {"/c": NOW + 864000}}, "certificates", "warning: certificate /c expires in 10 days"),
        ({"certificates": {"/c": NOW - 864000}}, "certificates", "trouble: certificate /c has expired 10 days ago"),
        ({"certificates": {"/c": Unknown("none")}}, "certificates", "trouble: certificate /c cannot be read: none"),
        ({"units": units(enabled=frozenset())}, "unit-order", "trouble: mdnp.socket is not enabled"),
        (
            {"units": units(socket={"Unit.DefaultDependencies": ["no"]})},
            "unit-order",
            "trouble: mdnp.socket is not ordered before docker.service",
        ),
        (
            {"units": units(socket={**SOCKET_UNIT, "Unit.After": ["docker.service"]})},
            "unit-order",
            "trouble: mdnp.socket is not ordered before docker.service",
        ),
        (
            {"units": units(socket={**SOCKET_UNIT, "Unit.PartOf": ["docker.service"]})},
            "unit-order",
            "warning: mdnp.socket stops with docker.service (PartOf=)",
        ),
        ({"units": units(service={"Unit.After": ["docker.service"]})}, "unit-order", "trouble: mdnp.service waits for"),
        ({"units": units(service=None)}, "unit-order", "trouble: there is mdnp.socket, but no mdnp.service"),
        ({"units": units(socket=None)}, "unit-order", "trouble: there is mdnp.service, but no mdnp.socket"),
        ({"units": units(socket=None, service=None)}, "unit-order", "warning: systemd has no units of mdnp"),
        (
            {"docker": replace(DOCKER, version={"Version": "19.03.15"})},
            "docker-version",
            "warning: Docker is 19.03.15",
        ),
        ({"features": {"veth": "", "nft-fib": "no such file"}}, "kernel-features", "trouble: nft-fib: no such file"),
        ({"modules": Modules("6.1.0", True, False)}, "kernel-modules", "warning: the folder lib/modules/6.1.0 of the"),
        ({"library": Unknown("not there")}, "libnftables", "warning: the library cannot be loaded: not there"),
        ({"sysctls": sysctls(ip_forward="0")}, "sysctls", f"trouble: net/ipv4/ip_forward=0, but {BRIDGE} has a way"),
        ({"sysctls": sysctls(forwarding="0")}, "sysctls", f"trouble: net/ipv6/conf/all/forwarding=0, but {BRIDGE}"),
        (
            {"sysctls": {**sysctls(), f"net/ipv4/conf/{BRIDGE}/route_localnet": "0"}},
            "sysctls",
            f"warning: net/ipv4/conf/{BRIDGE}/route_localnet=0",
        ),
        (
            {"routes": [*ROUTES, {"dst": "default", "dev": "wan1"}]},
            "sysctls",
            "warning: rp_filter is strict on eth0, wan1, and there are 2 ways out",
        ),
        (
            {"daemon": replace(DAEMON, status={**STATUS, "drift": ["ip link add x"], "trouble": "file exists"})},
            "kernel-in-sync",
            "trouble: the kernel is not as promised; missing steps: ip link add x because: file exists",
        ),
        ({"daemon": replace(DAEMON, status={**STATUS, "lost": ["link x"]})}, "kernel-in-sync", "trouble: lost: link x"),
        ({"unclaimed": frozenset({f"network {NET}"})}, "orphans", "warning: Docker does not have network a10000000000"),
        (
            {"daemon": promised(endpoints=233)},
            "pools-nearly-full",
            f"warning: subnet 10.1.0.0/24 of {BRIDGE} has 20 of 254 addresses left",
        ),
        (
            {"daemon": replace(DAEMON, pools=[{"pool": "10.1.0.0/24", "free": 9, "size": 254, "nearly_full": True}])},
            "pools-nearly-full",
            "warning: pool 10.1.0.0/24 has 9 of 254 addresses left",
        ),
        ({"daemon": promised(mtu=9000)}, "mtu", f"warning: {BRIDGE} has MTU 9000, eth0 on its way out 1500"),
        (
            {"routes": [*ROUTES, {"dst": "10.1.0.7", "dev": "wg0"}]},
            "subnet-overlap",
            f"trouble: route 10.1.0.7 dev wg0 overlaps 10.1.0.0/24 of {BRIDGE}",
        ),
        (
            {"routes": [*ROUTES, {"dst": "10.0.0.0/8", "type": "blackhole"}]},
            "subnet-overlap",
            f"warning: 10.1.0.0/24 of {BRIDGE} is a part of route 10.0.0.0/8 blackhole",
        ),
        ({"resolvers": ("9.9.9.9", "10.1.0.53")}, "subnet-overlap", "trouble: resolver 10.1.0.53 of /etc/resolv.conf"),
        ({"resolvers": ()}, "resolver", "warning: /etc/resolv.conf names no resolver"),
        ({"resolvers": ("::1",)}, "resolver", "warning: the only resolvers are ::1, and nobody on this host listens"),
        (
            {"links": [*LINKS, *({"ifname": f"v{number}", "mtu": 1500, "master": BRIDGE} for number in range(1000))]},
            "bridge-ports",
            f"warning: {BRIDGE} has 1001 ports of 1023, 1000 of them not mdnp's",
        ),
        (
            {"links": [*LINKS, *({"ifname": f"v{number}", "mtu": 1500, "master": BRIDGE} for number in range(1022))]},
            "bridge-ports",
            f"trouble: {BRIDGE} has 1023 ports of 1023, 1022 of them not mdnp's",
        ),
        (
            {"sysctls": sysctls(netdev_max_backlog="1")},
            "backlog",
            f"warning: {BRIDGE} has 1 endpoints, and a processor queues 1 packets (netdev_max_backlog)",
        ),
        (
            {"neighbours": [{"dst": f"fd01::{number}", "state": ["STALE"]} for number in range(1000)]},
            "neighbour-table",
            "warning: IPv6: 1000 neighbours, and the kernel keeps 1024 (gc_thresh3)",
        ),
        ({"sysctls": sysctls(nf_conntrack_count="850")}, "conntrack-table", "warning: 850 connections are tracked of"),
        ({"sysctls": sysctls(nf_conntrack_count="999")}, "conntrack-table", "trouble: 999 connections are tracked of"),
        ({"sysctls": sysctls(ip_local_port_range="1 9")}, "port-range", "warning: the host takes its own ports from 1"),
        ({"disk": Disk(Path("/s"), GIB // 2, 20 * GIB, 0, 0)}, "disk", "warning: /s: 512 MiB of 20480 are free"),
        ({"disk": Disk(Path("/s"), 4096, GIB, 0, 0)}, "disk", "trouble: /s: 4 KiB are free"),
        ({"disk": Disk(Path("/s"), GIB, GIB, 3, 9)}, "disk", "trouble: /s: 3 inodes are free"),
        (
            {"files": {**FILES, "database": File("file", 0o644, 0)}},
            "permissions",
            "trouble: the database /database has",
        ),
        (
            {"files": {**FILES, "database": File("file", 0o600, 7)}},
            "permissions",
            "trouble: the database /database bel",
        ),
        (
            {"clock": Clock(NOW, NOW + 7200, True, frozenset())},
            "clock",
            "warning: the state was written 120 min in the",
        ),
        ({"clock": Clock(5.0, None, False, frozenset())}, "clock", "trouble: the clock was never set"),
        (
            {"clock": Clock(NOW, None, False, frozenset({"ntpd"}))},
            "clock",
            "warning: the clock is not synchronised, tho",
        ),
        (
            {"chains": [*chains(), *_LEGACY]},
            "iptables-variant",
            "warning: both kinds of iptables have rules: iptables-l",
        ),
        (
            {"chains": _LEGACY},
            "docker-firewall-backend",
            "trouble: Docker's chains are made with iptables-legacy, but the program iptables here is of the other ki",
        ),
        (
            {"chains": [one for one in chains() if one.table == "nat"]},
            "docker-firewall-backend",
            "warning: Docker's chain DOCKER-USER is gone, others of its chains are there",
        ),
    ],
)
def test_one_fact_that_is_another_is_found_by_its_check_alone(facts: Any, check: str, says: str) -> None:
    spoilt = found(spoiled(**facts))

    assert list(spoilt) == [check]
    assert spoilt[check].startswith(says)


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        ({"daemon": promised(internal=True), "sysctls": sysctls(ip_forward="0", forwarding="0")}, []),
        ({"daemon": promised(gateway="docker"), "links": [{"ifname": "eth0", "mtu": 1400}, *LINKS[1:]]}, []),
        ({"daemon": replace(DAEMON, settings={**DAEMON.settings, "log_level": "debug"})}, []),  # by a flag
        ({"resolvers": ("127.0.0.53",), "asked": frozenset({("3500007F", 53)})}, []),
        ({"clock": Clock(NOW, NOW, False, frozenset())}, []),
        ({"units": Units(False, dict.fromkeys(UNITS.units), frozenset())}, []),
        ({"units": units(socket={"Install.WantedBy": ["sockets.target"]})}, []),
        ({"docker": replace(DOCKER, info={"FirewallBackend": {"Driver": "nftables+firewalld"}}), "chains": []}, []),
        ({"docker": replace(DOCKER, info={}), "chains": []}, []),
        ({"sysctls": {name: value for name, value in sysctls().items() if "neigh" not in name}}, []),
        (
            {"files": {**FILES, "plugin socket": None}, "specs": (Path("/etc/docker/plugins/mdnp.json"),)},
            [],
        ),
        (
            {
                "settings": Settings(Path("/run/x/mdnp.sock")),
                "listening": frozenset({"/run/x/mdnp.sock"}),
                "specs": (Path("/etc/docker/plugins/mdnp.json"),),
            },
            [],
        ),
        ({"chains": chains(_WITHOUT_OURS)}, ["forward-policy", "br-netfilter"]),
        (
            {"chains": chains(_WITHOUT_OURS), "sysctls": sysctls(**{"bridge-nf-call-iptables": "0"})},
            ["forward-policy"],
        ),
        ({"chains": chains(_WITHOUT_OURS), "daemon": promised(internal=True)}, ["br-netfilter"]),
        ({"chains": chains(_WITHOUT_OURS), "daemon": promised(internal=True, icc=False)}, []),
    ],
)
def test_what_does_not_matter_here_is_no_finding(facts: Any, names: list[str]) -> None:
    assert list(found(spoiled(**facts))) == names


def test_without_the_daemon_the_kernel_and_docker_tell_of_networks() -> None:
    dead = spoiled(daemon=Unknown("nobody"), unclaimed=Unknown("nobody"))

    assert found(dead) == {
        "daemon-answers": "trouble: the daemon does not answer: nobody",
        "names-gateway": "unknown: could not be looked at: nobody",
        "names-learned": "unknown: could not be looked at: nobody",
        "names-road": "unknown: could not be looked at: nobody",
        "names-upstream": "unknown: could not be looked at: nobody",
        "orphans": "unknown: could not be looked at: nobody",
        "pools-nearly-full": "unknown: could not be looked at: nobody",
        "settings-in-force": "unknown: could not be looked at: nobody",
        "store": "unknown: could not be looked at: nobody",
        "version": "unknown: could not be looked at: nobody",
    }
    assert "forward-policy" in found(replace(dead, chains=chains(_WITHOUT_OURS)))
    assert found(replace(dead, links=LINKS[:2]))["kernel-in-sync"] == (
        f"trouble: the kernel does not have {LINK} of container web"
    )
    assert found(replace(dead, links=LINKS[:1], addresses=ADDRESSES[:1]))["kernel-in-sync"] == (
        f"trouble: the kernel does not have {BRIDGE} of network mynet, {LINK} of container web"
    )


@pytest.mark.parametrize("name", ["daemon", "docker", "links", "routes", "chains", "sysctls", "clock", "disk", "units"])
def test_a_fact_that_cannot_be_had_makes_unknown_what_needs_it_and_no_more(name: str) -> None:
    reports = judge(spoiled(**{name: Unknown("it was dark")}))

    verdicts = [report.verdict for report in reports]
    unknown = [one for report in reports for one in report.findings if one.verdict == "unknown"]
    assert unknown
    assert all("it was dark" in one.what for one in unknown)
    assert verdicts.count(Verdict.OK) >= len(verdicts) - 10


def test_a_check_that_stumbles_spoils_no_other() -> None:
    spoilt = found(spoiled(routes=[{"dst": "what is this", "dev": "eth0"}]))

    assert list(spoilt) == ["subnet-overlap"]
    assert spoilt["subnet-overlap"].startswith("unknown: could not be looked at: what was read is not as ")


def test_the_worst_comes_first_and_decides() -> None:
    facts = spoiled(units=units(enabled=frozenset(), socket={**SOCKET_UNIT, "Unit.PartOf": ["docker.service"]}))
    [report] = judge(facts, ["unit-order"])

    assert report.verdict == "trouble"
    assert [one.verdict for one in report.findings] == ["trouble", "warning"]


def test_a_check_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InvalidParameter, match="no check mtus: there are configuration, "):
        chosen(["mtu", "mtus"])
