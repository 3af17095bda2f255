"""Pools of addresses, and how their requests are read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address, ip_interface
from typing import NewType

from mdnp.model.errors import InvalidParameter
from mdnp.model.network import IPAddress, IPNetwork

PoolID = NewType("PoolID", str)

_NETWORK = re.compile(r"[0-9A-Fa-f:.]{2,45}/[0-9]{1,3}\Z")  # no %zone, no netmask
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}\Z")


@dataclass(frozen=True)
class Pool:
    """A network and, as Docker's `--ip-range`, the part of it that is handed out to whoever names no address."""

    network: IPNetwork
    sub_pool: IPNetwork | None = None

    def __post_init__(self) -> None:
        if self.network.network_address.is_unspecified:
            # To Docker 0.0.0.0/0 is null IPAM's "no addresses", and to newer ones 0.0.0.0/N any pool of that size.
            raise InvalidParameter(f"Pool {self.network}: stands for no network, or for any; give one as 10.1.0.0/24")
        if self.sub_pool is not None and not _within(self.sub_pool, self.network):
            raise InvalidParameter(f"SubPool {self.sub_pool}: not inside the pool {self.network}")
        if not self.dynamic_size:
            raise InvalidParameter(f"SubPool {self.sub_pool}: only what {self.network} keeps back; make it larger")

    @property
    def dynamic(self) -> IPNetwork:
        """Where addresses come from when none is asked for. Those asked for may be anywhere in the network."""
        return self.network if self.sub_pool is None else self.sub_pool

    @property
    def dynamic_size(self) -> int:
        return self.dynamic.num_addresses - sum(address in self.dynamic for address in self.kept_back)

    @property
    def gateway(self) -> IPAddress:
        """
        The gateway when none is asked for: the first usable address of the network.

        Of the network, where Docker's own IPAM takes it from the sub-pool: hosts that share a network have different
        sub-pools, and must agree on the gateway without asking each other.
        """
        first = self.network.network_address
        return first + 1 if first in self.kept_back else first

    @cached_property
    def kept_back(self) -> Mapping[IPAddress, str]:
        """
        What is nobody's, and its name: the two ends of an IPv4 network (not of a /31, RFC 3021), and the zero host
        of an IPv6 network (RFC 4291, 2.6.1; not of a /127, RFC 6164). A network of one address keeps none.
        """
        if self.network.max_prefixlen - self.network.prefixlen <= 1:
            return {}
        first = self.network.network_address
        if self.network.version == 6:
            return {first: "subnet-router anycast address"}
        return {first: "network address", self.network.broadcast_address: "broadcast address"}

    def check_inside(self, address: IPAddress) -> None:
        if address.version != self.network.version:
            raise InvalidParameter(
                f"Address {address}: an IPv{address.version} address, and the pool {self.network} is"
                f" IPv{self.network.version}"
            )
        if address not in self.network:
            raise InvalidParameter(f"Address {address}: not in the pool {self.network}")

    def check_usable(self, address: IPAddress) -> None:
        self.check_inside(address)
        if address in self.kept_back:
            raise InvalidParameter(
                f"Address {address}: the {self.kept_back[address]} of {self.network} is nobody's; choose another"
            )


def parse_pool(text: str, sub_text: str = "", *, v6: bool = False) -> Pool:
    """
    A pool as Docker's RequestPool has it. `v6` refuses IPv4 when set and nothing when not: Swarm never sets it.

    Errors: InvalidParameter, with the value and the rule that it breaks.
    """
    network = _parse_network("Pool", text)
    if v6 and network.version == 4:
        raise InvalidParameter(f"Pool {network}: an IPv4 pool, and V6 is set; give an IPv6 one as fd00:1::/64")
    return Pool(network, _parse_network("SubPool", sub_text) if sub_text else None)


def parse_address(text: str, pool: Pool) -> IPAddress:
    """An address without a prefix length, anywhere in the pool's network. Errors: InvalidParameter."""
    try:
        address = ip_address(_matching(_ADDRESS, text))
    except ValueError as error:
        raise InvalidParameter(f"Address {text[:80]!r}: expected an address alone, as {pool.gateway}") from error
    pool.check_inside(address)
    return address


def _parse_network(field: str, text: str) -> IPNetwork:
    try:
        interface = ip_interface(_matching(_NETWORK, text))
    except ValueError as error:
        raise InvalidParameter(f"{field} {text[:80]!r}: expected a network as 10.1.0.0/24 or fd00:1::/64") from error
    if interface.ip != interface.network.network_address:
        raise InvalidParameter(f"{field} {text}: host bits are set; the network is {interface.network}")
    return interface.network


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.match(text):
        raise ValueError(f"not {pattern.pattern}")
    return text


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    same_family = inner.version == outer.version
    return same_family and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


@dataclass(frozen=True)
class PoolPromise:
    """
    A pool that was given out to `holders` networks, the last of them at `since` (seconds since the epoch). `automatic`
    says that it was our choice.
    """

    space: str
    pool: Pool
    since: float
    holders: int = 1
    automatic: bool = False

    @property
    def id(self) -> PoolID:
        return pool_id(self.space, self.pool)


def pool_id(space: str, pool: Pool) -> PoolID:
    """
    A function of what was asked for: the same explicit pool is the same pool.

    A request does not say for which network it is, nor of which mode that will be.
    """
    parts = [space, str(pool.network), *([str(pool.sub_pool)] if pool.sub_pool else [])]
    return PoolID("/".join(parts))
