"""What must hold after a fault: what was answered is kept, and when everything was removed nothing is left."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from mdnp.dataplane import naming
from mdnp.kernel import iptables
from mdnp.kernel.nftables import Nftables
from mdnp.model.allocation import Kind
from mdnp.model.identity import EndpointID
from mdnp.model.port import Protocol
from mdnp.store.sqlite import FILE
from tests.faults.commons import of_others, read
from tests.faults.docker import Docker, Endpoint, Pool, Promise
from tests.faults.host import until
from tests.faults.session import ACTIVATE
from tests.world import UDP

LOOK_S = 10.0
DEATH_S = 1.0
# In the daemon's log: what is never said in order.
_UNHEARD = ("defect", "was never retrieved", "Unhandled exception", "Exception in callback", "Traceback")
_ROWS = ("network", "endpoint", "pool", "block", "allocation WHERE freed_at IS NULL")


class Truth:
    def __init__(self, docker: Docker) -> None:
        self._docker = docker
        self._host = docker.session.host
        self._published: set[tuple[Protocol, str, int]] = set()

    def check_made(self) -> None:
        """
        What a verb has just answered with success is there. What it failed to remove may go later, and rows that lead
        to what other hosts have, come.
        """
        drift = [step for step in self._host.shown("/status")["drift"] if not (_is_removal(step) or _is_row(step))]
        assert not drift, f"answered with success, and not there: {drift}"

    def check_healthy(self, *, at_once: bool) -> None:
        """
        What failed to be removed goes at the next look, which the timer takes in half a minute: unless it must be well
        `at_once`, the engine's activation stands for that.
        """
        status = self._host.shown("/status")
        if not self._is_well(status) and not at_once:
            self._look()
            until(lambda: self._is_well(self._host.shown("/status")), f"the repair of {status['drift']}", LOOK_S)
        elif not self._is_well(status):
            raise AssertionError(f"drift {status['drift']}, lost {status['lost']}, trouble {status['trouble']!r}")

    def check_kept(self, *, at_once: bool) -> None:
        """What Docker believes is promised and in the kernel, and nothing else but what went astray."""
        self.check_healthy(at_once=at_once)
        self._check_networks()
        seen = {one["id"]: one for one in self._host.shown("/endpoint")}
        ports = self._host.shown("/port")
        for endpoint in self._docker.endpoints.values():
            self._check_endpoint(
                endpoint, seen.get(endpoint.id), [one for one in ports if one["endpoint"] == endpoint.id]
            )
        self._check_explained()

    def check_nothing_left(self) -> None:
        """Docker has removed everything. What went astray is found by `mdnp gc`, and what did not is not there."""
        self._check_explained()
        if list(self._left()):
            self._docker.collect()
        left = list(self._left())
        assert not left, f"left in the store: {left}"
        self.check_healthy(at_once=False)
        self._await_deaths()
        for port in self._published:
            assert not self._host.is_taken(*port), f"still held: {port}"
        self._check_kernel()
        if self._host.commons:
            self._await_oblivion(self._host.commons)
        assert self._host.stop() == 0, "the daemon did not end well"
        self._check_disk()
        self._check_log()

    def _look(self) -> None:
        self._host.call(ACTIVATE, b"")

    def _await_deaths(self) -> None:
        """They come by themselves, and at the next look if that failed."""
        try:
            until(lambda: self._host.links == [], "the end of our links", DEATH_S)
        except AssertionError:
            self._look()
            until(lambda: self._host.links == [], "the end of our links", LOOK_S)

    def _await_oblivion(self, commons: Path) -> None:
        """What was agreed on in the cluster is taken back beside the calls."""
        try:
            until(lambda: of_others([*read(commons)]) == [], "the end of what the cluster has of us", LOOK_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {of_others([*read(commons)])}") from None

    def _is_well(self, status: Any) -> bool:
        """What went astray may be lost too: Docker speaks of it no more."""
        astray = [naming.host_end(EndpointID(identity)) for kind, identity in self._docker.astray if kind == "endpoint"]
        lost = [one for one in status["lost"] if not any(link in one.split() for link in astray)]
        return (status["drift"], lost, status["trouble"]) == ([], [], "")

    def _check_explained(self) -> None:
        unexplained = _unexplained(list(self._left()), self._docker.astray)
        assert not unexplained, f"nobody's, and no answer was lost: {unexplained}"

    def _check_networks(self) -> None:
        seen = {one["id"]: one["bridge"] for one in self._host.shown("/network")}
        for network in self._docker.networks.values():
            assert network.id in seen, f"network {network.name} is not promised any more"
            assert self._host.has_link(seen[network.id]), f"no bridge {seen[network.id]}"
            for pool in network.pools:
                held = self._held(pool.id)
                missing = [one for one in self._believed(pool) if one not in held]
                assert not missing, f"not held in pool {pool.id}: {missing}"

    def _check_endpoint(self, endpoint: Endpoint, seen: Any, ports: list[Any]) -> None:
        assert seen is not None, f"endpoint of {endpoint.container} is not promised any more"
        assert seen["addresses"] == endpoint.addresses, f"{endpoint.container}: {seen['addresses']}"
        assert (seen["phase"] == "joined") is endpoint.joined, f"{endpoint.container}: {seen['phase']}"
        assert self._host.has_link(seen["host_end"]), f"no link {seen['host_end']}"
        places = [(Protocol(one["protocol"]), one["host_address"], one["host_port"]) for one in ports]
        self._published |= set(places)
        for place in places:
            assert self._host.is_taken(*place), f"published, and not held: {place}"
        found = {(one["protocol"], one["port"]) for one in ports}
        wanted = {("udp" if one["Proto"] == UDP else "tcp", one["Port"]) for one in endpoint.ports}
        assert found == (wanted if endpoint.published else set()), f"{endpoint.container}: published {found}"

    def _believed(self, pool: Pool) -> list[str]:
        """The addresses of a pool that Docker has from us."""
        networks = self._docker.networks.values()
        found = [address for one in networks for own in one.pools if own.id == pool.id
                 for address in (own.gateway, own.auxiliary) if address]  # fmt: skip
        for endpoint in self._docker.endpoints.values():
            pairs = zip(endpoint.network.pools, endpoint.addresses, strict=True)
            found += [address for own, address in pairs if own.id == pool.id]
        return [one.partition("/")[0] for one in found]

    def _held(self, pool: str) -> list[str]:
        rows = self._host.shown(f"/pool/{pool}")["addresses"]
        return [one["address"] for one in rows if one["kind"] != Kind.HOST]

    def _left(self) -> Iterator[Promise]:
        """What is in the store and Docker does not believe."""
        docker = self._docker
        networks = {one.id for one in docker.networks.values()}
        endpoints = {one.id for one in docker.endpoints.values()}
        yield from (("network", one["id"]) for one in self._host.shown("/network") if one["id"] not in networks)
        yield from (("endpoint", one["id"]) for one in self._host.shown("/endpoint") if one["id"] not in endpoints)
        for row in self._host.shown("/pool"):
            yield from self._left_of(row)

    def _left_of(self, row: Any) -> Iterator[Promise]:
        pools = [pool for one in self._docker.networks.values() for pool in one.pools if pool.id == row["id"]]
        yield from [("pool", row["id"])] * (row["networks"] - len(pools))
        believed = self._believed(pools[0]) if pools else []
        yield from (("address", row["id"]) for address in self._held(row["id"]) if address not in believed)

    def _check_kernel(self) -> None:
        with closing(Nftables.open()) as nft:
            for family in ("inet", "bridge"):
                assert nft.tables(family, naming.TABLE, elements=True) == [], f"left: table {family} {naming.TABLE}"
        rules = iptables.observe().ours if self._host.iptables else []
        assert rules == [], f"left: {rules}"

    def _check_disk(self) -> None:
        with closing(sqlite3.connect(f"file:{self._host.state / FILE}?mode=ro", uri=True)) as connection:
            for rows in _ROWS:
                (count,) = connection.execute(f"SELECT count(*) FROM {rows}").fetchone()  # noqa: S608  # ours
                assert count == 0, f"left on disk: {count} of {rows}"

    def _check_log(self) -> None:
        unheard = [line for line in self._host.log.read_text().splitlines() if any(one in line for one in _UNHEARD)]
        assert not unheard, f"in the log: {unheard}"


def _is_removal(step: str) -> bool:
    return step.startswith(("nft delete", "let go of", "ip link del")) or step.endswith(f"group {naming.DOOMED_GROUP}")


def _is_row(step: str) -> bool:
    return step.startswith(("bridge fdb", "ip neigh"))


def _unexplained(left: list[Promise], astray: list[Promise]) -> list[Promise]:
    """What went astray explains one promise each; a pool also what was held in it."""
    pools = tuple(identity for kind, identity in astray if kind == "pool")
    rest = list(astray)
    found = []
    for kind, identity in left:
        if kind in ("pool", "address") and identity.startswith(pools):
            continue
        if (kind, identity) in rest:
            rest.remove((kind, identity))
        else:
            found.append((kind, identity))
    return found
