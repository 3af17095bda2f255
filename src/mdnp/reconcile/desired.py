"""What should be in the kernel, from what this host promised. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from mdnp.dataplane import bridge
from mdnp.dataplane.objects import Key, Object
from mdnp.dataplane.steps import Owner
from mdnp.model.endpoint import Endpoint
from mdnp.model.network import Network


@dataclass(frozen=True)
class Owned:
    """An object, and for whom it is."""

    object: Object
    owner: Owner


Desired = Mapping[Key, Owned]


def of_network(network: Network) -> dict[Key, Owned]:
    return _owned(bridge.plan_network(network), Owner(network.id))


def of_endpoint(network: Network, endpoint: Endpoint) -> dict[Key, Owned]:
    return _owned(bridge.plan_endpoint(network, endpoint), Owner(endpoint.id))


def _owned(objects: tuple[Object, ...], owner: Owner) -> dict[Key, Owned]:
    return {one.key: Owned(one, owner) for one in objects}
