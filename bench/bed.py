"""A real engine with the plugin beside it, asked over its API; ENGINE chooses another version."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.api import Api
from rig.engine import Engine
from rig.host import Host, Underlay
from rig.image import IMAGE
from rig.sandbox import Run
from rig.testbed import Testbed

ENGINE = os.environ.get("ENGINE") or "28.5"
BRIDGE, OURS, NONE = "bridge", "mdnp", "none"


@dataclass(frozen=True)
class Bed:
    """For one thread; others take an `api` of their own."""

    testbed: Testbed
    docker: Api = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "docker", self.api())

    @property
    def host(self) -> Host:
        return self.testbed.host

    def api(self) -> Api:
        return Api(self.host.docker_socket)

    def network(self, driver: str, name: str, subnet: str) -> None:
        """One of a plugin's has the plugin's IPAM too."""
        ipam = {"Driver": "default" if driver == BRIDGE else driver, "Config": [{"Subnet": subnet}]}
        self.docker.ask("POST", "/networks/create", {"Name": name, "Driver": driver, "IPAM": ipam})


@contextmanager
def bed() -> Iterator[Bed]:
    """All ends with it, the containers that still run too."""
    with Run() as rig:
        host = Host(Underlay(rig))
        engine = Engine(host, ENGINE)
        engine.start()
        testbed = Testbed(host, engine)
        testbed.plugin().start()
        one = Bed(testbed)
        try:
            yield one
        finally:
            one.docker.close()


def created(api: Api, network: str, name: str = "", more: Mapping[str, Any] = {}) -> str:
    """The id of a container that sleeps, not started yet; `more` of its settings."""
    host = {"NetworkMode": network, **more.get("HostConfig", {})}
    config = {"Image": IMAGE, "Cmd": ["sleep", "100000"], "StopSignal": "KILL", **more, "HostConfig": host}
    return str(api.ask("POST", f"/containers/create{f'?name={name}' if name else ''}", config)["Id"])


def start(api: Api, identity: str) -> None:
    api.ask("POST", f"/containers/{identity}/start")


def remove(api: Api, identity: str) -> None:
    api.ask("DELETE", f"/containers/{identity}?force=true")


def published(port: str = "") -> dict[str, Any]:
    """Settings of a container whose port 80 is published; the host's port is any if none is named."""
    binding = {"80/tcp": [{"HostIp": "", "HostPort": port}]}
    return {"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": binding}}
