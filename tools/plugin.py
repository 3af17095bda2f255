"""
Builds the managed plugin for `docker plugin create`: build/plugin/config.json and build/plugin/rootfs.

The root file system is picked, not installed: of Debian's Python, of libnftables and of iptables the files that mdnp
runs on, and the pinned wheels. Anything that is not there cannot be attacked, and Docker keeps the whole of it for each
version. Nothing is done when nothing has changed since the last time.
"""

import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

from mdnp.config import Settings

HERE = Path(__file__).resolve().parent.parent
BUILD = HERE / "build"
PLUGIN = BUILD / "plugin"
SOCKET = "mdnp.sock"
STATE = "/var/lib/mdnp"

_PYTHON = Path("/usr/bin/python3")
_PINS = HERE / "requirements/cluster.txt"
_SOURCES = HERE / "src/mdnp"
_IPTABLES = HERE / "tools/plugin-iptables"
_PACKAGES = Path("usr/lib/python3/dist-packages")
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "sctp": 132}  # as IANA has them
# Files are as old as this in every build, so that the same files make the same plugin.
_EPOCH = 1_700_000_000

# The host's /run, without what is mounted below it: Docker's socket, which an engine makes anew when it starts, the
# lock of the legacy iptables, and the operator's socket, where `mdnp` on the host looks for it.
_RUN = "/host/run"
# A plugin's own /proc/sys is read only.
_SYSCTLS = "/host/proc/sys"
# In the root file system, since an upgrade leaves the environment as it was in the version that was installed first.
_CONFIG = f"""\
docker_host = "unix://{_RUN}/docker.sock"
runtime_dir = "{_RUN}/mdnp"
"""
# Docker expects the socket, and keeps the state, in one place only, and it does not call a managed plugin over TCP.
_NOT_SETTABLE = ("socket", "state_dir", "listen", "tls_cert", "tls_key", "tls_ca")

# Of Python's own: what only developers need, other protocols and formats, encodings that nothing here is in, and
# modules whose libraries nothing else needs.
_LEFT_OUT = re.compile(
    r"/(test|idlelib|tkinter|lib2to3|distutils|ensurepip|venv|pydoc_data|wsgiref|xml|xmlrpc|curses|dbm|turtledemo"
    r"|__pycache__|config-[^/]*)(/|$)"
    r"|/(pydoc|doctest|turtle|pdb|antigravity|this|cgi|sitecustomize|_pydecimal|_pyio|pickletools|plistlib"
    r"|imaplib|poplib|nntplib|smtplib|telnetlib|ftplib|mailbox|optparse)\.py$"
    r"|/encodings/(big5|cp|euc_|gb|hp_|hz|iso|johab|koi8|kz|mac_|palmos|ptcp|shift_|tis_)[^/]*$"
    r"|/lib-dynload/(_codecs_(cn|hk|iso2022|jp|kr|tw)|_curses|_curses_panel|_dbm|_tkinter|audioop|nis|ossaudiodev"
    r"|pyexpat|_elementtree|readline|xxlimited|xxlimited_35|_crypt|_test[a-z]*|_xxtestfuzz|_ctypes_test)\.cpython[^/]*$"
)
# Of the wheels: what is not imported.
_NOT_RUN = re.compile(
    r"(^|/)(tests?|bin|__pycache__|\.lock)(/|$)|\.(pyx|pxd|pxi|pyi|c|h|hash|typed)$|/(RECORD|direct_url\.json)$"
    r"|^multidict/_testcapi\.|^aiohttp/(test_utils|pytest_plugin)\.py$"
    r"|^grpc/(beta|framework)/|^google/protobuf/(testdata|compiler)/|\.proto$"
)
_LIBRARY = re.compile(r"(?:=>)?\s*(/\S+) \(0x")


class BuildError(Exception):
    """The plugin cannot be built; the text says what is missing."""


@dataclass(frozen=True)
class Size:
    """In bytes: the files as Docker unpacks them, and the layer that it keeps beside them and sends to registries."""

    files: int
    unpacked: int
    layer: int


def build() -> Path:
    """The folder for `docker plugin create`. Errors: BuildError."""
    BUILD.mkdir(exist_ok=True)
    with _alone():
        made = BUILD / "plugin.inputs"
        wanted = _inputs()
        if PLUGIN.is_dir() and made.exists() and made.read_text() == wanted:
            return PLUGIN
        made.unlink(missing_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".plugin-", dir=BUILD))
        try:
            _fill(folder)
            shutil.rmtree(PLUGIN, ignore_errors=True)
            folder.rename(PLUGIN)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        made.write_text(wanted)
    return PLUGIN


def size(folder: Path) -> Size:
    """Of a plugin's root file system."""
    files = [path for path in (folder / "rootfs").rglob("*") if path.is_file() and not path.is_symlink()]
    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as layer:
            layer.add(folder / "rootfs", ".")
        return Size(len(files), sum(path.stat().st_size for path in files), packed.tell())


def config() -> dict[str, object]:
    """What Docker is told of the plugin, and what the operator is asked to grant."""
    return {
        "description": "mdnp: networks and addresses for plain Docker",
        "entrypoint": ["/usr/bin/mdnp", "serve"],
        "workdir": "/",
        "interface": {"types": ["docker.networkdriver/1.0", "docker.ipamdriver/1.0"], "socket": SOCKET},
        "network": {"type": "host"},
        "linux": {"capabilities": ["CAP_NET_ADMIN"]},
        "mounts": [
            _mount("run", "/run", _RUN, "Docker's API, the lock of iptables, and the operator's socket in mdnp/"),
            _mount("sysctls", "/proc/sys/net", f"{_SYSCTLS}/net", "forwarding is switched on here"),
        ],
        "env": [*_environment()],
        "propagatedMount": STATE,
    }


def _mount(name: str, source: str, destination: str, why: str) -> dict[str, object]:
    """Without what is mounted below: the network namespaces in /run, held by us, could not be removed."""
    return {
        "name": name,
        "description": why,
        "type": "bind",
        "source": source,
        "destination": destination,
        "options": ["bind", "rw"],
        "settable": ["source"],
    }


def _environment() -> Iterator[dict[str, object]]:
    """Every setting but those that the plugin fixes; an empty one counts as not there."""
    for one in fields(Settings):
        if one.name not in _NOT_SETTABLE:
            name = f"MDNP_{one.name.upper()}"
            yield {"name": name, "description": f"the setting {one.name}", "value": "", "settable": ["value"]}


def _fill(folder: Path) -> None:
    root = folder / "rootfs"
    for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    # What Docker and runc mount needs a place.
    for name in ("dev", "proc", "sys", "tmp", "run/docker/plugins", "etc/mdnp", STATE, _RUN, f"{_SYSCTLS}/net"):
        (root / name.removeprefix("/")).mkdir(parents=True, exist_ok=True)
    (root / "etc/mdnp/mdnp.toml").write_text(_CONFIG)
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\n")
    # nft shows a protocol by its name only where it finds it here, and what it shows is compared with what was told.
    (root / "etc/protocols").write_text("".join(f"{name} {number}\n" for name, number in _PROTOCOLS.items()))
    _take_python(root)
    _take_firewall(root)
    _install(root)
    _take_libraries(root)
    _check(root)
    _compile(root)
    (folder / "config.json").write_text(json.dumps(config(), indent=2) + "\n")
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (_EPOCH, _EPOCH), follow_symlinks=False)


def _take_python(root: Path) -> None:
    version = _version(_PYTHON)
    if version != f"{sys.version_info.major}.{sys.version_info.minor}":
        raise BuildError(
            f"{_PYTHON} is Python {version}, .venv another: make .venv with it (PYTHON={_PYTHON} make setup)"
        )
    _take(_PYTHON, root)
    for package in (f"python{version}-minimal", f"libpython{version}-minimal", f"libpython{version}-stdlib"):
        for name in _said(["dpkg-query", "-L", package]).splitlines():
            path = Path(name)
            if name.startswith(f"/usr/lib/python{version}/") and not _LEFT_OUT.search(name) and not path.is_dir():
                _take(path, root)
    _take(Path(f"/usr/bin/python{version}"), root)


def _take_firewall(root: Path) -> None:
    """Both kinds of iptables, since the rules are Docker's neighbours, and the library that loads when it is used."""
    for program in ("xtables-nft-multi", "xtables-legacy-multi"):
        _take(Path("/usr/sbin") / program, root)
        kind = program.split("-")[1]
        for name in ("iptables", "ip6tables"):
            (root / f"usr/sbin/{name}-{kind}").symlink_to(program)
    for name in ("iptables", "ip6tables"):
        shutil.copy(_IPTABLES, root / "usr/sbin" / name)
        (root / "usr/sbin" / name).chmod(0o755)
    _take(Path("/usr/bin/dash"), root)
    (root / "usr/bin/sh").symlink_to("dash")
    libraries = _libraries_of(["/usr/sbin/xtables-nft-multi"])
    folder = next(path.parent for path in libraries if path.name.startswith("libxtables"))
    _take(folder / "libnftables.so.1", root)
    for path in (folder / "xtables").iterdir():
        _take(path, root)


def _install(root: Path) -> None:
    """The pinned wheels, and mdnp of this folder."""
    target = root / _PACKAGES
    options = ("-q", "--disable-pip-version-check", "--no-compile", "--target", target)
    pip = (sys.executable, "-m", "pip", "install", *options)
    _said([*pip, "--require-hashes", "--only-binary=:all:", "-r", _PINS])
    _said([*pip, "--no-deps", "--no-build-isolation", HERE])
    _said(["strip", "--strip-unneeded", *target.rglob("*.so")])  # symbols are most of a wheel's libraries
    _prune(target)
    script = root / "usr/bin/mdnp"
    script.write_text("#!/usr/bin/python3\nfrom mdnp.cli.main import main\n\nmain()\n")
    script.chmod(0o755)


def _prune(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif _NOT_RUN.search(str(path.relative_to(folder))):
            path.unlink()


def _take_libraries(root: Path) -> None:
    """What is linked to by what was taken."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and _is_elf(path)]
    for path in _libraries_of(files):
        _take(path, root)


def _libraries_of(files: Iterable[Path | str]) -> set[Path]:
    found = set()
    for line in _said(["ldd", *files], lenient=True).splitlines():
        if "not found" in line:
            raise BuildError(f"a library is missing:{line}")
        if match := _LIBRARY.search(line):
            found.add(Path(match[1]))
    return found


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _take(path: Path, root: Path) -> None:
    """Copy a file of the machine to the same place, and what it is a link to."""
    path = path.parent.resolve() / path.name  # /lib is /usr/lib
    here = root / path.relative_to("/")
    if here.is_symlink() or here.exists():
        return
    here.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        target = path.readlink()
        here.symlink_to(target)
        _take(path.parent / target, root)
    elif path.exists():
        shutil.copy(path, here)
        here.chmod(stat.S_IMODE(path.stat().st_mode))
    else:
        raise BuildError(f"{path} is missing: `make setup` as root installs its package")


def _check(root: Path) -> None:
    """Everything that mdnp may import must be there."""
    if os.geteuid():
        print("# plugin: not root, so it is not tried whether everything is in it")
        return
    imports = (
        "import ctypes, importlib, pkgutil, mdnp;"
        "[importlib.import_module(one.name) for one in pkgutil.walk_packages(mdnp.__path__, 'mdnp.')];"
        "ctypes.CDLL('libnftables.so.1')"
    )
    inside: tuple[Path | str, ...] = ("chroot", root)
    _said([*inside, "/usr/bin/python3", "-B", "-c", imports])
    for name in ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"):
        _said([*inside, f"/usr/sbin/{name}", "--version"])


def _compile(root: Path) -> None:
    """
    Compiled code alone, which is a third of the whole smaller; a traceback names the lines and does not show them.

    Without any, every start of a new version would take seconds.
    """
    options = ("-q", "-j0", "-b", "--invalidation-mode=unchecked-hash", "-s", root, "-p", "/")
    compiler = (_PYTHON, "-m", "compileall", *options)
    _said([*compiler, root / _PACKAGES])
    _said([*compiler, "-o2", *(root / "usr/lib").glob("python3.*")])  # without docstrings
    for path in (root / "usr/lib").rglob("*.py"):
        path.unlink()


def _inputs() -> str:
    """What the plugin is made of: a hash of our own files, and the versions of the machine's."""
    ours = [Path(__file__), _IPTABLES, _PINS, HERE / "pyproject.toml", *sorted(_SOURCES.rglob("*.py"))]
    hashes = [f"{sha256(path.read_bytes()).hexdigest()} {path.relative_to(HERE)}" for path in ours]
    of_ours = ("libc6", "dash", "iptables", "lib*", "python3*")
    packages = _said(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *of_ours], lenient=True)
    return "\n".join([*hashes, sha256(packages.encode()).hexdigest(), ""])


def _version(python: Path) -> str:
    return _said([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()


def _said(command: Iterable[Path | str], *, lenient: bool = False) -> str:
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BuildError(f"{words[0]} is missing: `make setup` as root installs its package") from error
    if done.returncode and not lenient:
        raise BuildError(f"{' '.join(words[:4])} …: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def _alone() -> Iterator[None]:
    with (BUILD / "plugin.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    try:
        folder = build()
    except BuildError as error:
        sys.exit(f"plugin: {error}")
    place, measured = folder.relative_to(HERE), size(folder)
    unpacked, layer = measured.unpacked / 1e6, measured.layer / 1e6
    print(f"# plugin: {place}: {unpacked:.1f} MB in {measured.files} files, {layer:.1f} MB as a layer for a registry")
    print(f"# plugin: next, as root: `docker plugin create mdnp {place} && docker plugin enable mdnp`")


if __name__ == "__main__":
    main()
