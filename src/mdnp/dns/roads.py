"""All ways by which questions come to us, each with its servers."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from mdnp.dns import Finder, Scope, Served
from mdnp.dns.gateways import Gateways
from mdnp.dns.sandboxes import Sandboxes
from mdnp.dns.server import Server
from mdnp.dns.standing import Road
from mdnp.dns.stub import Stub
from mdnp.kernel.doorway import Doorways
from mdnp.kernel.signpost import Signposts
from mdnp.model.identity import NetworkID
from mdnp.model.network import IPAddress


class Roads:
    """
    `finder_of` says what is known in a sandbox, `scope_of` what to whoever asks a gateway. `host` is the address at
    which the host itself asks, and what is answered there; None: it does not ask.
    """

    def __init__(
        self,
        doorways: Doorways,
        finder_of: Callable[[str], Finder],
        scope_of: Callable[[NetworkID, IPAddress], Scope | None],
        host: tuple[IPAddress, Callable[[], Scope]] | None,
    ) -> None:
        self.sandboxes = Sandboxes(doorways, finder_of)
        self.gateways = Gateways(lambda network: partial(scope_of, network), Server, Signposts())
        self.host = Stub(*host, Server) if host else None

    @property
    def served(self) -> Mapping[Road, Served]:
        roads = {Road.SANDBOX: self.sandboxes.served, Road.GATEWAY: self.gateways.served}
        return {**roads, Road.HOST: self.host.served} if self.host else roads

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for one in (self.sandboxes, self.gateways, self.host):
                if one is not None:
                    tasks.create_task(one.run())
