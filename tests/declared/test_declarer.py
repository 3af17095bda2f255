"""Networks on every host: what each host's Docker is told, and what the hosts tell each other of it."""

import asyncio
from dataclasses import replace

import pytest

from mdnp.cluster import ClusterUnavailable
from mdnp.declared import LABEL, Report, Withdrawn, mark
from mdnp.declared.declarer import Declarer
from mdnp.declared.plan import wanted
from mdnp.engine import ListedNetwork
from mdnp.model.declaration import Asked, Declaration, declare
from mdnp.model.errors import Conflict, NotFound
from mdnp.model.host import HostID
from tests.declared.board import FakeBoard, FakeMaker, Wall, listed

ONE, TWO = HostID("1" * 16), HostID("2" * 16)
BLUE = declare(Asked("blue", ["10.50.0.0/16"]))
OTHER_BLUE = declare(Asked("blue", ["10.51.0.0/16"]))
RED = declare(Asked("red", ["10.60.0.0/16", "fd60::/64"], internal=True))
DONE = Report(BLUE.digest)


class Host:
    """Of the cluster, with its Docker."""

    def __init__(self, wall: Wall, host: HostID) -> None:
        self.board = FakeBoard(wall, host)
        self.docker = FakeMaker()
        self.declarer = Declarer(self.board, self.docker, "mdnp", host)

    async def look_again(self) -> None:
        """As after the pause, or when something changed."""
        self.declarer = Declarer(self.board, self.docker, "mdnp", self.board.host)
        await self.declarer.look()


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def one(wall: Wall) -> Host:
    return Host(wall, ONE)


@pytest.fixture
def two(wall: Wall) -> Host:
    return Host(wall, TWO)


async def test_what_is_declared_on_one_host_is_made_on_all_and_told(one: Host, two: Host) -> None:
    await one.declarer.declare(BLUE)
    for host in (one, two):
        await host.declarer.look()

    assert one.docker.made == two.docker.made == [wanted(BLUE, "mdnp")]
    assert one.declarer.reports("blue") == {ONE: DONE, TWO: DONE}


async def test_a_host_that_joins_later_makes_it_too(wall: Wall, one: Host) -> None:
    await one.declarer.declare(BLUE)
    await one.declarer.look()
    late = Host(wall, TWO)

    await late.declarer.look()

    assert late.docker.names == ["blue"]
    assert one.declarer.reports("blue") == {ONE: DONE, TWO: DONE}


async def test_what_is_withdrawn_is_removed_on_all_and_told(one: Host, two: Host) -> None:
    await one.declarer.declare(BLUE)
    for host in (one, two):
        await host.declarer.look()

    await two.declarer.withdraw("blue")
    for host in (one, two):
        await host.declarer.look()

    gone = Report(mark(Withdrawn(BLUE.digest)))
    assert (one.docker.names, two.docker.names) == ([], [])
    assert one.declarer.reports("blue") == {ONE: gone, TWO: gone}


async def test_nothing_is_done_or_told_twice(one: Host) -> None:
    await one.declarer.declare(BLUE)
    await one.declarer.look()
    writes = one.board.writes

    await one.declarer.declare(BLUE)
    await one.declarer.look()
    await one.look_again()

    assert (len(one.docker.made), one.board.writes) == (1, writes)


async def test_a_network_with_containers_stays_until_they_are_gone(one: Host) -> None:
    await one.declarer.declare(BLUE)
    await one.declarer.look()
    one.docker.busy = {"blue"}
    await one.declarer.withdraw("blue")
    await one.declarer.look()
    told = one.declarer.reports("blue")[ONE]

    one.docker.busy = set()
    await one.look_again()

    assert told == Report(
        mark(Withdrawn(BLUE.digest)), "error while removing network: network blue has active endpoints"
    )
    assert one.declarer.reports("blue")[ONE].error == ""
    assert one.docker.names == []


async def test_a_network_of_that_name_that_is_not_ours_is_left_alone_and_told(one: Host) -> None:
    one.docker.there["a" * 64] = ListedNetwork("a" * 64, "bridge", name="blue")
    await one.declarer.declare(BLUE)
    await one.declarer.look()
    told = one.declarer.reports("blue")[ONE].error
    await one.declarer.withdraw("blue")
    await one.look_again()

    assert told == (
        "Docker has a network blue here already (aaaaaaaaaaaa, driver bridge) that was not made by `mdnp network"
        " create`: remove it with `docker network rm blue`, or choose another name"
    )
    assert (one.docker.names, one.docker.made, one.docker.removed) == (["blue"], [], [])
    assert one.declarer.reports("blue")[ONE].error == ""


async def test_docker_s_refusal_is_told_in_its_words_and_tried_again(one: Host) -> None:
    one.docker.refuses = "NetworkDriver.CreateNetwork: 10.50.0.0/16 overlaps a route"
    await one.declarer.declare(BLUE)
    await one.declarer.look()
    told = one.declarer.reports("blue")[ONE].error

    one.docker.refuses = ""
    await one.look_again()

    assert told == "NetworkDriver.CreateNetwork: 10.50.0.0/16 overlaps a route"
    assert one.declarer.reports("blue")[ONE] == DONE


async def test_an_engine_that_does_not_answer_takes_nothing_back(one: Host) -> None:
    await one.declarer.declare(BLUE)
    await one.declarer.look()
    one.docker.away = True
    await one.declarer.declare(RED)

    await one.declarer.look()

    assert one.declarer.reports("blue")[ONE] == DONE
    assert one.declarer.reports("red")[ONE] == Report(RED.digest, "Docker cannot be asked: it does not run")


async def test_cut_off_from_etcd_nothing_is_made_removed_or_declared(one: Host) -> None:
    await one.declarer.declare(BLUE)
    await one.declarer.look()
    one.board.connected = False
    one.board.wall.notices.clear()

    await one.look_again()

    assert (one.docker.names, one.docker.removed) == (["blue"], [])
    with pytest.raises(ClusterUnavailable):
        await one.declarer.declare(RED)


async def test_what_etcd_lost_is_declared_anew_by_who_has_it(one: Host, two: Host) -> None:
    await one.declarer.declare(BLUE)
    await one.declarer.look()
    one.board.wall.notices.clear()
    one.board.wall.reports.clear()

    await one.look_again()
    await one.look_again()
    await two.declarer.look()

    assert one.docker.removed == []
    assert one.board.notices == {"blue": BLUE.text}
    assert two.declarer.reports("blue") == {ONE: DONE, TWO: DONE}


async def test_a_host_that_was_away_takes_the_old_one_away_before_it_makes_the_new_one(one: Host, two: Host) -> None:
    await one.declarer.declare(BLUE)
    for host in (one, two):
        await host.declarer.look()
    await one.declarer.withdraw("blue")
    await one.declarer.look()
    await one.declarer.declare(OTHER_BLUE)

    await two.look_again()

    assert two.docker.removed == ["blue"]
    assert [made.labels[LABEL] for made in two.docker.made] == [BLUE.text, OTHER_BLUE.text]
    assert two.declarer.reports("blue")[TWO] == Report(OTHER_BLUE.digest)


async def test_one_that_docker_has_twice_is_kept_once(one: Host) -> None:
    await one.declarer.declare(BLUE)
    for identity in ("a" * 64, "b" * 64):
        one.docker.there[identity] = listed(wanted(BLUE, "mdnp"), identity)

    await one.declarer.look()

    assert list(one.docker.there) == ["a" * 64]


async def test_a_user_s_removal_is_mended_at_the_next_look(one: Host) -> None:
    await one.declarer.declare(BLUE)
    await one.declarer.look()
    one.docker.there.clear()

    await one.look_again()

    assert one.docker.names == ["blue"]


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (OTHER_BLUE, "network blue is declared already, otherwise: `mdnp network rm blue` first"),
        (replace(RED, pools=BLUE.pools), "--subnet 10.50.0.0/16 overlaps 10.50.0.0/16 of network blue: choose another"),
    ],
)
async def test_names_and_addresses_are_declared_once(one: Host, second: Declaration, says: str) -> None:
    await one.declarer.declare(BLUE)

    with pytest.raises(Conflict) as refusal:
        await one.declarer.declare(second)

    assert str(refusal.value) == says
    assert one.board.notices == {"blue": BLUE.text}


async def test_what_was_never_declared_cannot_be_withdrawn(one: Host) -> None:
    with pytest.raises(NotFound, match="no network 'blue' was made by `mdnp network create`"):
        await one.declarer.withdraw("blue")


async def test_what_another_version_wrote_is_left_alone_and_can_be_withdrawn(one: Host) -> None:
    one.board.wall.notices["blue"] = '{"name": "blue", "shape": "star"}'
    await one.declarer.look()
    assert (one.docker.made, one.declarer.reports("blue")) == ([], {})

    with pytest.raises(Conflict):
        await one.declarer.declare(BLUE)
    await one.declarer.withdraw("blue")

    assert one.board.notices == {"blue": Withdrawn("").text}


async def test_it_runs_by_itself_when_woken(one: Host, two: Host) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(host.declarer.run()) for host in (one, two)]
        await one.declarer.declare(BLUE)
        two.declarer.wake()
        async with asyncio.timeout(10):
            await two.board.told.wait()
            await one.board.told.wait()
        for task in running:
            task.cancel()
