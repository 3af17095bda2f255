"""What Docker asks of the plugin for a network with our addresses, and for a container on it; without an engine."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.client import Client
from mdnp.dataplane import naming
from mdnp.model.identity import EndpointID
from rig.host import Namespace

_GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}
_ETCD_S, _PAUSE_S = 20.0, 0.02
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Attached:
    """An endpoint. `address` has its prefix length."""

    endpoint: str
    address: str

    @property
    def ip(self) -> str:
        return self.address.partition("/")[0]


def new_endpoint() -> str:
    """Another in its beginning already, of which link names have eleven digits."""
    return f"{next(_NUMBERS):011x}{0:053x}"


class Docker:
    """
    One network, on one kept connection. A call that fails is a RuntimeError. `created_s` is how long CreateNetwork
    took.
    """

    def __init__(self, client: Client, network: str, pool: str, created_s: float) -> None:
        self.created_s = created_s
        self._client = client
        self._network = network
        self._pool = pool

    @classmethod
    async def create_network(
        cls, client: Client, identity: int, subnet: str, options: Mapping[str, str] | None = None
    ) -> "Docker":
        asked = {"AddressSpace": "mdnp", "Pool": subnet, "SubPool": "", "Options": {}, "V6": False}
        pool = await client.call("IpamDriver.RequestPool", asked)
        request = {"PoolID": pool["PoolID"], "Address": "", "Options": _GATEWAY}
        gateway = (await client.call("IpamDriver.RequestAddress", request))["Address"]
        network = f"{identity:064x}"
        body = {
            "NetworkID": network,
            "Options": {"com.docker.network.generic": dict(options or {})},
            "IPv4Data": [{"AddressSpace": "mdnp", "Pool": pool["Pool"], "Gateway": gateway}],
            "IPv6Data": [],
        }
        created_s = await _until_asked(lambda: client.call("NetworkDriver.CreateNetwork", body))
        return cls(client, network, pool["PoolID"], created_s)

    async def create_endpoint(self, identity: str = "") -> Attached:
        answer = await self._client.call("IpamDriver.RequestAddress", {"PoolID": self._pool, "Options": {}})
        made = Attached(identity or new_endpoint(), answer["Address"])
        interface = {"Address": made.address, "AddressIPv6": "", "MacAddress": ""}
        await self._call("CreateEndpoint", made, Interface=interface, Options={})
        return made

    async def join(self, one: Attached) -> None:
        await self._call("Join", one, SandboxKey=f"/run/bench/{one.endpoint:.12}", Options={})

    async def attach(self) -> Attached:
        one = await self.create_endpoint()
        await self.join(one)
        return one

    async def publish(self, one: Attached, ports: Sequence[Mapping[str, Any]]) -> None:
        """As the engine says ports: Proto, Port, HostPort, HostPortEnd."""
        await self._call("ProgramExternalConnectivity", one, Options={"com.docker.network.portmap": list(ports)})

    async def detach(self, one: Attached) -> None:
        await self._call("Leave", one)
        await self._call("DeleteEndpoint", one)
        await self._client.call("IpamDriver.ReleaseAddress", {"PoolID": self._pool, "Address": one.ip})

    def close(self) -> None:
        self._client.close()

    async def _call(self, verb: str, one: Attached, **more: Any) -> None:
        body = {"NetworkID": self._network, "EndpointID": one.endpoint, **more}
        await self._client.call(f"NetworkDriver.{verb}", body)


async def _until_asked(call: Callable[[], Awaitable[object]]) -> float:
    """Call again while a daemon that has just started has not heard of its etcd; the seconds of the last call."""
    deadline = time.monotonic() + _ETCD_S
    while True:
        start = time.monotonic()
        try:
            await call()
        except RuntimeError as error:
            if "the cluster cannot be asked" not in str(error) or start > deadline:
                raise
            await asyncio.sleep(_PAUSE_S)
        else:
            return time.monotonic() - start


def set_up(one: Attached, host: Namespace, sandbox: Namespace) -> None:
    """As the engine does after Join: move the end into the sandbox, and give it name and address."""
    end = naming.sandbox_end(EndpointID(one.endpoint))
    host.ip(f"link set {end} netns {sandbox.name} name eth0")
    sandbox.ip(f"address add {one.address} dev eth0", "link set eth0 up")


def take_down(one: Attached, host: Namespace, sandbox: Namespace) -> None:
    """As the engine does after Leave."""
    end = naming.sandbox_end(EndpointID(one.endpoint))
    sandbox.ip("link set eth0 down", f"link set eth0 name {end} netns {host.name}")
