"""
What this host tells the others: rows that follow from its promises, and what is missing of them in etcd. Pure.

Nothing is queued: whatever was promised and taken back while etcd was away, the difference is what is to be done.
"""

from collections.abc import Iterable, Mapping

from mdnp.cluster import Change, Delete, Put
from mdnp.member.records import HOST_ENDPOINT, key, value
from mdnp.member.rows import DoneRow, EndpointRow, MemberRow, Row
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.host import HostID
from mdnp.model.mac import derived_mac
from mdnp.model.network import Network
from mdnp.model.options import Mode
from mdnp.model.port import Protocol
from mdnp.model.segment import Segment, SegmentID, segment_of
from mdnp.store import Promises


def overlays(promises: Promises) -> list[Network]:
    return [one for one in promises.networks.values() if one.options.mode is Mode.OVERLAY]


def rows(me: HostID, promises: Promises, joining: Iterable[SegmentID], reports: Mapping[str, str]) -> list[Row]:
    """
    All that is ours alone to tell, but for the host's own row. `joining` are segments whose network is not promised
    yet, `reports` what we made of declared networks.
    """
    networks = {one.id: (segment_of(one), one.options.has_names) for one in overlays(promises)}
    segments = dict.fromkeys([*(segment for segment, _ in networks.values()), *joining])
    return [
        *(MemberRow(one, me) for one in segments),
        *(_host_row(me, one) for one in overlays(promises) if one.host_addresses),
        *(
            _endpoint_row(me, promises, one, *networks[one.network_id])
            for one in promises.endpoints.values()
            if one.network_id in networks and one.phase is not Phase.LEFT
        ),
        *(DoneRow(name, me, error) for name, error in reports.items()),
    ]


def missing(desired: Iterable[Row], present: Mapping[str, bytes]) -> list[Change]:
    """The changes that make what stands in etcd of us, `present`, what it should be."""
    wanted = {key(row): value(row) for row in desired}
    return [
        *(Delete(one) for one in present if one not in wanted),
        *(Put(one, text) for one, text in wanted.items() if present.get(one) != text),
    ]


def segment_told(network: Network) -> Segment:
    """The segment as an overlay network knows it, for when etcd has lost it and nobody here remembers its row."""
    options = network.options
    gateways = sorted(str(one.gateway) for one in network.subnets if one.gateway and network.has_gateway)
    return Segment(
        id=segment_of(network),
        vni=network.vni,
        label=options.segment or segment_of(network),
        mtu=network.mtu,
        gateways=tuple(gateways),
        internal=network.internal,
        icc=options.icc,
        multicast=options.multicast,
    )


def _host_row(me: HostID, network: Network) -> EndpointRow:
    addresses = tuple(one.ip for one in network.host_addresses)
    mac = derived_mac(network.host_addresses, network.id)
    return EndpointRow(segment_of(network), me, HOST_ENDPOINT, mac, addresses)


def _endpoint_row(
    me: HostID, promises: Promises, endpoint: Endpoint, segment: SegmentID, has_names: bool
) -> EndpointRow:
    addresses = tuple(one.ip for one in endpoint.addresses)
    called = promises.called.get(endpoint.id) if has_names else None
    return EndpointRow(
        segment,
        me,
        endpoint.id,
        endpoint.mac,
        addresses,
        endpoint.generation,
        endpoint.mac_given,
        called.names if called else None,
        _ports(endpoint) if has_names else (),
    )


def _ports(endpoint: Endpoint) -> tuple[tuple[Protocol, int], ...]:
    """Each once, however often it is published."""
    return tuple(dict.fromkeys((one.request.protocol, one.request.port) for one in endpoint.ports))
