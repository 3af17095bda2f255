"""Where an etcd is found."""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from mdnp.model.errors import InvalidParameter

_PORT = 2379
_LAST_PORT = 65535
_FORM = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+))(?::(?P<port>[0-9]{1,5}))?/?"
)


@dataclass(frozen=True)
class EtcdURL:
    """`host` is a name or an address, an IPv6 one without its brackets; `tls` says that it is an https URL."""

    host: str
    port: int
    tls: bool

    @property
    def authority(self) -> str:
        """Host and port, as they stand in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there does not leave the host."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


def parse_etcd_url(text: str) -> EtcdURL:
    """The server in `text`, which is http(s)://HOST:PORT; 2379 if there is no port. Errors: InvalidParameter."""
    found = _FORM.fullmatch(text)
    port = int(found["port"] or _PORT) if found else 0
    if found is None or not 0 < port <= _LAST_PORT or not _is_host(found["literal"]):
        raise InvalidParameter("expected https://HOST:PORT as https://etcd-1.example:2379 or http://[::1]:2379")
    return EtcdURL(found["literal"] or found["host"], port, found["scheme"] == "https")


def _is_host(literal: str | None) -> bool:
    try:
        return literal is None or ip_address(literal).version == 6
    except ValueError:
        return False
