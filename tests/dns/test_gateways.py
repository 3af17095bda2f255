"""Servers of names at the addresses of gateways, under the whole data plane."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address

import dns.message
import dns.query
import pytest

from mdnp.dataplane import naming
from mdnp.dns import Answer, Kind, Question, Record, Scope, Scopes
from mdnp.dns.gateways import Gateways
from mdnp.dns.server import Server
from mdnp.kernel.signpost import Signposts
from mdnp.model.identity import NetworkID
from mdnp.model.network import IPAddress, Network
from mdnp.model.options import GatewayMode, Mode, NetworkOptions
from mdnp.model.port import Protocol, Publication
from tests.dns.plain import KNOWN, Plain, ask
from tests.overlay.fabric import Fabric, Host, Namespace, asks, eventually, fabric, listening
from tests.overlays import an_overlay
from tests.world import a_port

pytestmark = pytest.mark.root

GATEWAYS = {4: "10.50.0.1", 6: "fd50::1"}
KINDS = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
SILENCE_S = 0.3
SOON_S = 0.05


@dataclass(frozen=True)
class Names:
    known: Mapping[str, Answer]

    def find(self, question: Question) -> Answer | None:
        return self.known.get(question.name)


def everybody(_network: NetworkID) -> Scopes:
    return lambda _address: KNOWN


@pytest.fixture
async def lab() -> AsyncIterator[Fabric]:
    """A host with a network of a segment, and a container on it."""
    async with fabric(hosts=1) as made:
        [host] = made.hosts
        await made.join(host)
        await made.start(host, 10)
        yield made


@asynccontextmanager
async def serving(host: Host, gateways: Gateways) -> AsyncIterator[Gateways]:
    """In the host's namespace, until all that is wanted is there."""
    with host.namespace.inside():
        task = asyncio.create_task(gateways.run())
        gateways.want(host.networks)
        try:
            await eventually(lambda: all(not one.trouble for one in gateways.standing))
            yield gateways
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def made_for(scopes_of: object = everybody) -> Gateways:
    return Gateways(scopes_of, Plain, Signposts(), SOON_S)  # type: ignore[arg-type]  # a callable


async def asked(who: Namespace, address: str, kind: socket.SocketKind, limit_s: float = 5.0) -> str:
    return await ask(who.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind), address, limit_s=limit_s)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_container_asks_at_its_gateway_and_is_known_by_its_address(
    lab: Fabric, version: int, kind: socket.SocketKind
) -> None:
    [host] = lab.hosts
    [container] = host.containers
    async with serving(host, made_for()) as gateways:
        said = await asked(container.namespace, GATEWAYS[version], kind)

        assert said == str(container.address(version))
        assert [one.name for one in gateways.standing] == [
            f"{one} on {naming.bridge(host.network)}" for one in GATEWAYS.values()
        ]
        await host.in_sync()


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_asks_from_elsewhere(lab: Fabric, kind: socket.SocketKind) -> None:
    [host] = lab.hosts
    outside = lab.outside()
    outside.run("ip route add 10.50.0.0/16 via 192.0.2.1")
    async with serving(host, made_for()):
        assert await asked(outside, GATEWAYS[4], kind, SILENCE_S) == ""
        assert await asked(host.namespace, GATEWAYS[4], kind, SILENCE_S) == ""


@pytest.mark.parametrize("version", [4, 6])
async def test_names_are_answered_there_by_datagrams_and_by_streams(lab: Fabric, version: int) -> None:
    [host] = lab.hosts
    [container] = host.containers
    record = Record("web.blue", Kind.A, ip_address("10.50.1.9"))
    scope = Scope(Names({"web.blue": Answer((record,))}), None)
    question = dns.message.make_query("web.blue", "A")
    async with serving(host, Gateways(lambda _: lambda _: scope, Server, Signposts(), SOON_S)) as gateways:
        for query in (dns.query.udp, dns.query.tcp):
            with container.namespace.inside():  # where its thread begins
                loop = asyncio.get_running_loop()
                with ThreadPoolExecutor(1) as thread:
                    said = await loop.run_in_executor(thread, partial(query, question, GATEWAYS[version], timeout=5))
            assert [str(one) for rrset in said.answer for one in rrset] == ["10.50.1.9"]
        assert gateways.served.zone == 2


async def test_whose_names_nobody_may_know_is_not_answered(lab: Fabric) -> None:
    [host] = lab.hosts
    [container] = host.containers
    seen: list[tuple[NetworkID, IPAddress]] = []

    def nobody(network: NetworkID) -> Scopes:
        def scope(address: IPAddress) -> Scope | None:
            seen.append((network, address))
            return None

        return scope

    async with serving(host, made_for(nobody)) as gateways:
        assert await asked(container.namespace, GATEWAYS[4], socket.SOCK_DGRAM, SILENCE_S) == ""
        assert seen == [(host.network.id, ip_address("10.50.1.10"))]
        assert gateways.served.dropped == 1


async def test_whoever_has_port_53_of_the_host_has_it_still(lab: Fabric) -> None:
    [host] = lab.hosts
    [container] = host.containers
    async with serving(host, made_for()):
        for kind in KINDS:
            with host.namespace.socket(socket.AF_INET, kind) as other:
                other.bind(("0.0.0.0", 53))  # noqa: S104  # as a published port is bound
                assert await asked(container.namespace, GATEWAYS[4], kind) == "10.50.1.10"


async def test_a_published_port_53_leads_to_its_container_as_without_us(lab: Fabric) -> None:
    [host] = lab.hosts
    [container] = host.containers
    port = Publication(a_port(53, 53, 53, Protocol.UDP), 53)
    other = await lab.start(host, 11, port)
    async with serving(host, made_for()):
        with listening(other.namespace, other.address(4), 53) as listener:
            assert await asks(container.namespace, listener, ip_address(GATEWAYS[4]), port=53) == GATEWAYS[4]


async def test_each_host_answers_for_its_own_containers() -> None:
    async with fabric(hosts=2) as made:
        for host in made.hosts:
            await made.join(host)
            await made.start(host, 10)
        await made.tell()
        [here], [there] = (host.containers for host in made.hosts)
        async with serving(made.hosts[0], made_for()) as gateways:
            assert await asked(here.namespace, GATEWAYS[4], socket.SOCK_DGRAM) == "10.50.1.10"
            assert await asked(there.namespace, GATEWAYS[4], socket.SOCK_DGRAM, SILENCE_S) == ""
            assert gateways.served.zone + gateways.served.dropped == 1


async def test_a_bridge_that_was_made_anew_is_served_again(lab: Fabric) -> None:
    [host] = lab.hosts
    [container] = host.containers
    async with serving(host, made_for()) as gateways:
        before = gateways.standing
        host.namespace.run(f"ip link del {naming.bridge(host.network)}")
        await eventually(lambda: any(one.trouble for one in gateways.standing))
        await host.reconciler.repair()
        await eventually(lambda: gateways.standing == before)
        assert await asked(container.namespace, GATEWAYS[4], socket.SOCK_DGRAM) == "10.50.1.10"


async def test_a_server_that_fails_is_begun_anew_and_what_it_did_is_not_forgotten(lab: Fabric) -> None:
    [host] = lab.hosts
    [container] = host.containers
    async with serving(host, made_for()) as gateways:
        assert await asked(container.namespace, GATEWAYS[4], socket.SOCK_DGRAM)
        one = container.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        await ask(one, GATEWAYS[4], data=b"end", limit_s=SOON_S)

        said = ""
        while not said:
            said = await asked(container.namespace, GATEWAYS[4], socket.SOCK_DGRAM, SILENCE_S)
        assert gateways.served.zone == 2


async def test_what_is_not_wanted_any_more_ends_and_nothing_is_left(lab: Fabric) -> None:
    [host] = lab.hosts
    [container] = host.containers
    async with serving(host, made_for()) as gateways:
        gateways.want([])
        await eventually(lambda: "mdnp-names" not in host.namespace.run("nft list tables"))
        assert await asked(container.namespace, GATEWAYS[4], socket.SOCK_DGRAM, SILENCE_S) == ""
        assert gateways.standing == ()
    assert "mdnp-names" not in host.namespace.run("nft list tables")
    assert ":53 " not in host.namespace.run("ss -Hlntu")


async def test_a_flushed_ruleset_takes_nothing_away(lab: Fabric) -> None:
    [host] = lab.hosts
    [container] = host.containers
    async with serving(host, made_for()):
        host.namespace.run("nft flush ruleset")
        await host.reconciler.repair()
        assert await asked(container.namespace, GATEWAYS[4], socket.SOCK_DGRAM) == "10.50.1.10"


def networks() -> dict[str, Network]:
    overlay = an_overlay()

    def having(**changes: object) -> Network:
        return replace(overlay, options=NetworkOptions(**{"mode": Mode.OVERLAY, **changes}))  # type: ignore[arg-type]

    return {
        "overlay": overlay,
        "overlay, off": having(dns=False),
        "bridge": having(mode=Mode.BRIDGE),
        "bridge, on": having(mode=Mode.BRIDGE, dns=True),
        "way out by Docker": having(gateway=GatewayMode.DOCKER),
        "no way out": having(gateway=GatewayMode.NONE),
        "internal": replace(overlay, internal=True),
        "no addresses": replace(overlay, subnets=()),
    }


def test_a_gateway_of_ours_on_a_network_with_names_is_served() -> None:
    served = {}
    for words, network in networks().items():
        gateways = made_for()
        gateways.want([network])
        served[words] = len(gateways.standing)

    assert served == {
        "overlay": 2,
        "overlay, off": 0,
        "bridge": 0,
        "bridge, on": 2,
        "way out by Docker": 2,
        "no way out": 0,
        "internal": 0,
        "no addresses": 0,
    }
