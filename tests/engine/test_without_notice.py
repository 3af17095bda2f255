"""The daemon is restarted again and again, and nobody notices: not traffic, not clients, not who starts containers."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from rig.command import Result
from rig.host import GATEWAY, GATEWAY6
from rig.image import IMAGE
from rig.plugin import Plugin
from rig.testbed import Testbed
from tests.engine.conftest import Story
from tests.engine.peers import Peers, Pings, Poll, Stream, target

pytestmark = pytest.mark.engine

_AT_ONCE = 4
_PAUSE_S = 0.3
_PINGS_IN_A_SECOND = 9  # of ten: a busy machine may be late, and none may be lost


@pytest.fixture
def activated(request: pytest.FixtureRequest) -> bool:
    """Whether a supervisor holds the socket and keeps the ports, as systemd does; for a test to say."""
    return bool(getattr(request, "param", True))


@pytest.fixture
def plugin(testbed: Testbed, activated: bool) -> Iterator[Plugin]:
    plugin = testbed.plugin(activated=activated)
    plugin.start()
    yield plugin
    if not plugin.running:
        plugin.start()
    testbed.engine.clear()
    plugin.stop()
    if plugin.supervisor is not None:
        plugin.supervisor.close()
    testbed.host.forget_plugin()


@pytest.mark.parametrize(
    ("activated", "restarts", "starts"),
    [(True, 20, 40), (False, 5, 12)],
    ids=["systemd", "plain"],
    indirect=["activated"],
)
def test_restarts_under_traffic_and_starts_lose_nothing(
    story: Story, activated: bool, restarts: int, starts: int
) -> None:
    story.network("mynet", "--ipam-driver=mdnp", "--ipv6", "--subnet=10.77.0.0/24", "--subnet=fd77::/64")
    story.container("web", "-p", "8080:80", "-p", "9090:90")
    story.container("db1")
    host = story.testbed.host
    before = _kept(story)

    with Peers(story.testbed) as peers:
        peers.serve("web", 80)
        peers.echo("web", 90)
        pings = {
            what: peers.ping("db1", str(address))
            for what, address in (
                ("web", story.address("web")),
                ("web by IPv6", story.address("web", field="GlobalIPv6Address")),
                ("the outside", GATEWAY.ip),
                ("the outside by IPv6", GATEWAY6.ip),
            )
        }
        clients = [
            peers.poll(story.testbed.outside, target("tcp", host.address.ip, 8080), every_s=0.05),
            peers.poll(story.testbed.outside, target("tcp", host.address6.ip, 8080), every_s=0.05),
        ]
        carried = peers.poll(host, "tcp:[::1]:8080", every_s=0.05)
        stream = peers.stream(story.testbed.outside, target("tcp", host.address.ip, 9090))

        runs = _run_all(story, starts, lambda: _restart(story.plugin, restarts))

        assert [run.said for run in runs if run.code] == []
        _check_pings(pings)
        _check_clients(clients)
        _check_stream(stream)
        # What the daemon itself carries ends with it, but nobody finds the port closed.
        answered, faults = carried.end()
        assert answered
        assert not activated or [fault for fault in faults if "refused" in fault] == []
    assert story.status()["healthy"]
    assert story.held("10.77.0.0/24") == {story.address("web"), story.address("db1")}
    assert _kept(story) == before


def _restart(plugin: Plugin, times: int) -> None:
    for _ in range(times):
        plugin.restart()
        time.sleep(_PAUSE_S)


def _run_all(story: Story, count: int, act: Callable[[], None]) -> Sequence[Result]:
    """Run `count` containers to their end, some at once, every other one with a port, while something is done."""
    publish: tuple[list[str], list[str]] = (["-p", "90"], [])
    commands = [["run", "--rm", "--net=mynet", *publish[number % 2], IMAGE, "true"] for number in range(count)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = [pool.submit(story.engine.attempt, *command) for command in commands]
        act()
        return [one.result() for one in running]


def _check_pings(pings: dict[str, Pings]) -> None:
    for what, one in pings.items():
        rate, lost = one.end()
        assert lost == [], what
        assert rate > _PINGS_IN_A_SECOND, what


def _check_clients(clients: Sequence[Poll]) -> None:
    for client in clients:
        answered, faults = client.end()
        assert faults == []
        assert answered


def _check_stream(stream: Stream) -> None:
    sent, received, fault = stream.end()
    assert fault == ""
    assert sent == received > 0


def _kept(story: Story) -> list[str]:
    """The ports in the supervisor's store."""
    if story.plugin.supervisor is None:
        return []
    story.plugin.supervisor.settle()
    return sorted(one.name for one in story.plugin.supervisor.kept)
