"""A real systemd as the first process, real Docker under it, and mdnp put in by `mdnp install`."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rig.command import run, until
from rig.host import Host
from rig.image import IMAGE
from tests.install.conftest import PATIENCE, PLUGIN, PROGRAM, Machine

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.timeout(PATIENCE)]

MDNP = Path(sys.executable).parent / "mdnp"
CONFIGURATION = "/etc/mdnp/mdnp.toml"
# linux/capability.h: DAC_READ_SEARCH, NET_BIND_SERVICE, NET_ADMIN, NET_RAW, SYS_PTRACE, SYS_ADMIN
CAPABILITIES = sum(1 << number for number in (2, 10, 12, 13, 19, 21))


def test_the_first_call_starts_the_daemon_and_is_answered(machine: Machine) -> None:
    said = machine.mdnp("install")
    assert "ran systemctl enable --now mdnp.socket" in said
    assert (machine.state("mdnp.socket"), machine.state("mdnp.service")) == ("active", "inactive")
    assert "NetworkDriver" in machine.activate()
    assert machine.state("mdnp.service") == "active"
    assert machine.show("mdnp.service", "StatusText").startswith("0 networks, 0 endpoints, 0 published ports")
    assert "ran" not in machine.mdnp("install")  # all is as it was


def test_it_does_all_its_work_within_its_limits(machine: Machine) -> None:
    machine.mdnp("install")
    machine.start_docker()
    machine.docker("network", "create", "--driver=mdnp", "--ipam-driver=mdnp", "net")
    machine.docker(
        "run", "-d", "--name=web", "--net=net", "-p=80:80", "-p=53:53/udp", IMAGE, "httpd", "-f", "-h", "/www"
    )
    for way in ("127.0.0.1", "[::1]"):  # by the kernel, and by the proxy
        assert machine.run(["curl", "-sS", "--max-time", "50", f"http://{way}/"]).out == "busybox:rig\n"
    machine.run(["systemd-run", "--uid=65534", "--unit=stranger", "python3", "-m", "http.server", "9000"])
    until(lambda: ":9000 " in machine.run(["ss", "-ltn"]).out, "somebody to have the port")
    refusal = machine.docker("run", "--rm", "--net=net", "-p=9000:80", IMAGE, "true", check=False)
    assert f"in use by python3 (pid {machine.show('stranger', 'MainPID')})" in refusal
    assert "in sync" in machine.mdnp("status")
    kept = machine.run(["cat", f"/proc/{machine.show('mdnp.service', 'MainPID')}/status"]).out.split()
    assert int(kept[kept.index("CapEff:") + 1], 16) == CAPABILITIES
    denied = [line for line in machine.journal("mdnp.service").splitlines() if "ermitted" in line or "ead-only" in line]
    assert denied == []


def test_legacy_iptables_works_within_the_limits_too(machine: Machine) -> None:
    for program in ("iptables", "ip6tables"):
        machine.run(["update-alternatives", "--set", program, f"/usr/sbin/{program}-legacy"])
    machine.mdnp("install")
    machine.start_docker()
    machine.docker("network", "create", "--driver=mdnp", "net")
    rules = machine.run(["iptables-legacy", "-S", "DOCKER-USER"]).out
    assert rules.count("--comment mdnp -j ACCEPT") == 2
    assert "in sync" in machine.mdnp("status")


def test_restarts_lose_no_call_and_no_connection(machine: Machine) -> None:
    machine.mdnp("install")
    machine.start_docker()
    machine.docker("network", "create", "--driver=mdnp", "net")
    machine.docker("run", "-d", "--net=net", "-p=8080:80", IMAGE, "httpd", "-f", "-h", "/www")
    assert int(machine.show("mdnp.service", "NFileDescriptorStore")) == 2
    first = machine.show("mdnp.service", "MainPID")

    def call(number: int) -> None:
        machine.docker("run", "--rm", "--net=net", IMAGE, "true")
        machine.run(["curl", "-sS", "--max-time", "50", f"http://{'[::1]' if number % 2 else '127.0.0.1'}:8080/"])

    with ThreadPoolExecutor() as pool:
        calls = pool.map(call, range(6))
        for _ in range(3):
            machine.systemctl("restart", "mdnp.service")
        list(calls)
    assert machine.show("mdnp.service", "MainPID") != first
    assert int(machine.show("mdnp.service", "NFileDescriptorStore")) == 2


def test_the_socket_stays_when_docker_stops_and_comes_when_docker_starts(machine: Machine) -> None:
    machine.mdnp("install")
    machine.start_docker()
    machine.activate()
    machine.systemctl("stop", "docker.service", "docker.socket", "containerd.service")
    assert (machine.state("mdnp.socket"), machine.state("mdnp.service")) == ("active", "active")
    ties = {name: machine.show("mdnp.socket", name).split() for name in ("Requires", "BindsTo", "PartOf", "ConsistsOf")}
    assert not [one for units in ties.values() for one in units if one.startswith(("docker", "containerd"))]
    machine.systemctl("stop", "mdnp.socket")
    assert machine.state("mdnp.service") == "inactive"  # nobody is left without a socket
    machine.systemctl("start", "docker.service")
    assert machine.state("mdnp.socket") == "active"


def test_at_boot_the_socket_is_there_before_docker_is_started(host: Host, tree: Path, tmp_path: Path) -> None:
    run([str(MDNP), "install", "--root", str(tmp_path), "--program", PROGRAM])
    for target, unit, folder in (
        ("sockets", "mdnp.socket", "/etc/systemd/system"),
        ("multi-user", "docker.service", "/lib/systemd/system"),
    ):
        wants = tmp_path / f"etc/systemd/system/{target}.target.wants"
        wants.mkdir()
        (wants / unit).symlink_to(f"{folder}/{unit}")
    machine = Machine(host, {"/opt/mdnp": tree}, files=tmp_path)
    machine.soon("docker.service", "ActiveState", "active")
    listens = int(machine.show("mdnp.socket", "ActiveEnterTimestampMonotonic"))
    starts = int(machine.show("docker.service", "ExecMainStartTimestampMonotonic"))
    assert 0 < listens < starts
    machine.docker("network", "create", "--driver=mdnp", "net")
    assert machine.state("mdnp.service") == "active"
    machine.close()


def test_a_daemon_that_cannot_start_does_not_take_the_socket_with_it(machine: Machine) -> None:
    machine.mdnp("install")
    machine.run(["tee", CONFIGURATION], feed=b"grace = 'long'\n")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(machine.activate)
        until(lambda: int(machine.show("mdnp.service", "NRestarts")) >= 6, "it to be tried again and again")
        assert machine.state("mdnp.socket") == "active"
        machine.run(["truncate", "--size=0", CONFIGURATION])
        assert "NetworkDriver" in answer.result()


def test_a_daemon_that_hangs_is_ended_and_started_again(machine: Machine) -> None:
    machine.mdnp("install")
    machine.run(["mkdir", "-p", "/etc/systemd/system/mdnp.service.d"])
    machine.run(["tee", "/etc/systemd/system/mdnp.service.d/quick.conf"], feed=b"[Service]\nWatchdogSec=5s\n")
    machine.systemctl("daemon-reload")
    machine.activate()
    machine.systemctl("kill", "--kill-whom=main", "--signal=SIGSTOP", "mdnp.service")
    until(lambda: int(machine.show("mdnp.service", "NRestarts")) > 0, "the watchdog to bite")
    assert "NetworkDriver" in machine.activate()


def test_uninstall_refuses_while_it_serves_and_takes_out_all_but_what_was_changed(machine: Machine) -> None:
    machine.mdnp("install")
    machine.activate()
    assert "systemctl stop mdnp.socket mdnp.service" in machine.mdnp("uninstall", check=False)
    machine.systemctl("stop", "mdnp.socket", "mdnp.service")
    machine.run(["tee", "-a", CONFIGURATION], feed=b"grace = 60\n")
    said = machine.mdnp("uninstall")
    assert "ran systemctl disable --now mdnp.socket mdnp.service" in said
    assert f"kept {CONFIGURATION}" in said
    assert machine.show("mdnp.socket", "LoadState") == "not-found"
    left = machine.run(["find", "/etc/systemd/system", "/etc/mdnp", "/run/mdnp", PLUGIN, "-type", "f"], check=False).out
    assert left.split() == [CONFIGURATION]
    assert "mdnp.db" in machine.run(["ls", "/var/lib/mdnp"]).out  # the promises are kept


def test_a_purge_says_what_goes_and_leaves_nothing(machine: Machine) -> None:
    machine.mdnp("install")
    machine.start_docker()
    before = machine.run(["sh", "-c", "ip -o link | cut -d: -f2; nft list tables; iptables -S; ip6tables -S"]).out
    machine.docker("network", "create", "--driver=mdnp", "net")
    machine.docker("run", "-d", "--name=web", "--net=net", "-p=8080:80", IMAGE, "sleep", "600")
    machine.systemctl("stop", "mdnp.socket", "mdnp.service")
    said = machine.mdnp("uninstall", "--purge", feed=b"n\n", check=False)
    assert "would remove /var/lib/mdnp/mdnp.db" in said
    assert "nft delete table inet mdnp" in said
    assert "iptables -D DOCKER-USER -i mdb-+" in said
    assert "and web on it, which would lose it" in said
    assert machine.state("mdnp.socket") == "inactive"
    assert "table inet mdnp" in machine.run(["nft", "list", "tables"]).out  # nobody said yes
    machine.mdnp("uninstall", "--purge", "--yes")
    after = machine.run(["sh", "-c", "ip -o link | cut -d: -f2; nft list tables; iptables -S; ip6tables -S"]).out
    assert after == before
    assert machine.run(["ls", "/var/lib/mdnp"], check=False).code != 0


def test_an_mdnp_that_was_started_by_hand_is_not_robbed_of_its_socket(machine: Machine) -> None:
    machine.run(["systemd-run", "--unit=byhand", PROGRAM, "serve"])
    until(lambda: "0.1.0" in machine.mdnp("version").split("daemon")[1], "it to serve")
    assert "that systemd did not start" in machine.mdnp("install", check=False)
    assert machine.run(["ls", "/etc/systemd/system"]).out == ""


def test_another_version_is_restarted_into(machine: Machine) -> None:
    machine.mdnp("install")
    machine.activate()
    first = machine.show("mdnp.service", "MainPID")
    machine.run(["sed", "-i", 's/"version": "[^"]*"/"version": "0.0.9"/', "/var/lib/mdnp/installed.json"])
    assert "ran systemctl restart mdnp.service" in machine.mdnp("install")
    assert machine.show("mdnp.service", "MainPID") != first
    assert "ran" not in machine.mdnp("install")


def test_a_program_that_others_can_change_is_not_started_as_root(machine: Machine) -> None:
    machine.run(["install", "-D", "-o", "65534", "/bin/true", "/srv/mdnp"])
    said = machine.mdnp("install", "--program", "/srv/mdnp", check=False)
    assert "others than root can change /srv/mdnp" in said
    assert machine.run(["ls", "/etc/systemd/system"]).out == ""


def test_who_is_not_root_is_told(machine: Machine) -> None:
    said = machine.run(["setpriv", "--reuid=65534", "--clear-groups", PROGRAM, "install"], check=False)
    assert said.code == 1
    assert "as root" in said.err


def test_without_a_systemd_that_runs_the_files_are_written_and_the_rest_is_said(machine: Machine) -> None:
    hidden = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none /run/systemd && {PROGRAM} install"]
    assert "no systemd runs here" in machine.run(hidden).out
    assert machine.show("mdnp.socket", "ActiveState") == "inactive"
    assert "ran systemctl enable --now mdnp.socket" in machine.mdnp("install")
