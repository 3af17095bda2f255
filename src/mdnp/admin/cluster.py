"""The operator's paths to the cluster, where this host is in one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from mdnp.admin import hosts
from mdnp.admin.hosts import ClusterFacts, Declared, View
from mdnp.dataplane.overlay import Underlay
from mdnp.declared import asked
from mdnp.member import Outlook, Registry
from mdnp.model.errors import InvalidParameter, Unsupported
from mdnp.model.network import Network
from mdnp.model.segment import segment_of

Body = TypeVar("Body")


@dataclass(frozen=True)
class Cluster:
    """
    What the operator's door needs of it. `servers` are etcd's, as configured; `declared` is told that something was
    declared or withdrawn here, and need not wait for etcd to tell it.
    """

    registry: Registry
    outlook: Outlook
    servers: tuple[str, ...]
    declared: Callable[[], None]

    @property
    def facts(self) -> ClusterFacts:
        declared = tuple(self._declared(name) for name in sorted(self.registry.declared))
        return ClusterFacts(self.registry.standing(), self.servers, declared)

    def hosts(self) -> list[View]:
        return hosts.hosts(self.registry.standing())

    def host(self, name: str) -> View:
        standing = self.registry.standing()
        return hosts.host_detail(hosts.find_host(standing, name), standing)

    async def remove_host(self, name: str, body: bytes) -> View:
        """Errors: MdnpError."""
        standing = self.registry.standing()
        found = hosts.find_host(standing, name)
        await self.registry.remove_host(found.host.id, force=_read(body, _Removal).force)
        return hosts.host(found, standing)

    async def create(self, body: bytes) -> View:
        """Errors: MdnpError."""
        wanted = asked.declaration(asked.read(_read(body, dict[str, Any])), self.registry.declared)
        await self.registry.declare(wanted)
        self.declared()
        return self.network(wanted.name)

    async def withdraw(self, name: str) -> View:
        """Errors: MdnpError."""
        await self.registry.undeclare(name)
        self.declared()
        return self.network(name)

    def networks(self) -> list[View]:
        return [self.network(name) for name in sorted(self.registry.declared)]

    def network(self, name: str) -> View:
        return hosts.declared(self._declared(name), self.registry.standing())

    def overlay(self, network: Network) -> View:
        return hosts.overlay(network, self.outlook, self.registry.standing())

    def underlay(self, network: Network) -> Underlay:
        members = self.outlook.members_of(segment_of(network))
        return Underlay(self.outlook.vtep, self.outlook.port, tuple(members))

    def _declared(self, name: str) -> Declared:
        return Declared(name, self.registry.declared.get(name), self.registry.outcomes(name))


class _Removal(msgspec.Struct):
    force: bool = False


def _read(body: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"what was asked for cannot be read: {error}") from error


def none() -> Unsupported:
    """Why there is nothing to see or do."""
    return Unsupported(
        "this host is in no cluster: name its etcd in the setting `etcd` (MDNP_ETCD), and restart the daemon"
    )
