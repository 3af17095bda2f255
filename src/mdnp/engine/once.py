"""
One question to the engine, and the end: for a command that asks little. Blocking, and without the weight of an HTTP
library, which would take longer to import than the answer takes.
"""

import http.client
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from mdnp.engine import EngineUnavailable

_LIMIT_S = 30.0
_OK, _ABSENT = 200, 404


def get(docker: Path, path: str) -> Any:
    """
    The JSON at `path` of the API, which is quoted here; None if Docker does not have it. Errors: EngineUnavailable.
    """
    connection = _Connection(docker)
    try:
        connection.request("GET", quote(path, safe="/?=&"), headers={"Host": "docker"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == _ABSENT:
            return None
        if answer.status != _OK:
            raise EngineUnavailable(f"Docker answers {answer.status} to {path}")
        return msgspec.json.decode(body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EngineUnavailable(
            f"Docker cannot be asked at {docker} ({error}): start it, or name its socket in MDNP_DOCKER_HOST"
        ) from error
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=_LIMIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
