"""
The least that a remote driver can be: a process that answers Docker what it cannot do without, and nothing else.

It has no guard, no ports and nothing on disk; addresses are counted up and never given back, and the gateway that it
names is nobody (without one Docker makes a second interface for the way out). A network is a bridge, an endpoint a veth
pair on it made by one message, which dies after the answer, together with others. What a container takes on it beyond
one without a network is Docker's own share: no plugin can get below it.

A program of its own, as a plugin is; `bench.containers` starts it. It says only what the engines 20.10 to 28.5 ask.
"""

import argparse
import json
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from io import BufferedIOBase
from ipaddress import ip_interface, ip_network
from itertools import count
from pathlib import Path
from socket import if_nametoindex
from typing import Any, cast

from mdnp.dataplane.naming import DOOMED_GROUP
from mdnp.kernel import facts, links
from rig.host import Host
from rig.plugin import Plugin

NAME = "floor"

_BRIDGE, _NEAR, _FAR = "flb", "fln", "flf"  # prefixes of link names
_ID = 11  # of an id, as much as fits behind them
_TOGETHER_S = 0.05

Body = Mapping[str, Any]
Answer = Mapping[str, Any]


def started(host: Host) -> Plugin:
    """It serves on a host of the rig's, whose engine finds it by its name; it ends with the run."""
    plugin = Plugin(host, (sys.executable, "-m", "bench.floor"), name=NAME)
    plugin.start()
    return plugin


class _Driver:
    """Of networks and addresses both. Errors: OSError."""

    def __init__(self) -> None:
        self._numbers: dict[str, count[int]] = {}  # by pool, the next address of it
        self._gateways: dict[str, str] = {}  # by network
        self._dead = threading.Event()
        threading.Thread(target=self._bury, daemon=True).start()

    def answer(self, verb: str, body: Body) -> Answer | None:
        """None of what it does not speak."""
        verbs: Mapping[str, Callable[[Body], Answer]] = {
            "Plugin.Activate": lambda _: {"Implements": ["NetworkDriver", "IpamDriver"]},
            "NetworkDriver.GetCapabilities": lambda _: {"Scope": "local", "ConnectivityScope": "local"},
            "NetworkDriver.CreateNetwork": self._create_network,
            "NetworkDriver.DeleteNetwork": self._delete_network,
            "NetworkDriver.CreateEndpoint": self._create_endpoint,
            "NetworkDriver.EndpointOperInfo": lambda _: {"Value": {}},
            "NetworkDriver.Join": self._join,
            "NetworkDriver.Leave": lambda _: {},
            "NetworkDriver.DeleteEndpoint": self._delete_endpoint,
            "IpamDriver.GetCapabilities": lambda _: {},
            "IpamDriver.GetDefaultAddressSpaces": lambda _: {
                "LocalDefaultAddressSpace": NAME,
                "GlobalDefaultAddressSpace": NAME,
            },
            "IpamDriver.RequestPool": self._request_pool,
            "IpamDriver.ReleasePool": lambda _: {},
            "IpamDriver.RequestAddress": self._request_address,
            "IpamDriver.ReleaseAddress": lambda _: {},
        }
        return verbs[verb](body) if verb in verbs else None

    def _create_network(self, body: Body) -> Answer:
        self._gateways[body["NetworkID"]] = str(ip_interface(body["IPv4Data"][0]["Gateway"]).ip)
        links.make(facts.name(_named(_BRIDGE, body["NetworkID"])), facts.kind("bridge"), up=True)
        return {}

    def _delete_network(self, body: Body) -> Answer:
        links.delete(if_nametoindex(_named(_BRIDGE, body["NetworkID"])))
        return {}

    def _create_endpoint(self, body: Body) -> Answer:
        near, far = (_named(prefix, body["EndpointID"]) for prefix in (_NEAR, _FAR))
        bridge = if_nametoindex(_named(_BRIDGE, body["NetworkID"]))
        pair = facts.kind("veth", facts.peer(facts.name(far)))
        links.make(facts.name(near), facts.master(bridge), pair, up=True)
        return {"Interface": {}}

    def _join(self, body: Body) -> Answer:
        interface = {"SrcName": _named(_FAR, body["EndpointID"]), "DstPrefix": "eth"}
        return {"InterfaceName": interface, "Gateway": self._gateways[body["NetworkID"]]}

    def _delete_endpoint(self, body: Body) -> Answer:
        links.change(if_nametoindex(_named(_NEAR, body["EndpointID"])), facts.group(DOOMED_GROUP))
        self._dead.set()
        return {}

    def _request_pool(self, body: Body) -> Answer:
        pool = body["Pool"]
        self._numbers[pool] = count(1)
        return {"PoolID": pool, "Pool": pool, "Data": {}}

    def _request_address(self, body: Body) -> Answer:
        pool = ip_network(body["PoolID"])
        address = body.get("Address") or pool[next(self._numbers[body["PoolID"]])]
        return {"Address": f"{address}/{pool.prefixlen}", "Data": {}}

    def _bury(self) -> None:
        """What is dead, a moment later and together; the kernel makes each deletion wait as long as that of many."""
        while self._dead.wait():
            threading.Event().wait(_TOGETHER_S)
            self._dead.clear()
            with suppress(OSError):
                links.delete_group(DOOMED_GROUP)


def _named(prefix: str, identity: str) -> str:
    return f"{prefix}-{identity[:_ID]}"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: str) -> None:
        self.driver = _Driver()
        super().__init__(path, _Conversation)


class _Conversation(socketserver.StreamRequestHandler):
    """One connection, kept until Docker closes it."""

    def handle(self) -> None:
        driver = cast("_Server", self.server).driver
        while asked := _asked(self.rfile):
            status, answer = _answered(driver, *asked)
            said = json.dumps(answer).encode()
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: {len(said)}\r\n\r\n"
            self.request.sendall(head.encode() + said)


def _asked(stream: BufferedIOBase) -> tuple[str, Body] | None:
    """The verb and its body, None at the end."""
    first = stream.readline().split()
    if not first:
        return None
    length = 0
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return first[1].decode().strip("/"), json.loads(stream.read(length) or b"{}")


def _answered(driver: _Driver, verb: str, body: Body) -> tuple[HTTPStatus, Answer]:
    try:
        answer = driver.answer(verb, body)
    except OSError as error:
        return HTTPStatus.INTERNAL_SERVER_ERROR, {"Err": str(error), "Error": str(error)}
    if answer is None:
        return HTTPStatus.NOT_FOUND, {"Err": f"no {verb}"}
    return HTTPStatus.OK, answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.floor", description="the least that a remote driver can be")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--state-dir", help="nothing is kept")
    path = parser.parse_args().socket
    path.unlink(missing_ok=True)
    with _Server(str(path)) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
