"""What users write with -o and --driver-opt."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.model.errors import InvalidParameter, MdnpError, Unsupported
from mdnp.model.network import IPNetwork
from mdnp.model.options import (
    EndpointOptions,
    GatewayMode,
    Mode,
    NetworkOptions,
    Routing,
    parse_endpoint_options,
    parse_network_options,
)

Address = IPv4Address | IPv6Address

MTU = "com.docker.network.driver.mtu"
BRIDGE = "com.docker.network.bridge"
PREFIX = "com.docker.network.container_iface_prefix"
LINK_NAME = "a link name of 1 to 15 characters, without any of /:%+*\"'\\ and spaces"


def endpoint_refusal(given: dict[str, object]) -> tuple[type[MdnpError], str]:
    with pytest.raises(MdnpError) as caught:
        parse_endpoint_options(given)
    return type(caught.value), str(caught.value)


def allowed(text: str) -> list[str]:
    return [str(one) for one in parse_endpoint_options({"mdnp.allow": text}).allowed]


def refusal(given: dict[str, object]) -> tuple[type[MdnpError], str]:
    with pytest.raises(MdnpError) as caught:
        parse_network_options(given)
    return type(caught.value), str(caught.value)


SWITCHES = ("mdnp.guard", "mdnp.dns")
FLAGS = [(f"{BRIDGE}.enable_icc", "icc"), (f"{BRIDGE}.enable_ip_masquerade", "masquerade")]


def test_nothing_given_means_the_defaults() -> None:
    assert parse_network_options({}) == NetworkOptions(
        mode=Mode.BRIDGE,
        gateway=GatewayMode.SELF,
        mtu=None,
        bridge_name=None,
        iface_prefix="eth",
        icc=True,
        masquerade=True,
        host_binding=None,
        routing_ipv4=Routing.NAT,
        routing_ipv6=Routing.NAT,
        guard=True,
        dns=None,
    )
    assert parse_endpoint_options({}) == EndpointOptions(allowed=())


def test_every_known_option_has_its_field() -> None:
    given = {
        "mdnp.mode": "bridge",
        "mdnp.gateway": "docker",
        "mdnp.guard": "off",
        "mdnp.dns": "on",
        MTU: "9000",
        f"{BRIDGE}.name": "lab0",
        f"{BRIDGE}.enable_icc": "false",
        f"{BRIDGE}.enable_ip_masquerade": "false",
        f"{BRIDGE}.host_binding_ipv4": "127.0.0.1",
        f"{BRIDGE}.gateway_mode_ipv4": "routed",
        f"{BRIDGE}.gateway_mode_ipv6": "isolated",
        PREFIX: "krish-mdnp",
    }

    options = parse_network_options(given)

    assert options == NetworkOptions(
        mode=Mode.BRIDGE,
        gateway=GatewayMode.DOCKER,
        mtu=9000,
        bridge_name="lab0",
        iface_prefix="krish-mdnp",
        icc=False,
        masquerade=False,
        host_binding=IPv4Address("127.0.0.1"),
        routing_ipv4=Routing.ROUTED,
        routing_ipv6=Routing.ISOLATED,
        guard=False,
        dns=True,
    )


@pytest.mark.parametrize(
    ("key", "value", "field", "parsed"),
    [
        ("mdnp.gateway", "self", "gateway", GatewayMode.SELF),
        ("mdnp.gateway", "none", "gateway", GatewayMode.NONE),
        (MTU, "68", "mtu", 68),
        (MTU, "65535", "mtu", 65535),
        (f"{BRIDGE}.name", "x", "bridge_name", "x"),
        (f"{BRIDGE}.name", "fifteen-letters", "bridge_name", "fifteen-letters"),
        (PREFIX, "twelve-chars", "iface_prefix", "twelve-chars"),
        ("mdnp.guard", "on", "guard", True),
        ("mdnp.guard", "off", "guard", False),
        ("mdnp.dns", "on", "dns", True),
        ("mdnp.dns", "off", "dns", False),
        (f"{BRIDGE}.host_binding_ipv4", "0.0.0.0", "host_binding", IPv4Address(0)),  # noqa: S104
        (f"{BRIDGE}.gateway_mode_ipv4", "nat", "routing_ipv4", Routing.NAT),
        (f"{BRIDGE}.gateway_mode_ipv4", "isolated", "routing_ipv4", Routing.ISOLATED),
        (f"{BRIDGE}.gateway_mode_ipv6", "routed", "routing_ipv6", Routing.ROUTED),
    ],
)
def test_values_up_to_the_limits_are_taken(key: str, value: str, field: str, parsed: object) -> None:
    assert getattr(parse_network_options({key: value}), field) == parsed


@pytest.mark.parametrize(("key", "field"), FLAGS)
def test_flags_are_read_as_docker_reads_them(key: str, field: str) -> None:
    """By strconv.ParseBool, as `docker network create` shows its users."""
    true = [getattr(parse_network_options({key: one}), field) for one in ("1", "t", "T", "true", "TRUE", "True")]
    false = [getattr(parse_network_options({key: one}), field) for one in ("0", "f", "F", "false", "FALSE", "False")]

    assert (true, false) == ([True] * 6, [False] * 6)


@pytest.mark.parametrize("mode", ["bridge", "overlay"])
@pytest.mark.parametrize("asked", ["", "on", "off"])
def test_an_overlay_has_names_and_a_bridge_has_none_unless_asked(mode: str, asked: str) -> None:
    given = {"mdnp.mode": mode, **({"mdnp.dns": asked} if asked else {})}

    assert parse_network_options(given).has_names == (asked == "on" or (not asked and mode == "overlay"))


@pytest.mark.parametrize("version", [4, 6])
def test_each_family_has_its_own_way(version: int) -> None:
    options = parse_network_options({f"{BRIDGE}.gateway_mode_ipv{version}": "routed"})

    assert (options.routing(version), options.routing(10 - version)) == (Routing.ROUTED, Routing.NAT)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *((key, value, "true or false") for key, _ in FLAGS for value in ("", "yes", "on", "tRUE", "2", "true ")),
        *((key, value, "on or off") for key in SWITCHES for value in ("", "true", "1", "On", "no")),
        *(
            (f"{BRIDGE}.host_binding_ipv4", value, "an IPv4 address of the host")
            for value in ("", "localhost", "::1", "127.0.0", "127.0.0.1/8", "10.0.0.256", "127.0.0.1:80")
        ),
        *(
            (f"{BRIDGE}.gateway_mode_ipv{version}", value, "nat or routed or isolated")
            for version in (4, 6)
            for value in ("", "NAT", "bridged")
        ),
        *(
            (MTU, value, "bytes from 68 to 65535")
            for value in ("67", "65536", "", "1e3", "-1", "+1500", " 1500", "\uff11\uff15\uff10\uff10")
        ),
        (MTU, "9" * 5000, "bytes from 68 to 65535"),
        *(
            (f"{BRIDGE}.name", value, LINK_NAME)
            for value in ("", "sixteen-letters!", "a/b", "a:b", "a b", "br%d", ".", "..", "tab\t", "brücke", "nul\0")
        ),
        (PREFIX, "thirteen-char", LINK_NAME.replace("15", "12")),
        (PREFIX, "", LINK_NAME.replace("15", "12")),
        ("mdnp.gateway", "yes", "self or docker or none"),
        ("mdnp.gateway", "Self", "self or docker or none"),
        ("mdnp.mode", "ipvlan", "bridge or overlay"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_can(key: str, value: str, expected: str) -> None:
    assert refusal({key: value}) == (InvalidParameter, f"option {key}={value[:80]}: expected {expected}")


TEXTS = [
    MTU,
    f"{BRIDGE}.name",
    PREFIX,
    "mdnp.gateway",
    *SWITCHES,
    "mdnp.segment",
    "mdnp.multicast",
    f"{BRIDGE}.enable_icc",
    f"{BRIDGE}.enable_ip_masquerade",
    f"{BRIDGE}.host_binding_ipv4",
    f"{BRIDGE}.gateway_mode_ipv4",
    f"{BRIDGE}.gateway_mode_ipv6",
]


@pytest.mark.parametrize("value", [1500, True, None, ["1500"], {"mtu": 1500}, 1.5])
@pytest.mark.parametrize("key", [*TEXTS, "parent"])
def test_a_value_that_is_no_text_is_refused(key: str, value: object) -> None:
    assert refusal({key: value}) == (InvalidParameter, f"option {key}: expected text, got {value}")


def test_a_mode_that_is_not_built_is_refused_in_so_many_words() -> None:
    kind, words = refusal({"mdnp.mode": "macvlan"})

    assert (kind, words) == (
        Unsupported,
        "option mdnp.mode=macvlan: not built yet; this version has bridge, overlay",
    )


@pytest.mark.parametrize("mode", [{}, {"mdnp.mode": "bridge"}])
@pytest.mark.parametrize(("key", "value"), [("mdnp.segment", "blue"), ("mdnp.multicast", "on")])
def test_what_only_an_overlay_has_is_refused_elsewhere(mode: dict[str, object], key: str, value: str) -> None:
    assert refusal({**mode, key: value}) == (
        InvalidParameter,
        f"option {key}: only an overlay spans hosts: add mdnp.mode=overlay, or leave it out",
    )


@pytest.mark.parametrize("label", ["b", "blue", "the blue one", "über/blau,1", "x" * 64])
def test_an_overlay_has_a_label_and_may_be_without_multicast(label: str) -> None:
    given = {"mdnp.mode": "overlay", "mdnp.segment": label, "mdnp.multicast": "off"}

    assert parse_network_options(given) == NetworkOptions(mode=Mode.OVERLAY, segment=label, multicast=False)


@pytest.mark.parametrize("label", ["", " ", "x" * 65, " blue", "blue ", "bl\tue", "bl\0ue", "\u2028"])
def test_a_label_is_short_and_printable(label: str) -> None:
    assert refusal({"mdnp.mode": "overlay", "mdnp.segment": label}) == (
        InvalidParameter,
        f"option mdnp.segment={label[:80]}: expected 1 to 64 printable characters, without a space at the ends",
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parent", "eth0"),
        ("macvlan_mode", "bridge"),
        ("encrypted", "true"),
    ],
)
def test_an_option_that_is_not_built_is_refused_in_so_many_words(key: str, value: str) -> None:
    assert refusal({key: value}) == (
        Unsupported,
        f"option {key}={value}: not built yet in this version; leave it out",
    )


@pytest.mark.parametrize("version", [4, 6])
def test_a_way_in_without_protection_is_not_built(version: int) -> None:
    """Docker's nat-unprotected opens every port of every container to whoever routes to it."""
    key = f"{BRIDGE}.gateway_mode_ipv{version}"

    assert refusal({key: "nat-unprotected"}) == (
        Unsupported,
        f"option {key}=nat-unprotected: not built yet; this version has nat, routed, isolated",
    )


@pytest.mark.parametrize("name", ["+", "lab+", "*", "lab*", 'la"b', "la'b", "la\\b", "lab\\"])
def test_a_bridge_is_not_named_what_nft_or_iptables_read_otherwise(name: str) -> None:
    """Both take a part of a name for any rest of one, and what quotes or escapes is not read back as it was written."""
    kind, words = refusal({f"{BRIDGE}.name": name})

    assert (kind, words.startswith(f"option {BRIDGE}.name={name}: expected a link name")) == (InvalidParameter, True)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("mdnp.gatway", "mdnp.gateway"),
        ("mdnp.gateways", "mdnp.gateway"),
        ("mdnp.mod", "mdnp.mode"),
        ("mtu", MTU),
        ("com.docker.network.mtu", MTU),
        ("com.docker.driver.mtu", MTU),
        ("enable_icc", f"{BRIDGE}.enable_icc"),
        ("container_iface_prefix", PREFIX),
        ("iface_prefix", PREFIX),
        ("Parent", "parent"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_known_one(key: str, nearest: str) -> None:
    assert refusal({key: "1"}) == (InvalidParameter, f"unknown option {key}: did you mean {nearest}?")


@pytest.mark.parametrize("key", ["", "zzzzzzzz", "π"])
def test_an_unknown_option_that_is_like_none_is_refused_with_all_of_them(key: str) -> None:
    kind, words = refusal({key: "1"})

    assert kind is InvalidParameter
    assert words.startswith(f"unknown option {key}: known are mdnp.mode, mdnp.gateway, {MTU}, ")


def test_a_key_without_end_is_not_repeated_without_end() -> None:
    assert len(refusal({"k" * 100_000: "1"})[1]) < 1000


def test_every_fault_is_told_at_once() -> None:
    given: dict[str, object] = {"mdnp.gatway": "self", MTU: "1", "mdnp.mode": "macvlan", "mdnp.gateway": "none"}

    assert refusal(given) == (
        InvalidParameter,
        (
            "unknown option mdnp.gatway: did you mean mdnp.gateway?"
            f"; option {MTU}=1: expected bytes from 68 to 65535"
            "; option mdnp.mode=macvlan: not built yet; this version has bridge, overlay"
        ),
    )


def test_the_engine_s_own_endpoint_options_pass() -> None:
    given = {
        "com.docker.network.endpoint.exposedports": [],
        "com.docker.network.endpoint.macaddress": "AkIKAAAF",
        "com.docker.network.portmap": [],
        "com.docker.network.driver.private.no_proxy_6to4": True,
    }

    assert parse_endpoint_options(given) == EndpointOptions()
    assert parse_endpoint_options({**given, "mdnp.allow": "10.1.0.9"}) == EndpointOptions((ip_network("10.1.0.9"),))


@pytest.mark.parametrize(("key", "nearest"), [("mdnp.alow", "mdnp.allow"), ("allow", "mdnp.allow")])
def test_an_unknown_endpoint_option_is_refused_with_the_nearest_known_one(key: str, nearest: str) -> None:
    assert endpoint_refusal({key: "1"}) == (InvalidParameter, f"unknown option {key}: did you mean {nearest}?")


def test_an_endpoint_option_that_is_like_none_is_refused_with_all_of_them() -> None:
    assert endpoint_refusal({"zzzz": "1"}) == (InvalidParameter, "unknown option zzzz: known are mdnp.allow")


def test_a_network_s_option_is_none_of_an_endpoint_s() -> None:
    assert endpoint_refusal({"mdnp.guard": "off"})[0] is InvalidParameter
    assert refusal({"mdnp.allow": "10.1.0.9"})[0] is InvalidParameter


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("10.1.0.9", ["10.1.0.9/32"]),
        ("10.1.0.9/32,10.2.0.0/24", ["10.1.0.9/32", "10.2.0.0/24"]),
        ("fd00::9", ["fd00::9/128"]),
        ("fd00::9, 10.1.0.9 ,fd01::/64", ["10.1.0.9/32", "fd00::9/128", "fd01::/64"]),
        ("0.0.0.0/0,::/0", ["0.0.0.0/0", "::/0"]),
        ("10.1.0.9 10.2.0.0/24\tfd00::9", ["10.1.0.9/32", "10.2.0.0/24", "fd00::9/128"]),
        (" 10.1.0.9 , 10.2.0.0/24 ", ["10.1.0.9/32", "10.2.0.0/24"]),
        ("10.2.0.0/255.255.255.0", ["10.2.0.0/24"]),
    ],
)
def test_an_endpoint_may_be_allowed_more_than_its_addresses(text: str, networks: list[str]) -> None:
    assert allowed(text) == networks


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("10.1.0.9,10.1.0.9", ["10.1.0.9/32"]),
        ("10.1.0.0/24,10.1.0.9", ["10.1.0.0/24"]),
        ("10.1.0.0/25,10.1.0.128/25", ["10.1.0.0/24"]),
        ("fd00::/64,fd00::9,10.1.0.9,0.0.0.0/0", ["0.0.0.0/0", "fd00::/64"]),
    ],
)
def test_networks_within_each_other_are_one(text: str, networks: list[str]) -> None:
    """The kernel takes no intervals that overlap."""
    assert allowed(text) == networks


def size(networks: Iterable[IPNetwork]) -> int:
    """How many addresses are in any of them."""
    count, end = 0, (0, -1)
    for first, last in sorted(((one.version, int(one[0])), (one.version, int(one[-1]))) for one in networks):
        if last > end:
            count += last[1] - max(first, (end[0], end[1] + 1))[1] + 1
            end = last
    return count


@given(st.lists(st.ip_addresses(v=4) | st.ip_addresses(v=6), min_size=1, max_size=5), st.data())
def test_just_what_was_asked_for_is_allowed_and_no_two_overlap(addresses: list[Address], data: st.DataObject) -> None:
    given = [ip_network(f"{one}/{data.draw(st.integers(0, one.max_prefixlen))}", strict=False) for one in addresses]

    found = parse_endpoint_options({"mdnp.allow": ",".join(map(str, given))}).allowed

    assert all(any(one.overlaps(other) for other in found) for one in given)
    assert sum(one.overlaps(other) for one in found for other in found) == len(found)
    assert sum(one.num_addresses for one in found) == size(given)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "'' does not appear to be an IPv4 or IPv6 network"),
        ("10.1.0.9,", "'' does not appear to be an IPv4 or IPv6 network"),
        ("nonsense", "'nonsense' does not appear to be an IPv4 or IPv6 network"),
        ("10.1.0.0/24,10.1.0.0/33", "'10.1.0.0/33' does not appear to be an IPv4 or IPv6 network"),
        ("10.1.0.9/24", "10.1.0.9/24 has host bits set"),
        ("10.1.0.9;10.1.0.10", "'10.1.0.9;10.1.0.10' does not appear to be an IPv4 or IPv6 network"),
        ("10.1.0.9,,10.1.0.10", "'' does not appear to be an IPv4 or IPv6 network"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_a_list_with_a_fault_is_refused_and_names_it(text: str, fault: str) -> None:
    kind, words = endpoint_refusal({"mdnp.allow": text})

    assert kind is InvalidParameter
    assert words.startswith(f"option mdnp.allow={text}: expected addresses or networks as 10.1.0.9,10.2.0.0/24 (")
    assert fault in words


def test_a_list_without_end_is_not_repeated_without_end() -> None:
    assert len(endpoint_refusal({"mdnp.allow": "x" * 100_000})[1]) < 1000


@pytest.mark.parametrize("value", [1, True, None, ["10.1.0.9"]])
def test_a_list_that_is_no_text_is_refused(value: object) -> None:
    assert endpoint_refusal({"mdnp.allow": value}) == (
        InvalidParameter,
        f"option mdnp.allow: expected text, got {value}",
    )
