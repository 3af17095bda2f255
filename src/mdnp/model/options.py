"""
The options of networks and endpoints: what users write with `-o` and `--driver-opt`.

Docker's own labels keep their meaning, so that a Compose file moves over unchanged. A key that nobody knows is
refused with the nearest known one, a known one whose value asks for what is not built yet is refused in so many words:
an option that is accepted and ignored is a lie that is found at three in the morning.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import TypeVar

from mdnp.model.errors import InvalidParameter, MdnpError, Unsupported

MTU = "com.docker.network.driver.mtu"
BRIDGE_NAME = "com.docker.network.bridge.name"
IFACE_PREFIX = "com.docker.network.container_iface_prefix"
MODE = "mdnp.mode"
GATEWAY = "mdnp.gateway"
SEGMENT = "mdnp.segment"
MULTICAST = "mdnp.multicast"
GUARD = "mdnp.guard"
ALLOW = "mdnp.allow"
DNS = "mdnp.dns"

_BRIDGE = "com.docker.network.bridge."
ICC = f"{_BRIDGE}enable_icc"
MASQUERADE = f"{_BRIDGE}enable_ip_masquerade"
HOST_BINDING = f"{_BRIDGE}host_binding_ipv4"
GATEWAY_MODE_IPV4 = f"{_BRIDGE}gateway_mode_ipv4"
GATEWAY_MODE_IPV6 = f"{_BRIDGE}gateway_mode_ipv6"

# IPv4 needs 68 bytes (RFC 791); a veth and a bridge take no more than 65535.
MTU_RANGE = range(68, 65536)
# Docker appends the lowest free number to the prefix, and a link name has 15 bytes: leave three digits.
IFACE_PREFIX_LENGTH = 12
LINK_NAME_LENGTH = 15
# A label is for people, and stands in messages.
SEGMENT_LENGTH = 64


class Mode(StrEnum):
    """The dataplane of a network."""

    BRIDGE = "bridge"
    OVERLAY = "overlay"  # a bridge on each host of a segment, joined by VXLAN


class GatewayMode(StrEnum):
    """Who gives the containers of a network their way out."""

    SELF = "self"  # our gateway, on the network's bridge
    DOCKER = "docker"  # Docker's docker_gwbridge, a second interface
    NONE = "none"  # nobody


class Routing(StrEnum):
    """How one family of addresses goes in and out through our gateway (Docker's gateway modes)."""

    NAT = "nat"  # masqueraded on the way out, published ports of the host on the way in
    ROUTED = "routed"  # as it is: the container's own address, on which published ports are open
    ISOLATED = "isolated"  # not at all; for internal networks


@dataclass(frozen=True)
class NetworkOptions:
    """A network's options, parsed. Fields that are None were not given."""

    mode: Mode = Mode.BRIDGE
    gateway: GatewayMode = GatewayMode.SELF
    mtu: int | None = None
    bridge_name: str | None = None
    iface_prefix: str = "eth"
    icc: bool = True
    masquerade: bool = True
    host_binding: IPv4Address | None = None
    routing_ipv4: Routing = Routing.NAT
    routing_ipv6: Routing = Routing.NAT
    guard: bool = True
    segment: str = ""  # a label that must agree on all hosts; the subnets if none is given
    multicast: bool = True
    dns: bool | None = None  # on for an overlay, off for a bridge

    @property
    def has_names(self) -> bool:
        """Whether names are answered for its containers."""
        return self.mode is Mode.OVERLAY if self.dns is None else self.dns

    def routing(self, version: int) -> Routing:
        return self.routing_ipv4 if version == 4 else self.routing_ipv6


@dataclass(frozen=True)
class EndpointOptions:
    """What a user wrote with `--driver-opt`: the networks that the endpoint may use besides its addresses."""

    allowed: tuple[IPv4Network | IPv6Network, ...] = ()


def parse_network_options(given: Mapping[str, object]) -> NetworkOptions:
    """`given` is Docker's `com.docker.network.generic` map. Every fault is told at once."""
    fields = _parsed(given, _NETWORK_OPTIONS)
    fields.pop(_CHECKED_ONLY, None)
    options = NetworkOptions(**fields)  # type: ignore[arg-type]  # each parser returns its field's type
    if options.mode is not Mode.OVERLAY:
        _raise([_of_overlay(key) for key in (SEGMENT, MULTICAST) if key in given])
    return options


def parse_endpoint_options(given: Mapping[str, object]) -> EndpointOptions:
    """`given` are the options of CreateEndpoint. The engine's own keys among them pass: it may add more."""
    ours = {key: value for key, value in given.items() if not key.startswith(_ENGINE_ENDPOINT_KEYS)}
    return EndpointOptions(**_parsed(ours, _ENDPOINT_OPTIONS))  # type: ignore[arg-type]  # as above


Choice = TypeVar("Choice", bound=StrEnum)


def _parsed(given: Mapping[str, object], known: "Mapping[str, _Known]") -> dict[str, object]:
    """The fields that are given. Every fault is told at once."""
    faults: list[MdnpError] = []
    fields: dict[str, object] = {}
    for key, value in given.items():
        try:
            if key not in known:
                raise _unknown(key, known)
            field, parse = known[key]
            fields[field] = parse(_Option(key, value))
        except MdnpError as fault:
            faults.append(fault)
    _raise(faults)
    return fields


@dataclass(frozen=True)
class _Option:
    key: str
    value: object

    @property
    def text(self) -> str:
        if not isinstance(self.value, str):
            raise InvalidParameter(f"option {self.key}: expected text, got {str(self.value)[:80]}")
        return self.value

    def refuse(self, expected: str) -> InvalidParameter:
        return InvalidParameter(f"option {self.key}={self.text[:80]}: expected {expected}")


def _unknown(key: str, known: Iterable[str]) -> InvalidParameter:
    # People forget the parts before the last, or mistype: an equal last part says more than a likeness of the whole.
    by_tail = {name.rpartition(".")[2]: name for name in known}
    tail = key.rpartition(".")[2]
    nearest = (
        ([by_tail[tail]] if tail in by_tail else [])
        or get_close_matches(key, by_tail.values(), n=1)
        or [by_tail[one] for one in get_close_matches(tail, by_tail, n=1)]
    )
    hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(by_tail.values()) or 'none'}"
    return InvalidParameter(f"unknown option {key[:120]}: {hint}")


def _of_overlay(key: str) -> InvalidParameter:
    return InvalidParameter(f"option {key}: only an overlay spans hosts: add {MODE}={Mode.OVERLAY}, or leave it out")


def _raise(faults: Sequence[MdnpError]) -> None:
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InvalidParameter("; ".join(map(str, faults)))


def _mtu(option: _Option) -> int:
    text = option.text
    if not (text.isascii() and text.isdigit() and len(text) < 7 and int(text) in MTU_RANGE):
        raise option.refuse(f"bytes from {MTU_RANGE.start} to {MTU_RANGE.stop - 1}")
    return int(text)


def _link_name(option: _Option, limit: int = LINK_NAME_LENGTH) -> str:
    # The kernel's rule (dev_valid_name): no '/', no ':', no space, not "." or "..". We ask for printable ASCII too, and
    # for nothing that iptables (+) and nft (*) take for a wildcard, or a quote.
    name = option.text
    plain = name.isascii() and name.isprintable() and not set(name) & set("/: %+*\"'\\") and name not in (".", "..")
    if not (plain and 1 <= len(name) <= limit):
        raise option.refuse(f"a link name of 1 to {limit} characters, without any of /:%+*\"'\\ and spaces")
    return name


def _iface_prefix(option: _Option) -> str:
    return _link_name(option, IFACE_PREFIX_LENGTH)


def _choice(kind: type[Choice], *unbuilt: str) -> Callable[[_Option], Choice]:
    def parse(option: _Option) -> Choice:
        if option.text in unbuilt:
            raise Unsupported(f"option {option.key}={option.text}: not built yet; this version has {', '.join(kind)}")
        try:
            return kind(option.text)
        except ValueError:
            raise option.refuse(" or ".join(kind)) from None

    return parse


def _unbuilt(option: _Option) -> object:
    raise Unsupported(f"option {option.key}={option.text[:80]}: not built yet in this version; leave it out")


def _flag(option: _Option) -> bool:
    """As Docker's own drivers read it (strconv.ParseBool)."""
    if option.text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if option.text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise option.refuse("true or false")


def _switch(option: _Option) -> bool:
    if option.text not in ("on", "off"):
        raise option.refuse("on or off")
    return option.text == "on"


def _label(option: _Option) -> str:
    if not (option.text.isprintable() and 1 <= len(option.text.strip()) == len(option.text) <= SEGMENT_LENGTH):
        raise option.refuse(f"1 to {SEGMENT_LENGTH} printable characters, without a space at the ends")
    return option.text


def _host_binding(option: _Option) -> IPv4Address:
    try:
        return IPv4Address(option.text)
    except ValueError:
        raise option.refuse("an IPv4 address of the host") from None


def _zoneless(text: str) -> str:
    if "%" in text:  # which ipaddress takes for a part of the address, and nft does not
        raise ValueError("a network has no zone")
    return text


def _networks(option: _Option) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        # By comma or space: docker's command line takes a comma for the end of a --driver-opt.
        given = [ip_network(_zoneless(one)) for one in re.split(r"\s*[,\s]\s*", option.text.strip())]
        # Networks within each other as one: a set of the kernel's takes no intervals that overlap.
        return (
            *collapse_addresses(one for one in given if isinstance(one, IPv4Network)),
            *collapse_addresses(one for one in given if isinstance(one, IPv6Network)),
        )
    except ValueError as error:
        raise InvalidParameter(
            f"{option.refuse('addresses or networks as 10.1.0.9,10.2.0.0/24')} ({str(error)[:80]})"
        ) from None


_CHECKED_ONLY = "-"  # the field of options that are checked and then mean nothing
_Known = tuple[str, Callable[[_Option], object]]

_NETWORK_OPTIONS: dict[str, _Known] = {
    MODE: ("mode", _choice(Mode, "macvlan")),
    GATEWAY: ("gateway", _choice(GatewayMode)),
    MTU: ("mtu", _mtu),
    BRIDGE_NAME: ("bridge_name", _link_name),
    IFACE_PREFIX: ("iface_prefix", _iface_prefix),
    SEGMENT: ("segment", _label),
    GUARD: ("guard", _switch),
    MULTICAST: ("multicast", _switch),
    DNS: ("dns", _switch),
    ICC: ("icc", _flag),
    MASQUERADE: ("masquerade", _flag),
    HOST_BINDING: ("host_binding", _host_binding),
    GATEWAY_MODE_IPV4: ("routing_ipv4", _choice(Routing, "nat-unprotected")),
    GATEWAY_MODE_IPV6: ("routing_ipv6", _choice(Routing, "nat-unprotected")),
    "parent": (_CHECKED_ONLY, _unbuilt),
    "macvlan_mode": (_CHECKED_ONLY, _unbuilt),
    "encrypted": (_CHECKED_ONLY, _unbuilt),
}

# Docker puts what users write with --driver-opt beside what it sends itself (PROTOCOL: endpoint options are flat).
_ENGINE_ENDPOINT_KEYS = (
    "com.docker.network.endpoint.",
    "com.docker.network.portmap",
    "com.docker.network.driver.private.",
)
_ENDPOINT_OPTIONS: dict[str, _Known] = {ALLOW: ("allowed", _networks)}
