"""IpamDriver on the wire: bodies in, bodies out, and what is refused with which words."""

import json
from typing import Any

import pytest

from tests.ipam.house import GATEWAY, House, request_address, request_pool

POOL = "mdnp-local/10.1.0.0/24"
SUB = "mdnp-local/10.3.0.0/24/10.3.0.64/26"
SIX = "mdnp-local/fd00:1::/64"

EXAMPLES: dict[str, dict[str, Any]] = {
    "RequestPool": request_pool("10.1.0.0/24"),
    "ReleasePool": {"PoolID": POOL},
    "RequestAddress": request_address(POOL),
    "ReleaseAddress": {"PoolID": POOL, "Address": "10.1.0.2"},
}


async def filled(house: House) -> House:
    """With the three pools above, a gateway and an endpoint on the first."""
    assert [await house.pool(), await house.pool("10.3.0.0/24", "10.3.0.64/26"), await house.pool("fd00:1::/64")] == [
        POOL,
        SUB,
        SIX,
    ]
    await house.gateway(POOL)
    await house.address(POOL, name="web")
    return house


async def test_activation_says_that_addresses_are_served(house: House) -> None:
    answer = await house.routes.answer("/Plugin.Activate", b"")

    assert (answer.status, json.loads(answer.body)) == (200, {"Implements": ["IpamDriver", "NetworkDriver"]})


async def test_nothing_needs_to_be_replayed_and_no_mac_is_asked_for(house: House) -> None:
    assert await house.ok("GetCapabilities") == {"RequiresMACAddress": False, "RequiresRequestReplay": False}


async def test_the_address_spaces_differ(house: House) -> None:
    """Docker does not look for overlaps with the host in the global one."""
    assert await house.ok("GetDefaultAddressSpaces") == {
        "LocalDefaultAddressSpace": "mdnp-local",
        "GlobalDefaultAddressSpace": "mdnp-global",
    }


async def test_a_pool_is_answered_as_docker_reads_it(house: House) -> None:
    reply = await house.ok("RequestPool", request_pool("10.1.0.0/24", options={}))

    assert reply == {"PoolID": POOL, "Pool": "10.1.0.0/24", "Data": {}}


async def test_a_pool_with_a_sub_pool_is_answered_whole(house: House) -> None:
    reply = await house.ok("RequestPool", request_pool("10.3.0.0/24", "10.3.0.64/26"))

    assert reply == {"PoolID": SUB, "Pool": "10.3.0.0/24", "Data": {}}


async def test_an_ipv6_pool_is_answered_in_its_short_form(house: House) -> None:
    reply = await house.ok("RequestPool", request_pool("FD00:0001:0:0::/64", v6=True))

    assert reply == {"PoolID": SIX, "Pool": "fd00:1::/64", "Data": {}}


async def test_an_ipv6_pool_is_taken_though_v6_is_not_set(house: House) -> None:
    """Swarm never sets it."""
    assert await house.pool("fd00:1::/64", v6=False) == SIX


async def test_an_automatic_pool_needs_nothing_but_a_body(house: House) -> None:
    reply = await house.ok("RequestPool", {})

    assert reply == {"PoolID": "mdnp-local/10.0.0.0/18", "Pool": "10.0.0.0/18", "Data": {}}


async def test_the_address_space_is_a_part_of_what_a_pool_is(house: House) -> None:
    reply = await house.ok("RequestPool", request_pool("10.1.0.0/24", space="mdnp-global"))

    assert reply["PoolID"] == "mdnp-global/10.1.0.0/24"


async def test_an_address_is_answered_with_the_pool_s_prefix_length(house: House) -> None:
    await filled(house)

    assert await house.ok("RequestAddress", request_address(POOL)) == {"Address": "10.1.0.3/24", "Data": {}}
    assert await house.ok("RequestAddress", request_address(SUB)) == {"Address": "10.3.0.64/24", "Data": {}}
    assert await house.ok("RequestAddress", request_address(SIX)) == {"Address": "fd00:1::1/64", "Data": {}}


async def test_releases_are_answered_with_nothing(house: House) -> None:
    await filled(house)

    assert await house.ok("ReleaseAddress", {"PoolID": POOL, "Address": "10.1.0.2"}) == {}
    assert await house.ok("ReleasePool", {"PoolID": POOL}) == {}


async def test_the_engine_s_own_pool_options_pass(house: House) -> None:
    options = {"com.docker.network.ipam.serial": "true"}

    assert (await house.ok("RequestPool", request_pool("10.1.0.0/24", options=options)))["PoolID"] == POOL


async def test_the_options_of_swarm_s_manager_pass_with_an_address(house: House) -> None:
    await house.pool()
    options = {**GATEWAY, "com.docker.network.ipam.serial": "true"}

    assert (await house.ok("RequestAddress", request_address(POOL, "", options)))["Address"] == "10.1.0.1/24"


@pytest.mark.parametrize("verb", sorted(EXAMPLES))
async def test_a_retry_whose_body_was_consumed_is_refused(house: House, verb: str) -> None:
    await filled(house)

    assert await house.refused(verb, b"") == (
        400,
        f"IpamDriver.{verb} came without a body: the connection broke in the call before; try again",
    )


@pytest.mark.parametrize("verb", sorted(EXAMPLES))
@pytest.mark.parametrize(
    "body", [b"{", b"null", b"[]", b"7", b'"', b"\xff", b'{"PoolID": 7, "Pool": 7}', b"[" * 100_000]
)
async def test_a_body_that_is_no_such_message_is_refused(house: House, verb: str, body: bytes) -> None:
    await filled(house)

    status, text = await house.refused(verb, body)

    assert (status, text.partition(":")[0]) == (400, f"IpamDriver.{verb}")


@pytest.mark.parametrize("verb", sorted(EXAMPLES))
async def test_fields_of_a_newer_engine_are_ignored(house: House, verb: str) -> None:
    await filled(house)

    await house.ok(verb, {**EXAMPLES[verb], "NewField": {"of": ["any", "kind"]}})


async def test_an_unknown_verb_is_none_of_ours(house: House) -> None:
    assert await house.refused("RequestGarden", {}) == (404, "mdnp has no method IpamDriver.RequestGarden")


# The values that the daemon refuses: what was asked, the value in its words, and the rule.
BAD_POOLS = [
    (request_pool("10.5.0.7/24"), "Pool 10.5.0.7/24: host bits are set; the network is 10.5.0.0/24"),
    (request_pool("fd00:5::1/64"), "Pool fd00:5::1/64: host bits are set; the network is fd00:5::/64"),
    (
        request_pool("10.5.0.0/24", "10.6.0.0/28"),
        "SubPool 10.6.0.0/28: not inside the pool 10.5.0.0/24",
    ),
    (request_pool("10.5.0.0/24", "10.5.0.0/16"), "SubPool 10.5.0.0/16: not inside the pool 10.5.0.0/24"),
    (request_pool("10.5.0.0/24", "10.4.0.0/14"), "SubPool 10.4.0.0/14: not inside the pool 10.5.0.0/24"),
    (request_pool("10.5.0.0/24", "fd00:5::/64"), "SubPool fd00:5::/64: not inside the pool 10.5.0.0/24"),
    (
        request_pool("10.5.0.0/24", "10.5.0.9/28"),
        "SubPool 10.5.0.9/28: host bits are set; the network is 10.5.0.0/28",
    ),
    (
        request_pool("10.5.0.0/24", "10.5.0.0/32"),
        "SubPool 10.5.0.0/32: only what 10.5.0.0/24 keeps back; make it larger",
    ),
    (request_pool("", "10.5.0.0/28"), "SubPool 10.5.0.0/28: a part of which pool? give --subnet with --ip-range"),
    (
        request_pool("10.5.0.0/24", v6=True),
        "Pool 10.5.0.0/24: an IPv4 pool, and V6 is set; give an IPv6 one as fd00:1::/64",
    ),
    (request_pool("0.0.0.0/0"), "Pool 0.0.0.0/0: stands for no network, or for any; give one as 10.1.0.0/24"),
    (request_pool("::/0", v6=True), "Pool ::/0: stands for no network, or for any; give one as 10.1.0.0/24"),
    *(
        (request_pool(text), f"Pool {text!r}: expected a network as 10.1.0.0/24 or fd00:1::/64")
        for text in [
            "garbage",
            "10.5.0.0",
            "10.5.0.0/33",
            "10.5.0.0/255.255.255.0",
            "10.05.0.0/24",
            "10.5.0.0/",
            "/24",
            "10.5.0.0/24 ",
            "10.5.0.0/24\n",
            "fe80::%eth0/64",
            "fd00:5::/129",
            "\u0661\u0660.5.0.0/24",
        ]
    ),
    (request_pool("10.5.0.0/24", "garbage"), "SubPool 'garbage': expected a network as 10.1.0.0/24 or fd00:1::/64"),
    (
        request_pool("10.5.0.0/24", options={"mdnp.sise": "3"}),
        "unknown option mdnp.sise: mdnp's IPAM has none; leave --ipam-opt out",
    ),
]


@pytest.mark.parametrize(("body", "words"), BAD_POOLS)
async def test_a_pool_that_cannot_be_is_refused_with_the_value_and_the_rule(
    house: House, body: dict[str, Any], words: str
) -> None:
    await filled(house)

    assert await house.refused("RequestPool", body) == (400, words)


BAD_ADDRESSES = [
    (POOL, "10.2.0.9", (400, "Address 10.2.0.9: not in the pool 10.1.0.0/24")),
    (POOL, "10.1.1.0", (400, "Address 10.1.1.0: not in the pool 10.1.0.0/24")),
    (POOL, "10.1.0.1", (409, "address 10.1.0.1: held already, by the gateway; choose another")),
    (POOL, "10.1.0.2", (409, "address 10.1.0.2: held already, by the endpoint web; choose another")),
    (POOL, "10.1.0.0", (400, "Address 10.1.0.0: the network address of 10.1.0.0/24 is nobody's; choose another")),
    (POOL, "10.1.0.255", (400, "Address 10.1.0.255: the broadcast address of 10.1.0.0/24 is nobody's; choose another")),
    (POOL, "fd00:1::9", (400, "Address fd00:1::9: an IPv6 address, and the pool 10.1.0.0/24 is IPv4")),
    (SIX, "10.1.0.9", (400, "Address 10.1.0.9: an IPv4 address, and the pool fd00:1::/64 is IPv6")),
    (
        SIX,
        "fd00:1::",
        (400, "Address fd00:1::: the subnet-router anycast address of fd00:1::/64 is nobody's; choose another"),
    ),
    *(
        (POOL, text, (400, f"Address {text!r}: expected an address alone, as 10.1.0.1"))
        for text in ["garbage", "10.1.0.9/24", "10.1.0.256", "10.1.0.09", " 10.1.0.9", "10.1.0.9\n", "1"]
    ),
    (SIX, "fd00:1::9%eth0", (400, "Address 'fd00:1::9%eth0': expected an address alone, as fd00:1::1")),
]


@pytest.mark.parametrize("options", [None, GATEWAY], ids=["endpoint", "gateway"])
@pytest.mark.parametrize(("pool", "address", "refusal"), BAD_ADDRESSES)
async def test_an_address_that_cannot_be_is_refused_with_the_value_and_the_rule(
    house: House, pool: str, address: str, refusal: tuple[int, str], options: dict[str, str] | None
) -> None:
    await filled(house)

    assert await house.refused("RequestAddress", request_address(pool, address, options)) == refusal


@pytest.mark.parametrize("address", ["", "10.1.0.9"])
@pytest.mark.parametrize("options", [None, GATEWAY], ids=["endpoint", "gateway"])
@pytest.mark.parametrize("pool", ["", "mdnp-local/10.9.0.0/24", "mdnp-global/10.1.0.0/24", "garbage", "é" * 500])
async def test_an_unknown_pool_is_refused_with_what_to_do(
    house: House, pool: str, options: dict[str, str] | None, address: str
) -> None:
    await filled(house)

    status, text = await house.refused("RequestAddress", request_address(pool, address, options))

    assert status == 400
    assert text == (
        f"pool {pool[:80]} is not known to mdnp (was its state folder replaced?): remove the network from Docker and"
        " create it again"
    )


async def test_what_cannot_be_released_is_refused_with_the_value_and_the_rule(house: House) -> None:
    await filled(house)
    bodies = [
        {"PoolID": POOL, "Address": text}
        for text in ("", "garbage", "10.1.0.2/24", "10.2.0.9", "fd00:1::1", "10.1.1.0")
    ]

    refusals = [await house.refused("ReleaseAddress", body) for body in bodies]

    assert refusals == [
        (400, "Address '': expected an address alone, as 10.1.0.1"),
        (400, "Address 'garbage': expected an address alone, as 10.1.0.1"),
        (400, "Address '10.1.0.2/24': expected an address alone, as 10.1.0.1"),
        (400, "Address 10.2.0.9: not in the pool 10.1.0.0/24"),
        (400, "Address fd00:1::1: an IPv6 address, and the pool 10.1.0.0/24 is IPv4"),
        (400, "Address 10.1.1.0: not in the pool 10.1.0.0/24"),
    ]


async def test_what_is_not_held_is_released_already(house: House) -> None:
    """Docker repeats no release, and shows its errors to nobody."""
    await filled(house)
    before = house.state

    await house.release(POOL, "10.1.0.9")
    await house.release(POOL, "10.1.0.0")
    await house.release("mdnp-local/10.9.0.0/24", "10.9.0.9")
    await house.release("mdnp-local/10.9.0.0/24", "garbage")
    await house.release_pool("mdnp-local/10.9.0.0/24")
    await house.release_pool("")

    assert house.state == before


async def test_a_name_that_no_disk_can_keep_is_refused(house: House) -> None:
    await filled(house)

    status, _ = await house.refused(
        "RequestAddress",
        b'{"PoolID": "%s", "Options": {"com.docker.network.endpoint.name": "\\ud800"}}' % POOL.encode(),
    )

    assert status == 400
