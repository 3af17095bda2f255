"""
Leads what containers ask at port 53 of a gateway to a port of ours, since port 53 itself is not ours to take: whoever
serves names on all addresses of the host, or publishes that port for a container, could not be started beside us.

The table is owned by the socket that made it (`flags owner`): it ends with this process, however that ends, and no
`nft flush ruleset` of others takes it away.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from threading import Lock

from mdnp.kernel.nftables import Nftables
from mdnp.model.errors import KernelError
from mdnp.model.network import IPAddress
from mdnp.model.port import Protocol

TABLE = "mdnp-names"
_NEEDS = "it takes Linux 5.12 and libnftables1"

# After dstnat (-100): a port 53 that somebody published is led to his container already, and stays so.
_TABLE = f"""
add table inet {TABLE} {{ flags owner; }}
delete table inet {TABLE}
table inet {TABLE} {{
    flags owner;
    map gateways4 {{ type ifname . ipv4_addr . inet_proto : ipv4_addr . inet_service; }}
    map gateways6 {{ type ifname . ipv6_addr . inet_proto : ipv6_addr . inet_service; }}
    chain prerouting {{
        type nat hook prerouting priority dstnat + 1; policy accept;
        meta l4proto {{ tcp, udp }} th dport 53 dnat ip to iifname . ip daddr . meta l4proto map @gateways4
        meta l4proto {{ tcp, udp }} th dport 53 dnat ip6 to iifname . ip6 daddr . meta l4proto map @gateways6
    }}
}}
"""


@dataclass(frozen=True)
class Signpost:
    """Questions to an address, from the link, go to a port of ours at the same address."""

    link: str
    address: IPAddress
    protocol: Protocol
    port: int


class Signposts:
    """
    Of the network namespace of the thread that puts up the first. All block for milliseconds, and may be called by any
    thread: who is cancelled while another one puts them up may close.
    """

    def __init__(self) -> None:
        self._nft: Nftables | None = None
        self._turn = Lock()
        self._is_closed = False

    def put_up(self, signposts: Collection[Signpost]) -> None:
        """
        These and no others, at once; none after `close`. Without any nothing of ours stands. Errors: KernelError, and
        those of before stand.
        """
        with self._turn:
            if self._is_closed:
                return
            if not signposts:
                self._release()
                return
            if self._nft is None:
                self._nft = Nftables.open()
            if not self._nft.keeps_tables:
                raise KernelError(f"the library of nftables cannot be loaded ({_NEEDS})")
            try:
                self._nft.run("".join([_TABLE, *_elements(signposts)]))
            except KernelError as error:
                raise KernelError(f"{error} ({_NEEDS})") from error

    def close(self) -> None:
        """All are gone. Twice is no error."""
        with self._turn:
            self._is_closed = True
            self._release()

    def _release(self) -> None:
        """The table goes with the socket that owns it."""
        if self._nft is not None:
            self._nft.close()
            self._nft = None


def _elements(signposts: Collection[Signpost]) -> Iterator[str]:
    for one in signposts:
        key = f'"{one.link}" . {one.address} . {one.protocol}'
        value = f"{one.address} . {one.port}"
        yield f"add element inet {TABLE} gateways{one.address.version} {{ {key} : {value} }}\n"
