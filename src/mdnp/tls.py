"""
TLS for whoever calls over TCP: who listens shows a certificate, who calls must show one of the right authority.

Everything that can be wrong with the files is found before anybody calls, with the file named.
"""

import logging
import ssl
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mdnp.model.errors import InvalidParameter
from mdnp.model.tcp_address import TcpAddress

log = logging.getLogger(__name__)

_DAY_S = 24 * 3600
_WARN_DAYS = 30
_LINGER_READS = 64  # of at most 256 KiB: a call that was sent before its sender heard that he is refused
_NO_MATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_DEAF = ("HTTP_REQUEST", "WRONG_VERSION_NUMBER")  # who does not speak TLS hears no alert
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "UNSUPPORTED_PROTOCOL": "it speaks an older TLS than 1.2",
    "HTTP_REQUEST": "it speaks HTTP without TLS (Docker's Addr must begin with https://)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "NO_SHARED_CIPHER": "it has no cipher that we take",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of our certificate (its CAFile)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate (is it of its CAFile, and for this host?)",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our certificate has expired",
}


@dataclass(frozen=True)
class Material:
    """The files, as PEM: our certificate, its key, and the authority whose certificates callers must show."""

    cert: Path
    key: Path
    ca: Path


def context(material: Material, address: TcpAddress) -> ssl.SSLContext:
    """
    How to speak with who calls `address`: TLS 1.2 or newer, with a certificate of `ca` on the other side.

    What is no hindrance yet is logged: a key that others may read, a certificate that soon expires or is for another
    host. Errors: InvalidParameter that names the file.
    """
    certificate = _certificates("tls_cert", material.cert)
    authority = _certificates("tls_ca", material.ca)
    _check_authority(material.ca, authority)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_pair(ours, material)
    _check_certificate(ours, material.cert, certificate, address)
    ours.load_verify_locations(cadata=authority)
    ours.verify_mode = ssl.CERT_REQUIRED
    ours.num_tickets = 0  # nobody resumes: each connection shows its certificate
    ours.sslobject_class = _Telling
    return ours


# The handshake.


class Handshake:
    """One that is under way; `refused` is told once, and at once, why it fails."""

    def __init__(self, refused: Callable[[str], None]) -> None:
        self._refused = refused
        self._left = _LINGER_READS
        self.error: ssl.SSLError | None = None

    def begin(self) -> None:
        """In the context in which asyncio is then asked to shake hands."""
        _under_way.set(self)

    def fail(self, error: ssl.SSLError) -> None:
        self.error = error
        if error.reason in _DEAF:
            self._left = 0
        self._refused(reason(error))

    def linger(self) -> bool:
        self._left -= 1
        return self._left >= 0


_under_way: ContextVar[Handshake] = ContextVar("_under_way")


class _Telling(ssl.SSLObject):
    """
    Tells the other side why it is refused.

    asyncio closes on a failed handshake without sending the alert, and where the other side has sent more by then, as
    with TLS 1.3 it has (its call), the kernel resets the connection: Docker's user would read "connection reset". So a
    failure looks to asyncio as if more were to come: it sends the alert, and reads until the other side hangs up or the
    handshake's time is over.
    """

    def do_handshake(self) -> None:
        handshake = _under_way.get()
        if handshake.error is None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                handshake.fail(error)
            else:
                return
        if handshake.error is not None and not handshake.linger():
            raise handshake.error
        raise ssl.SSLWantReadError


def reason(error: ssl.SSLError) -> str:
    """Why a handshake failed, for whoever must mend it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return _REASONS.get(error.reason or "", (error.reason or str(error)).replace("_", " ").lower())


# The files.


def _certificates(name: str, path: Path) -> str:
    text = _text(name, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidParameter(f"{name} {path}: holds no certificate that can be read (PEM is expected)") from error
    return text


def _text(name: str, path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError as error:
        raise InvalidParameter(f"{name} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidParameter(f"{name} {path}: is no text (PEM is expected)") from error


def _check_authority(path: Path, text: str) -> None:
    reader = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    reader.load_verify_locations(cadata=text)
    authorities = reader.get_ca_certs()
    if not authorities:
        raise InvalidParameter(f"tls_ca {path}: holds no certificate of an authority (CA:TRUE)")
    ends = max(ssl.cert_time_to_seconds(str(one["notAfter"])) for one in authorities)
    if ends < time.time():
        raise InvalidParameter(f"tls_ca {path}: has expired: make a new authority, and new certificates of it")
    _warn_of_end("tls_ca", path, ends)


def _load_pair(ours: ssl.SSLContext, material: Material) -> None:
    key = _text("tls_key", material.key)
    if "PRIVATE KEY-----" not in key:
        raise InvalidParameter(f"tls_key {material.key}: holds no private key (PEM is expected)")
    if "ENCRYPTED" in key:
        raise InvalidParameter(f"tls_key {material.key}: is locked with a passphrase, which nobody could type here")
    try:
        ours.load_cert_chain(material.cert, material.key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidParameter(f"tls_key {material.key}: is not the key of {material.cert}") from error
        raise InvalidParameter(f"tls_cert {material.cert}, tls_key {material.key}: {reason(error)}") from error
    mode = stat.S_IMODE(material.key.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning("tls_key %s may be read by others than its owner (mode %o): chmod 600", material.key, mode)


def _check_certificate(ours: ssl.SSLContext, path: Path, text: str, address: TcpAddress) -> None:
    """Shake hands with ourselves: no other way in the standard library reads a certificate's dates and names."""
    try:
        found = _shown(ours, text, None)
    except ssl.SSLCertVerificationError as error:
        raise InvalidParameter(f"tls_cert {path}: {error.verify_message}: make a new one") from error
    _warn_of_end("tls_cert", path, ssl.cert_time_to_seconds(str(found["notAfter"])))
    with suppress(ValueError):
        if ip_address(address.host).is_unspecified:
            return
    try:
        _shown(ours, text, address.host)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _NO_MATCH:
            names = ", ".join(value for _kind, value in found.get("subjectAltName", ())) or "nobody"
            log.warning("tls_cert %s is for %s, not for %s: call us by one of those", path, names, address.host)


def _shown(ours: ssl.SSLContext, text: str, name: str | None) -> dict[str, Any]:
    """The certificate as a caller sees who trusts it, and who expects that `name`."""
    caller = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    caller.check_hostname = name is not None
    caller.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    caller.load_verify_locations(cadata=text)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    calling = caller.wrap_bio(back, there, server_hostname=name)
    called = ours.wrap_bio(there, back, server_side=True)
    for side in (calling, called, calling):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return dict(calling.getpeercert() or {})


def _warn_of_end(name: str, path: Path, ends: float) -> None:
    days = (ends - time.time()) / _DAY_S
    if days < _WARN_DAYS:
        log.warning("%s %s expires in %d days: Docker will find no mdnp then", name, path, days)
