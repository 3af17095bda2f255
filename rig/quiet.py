"""The quiet after a storm on a host: what its engine lists is what mdnp promised, and what kernel and pools show."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from rig.command import until
from rig.engine import Engine
from rig.plugin import Plugin

_QUIET_S = 20.0
_OURS = re.compile(r"\b(md[bvp]-[0-9a-z]+)")


class Untrue(Exception):
    """What the quiet after a run shows is not what Docker lists."""


def must(holds: object, what: str) -> None:
    if not holds:
        raise Untrue(what)


def same(what: str, docker: set[Any], ours: set[Any], *, at_most: bool = False) -> None:
    """`at_most`: ours may lack some, as what nft does not know of a network without a guard."""
    missing, left = (set() if at_most else docker - ours), ours - docker
    must(not missing, f"{what}: Docker has {missing}, and mdnp does not")
    must(not left, f"{what}: mdnp has {left}, and Docker does not")


class Quiet:
    """A host on which nobody does anything any more. Containers called as in `spared` are not restarted."""

    def __init__(self, engine: Engine, plugin: Plugin, spared: Collection[str] = ()) -> None:
        self.engine = engine
        self.plugin = plugin
        self._host = engine.host
        self._spared = frozenset(spared)

    def calm(self) -> None:
        """
        As an operator would: containers that are lost are restarted, what Docker has forgotten is collected.

        The plugin is given a grace time of nothing, since nothing is under way any more.
        """
        self.plugin.stop()
        self.plugin.env["MDNP_GRACE"] = "0"
        self.plugin.start()
        if self.status()["lost"]:
            running = self.engine.docker("ps", "--format={{.Names}}").split()
            for name in set(running) - self._spared:
                self.engine.attempt("restart", "-t", "0", name)
        self.plugin.cli("gc", timeout=90)
        until(lambda: _in_sync(self.status()), f"mdnp to be in sync: {self.status()}", _QUIET_S)

    def status(self) -> dict[str, Any]:
        view: dict[str, Any] = self.asked("status")
        return view

    def asked(self, *command: str) -> Any:
        return json.loads(self.plugin.cli(*command, "--json", check=False))

    def links(self) -> list[str]:
        """Bridges and veths of ours."""
        rows = json.loads(self._host.run(["ip", "-json", "link", "show"]).out)
        return sorted(row["ifname"] for row in rows if _OURS.match(row["ifname"]))

    def check(self) -> None:
        """Docker's lists are mdnp's, the kernel's and the pools'. Errors: Untrue."""
        networks = self._inspected("network", "ls", "-q", "--filter=driver=mdnp")
        containers = self._inspected("ps", "-q")
        ours = {one["Id"] for one in networks}
        attached = [
            one
            for container in containers
            for one in container["NetworkSettings"]["Networks"].values()
            if one["NetworkID"] in ours
        ]
        endpoints = {one["EndpointID"] for one in attached if one["EndpointID"]}
        same("networks", ours, {one["id"] for one in self.status()["networks"]})
        same("endpoints", endpoints, {one["id"] for one in self.asked("endpoint", "ls")})
        self._check_kernel(ours, endpoints)
        self._check_pools(networks, attached)
        self._check_ports(endpoints)

    def _check_kernel(self, networks: set[str], endpoints: set[str]) -> None:
        """By ip(8) and nft(8), not by mdnp's eyes."""
        links = {f"mdb-{one[:11]}" for one in networks} | {f"mdv-{one[:11]}" for one in endpoints}
        until(lambda: set(self.links()) == links, f"the links to be those of Docker's list: {self.links()}", 5)
        rules = self._host.run(["nft", "list", "ruleset"]).out
        same("links that nft knows", links, set(_OURS.findall(rules)) - {"mdb-"}, at_most=True)

    def _check_pools(self, networks: list[dict[str, Any]], attached: list[dict[str, Any]]) -> None:
        own = {one["Id"] for one in networks if one["IPAM"]["Driver"] == "mdnp"}
        given = [one for one in attached if one["NetworkID"] in own and one["EndpointID"]]
        listed = {one[name] for one in given for name in ("IPAddress", "GlobalIPv6Address") if one[name]}
        pools = self.asked("pool", "ls")
        held = [row for pool in pools for row in self.asked("pool", "inspect", pool["id"])["addresses"]]
        same("addresses", listed, {row["address"] for row in held if row["kind"] == "endpoint"})
        subnets = {config["Subnet"] for one in networks if one["Id"] in own for config in one["IPAM"]["Config"]}
        same("pools", subnets, {pool["pool"] for pool in pools})

    def _check_ports(self, endpoints: set[str]) -> None:
        """The ports that the daemon holds, by ss(8), are those that it lists; servers of names at gateways aside."""
        listed = {(one["protocol"], one["host_port"]) for one in self.asked("port", "ls")}
        must({one["endpoint"] for one in self.asked("port", "ls")} <= endpoints, "a port is of an endpoint")
        said = self._host.run(["ss", "-Hanltup"]).out
        held = {
            (line.split()[0], int(line.split()[4].rpartition(":")[2]))
            for line in said.splitlines()
            if f"pid={self.plugin.pid}," in line and "%mdb-" not in line.split()[4]
        }
        same("ports", listed, held, at_most=True)

    def _inspected(self, *listing: str) -> list[dict[str, Any]]:
        ids = self.engine.docker(*listing).split()
        if not ids:
            return []
        kind = "network" if listing[0] == "network" else "container"
        found: list[dict[str, Any]] = json.loads(self.engine.docker(kind, "inspect", *ids))
        return found

    def _rules(self) -> str:
        commands = (["nft", "list", "tables"], ["iptables", "-S"], ["ip6tables", "-S"])
        return "".join(self._host.run(command).out for command in commands)

    def remove_all(self) -> None:
        """With the last network goes everything."""
        self.engine.clear()
        self.plugin.cli("gc", timeout=90)
        until(lambda: not self.links(), f"the links to go: {self.links()}", 5)
        for nouns in (("network", "ls"), ("endpoint", "ls"), ("pool", "ls"), ("port", "ls")):
            left = self.asked(*nouns)
            must(not left, f"mdnp {' '.join(nouns)} still has {left}")
        # What leads to servers of names goes a moment after the answer.
        until(lambda: "mdnp" not in self._rules(), f"the rules to go: {self._rules()}", 5)


def _in_sync(status: Mapping[str, Any]) -> bool:
    """In a cluster more than this host can make one unhealthy."""
    return bool(status.get("in_sync", status["healthy"]))
