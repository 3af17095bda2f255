"""Publishing: choose ports of the host, promise them, and try others when the host's kernel says that one is taken."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from mdnp.dataplane import publishing
from mdnp.dataplane.objects import HostPort
from mdnp.dataplane.steps import Owner
from mdnp.driver.ports import choose
from mdnp.driver.requests import PublishRequest
from mdnp.kernel import Failure, Kernel
from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import Conflict, Exhausted, InUse, KernelError, MdnpError, StoreUnavailable
from mdnp.model.identity import EndpointID, short
from mdnp.model.network import IPAddress, Network
from mdnp.model.port import HostSocket, Publication
from mdnp.reconcile.converge import Reconciler
from mdnp.store import Put, Store

log = logging.getLogger(__name__)


class Publisher:
    def __init__(self, store: Store, kernel: Kernel, reconciler: Reconciler) -> None:
        self._store = store
        self._kernel = kernel
        self._reconciler = reconciler
        self._claimed: dict[HostSocket, EndpointID] = {}  # chosen, and not yet wanted of the kernel
        self._local_ports: range | None = None
        self._last = 0  # the local port that was given out last

    async def publish(self, network: Network, endpoint: Endpoint, request: PublishRequest) -> None:
        """
        Publish what is asked for, and nothing else. The caller lets nobody else change the endpoint meanwhile.

        Errors: MdnpError; then nothing of the endpoint is published.
        """
        busy: dict[HostSocket, str] = {}
        promised = endpoint
        try:
            while True:
                if busy or not _is_as_asked(endpoint, request):
                    promised = replace(endpoint, ports=await self._chosen(network, endpoint, request, busy))
                with self._claim(network, promised):
                    failure = await self._promise(promised)
                if failure is None:
                    break
                self._note(failure, busy)
                self._remember(promised.ports)  # where any will do, go on after the ports that were tried
        except MdnpError:
            await self._take_back(promised)
            raise
        self._remember(promised.ports)

    async def _chosen(
        self, network: Network, endpoint: Endpoint, request: PublishRequest, busy: dict[HostSocket, str]
    ) -> tuple[Publication, ...]:
        any_will_do = any(port.ephemeral for port in request.ports)
        local_ports = await self._in_turn() if any_will_do else ()
        chosen = partial(
            choose,
            network,
            endpoint,
            request.ports,
            carried=request.carried,
            obstacle=lambda socket: busy.get(socket, "") or self._obstacle(socket, endpoint.id),
            local_ports=local_ports,
        )
        try:
            return chosen()
        except (Conflict, Exhausted):
            if not await self._unpublish_yielding(endpoint):
                raise
            return chosen()

    async def _unpublish_yielding(self, endpoint: Endpoint) -> bool:
        """
        Take back what is published for endpoints that yield: for lost ones it leads nowhere, and of one sandbox only
        one endpoint is the way out.

        An engine that was killed (28.5) starts containers anew without a word about the endpoints that they had; one
        that was restarted with live-restore (29) does not say that an endpoint is the way out no more.
        """
        await self._reconciler.converge()
        yielding = [one for one in self._store.promises.endpoints.values() if self._yields(one, endpoint)]
        for one in yielding:
            log.warning("unpublishing the ports of endpoint %s: %s asks for them", short(one.id), short(endpoint.id))
            await self._take_back(one)
        return bool(yielding)

    def _yields(self, one: Endpoint, to: Endpoint) -> bool:
        if not one.ports or one.id == to.id:
            return False
        return Owner(one.id) in self._reconciler.lost or (one.sandbox != "" and one.sandbox == to.sandbox)

    async def _in_turn(self) -> Sequence[int]:
        """The host's local ports, from the one after the last: a port that was let go is given out late again."""
        if self._local_ports is None:
            self._local_ports = await self._kernel.local_ports()
        ports = self._local_ports
        start = ports.index(self._last) + 1 if self._last in ports else 0
        return [*ports[start:], *ports[:start]]

    def _obstacle(self, socket: HostSocket, endpoint: EndpointID) -> str:
        for one in (socket, replace(socket, address=_every(socket.address))):
            other = self._claimed.get(one) or self._reconciler.owner(HostPort(one).key)
            if other is not None and other != endpoint:
                return f"{one} is published for endpoint {short(other)} (see `mdnp port ls`): publish another port"
        return ""

    @contextmanager
    def _claim(self, network: Network, endpoint: Endpoint) -> Iterator[None]:
        """Until the ports are wanted of the kernel, which others can see."""
        sockets = [socket for one in endpoint.ports for socket in publishing.host_sockets(network, endpoint, one)]
        self._claimed |= dict.fromkeys(sockets, endpoint.id)
        try:
            yield
        finally:
            for socket in sockets:
                self._claimed.pop(socket, None)

    async def _promise(self, endpoint: Endpoint) -> Failure | None:
        """Write the promise down and make it true, as far as others' ports allow."""
        if self._store.promises.endpoints.get(endpoint.id) != endpoint:
            await self._store.commit(Put(endpoint))
        outcome = await self._reconciler.converge(Owner(endpoint.id))
        return outcome.failure_of(Owner(endpoint.id))

    def _note(self, failure: Failure, busy: dict[HostSocket, str]) -> None:
        """A port that somebody else has is not tried again. Any other failure is raised."""
        port = getattr(failure.step, "object", None)
        if not isinstance(failure.error, InUse) or not isinstance(port, HostPort) or port.socket in busy:
            raise failure.error
        busy[port.socket] = str(failure.error)

    async def _take_back(self, endpoint: Endpoint) -> None:
        try:
            await self._promise(replace(endpoint, ports=()))
        except (KernelError, StoreUnavailable) as error:
            log.warning("unpublishing the ports of endpoint %s will be tried again: %s", short(endpoint.id), error)

    def _remember(self, ports: tuple[Publication, ...]) -> None:
        given = [one.host_port for one in ports if one.request.ephemeral]
        self._last = given[-1] if given else self._last


def _every(address: IPAddress) -> IPAddress:
    """What stands for every address of its family."""
    return type(address)(0)


def _is_as_asked(endpoint: Endpoint, request: PublishRequest) -> bool:
    """Docker repeats itself in any order."""
    asked = Counter((port, request.carried) for port in request.ports)
    return asked == Counter((one.request, one.carried) for one in endpoint.ports)
