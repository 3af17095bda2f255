"""
Names across hosts, made from the settings: what Docker calls things is learned, and whoever asks is answered.

Nothing of it runs until a network has names or the host asks for them: a host without either pays nothing for it.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from mdnp.config import Settings
from mdnp.dns import Scope
from mdnp.dns.catalogue import Catalogue
from mdnp.dns.hearsay import Holder, endpoints, named
from mdnp.dns.learner import Learner
from mdnp.dns.resolvers import HostResolvers
from mdnp.dns.standing import Standing
from mdnp.dns.upstream import Cache
from mdnp.engine import NameSource
from mdnp.kernel.doorway import Doorways
from mdnp.member import News, Outlook
from mdnp.model.endpoint import Phase
from mdnp.model.identity import NetworkID
from mdnp.model.network import IPAddress
from mdnp.store import Store

if TYPE_CHECKING:
    from mdnp.dns.roads import Roads


class Resolving:
    """`tell` is called when other hosts should hear of names that changed."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        outlook: Outlook,
        *,
        source: NameSource,
        holder: Holder,
        doorways: Doorways,
        tell: Callable[[], None],
    ) -> None:
        self._store = store
        self._host_dns = settings.host_dns
        self._catalogue = Catalogue(store, outlook)
        self._doorways = doorways
        self._resolvers = HostResolvers(self._is_ours)
        self._upstream = Cache(self._resolvers)
        # Whoever serves names on loopback may ask us in turn, as systemd-resolved does.
        self._beyond = HostResolvers(lambda address: address.is_loopback)
        self._beyond_cache = Cache(self._beyond)
        self._learner = Learner(source, store, tell, holder)
        self._roads: Roads | None = None
        self._needed = asyncio.Event()
        self._is_stale = False
        self._refresh()

    @property
    def standing(self) -> Standing | None:
        """None while there is nothing to answer."""
        if self._roads is None or not (named(self._store.promises) or self._host_dns):
            return None
        called = self._store.promises.called
        joined = [one for one in endpoints(self._store.promises) if one.phase is Phase.JOINED]
        resolvers = self._resolvers.standing
        return Standing(
            sandboxes=self._roads.sandboxes.standing,
            gateways=self._roads.gateways.standing,
            host=self._roads.host.standing if self._roads.host else None,
            learned=sum(one.id in called for one in joined),
            unlearned=sum(one.id not in called for one in joined),
            trouble=self._learner.trouble,
            resolvers=resolvers.servers,
            unresolved=resolvers.trouble,
            served=self._roads.served,
        )

    def changed(self) -> None:
        """What is promised has changed. Many changes that come together are one."""
        if not self._is_stale:
            self._is_stale = True
            asyncio.get_running_loop().call_soon(self._refresh)

    def follow(self, news: News) -> None:
        """What other hosts tell has changed."""
        self._catalogue.follow(news.remotes)

    async def run(self) -> None:
        """Until cancelled."""
        await self._needed.wait()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._learner.run())
                tasks.create_task(self._begun().run())
        finally:
            self._resolvers.close()
            self._beyond.close()

    def _refresh(self) -> None:
        self._is_stale = False
        networks = named(self._store.promises).values()
        self._catalogue.refresh()
        if networks or self._host_dns:
            roads = self._begun()
            roads.sandboxes.want(self._catalogue.sandboxes().keys())
            roads.gateways.want(networks)
            self._learner.look()
            self._needed.set()

    def _begun(self) -> "Roads":
        if self._roads is None:
            from mdnp.dns.roads import Roads  # noqa: PLC0415  # it loads the library that reads questions

            host = (self._host_dns, self._host_scope) if self._host_dns else None
            self._roads = Roads(self._doorways, self._catalogue.of_sandbox, self._gateway_scope, host)
        return self._roads

    def _gateway_scope(self, network: NetworkID, address: IPAddress) -> Scope | None:
        finder = self._catalogue.of_address(network, address)
        return Scope(finder, self._upstream) if finder else None

    def _host_scope(self) -> Scope:
        upstream = self._beyond_cache if self._beyond.standing.servers else None
        return Scope(self._catalogue.everywhere(), upstream)

    def _is_ours(self, address: IPAddress) -> bool:
        """Whether it is we who answer there."""
        networks = named(self._store.promises).values()
        gateways = {subnet.gateway.ip for one in networks for subnet in one.subnets if subnet.gateway}
        return address == self._host_dns or address in gateways
