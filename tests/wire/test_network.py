"""Docker's protocol: bodies in, bodies out, and the form of errors."""

import json
from typing import Any

import pytest

from mdnp.wire.routes import Routes
from mdnp.wire.verbs import Verb
from tests.world import (
    ANY4,
    GENERIC,
    NET,
    NO_PROXY,
    PORTMAP,
    SCTP,
    UDP,
    WEB,
    WEB_MAC,
    World,
    a_socket,
    binding,
    create_endpoint,
    create_network,
    join,
    on_endpoint,
    on_network,
    publish,
)

EXAMPLES: dict[str, dict[str, Any]] = {
    "GwAllocCheck": {"Options": {GENERIC: {}}},
    "CreateNetwork": create_network(),
    "DeleteNetwork": on_network(),
    "CreateEndpoint": create_endpoint(),
    "EndpointOperInfo": on_endpoint(),
    "DeleteEndpoint": on_endpoint(),
    "Join": join(),
    "Leave": on_endpoint(),
    "ProgramExternalConnectivity": publish(),
    "RevokeExternalConnectivity": on_endpoint(),
    "AllocateNetwork": {"NetworkID": NET, "Options": {}, "IPv4Data": [], "IPv6Data": None},
    "FreeNetwork": on_network(),
    "DiscoverNew": {"DiscoveryType": 1, "DiscoveryData": {"Address": "192.0.2.1", "BindAddress": "", "Self": True}},
    "DiscoverDelete": {"DiscoveryType": 1, "DiscoveryData": {"Address": "192.0.2.1", "BindAddress": "", "Self": True}},
}
VERBS = sorted(EXAMPLES)


async def activated(world: World) -> tuple[int, Any]:
    answer = await world.routes.answer("/Plugin.Activate", b"")
    return answer.status, json.loads(answer.body)


async def test_activation_says_what_is_implemented(world: World) -> None:
    status, reply = await activated(world)

    assert (status, "NetworkDriver" in reply["Implements"]) == (200, True)


async def test_activation_has_the_reconciler_look_at_the_kernel_again(world: World) -> None:
    """An engine that starts makes its firewall anew."""
    await world.ok("CreateNetwork", create_network())
    observed = world.kernel.observed
    await activated(world)

    await world.ok("CreateEndpoint", create_endpoint())

    assert world.kernel.observed == observed + 1


async def test_the_capabilities_are_local(world: World) -> None:
    assert await world.ok("GetCapabilities") == {
        "Scope": "local",
        "ConnectivityScope": "local",
        "GwAllocChecker": True,
    }


@pytest.mark.parametrize("verb", VERBS)
async def test_every_verb_of_docker_s_is_there(world: World, verb: str) -> None:
    await world.with_endpoint()

    await world.ok(verb, EXAMPLES[verb])


@pytest.mark.parametrize("verb", VERBS)
async def test_an_empty_body_is_a_broken_retry_and_refused(world: World, verb: str) -> None:
    await world.with_endpoint()
    before = world.promised, world.seen

    assert await world.refused(verb, b"") == (
        400,
        f"NetworkDriver.{verb} came without a body: the connection broke in the call before; try again",
    )
    assert (world.promised, world.seen) == before


BROKEN = [
    b" ",
    b"\n",
    b"{",
    b"{}}",
    b"null",
    b"[]",
    b'"text"',
    b"1",
    b"\0",
    b"\xff\xfe",
    b'{"NetworkID": "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "EndpointID": "x"}',
    b'{"\xff": 1}',
    b'{"NetworkID": "\\ud800\\ud800\\ud800\\ud800\\ud800\\ud800\\ud800\\ud800\\ud800\\ud800\\ud800\\ud800"}',
    b"[" * 100_000,
    b'{"Options": ' + b'{"a":' * 100_000,
    b'{"NetworkID": ' + b"9" * 10_000 + b"}",
    b"\xef\xbb\xbf{}",
]


@pytest.mark.parametrize("body", BROKEN, ids=lambda body: repr(body[:20]))
async def test_a_body_that_cannot_be_read_is_refused(world: World, body: bytes) -> None:
    for verb in VERBS:
        if verb == "GwAllocCheck":
            continue  # it asks for no field, so that {} with unknown ones will do

        status, words = await world.refused(verb, body)

        assert (status, words.startswith(f"NetworkDriver.{verb}: the body cannot be read: ")) == (400, True)
        assert len(words) < 500


@pytest.mark.parametrize(
    ("verb", "field", "value"),
    [
        ("CreateNetwork", "NetworkID", 7),
        ("CreateNetwork", "NetworkID", None),
        ("CreateNetwork", "Options", []),
        ("CreateNetwork", "Options", "text"),
        ("CreateNetwork", "IPv4Data", {}),
        ("CreateNetwork", "IPv4Data", ["10.1.0.0/24"]),
        ("CreateNetwork", "IPv4Data", [{"Pool": 7}]),
        ("CreateNetwork", "IPv4Data", [{}]),
        ("CreateNetwork", "IPv6Data", 1),
        ("CreateEndpoint", "EndpointID", ["x"]),
        ("CreateEndpoint", "Interface", "eth0"),
        ("CreateEndpoint", "Interface", {"Address": 10}),
        ("CreateEndpoint", "Options", [1]),
        ("Join", "SandboxKey", {}),
        ("ProgramExternalConnectivity", "Options", {PORTMAP: "80"}),
        ("ProgramExternalConnectivity", "Options", {PORTMAP: [{"Port": "80"}]}),
        ("ProgramExternalConnectivity", "Options", {PORTMAP: [{"Port": 80, "HostPort": 80.5}]}),
        ("ProgramExternalConnectivity", "Options", {PORTMAP: [{"Port": 80, "HostIP": None}]}),
        ("ProgramExternalConnectivity", "Options", {PORTMAP: [None]}),
        ("AllocateNetwork", "Options", {"a": 1}),
        ("DiscoverNew", "DiscoveryType", "node"),
    ],
)
async def test_a_field_of_a_wrong_type_is_refused_with_its_place(
    world: World, verb: str, field: str, value: object
) -> None:
    status, words = await world.refused(verb, {**EXAMPLES[verb], field: value})

    assert (status, f"at `$.{field}" in words or "missing required field `Pool`" in words) == (400, True)


async def test_a_field_that_is_missing_is_refused_with_its_name(world: World) -> None:
    for verb in VERBS:
        for field in {"NetworkID", "EndpointID", "DiscoveryType"} & EXAMPLES[verb].keys():
            body = {key: value for key, value in EXAMPLES[verb].items() if key != field}

            status, words = await world.refused(verb, body)

            assert (status, f"missing required field `{field}`" in words) == (400, True)


@pytest.mark.parametrize("verb", ["CreateNetwork", "DeleteNetwork", "Join", "EndpointOperInfo"])
async def test_an_id_that_is_none_is_refused(world: World, verb: str) -> None:
    for identity in ("", "short", "../../etc/passwd", "a" * 129, "a b c d e f g h"):
        refused = await world.refused(verb, {**EXAMPLES[verb], "NetworkID": identity})

        assert refused == (400, f"NetworkID {identity[:80]!r}: an id is 12 to 128 letters and digits")


async def test_fields_that_nobody_knows_are_ignored(world: World) -> None:
    await world.ok("CreateNetwork", {**create_network(), "Colour": "blue", "Nested": {"deep": [1]}})
    await world.ok("CreateEndpoint", {**create_endpoint(), "Colour": None})
    await world.ok("Join", {**join(), "Options": {"com.docker.network.new": {"a": [1]}, "x": None}})

    assert world.promised == ([NET], [WEB])


async def test_go_writes_empty_slices_and_maps_as_null(world: World) -> None:
    await world.ok("GwAllocCheck", {"Options": None})
    await world.ok("CreateNetwork", {**create_network(), "Options": None, "IPv6Data": None})
    await world.ok("CreateEndpoint", {**create_endpoint(), "Options": None})
    await world.ok("Join", {**join(), "Options": None})
    await world.ok("ProgramExternalConnectivity", {**publish(), "Options": None})
    await world.ok("ProgramExternalConnectivity", {**publish(), "Options": {PORTMAP: None}})
    await world.ok("DiscoverNew", {"DiscoveryType": 1, "DiscoveryData": None})

    assert world.kept == world.planned


async def test_a_network_without_addresses_is_one(world: World) -> None:
    await world.ok("CreateNetwork", {"NetworkID": NET, "IPv4Data": None, "IPv6Data": None})
    reply = await world.ok("CreateEndpoint", {**create_endpoint(), "Interface": None})

    assert reply == {"Interface": {"MacAddress": "0a:3b:aa:fb:3b:6d"}}


async def test_options_of_an_engine_before_24_have_no_generic_map(world: World) -> None:
    await world.ok("CreateNetwork", {**create_network(), "Options": {"com.docker.network.enable_ipv6": False}})
    await world.ok("DeleteNetwork", on_network())
    await world.ok("CreateNetwork", {**create_network(), "Options": {GENERIC: None}})

    assert world.kept == world.planned


@pytest.mark.parametrize("generic", ["text", 1, ["a"], True])
async def test_a_generic_map_that_is_none_is_refused(world: World, generic: object) -> None:
    body: dict[str, Any] = {**create_network(), "Options": {GENERIC: generic}}

    assert await world.refused("CreateNetwork", body) == (400, f"option {GENERIC}: expected a map")


@pytest.mark.parametrize("internal", ["true", 1, "yes", {}])
async def test_an_internal_flag_that_is_no_flag_is_refused(world: World, internal: object) -> None:
    """Taken for false, it would give a network a way out that must not have one."""
    body = create_network()
    body["Options"]["com.docker.network.internal"] = internal

    status, words = await world.refused("CreateNetwork", body)

    assert (status, words) == (400, "option com.docker.network.internal: expected true or false")


async def test_every_fault_of_the_options_is_told_at_once(world: World) -> None:
    body = create_network(options={"mdnp.gatway": "self", "com.docker.network.driver.mtu": "1"})

    assert await world.refused("CreateNetwork", body) == (
        400,
        (
            "unknown option mdnp.gatway: did you mean mdnp.gateway?; option com.docker.network.driver.mtu=1: expected"
            " bytes from 68 to 65535"
        ),
    )
    assert await world.refused("GwAllocCheck", body) == await world.refused("CreateNetwork", body)


async def test_an_endpoint_option_that_nobody_knows_is_refused(world: World) -> None:
    await world.ok("CreateNetwork", create_network())

    assert await world.refused("CreateEndpoint", create_endpoint(options={"mdnp.rate": "1"})) == (
        400,
        "unknown option mdnp.rate: did you mean mdnp.allow?",
    )


async def test_what_docker_says_beside_the_user_s_endpoint_options_passes(world: World) -> None:
    await world.ok("CreateNetwork", create_network())
    options = {
        "com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": 80}],
        PORTMAP: [{"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}],
        "com.docker.network.endpoint.macaddress": "AkIKAAAF",
        "com.docker.network.endpoint.dnsservers": ["192.0.2.53"],
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1",
    }

    await world.ok("CreateEndpoint", create_endpoint(options=options))


async def test_no_field_of_the_interface_that_came_filled_is_answered(world: World) -> None:
    await world.ok("CreateNetwork", create_network())
    body = create_endpoint(mac="02:42:0A:00:00:05")

    assert await world.ok("CreateEndpoint", body) == {"Interface": {}}
    assert await world.ok("CreateEndpoint", body) == {"Interface": {}}
    [made] = world.store.promises.endpoints.values()
    assert (made.mac, made.mac_given) == ("02:42:0a:00:00:05", True)


async def test_the_mac_is_answered_where_none_was_given(world: World) -> None:
    await world.ok("CreateNetwork", create_network())

    reply = await world.ok("CreateEndpoint", create_endpoint())

    assert reply == {"Interface": {"MacAddress": WEB_MAC}}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"MacAddress": "nonsense"}, "MAC address 'nonsense': expected six pairs of hex digits, as 02:42:0a:00:00:05"),
        ({"Address": "nonsense"}, "Address 'nonsense': expected an address with its prefix length, as 10.1.0.2/24"),
        ({"AddressIPv6": "fd00::2/999"}, "AddressIPv6 'fd00::2/999': expected an address"),
    ],
)
async def test_an_interface_that_cannot_be_is_refused(world: World, asked: dict[str, str], words: str) -> None:
    await world.ok("CreateNetwork", create_network())

    status, said = await world.refused("CreateEndpoint", {**create_endpoint(), "Interface": asked})

    assert (status, said.startswith(words)) == (400, True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"Pool": "nonsense"}, "Pool 'nonsense': expected a network as 10.1.0.0/24"),
        ({"Pool": "10.1.0.0/24", "Gateway": "10.2.0.1/24"}, "Gateway 10.2.0.1/24: not in the pool 10.1.0.0/24"),
        ({"Pool": "10.1.0.0/24", "Gateway": "nonsense"}, "Gateway 'nonsense': expected an address"),
    ],
)
async def test_ipam_data_that_cannot_be_is_refused(world: World, data: dict[str, str], words: str) -> None:
    status, said = await world.refused("CreateNetwork", {**create_network(), "IPv4Data": [data]})

    assert (status, said.startswith(words)) == (400, True)


@pytest.mark.parametrize(
    ("internal", "options", "skip"),
    [
        (False, {}, False),
        (False, {"mdnp.gateway": "docker"}, False),
        (False, {"mdnp.gateway": "none"}, True),
        (True, {}, True),
    ],
)
async def test_no_gateway_address_is_spent_on_a_network_without_one(
    world: World, internal: bool, options: dict[str, str], skip: bool
) -> None:
    asked = create_network(internal=internal, options=options)

    assert await world.ok("GwAllocCheck", {"Options": asked["Options"]}) == {"SkipIPv4": skip, "SkipIPv6": skip}


@pytest.mark.parametrize("options", [{}, {"mdnp.mode": "bridge", "any": "thing"}])
async def test_swarm_gets_its_options_back(world: World, options: dict[str, str]) -> None:
    body: dict[str, Any] = {
        "NetworkID": "tjpdt7yjx1n5qk2q0y4k9c8ve",
        "Options": options,
        "IPv4Data": [],
        "IPv6Data": None,
    }

    assert await world.ok("AllocateNetwork", body) == {"Options": options}
    assert await world.ok("AllocateNetwork", {**body, "Options": None}) == {"Options": {}}


async def test_ports_are_named_as_people_write_them(world: World) -> None:
    """Where they cannot be published."""
    await world.ok("CreateNetwork", create_network())
    await world.ok("CreateEndpoint", {**create_endpoint(), "Interface": None})
    words = [
        (await world.refused("ProgramExternalConnectivity", publish(one)))[1].partition(": ")[0]
        for one in (
            (8080, 80),
            binding(53, proto=UDP),
            binding(80, 8080, 8089, ip="127.0.0.1"),
            binding(9, 99, proto=SCTP, ip="::1"),
        )
    ]

    assert words == [
        "cannot publish 8080:80/tcp",
        "cannot publish :53/udp",
        "cannot publish 127.0.0.1:8080-8089:80/tcp",
        "cannot publish [::1]:99:9/sctp",
    ]


async def test_what_cannot_be_published_is_told_by_status(world: World) -> None:
    """400 where the request must change, 409 where somebody else has it; 404 would be no method for Docker."""
    await world.with_endpoint()
    world.kernel.taken_ports.add(a_socket(ANY4, 8080))

    refusals = [
        await world.refused("ProgramExternalConnectivity", publish(one))
        for one in (binding(80, 8081, 8080), (8080, 80), binding(80, 8080, 8080), binding(80, 8080, proto=99))
    ]

    assert [status for status, _ in refusals] == [400, 409, 409, 400]


async def test_whether_it_may_carry_is_read_from_the_engine_s_private_option(world: World) -> None:
    await world.with_endpoint()

    await world.ok("ProgramExternalConnectivity", publish((8080, 80), carried=False))

    [endpoint] = world.store.promises.endpoints.values()
    assert [one.carried for one in endpoint.ports] == [False]
    for value in ("true", 1, None):
        body = publish((8080, 80))
        body["Options"][NO_PROXY] = value
        status, words = await world.refused("ProgramExternalConnectivity", body)
        assert (status, NO_PROXY in words) == (400, True)


@pytest.mark.parametrize(
    "path",
    ["/NetworkDriver.Nonsense", "/", "", "/networkdriver.join", "/NetworkDriver.Join/", "/NetworkDriver.Join?x=1"],
)
async def test_an_unknown_method_is_404(world: World, path: str) -> None:
    answer = await world.routes.answer(path, b"{}")

    words = f"mdnp has no method {path.removeprefix('/')}"
    assert (answer.status, json.loads(answer.body)) == (404, {"Err": words, "Error": words})


async def test_a_path_that_is_no_text_is_404(world: World) -> None:
    """As it comes from bytes that are no UTF-8."""
    answer = await world.routes.answer("/NetworkDriver.\udcff", b"{}")

    assert (answer.status, set(json.loads(answer.body))) == (404, {"Err", "Error"})


async def test_a_defect_is_answered_and_the_next_call_is_served() -> None:
    async def broken(_body: object) -> dict[str, Any]:
        raise ZeroDivisionError

    async def sound(_body: object) -> dict[str, Any]:
        return {"well": True}

    routes = Routes({"NetworkDriver": {"Broken": Verb(None, broken), "Sound": Verb(None, sound)}}, lambda: None)

    answer = await routes.answer("/NetworkDriver.Broken", b"")
    after = await routes.answer("/NetworkDriver.Sound", b"")

    words = "NetworkDriver.Broken failed inside mdnp, which is a defect: its log has the details"
    assert (answer.status, json.loads(answer.body)) == (500, {"Err": words, "Error": words})
    assert (after.status, json.loads(after.body)) == (200, {"well": True})
