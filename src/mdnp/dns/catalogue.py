"""
The zones of this host's networks, as promises, Docker and other hosts tell of them, and who may ask which.

It follows: of this host what it promised is read anew by `refresh`, of other hosts what `follow` names. A zone stays
the same value while its network is here, so that who holds a finder always asks what is known now.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from random import Random

from mdnp.dns import Answer, Finder, Question, Resident
from mdnp.dns.index import Index
from mdnp.dns.zone import Zone, Zones
from mdnp.member import Outlook
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.names import Called, Names
from mdnp.model.network import IPAddress, Network
from mdnp.model.options import Mode
from mdnp.model.segment import RemoteEndpoint, RemoteID, SegmentID, segment_of
from mdnp.store import Store

_UNKNOWN = Names("")


@dataclass(frozen=True)
class _Local:
    endpoint: Endpoint
    called: Called | None


class _Current:
    """Finds in what there is at each question."""

    def __init__(self, zones: Callable[[], Zones]) -> None:
        self._zones = zones

    def find(self, question: Question) -> Answer | None:
        return self._zones().find(question)


class Catalogue:
    """`refresh` it before it is asked, and then with each change of what this host promised or Docker told."""

    def __init__(self, store: Store, outlook: Outlook, random: Random | None = None) -> None:
        self._store = store
        self._outlook = outlook
        self._random = random or Random()  # noqa: S311  # whom a client meets first is no secret
        self._zones: dict[NetworkID, Zone] = {}
        self._segments: dict[NetworkID, SegmentID] = {}
        self._by_segment: Index[SegmentID, NetworkID, Zone] = Index()
        self._locals: dict[EndpointID, _Local] = {}
        self._sandboxes: Index[str, EndpointID, NetworkID] = Index()
        self._by_address: dict[tuple[NetworkID, IPAddress], EndpointID] = {}

    def refresh(self) -> None:
        """
        What this host promised and Docker told of it has changed. It looks at each promise, and does something for
        those that changed; of other hosts it reads only what a new network needs.
        """
        promises = self._store.promises
        networks = {key: one for key, one in promises.networks.items() if one.options.has_names}
        for identity in self._zones.keys() - networks.keys():
            self._remove(identity)
        for network in networks.values():
            self._keep(network, promises.called.get(network.id))
        endpoints = {key: one for key, one in promises.endpoints.items() if one.network_id in networks}
        for gone in self._locals.keys() - endpoints.keys():
            self._forget(gone)
        for endpoint in endpoints.values():
            self._learn(_Local(endpoint, promises.called.get(endpoint.id)))

    def follow(self, remotes: Collection[RemoteID]) -> None:
        """These remote endpoints came, changed or went."""
        for identity in remotes:
            remote = self._outlook.remotes.get(identity)
            resident = _resident_of(remote) if remote else None
            if remote and resident:
                for zone in self._by_segment.of(remote.segment):
                    zone.put(identity, resident)
            else:
                for zone in self._zones.values():
                    zone.drop(identity)

    def of_sandbox(self, path: str) -> Finder:
        """For who asks inside a sandbox: the networks that it is on at each question."""
        return _Current(lambda: self._of(self._sandboxes.of(path)))

    def of_address(self, network: NetworkID, address: IPAddress) -> Finder | None:
        """For who asks from an address of a network: what its sandbox may ask. None: no sandbox here has it."""
        identity = self._by_address.get((network, address))
        return self.of_sandbox(self._locals[identity].endpoint.sandbox) if identity else None

    def everywhere(self) -> Finder:
        """For the host itself: the names below .mdnp of all its networks, and their addresses."""
        return _Current(lambda: Zones(tuple(self._zones.values()), self._random, everywhere=True))

    def sandboxes(self) -> Mapping[str, Mapping[EndpointID, NetworkID]]:
        """The sandboxes on networks with names, by path, with their endpoints and on which each is."""
        return self._sandboxes.all

    def _of(self, networks: Iterable[NetworkID]) -> Zones:
        return Zones([self._zones[one] for one in dict.fromkeys(networks)], self._random)

    def _keep(self, network: Network, called: Called | None) -> None:
        name = called.names.name if called else ""
        zone = self._zones.get(network.id)
        if zone:
            zone.call(name)
        else:
            self._add(network, Zone(name, [subnet.pool for subnet in network.subnets]))

    def _add(self, network: Network, zone: Zone) -> None:
        self._zones[network.id] = zone
        if network.options.mode is not Mode.OVERLAY:
            return
        segment = self._segments[network.id] = segment_of(network)
        self._by_segment.put(segment, network.id, zone)
        for remote in self._outlook.remotes_of(segment):
            resident = _resident_of(remote)
            if resident:
                zone.put(remote.id, resident)

    def _remove(self, identity: NetworkID) -> None:
        del self._zones[identity]
        segment = self._segments.pop(identity, None)
        if segment:
            self._by_segment.drop(segment, identity)

    def _learn(self, local: _Local) -> None:
        endpoint = local.endpoint
        if self._locals.get(endpoint.id) == local:
            return
        self._forget(endpoint.id)
        self._locals[endpoint.id] = local
        resident = _resident_here(local)
        if resident:
            self._zones[endpoint.network_id].put(endpoint.id, resident)
        if endpoint.phase is Phase.JOINED:
            self._sandboxes.put(endpoint.sandbox, endpoint.id, endpoint.network_id)
            self._by_address |= dict.fromkeys(_places(endpoint), endpoint.id)

    def _forget(self, identity: EndpointID) -> None:
        local = self._locals.pop(identity, None)
        if local is None:
            return
        endpoint = local.endpoint
        zone = self._zones.get(endpoint.network_id)
        if zone:
            zone.drop(identity)
        self._sandboxes.drop(endpoint.sandbox, identity)
        for place in _places(endpoint):
            if self._by_address.get(place) == identity:
                del self._by_address[place]


def _places(endpoint: Endpoint) -> list[tuple[NetworkID, IPAddress]]:
    return [(endpoint.network_id, one.ip) for one in endpoint.addresses]


def _resident_here(local: _Local) -> Resident | None:
    """
    None while it is not for others to find: it has left, or has no name and is not joined either. A joined one whose
    names are not known yet is there by its address: Docker knows it.
    """
    endpoint = local.endpoint
    if endpoint.phase is Phase.LEFT or (local.called is None and endpoint.phase is not Phase.JOINED):
        return None
    ports = dict.fromkeys((one.request.protocol, one.request.port) for one in endpoint.ports)
    addresses = tuple(one.ip for one in endpoint.addresses)
    return Resident(addresses, local.called.names if local.called else _UNKNOWN, tuple(ports), here=True)


def _resident_of(remote: RemoteEndpoint) -> Resident | None:
    """None for one without a name, as a host's own address is."""
    if remote.is_host or remote.names is None:
        return None
    return Resident(remote.addresses, remote.names, remote.ports)
