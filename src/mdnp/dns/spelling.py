"""How names are spelled: what can be one, and addresses and services as names. Pure."""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from mdnp.model.names import Names
from mdnp.model.network import IPAddress
from mdnp.model.port import Protocol

# RFC 1035 allows 255 bytes on the wire: 253 characters, the first label's length and the root.
_LONGEST = 253
# Any visible character but the dot, which ends a label, and those that are escaped where names are text (section 5.1).
_LABEL = r"(?:(?![\"$().;@\\])[!-~]){1,63}"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NIBBLES = re.compile(r"[0-9a-f](?:\.[0-9a-f]){31}")
_SERVICE = re.compile(rf"(?:_([^.]+)\.)?_({'|'.join(Protocol)})\.(.+)")
_IPV4, _IPV6 = ".in-addr.arpa", ".ip6.arpa"


@dataclass(frozen=True)
class Service:
    """What `_PORT._TRANSPORT.NAME` asks for; without a port, all of them."""

    port: str
    transport: Protocol
    name: str


def is_name(text: str) -> bool:
    """Whether it can be asked for. Underscores may be, as in the names of containers."""
    return len(text) <= _LONGEST and _NAME.fullmatch(text) is not None


def spelled(names: Names) -> list[str]:
    """All that can be asked for, the foremost first, as users wrote them."""
    return [one for one in (names.name, *names.aliases, names.hostname, names.service) if is_name(one)]


def address_of(name: str) -> IPAddress | None:
    """The address that a name below in-addr.arpa or ip6.arpa stands for, if it stands for one whole address."""
    if name.endswith(_IPV4):
        try:
            return IPv4Address(_turned(name.removesuffix(_IPV4)))
        except AddressValueError:
            return None
    nibbles = name.removesuffix(_IPV6)
    if nibbles != name and _NIBBLES.fullmatch(nibbles):
        return IPv6Address(int(_turned(nibbles).replace(".", ""), 16))
    return None


def service_of(name: str) -> Service | None:
    found = _SERVICE.fullmatch(name)
    return Service(found[1] or "", Protocol(found[2]), found[3]) if found else None


def _turned(name: str) -> str:
    return ".".join(reversed(name.split(".")))
