"""The image that test containers run: one static busybox with all its applets. No registry is asked."""

import io
import tarfile
from functools import cache
from pathlib import Path

from rig.command import RigError, run

IMAGE = "busybox:rig"
_BUSYBOX = (Path("/usr/bin/busybox"), Path("/bin/busybox"))
_FOLDERS = ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var", "www")
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/false\n",
    "etc/group": b"root:x:0:\nnobody:x:65534:\n",
    "www/index.html": b"busybox:rig\n",
}


@cache
def image() -> bytes:
    """A tar file for `docker import`, with a page for httpd in /www."""
    busybox = next((path for path in _BUSYBOX if path.exists()), None)
    if busybox is None:
        raise RigError("no busybox found; the package busybox-static has it (tools/setup installs it)")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in _FOLDERS:
            _add(tar, name, tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755)
        _add(tar, "bin/busybox", content=busybox.read_bytes(), mode=0o755)
        for applet in sorted({*run([str(busybox), "--list"]).out.split()} - {"busybox"}):
            _add(tar, f"bin/{applet}", tarfile.SYMTYPE, target="busybox")
        for name, content in _FILES.items():
            _add(tar, name, content=content)
    return buffer.getvalue()


def _add(
    tar: tarfile.TarFile,
    name: str,
    kind: bytes = tarfile.REGTYPE,
    *,
    content: bytes = b"",
    target: str = "",
    mode: int = 0o644,
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, len(content)
    tar.addfile(entry, io.BytesIO(content))
