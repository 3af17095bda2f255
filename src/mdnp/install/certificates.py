"""
A small authority: its certificate, one for mdnp and one for Docker. Made by openssl(1), which only installing needs.

What is there is kept and never overwritten. What is half there is an error: the other half may be dear to somebody.
"""

import secrets
import subprocess
import tempfile
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from mdnp.install.file import OPEN, SECRET, File, below
from mdnp.model.errors import Conflict, InvalidParameter
from mdnp.model.tcp_address import TcpAddress

DAYS = 3650  # of all three: they stay on one host, and the daemon warns a month before an end

_SERIAL_BYTES = 16
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CONFIG = """\
[req]
distinguished_name = nobody
prompt = no
[nobody]
CN = mdnp
[ca]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = @names
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[names]
"""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, by their paths on the installed host."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class Paths:
    """Where the six files are; `server` is shown by mdnp, `client` by Docker."""

    ca: Pair
    server: Pair
    client: Pair


def paths(folder: Path) -> Paths:
    ca, server, client = (
        Pair(folder / f"{name}.pem", folder / f"{name}-key.pem") for name in ("ca", "server", "client")
    )
    return Paths(ca, server, client)


def names(host: str) -> tuple[str, ...]:
    """The names and addresses that the server's certificate is for: all of the loopback, or the one."""
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return tuple(dict.fromkeys((host, *_LOOPBACK))) if loopback else (host,)


def missing(root: Path, folder: Path, address: TcpAddress) -> tuple[File, ...]:
    """
    What `folder` lacks below `root`, made now, but not written; empty when all is there.

    Errors: Conflict for half of a pair, and for a certificate that has expired or is for another host or of another
    authority; InvalidParameter when openssl is missing or refuses.
    """
    where = paths(folder)
    lacking = [pair for pair in (where.ca, where.server, where.client) if _lacks(root, pair, where)]
    with tempfile.TemporaryDirectory(prefix="mdnp-install-") as scratch:
        maker = _Maker(root, Path(scratch), where, address)
        made = [file for pair in lacking for file in maker.make(pair)]
        for pair in (where.server, where.client):
            maker.check(pair)
    return tuple(made)


def present(root: Path, folder: Path) -> tuple[File, ...]:
    """Those of the six that are there, with what they say."""
    where = paths(folder)
    pairs = (where.ca, where.server, where.client)
    modes = [item for pair in pairs for item in ((pair.cert, OPEN), (pair.key, SECRET))]
    there = [(path, mode, below(root, path)) for path, mode in modes]
    return tuple(File(path, mode, found.read_bytes()) for path, mode, found in there if found.exists())


def _lacks(root: Path, pair: Pair, where: Paths) -> bool:
    has_cert, has_key = (below(root, path).exists() for path in (pair.cert, pair.key))
    if has_cert and not has_key and pair == where.ca:
        return False  # who keeps the authority's key elsewhere does well
    if has_cert != has_key:
        there, gone = (pair.cert, pair.key) if has_cert else (pair.key, pair.cert)
        raise Conflict(f"{there} is there without {gone.name}: bring that back, or move {there.name} away too")
    return not has_cert


class _Maker:
    """Makes in a scratch folder of ours, which nobody else may read."""

    def __init__(self, root: Path, scratch: Path, where: Paths, address: TcpAddress) -> None:
        self._root = root
        self._scratch = scratch
        self._where = where
        self._host = address.host
        self._config = scratch / "openssl.cnf"
        self._config.write_text(_CONFIG + "".join(_named(*one) for one in enumerate(names(address.host))))

    def make(self, pair: Pair) -> tuple[File, File]:
        cert, key = self._scratch / pair.cert.name, self._scratch / pair.key.name
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key))
        if pair == self._where.ca:
            self._sign_itself(cert, key)
        else:
            self._sign(cert, key, "server" if pair == self._where.server else "client")
        return File(pair.cert, OPEN, cert.read_bytes()), File(pair.key, SECRET, key.read_bytes())

    def _sign_itself(self, cert: Path, key: Path) -> None:
        _openssl(
            *("req", "-x509", "-new", "-config", str(self._config), "-extensions", "ca", "-subj", "/CN=mdnp authority"),
            *("-days", str(DAYS), "-set_serial", _serial(), "-key", str(key), "-out", str(cert)),
        )

    def _sign(self, cert: Path, key: Path, kind: str) -> None:
        asked = cert.with_suffix(".csr")
        subject = "/CN=mdnp" if kind == "server" else "/CN=Docker"
        _openssl("req", "-new", "-config", str(self._config), "-subj", subject, "-key", str(key), "-out", str(asked))
        ca_key = self._found(self._where.ca.key)
        if not ca_key.exists():
            raise Conflict(f"{self._where.ca.key} is not there: it is needed to make {cert.name}")
        _openssl(
            *("x509", "-req", "-in", str(asked), "-CA", str(self._found(self._where.ca.cert)), "-CAkey", str(ca_key)),
            *("-extfile", str(self._config), "-extensions", kind, "-days", str(DAYS), "-set_serial", _serial()),
            *("-out", str(cert)),
        )

    def check(self, pair: Pair) -> None:
        """Whether the other side will take it; of what we have just made, too."""
        found = str(self._found(pair.cert))
        server = pair == self._where.server
        purpose = "sslserver" if server else "sslclient"
        try:
            _openssl("verify", "-CAfile", str(self._found(self._where.ca.cert)), "-purpose", purpose, found)
        except InvalidParameter as error:
            raise Conflict(f"{pair.cert} is not accepted: {error}: move it and its key away to have it made") from error
        if server and "NOT match" in _openssl("x509", "-in", found, "-noout", _check_of(self._host), self._host):
            raise Conflict(
                f"{pair.cert} is not for {self._host}: move it and {pair.key.name} away to have it made anew"
            )

    def _found(self, path: Path) -> Path:
        """The one that is there, else the one that we made."""
        there = below(self._root, path)
        return there if there.exists() else self._scratch / path.name


def _named(number: int, name: str) -> str:
    return f"{'IP' if _is_address(name) else 'DNS'}.{number} = {name}\n"


def _check_of(host: str) -> str:
    return "-checkip" if _is_address(host) else "-checkhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _serial() -> str:
    return f"0x{secrets.token_hex(_SERIAL_BYTES - 1)}"  # of at most 20 bytes and positive: RFC 5280, 4.1.2.2


def _openssl(*arguments: str) -> str:
    try:
        done = subprocess.run(["openssl", *arguments], check=False, capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise InvalidParameter(
            f"openssl: {error.strerror}: install it (`apt install openssl`), or give certificates of your own"
        ) from error
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.strip()]
        raise InvalidParameter(f"openssl {arguments[0]}: {'; '.join(words[:3])}")
    return done.stdout
