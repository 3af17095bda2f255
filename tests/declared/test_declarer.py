"""Networks on every host: what each host's Docker is told, and what the hosts tell each other of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mdnp.declared import LABEL, text_of
from mdnp.declared.declarer import Declarer
from mdnp.declared.plan import wanted
from mdnp.engine import ListedNetwork
from mdnp.member import DeclaredNetwork, DeclaredSubnet, KnownHost, Liveness
from mdnp.model.host import HostID
from mdnp.store.sqlite import SqliteStore
from tests.declared.registry import FakeMaker, FakeRegistry, Wall, a_host, as_listed
from tests.world import TestedStore, quick_folder

BLUE = DeclaredNetwork("blue", (DeclaredSubnet("10.50.0.0/16"),), {"mdnp.mode": "overlay"})
OTHER_BLUE = replace(BLUE, subnets=(DeclaredSubnet("10.51.0.0/16"),))


class Host:
    """Of the cluster, with its Docker; restarted, it has its state."""

    def __init__(self, wall: Wall, number: int, store: TestedStore) -> None:
        self.registry = FakeRegistry(wall, KnownHost(a_host(number), Liveness.ALIVE))
        self.docker = FakeMaker()
        self.store = store
        self.restart()

    def restart(self) -> None:
        self.declarer = Declarer(self.registry, self.docker, self.store, "mdnp")

    @property
    def id(self) -> HostID:
        return self.registry.standing().host

    @property
    def told(self) -> str | None:
        """Of blue, by this host."""
        return self.registry.outcomes("blue").get(self.id)


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def one(wall: Wall) -> AsyncIterator[Host]:
    with quick_folder() as folder:
        store = TestedStore(await SqliteStore.open(folder))
        yield Host(wall, 1, store)
        await store.close()


@pytest.fixture
async def two(wall: Wall) -> AsyncIterator[Host]:
    with quick_folder() as folder:
        store = TestedStore(await SqliteStore.open(folder))
        yield Host(wall, 2, store)
        await store.close()


async def made(*hosts: Host) -> None:
    """Blue is declared, and there on these hosts."""
    await hosts[0].registry.declare(BLUE)
    for host in hosts:
        await host.declarer.look()


async def test_what_is_declared_on_one_host_is_made_on_all_and_told(one: Host, two: Host) -> None:
    await made(one, two)

    assert one.docker.made == two.docker.made == [wanted(BLUE, "mdnp")]
    assert one.registry.outcomes("blue") == {one.id: "", two.id: ""}


async def test_what_is_withdrawn_is_removed_on_all_and_nothing_is_left_to_say(one: Host, two: Host) -> None:
    await made(one, two)

    await two.registry.undeclare("blue")
    for host in (one, two):
        await host.declarer.look()

    assert (one.docker.names, two.docker.names) == ([], [])
    assert one.registry.outcomes("blue") == {}


async def test_nothing_is_done_twice_by_a_daemon_that_was_restarted_neither(one: Host) -> None:
    await made(one)

    await one.declarer.look()
    one.restart()
    await one.declarer.look()

    assert (len(one.docker.made), one.docker.removed, one.told) == (1, [], "")


async def test_a_withdrawal_is_heard_by_a_host_that_was_down(one: Host) -> None:
    await made(one)
    await one.registry.undeclare("blue")

    one.restart()
    await one.declarer.look()

    assert (one.docker.names, one.told) == ([], None)


async def test_a_network_with_containers_stays_until_they_are_gone(one: Host) -> None:
    await made(one)
    one.docker.busy = {"blue"}
    await one.registry.undeclare("blue")
    await one.declarer.look()
    told = one.told

    one.docker.busy = set()
    await one.declarer.look()

    assert told == "not removed: error while removing network: network blue has active endpoints"
    assert (one.docker.names, one.told) == ([], None)


async def test_a_network_of_that_name_that_is_not_ours_is_left_alone_and_told(one: Host) -> None:
    one.docker.there["a" * 64] = ListedNetwork("a" * 64, "bridge", name="blue")

    await made(one)
    told = one.told
    await one.registry.undeclare("blue")
    await one.declarer.look()

    assert told == (
        "Docker has a network blue here already (aaaaaaaaaaaa, driver bridge) that was not made by `mdnp network"
        " create`: remove it with `docker network rm blue`, or choose another name"
    )
    assert (one.docker.names, one.docker.made, one.docker.removed) == (["blue"], [], [])
    assert one.told is None


async def test_docker_s_refusal_is_told_in_its_words_and_tried_again(one: Host) -> None:
    one.docker.refuses = "NetworkDriver.CreateNetwork: 10.50.0.0/16 overlaps a route"
    await made(one)
    told = one.told

    one.docker.refuses = ""
    await one.declarer.look()

    assert (told, one.told) == ("NetworkDriver.CreateNetwork: 10.50.0.0/16 overlaps a route", "")


async def test_an_engine_that_does_not_answer_takes_nothing_back(one: Host) -> None:
    await made(one)
    one.docker.away = True
    await one.registry.declare(replace(OTHER_BLUE, name="red"))

    await one.declarer.look()

    assert one.told == ""
    assert one.registry.outcomes("red") == {one.id: "Docker cannot be asked: it does not run"}


@pytest.mark.parametrize(
    "facts", [{"connected": False}, {"trouble": "another host has our identity"}, {"waiting": ("host2",)}]
)
async def test_while_it_is_not_known_what_is_declared_nothing_is_removed(one: Host, facts: dict[str, object]) -> None:
    await made(one)
    one.registry.facts = facts
    one.registry.wall.declared.clear()

    await one.declarer.look()

    assert one.docker.names == ["blue"]


async def test_what_etcd_lost_is_declared_anew_by_who_has_it(one: Host, two: Host) -> None:
    await made(one)
    one.registry.wall.lose()

    for host in (one, two, one):
        await host.declarer.look()

    assert (one.docker.names, one.docker.removed, two.docker.names) == (["blue"], [], ["blue"])
    assert one.registry.declared == {"blue": BLUE}
    assert one.registry.outcomes("blue") == {one.id: "", two.id: ""}


async def test_what_was_declared_anew_can_be_withdrawn(one: Host) -> None:
    await made(one)
    one.registry.wall.lose()
    await one.declarer.look()
    await one.declarer.look()

    await one.registry.undeclare("blue")
    await one.declarer.look()

    assert one.docker.names == []


async def test_what_was_declared_in_another_state_is_left_to_the_operator(
    one: Host, caplog: pytest.LogCaptureFixture
) -> None:
    one.docker.there["a" * 64] = as_listed(wanted(BLUE, "mdnp"), "a" * 64)

    await one.declarer.look()

    assert (one.docker.names, dict(one.registry.declared), one.told) == (["blue"], {}, None)
    assert "in a cluster or a state that is not this one: `docker network rm blue`" in caplog.text


async def test_a_host_that_was_away_takes_the_old_one_away_before_it_makes_the_new_one(one: Host, two: Host) -> None:
    await made(one, two)
    await one.registry.undeclare("blue")
    await one.declarer.look()
    await one.registry.declare(OTHER_BLUE)

    await two.declarer.look()

    assert two.docker.removed == ["blue"]
    assert [one.labels[LABEL] for one in two.docker.made] == [text_of(BLUE), text_of(OTHER_BLUE)]
    assert two.told == ""


@pytest.mark.parametrize(
    ("drivers", "driver"),
    [
        (["bridge", "mdnp"], "mdnp"),
        (["bridge", "mdnp:latest"], "mdnp:latest"),
        (["registry.example:5000/net/mdnp:2"], "registry.example:5000/net/mdnp:2"),
        (["mdnp:1", "mdnp:2", "xmdnp:1"], "mdnp"),
        (["mdnp:1", "mdnp"], "mdnp"),
    ],
)
async def test_the_driver_is_named_as_docker_knows_it(one: Host, drivers: list[str], driver: str) -> None:
    one.docker.plugins = drivers

    await made(one)

    assert [network.driver for network in one.docker.made] == [driver]


async def test_one_that_docker_has_twice_is_kept_once(one: Host) -> None:
    for identity in ("a" * 64, "b" * 64):
        one.docker.there[identity] = as_listed(wanted(BLUE, "mdnp"), identity)

    await made(one)

    assert list(one.docker.there) == ["a" * 64]


async def test_a_user_s_removal_is_mended_at_the_next_look(one: Host) -> None:
    await made(one)
    one.docker.there.clear()

    await one.declarer.look()

    assert one.docker.names == ["blue"]


async def test_a_full_disk_is_told_and_nothing_is_made_that_could_not_be_remembered(one: Host) -> None:
    one.store.full = True

    await made(one)

    assert one.docker.made == []
    assert one.told


async def test_it_runs_by_itself_when_woken(one: Host) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(one.declarer.run())
        await one.registry.declare(BLUE)
        one.declarer.wake()
        async with asyncio.timeout(10):
            await one.docker.has_made.wait()
        running.cancel()
