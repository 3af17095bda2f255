"""A packet of a container on an annex is followed over the bridges of its network, by the real kernel's word."""

import os
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from mdnp.dataplane import naming
from mdnp.model.network import IPAddress
from mdnp.trace.events import parse
from mdnp.trace.facts import Answer, Container, Facts, Host, Interface, Kind, Way
from mdnp.trace.flow import Flow, table_of
from mdnp.trace.target import Asked
from mdnp.trace.tracer import host_end
from mdnp.trace.walk import walk
from mdnp.trace.watch import watch
from tests.annexes.crowd import Crowd, crowd

pytestmark = pytest.mark.root

SOURCE_PORT, PORT = 4000, 5000
OUTSIDE = ip_address("192.0.2.2")


@pytest.fixture(params=["0", "1"], ids=["bridges-unfiltered", "bridges-filtered"])
async def full(request: pytest.FixtureRequest) -> AsyncIterator[Crowd]:
    async with crowd() as made:
        made.filter_bridges(request.param)
        await made.network()
        await made.start(*range(2, 9))
        yield made


def traced(full: Crowd, number: int, to: IPAddress) -> Facts:
    """What a datagram of a container's met."""
    one = full.containers[number]
    end = naming.host_end(one.identity)
    with full.host.inside():
        with (
            watch(Flow(one.address(4), to, Asked.UDP, SOURCE_PORT, PORT, end, to)) as heard,
            one.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
        ):
            asking.bind(("", SOURCE_PORT))
            asking.sendto(b"?", (str(to), PORT))
            text = heard.read()
        return Facts(
            str(to),
            PORT,
            Asked.UDP,
            Container("web", "mynet", Interface("eth0", True, True, 1500), Way("eth0", "", str(one.address(4)))),
            host_end(end),
            Host(
                Way("eth0"),
                containers={naming.host_end(each.identity): f"c{each.number}" for each in full.containers.values()}
                | {str(each.address(4)): f"c{each.number}" for each in full.containers.values()},
            ),
            Answer(Kind.SILENCE),
            journeys=tuple(parse(text, table_of(os.getpid()), SOURCE_PORT)),
            hooks=heard.hooks,
        )


def told(facts: Facts) -> list[str]:
    """The places, without the chains that packets pass."""
    hops = walk(facts).hops
    return [f"{hop.kind} {hop.place}" for hop in hops if hop.kind in ("veth", "annex", "bridge", "route", "out")]


def end_of(full: Crowd, number: int) -> str:
    return f"veth {naming.host_end(full.containers[number].identity)}"


async def test_a_trace_goes_on_over_the_bridges_of_a_network(full: Crowd) -> None:
    own, annex = "bridge mdb-a1a1a1a1a1a", "annex mdb-a1a1a1a1-1"
    start = [end_of(full, 5), annex, own]

    ways = {number: told(traced(full, 5, full.containers[number].address(4))) for number in (2, 6, 8)}

    assert ways == {number: [*start, end_of(full, number)] for number in ways}
    assert told(traced(full, 2, full.containers[8].address(4))) == [end_of(full, 2), own, end_of(full, 8)]
    assert told(traced(full, 5, OUTSIDE)) == [*start, "route route of the host", "out eth0"]


async def test_a_trace_names_a_rule_that_drops_on_the_own_bridge_what_an_annex_sent(full: Crowd) -> None:
    full.host.run(
        "nft 'table bridge other { chain forward { type filter hook forward priority 0;"
        ' iifname "mdu-*" udp dport 5000 drop; }; }\''
    )

    walked = walk(traced(full, 5, full.containers[2].address(4)))

    assert walked.hops[-1].place == "bridge other forward"
    assert walked.hops[-1].dies


async def test_a_trace_sees_an_annex_that_is_joined_to_nothing(full: Crowd) -> None:
    full.host.run("ip link set mdu-a1a1a1a1-1 down")

    last = walk(traced(full, 5, OUTSIDE)).hops[-1]

    assert (last.place, last.what) == ("mdb-a1a1a1a1-1", "it is joined to no other bridge: its joint is down or gone")
