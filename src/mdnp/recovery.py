"""
What was promised, from what Docker and the kernel show: for when our own record of it is gone. Pure.

Docker knows networks, endpoints, their addresses and MACs, and, where addresses are ours, pools. The kernel knows what
Docker does not tell plugins again: the MTU of bridges, ports that were chosen, gateways. If Docker cannot be asked, the
kernel's marks must do: names, aliases, and what our nft tables say of each link. Promises are written so that nothing
that works is taken away; what nobody has any more is found as an orphan later.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network

from mdnp.dataplane import naming
from mdnp.dataplane.objects import Addr, Element, Link
from mdnp.engine import ListedEndpoint, ListedNetwork, ListedPool, Listing
from mdnp.kernel import Actual
from mdnp.model.allocation import Allocation, Kind, Purpose
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.errors import MdnpError
from mdnp.model.identity import EndpointID, NetworkID, short
from mdnp.model.mac import derived_mac, parse_mac
from mdnp.model.network import IPAddress, IPInterface, IPNetwork, Network, Subnet, needs_gateway
from mdnp.model.options import GatewayMode, Mode, NetworkOptions, Routing, parse_network_options
from mdnp.model.pool import Pool, PoolID, PoolPromise, pool_id
from mdnp.model.port import PortRequest, Protocol, Publication
from mdnp.store import Change, Hold, Put

_ETHERNET_MTU = 1500


@dataclass
class Recovered:
    """The promises as changes to an empty store, and what could not be made out, in words."""

    changes: list[Change] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def recover(listing: Listing | None, actual: Actual, *, driver: str, space: str, now: float) -> Recovered:
    """
    `listing` is None if Docker cannot be asked; `driver` is the name of our socket, by which it knows us, `space` the
    address space of our pools. What the kernel has of us and Docker does not is not recovered.
    """
    found = Recovered()
    kernel = _Kernel(actual)
    if listing is None:
        networks = [kernel.network(link, now) for link in kernel.bridges.values()]
        endpoints = [one for link in kernel.veths.values() if (one := kernel.endpoint(link, networks, now))]
        found.changes += _possible_pools(networks, endpoints, space, now)
    else:
        names = _names(listing, kernel, driver)
        networks = list(_listed_networks(listing, kernel, names, now, found))
        endpoints = list(_listed_endpoints(listing, kernel, networks, now, found))
        found.changes += _pools(listing, kernel, names, space, now)
    found.remarks += [_cut_off(one) for one in networks if one.options.mode is Mode.OVERLAY]
    found.changes[:0] = [*map(Put, networks), *map(Put, endpoints)]
    return found


def _cut_off(overlay: Network) -> str:
    """Which VNI and which blocks were agreed on for it only our own record knew."""
    return (
        f"network {short(overlay.id)} is an overlay, and was recovered without its tunnel: its containers reach those"
        " on other hosts again when it was removed and created anew"
    )


class _Kernel:
    """What the kernel shows of ours, by what it is about."""

    def __init__(self, actual: Actual) -> None:
        objects = actual.objects.values()
        self.links = {one.name: one for one in objects if isinstance(one, Link)}
        self.elements = [one for one in objects if isinstance(one, Element)]
        self.addresses: dict[str, list[IPInterface]] = {}
        for one in objects:
            if isinstance(one, Addr):
                self.addresses.setdefault(one.link, []).append(one.address)
        self.bridges = self._by_alias(naming.network_alias(NetworkID("")))
        self.veths = self._by_alias(naming.endpoint_alias(EndpointID("")))

    def _by_alias(self, prefix: str) -> dict[str, Link]:
        return {one.alias.removeprefix(prefix): one for one in self.links.values() if one.alias.startswith(prefix)}

    def has(self, name: str, link: str) -> bool:
        return any(one.set == name and one.parts[0] == f'"{link}"' for one in self.elements)

    def facts(self, name: str, link: str) -> list[str]:
        """What our sets say of a link."""
        return [one.parts[1] for one in self.elements if one.set == name and one.parts[0] == f'"{link}"']

    def network(self, bridge: Link, now: float) -> Network:
        """By the kernel alone: its options are those that show."""
        identity = NetworkID(bridge.alias.removeprefix(naming.network_alias(NetworkID(""))))
        gateways = [one for one in self.addresses.get(bridge.name, []) if not one.is_link_local]
        subnets = tuple(Subnet(one.network, one) for one in gateways)
        named = None if bridge.name.startswith(naming.BRIDGE_PREFIX) else bridge.name
        options = NetworkOptions(
            gateway=GatewayMode.DOCKER if self.has("closed", bridge.name) and gateways else GatewayMode.SELF,
            bridge_name=named,
            icc=self.has("own", bridge.name),
            masquerade=self.has("nat4", bridge.name) or self.has("nat6", bridge.name),
            routing_ipv4=self._routing(4, bridge.name),
            routing_ipv6=self._routing(6, bridge.name),
            guard=any(self.has("guarded", one.name) for one in self.veths.values() if one.master == bridge.name),
        )
        sealed, annexes = self.has("sealed", bridge.name), self.annexes(identity)
        return Network(identity, subnets, sealed, options, bridge.mtu, now, annexes=annexes)

    def annexes(self, network: NetworkID) -> int:
        """How many a network has."""
        return max((naming.annex_of(network, name) for name in self.links), default=0)

    def _is_on(self, network: Network, bridge: str | None) -> bool:
        return bridge is not None and (naming.bridge(network) == bridge or naming.annex_of(network.id, bridge) > 0)

    def _routing(self, version: int, bridge: str) -> Routing:
        return Routing.ROUTED if self.has(f"routed{version}", bridge) else Routing.NAT

    def endpoint(self, host_end: Link, networks: Iterable[Network], now: float) -> Endpoint | None:
        """By the kernel alone. Nothing shows the MAC without a guard; that of a joined endpoint is not needed."""
        network = next((one for one in networks if self._is_on(one, host_end.master)), None)
        if network is None:
            return None
        identity = EndpointID(host_end.alias.removeprefix(naming.endpoint_alias(EndpointID(""))))
        texts = [*self.facts("addresses4", host_end.name), *self.facts("addresses6", host_end.name)]
        addresses = tuple(_with_prefix(ip_address(text), network) for text in texts)
        macs = self.facts("macs", host_end.name)
        mac = parse_mac(macs[0]) if macs else derived_mac(addresses, identity)
        return self.completed(Endpoint(identity, network.id, mac, False, addresses, Phase.JOINED, since=now))

    def completed(self, endpoint: Endpoint) -> Endpoint:
        """With what only the kernel shows."""
        host_end = naming.host_end(endpoint.id)
        allowed = [*self.facts("allowed4", host_end), *self.facts("allowed6", host_end)]
        ports = tuple(self._ports({one.ip for one in endpoint.addresses}))
        master = self.links[host_end].master if host_end in self.links else None
        annex = naming.annex_of(endpoint.network_id, master or "")
        return replace(endpoint, allowed=tuple(map(ip_network, allowed)), ports=ports, annex=annex)

    def _ports(self, addresses: set[IPAddress]) -> Iterator[Publication]:
        """What leads to the addresses. A port of every address of the host stands once for each family."""
        seen: set[PortRequest] = set()
        for one in self.elements:
            if not one.value or ip_address(one.value[0]) not in addresses:
                continue
            *host, protocol, port = one.parts
            host_address = ip_address(host[0]) if host else None
            request = PortRequest(Protocol(protocol), int(one.value[1]), host_address, int(port), int(port))
            if request not in seen:
                seen.add(request)
                yield Publication(request, int(port))


def _with_prefix(address: IPAddress, network: Network) -> IPInterface:
    pool = next((pool for pool in network.pools(address.version) if address in pool), None)
    return ip_interface(f"{address}/{pool.prefixlen if pool else address.max_prefixlen}")


def _names(listing: Listing, kernel: _Kernel, driver: str) -> Collection[str]:
    """
    The drivers in the listing that are us. A managed plugin is called as an image is, with a tag and perhaps a path, or
    as the operator likes; then it is the driver of networks whose bridges are ours.
    """
    networks = listing.networks.values()
    named = {name for one in networks for name in (one.driver, one.ipam_driver) if _is_called(name, driver)}
    return named | {one.driver for one in networks if one.id in kernel.bridges}


def _is_called(name: str, driver: str) -> bool:
    return name.rpartition("/")[2].partition(":")[0] == driver


def _listed_networks(
    listing: Listing, kernel: _Kernel, names: Collection[str], now: float, found: Recovered
) -> Iterator[Network]:
    for listed in listing.networks.values():
        if listed.driver not in names:
            continue
        try:
            yield _network(listed, kernel, now)
        except MdnpError as error:
            found.remarks.append(f"network {short(listed.id)} could not be recovered: {error}")


def _network(listed: ListedNetwork, kernel: _Kernel, now: float) -> Network:
    options = parse_network_options(listed.options)
    bridge = kernel.bridges.get(listed.id)
    mtu = bridge.mtu if bridge else options.mtu or _ETHERNET_MTU
    gateways = needs_gateway(options, listed.internal)
    addresses = kernel.addresses.get(bridge.name, []) if bridge else []
    subnets = tuple(Subnet(one.subnet, _gateway(one, addresses) if gateways else None) for one in _subnets(listed))
    identity = NetworkID(listed.id)
    annexes = kernel.annexes(identity)
    return Network(identity, subnets, listed.internal, options, mtu, now, listed=True, annexes=annexes)


def _subnets(network: ListedNetwork) -> list[ListedPool]:
    """Without null IPAM's 0.0.0.0/0, which stands for no addresses."""
    return [one for one in network.pools if one.subnet.prefixlen]


def _gateway(pool: ListedPool, addresses: Iterable[IPInterface]) -> IPInterface:
    """Docker lists the gateway only where a user named it or Docker chose it; ours is the first usable address."""
    seen = next((one for one in addresses if one.ip in pool.subnet), None)
    address = pool.gateway or (seen.ip if seen else Pool(pool.subnet).gateway)
    return ip_interface(f"{address}/{pool.subnet.prefixlen}")


def _listed_endpoints(
    listing: Listing, kernel: _Kernel, networks: Iterable[Network], now: float, found: Recovered
) -> Iterator[Endpoint]:
    ours = {one.id for one in networks}
    for listed in listing.endpoints.values():
        if listed.network not in ours:
            continue
        try:
            yield kernel.completed(_endpoint(listed, now))
        except MdnpError as error:
            found.remarks.append(f"endpoint {short(listed.id)} could not be recovered: {error}")


def _endpoint(listed: ListedEndpoint, now: float) -> Endpoint:
    identity = EndpointID(listed.id)
    mac = parse_mac(listed.mac) if listed.mac else derived_mac(listed.addresses, identity)
    return Endpoint(identity, NetworkID(listed.network), mac, False, listed.addresses, Phase.JOINED, since=now)


def _pools(listing: Listing, kernel: _Kernel, names: Collection[str], space: str, now: float) -> Iterator[Change]:
    """Of every network whose addresses are ours to give, also of Docker's own drivers."""
    promises: dict[PoolID, PoolPromise] = {}
    held: dict[tuple[PoolID, IPAddress], Kind] = {}
    for network in listing.networks.values():
        for listed in _subnets(network) if network.ipam_driver in names else ():
            pool = Pool(listed.subnet, listed.sub_pool)
            identity = pool_id(space, pool)
            known = promises.get(identity)
            promises[identity] = PoolPromise(space, pool, now, known.holders + 1 if known else 1)
            for address, kind in _held_in(listed, network, listing, kernel):
                held.setdefault((identity, address), kind)
    yield from map(Put, promises.values())
    for (identity, address), kind in held.items():
        yield Hold(identity, Allocation(address, Purpose(kind), now))


def _possible_pools(
    networks: Iterable[Network], endpoints: Iterable[Endpoint], space: str, now: float
) -> Iterator[Change]:
    """The kernel does not show whose the addresses are. If they are not ours, the pools go when their networks do."""
    for subnet in (subnet for network in networks for subnet in network.subnets):
        promise = PoolPromise(space, Pool(subnet.pool), now)
        yield Put(promise)
        held = [one.ip for endpoint in endpoints for one in endpoint.addresses if _is_in(one, subnet.pool)]
        for address in dict.fromkeys(held):
            yield Hold(promise.id, Allocation(address, Purpose(Kind.ENDPOINT), now))
        if subnet.gateway and subnet.gateway.ip not in held:
            yield Hold(promise.id, Allocation(subnet.gateway.ip, Purpose(Kind.GATEWAY), now))


def _held_in(
    pool: ListedPool, network: ListedNetwork, listing: Listing, kernel: _Kernel
) -> Iterator[tuple[IPAddress, Kind]]:
    bridge = kernel.bridges.get(network.id)
    addresses = kernel.addresses.get(bridge.name, []) if bridge else []
    for endpoint in listing.endpoints.values():
        if endpoint.network == network.id:
            yield from ((one.ip, Kind.ENDPOINT) for one in endpoint.addresses if _is_in(one, pool.subnet))
    yield from ((address, Kind.AUXILIARY) for address in pool.auxiliary)
    # Last, for it is a guess where Docker lists none: an internal network has none, and gives its address away.
    yield _gateway(pool, addresses).ip, Kind.GATEWAY


def _is_in(address: IPInterface, subnet: IPNetwork) -> bool:
    return address.ip in subnet
