"""`mdnp install --tcp`: what is put in, and a host that boots with it."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from mdnp import config
from mdnp.cli.main import cli
from mdnp.config import Settings
from mdnp.install import tcp, units
from mdnp.install.tcp import Asked
from mdnp.model.errors import Conflict, InvalidParameter, MdnpError
from rig.command import run
from rig.image import IMAGE
from tests.install.conftest import PATIENCE, Machine

CERTIFICATES = {f"{one}{kind}.pem" for one in ("ca", "server", "client") for kind in ("", "-key")}
FOUND = "etc/docker/plugins/mdnp.json"


def installed(root: Path, *arguments: str) -> str:
    result = CliRunner().invoke(
        cli, ["install", f"--root={root}", "--program=/bin/true", *arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def uninstalled(root: Path) -> str:
    return CliRunner().invoke(cli, ["uninstall", f"--root={root}"], catch_exceptions=False).output


def certificates(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.glob("etc/mdnp/tls/*")}


def test_all_that_docker_and_mdnp_read_is_put_in(tmp_path: Path) -> None:
    installed(tmp_path, "--tcp=127.0.0.1:4460")

    settings = config.load({}, {}, tmp_path / "etc/mdnp/mdnp.toml")
    assert (str(settings.listen), settings.tls_ca) == ("tcp://127.0.0.1:4460", Path("/etc/mdnp/tls/ca.pem"))
    assert json.loads((tmp_path / FOUND).read_text())["Addr"] == "https://127.0.0.1:4460"
    assert set(certificates(tmp_path)) == CERTIFICATES
    socket = (tmp_path / "etc/systemd/system/mdnp.socket").read_text()
    assert [line for line in socket.splitlines() if line.startswith("ListenStream=")] == [
        f"ListenStream={settings.socket}",
        "ListenStream=127.0.0.1:4460",
    ]
    said = run(["systemd-analyze", "verify", str(tmp_path / "etc/systemd/system/mdnp.socket")], check=False)
    assert (said.code, said.said) == (0, "")


def test_a_second_time_changes_nothing_and_uninstalling_takes_all_out(tmp_path: Path) -> None:
    installed(tmp_path, "--tcp=127.0.0.1:4460")
    before = certificates(tmp_path)

    assert "wrote" not in installed(tmp_path, "--tcp=tcp://127.0.0.1:4460")
    assert certificates(tmp_path) == before

    uninstalled(tmp_path)
    assert certificates(tmp_path) == {}
    assert not (tmp_path / FOUND).exists()


def test_tcp_is_not_taken_out_without_a_word(tmp_path: Path) -> None:
    installed(tmp_path, "--tcp=127.0.0.1:4460")

    with pytest.raises(Conflict, match=r"^mdnp is installed for TCP: say --tcp with its address again"):
        installed(tmp_path)


def test_without_tcp_the_socket_is_where_docker_looks(tmp_path: Path) -> None:
    installed(tmp_path)

    assert f"ListenStream={Settings().socket}\n" in (tmp_path / "etc/systemd/system/mdnp.socket").read_text()
    assert not (tmp_path / FOUND).exists()


def test_a_configuration_that_is_kept_is_told_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "etc/mdnp/mdnp.toml"
    file.parent.mkdir(parents=True)
    file.write_text("grace = 60\n")

    said = installed(tmp_path, "--tcp=127.0.0.1:4460")

    assert '\nlisten = "tcp://127.0.0.1:4460"\n' in said
    assert file.read_text() == "grace = 60\n"


def test_a_name_is_left_to_the_daemon_to_find() -> None:
    text = units.files("/bin/true", given={"socket": "/run/x.sock", "listen": "tcp://localhost:4460"})[0].text

    assert [line for line in text.splitlines() if "ListenStream" in line] == ["ListenStream=/run/x.sock"]


def own(root: Path) -> Asked:
    """An operator's certificates, on the host that is installed."""
    made = root / "made"
    installed(made, "--tcp=127.0.0.1:4460")
    shutil.copytree(made / "etc/mdnp/tls", root / "pki")
    names = ("server.pem", "server-key.pem", "ca.pem", "client.pem", "client-key.pem")
    return Asked("127.0.0.1:4460", *(f"/pki/{name}" for name in names))


def test_certificates_of_the_operator_s_own_are_used(tmp_path: Path) -> None:
    files, settings = tcp.files(tmp_path, own(tmp_path), ())

    assert [one.path for one in files] == [f"/{FOUND}"]
    assert json.loads(files[0].text)["TLSConfig"]["CertFile"] == "/pki/client.pem"
    assert settings["tls_cert"] == "/pki/server.pem"


def test_certificates_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    asked = own(tmp_path)
    shutil.copy(tmp_path / "pki/client-key.pem", tmp_path / "pki/server-key.pem")

    with pytest.raises(InvalidParameter, match=r"server-key\.pem: is not the key of .*server\.pem$"):
        tcp.files(tmp_path, asked, ())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(tls_cert="/x"), "certificates are for --tcp HOST:PORT, which is not given"),
        (Asked("127.0.0.1:1", tls_cert="/x", tls_key="/y"), "need --tls-ca, --docker-cert, --docker-key too"),
        (Asked("127.0.0.1"), "expected tcp://HOST:PORT"),
        (Asked("127.0.0.1:1", "x", "/y", "/z", "/a", "/b"), "x: expected an absolute path"),
    ],
)
def test_flags_that_do_not_go_together_are_told(tmp_path: Path, asked: Asked, words: str) -> None:
    with pytest.raises(MdnpError, match=words):
        tcp.files(tmp_path, asked, ())


@pytest.mark.root
@pytest.mark.engine
@pytest.mark.timeout(PATIENCE)
def test_a_host_whose_docker_finds_mdnp_on_tcp(machine: Machine) -> None:
    machine.mdnp("install", "--tcp", "127.0.0.1:4460")
    machine.start_docker()

    machine.docker("network", "create", "--driver=mdnp", "--ipam-driver=mdnp", "net")
    machine.docker("run", "-d", "--name=web", "--net=net", IMAGE, "httpd", "-f", "-h", "/www")
    machine.systemctl("restart", "mdnp.service")
    machine.docker("run", "--rm", "--net=net", IMAGE, "ping", "-c", "1", "web")

    assert machine.run(["ls", "/run/docker/plugins"], check=False).out == ""
    journal = machine.journal("mdnp.service")
    assert "and tcp://127.0.0.1:4460" in journal
    assert [line for line in journal.splitlines() if "refused" in line or "no use here" in line] == []
