"""Files that cannot be used are named before anybody is asked."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mdnp.cluster.access import Access, connect, read_material, read_password
from mdnp.install import certificates, file
from mdnp.install.certificates import Paths
from mdnp.model.errors import InvalidParameter
from mdnp.model.etcd_url import EtcdURL
from mdnp.model.tcp_address import TcpAddress
from rig.command import run

URL = EtcdURL("127.0.0.1", 2379, tls=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return made(tmp_path_factory.mktemp("keys"))


def made(folder: Path) -> Paths:
    file.write(Path("/"), certificates.missing(Path("/"), folder, TcpAddress("127.0.0.1", 2379)))
    return certificates.paths(folder)


def test_good_files_are_read_as_they_are(keys: Paths) -> None:
    material = read_material(Access(keys.ca.cert, keys.client.cert, keys.client.key))

    assert (material.ca, material.cert, material.key) == (
        keys.ca.cert.read_bytes(),
        keys.client.cert.read_bytes(),
        keys.client.key.read_bytes(),
    )
    assert b"PRIVATE" not in repr(material).encode()


def test_without_an_authority_those_of_the_system_are_trusted() -> None:
    material = read_material(Access())

    assert material.ca is None or b"BEGIN CERTIFICATE" in material.ca
    assert (material.cert, material.key) == (None, None)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, keys: Paths) -> None:
    gone = tmp_path / "gone"
    for access, fault in (
        (Access(ca=gone), f"etcd_ca {gone}: No such file or directory"),
        (Access(cert=gone, key=keys.client.key), f"etcd_cert {gone}: No such file or directory"),
        (Access(cert=keys.client.cert, key=gone), f"etcd_key {gone}: No such file or directory"),
    ):
        with pytest.raises(InvalidParameter) as caught:
            connect([URL], access)
        assert str(caught.value) == fault


def test_what_holds_no_certificate_or_key_is_named(tmp_path: Path, keys: Paths) -> None:
    text = tmp_path / "text"
    text.write_text("hello\n")
    others = made(tmp_path / "others")
    for access, fault in (
        (Access(ca=text), f"etcd_ca {text}: holds no certificate that can be read"),
        (Access(cert=text, key=keys.client.key), f"etcd_cert {text}, etcd_key {keys.client.key}: "),
        (Access(cert=keys.client.cert, key=text), f"etcd_cert {keys.client.cert}, etcd_key {text}: "),
        (
            Access(cert=keys.client.cert, key=others.client.key),
            f"etcd_key {others.client.key}: is not the key of {keys.client.cert}",
        ),
    ):
        with pytest.raises(InvalidParameter) as caught:
            connect([URL], access)
        assert str(caught.value).startswith(fault)


@pytest.mark.parametrize(("content", "password"), [("secret", "secret"), ("se cret\n", "se cret"), ("a\r\nb\n", "a")])
def test_the_password_is_the_first_line(tmp_path: Path, content: str, password: str) -> None:
    path = tmp_path / "password"
    path.write_text(content)

    assert read_password(Access(user="mdnp", password_file=path)) == password


@pytest.mark.parametrize("content", ["", "\n", "\nsecret"])
def test_an_empty_password_is_refused_at_once(tmp_path: Path, content: str) -> None:
    path = tmp_path / "password"
    path.write_text(content)

    with pytest.raises(InvalidParameter, match="is empty"):
        connect([URL], Access(user="mdnp", password_file=path))


def test_secrets_that_others_may_read_are_told(
    tmp_path: Path, keys: Paths, caplog: pytest.LogCaptureFixture, copied: Callable[[Path], Path]
) -> None:
    path = tmp_path / "password"
    path.write_text("secret")
    path.chmod(0o640)
    with caplog.at_level(logging.WARNING):
        read_password(Access(user="mdnp", password_file=path))
        read_material(Access(cert=keys.client.cert, key=copied(keys.client.key)))

    assert [one.split(" ")[0] for one in caplog.messages] == ["etcd_password_file", "etcd_key"]


@pytest.mark.long
def test_a_host_that_is_in_no_cluster_loads_no_grpc() -> None:
    loaded = "import sys, mdnp.daemon, mdnp.cluster.access; print({'grpc', 'google.protobuf'} & set(sys.modules))"

    assert run([sys.executable, "-c", loaded]).out == "set()\n"


def test_without_grpc_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mdnp.cluster.etcd", "mdnp.cluster.servers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)

    with pytest.raises(InvalidParameter, match=r"has grpc is not installed: pip install 'mdnp\[cluster\]'"):
        connect([URL], Access())


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    def copy(path: Path) -> Path:
        there = tmp_path / path.name
        there.write_bytes(path.read_bytes())
        there.chmod(0o644)
        return there

    return copy
