"""A Debian package, and hosts of their own that boot systemd."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from rig.booted import Booted
from rig.command import run, until
from rig.host import Host, Underlay
from rig.image import IMAGE, image

REPOSITORY = Path(__file__).parents[2]
PROGRAM = "/opt/mdnp/mdnp"
PLUGIN = "/run/docker/plugins/mdnp.sock"
PATIENCE = 300

_numbers = count()


class Machine(Booted):
    """Where mdnp lies in /opt, and `mdnp install` was not called yet."""

    def mdnp(self, *arguments: str, feed: bytes = b"", check: bool = True) -> str:
        result = self.run([PROGRAM, *arguments], check=check, feed=feed)
        return result.said

    def activate(self) -> str:
        """Docker's first call."""
        command = [
            "curl",
            "-sS",
            "--max-time",
            "120",
            "--unix-socket",
            PLUGIN,
            "-X",
            "POST",
            "http://x/Plugin.Activate",
        ]
        return self.run(command, timeout=PATIENCE).out

    def docker(self, *arguments: str, feed: bytes = b"", check: bool = True) -> str:
        return self.run(["docker", *arguments], feed=feed, check=check).said.strip()

    def start_docker(self) -> None:
        self.run(["systemctl", "start", "docker.service"])
        self.docker("import", "--change", 'CMD ["sh"]', "-", IMAGE, feed=image())

    def systemctl(self, *arguments: str) -> str:
        return self.run(["systemctl", *arguments]).out.strip()

    def state(self, unit: str) -> str:
        return self.show(unit, "ActiveState")

    def soon(self, unit: str, name: str, value: str) -> None:
        until(lambda: self.show(unit, name) == value, f"{name} of {unit} to be {value}")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make deb` builds."""
    folder = tmp_path_factory.mktemp("dist")
    run([str(REPOSITORY / "tools/deb"), str(folder)], timeout=PATIENCE)
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="session")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mdnp with its libraries, which runs wherever it lies."""
    folder = tmp_path_factory.mktemp("unpacked")
    run(["dpkg-deb", "-x", str(package), str(folder)])
    return folder / "usr/lib/mdnp"


@pytest.fixture
def host(underlay: Underlay) -> Host:
    return Host(underlay, f"boot{next(_numbers)}")


@pytest.fixture
def machine(host: Host, tree: Path) -> Iterator[Machine]:
    booted = Machine(host, {"/opt/mdnp": tree})
    yield booted
    booted.close()
