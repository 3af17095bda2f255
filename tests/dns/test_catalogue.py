"""What of promises, of Docker's word and of other hosts' stands in the zones, and who may ask which."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest

from mdnp.dns import Answer, Finder, Kind, Question, Target
from mdnp.dns.catalogue import Catalogue
from mdnp.member import Alone
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.host import HostID
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.mac import MAC
from mdnp.model.names import Called, Names
from mdnp.model.network import IPAddress, Network
from mdnp.model.options import Mode, NetworkOptions
from mdnp.model.port import Protocol, Publication
from mdnp.model.segment import RemoteEndpoint, RemoteID, SegmentID
from mdnp.store import Drop, Put
from mdnp.store.sqlite import SqliteStore
from tests.world import DB, NET, OTHER_NET, SANDBOX, WEB, a_network, a_port, an_endpoint, quick_folder

Record = Network | Endpoint | Called

NXDOMAIN = Answer(exists=False)
OVERLAY = NetworkOptions(mode=Mode.OVERLAY)
BLUE = a_network(NET, "10.50.0.0/16", options=OVERLAY)
RED = a_network(OTHER_NET, "10.60.0.0/16", options=OVERLAY)
ELSEWHERE = f"{SANDBOX}x"


class Others(Alone):
    """What other hosts tell, as tests say."""

    def __init__(self) -> None:
        self.remotes: dict[RemoteID, RemoteEndpoint] = {}

    def remotes_of(self, segment: SegmentID) -> Sequence[RemoteEndpoint]:
        return [one for one in self.remotes.values() if one.segment == segment]


class House:
    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.others = Others()
        self.catalogue = Catalogue(store, self.others)

    async def keep(self, *records: Record) -> None:
        await self.store.commit(*(Put(one) for one in records))
        self.catalogue.refresh()

    async def lose(self, *records: Record) -> None:
        await self.store.commit(*(Drop(one) for one in records))
        self.catalogue.refresh()

    def tell(self, *remotes: RemoteEndpoint) -> None:
        self.others.remotes |= {one.id: one for one in remotes}
        self.catalogue.follow([one.id for one in remotes])

    def withdraw(self, *remotes: RemoteEndpoint) -> None:
        for one in remotes:
            del self.others.remotes[one.id]
        self.catalogue.follow([one.id for one in remotes])

    def ask(self, name: str, kind: Kind = Kind.A, sandbox: str = SANDBOX) -> Answer | None:
        return self.catalogue.of_sandbox(sandbox).find(Question(name, kind))

    def told(self, name: str, kind: Kind = Kind.A, sandbox: str = SANDBOX) -> list[str]:
        answer = self.ask(name, kind, sandbox)
        return sorted(str(one.data) for one in answer.records) if answer else []


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """With a container that asks: on blue, not called anything yet."""
    with quick_folder() as folder:
        store = await SqliteStore.open(folder)
        try:
            made = House(store)
            await made.keep(BLUE, called(NET, "blue"), joined(WEB, "10.50.0.2/16"))
            yield made
        finally:
            await store.close()


def called(identity: str, name: str, *aliases: str) -> Called:
    return Called(identity, Names(name, aliases))


def joined(identity: str, address: str, network: str = NET, sandbox: str = SANDBOX) -> Endpoint:
    return an_endpoint(identity, address, network=network, phase=Phase.JOINED, sandbox=sandbox)


def a_remote(
    name: str | None,
    address: str,
    network: str = "10.50.0.0/16",
    end: str = "e1",
    ports: tuple[tuple[Protocol, int], ...] = (),
) -> RemoteEndpoint:
    addresses: tuple[IPAddress, ...] = (ip_address(address),)
    return RemoteEndpoint(
        id=RemoteID(f"{network.replace('/', '_')}/h2/{end}"),
        segment=SegmentID(network),
        host=HostID("h2"),
        vtep=ip_address("192.0.2.2"),
        mac=MAC("02:6d:0a:32:01:02"),
        addresses=addresses,
        names=None if name is None else Names(name),
        ports=ports,
    )


def asked(finder: Finder | None, name: str) -> Answer | None:
    assert finder
    return finder.find(Question(name, Kind.A))


# This host.


async def test_a_container_is_found_when_docker_told_its_names(house: House) -> None:
    assert house.ask("web.blue") is None  # Docker may know it already
    await house.keep(called(WEB, "web", "front"))
    for name in ("web", "front", "web.blue"):
        assert house.told(name) == ["10.50.0.2"]
        answer = house.ask(name)
        assert answer
        assert answer.left
    assert house.told("web.blue.mdnp") == ["10.50.0.2"]


async def test_a_rename_takes_the_old_name_away(house: House) -> None:
    await house.keep(called(WEB, "web"))
    await house.keep(called(WEB, "new"))
    assert house.ask("web.blue") is None
    assert house.told("new.blue") == ["10.50.0.2"]


async def test_a_container_that_is_not_joined_is_found_by_its_name_only_if_it_is_known(house: House) -> None:
    await house.keep(an_endpoint(DB, "10.50.0.3/16"))
    assert house.ask("3.0.50.10.in-addr.arpa", Kind.PTR) == NXDOMAIN
    await house.keep(called(DB, "db"))
    assert house.told("db") == ["10.50.0.3"]


async def test_one_that_left_or_is_gone_is_not_found(house: House) -> None:
    await house.keep(joined(DB, "10.50.0.3/16", sandbox=ELSEWHERE), called(DB, "db"))
    await house.keep(an_endpoint(DB, "10.50.0.3/16", phase=Phase.LEFT))
    assert house.ask("db.blue") is None
    await house.keep(joined(DB, "10.50.0.3/16", sandbox=ELSEWHERE))
    assert house.told("db") == ["10.50.0.3"]
    await house.lose(an_endpoint(DB))
    assert house.ask("db") is None
    assert house.ask("3.0.50.10.in-addr.arpa", Kind.PTR) == NXDOMAIN
    assert list(house.catalogue.sandboxes()) == [SANDBOX]


async def test_published_ports_are_those_of_the_container(house: House) -> None:
    ports = [Publication(a_port(80), 32768), Publication(a_port(80, address="127.0.0.1"), 32769)]
    endpoint = an_endpoint(WEB, "10.50.0.2/16", phase=Phase.JOINED, sandbox=SANDBOX, ports=ports)
    await house.keep(endpoint, called(WEB, "web"))
    answer = house.ask("_tcp.web", Kind.SRV)
    assert answer
    assert [one.data for one in answer.records] == [Target("web.blue.mdnp", 80)]


async def test_names_alone_are_found_until_docker_told_the_networks_name(house: House) -> None:
    await house.lose(called(NET, ""))
    await house.keep(called(WEB, "web"))
    assert house.told("web") == ["10.50.0.2"]
    assert house.ask("web.blue") is None
    await house.keep(called(NET, "blue"))
    assert house.told("web.blue") == ["10.50.0.2"]


async def test_a_bridge_has_names_where_it_is_asked_to(house: House) -> None:
    bridge = a_network(OTHER_NET, "10.60.0.0/16", options=NetworkOptions(dns=True))
    await house.keep(bridge, called(OTHER_NET, "red"), joined(DB, "10.60.0.3/16", OTHER_NET), called(DB, "db"))
    house.tell(a_remote("far", "10.60.1.2", "10.60.0.0/16"))
    assert house.told("db.red") == ["10.60.0.3"]
    assert house.ask("far.red") is None
    plain = replace(bridge, options=NetworkOptions())
    await house.keep(plain)
    assert house.ask("db.red") is None


async def test_an_overlay_without_names_has_none(house: House) -> None:
    await house.keep(
        replace(RED, options=NetworkOptions(mode=Mode.OVERLAY, dns=False)), joined(DB, "10.60.0.3/16", OTHER_NET)
    )
    await house.keep(called(OTHER_NET, "red"), called(DB, "db"))
    house.tell(a_remote("far", "10.60.1.2", "10.60.0.0/16"))
    assert house.ask("db") is house.ask("far") is None
    assert house.catalogue.sandboxes() == {SANDBOX: {WEB: NET}}


# Other hosts.


async def test_containers_of_other_hosts_come_change_and_go(house: House) -> None:
    house.tell(a_remote("far", "10.50.1.2", ports=((Protocol.TCP, 80),)))
    assert house.told("far.blue") == ["10.50.1.2"]
    assert house.told("2.1.50.10.in-addr.arpa", Kind.PTR) == ["far.blue"]
    assert house.told("_80._tcp.far", Kind.SRV) == [str(Target("far.blue.mdnp", 80))]
    house.tell(a_remote("moved", "10.50.1.2"))
    assert house.ask("far") is None
    assert house.told("moved") == ["10.50.1.2"]
    house.tell(a_remote(None, "10.50.1.2"))
    assert house.ask("moved") is None
    house.tell(a_remote("far", "10.50.1.2"))
    house.withdraw(a_remote("far", "10.50.1.2"))
    assert house.ask("far") is None


async def test_a_new_network_has_what_others_told_before(house: House) -> None:
    house.tell(a_remote("far", "10.60.1.2", "10.60.0.0/16"))
    await house.keep(RED, called(OTHER_NET, "red"), joined(DB, "10.60.0.3/16", OTHER_NET))
    assert house.told("far.red") == ["10.60.1.2"]
    await house.lose(an_endpoint(DB), RED)
    assert house.ask("far") is None
    house.withdraw(a_remote("far", "10.60.1.2", "10.60.0.0/16"))
    await house.keep(RED, joined(DB, "10.60.0.3/16", OTHER_NET))
    assert house.ask("far") is None


async def test_a_hosts_own_address_has_no_name(house: House) -> None:
    house.tell(a_remote("h2", "10.50.1.1", end="host"))
    assert house.ask("h2") is None


async def test_one_name_here_and_there_answers_with_both(house: House) -> None:
    await house.keep(called(WEB, "web"))
    house.tell(a_remote("web", "10.50.1.2"))
    answer = house.ask("web")
    assert answer
    assert not answer.left
    assert house.told("web") == ["10.50.0.2", "10.50.1.2"]


# Who asks.


async def test_a_network_that_a_sandbox_is_connected_to_is_asked_at_once(house: House) -> None:
    finder = house.catalogue.of_sandbox(SANDBOX)
    await house.keep(RED, called(OTHER_NET, "red"))
    house.tell(a_remote("far", "10.60.1.2", "10.60.0.0/16"))
    assert asked(finder, "far") is None
    assert asked(finder, "far.red.mdnp") == NXDOMAIN
    on_red = joined(DB, "10.60.0.3/16", OTHER_NET)
    await house.keep(on_red)
    for name in ("far", "far.red.mdnp"):
        answer = asked(finder, name)
        assert answer
        assert [str(one.data) for one in answer.records] == ["10.60.1.2"]
    assert house.catalogue.sandboxes() == {SANDBOX: {WEB: NET, DB: OTHER_NET}}
    await house.lose(on_red)
    assert asked(finder, "far") is None


async def test_who_asks_is_known_by_an_address(house: House) -> None:
    await house.keep(RED, called(OTHER_NET, "red"), joined(DB, "10.60.0.3/16", OTHER_NET))
    house.tell(a_remote("far", "10.60.1.2", "10.60.0.0/16"))
    of_address = house.catalogue.of_address
    answer = asked(of_address(NetworkID(NET), ip_address("10.50.0.2")), "far")
    assert answer
    assert [str(one.data) for one in answer.records] == ["10.60.1.2"]
    assert of_address(NetworkID(NET), ip_address("10.60.0.3")) is None
    assert of_address(NetworkID(NET), ip_address("10.50.0.9")) is None


async def test_an_address_is_that_of_who_has_it_now(house: House) -> None:
    taken = "10.50.0.2/16"
    left = an_endpoint(WEB, taken, phase=Phase.LEFT, sandbox=SANDBOX)
    early = "0" * 64
    await house.keep(left, joined(early, taken, sandbox=ELSEWHERE))
    assert house.catalogue.of_address(NetworkID(NET), ip_address("10.50.0.2")) is not None
    await house.lose(replace(left, id=EndpointID(early)))
    assert house.catalogue.of_address(NetworkID(NET), ip_address("10.50.0.2")) is None


async def test_a_sandbox_on_none_of_ours_knows_nothing(house: House) -> None:
    await house.keep(called(WEB, "web"))
    assert house.told("web", sandbox=ELSEWHERE) == []


async def test_the_host_asks_everywhere_below_the_suffix(house: House) -> None:
    finder = house.catalogue.everywhere()
    await house.keep(called(WEB, "web"), RED, called(OTHER_NET, "red"))
    house.tell(a_remote("far", "10.60.1.2", "10.60.0.0/16"))
    for name, address in (("web.blue.mdnp", "10.50.0.2"), ("far.red.mdnp", "10.60.1.2")):
        answer = asked(finder, name)
        assert answer
        assert [str(one.data) for one in answer.records] == [address]
    assert asked(finder, "web") is asked(finder, "web.blue") is None


async def test_what_was_known_is_known_after_a_restart(house: House) -> None:
    await house.keep(called(WEB, "web"))
    house.tell(a_remote("far", "10.50.1.2"))
    anew = Catalogue(house.store, house.others)
    anew.refresh()
    for name in ("web", "far"):
        assert asked(anew.of_sandbox(SANDBOX), name) == asked(house.catalogue.of_sandbox(SANDBOX), name) is not None
