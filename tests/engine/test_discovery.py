"""An engine finds mdnp where it has no socket among Docker's: by a `.json` for TCP, by a `.spec` for a socket."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from mdnp.install import certificates, discovery, file
from mdnp.install.discovery import Given
from mdnp.model.tcp_address import TcpAddress
from rig.image import IMAGE
from rig.plugin import MDNP, Plugin
from rig.testbed import Testbed
from tests.engine.conftest import Story

pytestmark = pytest.mark.engine

HERE = Path("/")
ADDRESS = TcpAddress("127.0.0.1", 4460)

# An engine remembers a plugin by its name for as long as it runs.
_numbers = count(1)


@dataclass(frozen=True)
class Found:
    """A plugin that an engine knows by `name`, not by a socket of its."""

    story: Story
    name: str

    def network(self) -> None:
        self.story.docker("network", "create", f"--driver={self.name}", f"--ipam-driver={self.name}", "mynet")


Starter = Callable[..., Found]


@pytest.fixture
def start(testbed: Testbed) -> Iterator[Starter]:
    """Starts a plugin of a new name; when the test is over it has left nothing."""
    started: list[Found] = []

    def start(name: str, *options: str) -> Found:
        socket = testbed.host.runtime / f"{name}.sock"
        plugin = Plugin(testbed.host, (MDNP, "serve"), name=name, socket=socket, options=options)
        plugin.start()
        started.append(Found(Story(testbed, plugin), name))
        return started[-1]

    yield start
    testbed.engine.clear()
    for one in started:
        one.story.must_be_clean()
        one.story.plugin.stop()
    testbed.host.forget_plugin()


def authority(testbed: Testbed, label: str, name: str) -> discovery.Discovery:
    """What `mdnp install --tcp` prepares, with the engine's view of the host's folders."""
    folder = testbed.host.folder / f"{name}-{label}"
    return discovery.prepare_tcp(HERE, ADDRESS, name=name, folder=testbed.host.specs, tls_folder=folder)


def options(prepared: discovery.Discovery) -> list[str]:
    return [f"--{key.replace('_', '-')}={value}" for key, value in prepared.settings.items() if key != "socket"]


def by_json(testbed: Testbed, start: Starter) -> Found:
    name = f"bytcp{next(_numbers)}"
    prepared = authority(testbed, "tls", name)
    file.write(HERE, prepared.files)
    found = start(name, *options(prepared))
    assert list(testbed.host.plugins.iterdir()) == []
    return found


def carries_traffic(found: Found) -> None:
    found.network()
    found.story.container("web")
    found.story.container("db1")
    assert found.story.pings("db1", "web")


def test_an_engine_finds_mdnp_on_tcp_by_its_json(testbed: Testbed, start: Starter) -> None:
    found = by_json(testbed, start)

    carries_traffic(found)

    found.story.plugin.restart()
    found.story.docker("rm", "-f", "web", "db1")
    found.story.docker("network", "rm", "mynet")
    found.story.must_be_clean()


def test_an_engine_that_starts_finds_mdnp_on_tcp_again(testbed: Testbed, start: Starter) -> None:
    found = by_json(testbed, start)
    found.network()
    found.story.container("web", "--restart=always")

    testbed.engine.restart()

    found.story.container("db1")
    found.story.soon(lambda: found.story.pings("db1", "web"), within_s=30)


def test_a_restart_of_the_daemon_on_tcp_fails_no_start_of_a_container(testbed: Testbed, start: Starter) -> None:
    """What Docker sends on TCP is not lost when we stop: Docker would repeat it without its body."""
    found = by_json(testbed, start)
    found.network()

    for attempt in range(4):
        names = [f"run{attempt}x{number}" for number in range(3)]
        commands = [["run", "--rm", "--name", name, "--net=mynet", IMAGE, "true"] for name in names]
        results = found.story.while_running(commands, found.story.plugin.restart)
        assert [result.said for result in results if result.code] == []


def test_an_engine_with_another_authority_s_certificate_is_refused(testbed: Testbed, start: Starter) -> None:
    name = f"bytcp{next(_numbers)}"
    ours, theirs = authority(testbed, "ours", name), authority(testbed, "theirs", name)
    file.write(HERE, [one for one in (*ours.files, *theirs.files) if one.path.suffix == ".pem"])
    where, strangers = (certificates.paths(testbed.host.folder / f"{name}-{one}") for one in ("ours", "theirs"))
    mixed = discovery.prepare_tcp(
        HERE,
        ADDRESS,
        Given(server=where.server, client=strangers.client, ca=where.ca.cert),
        name=name,
        folder=testbed.host.specs,
    )
    file.write(HERE, mixed.files)
    found = start(name, *options(ours))

    said = found.story.refused("network", "create", f"--driver={name}", "mynet")

    log = found.story.plugin.log.read_text()
    assert "is refused: its certificate is not accepted: unable to get local issuer certificate" in log
    assert "Traceback" not in log
    assert "unknown certificate authority" in said


@pytest.mark.parametrize("folder", ["/etc/docker/plugins", "/usr/lib/docker/plugins"])
def test_an_engine_finds_a_socket_by_a_spec(testbed: Testbed, start: Starter, folder: str) -> None:
    name = f"byspec{next(_numbers)}"
    found = start(name)
    prepared = discovery.prepare_spec(HERE, f"unix://{found.story.plugin.socket}", name=name, folder=Path(folder))
    [spec] = prepared.files
    command = ["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "spec", str(spec.path)]
    testbed.engine.cell.run(command, feed=spec.content)

    carries_traffic(found)

    assert list(testbed.host.plugins.iterdir()) == []
