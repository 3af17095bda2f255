"""What is wanted for endpoints, here and on other hosts, planned once for each record. Pure."""

from collections.abc import Callable
from typing import TypeVar

from mdnp.model.endpoint import Endpoint
from mdnp.model.network import Network
from mdnp.model.segment import RemoteEndpoint
from mdnp.reconcile import desired
from mdnp.reconcile.desired import Desired

_Record = TypeVar("_Record", Endpoint, RemoteEndpoint)


class Plans:
    """
    Kept for as long as the endpoint and its network are the same records: to plan a thousand endpoints at each look
    takes as long as to read what the kernel has of them.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Network, Endpoint | RemoteEndpoint, Desired]] = {}

    def of_endpoint(self, network: Network, endpoint: Endpoint) -> Desired:
        return self._of(network, endpoint, desired.of_endpoint)

    def of_remote(self, network: Network, remote: RemoteEndpoint) -> Desired:
        return self._of(network, remote, desired.of_remote)

    def forget(self, identity: str) -> None:
        self._kept.pop(identity, None)

    def _of(self, network: Network, record: _Record, plan: Callable[[Network, _Record], Desired]) -> Desired:
        kept = self._kept.get(record.id)
        if kept is None or kept[0] is not network or kept[1] is not record:
            kept = network, record, plan(network, record)
            self._kept[record.id] = kept
        return kept[2]
