"""
The settings: flags over environment (`MDNP_*`) over the configuration file over defaults.

The reader imports nothing heavy, since each call of the command line passes here.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path

from mdnp.model.errors import InvalidParameter
from mdnp.model.etcd_url import EtcdURL, parse_etcd_url
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
_ETCD_TLS = ("etcd_ca", "etcd_cert", "etcd_key")
_PAIRS = (("etcd_cert", "etcd_key"), ("etcd_user", "etcd_password_file"))
_OFF = "off"
_LAST_PORT = 65535
_OTHERS_DNS = {
    "127.0.0.11": "Docker's embedded DNS",
    "127.0.0.53": "systemd-resolved",
    "127.0.0.54": "systemd-resolved",
}
_SHORTEST_LEASE, _LONGEST_LEASE = 3, 300


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
    without the three files of TLS, which are PEM. `host_dns` is an address of loopback where the host's own resolver
    may ask for names.
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
    etcd: tuple[EtcdURL, ...] = ()
    etcd_ca: Path | None = None
    etcd_cert: Path | None = None
    etcd_key: Path | None = None
    etcd_user: str | None = None
    etcd_password_file: Path | None = None
    host_address: IPAddress | None = None
    vxlan_port: int = 4789
    lease: int = 15
    host_dns: IPAddress | None = None

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
    sound = {key: value for key, value in values.items() if value is not None}
    settings = Settings(**sound)  # type: ignore[arg-type]  # _checked gives each field its type
    faults += [*_faults_of_listen(settings), *_faults_of_etcd(settings)]
    if faults:
        raise InvalidParameter("; ".join(faults))
    return settings


def shown(settings: Settings) -> dict[str, str]:
    """The settings as text, in the words that the configuration file and the environment take."""
    values = {one.name: getattr(settings, one.name) for one in fields(Settings)}
    return {name: _in_words(value) for name, value in values.items()}


def _faults_of_listen(settings: Settings) -> Iterator[str]:
    missing = [key for key in _TLS if getattr(settings, key) is None]
    if settings.listen is not None and missing:
        yield (
            f"listen {settings.listen}: plain TCP is refused, since whoever reaches it could change the host's"
            f" networks: give {', '.join(missing)} too"
        )


def _faults_of_etcd(settings: Settings) -> Iterator[str]:
    """Of what does not fit together; all of it is idle while etcd is off."""
    if not settings.etcd:
        return
    for one, other in (*_PAIRS, *((other, one) for one, other in _PAIRS)):
        if getattr(settings, one) is not None and getattr(settings, other) is None:
            yield f"{one} {str(getattr(settings, one))!r}: is of no use without {other}"
    given = [key for key in _ETCD_TLS if getattr(settings, key) is not None]
    for url in settings.etcd:
        if given and not url.tls:
            yield f"etcd {url}: {', '.join(given)} is of no use without TLS: write https://"
        if settings.etcd_user and not (url.tls or url.is_loopback):
            yield f"etcd {url}: would be sent the password of etcd_user in clear: write https://"


def _in_words(value: object) -> str:
    if value is None or value == ():
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
    number = _number(value)
    if number is None:
        raise ValueError("expected a whole number of seconds")
    return number


def _number(value: object) -> int | None:
    text = str(value)
    return None if isinstance(value, bool) or not (text.isascii() and text.isdigit()) else int(text)


def _lease(value: object) -> int:
    number = _number(value)
    if number is None or not _SHORTEST_LEASE <= number <= _LONGEST_LEASE:
        raise ValueError(f"expected a whole number of seconds from {_SHORTEST_LEASE} to {_LONGEST_LEASE}")
    return number


def _port(value: object) -> int:
    number = _number(value)
    if number is None or not 0 < number <= _LAST_PORT:
        raise ValueError(f"expected a port from 1 to {_LAST_PORT}")
    return number


def _etcd(value: object) -> tuple[EtcdURL, ...]:
    """A list in the file, words in the environment and of flags; each server once."""
    texts = value.split() if isinstance(value, str) else value
    if texts == [_OFF]:
        return ()
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("expected off, or a list of texts as https://etcd-1.example:2379")
    return tuple(dict.fromkeys(map(parse_etcd_url, texts)))


def _user(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        raise ValueError("expected off, or a name")
    return None if value == _OFF else value


def _host_address(value: object) -> IPAddress | None:
    """One that other hosts can send to."""
    if value == _OFF:
        return None
    try:
        address = ip_address(str(value))
    except ValueError:
        raise ValueError("expected off, or an address of this host as 192.0.2.10") from None
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        raise ValueError("other hosts cannot send there: take an address of the network that joins the hosts")
    return address


def _host_dns(value: object) -> IPAddress | None:
    """
    Of loopback only: it tells the names of all networks of the host. Not where Docker's embedded DNS is in containers,
    nor where systemd-resolved is.
    """
    if value == _OFF:
        return None
    try:
        address = ip_address(str(value))
    except ValueError:
        raise ValueError("expected off, or an address of loopback as 127.0.0.153") from None
    if not address.is_loopback:
        raise ValueError(
            "not an address of loopback, and nobody is asked there who he is: take 127.0.0.153, and let other hosts ask"
            " somebody who asks there"
        )
    if str(address) in _OTHERS_DNS:
        raise ValueError(f"is that of {_OTHERS_DNS[str(address)]}: take another of loopback, as 127.0.0.153")
    return address


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
    "etcd": _etcd,
    "etcd_ca": _path_or_none,
    "etcd_cert": _path_or_none,
    "etcd_key": _path_or_none,
    "etcd_user": _user,
    "etcd_password_file": _path_or_none,
    "host_address": _host_address,
    "vxlan_port": _port,
    "lease": _lease,
    "host_dns": _host_dns,
}
