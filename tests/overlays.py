"""Values of overlays: this host's part of a segment, and what others tell of theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface

from mdnp.dataplane.steps import Owner
from mdnp.model.host import HostID
from mdnp.model.mac import MAC, derived_mac
from mdnp.model.network import IPAddress, Network
from mdnp.model.options import Mode, NetworkOptions
from mdnp.model.segment import RemoteEndpoint, RemoteID, SegmentID
from tests.world import NET, a_network

VNI = 0x6D0001


def an_overlay(
    identity: str = NET,
    *subnets: str,
    own: Sequence[str] = ("10.50.0.20/16", "fd50::14/64"),
    internal: bool = False,
    options: NetworkOptions | None = None,
    vni: int = VNI,
) -> Network:
    """This host's part of a segment, with its `own` addresses there."""
    network = a_network(
        identity,
        *(subnets or ("10.50.0.0/16 10.50.0.1/16", "fd50::/64 fd50::1/64")),
        internal=internal,
        options=options or NetworkOptions(mode=Mode.OVERLAY),
        mtu=1450,
    )
    return replace(network, vni=vni, host_addresses=tuple(map(ip_interface, own)))


def a_remote(
    name: str = "web",
    *addresses: str,
    host: str = "b",
    vtep: str = "192.0.2.2",
    segment: str = "10.50.0.0/16,fd50::/64",
    mac: str = "",
    generation: int = 1,
) -> RemoteEndpoint:
    """An endpoint of another host; of the name "host" that host's own address."""
    found = tuple(map(ip_address, addresses or ("10.50.1.2", "fd50::1:2")))
    chosen = MAC(mac) if mac else derived_mac(tuple(ip_interface(one) for one in found), name)
    identity = RemoteID(f"{segment.replace('/', '_')}/{host}/{name}")
    return RemoteEndpoint(identity, SegmentID(segment), HostID(host), ip_address(vtep), chosen, found, generation)


@dataclass
class Told:
    """An outlook that is what a test says."""

    vtep: IPAddress | None = field(default_factory=lambda: ip_address("192.0.2.1"))
    port: int = 4789
    endpoints: dict[RemoteID, RemoteEndpoint] = field(default_factory=dict)
    members: tuple[IPAddress, ...] = (ip_address("192.0.2.2"),)

    @property
    def remotes(self) -> Mapping[RemoteID, RemoteEndpoint]:
        return self.endpoints

    def remotes_of(self, segment: SegmentID) -> Sequence[RemoteEndpoint]:
        return [one for one in self.endpoints.values() if one.segment == segment]

    def members_of(self, segment: SegmentID) -> Sequence[IPAddress]:  # noqa: ARG002  # there is one segment
        return self.members

    def tell(self, *remotes: RemoteEndpoint) -> list[Owner]:
        """Whose they are."""
        self.endpoints |= {one.id: one for one in remotes}
        return [Owner(one.id) for one in remotes]

    def withdraw(self, *remotes: RemoteEndpoint) -> list[Owner]:
        for one in remotes:
            del self.endpoints[one.id]
        return [Owner(one.id) for one in remotes]
