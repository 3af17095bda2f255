"""Choosing ports of the host for what is to be published. Pure."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from mdnp.dataplane import publishing
from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import Conflict, Exhausted, InvalidParameter, MdnpError
from mdnp.model.network import Network
from mdnp.model.port import HostSocket, PortRequest, Publication

# Why a port of the host cannot be had, as far as is known; "" if nothing speaks against it.
Obstacle = Callable[[HostSocket], str]


def choose(
    network: Network,
    endpoint: Endpoint,
    requests: Iterable[PortRequest],
    *,
    carried: bool,
    obstacle: Obstacle,
    local_ports: Sequence[int],
) -> tuple[Publication, ...]:
    """
    A port of the host for each request: the one it has, else the first that nothing speaks against, of all families
    alike. `local_ports` are tried where any port will do. Who has less choice chooses first: engines send requests in
    an order that differs from start to start.

    Errors: InvalidParameter for what cannot be published, Conflict when a port is taken, Exhausted when a whole range
    is.
    """
    has = {one.request: one.host_port for one in endpoint.ports}
    chosen: list[Publication] = []
    taken: list[HostSocket] = []

    def speaks_against(socket: HostSocket) -> str:
        if any(socket.clashes(other) for other in taken):
            return f"{socket} is for another port of this container"
        return obstacle(socket)

    for request in sorted(requests, key=_freedom):
        reason = publishing.reason_for_none(network, endpoint, request)
        if reason:
            raise InvalidParameter(f"cannot publish {request}: {reason}")
        ports = local_ports if request.ephemeral else range(request.first, request.last + 1)
        candidates = (
            Publication(request, port, carried) for port in chain([has[request]] if request in has else [], ports)
        )
        publication = _first(network, endpoint, candidates, speaks_against)
        chosen.append(publication)
        taken += publishing.host_sockets(network, endpoint, publication)
    return tuple(chosen)


def _freedom(request: PortRequest) -> tuple[bool, int, str]:
    return request.ephemeral, request.last - request.first, str(request)


def _first(network: Network, endpoint: Endpoint, candidates: Iterable[Publication], obstacle: Obstacle) -> Publication:
    reason, candidate = "", None
    for candidate in candidates:
        sockets = publishing.host_sockets(network, endpoint, candidate)
        reason = next(filter(None, map(obstacle, sockets)), "")
        if not reason:
            return candidate
    raise _refusal(candidate, reason)


def _refusal(last: Publication | None, reason: str) -> MdnpError:
    if last is None or last.request.ephemeral:
        return Exhausted("no port of the host is free to publish at: widen its ip_local_port_range, or name a port")
    request = last.request
    if request.first == request.last:
        return Conflict(f"cannot publish {request}: {reason}")
    return Exhausted(f"cannot publish {request}: no port of the range is free (the last: {reason})")
