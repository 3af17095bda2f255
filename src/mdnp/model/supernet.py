"""The supernets that automatic pools are cut from."""

from dataclasses import dataclass
from ipaddress import ip_network

from mdnp.model.errors import InvalidParameter
from mdnp.model.network import IPNetwork

_ULA_SIZE = 64
_FORM = "base=10.0.0.0/8,size=20"


@dataclass(frozen=True)
class Supernet:
    """`size` is the prefix length of the pools."""

    network: IPNetwork
    size: int

    def __str__(self) -> str:
        return f"base={self.network},size={self.size}"


# Private space (RFC 1918), the largest first: Docker's own pools begin in the other two.
DEFAULT = tuple(Supernet(ip_network(text), 20) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


def ula(global_id: bytes) -> Supernet:
    """The unique local /48 (RFC 4193) of five random bytes, cut into /64s."""
    return Supernet(ip_network((b"\xfd" + global_id + bytes(10), 48)), _ULA_SIZE)


def parse_supernet(text: str) -> Supernet:
    """As Docker's own `--default-address-pool` has it."""
    try:
        fields = dict(part.strip().split("=", 1) for part in text.split(","))
        supernet = Supernet(ip_network(fields.pop("base")), int(fields.pop("size")))
    except (ValueError, KeyError) as error:
        raise InvalidParameter(f"{text!r}: expected {_FORM}") from error
    if fields or not supernet.network.prefixlen <= supernet.size <= supernet.network.max_prefixlen:
        raise InvalidParameter(f"{text!r}: expected {_FORM}, with a size from the base's prefix length on")
    return supernet
