"""What an operator asks of `mdnp network create`, checked before any host is told of it. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mdnp.member import DeclaredNetwork, DeclaredSubnet
from mdnp.model.errors import Conflict, InvalidParameter
from mdnp.model.network import IPNetwork
from mdnp.model.options import MODE, Mode, parse_network_options
from mdnp.model.pool import Pool, parse_address, parse_pool

# Docker's own rule for names (moby, daemon/names), and the length of a part of a DNS name.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}\Z")
_DOCKERS = ("bridge", "default", "host", "none")


@dataclass(frozen=True)
class Asked:
    """As it is written; gateways, ranges and auxiliary addresses belong to the subnets that they lie in."""

    name: str
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    auxiliary: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    ipv6: bool = False


def read(plain: object) -> Asked:
    """From the values of a JSON object. Errors: InvalidParameter."""
    try:
        given: dict[str, Any] = dict(plain)  # type: ignore[call-overload]  # what is no object is found out here
        for key in ("subnets", "gateways", "ranges"):
            given[key] = tuple(map(str, given.get(key, ())))
        return Asked(**given)
    except (TypeError, ValueError) as error:
        raise InvalidParameter(f"what is asked for cannot be read: {error}") from error


def declaration(asked: Asked, standing: Mapping[str, DeclaredNetwork]) -> DeclaredNetwork:
    """
    What to declare; `standing` is declared already. Errors: MdnpError with the first fault, and what to do about it.
    """
    _check_name(asked.name)
    if not asked.subnets:
        raise InvalidParameter(
            f"network {asked.name}: all hosts must agree on its addresses: name each --subnet, as 10.50.0.0/16"
        )
    networks = [parse_pool(text).network for text in asked.subnets]
    _check_apart(networks)
    if asked.ipv6 and all(one.version == 4 for one in networks):
        raise InvalidParameter(f"network {asked.name}: --ipv6 needs an IPv6 --subnet too, as fd50::/64")
    wanted = DeclaredNetwork(
        asked.name, _subnets(asked, networks), _options(asked), asked.internal, dict(sorted(asked.labels.items()))
    )
    _check_against(wanted, networks, standing)
    return wanted


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise InvalidParameter(
            f"network {name[:80]!r}: a name begins with a letter or a digit, and has at most 63 of these, _, . and -"
        )
    if name in _DOCKERS:
        raise InvalidParameter(f"network {name}: Docker has a network of that name by itself: choose another")


def _check_apart(networks: Sequence[IPNetwork]) -> None:
    for number, one in enumerate(networks):
        for other in networks[number + 1 :]:
            if one.overlaps(other):
                raise InvalidParameter(f"--subnet {one} and --subnet {other} overlap")


def _check_against(
    wanted: DeclaredNetwork, networks: Sequence[IPNetwork], standing: Mapping[str, DeclaredNetwork]
) -> None:
    """Errors: Conflict with what is declared already, otherwise or with the same addresses."""
    if standing.get(wanted.name, wanted) != wanted:
        raise Conflict(f"network {wanted.name} is declared already, otherwise: `mdnp network rm {wanted.name}` first")
    for other in standing.values():
        for taken in other.subnets if other.name != wanted.name else ():
            for one in networks:
                if one.overlaps(parse_pool(taken.pool).network):
                    raise Conflict(f"--subnet {one} overlaps {taken.pool} of network {other.name}: choose another")


def _options(asked: Asked) -> dict[str, str]:
    """Those that were given, and the mode, which is an overlay's: each host would have a network by itself else."""
    options = {MODE: Mode.OVERLAY.value, **asked.options}
    mode = parse_network_options(options).mode
    if mode is not Mode.OVERLAY:
        raise InvalidParameter(
            f"network {asked.name}: {MODE}={mode} is a network of one host: make it there, with `docker network create`"
        )
    return dict(sorted(options.items()))


def _subnets(asked: Asked, networks: Sequence[IPNetwork]) -> tuple[DeclaredSubnet, ...]:
    ranges = _shared_out(networks, asked.ranges, "--ip-range")
    gateways = _shared_out(networks, asked.gateways, "--gateway")
    auxiliary = _shared_out(networks, asked.auxiliary.values(), "--aux-address")
    found = []
    for one in networks:
        gateway, ip_range = _only(gateways[one], one, "--gateway"), _only(ranges[one], one, "--ip-range")
        parse_pool(str(one), ip_range)
        named = {name: text for name, text in sorted(asked.auxiliary.items()) if text in auxiliary[one]}
        for text in (*named.values(), *([gateway] if gateway else [])):
            Pool(one).check_usable(parse_address(text, Pool(one)))
        found.append(DeclaredSubnet(str(one), gateway, ip_range, named))
    return tuple(found)


def _shared_out(networks: Iterable[IPNetwork], texts: Iterable[str], flag: str) -> dict[IPNetwork, list[str]]:
    """The texts by the subnet that they lie in."""
    shares: dict[IPNetwork, list[str]] = {one: [] for one in networks}
    for text in texts:
        inside = next((one for one in shares if _lies_in(text, one)), None)
        if inside is None:
            raise InvalidParameter(f"{flag} {text[:80]}: lies in no --subnet that is named")
        shares[inside].append(text)
    return shares


def _lies_in(text: str, network: IPNetwork) -> bool:
    try:
        if "/" in text:
            parse_pool(str(network), text)
        else:
            parse_address(text, Pool(network))
    except InvalidParameter:
        return False
    return True


def _only(texts: Sequence[str], network: IPNetwork, flag: str) -> str:
    if len(texts) > 1:
        raise InvalidParameter(f"{flag} {' and '.join(texts)}: {network} has one at most")
    return texts[0] if texts else ""
