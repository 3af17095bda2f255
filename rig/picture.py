"""`make picture`: docs/page.png, the page of a host with a real engine, its networks and their traffic."""

import os
import sys
import time
from pathlib import Path

from rig.browser import Browser
from rig.command import RigError
from rig.engine import Engine
from rig.host import GATEWAY, Host, Underlay
from rig.image import IMAGE
from rig.plugin import MDNP, Plugin
from rig.sandbox import Run

_FILE = Path(__file__).parent.parent / "docs" / "page.png"
_SHAPE = (1280, 860)
_PORT = 9677
_NAMED = ("unshare", "--uts", "sh", "-c", 'hostname docker-1.example.org && exec "$@"', "sh")
_WHILE_S = 100  # until the lines of the rates are long
_NETWORKS = (
    ("backend", "--internal", "--subnet=10.20.0.0/28"),
    ("frontend", "--subnet=10.10.0.0/24"),
    ("jobs", "--ipv6", "--subnet=10.30.0.0/24", "--subnet=fd00:30::/64"),
)
_CONTAINERS = (
    ("web", "frontend", "mkdir /www; head -c 300000 /dev/urandom >/www/a; httpd -f -h /www", "-p", "8080:80"),
    ("api", "frontend", "while :; do wget -qO /dev/null http://web/a; sleep 1; done"),
    ("mail", "frontend", "sleep 100000", "-p", "127.0.0.1:2525:25"),
    ("db", "backend", "sleep 100000"),
    ("cache", "backend", "ping -i 0.1 -s 900 db"),
    ("worker-1", "jobs", f"ping -i 0.02 -s 1400 {GATEWAY.ip}"),
    ("worker-2", "jobs", "while :; do ping -c 40 -i 0.1 -s 1200 worker-1; sleep 3; done"),
)


def main() -> None:
    if os.geteuid():
        sys.exit("picture: needs root, for network namespaces and a Docker engine")
    with Run() as run:
        host = Host(Underlay(run))
        plugin = Plugin(host, (*_NAMED, MDNP, "serve"), env={"MDNP_METRICS": f"127.0.0.1:{_PORT}"})
        engine = Engine(host, "28.5")
        plugin.start()
        engine.start()
        for name, *options in _NETWORKS:
            engine.docker("network", "create", "--driver=mdnp", "--ipam-driver=mdnp", *options, name)
        for name, network, command, *options in _CONTAINERS:
            given = ["--name", name, "--net", network, "--stop-signal=KILL", *options]
            engine.docker("run", "-d", *given, IMAGE, "sh", "-c", command)
        with Browser(host) as browser:
            browser.shape(*_SHAPE)
            browser.open(f"http://127.0.0.1:{_PORT}/")
            time.sleep(_WHILE_S)
            _FILE.write_bytes(browser.screenshot())
        engine.clear()
        plugin.stop()
    print(f"# {_FILE}: {_FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    try:
        main()
    except RigError as error:
        sys.exit(f"picture: {error}")
