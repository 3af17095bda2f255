"""`mdnp doctor` where systemd runs: quiet after `mdnp install`, and it starts nothing by looking."""

import pytest

from rig.image import IMAGE
from tests.install.conftest import PATIENCE, PROGRAM, Machine

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.timeout(PATIENCE)]


def _found(machine: Machine) -> list[str]:
    """The findings, a line each."""
    said = machine.run([PROGRAM, "doctor"], check=False).out
    return [line for line in said.splitlines() if line.startswith(("trouble", "warning"))]


def test_under_systemd_it_starts_nothing_and_finds_what_is_out_of_order(machine: Machine) -> None:
    machine.start_docker()
    bare = _found(machine)
    machine.mdnp("install")
    idle = _found(machine)
    state = machine.state("mdnp.service")
    machine.docker("network", "create", "--driver=mdnp", "--ipam-driver=mdnp", "net")
    machine.docker("run", "-d", "--net=net", "-p=8080:80", IMAGE, "sleep", "1000")
    whole = machine.mdnp("doctor", check=False)
    machine.run(["rm", "-r", "/etc/systemd/system/docker.service.d"])
    machine.systemctl("disable", "mdnp.socket")
    spoiled = _found(machine)
    machine.mdnp("install")

    assert any("warning  unit-order: systemd has no units of mdnp" in line for line in bare), bare
    assert (idle, state) == ([], "inactive")
    assert whole.endswith(" checks, all well\n"), whole
    assert [line.partition(":")[2] for line in spoiled] == [" mdnp.socket is not enabled"]
    assert _found(machine) == []


def test_a_host_of_legacy_iptables_is_well_until_somebody_uses_the_other_kind(machine: Machine) -> None:
    for program in ("iptables", "ip6tables"):
        machine.run(["update-alternatives", "--set", program, f"/usr/sbin/{program}-legacy"])
    machine.mdnp("install")
    machine.start_docker()
    machine.docker("network", "create", "--driver=mdnp", "net")
    well = machine.mdnp("doctor", check=False)
    machine.run(["iptables-nft", "-A", "FORWARD", "-i", "mdb-+", "-j", "DROP"])
    mixed = _found(machine)
    machine.run(["iptables-nft", "-F", "FORWARD"])
    machine.run(["iptables", "-I", "FORWARD", "-o", "mdb-+", "-j", "REJECT"])
    dropped = _found(machine)

    assert well.endswith(" checks, all well\n"), well
    assert [line.split(":")[0].split()[1] for line in mixed] == ["foreign-rules", "iptables-variant"], mixed
    assert "in chain FORWARD of table ip filter (iptables-nft) drops packets of" in mixed[0]
    assert [line.split(":")[0].split()[1] for line in dropped] == ["foreign-rules"], dropped
    assert "in chain FORWARD of table ip filter (iptables) drops packets of" in dropped[0]
