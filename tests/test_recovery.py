"""What was promised is made out anew from what Docker and the kernel show, so that nothing that works is taken away."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mdnp.dataplane.objects import HostPort
from mdnp.engine import ListedEndpoint, ListedNetwork, ListedPool, Listing
from mdnp.kernel import Actual
from mdnp.kernel.fake import FakeKernel
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.network import Network
from mdnp.model.options import Mode
from mdnp.recovery import Recovered, recover
from mdnp.store import Hold, Put
from mdnp.store.sqlite import SqliteStore
from tests.dataplane.strategies import ADDRESSES, SUBNETS
from tests.world import (
    BRIDGE,
    DB,
    NET,
    OTHER_NET,
    WEB,
    WEB_LINK,
    TestedStore,
    World,
    binding,
    build_world,
    create_endpoint,
    create_network,
    join,
    open_world,
    publish,
    quick_folder,
)

NOW = 5000.0
SPACE = "mdnp-local"
EMPTY = Actual({})
NET_OPTIONS = "com.docker.network.bridge."


def from_(listing: Listing | None, actual: Actual = EMPTY) -> Recovered:
    return recover(listing, actual, driver="mdnp", space=SPACE, now=NOW)


def promised(found: Recovered) -> list[Network | Endpoint]:
    return [one.record for one in found.changes if isinstance(one, Put) and isinstance(one.record, Network | Endpoint)]


def pools(found: Recovered) -> dict[str, dict[str, str]]:
    """The addresses that are held and what for, by pool."""
    held: dict[str, dict[str, str]] = {}
    for one in found.changes:
        if isinstance(one, Put) and not isinstance(one.record, Network | Endpoint):
            held[one.record.id] = {}
        elif isinstance(one, Hold):
            held[one.pool][str(one.allocation.address)] = one.allocation.purpose.kind.value
    return held


# As Docker lists what it was asked for.


@dataclass(frozen=True)
class Asked:
    """A network and a container on it, as a user asks Docker for them."""

    versions: tuple[int, ...] = (4,)
    internal: bool = False
    options: Mapping[str, str] | None = None
    allowed: str = ""
    ports: Sequence[Mapping[str, object]] = ()
    ipam_driver: str = "default"

    async def make(self, world: World) -> None:
        subnets = [SUBNETS[one] for one in self.versions]
        body = create_network(NET, *subnets, internal=self.internal, options=self.options)
        if not subnets:
            body |= {"IPv4Data": None, "IPv6Data": None}
        await world.ok("CreateNetwork", body)
        addresses = [ADDRESSES[one] if one in self.versions else "" for one in (4, 6)]
        options = {"mdnp.allow": self.allowed} if self.allowed else {}
        await world.ok("CreateEndpoint", create_endpoint(WEB, *addresses, options=options))
        await world.ok("Join", join())
        if self.versions:
            await world.ok("ProgramExternalConnectivity", publish(*self.ports))

    def listing(self, world: World) -> Listing:
        network = next(iter(world.store.promises.networks.values()))
        endpoint = next(iter(world.store.promises.endpoints.values()))
        listed = tuple(ListedPool(one.pool, gateway=one.gateway.ip if one.gateway else None) for one in network.subnets)
        return Listing(
            frozenset(one.pool for one in network.subnets),
            {one.ip: "web" for one in endpoint.addresses},
            {WEB: ListedEndpoint(WEB, NET, "web", endpoint.mac, endpoint.addresses)},
            {NET: ListedNetwork(NET, "mdnp", self.ipam_driver, self.internal, self.options or {}, listed)},
        )


kinds = st.builds(
    Asked,
    versions=st.sampled_from([(4,), (6,), (4, 6)]),
    internal=st.booleans(),
    options=st.fixed_dictionaries(
        {},
        optional={
            f"{NET_OPTIONS}enable_icc": st.sampled_from(["true", "false"]),
            f"{NET_OPTIONS}enable_ip_masquerade": st.sampled_from(["true", "false"]),
            f"{NET_OPTIONS}name": st.just("lab0"),
            "mdnp.guard": st.sampled_from(["on", "off"]),
            "com.docker.network.driver.mtu": st.just("1400"),
        },
    ),
    allowed=st.sampled_from(["", "10.9.0.0/24 fd09::9"]),
    ports=st.lists(
        st.sampled_from([binding(80, 8080), binding(53, 53, proto=17), binding(81, 8081, ip="127.0.0.1"), binding(82)]),
        max_size=3,
        unique_by=lambda one: one["Port"],
    ),
)


async def lose_the_store(world: World, asked: Asked, *, docker: bool) -> list[str]:
    """
    A daemon makes what is asked for and dies, its state is lost; the next one begins with what is recovered. The steps
    that its first look at the kernel takes.
    """
    await asked.make(world)
    found = from_(asked.listing(world) if docker else None, await world.kernel.observe())
    assert found.remarks == []
    with quick_folder() as folder:
        store = TestedStore(await SqliteStore.open(folder))
        try:
            await store.commit(*found.changes)
            for key in [key for key, one in world.kernel.objects.items() if isinstance(one, HostPort)]:
                del world.kernel.objects[key]
            started = build_world(store, world.kernel)
            world.kernel.taken.clear()
            await started.reconciler.converge()
            return started.taken
        finally:
            await store.close()


def run(asked: Asked, *, docker: bool) -> list[str]:
    async def tell() -> list[str]:
        with quick_folder() as folder:
            async with open_world(folder) as world:
                return await lose_the_store(world, asked, docker=docker)

    return asyncio.run(tell())


@settings(max_examples=40)
@given(kinds)
def test_with_docker_s_word_nothing_that_stands_is_changed(asked: Asked) -> None:
    """Ports of ours are held anew, which every start does; what only the daemon carried is not known any more."""
    steps = run(asked, docker=True)

    assert [line for line in steps if not line.startswith(("hold port", "let go"))] == []


@settings(max_examples=40)
@given(kinds)
def test_by_the_kernel_alone_no_link_and_no_way_is_taken_away(asked: Asked) -> None:
    assume((asked.options or {}).get("mdnp.guard") != "off" or not asked.ports)  # only the guard shows addresses
    steps = run(asked, docker=False)

    assert [line for line in steps if line.startswith(("ip link", "iptables", "ip6tables", "nft delete"))] == []


# Docker's word alone.


NETWORK = ListedNetwork(
    NET, "mdnp", "default", pools=(ListedPool(ip_network("10.1.0.0/24"), gateway=ip_address("10.1.0.1")),)
)
WEB_MAC = "02:42:0a:01:00:02"


def a_listing(*networks: ListedNetwork, endpoints: Sequence[ListedEndpoint] = ()) -> Listing:
    subnets = frozenset(pool.subnet for network in networks for pool in network.pools)
    return Listing(subnets, {}, {one.id: one for one in endpoints}, {one.id: one for one in networks})


def test_nothing_listed_and_nothing_there_is_nothing() -> None:
    assert from_(a_listing()) == from_(None) == Recovered()


def test_networks_of_other_drivers_and_their_endpoints_are_not_ours() -> None:
    bridge = replace(NETWORK, driver="bridge")

    assert promised(from_(a_listing(bridge, endpoints=[ListedEndpoint(WEB, NET)]))) == []


def test_what_is_recovered_is_as_old_as_its_recovery_and_docker_s() -> None:
    """Young: what Docker does not have any more is not collected before its time."""
    [network, endpoint] = promised(from_(a_listing(NETWORK, endpoints=[ListedEndpoint(WEB, NET, mac=WEB_MAC)])))

    assert isinstance(network, Network)
    assert isinstance(endpoint, Endpoint)
    assert (network.since, network.listed, endpoint.since) == (NOW, True, NOW)
    assert (endpoint.mac, endpoint.phase) == (WEB_MAC, Phase.JOINED)


def test_a_network_whose_options_cannot_be_read_is_told_and_the_others_are_recovered() -> None:
    other = ListedNetwork(OTHER_NET, "mdnp", options={"mdnp.future": "yes"})

    found = from_(a_listing(other, NETWORK, endpoints=[ListedEndpoint(DB, OTHER_NET)]))

    assert [one.id for one in promised(found)] == [NET]
    assert [line.split(" option")[0] for line in found.remarks] == [
        f"network {OTHER_NET[:12]} could not be recovered: unknown"
    ]


def test_an_overlay_is_recovered_without_its_tunnel_and_that_is_told() -> None:
    """Which VNI and which blocks it had stands in the lost record alone."""
    options = {"mdnp.mode": "overlay", "mdnp.segment": "blue", "mdnp.dns": "off"}
    network = ListedNetwork(NET, "mdnp", "mdnp", False, options, (ListedPool(ip_network("10.50.0.0/16")),))

    found = from_(Listing(frozenset(), {}, {}, {NET: network}))

    [overlay] = promised(found)
    assert isinstance(overlay, Network)
    assert (overlay.options.mode, overlay.options.segment, overlay.vni) == (Mode.OVERLAY, "blue", 0)
    assert not overlay.options.has_names
    assert pools(found) == {f"{SPACE}/10.50.0.0/16": {"10.50.0.1": "gateway"}}
    assert [line.split(":")[0] for line in found.remarks] == [
        f"network {NET[:12]} is an overlay, and was recovered without its tunnel"
    ]


def test_an_endpoint_that_cannot_be_read_is_told_and_the_others_are_recovered() -> None:
    broken = ListedEndpoint(DB, NET, mac="nonsense")

    found = from_(a_listing(NETWORK, endpoints=[broken, ListedEndpoint(WEB, NET, mac=WEB_MAC)]))

    assert [one.id for one in promised(found)] == [NET, WEB]
    assert [line.split(":")[0] for line in found.remarks] == [f"endpoint {DB[:12]} could not be recovered"]


@pytest.mark.parametrize("internal", [True, False])
def test_a_network_without_addresses_is_recovered_as_one(internal: bool) -> None:
    """Docker lists null IPAM's pool as 0.0.0.0/0, as seen with 20.10 and 28.5."""
    bare = ListedNetwork(NET, "mdnp", "null", internal, pools=(ListedPool(ip_network("0.0.0.0/0")),))

    found = from_(a_listing(bare))

    assert found.remarks == []
    assert [one.subnets for one in promised(found) if isinstance(one, Network)] == [()]


def test_an_internal_network_has_no_gateway() -> None:
    [network] = promised(from_(a_listing(replace(NETWORK, internal=True))))

    assert isinstance(network, Network)
    assert [one.gateway for one in network.subnets] == [None]


def test_a_gateway_that_docker_does_not_list_is_the_one_on_the_bridge_or_the_first_address() -> None:
    unlisted = replace(NETWORK, pools=(ListedPool(ip_network("10.1.0.0/24")),))

    [network] = promised(from_(a_listing(unlisted)))

    assert isinstance(network, Network)
    assert [str(one.gateway) for one in network.subnets] == ["10.1.0.1/24"]


# Pools.


def test_pools_and_what_is_held_in_them_are_recovered_where_the_addresses_are_ours() -> None:
    own = ListedPool(
        ip_network("10.1.0.0/24"),
        ip_network("10.1.0.128/25"),
        auxiliary=(ip_address("10.1.0.9"),),
    )
    network = replace(NETWORK, ipam_driver="mdnp", pools=(own,))
    lent = ListedNetwork(OTHER_NET, "bridge", "mdnp", pools=(ListedPool(ip_network("10.2.0.0/24")),))
    endpoints = [
        ListedEndpoint(WEB, NET, mac=WEB_MAC, addresses=(ip_interface("10.1.0.130/24"),)),
        ListedEndpoint(DB, OTHER_NET, mac=WEB_MAC, addresses=(ip_interface("10.2.0.2/24"),)),
    ]

    found = from_(a_listing(network, lent, endpoints=endpoints))

    assert pools(found) == {
        "mdnp-local/10.1.0.0/24/10.1.0.128/25": {
            "10.1.0.1": "gateway",
            "10.1.0.9": "auxiliary",
            "10.1.0.130": "endpoint",
        },
        "mdnp-local/10.2.0.0/24": {"10.2.0.1": "gateway", "10.2.0.2": "endpoint"},
    }


def test_an_endpoint_that_has_the_first_address_of_an_internal_network_keeps_it() -> None:
    network = replace(NETWORK, ipam_driver="mdnp", internal=True, pools=(ListedPool(ip_network("10.1.0.0/24")),))
    web = ListedEndpoint(WEB, NET, mac=WEB_MAC, addresses=(ip_interface("10.1.0.1/24"),))

    assert pools(from_(a_listing(network, endpoints=[web]))) == {"mdnp-local/10.1.0.0/24": {"10.1.0.1": "endpoint"}}


@pytest.mark.parametrize("name", ["mdnp:latest", "127.0.0.1:5000/lab/mdnp:2"])
def test_a_managed_plugin_is_known_by_its_name_without_path_and_tag(name: str) -> None:
    listed = replace(NETWORK, driver=name, ipam_driver=name, pools=(ListedPool(ip_network("10.1.0.0/24")),))
    found = from_(a_listing(listed))

    assert [one.id for one in promised(found)] == [NET]
    assert pools(found) == {"mdnp-local/10.1.0.0/24": {"10.1.0.1": "gateway"}}


@pytest.mark.parametrize("name", ["mdnp-two:latest", "mdnp/other:latest", "bridge"])
def test_a_driver_that_is_called_otherwise_is_not_ours(name: str) -> None:
    assert from_(a_listing(replace(NETWORK, driver=name, ipam_driver=name))) == Recovered()


async def test_a_managed_plugin_of_any_name_is_known_by_its_bridges(world: World) -> None:
    asked = Asked()
    await asked.make(world)
    listing = asked.listing(world)
    renamed = {one: replace(network, driver="lab:1", ipam_driver="lab:1") for one, network in listing.networks.items()}

    found = from_(replace(listing, networks=renamed), await world.kernel.observe())

    assert [one.id for one in promised(found)] == [NET, WEB]
    assert list(pools(found).values()) == [{"10.1.0.1": "gateway", "10.1.0.2": "endpoint"}]


def test_a_pool_of_docker_s_own_ipam_is_not_ours() -> None:
    assert pools(from_(a_listing(NETWORK))) == {}


async def test_without_docker_s_word_the_kernel_s_marks_must_do(world: World) -> None:
    asked = Asked(versions=(4, 6), ports=[binding(80, 8080), binding(82)], allowed="10.9.0.0/24 fd09::9")
    await asked.make(world)

    found = from_(None, await world.kernel.observe())

    [network, endpoint] = promised(found)
    [before] = world.store.promises.networks.values()
    [container] = world.store.promises.endpoints.values()
    assert network == before
    assert isinstance(endpoint, Endpoint)
    assert (endpoint.id, endpoint.mac, set(endpoint.addresses)) == (WEB, container.mac, set(container.addresses))
    assert set(endpoint.allowed) == set(container.allowed)
    assert {one.host_port for one in endpoint.ports} == {one.host_port for one in container.ports}


async def test_what_bears_no_mark_of_a_network_is_not_made_one(world: World) -> None:
    """A crash between the making of a link and its alias leaves one without."""
    await Asked().make(world)
    for name in (BRIDGE, WEB_LINK):
        one = world.kernel.links[name]
        world.kernel.objects[one.key] = replace(one, alias="")

    assert from_(None, await world.kernel.observe()) == Recovered()


async def test_a_port_of_a_bridge_that_is_not_there_is_not_recovered(world: World) -> None:
    await Asked().make(world)
    world.kernel.vanish(BRIDGE)

    found = from_(None, await world.kernel.observe())

    assert (promised(found), world.links) == ([], [WEB_LINK])


async def test_a_network_that_the_kernel_lost_is_made_again_by_docker_s_word(world: World) -> None:
    """After a reboot no link is there; containers are started anew."""
    asked = Asked(versions=(4, 6))
    await asked.make(world)
    found = from_(asked.listing(world))

    with quick_folder() as folder:
        store = TestedStore(await SqliteStore.open(folder))
        await store.commit(*found.changes)
        started = build_world(store, FakeKernel())
        outcome = await started.reconciler.converge()
        kept, planned = started.kept, started.planned
        await store.close()

    assert [one.owner for one in outcome.lost] == [WEB]
    assert planned.keys() - kept.keys() == {("link", WEB_LINK)}


@pytest.mark.parametrize("docker", [True, False])
async def test_endpoints_are_recovered_on_the_annexes_that_they_are_on(world: World, docker: bool) -> None:
    small = build_world(world.store, world.kernel, room=1)
    asked = Asked()
    await asked.make(small)
    more = [f"{number:011x}".ljust(64, "e") for number in (3, 4)]
    for number, identity in enumerate(more, start=3):
        await small.ok("CreateEndpoint", create_endpoint(identity, f"10.1.0.{number}/24"))
    listing = asked.listing(small)
    for endpoint in small.store.promises.endpoints.values():
        listed = ListedEndpoint(endpoint.id, NET, "", endpoint.mac, endpoint.addresses)
        listing = replace(listing, endpoints={**listing.endpoints, endpoint.id: listed})

    found = promised(from_(listing if docker else None, await world.kernel.observe()))

    assert {one.id: one.annex for one in found if isinstance(one, Endpoint)} == {WEB: 0, more[0]: 1, more[1]: 2}
    assert [one.annexes for one in found if isinstance(one, Network)] == [2]
