"""
`mdnp doctor` on real hosts: silent on one that is well, and each breakage found under its name, until it is mended.

A host is set up once, and broken and mended again and again. What the main namespace alone shows is put before the
doctor's eyes in a mount namespace of his own.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rig.command import Result
from rig.plugin import MDNP
from rig.rootfs import chosen
from rig.testbed import Testbed
from tests.engine.conftest import Story
from tests.engine.peers import Peers

pytestmark = [pytest.mark.engine, pytest.mark.root]

_OF_NAMES = ("names-road", "names-gateway", "names-learned", "names-upstream")
_OF_THE_DAEMON = (*_OF_NAMES, "orphans", "pools-nearly-full", "settings-in-force", "store", "version")
_OF_THE_FIREWALL = (
    "kernel-features",
    "docker-firewall-backend",
    "forward-policy",
    "br-netfilter",
    "foreign-rules",
    "iptables-variant",
)
_RESOLVER = "nameserver 192.0.2.1\n"
_SUBNETS = ("--ipv6", "--subnet=10.77.0.0/24", "--subnet=fd77::/64")


@dataclass(frozen=True)
class Patient:
    """A host with an engine, the plugin, networks, containers and a published port; `root` has its other files."""

    story: Story
    root: Path
    bridge: str

    def doctor(
        self, *options: str, before: str = "", user: bool = False, env: Mapping[str, str] | None = None
    ) -> Result:
        """Run it after the commands `before` in a mount namespace of its own; by default nothing is done there."""
        command = [str(MDNP), "doctor", "--root", str(self.root), *options]
        if before:
            script = f'set -e; mount --make-rprivate /; {before}\nexec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, "doctor", *command]
        if user:
            command = ["unshare", "--user", *command]
        plugin = self.story.plugin
        return plugin.host.run(command, check=False, env={**plugin.env, **(env or {})})

    def found(
        self, *names: str, before: str = "", env: Mapping[str, str] | None = None
    ) -> dict[str, list[dict[str, str]]]:
        """What is not well, by check."""
        result = self.doctor("--json", *names, before=before, env=env)
        assert result.code in (0, 1), result.said
        checks = json.loads(result.out)["checks"]
        troubled = any(one["verdict"] == "trouble" for one in checks)
        assert result.code == troubled
        return {one["name"]: one["findings"] for one in checks if one["verdict"] != "ok"}

    def sh(self, command: str) -> None:
        self.story.testbed.host.run(["sh", "-c", f"set -e; {command}"], env=self.names)

    @property
    def names(self) -> dict[str, str]:
        return {"BRIDGE": self.bridge, **self.story.plugin.env}

    def said(self, words: str) -> str:
        """With the names in them filled in."""
        for name, value in self.names.items():
            words = words.replace(f"${name}", value)
        return words

    @contextmanager
    def files(self, files: Mapping[str, str]) -> Iterator[None]:
        """Other files below the root, for a while."""
        before = {path: file.read_text() for path in files if (file := self.root / path).exists()}
        for path, text in files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)
        yield
        for path in files:
            (self.root / path).unlink()
        for path, text in before.items():
            (self.root / path).write_text(text)

    def host_end(self, container: str) -> str:
        return f"mdv-{self.story.settings(container)['EndpointID'][:11]}"

    def seen(self) -> list[str]:
        """What a command could have changed."""
        listing = "ip addr; ip route show table all; iptables-save; ip6tables-save; nft list ruleset; ip netns; lsmod"
        lines = self.story.testbed.host.run(["sh", "-c", listing], check=False).out.splitlines()
        files = sorted(f"{one} {one.stat().st_mtime_ns}" for one in self.story.testbed.host.state.iterdir())
        return [*(line for line in lines if not line.startswith("#") and "valid_lft" not in line), *files]

    def call(self, verb: str, **body: Any) -> None:
        """As Docker calls the plugin."""
        socket, data = str(self.story.plugin.socket), json.dumps(body)
        url = f"http://plugin/NetworkDriver.{verb}"
        self.story.testbed.host.run(["curl", "-sSf", "--unix-socket", socket, "-d", data, url])


@pytest.fixture(scope="module")
def patient(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    root = tmp_path_factory.mktemp("root")
    (root / "etc").mkdir()
    (root / "etc/resolv.conf").write_text(_RESOLVER)
    (root / "lib").mkdir()
    (root / "lib/modules").symlink_to("/lib/modules")
    host = testbed.host
    env = {"MDNP_SOCKET": str(host.plugins / "mdnp.sock"), "MDNP_STATE_DIR": str(host.state)}
    plugin = testbed.plugin(env=env)
    plugin.start()
    story = Story(testbed, plugin)
    identity = story.network("mynet", *_SUBNETS, "--ipam-driver=mdnp")
    story.network("inner", "--internal", "--subnet=10.78.0.0/24")
    story.container("web", "-p", "8080:80", "-P")
    story.container("db1", network="inner")
    yield Patient(story, root, f"mdb-{identity[:11]}")
    if not testbed.engine.running:
        testbed.engine.start()
    if not plugin.running:
        plugin.start()
    testbed.engine.clear()
    plugin.stop()
    host.forget_plugin()


def test_on_a_healthy_host_there_is_one_line(patient: Patient) -> None:
    result = patient.doctor()

    assert (result.code, result.out.count("\n"), result.err) == (0, 1, ""), result.said
    assert result.out.startswith("# ")
    assert result.out.endswith(" checks, all well\n")


_once = pytest.mark.parametrize("testbed", chosen()[:1], indirect=True, scope="session")


@_once
def test_all_checks_are_listed_and_one_can_be_chosen(patient: Patient) -> None:
    every = patient.doctor("--all").out.splitlines()
    one = patient.doctor("--all", "mtu", "disk").out.splitlines()

    assert len(every) > 24
    assert all(line.startswith("ok ") for line in every[:-1])
    assert [line.split()[:2] for line in one[:-1]] == [["ok", "mtu"], ["ok", "disk"]]


@_once
def test_an_unknown_check_is_wrong_usage(patient: Patient) -> None:
    result = patient.doctor("mtus")

    assert result.code == 2
    assert "no check mtus: there are configuration, daemon-answers, " in result.err


@dataclass(frozen=True)
class Breakage:
    """
    What is done and undone on the host, or to files of its `root`, or only before the doctor's eyes; `says` are words
    of the finding of the first of the checks that find it.
    """

    checks: Sequence[str]
    says: Sequence[str]
    breaks: str = ""
    mends: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    verdict: str = "trouble"


_SOCKET_UNIT = "[Socket]\nListenStream=/run/docker/plugins/mdnp.sock\n[Install]\nWantedBy=sockets.target\n"
_SERVICE_UNIT = "[Service]\nExecStart=/usr/bin/mdnp serve\n"
_UNITS = "etc/systemd/system"

BREAKAGES = {
    "a chain of nft drops by policy": Breakage(
        ["foreign-rules"],
        ["the policy of chain forward of table inet strict (nft) drops packets of $BRIDGE"],
        "nft add table inet strict; nft add chain inet strict forward"
        " '{ type filter hook forward priority 10; policy drop; }'; nft add rule inet strict forward ct state"
        " established,related accept",
        "nft delete table inet strict",
    ),
    "a firewall rejects at its chain's end, two jumps away": Breakage(
        ["foreign-rules"],
        ["rule `reject with icmpx admin-prohibited` in chain ends of table inet wall (nft) drops packets of"],
        "nft -f - <<'END'\n"
        "table inet wall {\n"
        "  chain ends { tcp dport 22 accept; iifname docker0 accept; reject with icmpx type admin-prohibited; }\n"
        "  chain forward { type filter hook forward priority 10; ct state { established, related } accept;"
        " ct status dnat accept; iifname lo accept; jump ends; }\n"
        "}\n"
        "END",
        "nft delete table inet wall",
    ),
    "a chain of nft in a table of iptables drops by policy": Breakage(
        ["foreign-rules"],
        ["the policy of chain mine of table ip filter (nft) drops packets of $BRIDGE"],
        "nft add chain ip filter mine '{ type filter hook forward priority 10; policy drop; }'",
        "nft delete chain ip filter mine",
    ),
    "frames are dropped in the bridge": Breakage(
        ["foreign-rules"],
        ['rule `iifname "mdv-*" drop` in chain f of table bridge other (nft) drops packets of $BRIDGE'],
        "nft add table bridge other; nft add chain bridge other f '{ type filter hook forward priority 0; }';"
        " nft add rule bridge other f iifname 'mdv-*' drop",
        "nft delete table bridge other",
    ),
    "a rule in Docker's chain stands above ours": Breakage(
        ["foreign-rules"],
        ["rule `-A DOCKER-USER -i mdb-+ -j DROP` in chain DOCKER-USER of table ip filter (iptables) drops packets of"],
        "iptables -I DOCKER-USER -i mdb-+ -j DROP",
        "iptables -D DOCKER-USER -i mdb-+ -j DROP",
    ),
    "a rule in Docker's chain drops all of a protocol": Breakage(
        ["foreign-rules"],
        ["rule `-A DOCKER-USER -i mdb-+ -p udp -j DROP` in chain DOCKER-USER of table ip filter (iptables) drops"],
        "iptables -I DOCKER-USER -i mdb-+ -p udp -j DROP",
        "iptables -D DOCKER-USER -i mdb-+ -p udp -j DROP",
    ),
    "a rule of IPv6 rejects what goes to a bridge": Breakage(
        ["foreign-rules"],
        ["-j REJECT", "in chain FORWARD of table ip6 filter (ip6tables) drops packets of $BRIDGE"],
        "ip6tables -I FORWARD -o $BRIDGE -j REJECT",
        "ip6tables -D FORWARD -o $BRIDGE -j REJECT",
    ),
    "a subnet is dropped before routing": Breakage(
        ["foreign-rules"],
        ["rule `-A PREROUTING -s 10.77.0.0/16 -j DROP` in chain PREROUTING of table ip raw (iptables)"],
        "iptables -t raw -A PREROUTING -s 10.77.0.0/16 -j DROP",
        "iptables -t raw -D PREROUTING -s 10.77.0.0/16 -j DROP",
    ),
    "rules of both kinds of iptables": Breakage(
        ["iptables-variant"],
        ["both kinds of iptables have rules: iptables-legacy besides the host's default, iptables v"],
        "iptables-legacy -A INPUT -s 203.0.113.9 -j ACCEPT",
        "iptables-legacy -D INPUT -s 203.0.113.9 -j ACCEPT",
        verdict="warning",
    ),
    "the legacy FORWARD drops": Breakage(
        ["forward-policy", "br-netfilter", "iptables-variant"],
        ["the policy of chain FORWARD of table ip filter (iptables-legacy) is DROP, and nothing before it lets "],
        "iptables-legacy -P FORWARD DROP",
        "iptables-legacy -P FORWARD ACCEPT",
    ),
    "the MTU of the underlay is lowered": Breakage(
        ["mtu"],
        ["$BRIDGE has MTU 1500, eth0 on its way out 1400"],
        "ip link set eth0 mtu 1400",
        "ip link set eth0 mtu 1500",
        verdict="warning",
    ),
    "a route takes a part of a subnet": Breakage(
        ["subnet-overlap"],
        ["route 10.77.0.128/25 dev eth0 overlaps 10.77.0.0/24 of $BRIDGE"],
        "ip route add 10.77.0.128/25 via 192.0.2.1",
        "ip route del 10.77.0.128/25",
    ),
    "a subnet hides a part of a route": Breakage(
        ["subnet-overlap"],
        ["fd77::/64 of $BRIDGE is a part of route fd00::/8 dev eth0"],
        "ip route add fd00::/8 via 2001:db8::1",
        "ip route del fd00::/8",
        verdict="warning",
    ),
    "the host has an address of a subnet elsewhere": Breakage(
        ["subnet-overlap"],
        ["the host has 10.77.0.99 on lo, which is in 10.77.0.0/24 of $BRIDGE"],
        "ip addr add 10.77.0.99/32 dev lo",
        "ip addr del 10.77.0.99/32 dev lo",
    ),
    "a resolver is in a subnet": Breakage(
        ["subnet-overlap"],
        ["resolver 10.77.0.53 of /etc/resolv.conf is in 10.77.0.0/24 of $BRIDGE"],
        files={"etc/resolv.conf": "nameserver 10.77.0.53\n"},
    ),
    "nobody is the resolver": Breakage(
        ["resolver"],
        ["the only resolvers are 127.0.0.1, and nobody on this host listens on port 53"],
        files={"etc/resolv.conf": "nameserver 127.0.0.1\n"},
        verdict="warning",
    ),
    "the neighbour table is small": Breakage(
        ["neighbour-table"],
        [" neighbours, and the kernel keeps 1 (gc_thresh3)"],
        before="mount -t tmpfs none /proc/sys/net/ipv4/neigh; mkdir /proc/sys/net/ipv4/neigh/default;"
        " echo 1 >/proc/sys/net/ipv4/neigh/default/gc_thresh3",
    ),
    "connections are tracked up to the limit": Breakage(
        ["conntrack-table"],
        ["5000 connections are tracked of 5001"],
        before="d=/proc/sys/net/netfilter; mount -t tmpfs none $d; echo 5000 >$d/nf_conntrack_count;"
        " echo 5001 >$d/nf_conntrack_max",
    ),
    "the range of the host's own ports is small": Breakage(
        ["port-range"],
        ["the host takes its own ports from 49000 to 49100"],
        "cat /proc/sys/net/ipv4/ip_local_port_range >/tmp/range$BRIDGE;"
        " echo 49000 49100 >/proc/sys/net/ipv4/ip_local_port_range",
        "cat /tmp/range$BRIDGE >/proc/sys/net/ipv4/ip_local_port_range; rm /tmp/range$BRIDGE",
        verdict="warning",
    ),
    "the state's file system is full": Breakage(
        ["disk"],
        ["KiB are free"],
        before="mount -t tmpfs -o size=64k none $MDNP_STATE_DIR; chmod 755 $MDNP_STATE_DIR;"
        " head -c 64k /dev/zero >$MDNP_STATE_DIR/full",
    ),
    "the state's file system has no inodes": Breakage(
        ["disk"],
        [" inodes are free"],
        before="mount -t tmpfs -o size=64m,nr_inodes=9 none $MDNP_STATE_DIR; chmod 755 $MDNP_STATE_DIR",
    ),
    "everybody may write the state": Breakage(
        ["permissions"],
        ["the state folder $MDNP_STATE_DIR has mode 0777"],
        "chmod 777 $MDNP_STATE_DIR",
        "chmod 755 $MDNP_STATE_DIR",
    ),
    "everybody may call the plugin": Breakage(
        ["permissions"],
        ["the plugin socket $MDNP_SOCKET has mode 0666"],
        "chmod 666 $MDNP_SOCKET",
        "chmod 600 $MDNP_SOCKET",
    ),
    "the operator's socket is another user's": Breakage(
        ["permissions"],
        ["the operator's socket $MDNP_RUNTIME_DIR/admin.sock belongs to user 1234"],
        "chown 1234 $MDNP_RUNTIME_DIR/admin.sock",
        "chown 0 $MDNP_RUNTIME_DIR/admin.sock",
    ),
    "libnftables is broken": Breakage(
        ["libnftables", *_OF_THE_FIREWALL],
        ["neither the library nor the program works"],
        before="for one in $(ldconfig -p | grep -o '/.*/libnftables[.]so[.]1$'); do"
        " mount --bind /dev/null $(readlink -f $one); done",
    ),
    "the socket unit is ordered after Docker": Breakage(
        ["unit-order"],
        ["mdnp.socket is not ordered before docker.service"],
        files={
            f"{_UNITS}/mdnp.socket": f"[Unit]\nAfter=docker.service\n{_SOCKET_UNIT}",
            f"{_UNITS}/mdnp.service": _SERVICE_UNIT,
            f"{_UNITS}/sockets.target.wants/mdnp.socket": "",
        },
    ),
    "the socket unit is not enabled": Breakage(
        ["unit-order"],
        ["mdnp.socket is not enabled"],
        files={f"{_UNITS}/mdnp.socket": _SOCKET_UNIT, f"{_UNITS}/mdnp.service": _SERVICE_UNIT},
    ),
    "a drop-in makes the service wait for Docker": Breakage(
        ["unit-order"],
        ["mdnp.service waits for docker.service (After=)"],
        files={
            f"{_UNITS}/mdnp.socket": f"[Unit]\nBefore=docker.service\n{_SOCKET_UNIT}",
            f"{_UNITS}/sockets.target.wants/mdnp.socket": "",
            "usr/lib/systemd/system/mdnp.service": _SERVICE_UNIT,
            f"{_UNITS}/mdnp.service.d/late.conf": "[Unit]\nAfter=docker.service\n",
        },
    ),
    "Docker could find another plugin": Breakage(
        ["duplicate-plugin"],
        ["mdnp can be found in more than one way: ", "etc/docker/plugins/mdnp.spec"],
        files={"etc/docker/plugins/mdnp.spec": "tcp://192.0.2.9:2000"},
        verdict="warning",
    ),
    "a setting cannot be used": Breakage(
        ["configuration"],
        ["the settings cannot be used: MDNP_GRACE: grace 'soon': expected"],
        env={"MDNP_GRACE": "soon"},
    ),
    "a setting is not in force": Breakage(
        ["settings-in-force"],
        ["grace is '120' in the daemon, and '7' in the configuration"],
        env={"MDNP_GRACE": "7"},
        verdict="warning",
    ),
    "the clock was set back": Breakage(
        ["clock"],
        ["min in the future: the clock was set back"],
        "touch -d '+2 hours' $MDNP_STATE_DIR/mdnp.db",
        "touch $MDNP_STATE_DIR/mdnp.db",
        verdict="warning",
    ),
}


@_once
@pytest.mark.parametrize("name", BREAKAGES)
def test_a_breakage_is_found_until_it_is_mended(patient: Patient, name: str) -> None:
    one = BREAKAGES[name]
    with patient.files(one.files):
        patient.sh(one.breaks or "true")
        try:
            found = patient.found(before=one.before, env=one.env)
        finally:
            patient.sh(one.mends or "true")

    assert set(found) == set(one.checks), found
    for finding in [found[name][0] for name in one.checks[:1]]:
        assert [words for words in one.says if patient.said(words) not in finding["what"]] == [], finding
        assert finding["verdict"] == one.verdict
        assert finding["why"]
        assert finding["do"]
    assert patient.found(*one.checks) == {}


_CHOSEN = (
    "DOCKER-USER -i mdb-+ -p tcp --dport 25 -j DROP",
    "FORWARD -d 203.0.113.0/24 -j REJECT",
    "FORWARD -s 10.77.0.200 -j DROP",
    "FORWARD -i docker0 -o mdb-+ -j DROP",
    "FORWARD -m conntrack --ctstate INVALID -j DROP",
)


@_once
def test_rules_that_drop_what_somebody_chose_are_no_breakage(patient: Patient) -> None:
    patient.sh("; ".join(f"iptables -I {rule}" for rule in _CHOSEN))
    found = patient.found()
    patient.sh("; ".join(f"iptables -D {rule}" for rule in _CHOSEN))

    assert found == {}


@_once
def test_what_docker_does_not_have_is_found(patient: Patient) -> None:
    identity = "f0f0f0" + 58 * "0"
    pool = {"AddressSpace": "local", "Pool": "10.81.0.0/24", "Gateway": "10.81.0.1/24"}
    patient.call("CreateNetwork", NetworkID=identity, Options={}, IPv4Data=[pool], IPv6Data=[])
    found = patient.found()
    patient.call("DeleteNetwork", NetworkID=identity)

    assert set(found) == {"orphans"}, found
    assert found["orphans"][0]["what"] == "Docker does not have network f0f0f0000000"
    assert patient.found("orphans") == {}


@_once
def test_a_pool_that_is_full_is_found(patient: Patient) -> None:
    patient.story.network("small", "--subnet=10.82.0.0/30", "--ipam-driver=mdnp")
    patient.story.container("last", network="small")
    found = patient.found()
    patient.story.docker("rm", "-f", "last")
    patient.story.docker("network", "rm", "small")

    assert set(found) == {"pools-nearly-full"}, found
    assert found["pools-nearly-full"][0]["what"] == "pool 10.82.0.0/30 has 0 of 2 addresses left"
    assert patient.found() == {}


@_once
def test_a_lost_endpoint_is_found_with_the_daemon_and_without(patient: Patient) -> None:
    """Its container's restart mends it."""
    link = patient.host_end("web")
    patient.sh(f"ip link del {link}")
    with_it = patient.found()
    patient.story.plugin.stop()
    without = patient.found("kernel-in-sync")
    patient.story.plugin.start()
    patient.story.docker("restart", "-t", "0", "web")

    assert set(with_it) == {"kernel-in-sync"}, with_it
    assert with_it["kernel-in-sync"][0]["what"].startswith(f"lost: link {link} ")
    assert without["kernel-in-sync"][0]["what"] == f"the kernel does not have {link} of container web"
    patient.story.soon(lambda: patient.found() == {})


@_once
def test_what_is_wrong_without_the_daemon_is_found(patient: Patient) -> None:
    """Nobody repairs meanwhile; a daemon that starts does, and then all is well."""
    plugin = patient.story.plugin
    plugin.kill()
    dead = patient.found()
    patient.sh("iptables -F DOCKER-USER; sysctl -qw net.ipv4.ip_forward=0; ip link del $BRIDGE")
    bad = patient.found()
    patient.sh("rm $MDNP_SOCKET")
    gone = patient.found("plugin-socket")
    plugin.start()

    assert set(dead) == {"daemon-answers", "plugin-socket", *_OF_THE_DAEMON}, dead
    assert dead["daemon-answers"][0]["what"].startswith("the daemon does not answer: no mdnp answers at ")
    assert dead["plugin-socket"][0]["what"] == patient.said("$MDNP_SOCKET is there, but nobody listens on it")
    assert {dead[name][0]["verdict"] for name in _OF_THE_DAEMON} == {"unknown"}
    assert set(bad) >= {"kernel-in-sync"}, bad
    assert patient.said("$BRIDGE of network mynet") in bad["kernel-in-sync"][0]["what"]
    assert gone["plugin-socket"][0]["what"] == patient.said("$MDNP_SOCKET is not there")
    patient.story.soon(lambda: patient.found() == {})


@_once
def test_without_our_rules_docker_s_policy_is_found(patient: Patient) -> None:
    plugin = patient.story.plugin
    plugin.stop()
    patient.sh("iptables -P FORWARD DROP; iptables -F DOCKER-USER; sysctl -qw net.ipv4.ip_forward=0")
    found = patient.found("forward-policy", "br-netfilter", "sysctls", "mtu")
    plugin.start()

    assert set(found) == {"forward-policy", "br-netfilter", "sysctls"}, found
    words = "the policy of chain FORWARD of table ip filter (iptables) is DROP, and nothing before it lets $BRIDGE pass"
    assert found["forward-policy"][0]["what"] == patient.said(words)
    assert patient.said("drops what $BRIDGE") in found["br-netfilter"][0]["what"]
    assert patient.said("net/ipv4/ip_forward=0, but $BRIDGE has a way out by IPv4") in found["sysctls"][0]["what"]
    patient.story.soon(lambda: patient.found() == {})


@_once
def test_a_port_that_another_process_took_is_found(patient: Patient) -> None:
    plugin = patient.story.plugin
    with Peers(patient.story.testbed) as peers:
        plugin.stop()
        peers.hold(plugin.host, "tcp:0.0.0.0:8080")
        plugin.start()
        found = patient.found()

    assert set(found) == {"kernel-in-sync"}, found
    assert "tcp 0.0.0.0:8080 is in use by" in found["kernel-in-sync"][0]["what"]
    plugin.cli("repair")
    assert patient.found() == {}


@_once
def test_a_store_that_cannot_be_written_is_found(patient: Patient) -> None:
    """The daemon's own, on a file system that is full."""
    plugin = patient.story.plugin
    plugin.stop()
    patient.sh(
        "cp -a $MDNP_STATE_DIR $MDNP_STATE_DIR.kept; mount -t tmpfs -o mode=755,size=2m none $MDNP_STATE_DIR;"
        " cp -a $MDNP_STATE_DIR.kept/. $MDNP_STATE_DIR; rm -r $MDNP_STATE_DIR.kept"
    )
    try:
        plugin.start()
        patient.sh("cat /dev/zero >$MDNP_STATE_DIR/full || true")
        while patient.story.engine.attempt("network", "create", "-d", "mdnp", "one").code == 0:
            patient.story.docker("network", "rm", "one")  # the log of the database had room for it
        found = patient.found()
        patient.sh("rm $MDNP_STATE_DIR/full")
        patient.story.network("one")
        patient.story.docker("network", "rm", "one")
        mended = patient.found("store", "disk")
    finally:
        plugin.stop()
        patient.sh("umount $MDNP_STATE_DIR")
        plugin.start()

    assert set(found) == {"store", "disk"}, found
    assert "cannot write the state" in found["store"][0]["what"]
    assert set(mended) <= {"disk"}  # two MiB are little


@_once
def test_drift_that_the_daemon_cannot_mend_is_found(patient: Patient) -> None:
    """Somebody has a link of the bridge's name."""
    plugin = patient.story.plugin
    plugin.stop()
    patient.sh("ip link del $BRIDGE; ip link add $BRIDGE type veth peer name other0")
    plugin.start()
    found = patient.found("kernel-in-sync")
    patient.sh("ip link del $BRIDGE")
    plugin.restart()

    assert "the kernel is not as promised; missing steps: " in found["kernel-in-sync"][0]["what"]
    assert patient.bridge in found["kernel-in-sync"][0]["what"]
    patient.story.soon(lambda: patient.found() == {})


@_once
def test_without_rights_it_says_what_it_could_not_look_at(patient: Patient) -> None:
    result = patient.doctor("--json", user=True)

    checks = {one["name"]: one for one in json.loads(result.out)["checks"]}
    assert checks["mtu"]["verdict"] == "ok"
    assert checks["foreign-rules"]["verdict"] == "unknown"
    assert "could not be looked at: " in checks["foreign-rules"]["findings"][0]["what"]
    assert checks["foreign-rules"]["findings"][0]["do"] == "run `mdnp doctor` as root"
    assert (result.code, result.err) == (0, "")


@_once
def test_it_changes_nothing(patient: Patient) -> None:
    before = patient.seen()
    patient.doctor()

    assert patient.seen() == before


@_once
def test_without_docker_that_is_said_and_the_rest_looked_at(patient: Patient) -> None:
    patient.story.engine.stop()
    found = patient.found()
    patient.story.engine.start()

    assert found["docker-answers"][0]["what"].startswith("Docker cannot be asked at ")
    assert {name for name, (one, *_) in found.items() if one["verdict"] == "trouble"} == {"docker-answers"}, found
    patient.story.docker("start", "web", "db1")
    patient.story.soon(lambda: patient.found() == {}, 20)
