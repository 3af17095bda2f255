"""What users write with -o and --driver-opt."""

import pytest

from mdnp.model.errors import InvalidParameter, MdnpError, Unsupported
from mdnp.model.options import GatewayMode, Mode, NetworkOptions, check_endpoint_options, parse_network_options

MTU = "com.docker.network.driver.mtu"
BRIDGE = "com.docker.network.bridge"
PREFIX = "com.docker.network.container_iface_prefix"
LINK_NAME = "a link name of 1 to 15 characters, without '/', ':', '%' and spaces"


def refusal(given: dict[str, object]) -> tuple[type[MdnpError], str]:
    with pytest.raises(MdnpError) as caught:
        parse_network_options(given)
    return type(caught.value), str(caught.value)


def test_nothing_given_means_the_defaults() -> None:
    assert parse_network_options({}) == NetworkOptions(
        mode=Mode.BRIDGE, gateway=GatewayMode.SELF, mtu=None, bridge_name=None, iface_prefix="eth"
    )


def test_every_known_option_has_its_field() -> None:
    given = {
        "mdnp.mode": "bridge",
        "mdnp.gateway": "docker",
        "mdnp.guard": "off",
        MTU: "9000",
        f"{BRIDGE}.name": "lab0",
        f"{BRIDGE}.enable_icc": "true",
        f"{BRIDGE}.enable_ip_masquerade": "false",
        PREFIX: "krish-mdnp",
    }

    options = parse_network_options(given)

    assert options == NetworkOptions(
        mode=Mode.BRIDGE, gateway=GatewayMode.DOCKER, mtu=9000, bridge_name="lab0", iface_prefix="krish-mdnp"
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
    ],
)
def test_values_up_to_the_limits_are_taken(key: str, value: str, field: str, parsed: object) -> None:
    assert getattr(parse_network_options({key: value}), field) == parsed


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
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
        ("mdnp.mode", "ipvlan", "bridge"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_can(key: str, value: str, expected: str) -> None:
    assert refusal({key: value}) == (InvalidParameter, f"option {key}={value[:80]}: expected {expected}")


@pytest.mark.parametrize("value", [1500, True, None, ["1500"], {"mtu": 1500}, 1.5])
@pytest.mark.parametrize("key", [MTU, f"{BRIDGE}.name", PREFIX, "mdnp.gateway", "mdnp.segment", "mdnp.guard", "parent"])
def test_a_value_that_is_no_text_is_refused(key: str, value: object) -> None:
    assert refusal({key: value}) == (InvalidParameter, f"option {key}: expected text, got {value}")


@pytest.mark.parametrize("mode", ["overlay", "macvlan"])
def test_a_mode_that_is_not_built_is_refused_in_so_many_words(mode: str) -> None:
    kind, words = refusal({"mdnp.mode": mode})

    assert (kind, words) == (Unsupported, f"option mdnp.mode={mode}: not built yet; this version has bridge")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mdnp.segment", "blue"),
        ("mdnp.guard", "on"),
        ("mdnp.multicast", "on"),
        (f"{BRIDGE}.enable_icc", "false"),
        (f"{BRIDGE}.enable_ip_masquerade", "true"),
        (f"{BRIDGE}.host_binding_ipv4", "127.0.0.1"),
        (f"{BRIDGE}.gateway_mode_ipv4", "routed"),
        (f"{BRIDGE}.gateway_mode_ipv6", "nat"),
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
    given: dict[str, object] = {"mdnp.gatway": "self", MTU: "1", "mdnp.mode": "overlay", "mdnp.gateway": "none"}

    assert refusal(given) == (
        InvalidParameter,
        (
            "unknown option mdnp.gatway: did you mean mdnp.gateway?"
            f"; option {MTU}=1: expected bytes from 68 to 65535"
            "; option mdnp.mode=overlay: not built yet; this version has bridge"
        ),
    )


def test_the_engine_s_own_endpoint_options_pass() -> None:
    check_endpoint_options(
        {
            "com.docker.network.endpoint.exposedports": [],
            "com.docker.network.endpoint.macaddress": "AkIKAAAF",
            "com.docker.network.portmap": [],
            "com.docker.network.driver.private.no_proxy_6to4": True,
        }
    )


def test_an_endpoint_option_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"^unknown option mdnp\.rate: known are none$"):
        check_endpoint_options({"mdnp.rate": "1"})
