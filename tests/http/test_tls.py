"""What is wrong with the files of TLS is found at the start, with the file named."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mdnp import tls
from mdnp.install import certificates, file
from mdnp.install.certificates import Paths
from mdnp.model.errors import InvalidParameter
from mdnp.model.tcp_address import TcpAddress

ADDRESS = TcpAddress("127.0.0.1", 4460)
DAY_S = 24 * 3600


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    file.write(folder, certificates.missing(folder, Path("/"), ADDRESS))
    return folder


@pytest.fixture
def where(made: Path, tmp_path: Path) -> Paths:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return certificates.paths(tmp_path)


def material(where: Paths) -> tls.Material:
    return tls.Material(where.server.cert, where.server.key, where.ca.cert)


def refusal(where: Paths, address: TcpAddress = ADDRESS) -> str:
    with pytest.raises(InvalidParameter) as caught:
        tls.context(material(where), address)
    return str(caught.value)


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def resigned(where: Paths, days: int) -> None:
    """Sign the server's certificate again, with another end."""
    ca = ["-CA", str(where.ca.cert), "-CAkey", str(where.ca.key), "-set_serial", "7"]
    config = where.ca.cert.with_name("names.cnf")
    config.write_text("subjectAltName = IP:127.0.0.1\n")
    request = where.ca.cert.with_name("again.csr")
    openssl(
        "x509", "-x509toreq", "-in", str(where.server.cert), "-signkey", str(where.server.key), "-out", str(request)
    )
    signed = ["-days", str(days), "-extfile", str(config), "-out", str(where.server.cert)]
    openssl("x509", "-req", "-in", str(request), *ca, *signed)


def test_files_that_are_right_are_taken_without_a_word(where: Paths, caplog: pytest.LogCaptureFixture) -> None:
    tls.context(material(where), ADDRESS)

    assert caplog.messages == []


@pytest.mark.parametrize(
    ("name", "pick"),
    [
        ("tls_cert", lambda where: where.server.cert),
        ("tls_key", lambda where: where.server.key),
        ("tls_ca", lambda where: where.ca.cert),
    ],
)
def test_a_file_that_cannot_be_read_is_named(where: Paths, name: str, pick: Callable[[Paths], Path]) -> None:
    path = pick(where)
    what = "no private key" if name == "tls_key" else "no certificate that can be read"

    path.write_text("nothing")
    assert refusal(where) == f"{name} {path}: holds {what} (PEM is expected)"
    path.write_bytes(b"\xff\0")
    assert refusal(where) == f"{name} {path}: is no text (PEM is expected)"
    path.unlink()
    assert refusal(where) == f"{name} {path}: No such file or directory"
    path.mkdir()
    assert refusal(where) == f"{name} {path}: Is a directory"


def test_a_key_of_another_certificate_is_told(where: Paths) -> None:
    shutil.copy(where.client.key, where.server.key)

    assert refusal(where) == f"tls_key {where.server.key}: is not the key of {where.server.cert}"


def test_a_key_that_is_broken_is_told(where: Paths) -> None:
    lines = where.server.key.read_text().splitlines()
    where.server.key.write_text("\n".join([lines[0], "AAAA", lines[-1]]))

    assert refusal(where).startswith(f"tls_cert {where.server.cert}, tls_key {where.server.key}: ")


def test_a_key_with_a_passphrase_is_told_and_none_is_asked_for(where: Paths) -> None:
    key = str(where.server.key)
    openssl("pkcs8", "-topk8", "-in", key, "-passout", "pass:secret", "-out", f"{key}.locked")
    shutil.move(f"{key}.locked", key)

    assert refusal(where) == f"tls_key {key}: is locked with a passphrase, which nobody could type here"


def test_a_key_that_others_may_read_is_told(where: Paths, caplog: pytest.LogCaptureFixture) -> None:
    where.server.key.chmod(0o640)

    tls.context(material(where), ADDRESS)

    assert caplog.messages == [f"tls_key {where.server.key} may be read by others than its owner (mode 640): chmod 600"]


def test_a_certificate_that_has_expired_is_told(where: Paths) -> None:
    resigned(where, -1)

    assert refusal(where) == f"tls_cert {where.server.cert}: certificate has expired: make a new one"


def test_a_certificate_that_soon_expires_is_told(where: Paths, caplog: pytest.LogCaptureFixture) -> None:
    resigned(where, 5)

    tls.context(material(where), ADDRESS)

    assert caplog.messages == [f"tls_cert {where.server.cert} expires in 4 days: Docker will find no mdnp then"]


def test_a_certificate_for_another_host_is_told(where: Paths, caplog: pytest.LogCaptureFixture) -> None:
    tls.context(material(where), TcpAddress("192.0.2.7", 4460))

    names = "127.0.0.1, localhost, 0:0:0:0:0:0:0:1"
    assert caplog.messages == [
        f"tls_cert {where.server.cert} is for {names}, not for 192.0.2.7: call us by one of those"
    ]


def test_on_all_addresses_any_certificate_may_be_right(where: Paths, caplog: pytest.LogCaptureFixture) -> None:
    tls.context(material(where), TcpAddress("0.0.0.0", 4460))  # noqa: S104  # nobody listens

    assert caplog.messages == []


def test_an_authority_that_is_none_is_told(where: Paths) -> None:
    shutil.copy(where.client.cert, where.ca.cert)

    assert refusal(where) == f"tls_ca {where.ca.cert}: holds no certificate of an authority (CA:TRUE)"


def test_an_authority_that_has_expired_is_told(where: Paths) -> None:
    config = where.ca.cert.with_name("ca.cnf")
    config.write_text("basicConstraints = critical, CA:TRUE\n")
    request = where.ca.cert.with_name("ca.csr")
    openssl("req", "-new", "-subj", "/CN=old", "-key", str(where.ca.key), "-out", str(request))
    signed = ["-days", "-1", "-extfile", str(config), "-out", str(where.ca.cert)]
    openssl("x509", "-req", "-in", str(request), "-signkey", str(where.ca.key), *signed)

    assert refusal(where) == (f"tls_ca {where.ca.cert}: has expired: make a new authority, and new certificates of it")
