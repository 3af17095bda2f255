"""What the stories say about the world, in few words."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from rig.command import Result, until
from rig.engine import Engine
from rig.image import IMAGE
from rig.plugin import Plugin
from rig.testbed import Testbed

OURS = re.compile(r"^(mdb|mdv|mdp|mdx)-")


@dataclass(frozen=True)
class Story:
    """A host with a real engine and mdnp, and the sentences that the stories are told in."""

    testbed: Testbed
    plugin: Plugin

    @property
    def engine(self) -> Engine:
        return self.testbed.engine

    def docker(self, *arguments: str) -> str:
        return self.engine.docker(*arguments)

    def refused(self, *arguments: str) -> str:
        """Run a docker command that must fail; what the user is told."""
        result = self.engine.attempt(*arguments)
        assert result.code != 0, f"docker {' '.join(arguments)} should fail\n{result.said}"
        return result.said

    def network(self, name: str = "mynet", *options: str) -> str:
        return self.docker("network", "create", "--driver=mdnp", *options, name)

    def container(self, name: str, *options: str, network: str = "mynet") -> str:
        # SIGKILL as stop signal: sleep as process 1 ignores SIGTERM, and Docker would wait ten seconds for it.
        given = ["--name", name, "--stop-signal=KILL", f"--net={network}", *options]
        return self.docker("run", "-d", *given, IMAGE, "sleep", "100000")

    def inside(self, container: str, command: str) -> str:
        return self.docker("exec", container, "sh", "-c", command)

    def pings(self, container: str, target: str, *flags: str) -> bool:
        """Whether three pings out of three are answered."""
        said = self.engine.docker(
            "exec", container, "ping", *flags, "-c", "3", "-i", "0.2", "-W", "2", target, check=False
        )
        return " 0% packet loss" in said

    def address(self, container: str, network: str = "mynet", field: str = "IPAddress") -> str:
        return str(self.settings(container, network)[field])

    def settings(self, container: str, network: str = "mynet") -> dict[str, Any]:
        """What Docker says of a container's endpoint."""
        whole = json.loads(self.docker("inspect", container))
        settings: dict[str, Any] = whole[0]["NetworkSettings"]["Networks"][network]
        return settings

    def interfaces(self, container: str) -> set[str]:
        said = self.inside(container, "ls /sys/class/net")
        return set(said.split()) - {"lo"}

    def status(self) -> dict[str, Any]:
        view: dict[str, Any] = json.loads(self.plugin.cli("status", "--json", check=False))
        return view

    def links(self) -> set[str]:
        """The links of ours on the host, seen with ip(8), not with mdnp's eyes."""
        rows = json.loads(self.testbed.host.run(["ip", "-json", "link", "show"]).out)
        return {row["ifname"] for row in rows if OURS.match(row["ifname"])}

    def rules(self) -> set[str]:
        """The rules of ours in Docker's chain."""
        return {
            f"{program} {line}"
            for program in ("iptables", "ip6tables")
            for line in self.testbed.host.run([program, "-S", "DOCKER-USER"], check=False).out.splitlines()
            if "mdnp" in line
        }

    def pools(self) -> list[dict[str, Any]]:
        view: list[dict[str, Any]] = json.loads(self.plugin.cli("pool", "ls", "--json"))
        return view

    def pool(self, name: str) -> dict[str, Any]:
        """A pool with its addresses, by its network."""
        view: dict[str, Any] = json.loads(self.plugin.cli("pool", "inspect", name, "--json"))
        return view

    def held(self, name: str) -> set[str]:
        """The addresses of a pool that endpoints hold, in mdnp's eyes."""
        return {one["address"] for one in self.pool(name)["addresses"] if one["kind"] == "endpoint"}

    def published(self) -> list[dict[str, Any]]:
        """What mdnp says is published, once Docker has told it all names: a busy one takes longer than a look waits."""
        views: list[list[dict[str, Any]]] = []

        def named() -> bool:
            views.append(json.loads(self.plugin.cli("port", "ls", "--json")))
            return all(one["container"] for one in views[-1])

        self.soon(named, within_s=10)
        return views[-1]

    def soon(self, holds: Callable[[], bool], within_s: float = 5.0) -> None:
        """Wait until it holds: a veth dies after the answer, a container answers after it has started."""
        until(holds, "what the story says next", within_s)

    def while_running(self, commands: Sequence[Sequence[str]], act: Callable[[], object]) -> list[Result]:
        """Run docker commands at once, and do something meanwhile; how the commands ended."""
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self.engine.parallel, *commands)
            act()
            return running.result()

    def left(self) -> list[str]:
        """What of ours is there, a line each."""
        tables = self.testbed.host.run(["nft", "list", "tables"]).out
        return [
            *sorted(self.links()),
            *sorted(self.rules()),
            *(line for line in tables.splitlines() if "mdnp" in line),
            *(f"network {one['id']}" for one in self.status()["networks"]),
            *(f"pool {one['id']}" for one in self.pools()),
        ]

    def is_clean(self) -> bool:
        return not self.left()

    def must_be_clean(self) -> None:
        """Nothing of ours is left but veths, which die a moment after the answer."""
        assert [one for one in self.left() if not one.startswith(("mdv-", "mdp-"))] == []
        self.soon(lambda: self.left() == [])


@pytest.fixture
def story(testbed: Testbed, plugin: Plugin) -> Iterator[Story]:
    story = Story(testbed, plugin)
    yield story
    if not plugin.running:
        plugin.start()
    testbed.engine.clear()
    story.must_be_clean()
