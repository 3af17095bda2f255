"""MAC addresses: parsing, and deriving one that stays the same for the same address."""

import re
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import NewType

from mdnp.model.errors import InvalidParameter

MAC = NewType("MAC", str)

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_MULTICAST_BIT = 0x01


def parse_mac(text: str) -> MAC:
    """`text` as a unicast address in small letters with colons."""
    mac = text.lower().replace("-", ":")
    if not _MAC.match(mac):
        raise InvalidParameter(f"MAC address {text[:80]!r}: expected six pairs of hex digits, as 02:42:0a:00:00:05")
    if int(mac[:2], 16) & _MULTICAST_BIT:
        raise InvalidParameter(f"MAC address {text}: a multicast address cannot be a link's; make the first byte even")
    if mac == "00:00:00:00:00:00":
        raise InvalidParameter("MAC address 00:00:00:00:00:00: the zero address cannot be a link's")
    return MAC(mac)


def derived_mac(addresses: tuple[IPv4Interface | IPv6Interface, ...], fallback: str) -> MAC:
    """
    The address of a link that was given none: unicast, locally administered, and a function of what it is for.

    The same IP address gives the same MAC again, so that neighbours' ARP and ND entries stay right when a container
    is replaced. An IPv4 address is written out in it (unique by construction, readable by people); an IPv6
    address, or without any the `fallback`, is hashed to 40 bits.
    """
    for address in addresses:
        if isinstance(address.ip, IPv4Address):
            return _joined(b"\x02\x6d" + address.ip.packed)
    if addresses:
        return _joined(b"\x06" + _hash(addresses[0].ip.packed))
    return _joined(b"\x0a" + _hash(fallback.encode()))


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=5).digest()


def _joined(data: bytes) -> MAC:
    return MAC(data.hex(":"))
