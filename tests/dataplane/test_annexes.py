"""Plans of annexes, as their text."""

from dataclasses import replace

import pytest

from mdnp.dataplane import annexes, bridge, naming
from mdnp.dataplane.naming import GROUP
from mdnp.dataplane.objects import Veth
from mdnp.model.identity import NetworkID
from mdnp.model.options import NetworkOptions
from mdnp.model.port import Publication
from tests.world import NET, OTHER_NET, a_network, a_port, an_endpoint

NETWORK = replace(a_network(NET), annexes=1)
ANNEX, UPPER, LOWER = (f"{prefix}-a1a1a1a1-1" for prefix in ("mdb", "mdu", "mdw"))
PORT = "address 0a:a7:1c:6b:d5:2a mtu 1500"


def test_an_annex_is_a_bridge_that_is_joined_to_the_network_s_own() -> None:
    whose, joint = f"of network {NET}", f"mdnp joint of annex 1 of network {NET}"

    assert list(map(str, annexes.plan_network(NETWORK))) == [
        f"link {ANNEX} address 0a:78:86:cb:64:3f mtu 1500 group {GROUP} alias 'mdnp annex 1 {whose}' up type bridge",
        f"net/ipv4/conf/{ANNEX}/arp_ignore=8",
        *(f"net/ipv6/conf/{link}/disable_ipv6=1" for link in (ANNEX, UPPER, LOWER)),
        f"link {UPPER} mtu 1500 master mdb-a1a1a1a1a1a group {GROUP} alias '{joint}' up type veth peer {LOWER} {PORT}",
        f"link {LOWER} {PORT} master {ANNEX} group {GROUP} alias '{joint}' up",
        f'element inet mdnp own {{ "{ANNEX}" . "{ANNEX}" }}',
        *(f'element inet mdnp {name} {{ "{ANNEX}" }}' for name in ("bridges", "closed", "sealed", "annexes")),
        f'element bridge mdnp returns {{ "{UPPER}" . "{UPPER}" }}',
    ]


def test_without_icc_a_joint_may_what_those_below_it_may() -> None:
    network = replace(NETWORK, options=NetworkOptions(icc=False))

    assert list(map(str, annexes.plan_network(network)))[-2:] == [
        'element bridge mdnp noicc { "mdu-a1a1a1a1-1" }',
        'element bridge mdnp gateways { "mdu-a1a1a1a1-1" . 02:6d:0a:01:00:01 }',
    ]


def test_a_network_whose_bridge_has_room_has_none() -> None:
    assert annexes.plan_network(a_network(NET)) == ()
    assert annexes.plan_endpoint(an_endpoint()) == ()


def test_an_endpoint_of_an_annex_has_its_row_there_and_no_hairpin() -> None:
    endpoint = replace(an_endpoint(ports=[Publication(a_port(80, 8080), 8080)]), annex=1)

    [veth] = bridge.plan_endpoint(NETWORK, endpoint)

    assert isinstance(veth, Veth)
    assert (veth.link().master, veth.link().hairpin) == ("mdb-a1a1a1a1-1", False)
    assert list(map(str, annexes.plan_endpoint(endpoint))) == [
        f"fdb {endpoint.mac} dev {naming.host_end(endpoint.id)} master static sticky"
    ]


@pytest.mark.parametrize("number", [1, 21, 99])
def test_names_of_annexes_fit_and_tell_whose_they_are(number: int) -> None:
    names = [make(NETWORK, number) for make in (naming.bridge, naming.upper_end, naming.lower_end)]

    assert max(map(len, names)) <= 15
    assert naming.annex_of(NETWORK.id, names[0]) == number
    assert naming.annex_of(NetworkID(OTHER_NET), names[0]) == 0
    assert naming.is_annex(names[0])
    assert naming.upper_end_of(names[0]) == names[1]


@pytest.mark.parametrize("name", [naming.bridge(NETWORK), "lab-0", "docker0", "mdb-a1a1a1a1-x"])
def test_other_bridges_are_no_annex_of_it(name: str) -> None:
    assert naming.annex_of(NETWORK.id, name) == 0
