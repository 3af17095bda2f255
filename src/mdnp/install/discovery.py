"""
How an engine finds a plugin that has no socket in /run/docker/plugins: a `.json` for TCP, a `.spec` for a socket.

The name of the file is the name of the driver. An engine takes the first that it finds of `places`
(moby: pkg/plugins/discovery.go).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from mdnp.install import certificates
from mdnp.install.certificates import Pair
from mdnp.install.file import OPEN, File, below
from mdnp.model.errors import Conflict, InvalidParameter
from mdnp.model.tcp_address import TcpAddress

NAME = "mdnp"
SOCKETS = Path("/run/docker/plugins")
FOLDER = Path("/etc/docker/plugins")
FOLDERS = (FOLDER, Path("/usr/lib/docker/plugins"))
TLS_FOLDER = Path("/etc/mdnp/tls")
# Not among the engine's, where a socket is found before any file; nor in mdnp's own, which systemd removes with the
# daemon while its socket may stay.
SOCKET_FOLDER = Path("/run/mdnp-socket")


@dataclass(frozen=True)
class Given:
    """An operator's own: what mdnp shows and whom it believes, what Docker shows and whom it believes."""

    server: Pair
    client: Pair
    ca: Path


@dataclass(frozen=True)
class Discovery:
    """What is to be written, and what the daemon's configuration file must say with it."""

    files: tuple[File, ...]
    settings: Mapping[str, str]


def places(name: str = NAME) -> tuple[Path, ...]:
    """Where an engine looks for a plugin, in its order."""
    inner = Path(name) / name
    return (
        SOCKETS / f"{name}.sock",
        SOCKETS / f"{inner}.sock",
        *(folder / f"{one}.{kind}" for folder in FOLDERS for kind in ("spec", "json") for one in (name, inner)),
    )


def found(root: Path, name: str = NAME) -> Path | None:
    """What an engine below `root` takes for this plugin now."""
    return next((path for path in places(name) if below(root, path).exists()), None)


def prepare_tcp(
    root: Path,
    address: TcpAddress,
    given: Given | None = None,
    *,
    name: str = NAME,
    folder: Path = FOLDER,
    tls_folder: Path = TLS_FOLDER,
) -> Discovery:
    """
    The `.json` by which an engine finds us at `address`, and certificates if none are `given`: those that are missing
    in `tls_folder`.

    Nothing is written. Errors: InvalidParameter for an address that nobody can call; Conflict when a file would hide
    the `.json` from the engine, or is in the way of a certificate.
    """
    _check_callable(address)
    json_path = folder / f"{name}.json"
    _check_not_hidden(root, name, json_path)
    if given is None:
        files = certificates.missing(root, tls_folder, address)
        where = certificates.paths(tls_folder)
        given = Given(where.server, where.client, where.ca.cert)
    else:
        files = ()
        _check_there(root, given)
    return Discovery(
        (*files, File(json_path, OPEN, _json(name, address, given))),
        {
            "socket": str(SOCKET_FOLDER / f"{name}.sock"),
            "listen": str(address),
            "tls_cert": str(given.server.cert),
            "tls_key": str(given.server.key),
            "tls_ca": str(given.ca),
        },
    )


def prepare_spec(root: Path, url: str, *, name: str = NAME, folder: Path = FOLDER) -> Discovery:
    """
    The `.spec` by which an engine finds our socket at `url` (unix:///…). Nothing is written.

    Errors: InvalidParameter for a URL of another kind: a `.spec` has no place for certificates, so what it names on TCP
    is spoken to in plain; Conflict when a file would hide it from the engine.
    """
    if not url.startswith("unix:///"):
        raise InvalidParameter(f"{url}: a .spec can name unix:///PATH only, since TCP needs the TLSConfig of a .json")
    path = folder / f"{name}.spec"
    _check_not_hidden(root, name, path)
    return Discovery((File(path, OPEN, f"{url}\n".encode()),), {"socket": url.removeprefix("unix://")})


def _json(name: str, address: TcpAddress, given: Given) -> bytes:
    """With another scheme than https the engine speaks plain HTTP, whatever TLSConfig says (moby: client.go)."""
    document = {
        "Name": name,
        "Addr": f"https://{address.authority}",
        "TLSConfig": {
            "InsecureSkipVerify": False,
            "CAFile": str(given.ca),
            "CertFile": str(given.client.cert),
            "KeyFile": str(given.client.key),
        },
    }
    return f"{json.dumps(document, indent=2)}\n".encode()


def _check_callable(address: TcpAddress) -> None:
    try:
        nowhere = ip_address(address.host).is_unspecified
    except ValueError:
        return
    if nowhere:
        raise InvalidParameter(f"{address}: Docker must call an address of this host: 127.0.0.1 reaches nobody else")


def _check_not_hidden(root: Path, name: str, path: Path) -> None:
    """Sockets are no hindrance: the daemon's own goes when it starts with the new configuration."""
    order = places(name)
    before = order[: order.index(path)] if path in order else ()
    for other in before:
        if SOCKETS not in other.parents and below(root, other).exists():
            raise Conflict(f"{other} is there: Docker would read it and not {path}: remove it first")


def _check_there(root: Path, given: Given) -> None:
    for path in (given.server.cert, given.server.key, given.client.cert, given.client.key, given.ca):
        try:
            below(root, path).open("rb").close()
        except (OSError, ValueError) as error:
            raise InvalidParameter(f"{path}: {getattr(error, 'strerror', None) or error}") from error
