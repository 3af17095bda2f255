"""What is looked at, on whatever host this is: files, the engine's answers, and what cannot be had."""

import json
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mdnp.config import Settings
from mdnp.doctor import Unknown, facts, units
from mdnp.doctor.checks import judge
from mdnp.kernel.signpost import Signposts
from mdnp.model.errors import MdnpError
from rig.command import run
from tests.kernel.grounds import own_namespace


def _nobody(_path: str) -> object:
    raise MdnpError("nobody")


def _settings(folder: Path) -> Settings:
    return Settings(folder / "plugins/mdnp.sock", folder / "state", folder / "run", f"unix://{folder}/docker.sock")


def test_what_cannot_be_had_says_why(tmp_path: Path) -> None:
    seen = facts.gather(_settings(tmp_path), _nobody, configuration="", root=tmp_path)

    assert seen.daemon == Unknown("nobody")
    assert str(seen.docker.reason).startswith(f"Docker cannot be asked at {tmp_path}/docker.sock ")  # type: ignore[union-attr]
    assert seen.resolvers == Unknown(f"{tmp_path}/etc/resolv.conf: no such file or program")
    assert seen.unclaimed == Unknown("nobody")
    assert {one.name for one in judge(seen) if one.verdict == "unknown"} >= {"resolver", "docker-version", "orphans"}


def test_without_programs_the_rest_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    seen = facts.gather(_settings(tmp_path), _nobody, configuration="", root=tmp_path)

    assert seen.nft == Unknown("nft: no such file or program")
    assert isinstance(seen.chains, Unknown)
    assert isinstance(seen.features, Unknown)
    assert not isinstance(seen.disk, Unknown)
    assert not isinstance(seen.clock, Unknown)


@pytest.mark.root
def test_a_table_of_ours_with_an_owner_keeps_no_chain_from_being_read(tmp_path: Path) -> None:
    with own_namespace():
        run(["nft", "add table inet theirs; add chain inet theirs c { type filter hook forward priority 0; }"])
        signposts = Signposts()
        signposts.put_up([])

        seen = facts.gather(_settings(tmp_path), _nobody, configuration="", root=tmp_path)
        signposts.close()

    assert not isinstance(seen.chains, Unknown)
    assert [(one.table, one.name) for one in seen.chains] == [("theirs", "c")]


def test_a_socket_that_listens_is_known_from_one_that_was_left(tmp_path: Path) -> None:
    path = tmp_path / "mdnp.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        bound = facts.gather(_settings(tmp_path), _nobody, configuration="", root=tmp_path)
        one.listen()
        listens = facts.gather(_settings(tmp_path), _nobody, configuration="", root=tmp_path)

    assert (str(path) in bound.listening, str(path) in listens.listening) == (False, True)  # type: ignore[operator]


def test_what_else_docker_could_find_is_found_in_each_of_its_places(tmp_path: Path) -> None:
    names = ["etc/docker/plugins/mdnp.spec", "usr/lib/docker/plugins/mdnp/mdnp.json", "plugins/mdnp/mdnp.sock"]
    for name in [*names, "etc/docker/plugins/other.spec", "etc/docker/plugins/mdnp.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    seen = facts.gather(_settings(tmp_path), _nobody, configuration="", root=tmp_path)

    assert set(seen.specs) == {tmp_path / name for name in names}  # type: ignore[arg-type]


def test_whom_systemd_resolved_asks_is_as_it_reads_its_files(tmp_path: Path) -> None:
    files = {
        "etc/systemd/resolved.conf": "[Resolve]\n#DNS=192.0.2.9\nDNS=192.0.2.1\n",
        "etc/systemd/resolved.conf.d/a.conf": "[Resolve]\nDNS=\nDNS=192.0.2.2 192.0.2.3\n",
        "etc/systemd/resolved.conf.d/mdnp.conf": "[Resolve]\nDNS=127.0.0.153\nDomains=~mdnp\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    seen = facts.gather(_settings(tmp_path), _nobody, configuration="", root=tmp_path)

    assert seen.resolved == ("192.0.2.2", "192.0.2.3", "127.0.0.153")


def test_certificates_are_those_of_the_settings_and_of_docker_s_file(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("server.pem", "client.pem")]
    for file in files:
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "/dev/null"]
        run(["openssl", "req", "-x509", *key, "-subj", "/CN=x", "-days", "10", "-out", str(file)])
    spec = tmp_path / "etc/docker/plugins/mdnp.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"TLSConfig": {"CertFile": str(files[1]), "CAFile": "/nowhere/ca.pem"}}))
    settings = replace(_settings(tmp_path), tls_cert=files[0])

    ends = facts.gather(settings, _nobody, configuration="", root=tmp_path).certificates

    assert not isinstance(ends, Unknown)
    days = [(ends[str(file)] - time.time()) / 86400 for file in files]  # type: ignore[operator]
    assert days == pytest.approx([10, 10], abs=0.1)
    assert isinstance(ends["/nowhere/ca.pem"], Unknown)


def test_units_are_read_with_their_drop_ins_as_systemd_does(tmp_path: Path) -> None:
    files = {
        "usr/lib/systemd/system/mdnp.socket": "[Unit]\nBefore=docker.service a.service\n[Install]\nWantedBy=x\n",
        "usr/lib/systemd/system/mdnp.service": "[Unit]\nAfter=shadowed.service\n",
        "etc/systemd/system/mdnp.service": "[Unit]\n# After=no.service\nAfter=one.service\n",
        "etc/systemd/system/mdnp.socket.d/a.conf": "[Unit]\nBefore=\nBefore=b.service\n",
        "usr/lib/systemd/system/mdnp.service.d/b.conf": "[Unit]\nAfter = two.service\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    wants = tmp_path / "etc/systemd/system/sockets.target.wants"
    wants.mkdir()
    (wants / "mdnp.socket").symlink_to("/nowhere/mdnp.socket")

    read = units.read(tmp_path)

    assert read.units["mdnp.socket"] == {"Unit.Before": ["b.service"], "Install.WantedBy": ["x"]}
    assert read.units["mdnp.service"] == {"Unit.After": ["one.service", "two.service"]}
    assert (read.units["docker.service"], read.enabled, read.runs) == (None, frozenset({"mdnp.socket"}), False)
