"""
The zones of this host's networks, as promises, Docker and other hosts tell of them, and who may ask which.

It follows: of this host what it promised is read anew by `refresh`, of other hosts what `follow` names. A zone stays
the same value while its network is here, so that who holds a finder always asks what is known now.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
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

_Local = tuple[Endpoint, Called | None]  # what is promised of an endpoint, and what Docker told of it
_UNKNOWN = Names("")


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
        self._by_address: Index[tuple[NetworkID, IPAddress], EndpointID, str] = Index()  # its sandbox

    def refresh(self) -> None:
        """
        What this host promised and Docker told of it has changed. It looks at each promise, and does something for
        those that changed; of other hosts it reads only what a new network needs.
        """
        networks = {key: one for key, one in self._store.promises.networks.items() if one.options.has_names}
        self._refresh_networks(networks)
        self._refresh_endpoints(networks)

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
        path = next(iter(self._by_address.of((network, address))), None)
        return None if path is None else self.of_sandbox(path)

    def everywhere(self) -> Finder:
        """For the host itself: the names below .mdnp of all its networks, and their addresses."""
        return _Current(lambda: Zones(tuple(self._zones.values()), self._random, everywhere=True))

    def sandboxes(self) -> Mapping[str, Mapping[EndpointID, NetworkID]]:
        """The sandboxes on networks with names, by path, with their endpoints and on which each is."""
        return self._sandboxes.all

    def _of(self, networks: Iterable[NetworkID]) -> Zones:
        return Zones([self._zones[one] for one in dict.fromkeys(networks)], self._random)

    def _refresh_networks(self, networks: Mapping[NetworkID, Network]) -> None:
        called = self._store.promises.called
        for gone in self._zones.keys() - networks.keys():
            self._remove(gone)
        for network in networks.values():
            self._keep(network, called.get(network.id))

    def _refresh_endpoints(self, networks: Mapping[NetworkID, Network]) -> None:
        promises = self._store.promises
        kept = {
            key: (one, promises.called.get(key))
            for key, one in promises.endpoints.items()
            if one.network_id in networks
        }
        for gone in self._locals.keys() - kept.keys():
            self._forget(gone)
        for identity, local in kept.items():
            if self._locals.get(identity) != local:
                self._forget(identity)
                self._learn(local)

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
        endpoint, _ = local
        self._locals[endpoint.id] = local
        resident = _resident_here(local)
        if resident:
            self._zones[endpoint.network_id].put(endpoint.id, resident)
        if endpoint.phase is Phase.JOINED and endpoint.sandbox:
            self._sandboxes.put(endpoint.sandbox, endpoint.id, endpoint.network_id)
            for place in _places(endpoint):
                self._by_address.put(place, endpoint.id, endpoint.sandbox)

    def _forget(self, identity: EndpointID) -> None:
        local = self._locals.pop(identity, None)
        if local is None:
            return
        endpoint, _ = local
        zone = self._zones.get(endpoint.network_id)
        if zone:
            zone.drop(identity)
        self._sandboxes.drop(endpoint.sandbox, identity)
        for place in _places(endpoint):
            self._by_address.drop(place, identity)


def _places(endpoint: Endpoint) -> list[tuple[NetworkID, IPAddress]]:
    return [(endpoint.network_id, one.ip) for one in endpoint.addresses]


def _resident_here(local: _Local) -> Resident | None:
    """
    None while it is not for others to find: it has left, or has no name and is not joined either. A joined one whose
    names are not known yet is there by its address: Docker knows it.
    """
    endpoint, called = local
    if endpoint.phase is Phase.LEFT or (called is None and endpoint.phase is not Phase.JOINED):
        return None
    ports = dict.fromkeys((one.request.protocol, one.request.port) for one in endpoint.ports)
    addresses = tuple(one.ip for one in endpoint.addresses)
    return Resident(addresses, called.names if called else _UNKNOWN, tuple(ports), here=True)


def _resident_of(remote: RemoteEndpoint) -> Resident | None:
    """None for one without a name, as a host's own address is."""
    if remote.is_host or remote.names is None:
        return None
    return Resident(remote.addresses, remote.names, remote.ports)
