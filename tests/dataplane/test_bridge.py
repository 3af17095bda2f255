"""Plans of bridge networks, as their text."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mdnp.dataplane.bridge import mac, plan_endpoint, plan_network
from mdnp.dataplane.naming import DOOMED_GROUP, GROUP
from mdnp.dataplane.objects import Bridge, Object, Presence, Veth
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.network import Network
from mdnp.model.options import GatewayMode, NetworkOptions
from mdnp.model.port import Publication
from tests.world import NET, WEB, a_network, a_port, an_endpoint

BRIDGE = "mdb-a1a1a1a1a1a"


def shown(objects: Sequence[Object]) -> list[str]:
    return [str(one) for one in objects]


def bridge(address: str, name: str = BRIDGE, mtu: int = 1500) -> str:
    return f"link {name} address {address} mtu {mtu} group {GROUP} alias 'mdnp network {NET}' up type bridge"


def veths(endpoint: Endpoint) -> list[Veth]:
    return [one for one in plan_endpoint(a_network(), endpoint) if isinstance(one, Veth)]


def addrs(network: Network) -> list[str]:
    return [line for line in shown(plan_network(network)) if line.startswith("addr ")]


def test_the_marks_of_ours_say_whose_they_are() -> None:
    assert (GROUP.to_bytes(4, "big"), DOOMED_GROUP.to_bytes(4, "big")) == (b"mdnp", b"mdnx")


def test_an_ipv4_network() -> None:
    plan = plan_network(a_network(NET, "10.1.0.0/24 10.1.0.1/24"))

    assert shown(plan) == [bridge("02:6d:0a:01:00:01"), f"addr 10.1.0.1/24 dev {BRIDGE}"]


def test_a_network_of_both_families_has_both_gateways_and_the_ipv4_one_s_mac() -> None:
    plan = plan_network(a_network(NET, "10.1.0.0/24 10.1.0.1/24", "fd00::/64 fd00::1/64"))

    assert shown(plan) == [
        bridge("02:6d:0a:01:00:01"),
        f"addr 10.1.0.1/24 dev {BRIDGE}",
        f"addr fd00::1/64 dev {BRIDGE}",
    ]


def test_an_ipv6_network() -> None:
    plan = plan_network(a_network(NET, "fd00::/64 fd00::1/64"))

    assert shown(plan) == [bridge("06:be:ce:76:2b:f2"), f"addr fd00::1/64 dev {BRIDGE}"]


def test_a_network_without_addresses_is_a_bridge() -> None:
    network = Network(a_network().id, (), internal=False, options=NetworkOptions(), mtu=1500)

    assert shown(plan_network(network)) == [bridge("0a:a4:ad:85:c1:19")]


def test_a_subnet_whose_ipam_chose_no_gateway_has_none() -> None:
    assert addrs(a_network(NET, "10.1.0.0/24")) == []


@pytest.mark.parametrize("gateway", list(GatewayMode))
def test_an_internal_network_has_no_address_of_the_host_s(gateway: GatewayMode) -> None:
    assert addrs(a_network(internal=True, options=NetworkOptions(gateway=gateway))) == []


@pytest.mark.parametrize(
    ("gateway", "planned"),
    [
        (GatewayMode.SELF, [f"addr 10.1.0.1/24 dev {BRIDGE}"]),
        (GatewayMode.DOCKER, [f"addr 10.1.0.1/24 dev {BRIDGE}"]),
        (GatewayMode.NONE, []),
    ],
)
def test_the_host_has_an_address_unless_nobody_gives_the_way_out(gateway: GatewayMode, planned: list[str]) -> None:
    assert addrs(a_network(options=NetworkOptions(gateway=gateway))) == planned


def test_a_bridge_with_a_name_of_the_user_s_bears_it_everywhere() -> None:
    network = a_network(options=NetworkOptions(bridge_name="lab0"), mtu=9000)

    plan = [*plan_network(network), *plan_endpoint(network, an_endpoint())]

    assert shown(plan) == [
        bridge("02:6d:0a:01:00:01", "lab0", 9000),
        "addr 10.1.0.1/24 dev lab0",
        (
            f"link mdv-c3c3c3c3c3c mtu 9000 master lab0 group {GROUP} alias 'mdnp endpoint {WEB}' up"
            " type veth peer mdp-c3c3c3c3c3c address 02:6d:0a:01:00:02 mtu 9000"
        ),
    ]


@pytest.mark.parametrize(
    ("phase", "presence"),
    [(Phase.CREATED, Presence.MUST), (Phase.JOINED, Presence.HELD), (Phase.LEFT, Presence.MAY)],
)
def test_the_phase_says_what_a_missing_link_means(phase: Phase, presence: Presence) -> None:
    plan = plan_endpoint(a_network(), an_endpoint(phase=phase))

    assert plan == (
        Veth(
            host_end="mdv-c3c3c3c3c3c",
            sandbox_end="mdp-c3c3c3c3c3c",
            mac=an_endpoint().mac,
            mtu=1500,
            bridge=BRIDGE,
            alias=f"mdnp endpoint {WEB}",
            presence=presence,
        ),
    )


def test_a_bridge_has_one_mac_whatever_stands_on_it() -> None:
    """It is its gateway's, and the one to which endpoints without ICC may send."""
    network = a_network(NET, "10.1.0.0/24 10.1.0.1/24", "fd00::/64 fd00::1/64")
    shut = a_network(internal=True)

    made = [one for one in (*plan_network(network), *plan_network(shut)) if isinstance(one, Bridge)]

    assert [one.mac for one in made] == [mac(network), mac(shut)] == ["02:6d:0a:01:00:01", "0a:a4:ad:85:c1:19"]


def test_only_the_port_of_what_is_published_sends_frames_back() -> None:
    """A container reaches its own published port so, where the bridge itself translates."""
    published = an_endpoint(ports=[Publication(a_port(80), 8080)])

    [without], [having] = veths(an_endpoint()), veths(published)

    assert (without, without.link().hairpin) == (replace(having, hairpin=False), False)
    assert (having.hairpin, having.link().hairpin) == (True, True)


def test_every_name_fits_into_a_link_s() -> None:
    network, endpoint = a_network("z" * 128), an_endpoint("y" * 128)

    plan = [*plan_network(network), *plan_endpoint(network, endpoint)]

    names = [
        name
        for one in plan
        for name in (getattr(one, "name", ""), getattr(one, "host_end", ""), getattr(one, "sandbox_end", ""))
    ]
    assert {len(name) for name in names if name} == {15}


def test_two_objects_of_one_plan_never_share_a_place() -> None:
    network = a_network(NET, "10.1.0.0/24 10.1.0.1/24", "10.2.0.0/24 10.2.0.1/24", "fd00::/64 fd00::1/64")

    plan = [*plan_network(network), *plan_endpoint(network, an_endpoint())]

    assert len({one.key for one in plan}) == len(plan) == 5
