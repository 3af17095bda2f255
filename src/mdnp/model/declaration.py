"""A network that is to be on every host of the cluster, as `mdnp network create` declares it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from mdnp.model.errors import InvalidParameter, MdnpError
from mdnp.model.network import IPAddress, IPNetwork
from mdnp.model.options import MODE, Mode, parse_network_options
from mdnp.model.pool import Pool, parse_address, parse_pool
from mdnp.model.segment import SegmentID, segment_id

# Docker's own rule for names (moby, daemon/names).
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}\Z")
_RESERVED = ("bridge", "default", "host", "none")
_DIGEST = 12


@dataclass(frozen=True)
class DeclaredPool:
    """A subnet and, as Docker has them, its `--ip-range`, its gateway if one was named, and its auxiliary addresses."""

    pool: Pool
    gateway: IPAddress | None = None
    auxiliary: tuple[tuple[str, IPAddress], ...] = ()


@dataclass(frozen=True)
class Declaration:
    """Options and labels are pairs, sorted, so that what is equal reads equal."""

    name: str
    pools: tuple[DeclaredPool, ...]
    options: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    internal: bool = False

    @property
    def segment(self) -> SegmentID:
        return segment_id(one.pool.network for one in self.pools)

    @property
    def text(self) -> str:
        """In the form that `parse` reads. It stands in etcd, and on each host at the Docker network made of it."""
        return json.dumps(_plain(self), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """Short, and another if anything of it is."""
        return sha256(self.text.encode()).hexdigest()[:_DIGEST]


@dataclass(frozen=True)
class Asked:
    """What an operator writes, as texts. Gateways, ranges and auxiliary addresses go to the subnets that have them."""

    name: str
    subnets: Sequence[str]
    gateways: Sequence[str] = ()
    ranges: Sequence[str] = ()
    auxiliary: Mapping[str, str] | None = None
    options: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    internal: bool = False
    ipv6: bool = False


def declare(asked: Asked) -> Declaration:
    """Errors: MdnpError with the first fault, and what to do about it."""
    _check_name(asked.name)
    if not asked.subnets:
        raise InvalidParameter(
            f"network {asked.name}: the hosts of a cluster must agree on its addresses: name each --subnet"
        )
    pools = tuple(_pools(asked))
    if asked.ipv6 and all(one.pool.network.version == 4 for one in pools):
        raise InvalidParameter(f"network {asked.name}: --ipv6 needs an IPv6 --subnet, as fd50::/64")
    options = _options(asked)
    labels = tuple(sorted((asked.labels or {}).items()))
    return Declaration(asked.name, pools, tuple(sorted(options.items())), labels, asked.internal)


def parse(text: str) -> Declaration:
    """Errors: InvalidParameter for what is no declaration of ours; a newer mdnp may have written it."""
    try:
        plain = json.loads(text)
        pools = tuple(_read_pool(one) for one in plain["pools"])
        options, labels = (tuple(sorted(dict(plain[key]).items())) for key in ("options", "labels"))
        return Declaration(plain["name"], pools, options, labels, bool(plain["internal"]))
    except (ValueError, LookupError, TypeError, AttributeError, MdnpError) as error:
        raise InvalidParameter(f"{text[:80]!r} is no network that this mdnp can read: {error}") from error


def _plain(one: Declaration) -> Mapping[str, Any]:
    return {
        "name": one.name,
        "pools": [_plain_pool(pool) for pool in one.pools],
        "options": dict(one.options),
        "labels": dict(one.labels),
        "internal": one.internal,
    }


def _plain_pool(one: DeclaredPool) -> Mapping[str, Any]:
    return {
        "subnet": str(one.pool.network),
        "ip_range": str(one.pool.sub_pool or ""),
        "gateway": str(one.gateway or ""),
        "auxiliary": {name: str(address) for name, address in one.auxiliary},
    }


def _read_pool(plain: Mapping[str, Any]) -> DeclaredPool:
    pool = parse_pool(plain["subnet"], plain["ip_range"])
    gateway = parse_address(plain["gateway"], pool) if plain["gateway"] else None
    return DeclaredPool(pool, gateway, _auxiliary(plain["auxiliary"], pool))


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise InvalidParameter(
            f"network {name[:80]!r}: a name begins with a letter or digit, and has letters, digits, _, . and -, 63 at"
            " most"
        )
    if name in _RESERVED:
        raise InvalidParameter(f"network {name}: Docker has that name for a network of its own: choose another")


def _options(asked: Asked) -> dict[str, str]:
    """Those that were given, and the mode, which is an overlay's: else each host would have a network by itself."""
    options = {MODE: Mode.OVERLAY.value, **(asked.options or {})}
    parsed = parse_network_options(options)
    if parsed.mode is not Mode.OVERLAY:
        raise InvalidParameter(
            f"network {asked.name}: {MODE}={parsed.mode} is of one host: make it there with `docker network create`"
        )
    return options


def _pools(asked: Asked) -> Iterator[DeclaredPool]:
    networks = [parse_pool(text).network for text in asked.subnets]
    _check_apart(networks)
    ranges = _shared_out(networks, asked.ranges, "--ip-range")
    gateways = _shared_out(networks, asked.gateways, "--gateway")
    auxiliary = _shared_out(networks, (asked.auxiliary or {}).values(), "--aux-address")
    for network in networks:
        pool = parse_pool(str(network), _only(ranges[network], network, "--ip-range"))
        gateway = _only(gateways[network], network, "--gateway")
        named = {name: text for name, text in (asked.auxiliary or {}).items() if text in auxiliary[network]}
        yield DeclaredPool(pool, parse_address(gateway, pool) if gateway else None, _auxiliary(named, pool))


def _check_apart(networks: Sequence[IPNetwork]) -> None:
    for number, one in enumerate(networks):
        for other in networks[number + 1 :]:
            if one.overlaps(other):
                raise InvalidParameter(f"--subnet {one} and --subnet {other} overlap")


def _shared_out(networks: Iterable[IPNetwork], texts: Iterable[str], flag: str) -> dict[IPNetwork, list[str]]:
    shares: dict[IPNetwork, list[str]] = {one: [] for one in networks}
    for text in texts:
        share = next((held for network, held in shares.items() if _lies_in(text, network)), None)
        if share is None:
            raise InvalidParameter(f"{flag} {text[:80]}: in no --subnet that is named")
        share.append(text)
    return shares


def _lies_in(text: str, network: IPNetwork) -> bool:
    pool = Pool(network)
    try:
        if "/" in text:
            parse_pool(str(network), text)
        else:
            parse_address(text, pool)
    except InvalidParameter:
        return False
    return True


def _only(texts: Sequence[str], network: IPNetwork, flag: str) -> str:
    if len(texts) > 1:
        raise InvalidParameter(f"{flag} {' and '.join(texts)}: {network} has one at most")
    return texts[0] if texts else ""


def _auxiliary(named: Mapping[str, str], pool: Pool) -> tuple[tuple[str, IPAddress], ...]:
    return tuple(sorted((name, parse_address(text, pool)) for name, text in named.items()))
