"""`mdnp install --host-dns` on hosts that boot: with Debian's systemd-resolved, and with a resolv.conf of nobody's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.command import run, until
from rig.host import Host
from tests.install.conftest import PATIENCE, REPOSITORY, Machine

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.timeout(PATIENCE)]

OURS = "127.0.0.153"
OUTSIDE = "192.0.2.1"
_PACKAGES = ("systemd-resolved", "libsystemd-shared", "libsystemd0", "systemd")
_MERGED = ("bin", "sbin", "lib")


@pytest.fixture(scope="session")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of Debian's systemd-resolved, and of the systemd that it goes with."""
    folder, files = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("resolved")
    run(["sh", "-ec", f"cd {folder}; apt-get -qq -o APT::Sandbox::User=root download {' '.join(_PACKAGES)}"])
    for package in folder.iterdir():
        run(["dpkg-deb", "-x", str(package), str(files)])
    for name in _MERGED:
        run(["sh", "-ec", f"cd {files}; if [ -d {name} ]; then cp -a {name} usr/; rm -r {name}; fi"])
    return files


@pytest.fixture
def outside(host: Host, tree: Path) -> Iterator[Path]:
    """A server of names on another host; what it was asked for."""
    log = host.log / "outside.log"
    server = host.underlay.spawn([*_answering(tree, REPOSITORY), OUTSIDE, "outside"], log=log)
    yield log
    server.kill()


def _answering(tree: Path, repository: Path) -> list[str]:
    script = repository / "tests/install/answering.py"
    return ["env", f"PYTHONPATH={tree}/site-packages", "/usr/bin/python3", str(script)]


def boot(host: Host, tree: Path, files: Path | None = None) -> Machine:
    return Machine(host, {"/opt/mdnp": tree, "/opt/repository": REPOSITORY}, files=files)


def begin(machine: Machine) -> None:
    """mdnp's own server, with the names of one container."""
    command = _answering(Path("/opt/mdnp"), Path("/opt/repository"))
    machine.run(["systemd-run", "--unit=names", *command, OURS, "host"])
    until(lambda: OURS in machine.run(["ss", "-Hlun", "sport = 53"]).out, "it to serve")


def looked_up(machine: Machine, name: str) -> str:
    """As every program on the host looks up."""
    found = machine.run(["getent", "ahostsv4" if name[0].isalpha() else "hosts", name], check=False).out.split()
    return (found[0] if name[0].isalpha() else found[1]) if found else ""


def ours(machine: Machine) -> str:
    return machine.journal("names")


def check_names(machine: Machine, outside: Path) -> None:
    assert looked_up(machine, "web.blue.mdnp") == "10.50.1.2"
    assert looked_up(machine, "10.50.1.2") == "web.blue.mdnp"
    assert looked_up(machine, "gone.blue.mdnp") == ""
    assert looked_up(machine, "www.example") == "203.0.113.7"
    assert looked_up(machine, "gone.example") == ""
    assert "mdnp" not in outside.read_text()
    machine.systemctl("stop", "names")
    assert looked_up(machine, "www.example") == "203.0.113.7"


def test_with_systemd_resolved(host: Host, tree: Path, resolved: Path, outside: Path) -> None:
    machine = boot(host, tree, resolved)
    try:
        machine.run(["ln", "-sf", "../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf"])
        machine.run(["systemctl", "start", "dbus", "systemd-resolved"])
        assert "has no servers of links" in machine.mdnp("install", "--host-dns", check=False)
        machine.run(["resolvectl", "dns", "eth0", OUTSIDE])

        assert "ran systemctl try-restart systemd-resolved.service" in machine.mdnp("install", "--host-dns")
        machine.run(["resolvectl", "dns", "eth0", OUTSIDE])
        begin(machine)

        check_names(machine, outside)
        assert "www.example" in ours(machine)  # which was refused, and asked for elsewhere
        machine.systemctl("stop", "mdnp.socket", "mdnp.service")
        machine.mdnp("uninstall")
        assert OURS not in machine.run(["resolvectl", "status"]).out
    finally:
        machine.close()


def test_with_a_resolv_conf_that_is_nobody_s(host: Host, tree: Path, outside: Path) -> None:
    machine = boot(host, tree)
    try:
        machine.run(["tee", "/etc/resolv.conf"], feed=f"nameserver {OUTSIDE}\n".encode())
        machine.mdnp("install", "--host-dns")
        begin(machine)

        check_names(machine, outside)
        machine.systemctl("stop", "mdnp.socket", "mdnp.service")
        machine.mdnp("uninstall")
        assert machine.run(["cat", "/etc/resolv.conf"]).out == f"nameserver {OUTSIDE}\n"
    finally:
        machine.close()
