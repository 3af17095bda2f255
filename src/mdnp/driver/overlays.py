"""What an overlay network needs besides a bridge: its segment, agreed on with the other hosts, and shared addresses."""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import replace

from mdnp.cluster import LIMIT_S, ClusterUnavailable
from mdnp.driver import Addresses
from mdnp.kernel import Surroundings
from mdnp.member import Membership
from mdnp.model.endpoint import Endpoint
from mdnp.model.errors import MdnpError, Unsupported
from mdnp.model.identity import short
from mdnp.model.network import IPAddress, Network
from mdnp.model.options import Mode
from mdnp.model.segment import Segment, segment_of

log = logging.getLogger(__name__)

ETHERNET_MTU = 1500  # where the host has no route to take one from
# VXLAN with the outer Ethernet, UDP and IP headers (RFC 7348, 4.3).
_OVERHEAD = {4: 50, 6: 70}


class Overlays:
    """On a host that is in no cluster, known overlays go on as they are, and there are no new ones."""

    def __init__(self, membership: Membership | None = None, addresses: Addresses | None = None) -> None:
        self._member = membership
        self._addresses = addresses

    def mtu(self, surroundings: Surroundings) -> int:
        """What is left of the underlay's MTU, in bytes."""
        vtep = self._member.host.vtep if self._member else None
        underlay = surroundings.mtu_at(vtep) if vtep else surroundings.underlay_mtu
        return (underlay or ETHERNET_MTU) - _OVERHEAD[vtep.version if vtep else 4]

    async def join(self, network: Network, reserved: Collection[IPAddress]) -> Network:
        """
        The network as part of its segment; `reserved` are its auxiliary addresses. May come twice.

        Errors: Unsupported, InvalidParameter, Conflict, Exhausted, ClusterUnavailable, this within a second; then
        `leave` takes back what was done.
        """
        if self._addresses is None:
            raise Unsupported("an overlay needs a cluster, and mdnp runs without one")
        self._addresses.check(network)
        try:
            async with asyncio.timeout(LIMIT_S):
                return await self._joined(network, reserved, self._addresses)
        except TimeoutError as error:
            raise ClusterUnavailable(
                f"network {short(network.id)}: nothing was agreed on with the other hosts within {LIMIT_S:g} s, since"
                " etcd answers slowly or not at all: try again"
            ) from error

    async def leave(self, network: Network) -> None:
        """The network is not promised any more, or never was."""
        if self._addresses is None or network.options.mode is not Mode.OVERLAY:
            return
        try:
            await self._addresses.unshare(network)
        except MdnpError as error:
            log.warning("addresses of network %s are taken back later: %s", short(network.id), error)
        if self._member is not None:
            self._member.leave(segment_of(network))
            self._member.tell()

    def following(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """A later one than all that had one of its addresses, on any host."""
        if self._member is None or network.options.mode is not Mode.OVERLAY:
            return endpoint
        addresses = [one.ip for one in endpoint.addresses]
        return replace(endpoint, generation=self._member.newest_generation(segment_of(network), addresses) + 1)

    def tell(self, network: Network | None) -> None:
        """What is promised of a network has changed."""
        if self._member is not None and network is not None and network.options.mode is Mode.OVERLAY:
            self._member.tell()

    async def rejoin(self, network: Network) -> Network:
        """As `join`, of a network that is promised."""
        return await self.join(network, self._addresses.reserved(network) if self._addresses else ())

    async def surrender(self, network: Network) -> None:
        if self._addresses is not None:
            await self._addresses.surrender(network)

    async def _joined(self, network: Network, reserved: Collection[IPAddress], addresses: Addresses) -> Network:
        vni, mtu = network.vni, network.mtu
        if self._member is not None:
            segment = await self._member.join(wanted(network, reserved))
            vni, mtu = segment.vni, segment.mtu
        own = await addresses.share(network, reserved)
        return replace(network, vni=vni, mtu=mtu, host_addresses=own)


def wanted(network: Network, reserved: Collection[IPAddress]) -> Segment:
    """What this host would have its segment be."""
    gateways = [str(one.gateway) for one in network.subnets if one.gateway and network.has_gateway]
    identity = segment_of(network)
    return Segment(
        id=identity,
        vni=0,
        label=network.options.segment or identity,
        mtu=network.mtu,
        gateways=tuple(sorted(gateways)),
        reserved=tuple(sorted(map(str, reserved))),
        internal=network.internal,
        icc=network.options.icc,
        multicast=network.options.multicast,
    )
