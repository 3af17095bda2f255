"""The daemon and the engine come and go under running containers."""

import pytest

from rig.image import IMAGE
from tests.engine.conftest import Story

pytestmark = pytest.mark.engine

_PINGS = 60
_INTERVAL_S = 0.1


def test_a_restart_of_the_daemon_disturbs_no_traffic(story: Story) -> None:
    story.network()
    story.container("web")
    story.container("db1")
    links = story.links()
    story.docker("exec", "-d", "web", "sh", "-c", f"ping -c {_PINGS} -i {_INTERVAL_S} db1 >/tmp/pings; touch /tmp/done")

    story.plugin.restart()
    story.plugin.kill()
    story.plugin.start()

    story.soon(lambda: story.inside("web", "ls /tmp/done 2>/dev/null; true") != "", within_s=_PINGS * _INTERVAL_S + 10)
    assert f"{_PINGS} packets received, 0% packet loss" in story.inside("web", "cat /tmp/pings")
    assert story.links() == links
    assert story.status()["healthy"]


def test_after_its_restart_the_daemon_goes_on_as_if_it_had_never_stopped(story: Story) -> None:
    story.network()
    story.container("web")
    story.plugin.restart()

    story.container("db1")
    assert story.pings("db1", "web")
    story.docker("network", "create", "-d", "mdnp", "second")
    story.docker("network", "connect", "second", "web")
    story.docker("rm", "-f", "web", "db1")
    story.docker("network", "rm", "mynet", "second")
    story.must_be_clean()


def test_a_restart_of_the_daemon_fails_no_start_of_a_container(story: Story) -> None:
    story.network()

    for attempt in range(4):
        names = [f"run{attempt}x{number}" for number in range(3)]
        commands = [["run", "--rm", "--name", name, "--net=mynet", IMAGE, "true"] for name in names]
        results = story.while_running(commands, story.plugin.restart)
        assert [result.said for result in results if result.code] == []


def test_an_engine_restart_brings_containers_back(story: Story) -> None:
    story.network("mynet", "--subnet=10.77.0.0/24")
    story.container("web", "--restart=always", "--ip=10.77.0.5")
    story.container("db1", "--restart=always")

    story.engine.restart()

    story.soon(lambda: story.pings("db1", "10.77.0.5"), within_s=30)
    assert len(story.links()) == 3
    assert len(story.rules()) == (2 if story.engine.version == "20.10" else 4)  # 20.10 leaves ip6tables alone
    assert story.status()["healthy"]


def test_an_engine_that_was_killed_finds_its_networks_again(story: Story) -> None:
    story.network("mynet", "--subnet=10.77.0.0/24")
    story.container("web", "--restart=always")
    story.container("db1", "--restart=always")

    story.engine.kill()
    story.engine.start()

    story.soon(lambda: story.pings("db1", "web"), within_s=30)


def test_a_host_that_boots_has_its_networks_before_the_engine_starts(story: Story) -> None:
    """All links and rules are gone, as after a reboot; the daemon makes them again from its store."""
    story.network("mynet", "--subnet=10.77.0.0/24")
    story.container("web", "--restart=always")
    story.engine.stop()
    story.plugin.stop()
    for link in story.links():
        story.testbed.host.ip(f"link del {link}")

    story.plugin.start()
    story.engine.start()

    story.soon(lambda: story.pings("web", "10.77.0.1"), within_s=30)
    assert story.status()["healthy"]
