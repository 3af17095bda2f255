"""
Docker's NetworkDriver verbs, on values.

Each verb checks, writes the promise down, lets `reconcile` make it true, and answers; when the kernel refuses, it takes
the promise back and converges again. Every verb accepts the same request twice: Docker repeats calls whose answer it
did not see. No verb asks Docker anything: Docker holds locks meanwhile. An overlay is agreed on with the other hosts
first, within a second, while only who asks for that very network waits.
"""

from collections.abc import Collection
from typing import Protocol

from mdnp.model.network import IPAddress, IPInterface, Network


class Addresses(Protocol):
    """What an overlay asks of the room that hands out addresses."""

    def check(self, network: Network) -> None:
        """Errors: Unsupported, InvalidParameter when its addresses are not such that hosts can share them."""

    async def share(self, network: Network, reserved: Collection[IPAddress]) -> tuple[IPInterface, ...]:
        """
        Its pools are handed out from blocks of this host's own from now on; the host's own addresses in them, if it
        stands in the network. May come twice. Errors: MdnpError; `unshare` takes back what was done.
        """

    async def unshare(self, network: Network) -> None:
        """
        Its pools are shared no more, unless another network has them. Errors: StoreUnavailable; that is tried again.
        """

    def reserved(self, network: Network) -> Collection[IPAddress]:
        """The auxiliary addresses in its pools."""

    async def surrender(self, network: Network) -> None:
        """Take back all that this host and its containers hold in its pools, and the blocks."""
