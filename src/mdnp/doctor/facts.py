"""Looks at the host, all at once, and changes nothing: reads files, and runs programs that list."""

import calendar
import ctypes
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mdnp.config import CONFIG_FILE, Settings, shown
from mdnp.dataplane.naming import TABLE
from mdnp.doctor import (
    Clock,
    Daemon,
    Disk,
    Docker,
    Fact,
    Facts,
    File,
    Modules,
    NotKnown,
    Unknown,
    claims,
    firewall,
    need,
    servers,
    trial,
    units,
)
from mdnp.engine import once
from mdnp.kernel import signpost
from mdnp.model.errors import MdnpError

T = TypeVar("T")
Ask = Callable[[str], Any]  # the daemon, by path

LIMIT_S = 10.0
_AT_ONCE = 12
_SECOND_LOOK_S = 1.0
_LIBRARY = "libnftables.so.1"
# Of a table with an owner nft 1.0.6 writes JSON that may not be readable: tables are listed as text.
_OURS = [("inet", TABLE), ("bridge", TABLE), ("inet", signpost.TABLE)]
_KEEPERS = frozenset({"chronyd", "ntpd", "openntpd", "systemd-timesyn", "ptp4l", "phc2sys"})  # comm has 15 bytes
_SPEC_FOLDERS = ("etc/docker/plugins", "usr/lib/docker/plugins")
_OFF = "off"
_CERTIFICATES = ("tls_cert", "tls_ca", "etcd_cert", "etcd_ca")
_PLACES = ("socket", "state_dir", "runtime_dir", "docker_host")
_ACCEPTS = 0x10000  # __SO_ACCEPTCON of /proc/net/unix
_SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/route_localnet",
    "net/bridge/bridge-nf-call-*",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
    "net/ipv4/neigh/default/gc_thresh*",
    "net/ipv6/neigh/default/gc_thresh*",
    "net/ipv4/ip_local_port_range",
    "net/core/netdev_max_backlog",
)
_PROC = Path("/proc")
_FAILURES = (OSError, ValueError, LookupError, TypeError, MdnpError, NotKnown, subprocess.SubprocessError)


def gather(settings: Settings, ask: Ask, *, configuration: Fact[str], root: Path = Path("/")) -> Facts:
    """
    All facts, as they are now. `configuration` says whether the settings could be read. The files of the distribution,
    of Docker's and of systemd's are looked at below `root`.

    The daemon is asked first: it knows its own settings, whatever this command was given.
    """
    daemon = _fact(lambda: _daemon(ask))
    effective = _effective(settings, daemon) if isinstance(daemon, Daemon) else settings
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        later: dict[str, Future[Any]] = {
            name: pool.submit(_fact, look) for name, look in _looks(effective, root).items()
        }
        found = {name: future.result() for name, future in later.items()}
    return Facts(
        settings=effective,
        superuser=os.geteuid() == 0,
        configuration=configuration,
        daemon=daemon,
        unclaimed=_fact(lambda: _unclaimed(daemon, found["docker"], ask, effective.docker_socket)),
        places=_places(effective, root),
        certificates=_fact(lambda: _certificates(settings, daemon, found["specs"])),
        etcd=_fact(lambda: servers.ask(_told(settings, daemon))),
        **found,
    )


def _unclaimed(daemon: Fact[Daemon], docker: Fact[Docker], ask: Ask, engine: Path) -> frozenset[str]:
    """Looks a second time when there is any: a container that just starts is promised before Docker lists it."""
    first = claims.unclaimed(need(daemon), need(docker))
    if not first:
        return first
    time.sleep(_SECOND_LOOK_S)
    return first & claims.unclaimed(_daemon(ask), _docker(engine))


def _looks(settings: Settings, root: Path) -> Mapping[str, Callable[[], Any]]:
    """The slowest first."""
    return {
        "features": trial.features,
        "chains": _chains,
        "docker": lambda: _docker(settings.docker_socket),
        "links": lambda: _ip("-d", "link"),
        "addresses": lambda: _ip("addr"),
        "routes": lambda: [*_ip("-4", "route", "show", "table", "all"), *_ip("-6", "route", "show", "table", "all")],
        "neighbours": lambda: _ip("neigh"),
        "nft": lambda: _said("nft", "--version").strip(),
        "iptables": lambda: _said("iptables", "--version").strip(),
        "sysctls": _sysctls,
        "modules": lambda: _modules(root),
        "library": _library,
        "files": lambda: _files(_places(settings, root)),
        "disk": lambda: _disk(settings.state_dir),
        "listening": _listening,
        "asked": lambda: frozenset([*_udp("udp"), *_udp("udp6")]),
        "resolvers": lambda: _resolvers(root / "etc/resolv.conf"),
        "resolved": lambda: _resolved(root),
        "specs": lambda: _specs(settings.socket, root),
        "units": lambda: units.read(root),
        "clock": lambda: _clock(settings.state_dir),
    }


def _fact(look: Callable[[], T]) -> T | Unknown:
    try:
        return look()
    except PermissionError as error:
        return Unknown(f"{error.filename or 'it'} may only be looked at by root")
    except FileNotFoundError as error:
        return Unknown(f"{error.filename}: no such file or program")
    except _FAILURES as error:
        return Unknown(str(error) or type(error).__name__)


# ------------------------------------------------------------------------------------------- daemon and Docker


def _daemon(ask: Ask) -> Daemon:
    status = ask("/status")
    hosts = ask("/host") if "cluster" in status else ()
    return Daemon(status, ask("/network"), ask("/endpoint"), ask("/port"), ask("/pool"), ask("/config"), hosts)


def _effective(settings: Settings, daemon: Daemon) -> Settings:
    """
    Where the daemon has its files, as it says, if they are there: one that Docker runs itself sees other folders.

    The folder of its socket is named as the kernel names it.
    """
    said = {name: Path(text.removeprefix("unix://")) for name, text in daemon.settings.items() if name in _PLACES}
    there = {name: path for name, path in said.items() if path.exists()}
    socket = there.get("socket", settings.socket)
    return replace(
        settings,
        socket=socket.parent.resolve() / socket.name,
        state_dir=there.get("state_dir", settings.state_dir),
        runtime_dir=there.get("runtime_dir", settings.runtime_dir),
        docker_host=f"unix://{there.get('docker_host', settings.docker_socket)}",
    )


def _docker(engine: Path) -> Docker:
    paths = ("/version", "/info", "/networks", "/containers/json")
    return Docker(*(once.get(engine, path) for path in paths))


# ---------------------------------------------------------------------------------------------------- programs


def _said(*command: str) -> str:
    """Errors: OSError without the program, ValueError with its own complaint."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        complaint = done.stderr.strip().partition("\n")[0] or f"exit {done.returncode}"
        raise ValueError(f"{command[0]}: {complaint}")
    return done.stdout


def _ip(*words: str) -> list[Mapping[str, Any]]:
    """Without empty objects, which ip(8) prints for what it does not show."""
    return [row for row in json.loads(_said("ip", "-j", *words) or "[]") if row]


def _chains() -> list[firewall.Chain]:
    """What nft shows, but for our own tables, and what the iptables programs show, of both kinds if both are in use."""
    tables = [(family, name) for _, family, name, *_ in map(str.split, _said("nft", "list", "tables").splitlines())]
    others = [one for one in tables if not firewall.is_iptables(*one) and one not in _OURS]
    savers = list(_savers(tables)) if shutil.which("iptables") else []
    return [
        *(chain for family, name in others for chain in _of_table(family, name)),
        *(chain for program in savers for chain in _saved(program)),
    ]


def _saved(program: str) -> Iterator[firewall.Chain]:
    """Tables may have chains that were made with nft; the iptables programs say so, and show only their own."""
    text = _said(f"{program}-save")
    shown = firewall.from_iptables(program, text)
    yield from shown
    names = {(one.table, one.name) for one in shown}
    for table in firewall.mixed(text):
        family = "ip6" if program.startswith("ip6") else "ip"
        yield from (one for one in _of_table(family, table) if (table, one.name) not in names)


def _nft(*words: str) -> list[Mapping[str, Any]]:
    """Terse: the elements of a set can be many, and would not be looked at."""
    found: list[Mapping[str, Any]] = json.loads(_said("nft", "-j", "-t", *words))["nftables"]
    return found


def _of_table(family: str, name: str) -> list[firewall.Chain]:
    texts = firewall.texts_of(_said("nft", "-a", "-t", "list", "table", family, name))
    return firewall.from_nft(_nft("list", "table", family, name), texts)


def _savers(tables: Sequence[tuple[str, str]]) -> Iterator[str]:
    """
    The programs of the kind that is the host's default, and the others where they have tables.

    Legacy tables only if they are in use, which the kernel tells: asked for more the programs would load modules.
    """
    for family, program, names in (("ip", "iptables", "ip_tables_names"), ("ip6", "ip6tables", "ip6_tables_names")):
        legacy = bool((_text(_PROC / "net" / names) or "").strip())
        if "legacy" not in _said(program, "--version"):
            yield program
            if legacy:
                yield f"{program}-legacy"
            continue
        if legacy:
            yield program
        if any(one[0] == family and firewall.is_iptables(*one) for one in tables):
            yield f"{program}-nft"


def _library() -> str:
    """The file of the library, which bears its version."""
    ctypes.CDLL(_LIBRARY)
    places = {line.split()[-1] for line in (_PROC / "self/maps").read_text().splitlines() if "libnftables" in line}
    return min(places, default=_LIBRARY)


# ------------------------------------------------------------------------------------------------------- files


def _sysctls() -> dict[str, str]:
    root = _PROC / "sys"
    return {
        str(file.relative_to(root)): text.strip()
        for pattern in _SYSCTLS
        for file in root.glob(pattern)
        if (text := _text(file)) is not None
    }


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None


def _modules(root: Path) -> Modules:
    release = os.uname().release
    return Modules(release, (_PROC / "modules").exists(), (root / "lib/modules" / release).is_dir())


def _files(places: Mapping[str, Path]) -> dict[str, Fact[File | None]]:
    """By what they are to us; None for what is not there."""
    return {role: _fact(lambda place=place: _file(place)) for role, place in places.items()}  # type: ignore[misc]


def _places(settings: Settings, root: Path) -> dict[str, Path]:
    return {
        "plugin socket": settings.socket,
        "operator's socket": settings.admin_socket,
        "state folder": settings.state_dir,
        "database": settings.state_dir / "mdnp.db",
        "runtime folder": settings.runtime_dir,
        "configuration file": root / CONFIG_FILE.relative_to("/"),
    }


def _file(place: Path) -> File | None:
    try:
        seen = place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    kinds = ((stat.S_ISSOCK, "socket"), (stat.S_ISDIR, "folder"), (stat.S_ISREG, "file"))
    kind = next((name for is_one, name in kinds if is_one(seen.st_mode)), "other")
    return File(kind, stat.S_IMODE(seen.st_mode), seen.st_uid)


def _disk(folder: Path) -> Disk:
    """Of the folder, or of what it will be made in."""
    place = next(one for one in (folder, *folder.parents) if one.exists())
    seen = os.statvfs(place)
    free, size = (count * seen.f_frsize for count in (seen.f_bavail, seen.f_blocks))
    return Disk(folder, free, size, seen.f_favail, seen.f_files)


def _listening() -> frozenset[str]:
    """Unix sockets by the names that they were bound to. Nobody is connected to: that could start a daemon."""
    rows = (line.split() for line in (_PROC / "net/unix").read_text().splitlines()[1:])
    return frozenset(row[7] for row in rows if len(row) > 7 and int(row[3], 16) & _ACCEPTS)


def _udp(table: str) -> list[tuple[str, int]]:
    """Open UDP ports, with the address as the kernel writes it in hexadecimal."""
    rows = ((_PROC / "net" / table).read_text().splitlines()[1:]) if (_PROC / "net" / table).exists() else []
    pairs = (row.split()[1].rsplit(":", 1) for row in rows)
    return [(address, int(port, 16)) for address, port in pairs]


def _resolvers(file: Path) -> tuple[str, ...]:
    lines = (line.split() for line in file.read_text().splitlines())
    return tuple(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")


def _resolved(root: Path) -> tuple[str, ...]:
    """Whatever it has of links. An empty DNS= takes back those before it (resolved.conf(5))."""
    files = (root / "etc/systemd/resolved.conf", *sorted((root / "etc/systemd/resolved.conf.d").glob("*.conf")))
    lines = (line.partition("=") for file in files for line in (_text(file) or "").splitlines())
    found: list[str] = []
    for key, _, value in lines:
        if key.strip() == "DNS":
            found = [*found, *value.split()] if value.strip() else []
    return tuple(found)


def _specs(socket: Path, root: Path) -> tuple[Path, ...]:
    """What else than our socket Docker could find under its name: each folder may have one of subfolders."""
    name = socket.stem
    sockets = [socket.parent / name / socket.name]
    specs = [
        root / folder / below / f"{name}.{kind}"
        for folder in _SPEC_FOLDERS
        for below in ("", name)
        for kind in ("spec", "json")
    ]
    return tuple(one for one in (*sockets, *specs) if os.path.lexists(one))


# ----------------------------------------------------------------------------------------- certificates and clock


def _certificates(settings: Settings, daemon: Fact[Daemon], specs: Fact[Sequence[Path]]) -> dict[str, Fact[float]]:
    """Those in the settings, of the daemon if it answers, and those that Docker is told of."""
    told = _told(settings, daemon)
    files = [told[name] for name in _CERTIFICATES if told.get(name, _OFF) != _OFF]
    for one in () if isinstance(specs, Unknown) else specs:
        if one.suffix == ".json":
            tls = json.loads(one.read_text()).get("TLSConfig") or {}
            files += [tls[name] for name in ("CertFile", "CAFile") if tls.get(name)]
    return {file: _fact(lambda file=file: _end(file)) for file in dict.fromkeys(files)}  # type: ignore[misc]


def _end(certificate: str) -> float:
    said = _said("openssl", "x509", "-noout", "-enddate", "-in", certificate).strip().partition("=")[2]
    return float(calendar.timegm(time.strptime(said, "%b %d %H:%M:%S %Y GMT")))


def _told(settings: Settings, daemon: Fact[Daemon]) -> Mapping[str, str]:
    """The settings in words: the daemon's, which may have been given flags, or what it would start with."""
    return daemon.settings if isinstance(daemon, Daemon) else shown(settings)


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), with room for the rest."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_char * 252))


def _clock(state: Path) -> Clock:
    _timex = _Timex(modes=0)  # only asks
    synchronised = ctypes.CDLL(None).adjtimex(ctypes.byref(_timex)) not in (-1, 5)
    written = [one.stat().st_mtime for one in state.glob("mdnp.db*")]
    newest = max(written, default=None)
    return Clock(time.time(), newest, synchronised, _KEEPERS & frozenset(_processes()))


def _processes() -> Iterable[str]:
    return (text.strip() for one in _PROC.glob("[0-9]*/comm") if (text := _text(one)) is not None)
