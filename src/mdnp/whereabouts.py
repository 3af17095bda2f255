"""Which machine this is, and by which of its addresses other hosts reach it."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from ipaddress import ip_address
from pathlib import Path

from mdnp.model.etcd_url import EtcdURL
from mdnp.model.network import IPAddress

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NETWORK_NAMESPACE = Path("/proc/self/ns/net")
# For documentation (RFC 5737, RFC 3849): on no link, so that the way there is the default route.
_ELSEWHERE = ("192.0.2.1", "2001:db8::1")
_DISCARD = 9


def machine() -> str:
    """
    Another one for each machine and each network namespace, and for each boot: who has our identity elsewhere, as a
    copied disk, is told from us by it.
    """
    facts = f"{_BOOT_ID.read_text().strip()} {_NETWORK_NAMESPACE.stat().st_ino}"
    return blake2b(facts.encode(), digest_size=8).hexdigest()


def address_towards(servers: Iterable[EtcdURL]) -> IPAddress | None:
    """
    The source address of the route to the first server that there is one to; where that is on this host, of the default
    route. None: there is no such route. Names are looked up, which may take a while; nothing is sent to the servers.
    """
    found = (source for server in servers for source in _sources(server.host, server.port))
    elsewhere = (source for text in _ELSEWHERE for source in _sources(text, _DISCARD))
    return next((one for some in (found, elsewhere) for one in some if not _stays(one)), None)


def is_here(address: IPAddress) -> bool:
    """Whether a link of this host has the address."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.bind((str(address), 0))
        return True
    return False


def _sources(host: str, port: int) -> Iterator[IPAddress]:
    with suppress(OSError):
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind, protocol) as probe, suppress(OSError):
                probe.connect(address)  # of UDP: the kernel chooses the way, and sends nothing
                yield ip_address(str(probe.getsockname()[0]).partition("%")[0])


def _stays(address: IPAddress) -> bool:
    """Other hosts cannot send there."""
    return address.is_loopback or address.is_link_local or address.is_unspecified
