"""For whom something is wanted, by our promises and by what others tell, and the plan for each. Pure."""

from collections.abc import Iterable, Iterator

from mdnp.dataplane import overlay
from mdnp.dataplane.overlay import Underlay
from mdnp.dataplane.steps import HOST, Owner
from mdnp.kernel import Actual
from mdnp.member import Outlook
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.network import IPAddress, Network
from mdnp.model.segment import RemoteID, SegmentID, segment_of
from mdnp.reconcile import desired
from mdnp.reconcile.desired import Desired
from mdnp.reconcile.plans import Plans
from mdnp.store import Store

# What the rows to other hosts stand on: when it changes, all of a network's are planned anew.
_Footing = tuple[Network, int, IPAddress | None, int]


class Scope:
    """
    An overlay's remote endpoints are owners as its own endpoints are. They are planned along with their network, but
    only when what they stand on changed: to make one endpoint costs the same however many there are elsewhere.
    """

    def __init__(self, store: Store, outlook: Outlook) -> None:
        self._store = store
        self._outlook = outlook
        self._plans = Plans()
        self._segments: dict[NetworkID, SegmentID] = {}
        self._overlays: dict[SegmentID, Network] = {}
        self._footings: dict[NetworkID, _Footing] = {}
        self._spanned: dict[NetworkID, set[RemoteID]] = {}

    def every(self) -> Iterator[Owner]:
        """All owners but the host."""
        self._refresh()
        self._footings.clear()
        self._spanned.clear()
        promises = self._store.promises
        yield from (Owner(one) for one in promises.networks)
        yield from (Owner(one) for one in promises.endpoints)
        for network in self._overlays.values():
            yield from self._remotes(network)

    def of(self, owners: Iterable[Owner]) -> list[Owner]:
        """These, networks for segments, and with a network what must be planned anew because of it."""
        self._refresh()
        found: dict[Owner, None] = {}
        for owner in owners:
            network = self._overlays.get(SegmentID(owner))
            one = Owner(network.id) if network else owner
            found[one] = None
            found |= dict.fromkeys(self._along(NetworkID(one)))
        return list(found)

    def plan(self, owner: Owner, seen: Actual) -> Desired:
        promises = self._store.promises
        if owner == HOST:
            return desired.of_host(promises.networks.values(), seen)
        network = promises.networks.get(NetworkID(owner))
        if network:
            return desired.of_network(network, self._underlay(network))
        endpoint = promises.endpoints.get(EndpointID(owner))
        if endpoint:
            return self._plans.of_endpoint(promises.networks[endpoint.network_id], endpoint)
        return self._plan_remote(RemoteID(owner))

    def _plan_remote(self, identity: RemoteID) -> Desired:
        remote = self._outlook.remotes.get(identity)
        network = self._overlays.get(remote.segment) if remote else None
        if remote is None or network is None or not self._has_tunnel(network):
            self._plans.forget(identity)
            return {}
        self._spanned.setdefault(network.id, set()).add(identity)
        return self._plans.of_remote(network, remote)

    def _along(self, identity: NetworkID) -> Iterable[Owner]:
        network = self._store.promises.networks.get(identity)
        if network is None:
            self._footings.pop(identity, None)
            return map(Owner, self._spanned.pop(identity, ()))
        if not overlay.is_overlay(network) or self._footings.get(identity) == self._footing(network):
            return ()
        before = self._spanned.pop(identity, set())
        return [*map(Owner, before), *self._remotes(network)]

    def _remotes(self, network: Network) -> list[Owner]:
        self._footings[network.id] = self._footing(network)
        return [Owner(remote.id) for remote in self._outlook.remotes_of(self._segment_of(network))]

    def _footing(self, network: Network) -> _Footing:
        return network, network.vni, self._outlook.vtep, self._outlook.port

    def _has_tunnel(self, network: Network) -> bool:
        return bool(network.vni) and self._outlook.vtep is not None

    def _underlay(self, network: Network) -> Underlay:
        if not overlay.is_overlay(network):
            return Underlay()
        members = tuple(self._outlook.members_of(self._segment_of(network)))
        return Underlay(self._outlook.vtep, self._outlook.port, members)

    def _refresh(self) -> None:
        """Which network here is of which segment; of two of one segment, the earlier one."""
        networks = self._store.promises.networks
        if self._segments.keys() - networks.keys():
            self._segments = {one: segment for one, segment in self._segments.items() if one in networks}
        self._overlays = {}
        for network in networks.values():
            if overlay.is_overlay(network):
                self._overlays.setdefault(self._segment_of(network), network)

    def _segment_of(self, network: Network) -> SegmentID:
        if network.id not in self._segments:
            self._segments[network.id] = segment_of(network)
        return self._segments[network.id]
