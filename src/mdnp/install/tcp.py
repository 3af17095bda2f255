"""What `mdnp install` puts in so that Docker finds us on TCP, and what the operator gave for it."""

from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from mdnp import tls
from mdnp.install import certificates, discovery
from mdnp.install.certificates import Pair
from mdnp.install.discovery import Given
from mdnp.install.file import below
from mdnp.install.plan import File
from mdnp.model.errors import Conflict, InvalidParameter
from mdnp.model.tcp_address import parse_tcp_address

FOUND = str(discovery.FOLDER / f"{discovery.NAME}.json")


@dataclass(frozen=True)
class Asked:
    """The flags of `mdnp install`; the paths are those of the host that is installed."""

    tcp: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    docker_cert: str | None = None
    docker_key: str | None = None


def files(root: Path, asked: Asked, recorded: Collection[str]) -> tuple[tuple[File, ...], Mapping[str, str]]:
    """
    The files beside the usual ones, and the settings that go with them; none if TCP is not asked for.

    Errors: InvalidParameter for flags that do not go together and files that are wrong; Conflict when TCP is installed
    and would be taken out without a word, and as `discovery.prepare_tcp`.
    """
    if asked.tcp is None:
        _refuse_half(asked, recorded)
        return (), {}
    address = parse_tcp_address(asked.tcp if "://" in asked.tcp else f"tcp://{asked.tcp}")
    given = _given(asked)
    if given is not None:
        material = (below(root, path) for path in (given.server.cert, given.server.key, given.ca))
        tls.context(tls.Material(*material), address)
    prepared = discovery.prepare_tcp(root, address, given)
    # An earlier installation's stay ours; what the operator put there does not become ours.
    there = [one for one in certificates.present(root, discovery.TLS_FOLDER) if str(one.path) in recorded]
    placed = (*(there if given is None else ()), *prepared.files)
    return tuple(File(str(one.path), one.content.decode(), one.mode) for one in placed), prepared.settings


def _refuse_half(asked: Asked, recorded: Collection[str]) -> None:
    if any(astuple(asked)):
        raise InvalidParameter("certificates are for --tcp HOST:PORT, which is not given")
    if FOUND in recorded:
        raise Conflict(
            "mdnp is installed for TCP: say --tcp with its address again; or `mdnp uninstall` first, for Docker to find"
            " it by its socket"
        )


def _given(asked: Asked) -> Given | None:
    names = [one.name for one in fields(asked) if one.name != "tcp"]
    values = [getattr(asked, name) for name in names]
    if not any(values):
        return None
    missing = [f"--{name.replace('_', '-')}" for name, value in zip(names, values, strict=True) if not value]
    if missing:
        raise InvalidParameter(f"certificates of your own need {', '.join(missing)} too; without any, all are made")
    for value in values:
        if not value.startswith("/"):
            raise InvalidParameter(f"{value}: expected an absolute path, since it goes into files")
    cert, key, ca, docker_cert, docker_key = map(Path, values)
    return Given(Pair(cert, key), Pair(docker_cert, docker_key), ca)
