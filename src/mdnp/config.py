"""
The settings: flags over environment (`MDNP_*`) over the configuration file over defaults.

The reader imports nothing heavy, since each call of the command line passes here.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path

from mdnp.model.errors import InvalidParameter
from mdnp.model.network import IPAddress
from mdnp.model.port import bracketed
from mdnp.model.supernet import DEFAULT, Supernet, parse_supernet
from mdnp.model.tcp_address import TcpAddress, parse_tcp_address

CONFIG_FILE = Path("/etc/mdnp/mdnp.toml")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

_ENVIRONMENT = "MDNP_"
_CONFIG = f"{_ENVIRONMENT}CONFIG"  # names the file
_TLS = ("tls_cert", "tls_key", "tls_ca")
_OFF = "off"
_LAST_PORT = 65535


@dataclass(frozen=True)
class Loopback:
    """A TCP port that only this host reaches."""

    address: IPAddress
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.address)}:{self.port}"


@dataclass(frozen=True)
class Settings:
    """
    The effective settings. The configuration file has the same names as keys.

    `address_pools` are the supernets that automatic pools are cut from; a unique local one is added when none is of
    IPv6. `grace` is in seconds: how old an allocation must be before it may be found to be nobody's. `metrics` is where
    Prometheus may read besides the operator's socket. `listen` is where Docker may call us besides the socket; never
    without the three files of TLS, which are PEM.
    """

    socket: Path = Path("/run/docker/plugins/mdnp.sock")
    state_dir: Path = Path("/var/lib/mdnp")
    runtime_dir: Path = Path("/run/mdnp")
    docker_host: str = "unix:///var/run/docker.sock"
    address_pools: tuple[Supernet, ...] = DEFAULT
    grace: int = 120
    metrics: Loopback | None = None
    log_level: str = "info"
    log_format: str = "text"
    listen: TcpAddress | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None

    @property
    def docker_socket(self) -> Path:
        return Path(self.docker_host.removeprefix("unix://"))

    @property
    def admin_socket(self) -> Path:
        return self.runtime_dir / "admin.sock"


def load(flags: Mapping[str, object], environment: Mapping[str, str], file: Path | None = None) -> Settings:
    """
    The effective settings. `flags` that are None were not given; `file` must exist if it is named.

    Errors: InvalidParameter with every fault at once, each with its key and where it stands.
    """
    named = file or environment.get(_CONFIG)
    path = Path(named or CONFIG_FILE)
    faults: list[str] = []
    values: dict[str, object] = {}
    for place, key, value in (
        *((str(path), key, value) for key, value in _from_file(path, must_exist=bool(named)).items()),
        *((name, name.removeprefix(_ENVIRONMENT).lower(), value) for name, value in _from_environment(environment)),
        *((f"--{key.replace('_', '-')}", key, value) for key, value in flags.items() if value is not None),
    ):
        if key in _PARSERS:
            values[key] = _checked(key, value, place, faults)
        else:
            faults.append(f"{place}: unknown key {key}: known are {', '.join(_PARSERS)}")
    missing = [key for key in _TLS if values.get(key) is None]
    if values.get("listen") is not None and missing:
        faults.append(
            f"listen {values['listen']}: plain TCP is refused, since whoever reaches it could change the host's"
            f" networks: give {', '.join(missing)} too"
        )
    if faults:
        raise InvalidParameter("; ".join(faults))
    return Settings(**values)  # type: ignore[arg-type]  # _checked gives each field its type


def shown(settings: Settings) -> dict[str, str]:
    """The settings as text, in the words that the configuration file and the environment take."""
    values = {one.name: getattr(settings, one.name) for one in fields(Settings)}
    return {name: _in_words(value) for name, value in values.items()}


def _in_words(value: object) -> str:
    if value is None:
        return _OFF
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Our variables; an empty one counts as not there."""
    return [
        (name, value)
        for name, value in sorted(environment.items())
        if name.startswith(_ENVIRONMENT) and name != _CONFIG and value
    ]


def _from_file(path: Path, must_exist: bool) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        if must_exist:
            raise InvalidParameter(f"{path}: no such configuration file") from error
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidParameter(f"{path}: {error}") from error


def _checked(key: str, value: object, place: str, faults: list[str]) -> object:
    try:
        return _PARSERS[key](value)
    except (ValueError, InvalidParameter) as error:
        faults.append(f"{place}: {key} {str(value)!r}: {error}")
        return None


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("expected an absolute path")
    return Path(value)


def _level(value: object) -> object:
    if value not in LOG_LEVELS:
        raise ValueError(f"expected {', '.join(LOG_LEVELS)}")
    return value


def _format(value: object) -> object:
    if value not in LOG_FORMATS:
        raise ValueError(f"expected {', '.join(LOG_FORMATS)}")
    return value


def _metrics(value: object) -> Loopback | None:
    """Of a loopback address only: whoever reaches the port may read it."""
    if value == _OFF:
        return None
    text, _, port = str(value).rpartition(":")
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ValueError("expected off, or an address and a port as 127.0.0.1:9677") from None
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _LAST_PORT) or (address.version == 6) != (
        "[" in text
    ):
        raise ValueError("expected off, or an address and a port as 127.0.0.1:9677 or [::1]:9677")
    if not address.is_loopback:
        raise ValueError(
            "not a loopback address, and nobody is asked there who he is: take 127.0.0.1, and for other hosts put"
            " something in front that asks (or read /metrics from the operator's socket)"
        )
    return Loopback(address, int(port))


def _docker_host(value: object) -> object:
    if not isinstance(value, str) or not value.startswith("unix:///"):
        raise ValueError("expected unix:// and an absolute path")
    return value


def _listen(value: object) -> TcpAddress | None:
    return None if value == _OFF else parse_tcp_address(str(value))


def _path_or_none(value: object) -> Path | None:
    return None if value == _OFF else _path(value)


def _seconds(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()):
        raise ValueError("expected a whole number of seconds")
    return int(text)


def _supernets(value: object) -> tuple[Supernet, ...]:
    """A list in the file, words in the environment."""
    texts = value.split() if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("expected a list of texts as base=10.0.0.0/8,size=20")
    return tuple(map(parse_supernet, texts))


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "socket": _path,
    "state_dir": _path,
    "runtime_dir": _path,
    "docker_host": _docker_host,
    "address_pools": _supernets,
    "grace": _seconds,
    "metrics": _metrics,
    "log_level": _level,
    "log_format": _format,
    "listen": _listen,
    "tls_cert": _path_or_none,
    "tls_key": _path_or_none,
    "tls_ca": _path_or_none,
}
