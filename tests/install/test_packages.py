"""What is installed is what was built: a Debian package, a wheel."""

import venv
from pathlib import Path

import pytest

import mdnp
from rig.command import run
from rig.host import Host
from tests.install.conftest import PATIENCE, REPOSITORY, Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(PATIENCE)]


def test_a_wheel_in_a_fresh_venv_is_a_working_mdnp(tmp_path: Path) -> None:
    pip = [str(REPOSITORY / ".venv/bin/pip"), "-q", "--disable-pip-version-check"]
    run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(REPOSITORY)], timeout=PATIENCE)
    [wheel] = tmp_path.glob("mdnp-*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    pins = REPOSITORY / "requirements/run.txt"
    run([*pip, "--python", str(python), "install", "--require-hashes", "-r", str(pins)], timeout=PATIENCE)
    run([*pip, "--python", str(python), "install", "--no-index", "--no-deps", str(wheel)], timeout=PATIENCE)
    said = run([str(tmp_path / "venv/bin/mdnp"), "version"], env={"MDNP_RUNTIME_DIR": str(tmp_path)}).out
    assert said.split()[1] == mdnp.__version__
    root = tmp_path / "root"
    run([str(tmp_path / "venv/bin/mdnp"), "install", "--root", str(root)])
    unit = (root / "etc/systemd/system/mdnp.service").read_text()
    assert f"ExecStart={tmp_path}/venv/bin/mdnp serve" in unit


def test_the_package_says_what_it_needs_and_what_is_the_operators(package: Path) -> None:
    control = run(["dpkg-deb", "-f", str(package)]).out
    assert f"Version: {mdnp.__version__}" in control
    assert "python3 (>= 3." in control
    files = run(["dpkg-deb", "-c", str(package)]).out
    for path in ("lib/systemd/system/mdnp.socket", "lib/systemd/system/mdnp.service", "etc/mdnp/mdnp.toml"):
        assert f"./{path}\n" in files
    assert "installed.json" not in files
    assert all(line.split()[1] == "root/root" for line in files.splitlines())
    assert run(["dpkg-deb", "-I", str(package), "conffiles"]).out.split() == ["/etc/mdnp/mdnp.toml"]


@pytest.mark.engine
def test_the_package_listens_when_installed_goes_on_when_upgraded_and_leaves_nothing(host: Host, package: Path) -> None:
    machine = Machine(host, {"/opt/package": package.parent})
    install = ["dpkg", "-i", f"/opt/package/{package.name}"]
    machine.run(install)
    assert machine.run(["mdnp", "version"]).out.split()[1] == mdnp.__version__
    assert machine.state("mdnp.socket") == "active"
    assert machine.systemctl("is-enabled", "mdnp.socket") == "enabled"
    assert "NetworkDriver" in machine.activate()
    first = machine.show("mdnp.service", "MainPID")
    machine.run(install)
    machine.soon("mdnp.service", "ActiveState", "active")
    assert machine.show("mdnp.service", "MainPID") not in ("0", first)
    assert "a package of your distribution" in machine.run(["mdnp", "install"], check=False).err
    machine.run(["dpkg", "-r", "mdnp"])
    assert machine.state("mdnp.socket") == "inactive"
    assert machine.run(["ls", "/etc/mdnp"]).out.split() == ["mdnp.toml"]
    machine.run(["dpkg", "-P", "mdnp"])
    ours = ["/etc/mdnp", "/var/lib/mdnp", "/usr/lib/mdnp", "/usr/bin/mdnp", "/lib/systemd/system/mdnp.socket"]
    assert machine.run(["find", *ours, "/etc/systemd/system", "-name", "*mdnp*"], check=False).out == ""
    machine.close()
