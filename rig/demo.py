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
from rig.host import GATEWAY, Host, Underlay
from rig.image import IMAGE
from rig.plugin import Plugin
from rig.sandbox import Run

_VERSION = os.environ.get("ENGINE", "20.10")


class Demo:
    """A story teller: prints each command, runs it, prints what it said, and counts what went wrong."""

    def __init__(self, engine: Engine, plugin: Plugin, prompt: str = "$") -> None:
        self._engine = engine
        self._plugin = plugin
        self._prompt = prompt
        self.faults = 0

    def tell(self, text: str) -> None:
        print(f"\n# {text}", flush=True)

    def docker(self, line: str) -> str:
        return self._show(f"docker {line}", self._engine.attempt(*shlex.split(line)))

    def refused(self, line: str) -> str:
        return self._show(f"docker {line}", self._engine.attempt(*shlex.split(line)), well=False)

    def mdnp(self, line: str, *, well: bool = True) -> str:
        return self._show(f"mdnp {line}", self._plugin.attempt(*shlex.split(line)), well)

    def host(self, line: str) -> str:
        return self._show(line, self._plugin.host.run(shlex.split(line), check=False))

    def outside(self, line: str) -> str:
        """On another host, which reaches this one by its uplink."""
        return self._show(f"[outside] {line}", self._plugin.host.underlay.run(shlex.split(line), check=False))

    @property
    def host_address(self) -> str:
        return str(self._plugin.host.address.ip)

    def status(self) -> str:
        """What `mdnp status` says, not shown."""
        return self._plugin.attempt("status").said

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.faults += 1
            print(f"# NOT TRUE: {what}", flush=True)

    def links(self) -> str:
        return self._plugin.host.run(["ip", "link"]).out

    def _show(self, line: str, result: Result, well: bool = True) -> str:
        print(f"{self._prompt} {line}", flush=True)
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
        " by name and the outside,"
        "\n# the outside reached a published port, a packet's way was shown, a flushed firewall was mended, and nothing"
        " was left."
        "\n# Next, on a host with Docker, as root: `.venv/bin/mdnp serve`, and then in another terminal"
        "\n# `docker network create --driver=mdnp mynet && docker run --net=mynet …`"
    )


def story(demo: Demo) -> None:
    _inside(demo)
    _ways_in_and_out(demo)
    _mistakes(demo)
    _end(demo)


def _inside(demo: Demo) -> None:
    demo.tell("A network, made by Docker, built by mdnp")
    demo.docker("network create --driver=mdnp mynet")

    demo.tell("Two containers on it")
    demo.docker(f"run -d --name web --net=mynet -p 8080:80 {IMAGE} httpd -f -h /www")
    demo.docker(f"run -d --name db --net=mynet {IMAGE} sleep 600")

    demo.tell("One of them from inside: an interface of its own, with an address and a way out")
    demo.docker("exec web ifconfig")
    route = demo.docker("exec web ip route")
    gateway = route.split("default via ")[1].split()[0] if "default via " in route else ""

    demo.tell("They reach each other by name, and the gateway")
    demo.expect(" 0% packet loss" in demo.docker("exec web ping -c 3 -i 0.2 db"), "db answers")
    demo.expect(" 0% packet loss" in demo.docker(f"exec web ping -c 3 -i 0.2 {gateway}"), "the gateway answers")


def _ways_in_and_out(demo: Demo) -> None:
    demo.tell("They reach the outside, and the outside reaches the published port and nothing else")
    out = demo.docker(f"exec web ping -c 3 -i 0.2 {GATEWAY.ip}")
    demo.expect(" 0% packet loss" in out, "the outside answers")
    address = demo.host_address
    demo.expect("busybox" in demo.outside(f"curl -sS -m 3 http://{address}:8080/"), "the page comes")
    demo.expect("busybox" in demo.host("curl -sS -m 3 http://127.0.0.1:8080/"), "the page comes on the host")

    demo.tell("What the operator sees")
    demo.mdnp("status")
    demo.mdnp("endpoint ls")
    demo.mdnp("port ls")
    demo.expect("answered in" in demo.mdnp("trace web db"), "the way is walked to its end")
    demo.expect("all well" in demo.mdnp("doctor"), "the host is well")

    demo.tell("Somebody flushes the firewall; mdnp puts its own back")
    demo.host("nft flush ruleset")
    until(lambda: "repaired" in demo.status(), "the repair", 5)
    demo.expect("busybox" in demo.outside(f"curl -sS -m 3 http://{address}:8080/"), "the page comes again")
    demo.mdnp("status")


def _mistakes(demo: Demo) -> None:
    demo.tell("A mistake is told, not swallowed")
    said = demo.refused("network create --driver=mdnp -o mdnp.gatway=docker oops")
    demo.expect("did you mean mdnp.gateway?" in said, "the mistake is named")
    said = demo.refused(f"run --rm --net=mynet -p 8080:80 {IMAGE} true")
    demo.expect("is published for endpoint" in said, "who has the port is named")


def _end(demo: Demo) -> None:
    demo.tell("Remove everything; nothing is left on the host")
    demo.docker("rm -f web db")
    demo.docker("network rm mynet")
    until(lambda: "mdv-" not in demo.links(), "the last veth to go", 5)
    left = demo.host("ip -brief link")
    demo.expect("mdb-" not in left and "mdv-" not in left, "no link of mdnp's is left")
    demo.expect("mdnp" not in demo.host("nft list tables"), "no table of mdnp's is left")
    demo.mdnp("status")


if __name__ == "__main__":
    try:
        main()
    except RigError as error:
        sys.exit(f"demo: {error}")
