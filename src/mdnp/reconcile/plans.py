"""What is wanted for endpoints, planned once for each record. Pure."""

from mdnp.model.endpoint import Endpoint
from mdnp.model.identity import EndpointID
from mdnp.model.network import Network
from mdnp.reconcile import desired
from mdnp.reconcile.desired import Desired


class Plans:
    """
    Kept for as long as the endpoint and its network are the same records: to plan a thousand endpoints at each look
    takes as long as to read what the kernel has of them.
    """

    def __init__(self) -> None:
        self._kept: dict[EndpointID, tuple[Network, Endpoint, Desired]] = {}

    def of_endpoint(self, network: Network, endpoint: Endpoint) -> Desired:
        kept = self._kept.get(endpoint.id)
        if kept is None or kept[0] is not network or kept[1] is not endpoint:
            kept = network, endpoint, desired.of_endpoint(network, endpoint)
            self._kept[endpoint.id] = kept
        return kept[2]

    def forget(self, endpoint: EndpointID) -> None:
        self._kept.pop(endpoint, None)
