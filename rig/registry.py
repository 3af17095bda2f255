"""
A registry for plugins and images, as small as engines take one: `registry.py PORT`.

Blobs and manifests are kept in memory; whoever comes may push. It stands alone, so that it can be run as a process in
the network namespace of a test host: engines speak plain HTTP to 127.0.0.0/8. (OCI Distribution Specification, 1.1.)
"""

import json
import re
import sys
import uuid
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_BLOB = re.compile(r"^/v2/.+/blobs/(sha256:[0-9a-f]{64})$")
_UPLOAD = re.compile(r"^(/v2/.+/blobs/uploads)/([0-9a-f]*)$")
_MANIFEST = re.compile(r"^/v2/(.+)/manifests/([^/]+)$")


class Registry(ThreadingHTTPServer):
    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}  # by name and reference: its type, and itself


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Registry

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/v2/":
            self._answer(200)
        elif (blob := _BLOB.match(path)) and blob[1] in self.server.blobs:
            self._give("application/octet-stream", self.server.blobs[blob[1]])
        elif (manifest := _MANIFEST.match(path)) and manifest.groups() in self.server.manifests:
            self._give(*self.server.manifests[manifest[1], manifest[2]])
        else:
            self._unknown()

    do_HEAD = do_GET  # noqa: N815  # http.server's name

    def do_POST(self) -> None:
        """Begin an upload."""
        self._body()
        if upload := _UPLOAD.match(urlsplit(self.path).path):
            identity = uuid.uuid4().hex
            self.server.uploads[identity] = b""
            self._go_on(upload[1], identity)
        else:
            self._unknown()

    def do_PATCH(self) -> None:
        """The next part of an upload."""
        body = self._body()
        upload = _UPLOAD.match(urlsplit(self.path).path)
        if upload and upload[2] in self.server.uploads:
            self.server.uploads[upload[2]] += body
            self._go_on(upload[1], upload[2])
        else:
            self._unknown()

    def do_PUT(self) -> None:
        """The end of an upload, or a manifest."""
        parts, body = urlsplit(self.path), self._body()
        upload, manifest = _UPLOAD.match(parts.path), _MANIFEST.match(parts.path)
        if upload and upload[2] in self.server.uploads:
            whole = self.server.uploads.pop(upload[2]) + body
            digest = _digest(whole)
            if parse_qs(parts.query).get("digest") != [digest]:
                self._answer(400, _errors("DIGEST_INVALID"))
                return
            self.server.blobs[digest] = whole
            self._answer(201, headers={"Docker-Content-Digest": digest, "Location": parts.path})
        elif manifest:
            kept = (self.headers.get("Content-Type", ""), body)
            for reference in (manifest[2], _digest(body)):
                self.server.manifests[manifest[1], reference] = kept
            self._answer(201, headers={"Docker-Content-Digest": _digest(body), "Location": parts.path})
        else:
            self._unknown()

    def _go_on(self, uploads: str, identity: str) -> None:
        end = max(len(self.server.uploads[identity]) - 1, 0)
        headers = {"Location": f"{uploads}/{identity}", "Range": f"0-{end}", "Docker-Upload-UUID": identity}
        self._answer(202, headers=headers)

    def _give(self, kind: str, content: bytes) -> None:
        self._answer(200, content, {"Content-Type": kind, "Docker-Content-Digest": _digest(content)})

    def _unknown(self) -> None:
        self._answer(404, _errors("NAME_UNKNOWN"))

    def _answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        given = {"Docker-Distribution-Api-Version": "registry/2.0", **(headers or {}), "Content-Length": len(content)}
        for name, value in given.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while length := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(length))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(chunks)


def _digest(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


def _errors(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code}]}).encode()


if __name__ == "__main__":
    Registry(int(sys.argv[1])).serve_forever()
