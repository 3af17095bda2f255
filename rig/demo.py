"""
`make demo`: the main job on a real Docker engine, told with the commands that a user would type.

Engine and plugin run in namespaces of their own; the machine's network is not touched, and nothing is left.
"""

import os
import shlex
import sys
import time

from rig.command import Result, RigError, until
from rig.engine import Engine
from rig.host import Host, Underlay
from rig.image import IMAGE
from rig.plugin import Plugin
from rig.sandbox import Run

_VERSION = os.environ.get("ENGINE", "20.10")


class Demo:
    """A story teller: prints each command, runs it, prints what it said, and counts what went wrong."""

    def __init__(self, engine: Engine, plugin: Plugin) -> None:
        self._engine = engine
        self._plugin = plugin
        self.faults = 0

    def tell(self, text: str) -> None:
        print(f"\n# {text}", flush=True)

    def docker(self, line: str) -> str:
        return self._show(f"docker {line}", self._engine.attempt(*shlex.split(line)))

    def refused(self, line: str) -> str:
        return self._show(f"docker {line}", self._engine.attempt(*shlex.split(line)), well=False)

    def mdnp(self, line: str) -> str:
        return self._show(f"mdnp {line}", self._plugin.attempt(*shlex.split(line)))

    def host(self, line: str) -> str:
        return self._show(line, self._plugin.host.run(shlex.split(line), check=False))

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.faults += 1
            print(f"# NOT TRUE: {what}", flush=True)

    def links(self) -> str:
        return self._plugin.host.run(["ip", "link"]).out

    def _show(self, line: str, result: Result, well: bool = True) -> str:
        print(f"$ {line}", flush=True)
        if result.said.strip():
            print(result.said.rstrip(), flush=True)
        self.expect((result.code == 0) is well, f"`{line}` ends {'well' if well else 'with an error'}: {result.code}")
        return result.said


def main() -> None:
    if os.geteuid():
        sys.exit("demo: needs root, for network namespaces and a Docker engine")
    started = time.monotonic()
    print(f"# starting Docker {_VERSION} and mdnp in namespaces of their own", flush=True)
    with Run() as run:
        host = Host(Underlay(run))
        plugin, engine = Plugin(host), Engine(host, _VERSION)
        plugin.start()
        engine.start()
        demo = Demo(engine, plugin)
        story(demo)
        engine.close()
        plugin.stop()
    took = time.monotonic() - started
    if demo.faults:
        sys.exit(f"# demo: {demo.faults} things were not as they should be (see NOT TRUE above)")
    print(
        f"\n# Shown in {took:.0f} s: real Docker {_VERSION} made a network with mdnp, its containers reached each other"
        " by name and the gateway, and nothing was left."
        "\n# Next, on a host with Docker, as root: `.venv/bin/mdnp serve`, and then in another terminal"
        "\n# `docker network create --driver=mdnp mynet && docker run --net=mynet …`"
    )


def story(demo: Demo) -> None:
    demo.tell("A network, made by Docker, built by mdnp")
    demo.docker("network create --driver=mdnp mynet")

    demo.tell("Two containers on it")
    demo.docker(f"run -d --name web --net=mynet {IMAGE} sleep 600")
    demo.docker(f"run -d --name db --net=mynet {IMAGE} sleep 600")

    demo.tell("One of them from inside: an interface of its own, with an address and a way out")
    demo.docker("exec web ifconfig")
    route = demo.docker("exec web ip route")
    gateway = route.split("default via ")[1].split()[0] if "default via " in route else ""

    demo.tell("They reach each other by name, and the gateway")
    demo.expect(" 0% packet loss" in demo.docker("exec web ping -c 3 -i 0.2 db"), "db answers")
    demo.expect(" 0% packet loss" in demo.docker(f"exec web ping -c 3 -i 0.2 {gateway}"), "the gateway answers")

    demo.tell("What the operator sees")
    demo.mdnp("status")
    demo.mdnp("endpoint ls")

    demo.tell("A mistake is told, not swallowed")
    said = demo.refused("network create --driver=mdnp -o mdnp.gatway=docker oops")
    demo.expect("did you mean mdnp.gateway?" in said, "the mistake is named")

    demo.tell("Remove everything; nothing is left on the host")
    demo.docker("rm -f web db")
    demo.docker("network rm mynet")
    until(lambda: "mdv-" not in demo.links(), "the last veth to go", 5)
    left = demo.host("ip -brief link")
    demo.expect("mdb-" not in left and "mdv-" not in left, "no link of mdnp's is left")
    demo.mdnp("status")


if __name__ == "__main__":
    try:
        main()
    except RigError as error:
        sys.exit(f"demo: {error}")
