"""
How the servers are spoken to, with the files read and found good before anything is begun.

gRPC is not imported here, only by what `connect` makes: a host that is in no cluster neither needs nor loads it.
"""

import logging
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mdnp.cluster import Cluster
from mdnp.model.errors import InvalidParameter
from mdnp.model.etcd_url import EtcdURL

log = logging.getLogger(__name__)

# Where distributions keep the authorities that everybody trusts, in one file.
_SYSTEM_ROOTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


@dataclass(frozen=True)
class Access:
    """
    `ca` is the authority of the servers' certificates, None for those that the system trusts; `cert` and `key` are what
    we show, if they ask; all PEM. `user` is "" where nobody is asked who he is, or a certificate's name says it.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str = ""
    password_file: Path | None = None


@dataclass(frozen=True)
class Material:
    """What the files hold. None: the libraries' own authorities, or nothing to show."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None = field(repr=False)


def connect(urls: Sequence[EtcdURL], access: Access) -> Cluster:
    """
    The cluster at these URLs; nobody is asked yet. In the loop that is to use it.

    Errors: InvalidParameter for a file that cannot be used, and when gRPC is not installed.
    """
    material = read_material(access)
    if access.user:
        read_password(access)
    try:
        from mdnp.cluster.etcd import EtcdCluster  # noqa: PLC0415  # see above
    except ModuleNotFoundError as error:
        raise InvalidParameter(
            f"etcd is set, and the Python package that has {error.name} is not installed: pip install 'mdnp[cluster]'"
        ) from error
    return EtcdCluster(urls, access, material)


def read_material(access: Access) -> Material:
    """Errors: InvalidParameter that names the file."""
    ca = _read("etcd_ca", access.ca) if access.ca else _system_roots()
    cert, key = (_read(name, path) for name, path in (("etcd_cert", access.cert), ("etcd_key", access.key)))
    if access.ca:
        _check_authority(access.ca)
    if access.cert and access.key:
        _check_pair(access.cert, access.key)
    return Material(ca, cert, key)


def read_password(access: Access) -> str:
    """The file's first line. Errors: InvalidParameter."""
    if access.password_file is None:
        raise InvalidParameter("etcd_user is set without etcd_password_file")
    lines = (_read("etcd_password_file", access.password_file) or b"").decode(errors="replace").splitlines()
    if not lines or not lines[0]:
        raise InvalidParameter(f"etcd_password_file {access.password_file}: is empty")
    _warn_of_readers("etcd_password_file", access.password_file)
    return lines[0]


def _read(name: str, path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise InvalidParameter(f"{name} {path}: {error.strerror}") from error


def _system_roots() -> bytes | None:
    path = next((Path(one) for one in _SYSTEM_ROOTS if Path(one).exists()), None)
    return path.read_bytes() if path else None


def _check_authority(path: Path) -> None:
    reader = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        reader.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise InvalidParameter(f"etcd_ca {path}: holds no certificate that can be read (PEM is expected)") from error


def _check_pair(cert: Path, key: Path) -> None:
    """A key with a passphrase is refused, and never asked for at a terminal."""
    reader = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        reader.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidParameter(f"etcd_key {key}: is not the key of {cert}") from error
        said = (error.reason or "no certificate or no key without a passphrase").replace("_", " ").lower()
        raise InvalidParameter(f"etcd_cert {cert}, etcd_key {key}: {said} (PEM is expected)") from error
    _warn_of_readers("etcd_key", key)


def _warn_of_readers(name: str, path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning("%s %s may be read by others than its owner (mode %o): chmod 600", name, path, mode)
