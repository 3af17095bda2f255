"""The verbs."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Set
from dataclasses import replace

from mdnp.dataplane import naming
from mdnp.dataplane.steps import HOST, Owner
from mdnp.driver.locks import Locks
from mdnp.driver.publisher import Publisher
from mdnp.driver.requests import Attachment, EndpointRequest, NetworkRequest, PublishRequest
from mdnp.kernel import Kernel, Surroundings
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.errors import Conflict, InvalidParameter, KernelError, NotFound, StoreUnavailable
from mdnp.model.identity import EndpointID, NetworkID, short
from mdnp.model.mac import derived_mac
from mdnp.model.network import IPAddress, Network, overlapping
from mdnp.model.options import (
    BRIDGE_NAME,
    GATEWAY,
    GATEWAY_MODE_IPV4,
    GATEWAY_MODE_IPV6,
    GatewayMode,
    Routing,
)
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Drop, Put, Store

log = logging.getLogger(__name__)

_ETHERNET_MTU = 1500  # where the host has no default route to take one from


class NetworkDriver:
    """Errors of every verb: MdnpError, its kind saying what the caller may do. Nothing of such a call is left."""

    def __init__(self, store: Store, kernel: Kernel, reconciler: Reconciler, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._kernel = kernel
        self._reconciler = reconciler
        self._networks_lock = asyncio.Lock()
        self._locks = Locks()  # by the name of the host end, which endpoints whose ids begin alike would share
        self._publisher = Publisher(store, kernel, reconciler)

    async def create_network(self, request: NetworkRequest) -> None:
        async with self._networks_lock:
            network = await self._planned(request)
            if network.id in self._store.promises.networks:
                await self._converged(network)
                return
            await self._store.commit(Put(network))
            await self._fulfil(network)

    async def delete_network(self, network_id: NetworkID) -> None:
        """
        Forget a network, and the endpoints that Docker left on it.

        Docker deletes no network with endpoints that it knows of, and forgets the network whatever we answer:
        endpoints that are still here were forgotten before (an engine that was killed skips their deletion).
        """
        async with self._networks_lock:
            network = self._store.promises.networks.get(network_id)
            if network is None:
                log.info("network %s: deleted already", short(network_id))
                return
            left = await self._forgotten(network)
            for endpoint in left:
                log.warning("network %s is deleted with endpoint %s on it", short(network_id), short(endpoint.id))
            await self._withdrawn(network, *left)

    async def _forgotten(self, network: Network) -> list[Endpoint]:
        """Take back the promise of a network, and those of the endpoints on it, which are returned."""
        while True:
            left = [one for one in self._store.promises.endpoints.values() if one.network_id == network.id]
            try:
                await self._store.commit(*map(Drop, left), Drop(network))
            except Conflict:
                continue  # one more endpoint came while the disk was waited for
            return left

    async def create_endpoint(self, request: EndpointRequest) -> Endpoint:
        async with self._locks.hold(naming.host_end(request.id)):
            network = self._network(request.network_id)
            endpoint = _endpoint_of(request, self._clock())
            known = self._store.promises.endpoints.get(request.id)
            if known is not None:
                await self._converged(_same(known, endpoint))
                return known
            self._check_names(endpoint)
            _check_addresses(network, endpoint)
            followed = self._followed(endpoint)
            await self._store.commit(*map(Drop, followed), Put(endpoint))
            if followed:
                await self._withdrawn(*followed)
            await self._fulfil(endpoint)
            return endpoint

    async def join(self, network_id: NetworkID, endpoint_id: EndpointID, sandbox: str) -> Attachment:
        async with self._locks.hold(naming.host_end(endpoint_id)):
            network, endpoint = self._network(network_id), self._endpoint(network_id, endpoint_id)
            if endpoint.phase is Phase.LEFT:
                # Its links may have died with the sandbox: only a created endpoint's can be made again.
                endpoint = replace(endpoint, phase=Phase.CREATED, sandbox="")
                await self._store.commit(Put(endpoint))
            if endpoint.phase is Phase.CREATED:
                await self._converged(endpoint)  # the link that Docker is told of must be there
            if (endpoint.phase, endpoint.sandbox) != (Phase.JOINED, sandbox):
                endpoint = replace(endpoint, phase=Phase.JOINED, sandbox=sandbox)
                await self._store.commit(Put(endpoint))
                await self._converged(endpoint)
            return _attachment(network, endpoint)

    async def leave(self, endpoint_id: EndpointID) -> None:
        async with self._locks.hold(naming.host_end(endpoint_id)):
            endpoint = self._store.promises.endpoints.get(endpoint_id)
            if endpoint is not None and endpoint.phase is Phase.JOINED:
                await self._store.commit(Put(replace(endpoint, phase=Phase.LEFT, ports=())))
                await self._withdrawn(endpoint)

    async def delete_endpoint(self, endpoint_id: EndpointID) -> None:
        async with self._locks.hold(naming.host_end(endpoint_id)):
            endpoint = self._store.promises.endpoints.get(endpoint_id)
            if endpoint is None:
                log.info("endpoint %s: deleted already", short(endpoint_id))
                return
            await self._store.commit(Drop(endpoint))
            await self._withdrawn(endpoint)

    async def forget_endpoint(self, endpoint: Endpoint) -> None:
        """Docker does not have it; unless it changed since that was seen."""
        async with self._locks.hold(naming.host_end(endpoint.id)):
            if self._store.promises.endpoints.get(endpoint.id) == endpoint:
                await self._store.commit(Drop(endpoint))
                await self._withdrawn(endpoint)

    async def forget_network(self, network: Network) -> None:
        """Docker does not have it; unless an endpoint came to it since that was seen."""
        async with self._networks_lock:
            promises = self._store.promises
            if any(one.network_id == network.id for one in promises.endpoints.values()):
                return
            if promises.networks.get(network.id) == network:
                await self._store.commit(Drop(network))
                await self._withdrawn(network)

    async def note_listed(self, listed: Set[str]) -> None:
        """These networks the engine has: what it once had and does not list later, it removed."""
        async with self._networks_lock:
            known = self._store.promises.networks.values()
            new = [replace(one, listed=True) for one in known if one.id in listed and not one.listed]
            if new:
                await self._store.commit(*map(Put, new))

    async def publish(self, request: PublishRequest) -> None:
        """
        Docker made this endpoint the sandbox's way out, with these ports to publish on it.

        A network without a way out has no way in, with Docker's own driver neither: there a port means nothing.
        """
        async with self._locks.hold(naming.host_end(request.endpoint_id)):
            network = self._network(request.network_id)
            endpoint = self._endpoint(request.network_id, request.endpoint_id)
            if network.is_way_out:
                await self._publisher.publish(network, endpoint, request)

    async def revoke(self, endpoint_id: EndpointID) -> None:
        """It is the way out no more. Not every engine says so: Leave and DeleteEndpoint unpublish too."""
        async with self._locks.hold(naming.host_end(endpoint_id)):
            endpoint = self._store.promises.endpoints.get(endpoint_id)
            if endpoint is not None and endpoint.ports:
                await self._store.commit(Put(replace(endpoint, ports=())))
                await self._withdrawn(endpoint)

    def info(self, network_id: NetworkID, endpoint_id: EndpointID) -> Mapping[str, str]:
        endpoint = self._endpoint(network_id, endpoint_id)
        return {"mdnp.host_end": naming.host_end(endpoint.id), "mdnp.phase": endpoint.phase}

    async def _planned(self, request: NetworkRequest) -> Network:
        """The network that was asked for, checked against the others and the host."""
        known = self._store.promises.networks.get(request.id)
        surroundings = await self._kernel.surroundings()
        mtu = request.options.mtu or (known.mtu if known else surroundings.underlay_mtu or _ETHERNET_MTU)
        network = Network(request.id, request.subnets, request.internal, request.options, mtu, self._clock())
        if known is None:
            _check_options(network)
            others = list(self._store.promises.networks.values())
            _check_bridge(network, others)
            _check_overlap(network, others)
            _check_routes(network, surroundings)
        elif known != network:
            raise Conflict(f"network {short(network.id)} exists already with other settings: remove it first")
        return network

    async def _fulfil(self, record: Network | Endpoint) -> None:
        """Make a new promise true, or take it back."""
        try:
            await self._converged(record)
        except KernelError:
            await self._take_back(record)
            raise

    async def _take_back(self, record: Network | Endpoint) -> None:
        try:
            await self._store.commit(Drop(record))
        except StoreUnavailable:
            log.exception("promise of %s stays in the store although it was not kept", short(record.id))
        else:
            await self._withdrawn(record)

    async def _converged(self, record: Network | Endpoint) -> None:
        """A network needs what is the host's: our tables, and what lets its traffic pass."""
        outcome = await self._reconciler.converge(Owner(record.id))
        owners = (HOST, Owner(record.id)) if isinstance(record, Network) else (Owner(record.id),)
        failure = outcome.failure_of(*owners)
        if failure:
            raise failure.error

    async def _withdrawn(self, *records: Network | Endpoint) -> None:
        """What is not promised any more goes. What fails here goes later: no promise depends on it."""
        try:
            await self._reconciler.converge(*(Owner(record.id) for record in records))
        except KernelError as error:
            log.warning("removal will be tried again: %s", error)

    def _network(self, network_id: NetworkID) -> Network:
        network = self._store.promises.networks.get(network_id)
        if network is None:
            raise NotFound(
                f"network {short(network_id)} is not known to mdnp (was its state folder replaced?): remove the network"
                " from Docker and create it again"
            )
        return network

    def _endpoint(self, network_id: NetworkID, endpoint_id: EndpointID) -> Endpoint:
        endpoint = self._store.promises.endpoints.get(endpoint_id)
        if endpoint is None or endpoint.network_id != network_id:
            raise NotFound(f"endpoint {short(endpoint_id)} is not known on network {short(network_id)}")
        return endpoint

    def _followed(self, endpoint: Endpoint) -> list[Endpoint]:
        """
        Endpoints that Docker has forgotten: lost ones whose address it gives to another endpoint of the network now.

        An engine that was killed (28.5) starts containers anew without a word about the endpoints that they had.
        """
        known = self._store.promises.endpoints
        lost = [one for owner in self._reconciler.lost if (one := known.get(EndpointID(owner)))]
        followed = [
            one
            for one in lost
            if one.network_id == endpoint.network_id and set(one.addresses) & set(endpoint.addresses)
        ]
        for one in followed:
            log.warning("endpoint %s is lost, and Docker gave its address to %s", short(one.id), short(endpoint.id))
        return followed

    def _check_names(self, endpoint: Endpoint) -> None:
        """Two ids that begin alike would share a link name."""
        name = naming.host_end(endpoint.id)
        for other in self._store.promises.endpoints:
            if naming.host_end(other) == name:
                raise Conflict(f"endpoint {short(endpoint.id)}: its link {name} would be endpoint {other}'s")


def _endpoint_of(request: EndpointRequest, since: float) -> Endpoint:
    mac = request.mac or derived_mac(request.addresses, request.id)
    given = request.mac is not None
    return Endpoint(request.id, request.network_id, mac, given, request.addresses, allowed=request.allowed, since=since)


def _same(known: Endpoint, asked: Endpoint) -> Endpoint:
    if replace(known, phase=asked.phase, sandbox=asked.sandbox, ports=asked.ports) != asked:
        raise Conflict(f"endpoint {short(known.id)} exists already with other settings")
    return known


def _check_addresses(network: Network, endpoint: Endpoint) -> None:
    for address in endpoint.addresses:
        subnet = network.subnet_of(address)
        if subnet is None:
            raise InvalidParameter(f"address {address} is in no subnet of network {short(network.id)}")
        if network.has_gateway and subnet.gateway and subnet.gateway.ip == address.ip:
            raise Conflict(f"address {address} is the gateway's of network {short(network.id)}")


def _check_options(network: Network) -> None:
    """What each option means alone was checked before; here what they mean together."""
    modes = {GATEWAY_MODE_IPV4: network.options.routing_ipv4, GATEWAY_MODE_IPV6: network.options.routing_ipv6}
    for key, routing in modes.items():
        if routing is Routing.ISOLATED and not network.internal:
            raise InvalidParameter(f"option {key}={routing}: only an internal network can be isolated: add --internal")
        if routing is Routing.ROUTED and not network.is_way_out:
            raise InvalidParameter(
                f"option {key}={routing}: this network has no gateway of mdnp's to route by: leave it out, or leave out"
                f" --internal and {GATEWAY}"
            )


def _check_bridge(network: Network, others: list[Network]) -> None:
    name = naming.bridge(network)
    if network.options.bridge_name and name.startswith(naming.PREFIXES):
        raise InvalidParameter(
            f"option {BRIDGE_NAME}={name}: names with {', '.join(naming.PREFIXES)} are for links that mdnp names itself"
        )
    for other in others:
        if naming.bridge(other) == name:
            raise Conflict(f"bridge {name} is network {short(other.id)}'s already: choose another name")


def _check_overlap(network: Network, others: list[Network]) -> None:
    for number, subnet in enumerate(network.subnets):
        clash = overlapping([subnet], [one.pool for one in network.subnets[:number]])
        if clash:
            raise Conflict(f"subnet {clash[0]} overlaps {clash[1]} of the same network: choose another --subnet")
    for other in others:
        clash = overlapping(network.subnets, [subnet.pool for subnet in other.subnets])
        if clash:
            raise Conflict(
                f"subnet {clash[0]} overlaps {clash[1]} of network {short(other.id)}: choose another --subnet, or"
                " remove that network; if Docker does not have it any more, `mdnp gc` does"
            )


def _check_routes(network: Network, surroundings: Surroundings) -> None:
    """
    A subnet that is directly on a link of the host would be black-holed.

    A route with a gateway is another matter: taking a piece out of a VPN's 10.0.0.0/8 is what people do on purpose.
    """
    for route in surroundings.routes:
        clash = overlapping(network.subnets, [route.to])
        if clash and not route.gateway:
            raise Conflict(
                f"subnet {clash[0]} overlaps {route.to}, which is directly on the host's link {route.link}: choose"
                " another --subnet"
            )
        if clash:
            log.warning(
                "subnet %s of network %s hides a part of the route to %s", clash[0], short(network.id), route.to
            )


def _attachment(network: Network, endpoint: Endpoint) -> Attachment:
    gateways: tuple[IPAddress, ...] = ()
    if network.has_gateway and network.options.gateway is GatewayMode.SELF:
        subnets = [network.subnet_of(address) for address in endpoint.addresses]
        gateways = tuple(subnet.gateway.ip for subnet in subnets if subnet and subnet.gateway)
    return Attachment(
        link=naming.sandbox_end(endpoint.id),
        prefix=network.options.iface_prefix,
        gateways=gateways,
        gateway_service=network.options.gateway is GatewayMode.DOCKER and not network.internal,
    )
