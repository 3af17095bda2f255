"""Asks the daemon, over the operator's socket. A bare socket: importing an HTTP client would double a call's time."""

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mdnp.model.errors import MdnpError

_LIMIT_S = 30.0
_OK = 200


class NoDaemon(MdnpError):
    """Start it."""


class Refused(MdnpError):
    """As the daemon says."""


def ask(admin_socket: Path, path: str, method: str = "GET") -> Any:
    """The JSON at `path`. Errors: NoDaemon when nobody answers, Refused with the daemon's own words."""
    status, body = _exchange(admin_socket, f"{method} {quote(path)} HTTP/1.0\r\nHost: mdnp\r\n\r\n".encode())
    value = json.loads(body)
    if status != _OK:
        raise Refused(value["error"])
    return value


def _exchange(admin_socket: Path, request: bytes) -> tuple[int, bytes]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_LIMIT_S)
            connection.connect(str(admin_socket))
            connection.sendall(request)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    except PermissionError as error:
        raise NoDaemon(f"{admin_socket}: permission denied: only root may ask; try as root") from error
    except OSError as error:
        raise NoDaemon(
            f"no mdnp answers at {admin_socket} ({error.strerror or error}): start it with `mdnp serve`, or name its"
            " runtime folder in MDNP_RUNTIME_DIR"
        ) from error
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body
