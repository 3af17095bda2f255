"""
Our two nft tables: constant chains and rules, which look things up in sets and maps; and the elements of those, planned
for the host, a network and an endpoint.

A network or an endpoint adds and removes elements, so that a change costs the same however many there are. Elements of
an endpoint stand in sets without intervals: the kernel copies a set with concatenated intervals at every change.
"""

from collections.abc import Iterable, Iterator

from mdnp.dataplane import bridge, naming, publishing
from mdnp.dataplane.objects import (
    Accept,
    Element,
    Family,
    HostPort,
    Jump,
    Key,
    Object,
    Sysctl,
    Table,
    TableFamily,
    Way,
    forward_chain,
)
from mdnp.model.endpoint import Endpoint
from mdnp.model.network import IPAddress, IPNetwork, Network
from mdnp.model.options import Routing

FAMILIES: tuple[Family, ...] = (4, 6)

FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}

# What is asked of every packet comes first, and of two tests of a rule the cheaper one: most of what a tunnel costs
# beside a bridge without rules is looking things up by the names of links.
#
# Beside what others do in FORWARD: a drop here is final, and what we let pass others may still drop.
# - own: a network's bridge and itself. Without ICC it is not there.
# - closed: bridges of networks without a way out through us; sealed: those whose containers do not reach the host
#   either.
# - uplinks: bridges of the host by which it reaches other hosts. Any other bridge that is not ours is a network of
#   containers or virtual machines, Docker's above all, and closed to ours.
# - A reply has `established`; what came through a published port has `dnat`, whoever published it.
# - mdh-*: the host's own ends in segments. They are among the bridges, and the host routes nothing that comes by them.
#   Who asks for a published port on the host itself goes out by one with the end's address: the answer to another one
#   would come back by the bridge, where br_netfilter sees a second connection and gives it a port of its own.
# - hosts4, hosts6: between a bridge and itself, the own addresses of hosts in a segment without ICC; with br_netfilter
#   their frames come this way.
# - annexes: bridges that only hand frames on to their network's own, where connections are tracked and translated (in
#   the veth between them a packet loses what the first bridge knew of it). They are among the bridges, sealed and
#   closed, as the host has no place in them.
# - tunnels are UDP ports, vnis the VNIs of ours; vteps4 and vteps6 who may send to which. @th,96,24 is a VXLAN header's
#   VNI (RFC 7348, 5). Others' VNIs on the same port are not looked at.
_INET = """
    set bridges { type ifname; }
    set own { type ifname . ifname; }
    set closed { type ifname; }
    set sealed { type ifname; }
    set annexes { type ifname; }
    set uplinks { type ifname; }
    set nat4 { type ifname; }
    set nat6 { type ifname; }
    set routed4 { type ifname; }
    set routed6 { type ifname; }
    set hairpin4 { type ifname . ipv4_addr; flags interval; }
    set hairpin6 { type ifname . ipv6_addr; flags interval; }
    set open4 { type ipv4_addr . inet_proto . inet_service; }
    set open6 { type ipv6_addr . inet_proto . inet_service; }
    map ports4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
    map ports6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
    map bound4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
    map bound6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
    set hosts4 { type ifname . ifname . ipv4_addr; }
    set hosts6 { type ifname . ifname . ipv6_addr; }
    set tunnels { type inet_service; }
    set vnis { typeof @th,96,24; }
    set vteps4 { typeof @th,96,24 . ip saddr; }
    set vteps6 { typeof @th,96,24 . ip6 saddr; }

    chain loopback {
        type filter hook prerouting priority raw; policy accept;
        ip daddr 127.0.0.0/8 iifname @bridges drop
        ip saddr 127.0.0.0/8 iifname @bridges drop
        iifname @annexes notrack
    }
    chain input {
        type filter hook input priority filter; policy accept;
        udp dport @tunnels goto tunneled
        goto others
    }
    chain tunneled {
        @th,96,24 . ip saddr @vteps4 iifname != @bridges accept
        @th,96,24 . ip6 saddr @vteps6 iifname != @bridges accept
        iifname @bridges @th,96,24 @vnis drop
        @th,96,24 @vnis drop
        goto others
    }
    chain others {
        iifname != @sealed accept
        ct state established,related accept
        drop
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname . oifname @own accept
        iifname != @bridges oifname != @bridges accept
        iifname @closed drop
        oifname @closed drop
        ct state established,related accept
        ct status dnat accept
        iifname "mdh-*" drop
        iifname . oifname . ip saddr @hosts4 accept
        iifname . oifname . ip daddr @hosts4 accept
        iifname . oifname . ip6 saddr @hosts6 accept
        iifname . oifname . ip6 daddr @hosts6 accept
        iifname @bridges oifname @bridges drop
        oifname @bridges goto inbound
        meta oifkind "bridge" oifname != @uplinks drop
    }
    chain inbound {
        ip daddr . meta l4proto . th dport @open4 accept
        ip6 daddr . meta l4proto . th dport @open6 accept
        oifname @routed4 icmp type echo-request accept
        oifname @routed6 icmpv6 type echo-request accept
        drop
    }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr 127.0.0.0/8 accept
        fib daddr type local goto publish
    }
    chain output {
        type nat hook output priority -100; policy accept;
        ip6 daddr ::1 accept
        fib daddr type local goto publish
    }
    chain publish {
        dnat ip to ip daddr . meta l4proto . th dport map @bound4
        dnat ip to meta l4proto . th dport map @ports4
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound6
        dnat ip6 to meta l4proto . th dport map @ports6
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ct status dnat oifname . ip saddr @hairpin4 masquerade
        ct status dnat oifname . ip6 saddr @hairpin6 masquerade
        ct status dnat oifname @bridges ip saddr 127.0.0.0/8 masquerade
        ct status dnat oifname "mdh-*" masquerade
        oifname @bridges accept
        iifname @nat4 meta nfproto ipv4 masquerade
        iifname @nat6 meta nfproto ipv6 masquerade
    }
"""

# Frames as they come from containers, before the bridge learns from them and br_netfilter (priority 0) sees them.
# - A frame of a guarded endpoint with its own MAC goes to `own`, any other frame of it to its end. The rule that drops
#   looks the endpoint up in `guarded`, whose counters so count what was dropped.
# - What has no address yet passes: ARP probes, DAD, MLD, router solicitations, a DHCP client. So does link-local.
# - A tag could hide what the frame is: a receiver takes VLAN 0 for no VLAN.
# - free: endpoints that were given no address (null IPAM), and choose their own.
# - noicc: endpoints of networks without ICC. They may send to the gateway's MAC, and ask for it.
# - A frame that a port with hairpin on would send back to where it came from, to all: not wanted.
# - targets6 have addresses as numbers, as this nft reads them from a place in the packet (it has no word for the target
#   of a neighbour advertisement, which is at bit 64 of ICMPv6; RFC 4861, 4.4).
# - returns: a joint's upper end (mdu-*) and itself. It has hairpin on, and what is for all came from all below it.
# - mdw-*: the lower ends of joints, by which what is for all gets to the gateway, also without ICC; in the network's
#   own bridge the upper end is among noicc then, with what all below it may.
# - hosts: the MACs of hosts' own addresses in segments without ICC, which its endpoints may reach too.
# - Into a tunnel (mdx-*) goes no question for who is here (here4, here6), and of what comes from the gateway (anycast),
#   which every host has for itself, nothing that is for all. Who is elsewhere the kernel answers for (neigh_suppress);
#   what it does not know passes, as an address that moves between containers (mdnp.allow). Nobody's router is another
#   host's.
_BRIDGE = """
    set guarded { type ifname; counter; }
    set macs { type ifname . ether_addr; }
    set free { type ifname; }
    set addresses4 { type ifname . ipv4_addr; }
    set addresses6 { type ifname . ipv6_addr; }
    set targets6 { typeof iifname . @th,64,128; }
    set allowed4 { type ifname . ipv4_addr; flags interval; }
    set allowed6 { type ifname . ipv6_addr; flags interval; }
    set allowed_targets6 { typeof iifname . @th,64,128; flags interval; }
    set noicc { type ifname; }
    set gateways { type ifname . ether_addr; }
    set returns { type ifname . ifname; }
    set hosts { type ether_addr; }
    set here4 { type ifname . ipv4_addr; }
    set here6 { typeof oifname . @th,64,128; }
    set anycast { type ifname . ether_addr; }

    chain prerouting {
        type filter hook prerouting priority dstnat; policy accept;
        iifname "mdx-*" accept
        iifname @noicc ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 jump from_noicc
        iifname . ether saddr @macs goto own
        goto denied
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 accept
        iifname . oifname @returns drop
        oifname "mdi-*" accept
        oifname "mdw-*" accept
        iifname @noicc drop
        oifname . ether saddr @macs drop
    }
    chain postrouting {
        type filter hook postrouting priority srcnat; policy accept;
        oifname "mdx-*" goto crossing
    }
    chain crossing {
        ether type ip ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 accept
        ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 oifname . ether saddr @anycast drop
        oifname . arp daddr ip @here4 drop
        icmpv6 type { nd-router-solicit, nd-router-advert, nd-redirect } drop
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } oifname . @th,64,128 @here6 drop
    }
    chain from_noicc {
        iifname . ether daddr @gateways return
        ether daddr @hosts return
        drop
    }
    chain denied {
        iifname @guarded drop
    }
    chain own {
        ether type ip goto from_ipv4
        ether type ip6 goto from_ipv6
        ether type arp goto from_arp
        ether type { 0x8100, 0x88a8, 0x9100 } goto denied
    }
    chain from_ipv4 {
        udp sport 67 goto denied
        udp dport 68 goto denied
        iifname . ip saddr @addresses4 accept
        ip saddr 169.254.0.0/16 accept
        ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
        ip saddr 0.0.0.0 meta l4proto igmp accept
        iifname . ip saddr @allowed4 accept
        iifname @free accept
        goto denied
    }
    chain from_arp {
        iifname . arp saddr ether != @macs goto denied
        iifname . arp saddr ip @addresses4 accept
        arp saddr ip { 0.0.0.0, 169.254.0.0/16 } accept
        iifname . arp saddr ip @allowed4 accept
        iifname @free accept
        goto denied
    }
    chain from_ipv6 {
        icmpv6 type { nd-router-advert, nd-redirect } goto denied
        udp sport 547 goto denied
        udp dport 546 goto denied
        icmpv6 type nd-neighbor-advert jump advertised
        iifname . ip6 saddr @addresses6 accept
        ip6 saddr fe80::/10 accept
        ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit } accept
        ip6 saddr :: icmpv6 type { mld-listener-report, mld2-listener-report } accept
        iifname . ip6 saddr @allowed6 accept
        iifname @free accept
        goto denied
    }
    chain advertised {
        iifname . @th,64,128 @targets6 return
        @th,64,10 0x3fa return
        iifname . @th,64,128 @allowed_targets6 return
        iifname @free return
        goto denied
    }
"""

TABLES: tuple[Table, ...] = (Table("inet", _INET), Table("bridge", _BRIDGE))


def plan_host(networks: Iterable[Network], uplinks: Iterable[str], unreached: Iterable[Key]) -> tuple[Object, ...]:
    """
    What stands while there is any network: our tables, what Docker's chain must let pass, and forwarding.

    `unreached` are chains to which nobody leads traffic.
    """
    every = tuple(networks)
    if not every:
        return ()
    return (
        *TABLES,
        *(_inet("uplinks", _name(name)) for name in sorted(uplinks)),
        *_accepts(f"{naming.BRIDGE_PREFIX}+"),
        *(Jump(family) for family in FAMILIES if forward_chain(family) in set(unreached)),
        *(Sysctl(FORWARDING[family], "1") for family in FAMILIES if any(_has_way(one, family) for one in every)),
    )


def plan_network(network: Network) -> tuple[Object, ...]:
    return (*_network_elements(network), *_network_settings(network))


def plan_endpoint(network: Network, endpoint: Endpoint) -> tuple[Object, ...]:
    host_end = _name(naming.host_end(endpoint.id))
    elements: list[Object] = []
    if network.options.guard:
        elements += _guard(host_end, endpoint)
    if not network.options.icc:
        elements += [_bridge("noicc", host_end), _bridge("gateways", host_end, bridge.mac(network))]
    return (*elements, *_ways_in(network, endpoint))


def _accepts(link: str) -> Iterator[Accept]:
    return (Accept(family, way, link) for family in FAMILIES for way in Way)


def _has_way(network: Network, family: Family) -> bool:
    return network.is_way_out and bool(network.pools(family))


def _network_elements(network: Network) -> Iterator[Object]:
    name = _name(naming.bridge(network))
    yield _inet("bridges", name)
    if network.options.icc:
        yield _inet("own", name, name)
    if not network.is_way_out:
        yield _inet("closed", name)
    if not network.has_gateway:
        yield _inet("sealed", name)
    for family in FAMILIES:
        if _has_way(network, family):
            yield from _way_elements(network, family, name)


def _way_elements(network: Network, family: Family, name: str) -> Iterator[Object]:
    routing = network.options.routing(family)
    if routing is Routing.NAT and network.options.masquerade:
        yield _inet(f"nat{family}", name)
    if routing is Routing.ROUTED:
        yield _inet(f"routed{family}", name)
    for pool in network.pools(family):
        yield _inet(f"hairpin{family}", name, _prefix(pool))


def _network_settings(network: Network) -> Iterator[Object]:
    name = naming.bridge(network)
    if not name.startswith(naming.BRIDGE_PREFIX):
        yield from _accepts(name)
    # A container must not become the host's router, guard or no guard.
    yield Sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
    # Nobody else has the bridge's MAC; until duplicate address detection has ended, for some 1.6 s from the first port
    # on, the host could not ask for the containers' MACs.
    yield Sysctl(f"net/ipv6/conf/{name}/accept_dad", "0")
    if _has_way(network, 4):
        # The host reaches published ports by 127.0.0.1; chain `loopback` keeps containers from the host's own.
        yield Sysctl(f"net/ipv4/conf/{name}/route_localnet", "1")


def _guard(host_end: str, endpoint: Endpoint) -> Iterator[Object]:
    yield _bridge("guarded", host_end)
    yield _bridge("macs", host_end, endpoint.mac)
    if not endpoint.addresses:
        yield _bridge("free", host_end)
    for address in endpoint.addresses:
        yield _bridge(f"addresses{address.version}", host_end, str(address.ip))
        if address.version == 6:
            yield _bridge("targets6", host_end, _number(address.ip))
    for network in endpoint.allowed:
        yield _bridge(f"allowed{network.version}", host_end, _prefix(network))
        if network.version == 6:
            yield _bridge("allowed_targets6", host_end, _range(network))


def _ways_in(network: Network, endpoint: Endpoint) -> Iterator[Object]:
    for way in publishing.ways_in(network, endpoint):
        family = way.target.address.version
        match way:
            case publishing.Opened(protocol, target):
                yield _inet(f"open{family}", str(target.address), protocol.value, str(target.port))
            case publishing.Translated(socket, target, proxied):
                yield HostPort(socket, target if proxied else None)
                yield _translation(way)
            case publishing.Carried(socket, target):
                yield HostPort(socket, target)


def _translation(way: publishing.Translated) -> Element:
    socket, target = way.socket, way.target
    family = socket.address.version
    key = (socket.protocol.value, str(socket.port))
    value = (str(target.address), str(target.port))
    if socket.address.is_unspecified:
        return Element("inet", f"ports{family}", key, value)
    return Element("inet", f"bound{family}", (str(socket.address), *key), value)


def _inet(name: str, *parts: str) -> Element:
    return _element("inet", name, *parts)


def _bridge(name: str, *parts: str) -> Element:
    return _element("bridge", name, *parts)


def _element(family: TableFamily, name: str, *parts: str) -> Element:
    return Element(family, name, parts)


def _name(link: str) -> str:
    return f'"{link}"'


def _number(address: IPAddress) -> str:
    return f"{int(address):#x}"


def _range(network: IPNetwork) -> str:
    """A network of one address is printed as the address itself."""
    first, last = _number(network.network_address), _number(network.broadcast_address)
    return first if first == last else f"{first}-{last}"


def _prefix(network: IPNetwork) -> str:
    return str(network.network_address) if network.num_addresses == 1 else str(network)
