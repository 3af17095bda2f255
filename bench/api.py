"""HTTP on a unix socket, Docker's or ours: one connection, so that no time is spent on a command's start."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

_LIMIT_S = 120.0


class Api:
    """For one thread."""

    def __init__(self, path: Path) -> None:
        self._connection = _Connection(path)

    def text(self, path: str) -> str:
        self._connection.request("GET", path)
        return self._connection.getresponse().read().decode()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """What is answered, None where nothing is. Errors: RuntimeError with what was said."""
        headers = {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, headers)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {answer.status} {said.decode(errors='replace').strip()}")
        return json.loads(said) if said.strip() else None

    def close(self) -> None:
        self._connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=_LIMIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_LIMIT_S)
        self.sock.connect(str(self._path))
