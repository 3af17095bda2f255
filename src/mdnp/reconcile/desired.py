"""What should be in the kernel, from what this host promised. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mdnp.dataplane import bridge, rules
from mdnp.dataplane.objects import Key, Object
from mdnp.dataplane.steps import HOST, Owner
from mdnp.kernel import Actual
from mdnp.model.endpoint import Endpoint
from mdnp.model.network import Network


@dataclass(frozen=True)
class Owned:
    """An object, and for whom it is."""

    object: Object
    owner: Owner


Desired = Mapping[Key, Owned]


def of_host(networks: Iterable[Network], seen: Actual) -> dict[Key, Owned]:
    return _owned(rules.plan_host(networks, seen.uplinks, seen.unreached), HOST)


def of_network(network: Network) -> dict[Key, Owned]:
    return _owned((*bridge.plan_network(network), *rules.plan_network(network)), Owner(network.id))


def of_endpoint(network: Network, endpoint: Endpoint) -> dict[Key, Owned]:
    objects = (*bridge.plan_endpoint(network, endpoint), *rules.plan_endpoint(network, endpoint))
    return _owned(objects, Owner(endpoint.id))


def _owned(objects: Iterable[Object], owner: Owner) -> dict[Key, Owned]:
    return {one.key: Owned(one, owner) for one in objects}
