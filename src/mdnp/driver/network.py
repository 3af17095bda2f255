"""The verbs."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import replace

from mdnp.dataplane import naming
from mdnp.dataplane.steps import HOST, Owner
from mdnp.driver.annexes import ROOM, Annexes
from mdnp.driver.checks import check_addresses, check_annexes, check_name, check_network
from mdnp.driver.locks import Locks
from mdnp.driver.overlays import ETHERNET_MTU, Overlays
from mdnp.driver.publisher import Publisher
from mdnp.driver.requests import Attachment, EndpointRequest, NetworkRequest, PublishRequest
from mdnp.kernel import Kernel, Surroundings
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.errors import Conflict, KernelError, NotFound, StoreUnavailable
from mdnp.model.identity import EndpointID, NetworkID, short
from mdnp.model.mac import derived_mac
from mdnp.model.network import IPAddress, IPInterface, Network
from mdnp.model.options import GatewayMode, Mode
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Drop, Put, Store

log = logging.getLogger(__name__)


class NetworkDriver:
    """Errors of every verb: MdnpError, its kind saying what the caller may do. Nothing of such a call is left."""

    def __init__(
        self,
        store: Store,
        kernel: Kernel,
        reconciler: Reconciler,
        clock: Callable[[], float],
        overlays: Overlays | None = None,
        *,
        room: int = ROOM,
    ) -> None:
        """`room` is how many endpoints one bridge takes."""
        self._store = store
        self._clock = clock
        self._kernel = kernel
        self._reconciler = reconciler
        self._overlays = overlays or Overlays()
        self._networks_lock = asyncio.Lock()
        # By the id of a network, and the name of the host end, which endpoints whose ids begin alike would share.
        self._locks = Locks()
        self._joining: dict[NetworkID, Network] = {}  # overlays that are being agreed on
        self._annexes = Annexes(store, room)
        self._publisher = Publisher(store, kernel, reconciler)

    async def create_network(self, request: NetworkRequest) -> None:
        async with self._locks.hold(request.id):
            async with self._networks_lock:
                network = await self._planned(request)
                if network.id in self._store.promises.networks:
                    await self._converged(network)
                    return
                if network.options.mode is not Mode.OVERLAY:
                    await self._promise(network)
                    return
                self._joining[network.id] = network
            try:
                await self._create_overlay(network, request.reserved)
            finally:
                del self._joining[network.id]

    async def _create_overlay(self, network: Network, reserved: Collection[IPAddress]) -> None:
        """Other hosts are asked first; meanwhile only who asks for this network waits."""
        try:
            joined = await self._overlays.join(network, reserved)
            async with self._networks_lock:
                await self._promise(joined)
        except BaseException:
            if network.id not in self._store.promises.networks:
                await self._overlays.leave(network)
            raise
        self._overlays.tell(network)

    async def _promise(self, network: Network) -> None:
        await self._store.commit(Put(network))
        await self._fulfil(network)

    async def delete_network(self, network_id: NetworkID) -> None:
        """
        Forget a network, and the endpoints that Docker left on it.

        Docker deletes no network with endpoints that it knows of, and forgets the network whatever we answer:
        endpoints that are still here were forgotten before (an engine that was killed skips their deletion).
        """
        async with self._locks.hold(network_id), self._networks_lock:
            network = self._store.promises.networks.get(network_id)
            if network is None:
                log.info("network %s: deleted already", short(network_id))
                return
            left = await self._forgotten(network)
            for endpoint in left:
                log.warning("network %s is deleted with endpoint %s on it", short(network_id), short(endpoint.id))
            await self._withdrawn(network, *left)
            await self._overlays.leave(network)

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
            check_name(endpoint, self._store.promises.endpoints)
            check_addresses(network, endpoint)
            endpoint = self._overlays.following(network, endpoint)
            followed = self._followed(endpoint)
            with self._annexes.holding(endpoint, await self._annex(network)) as placed:
                await self._store.commit(*map(Drop, followed), Put(placed))
            if followed:
                await self._withdrawn(*followed)
            await self._fulfil(placed)
            self._overlays.tell(network)
            return placed

    async def _annex(self, network: Network) -> int:
        """Where the next endpoint goes; an annex that it takes is there. Whoever is to have it must hold it at once."""
        while (chosen := self._annexes.choose(network.id)) > network.annexes:
            network = await self._extended(network.id, chosen)
        return chosen

    async def _extended(self, network_id: NetworkID, annexes: int) -> Network:
        """With so many annexes, by us or by another that waited for the same."""
        async with self._locks.hold(network_id), self._networks_lock:
            network = self._network(network_id)
            if network.annexes >= annexes:
                return network
            check_annexes(network, self._store.promises.networks.values())
            extended = replace(network, annexes=annexes)
            await self._store.commit(Put(extended))
            try:
                await self._converged(extended)
            except KernelError:
                await self._store.commit(Put(network))
                await self._withdrawn(network)
                raise
            return extended

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
                self._overlays.tell(network)
            return _attachment(network, endpoint)

    async def leave(self, endpoint_id: EndpointID) -> None:
        async with self._locks.hold(naming.host_end(endpoint_id)):
            endpoint = self._store.promises.endpoints.get(endpoint_id)
            if endpoint is not None and endpoint.phase is Phase.JOINED:
                await self._store.commit(Put(replace(endpoint, phase=Phase.LEFT, ports=())))
                await self._withdrawn(endpoint)
                self._tell_of(endpoint)

    async def delete_endpoint(self, endpoint_id: EndpointID) -> None:
        async with self._locks.hold(naming.host_end(endpoint_id)):
            endpoint = self._store.promises.endpoints.get(endpoint_id)
            if endpoint is None:
                log.info("endpoint %s: deleted already", short(endpoint_id))
                return
            await self._store.commit(Drop(endpoint))
            await self._withdrawn(endpoint)
            self._tell_of(endpoint)

    async def forget_endpoint(self, endpoint: Endpoint) -> None:
        """Docker does not have it; unless it changed since that was seen."""
        async with self._locks.hold(naming.host_end(endpoint.id)):
            if self._store.promises.endpoints.get(endpoint.id) == endpoint:
                await self._store.commit(Drop(endpoint))
                await self._withdrawn(endpoint)
                self._tell_of(endpoint)

    async def forget_network(self, network: Network) -> None:
        """Docker does not have it; unless an endpoint came to it since that was seen."""
        async with self._locks.hold(network.id), self._networks_lock:
            promises = self._store.promises
            if any(one.network_id == network.id for one in promises.endpoints.values()):
                return
            if promises.networks.get(network.id) == network:
                await self._store.commit(Drop(network))
                await self._withdrawn(network)
                await self._overlays.leave(network)

    async def withdraw(self) -> None:
        """
        Nothing that this host has on overlays is its own any more: no endpoint, and no address. The networks stay.
        May come twice.
        """
        for identity in self._overlay_ids():
            async with self._locks.hold(identity), self._networks_lock:
                network = self._store.promises.networks.get(identity)
                if network is not None:
                    await self._withdraw(network)

    async def _withdraw(self, network: Network) -> None:
        endpoints = [one for one in self._store.promises.endpoints.values() if one.network_id == network.id]
        bare = replace(network, host_addresses=())
        await self._store.commit(*map(Drop, endpoints), Put(bare))
        for endpoint in endpoints:
            log.error("endpoint %s is out of its segment: restart its container", short(endpoint.id))
        await self._withdrawn(bare, *endpoints)
        await self._overlays.surrender(bare)

    async def enter(self) -> None:
        """Each overlay is of its segment again, and this host has an address in it. Errors: as of `create_network`."""
        for identity in self._overlay_ids():
            async with self._locks.hold(identity):
                network = self._store.promises.networks.get(identity)
                if network is not None:
                    await self._enter(network)

    async def _enter(self, network: Network) -> None:
        joined = await self._overlays.rejoin(network)
        async with self._networks_lock:
            known = self._store.promises.networks[network.id]  # whoever takes it away waits for us
            if _agreed(joined) != _agreed(known):
                await self._store.commit(Put(replace(joined, listed=known.listed)))
                await self._converged(joined)
                self._overlays.tell(joined)

    def _overlay_ids(self) -> list[NetworkID]:
        return [one.id for one in self._store.promises.networks.values() if one.options.mode is Mode.OVERLAY]

    def _tell_of(self, endpoint: Endpoint) -> None:
        self._overlays.tell(self._store.promises.networks.get(endpoint.network_id))

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
                if request.ports or endpoint.ports:
                    self._overlays.tell(network)

    async def revoke(self, endpoint_id: EndpointID) -> None:
        """It is the way out no more. Not every engine says so: Leave and DeleteEndpoint unpublish too."""
        async with self._locks.hold(naming.host_end(endpoint_id)):
            endpoint = self._store.promises.endpoints.get(endpoint_id)
            if endpoint is not None and endpoint.ports:
                await self._store.commit(Put(replace(endpoint, ports=())))
                await self._withdrawn(endpoint)
                self._tell_of(endpoint)

    def info(self, network_id: NetworkID, endpoint_id: EndpointID) -> Mapping[str, str]:
        endpoint = self._endpoint(network_id, endpoint_id)
        return {"mdnp.host_end": naming.host_end(endpoint.id), "mdnp.phase": endpoint.phase}

    async def _planned(self, request: NetworkRequest) -> Network:
        """The network that was asked for, checked against the others and the host."""
        known = self._store.promises.networks.get(request.id)
        surroundings = await self._kernel.surroundings()
        mtu = request.options.mtu or (known.mtu if known else self._mtu(request, surroundings))
        network = Network(request.id, request.subnets, request.internal, request.options, mtu, self._clock())
        if known is None:
            check_network(network, [*self._store.promises.networks.values(), *self._joining.values()], surroundings)
        elif known != network:
            raise Conflict(f"network {short(network.id)} exists already with other settings: remove it first")
        return network

    def _mtu(self, request: NetworkRequest, surroundings: Surroundings) -> int:
        if request.options.mode is Mode.OVERLAY:
            return self._overlays.mtu(surroundings)
        return surroundings.underlay_mtu or ETHERNET_MTU

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


def _agreed(network: Network) -> tuple[int, int, tuple[IPInterface, ...]]:
    """What of an overlay the hosts agreed on."""
    return network.vni, network.mtu, network.host_addresses


def _endpoint_of(request: EndpointRequest, since: float) -> Endpoint:
    mac = request.mac or derived_mac(request.addresses, request.id)
    given = request.mac is not None
    return Endpoint(request.id, request.network_id, mac, given, request.addresses, allowed=request.allowed, since=since)


def _same(known: Endpoint, asked: Endpoint) -> Endpoint:
    if replace(known, phase=asked.phase, sandbox=asked.sandbox, ports=asked.ports) != asked:
        raise Conflict(f"endpoint {short(known.id)} exists already with other settings")
    return known


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
