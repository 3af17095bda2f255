"""What may be declared for all hosts, and what is refused before any of them is told."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.declared import read as read_label
from mdnp.declared import text_of
from mdnp.declared.asked import Asked, declaration, read
from mdnp.member import DeclaredNetwork, DeclaredSubnet
from mdnp.model.errors import InvalidParameter, MdnpError

BLUE = Asked("blue", ("10.50.0.0/16",))
DECLARED = declaration(BLUE, {})


def test_a_subnet_is_enough() -> None:
    assert DeclaredNetwork("blue", (DeclaredSubnet("10.50.0.0/16"),), {"mdnp.mode": "overlay"}) == DECLARED


def test_gateways_ranges_and_auxiliary_addresses_go_to_their_subnets() -> None:
    asked = Asked(
        "blue",
        ("10.50.0.0/16", "fd50::/64"),
        gateways=("fd50::ff", "10.50.0.254"),
        ranges=("10.50.128.0/17",),
        auxiliary={"printer": "10.50.0.9", "scanner": "fd50::9"},
        options={"mdnp.multicast": "off", "com.docker.network.driver.mtu": "1400"},
        labels={"team": "shop"},
        internal=True,
        ipv6=True,
    )

    assert declaration(asked, {}) == DeclaredNetwork(
        "blue",
        (
            DeclaredSubnet("10.50.0.0/16", "10.50.0.254", "10.50.128.0/17", {"printer": "10.50.0.9"}),
            DeclaredSubnet("fd50::/64", "fd50::ff", "", {"scanner": "fd50::9"}),
        ),
        {"com.docker.network.driver.mtu": "1400", "mdnp.mode": "overlay", "mdnp.multicast": "off"},
        internal=True,
        labels={"team": "shop"},
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "-blue"}, "network '-blue': a name begins with a letter or a digit"),
        ({"name": "bridge"}, "network bridge: Docker has a network of that name by itself: choose another"),
        ({"subnets": ()}, "network blue: all hosts must agree on its addresses: name each --subnet"),
        ({"subnets": ("10.50.0.1/16",)}, "Pool 10.50.0.1/16: host bits are set; the network is 10.50.0.0/16"),
        ({"subnets": ("10.50.0.0/16", "10.50.1.0/24")}, "--subnet 10.50.0.0/16 and --subnet 10.50.1.0/24 overlap"),
        ({"gateways": ("10.51.0.1",)}, "--gateway 10.51.0.1: lies in no --subnet that is named"),
        ({"gateways": ("10.50.0.1", "10.50.0.2")}, "--gateway 10.50.0.1 and 10.50.0.2: 10.50.0.0/16 has one at most"),
        ({"gateways": ("10.50.0.0",)}, "Address 10.50.0.0: the network address of 10.50.0.0/16 is nobody's"),
        ({"ranges": ("10.51.0.0/24",)}, "--ip-range 10.51.0.0/24: lies in no --subnet that is named"),
        ({"auxiliary": {"x": "fd::1"}}, "--aux-address fd::1: lies in no --subnet that is named"),
        ({"ipv6": True}, "network blue: --ipv6 needs an IPv6 --subnet too, as fd50::/64"),
        ({"options": {"mdnp.mode": "bridge"}}, "network blue: mdnp.mode=bridge is a network of one host"),
        ({"options": {"mdnp.gard": "off"}}, "unknown option mdnp.gard: did you mean mdnp.guard?"),
        ({"name": "red"}, "--subnet 10.50.0.0/16 overlaps 10.50.0.0/16 of network blue: choose another"),
        ({"internal": True}, "network blue is declared already, otherwise: `mdnp network rm blue` first"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(MdnpError) as refusal:
        declaration(replace(BLUE, **changes), {"blue": DECLARED})

    assert str(refusal.value).startswith(says)


def test_the_same_again_is_no_error() -> None:
    assert declaration(BLUE, {"blue": DECLARED}) == DECLARED


def test_a_request_is_read_from_json() -> None:
    assert read({"name": "blue", "subnets": ["10.50.0.0/16"]}) == BLUE


@pytest.mark.parametrize("plain", [None, [], [7], "blue", {}, {"name": "blue", "colour": "red"}, {"subnets": 7}])
def test_a_request_that_cannot_be_read_is_refused(plain: object) -> None:
    with pytest.raises(InvalidParameter, match="what is asked for cannot be read"):
        read(plain)


@given(
    st.builds(
        DeclaredNetwork,
        st.text(),
        st.lists(st.builds(DeclaredSubnet, st.text(), st.text(), st.text(), st.dictionaries(st.text(), st.text()))).map(
            tuple
        ),
        st.dictionaries(st.text(), st.text()),
        st.booleans(),
        st.dictionaries(st.text(), st.text()),
    )
)
def test_a_label_says_the_whole_declaration(network: DeclaredNetwork) -> None:
    assert read_label(text_of(network)) == network


@pytest.mark.parametrize("text", ["", "7", "[]", "{}", '{"name": "blue"}', '{"subnets": [{"colour": "red"}]}', "\0"])
def test_a_label_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"label mdnp\.declared="):
        read_label(text)
