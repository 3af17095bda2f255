"""What is to be reached, as the user writes it: an address or a name, with or without a port."""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from mdnp.model.errors import InvalidParameter

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_HOW = (
    "give ADDRESS, NAME, ADDRESS:PORT or NAME:PORT, with [ ] around an IPv6 address that has a port, and /udp for UDP"
)
_LAST_PORT = 65535


class Asked(StrEnum):
    """How the probe asks."""

    PING = "icmp"
    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True)
class Target:
    """`host` is an address or a name, `port` 0 for a ping."""

    host: str
    port: int
    asked: Asked

    def __str__(self) -> str:
        if self.asked is Asked.PING:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.asked}"


def parse(text: str) -> Target:
    """`db`, `192.0.2.1:80`, `[fd77::2]:53/udp`. Errors: InvalidParameter."""
    whole, slash, protocol = text.partition("/")
    if slash and protocol not in (Asked.TCP, Asked.UDP):
        raise _bad(text, f"/{protocol} is neither /tcp nor /udp")
    host, port = _split(whole, text)
    if slash and not port:
        raise _bad(text, f"/{protocol} needs a port")
    if not _is_address(host) and not _NAME.fullmatch(host):
        raise _bad(text, f"{host!r} is neither an address nor a name")
    if not port:
        return Target(host, 0, Asked.PING)
    return Target(host, _port(port, text), Asked(protocol or Asked.TCP))


def _split(whole: str, text: str) -> tuple[str, str]:
    if whole.startswith("["):
        host, bracket, rest = whole[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or rest == ":":
            raise _bad(text, "after [ADDRESS] only :PORT may stand")
        return host, rest[1:]
    if whole.count(":") > 1:  # an IPv6 address as it is
        return whole, ""
    host, colon, port = whole.partition(":")
    if colon and not port:
        raise _bad(text, "there is no port after the colon")
    return host, port


def _port(digits: str, text: str) -> int:
    if not (digits.isascii() and digits.isdigit() and 1 <= int(digits) <= _LAST_PORT):
        raise _bad(text, f"{digits!r} is no port: it is a number from 1 to {_LAST_PORT}")
    return int(digits)


def _is_address(host: str) -> bool:
    try:
        return ip_address(host) is not None
    except ValueError:
        return False


def _bad(text: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f"target {text[:80]!r}: {reason}: {_HOW}")
