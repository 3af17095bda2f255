"""The small authority, made by the real openssl."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from mdnp.install import certificates, file
from mdnp.install.certificates import DAYS, missing, names, paths, present
from mdnp.model.errors import Conflict, InvalidParameter, MdnpError
from mdnp.model.tcp_address import TcpAddress

pytestmark = pytest.mark.long

ADDRESS = TcpAddress("127.0.0.1", 4460)
FOLDER = Path("/etc/mdnp/tls")
ALL = ["ca.pem", "ca-key.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"]


def made(root: Path, address: TcpAddress = ADDRESS) -> list[str]:
    """Make what is missing and write it; its names."""
    files = missing(root, FOLDER, address)
    file.write(root, files)
    return [one.path.name for one in files]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made(tmp_path)
    return tmp_path


def there(root: Path, name: str) -> Path:
    return file.below(root, FOLDER / name)


def said(root: Path, address: TcpAddress = ADDRESS) -> tuple[type[MdnpError], str]:
    before = {path: path.read_bytes() for path in there(root, "").iterdir()}
    with pytest.raises(MdnpError) as caught:
        missing(root, FOLDER, address)
    assert {path: path.read_bytes() for path in there(root, "").iterdir()} == before
    return caught.type, str(caught.value)


def shown(root: Path, name: str, *what: str) -> str:
    command = ["openssl", "x509", "-in", str(there(root, name)), "-noout", *what]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_all_that_is_needed_is_made_and_keys_are_their_owner_s_only(tmp_path: Path) -> None:
    assert made(tmp_path) == ALL

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in there(tmp_path, "").iterdir()}
    assert modes == {name: 0o600 if name.endswith("-key.pem") else 0o644 for name in ALL}


def test_a_second_time_nothing_is_made(root: Path) -> None:
    assert made(root) == []
    assert [one.path.name for one in present(root, FOLDER)] == ALL


def test_nothing_is_written_by_making(tmp_path: Path) -> None:
    missing(tmp_path, FOLDER, ADDRESS)

    assert list(tmp_path.iterdir()) == []


def test_each_certificate_is_for_its_own_use(root: Path) -> None:
    assert "TLS Web Server Authentication" in shown(root, "server.pem", "-ext", "extendedKeyUsage")
    assert "TLS Web Client Authentication" in shown(root, "client.pem", "-ext", "extendedKeyUsage")
    assert "CA:TRUE, pathlen:0" in shown(root, "ca.pem", "-ext", "basicConstraints")


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "client.pem"])
def test_certificates_last_as_long_as_is_said(root: Path, name: str) -> None:
    day = 24 * 3600

    assert "will not expire" in shown(root, name, "-checkend", str((DAYS - 1) * day))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1", "localhost", "::1")),
        ("::1", ("::1", "localhost", "127.0.0.1")),
        ("localhost", ("localhost", "127.0.0.1", "::1")),
        ("192.0.2.7", ("192.0.2.7",)),
        ("host.lan", ("host.lan",)),
    ],
)
def test_the_server_s_certificate_is_for_the_host_that_docker_calls(host: str, expected: tuple[str, ...]) -> None:
    assert names(host) == expected


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", "host.lan"])
def test_any_host_can_be_called(tmp_path: Path, host: str) -> None:
    assert made(tmp_path, TcpAddress(host, 4460)) == ALL
    assert made(tmp_path, TcpAddress(host, 4461)) == []


@pytest.mark.parametrize("pair", [("server.pem", "server-key.pem"), ("client.pem", "client-key.pem")])
def test_a_pair_that_was_moved_away_is_made_of_the_same_authority(root: Path, pair: tuple[str, str]) -> None:
    authority = there(root, "ca.pem").read_bytes()
    for name in pair:
        there(root, name).unlink()

    assert made(root) == list(pair)
    assert there(root, "ca.pem").read_bytes() == authority


def test_the_authority_s_key_may_be_kept_elsewhere(root: Path) -> None:
    there(root, "ca-key.pem").unlink()

    assert made(root) == []


def test_without_the_authority_s_key_no_certificate_is_made(root: Path) -> None:
    for name in ("ca-key.pem", "client.pem", "client-key.pem"):
        there(root, name).unlink()

    assert said(root) == (Conflict, f"{FOLDER}/ca-key.pem is not there: it is needed to make client.pem")


@pytest.mark.parametrize(
    ("gone", "left"),
    [("server.pem", "server-key.pem"), ("client-key.pem", "client.pem"), ("ca.pem", "ca-key.pem")],
)
def test_half_of_a_pair_is_never_made_up_for(root: Path, gone: str, left: str) -> None:
    there(root, gone).unlink()

    assert said(root) == (
        Conflict,
        f"{FOLDER}/{left} is there without {gone}: bring that back, or move {left} away too",
    )


def test_a_certificate_for_another_host_is_told(root: Path) -> None:
    assert said(root, TcpAddress("192.0.2.7", 4460)) == (
        Conflict,
        f"{FOLDER}/server.pem is not for 192.0.2.7: move it and server-key.pem away to have it made anew",
    )


def test_a_certificate_of_another_authority_is_told(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    made(other)
    for name in ("client.pem", "client-key.pem"):
        shutil.copy(there(other, name), there(root, name))

    kind, words = said(root)

    assert (kind, words.startswith(f"{FOLDER}/client.pem is not accepted: openssl verify: ")) == (Conflict, True)


def test_without_openssl_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(InvalidParameter) as caught:
        certificates.missing(tmp_path, FOLDER, ADDRESS)

    assert str(caught.value) == (
        "openssl: No such file or directory: install it (`apt install openssl`), or give certificates of your own"
    )
    assert paths(FOLDER).client.key == FOLDER / "client-key.pem"
