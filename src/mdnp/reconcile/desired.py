"""What should be in the kernel, from what this host promised and what others tell. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mdnp.dataplane import annexes, bridge, overlay, rules
from mdnp.dataplane.objects import Key, Object
from mdnp.dataplane.overlay import Underlay
from mdnp.dataplane.steps import HOST, Owner
from mdnp.kernel import Actual
from mdnp.model.endpoint import Endpoint
from mdnp.model.network import Network
from mdnp.model.segment import RemoteEndpoint


@dataclass(frozen=True)
class Owned:
    """An object, and for whom it is."""

    object: Object
    owner: Owner


Desired = Mapping[Key, Owned]


_NONE = Underlay()


def of_host(networks: Iterable[Network], seen: Actual) -> dict[Key, Owned]:
    every = tuple(networks)
    return _owned((*rules.plan_host(every, seen.uplinks, seen.unreached), *overlay.plan_host(every)), HOST)


def of_network(network: Network, underlay: Underlay = _NONE) -> dict[Key, Owned]:
    objects = (*bridge.plan_network(network), *rules.plan_network(network), *annexes.plan_network(network))
    if overlay.is_overlay(network):
        objects = (*objects, *overlay.plan_network(network, underlay))
    return _owned(objects, Owner(network.id))


def of_endpoint(network: Network, endpoint: Endpoint) -> dict[Key, Owned]:
    own = (*bridge.plan_endpoint(network, endpoint), *annexes.plan_endpoint(endpoint))
    objects = (*own, *rules.plan_endpoint(network, endpoint))
    if overlay.is_overlay(network):
        objects = (*objects, *overlay.plan_endpoint(network, endpoint))
    return _owned(objects, Owner(endpoint.id))


def of_remote(network: Network, remote: RemoteEndpoint) -> dict[Key, Owned]:
    return _owned(overlay.plan_remote(network, remote), Owner(remote.id))


def _owned(objects: Iterable[Object], owner: Owner) -> dict[Key, Owned]:
    return {one.key: Owned(one, owner) for one in objects}
