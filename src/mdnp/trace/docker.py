"""What Docker says of a container and its networks, in the words of a trace."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mdnp.dataplane import naming
from mdnp.engine import once
from mdnp.model.errors import NotFound
from mdnp.model.identity import EndpointID
from mdnp.model.network import IPAddress


@dataclass(frozen=True)
class Attachment:
    """An endpoint of a container's on any network, by Docker's word."""

    network: str
    network_id: str
    endpoint: str
    addresses: tuple[IPAddress, ...]

    @property
    def host_end(self) -> str:
        """The name it has if it is ours."""
        return naming.host_end(EndpointID(self.endpoint))


@dataclass(frozen=True)
class Known:
    """A container. `namespace` is None if it does not run."""

    name: str
    attachments: tuple[Attachment, ...]
    namespace: Path | None
    remark: str = ""


class Docker:
    """Errors of all: EngineUnavailable."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def container(self, name: str) -> Known | None:
        """By name, id or the beginning of an id; None if there is none."""
        seen = self._get(f"/containers/{name}/json")
        return None if seen is None else self._known(seen)

    def running(self, name: str) -> tuple[Known, Path]:
        """With its network namespace. Errors: NotFound, also for a container without a network of its own."""
        known = self.container(name)
        if known is None:
            raise NotFound(f"Docker has no container {name[:80]!r}: `docker ps` lists those that run")
        if known.namespace is None:
            raise NotFound(f"container {known.name} does not run: start it, or trace from another")
        return known, known.namespace

    def names(self) -> dict[str, str]:
        """Of all running containers, by address and by the host end that each would have with us."""
        return {
            key: (container.get("Names") or [""])[0].removeprefix("/")
            for container in self._get("/containers/json") or ()
            for one in _attachments(container)
            for key in (one.host_end, *map(str, one.addresses))
        }

    def is_internal(self, network: str) -> bool:
        return bool((self._get(f"/networks/{network}") or {}).get("Internal"))

    def _known(self, seen: Mapping[str, Any]) -> Known:
        name = str(seen["Name"]).removeprefix("/")
        mode = str((seen.get("HostConfig") or {}).get("NetworkMode", ""))
        if mode.startswith("container:"):
            other = self._get(f"/containers/{mode.partition(':')[2]}/json")
            if other is not None:
                owner = self._known(other)
                return Known(
                    name, owner.attachments, owner.namespace, f"{name} has the network of container {owner.name}"
                )
        if mode == "host":
            raise NotFound(f"container {name} has the host's own network, where mdnp does nothing")
        state = seen.get("State") or {}
        remark = f"container {name} is paused: its processes answer nothing" if state.get("Paused") else ""
        namespace = _namespace(seen) if state.get("Running") else None
        return Known(name, tuple(_attachments(seen)), namespace, remark)

    def _get(self, path: str) -> Any:
        return once.get(self._socket, path)


def _attachments(container: Mapping[str, Any]) -> list[Attachment]:
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    return [
        Attachment(
            name,
            one.get("NetworkID", ""),
            one["EndpointID"],
            tuple(ip_address(text) for key in ("IPAddress", "GlobalIPv6Address") if (text := one.get(key))),
        )
        for name, one in networks.items()
        if one and one.get("EndpointID")
    ]


def _namespace(seen: Mapping[str, Any]) -> Path:
    """Docker's own mount of it, or that of the container's first process where the mount is not seen from here."""
    key = str((seen.get("NetworkSettings") or {}).get("SandboxKey") or "")
    if key and Path(key).exists():
        return Path(key)
    return Path(f"/proc/{(seen.get('State') or {}).get('Pid', 0)}/ns/net")
