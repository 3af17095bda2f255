"""Networks and endpoints that Docker does not have, by what it lists."""

from collections.abc import Iterable

from mdnp.driver.network import NetworkDriver
from mdnp.engine import Listing
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.identity import NetworkID
from mdnp.model.network import Network
from mdnp.orphans import Orphan
from mdnp.store import Promises, Store

NETWORK = "network"
ENDPOINT = "endpoint"


class NetworkKeeper:
    """
    An engine that was killed, lost its state or removed things while we were away says nothing of it later; and an
    answer of ours that never reached it leaves a promise to nobody.
    """

    def __init__(self, store: Store, driver: NetworkDriver) -> None:
        self._store = store
        self._driver = driver

    async def learn(self, listing: Listing, began: float) -> None:  # noqa: ARG002  # the contract's
        await self._driver.note_listed(listing.networks.keys())

    def orphans(self, listing: Listing, before: float) -> list[Orphan]:
        return orphans(self._store.promises, listing, before)

    def is_engines(self, orphan: Orphan) -> bool:
        """
        Known by a listing of its network. What was never listed is nobody's if nothing shows that our answer arrived:
        no endpoint was made on the network, no Join came for the endpoint.
        """
        promises = self._store.promises
        if orphan.kind == NETWORK:
            unused = all(one.network_id != orphan.name for one in promises.endpoints.values())
            return unused or _is_listed(promises, orphan.name)
        return orphan.promise.phase is Phase.CREATED or _is_listed(promises, orphan.of)

    async def free(self, orphan: Orphan) -> None:
        match orphan.promise:
            case Network() as network:
                await self._driver.forget_network(network)
            case Endpoint() as endpoint:
                await self._driver.forget_endpoint(endpoint)


def _is_listed(promises: Promises, network: str) -> bool:
    record = promises.networks.get(NetworkID(network))
    return record is not None and record.listed


def orphans(promises: Promises, listing: Listing, before: float) -> list[Orphan]:
    """
    What was promised before `before` (seconds since the epoch) and does not stand in the listing; endpoints first,
    since a network is not taken away under one that stands.
    """
    endpoints = [one for one in promises.endpoints.values() if one.id not in listing.endpoints and one.since < before]
    gone = {one.id for one in endpoints}
    kept = {one.network_id for one in promises.endpoints.values() if one.id not in gone}
    networks = [
        one
        for one in promises.networks.values()
        if one.id not in listing.networks and one.since < before and one.id not in kept
    ]
    return [*_of_endpoints(endpoints), *_of_networks(networks)]


def _of_endpoints(endpoints: Iterable[Endpoint]) -> Iterable[Orphan]:
    return (Orphan(ENDPOINT, one.id, one.network_id, one.since, one) for one in endpoints)


def _of_networks(networks: Iterable[Network]) -> Iterable[Orphan]:
    return (Orphan(NETWORK, one.id, "", one.since, one) for one in networks)
