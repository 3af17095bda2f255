"""Where a plugin on TCP is found."""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from mdnp.model.errors import InvalidParameter

_LAST_PORT = 65535
_FORM = re.compile(r"tcp://(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class TcpAddress:
    """`host` is a name or an address, an IPv6 one without its brackets."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """As it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"tcp://{self.authority}"


def is_literal(host: str) -> bool:
    """Whether it is an address, and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def parse_tcp_address(text: str) -> TcpAddress:
    """The address in `text`, which is tcp://HOST:PORT. Errors: InvalidParameter."""
    found = _FORM.fullmatch(text)
    if found is None or not 0 < int(found["port"]) <= _LAST_PORT:
        raise InvalidParameter("expected tcp://HOST:PORT as tcp://127.0.0.1:4460 or tcp://[::1]:4460")
    return TcpAddress(found["literal"] or found["host"], int(found["port"]))
