"""Asks the daemon, over the operator's socket. A bare socket: importing an HTTP client would double a call's time."""

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mdnp.model.errors import MdnpError

# `mdnp gc` waits for two listings of Docker's, which answers in seconds if it is well.
_LIMIT_S = 120.0
_OK = 200


class NoDaemon(MdnpError):
    """Start it."""


class Refused(MdnpError):
    """As the daemon says."""


def ask(admin_socket: Path, path: str, method: str = "GET", limit_s: float = _LIMIT_S, *, body: object = None) -> Any:
    """
    The JSON at `path`; `body` is sent as JSON, if there is any.

    Errors: NoDaemon when nobody answers, Refused with the daemon's own words.
    """
    sent = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {quote(path)} HTTP/1.0\r\nHost: mdnp\r\nContent-Length: {len(sent)}\r\n\r\n"
    status, answered = _exchange(admin_socket, head.encode() + sent, limit_s)
    try:
        value = json.loads(answered)
    except ValueError as error:
        raise _nobody(admin_socket, "what answers is not mdnp") from error
    if status != _OK:
        raise Refused(value["error"])
    return value


def _exchange(admin_socket: Path, request: bytes, limit_s: float) -> tuple[int, bytes]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(limit_s)
            connection.connect(str(admin_socket))
            connection.sendall(request)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    except PermissionError as error:
        raise NoDaemon(f"{admin_socket}: permission denied: only root may ask; try as root") from error
    except OSError as error:
        raise _nobody(admin_socket, error.strerror or str(error)) from error
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if not status or not status[0].isdigit():
        raise _nobody(admin_socket, "it hung up")
    return int(status[0]), body


def _nobody(admin_socket: Path, reason: str) -> NoDaemon:
    return NoDaemon(
        f"no mdnp answers at {admin_socket} ({reason}): start it with `mdnp serve`, or name its runtime folder in"
        " MDNP_RUNTIME_DIR"
    )
