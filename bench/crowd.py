"""Many endpoints on one network, each with a published port: as values, and made over the plugin's socket."""

from dataclasses import replace
from ipaddress import ip_interface, ip_network

from bench.client import Client
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.mac import derived_mac
from mdnp.model.network import IPInterface, Network, Subnet
from mdnp.model.options import NetworkOptions
from mdnp.model.port import PortRequest, Protocol, Publication

NETWORK = f"{0:064x}"


def network() -> Network:
    subnet = Subnet(ip_network("10.64.0.0/16"), ip_interface("10.64.0.1/16"))
    return Network(NetworkID(NETWORK), (subnet,), internal=False, options=NetworkOptions(), mtu=1500)


def endpoint(number: int) -> Endpoint:
    addresses: tuple[IPInterface, ...] = (ip_interface(f"10.64.{number // 250 + 1}.{number % 250 + 1}/16"),)
    identity = EndpointID(f"{number + 1:011x}{0:053x}")
    bare = Endpoint(identity, NetworkID(NETWORK), derived_mac(addresses, identity), False, addresses, Phase.JOINED)
    return replace(bare, ports=(Publication(PortRequest(Protocol.TCP, 80), 20000 + number),))


def of(number: int) -> dict[str, str]:
    """The part of a call's body that names an endpoint."""
    return {"NetworkID": NETWORK, "EndpointID": endpoint(number).id}


async def attach(client: Client, published: int, more: int = 0) -> None:
    """A network with published endpoints on it, and `more` that are not published."""
    data = {"AddressSpace": "bench", "Pool": "10.64.0.0/16", "Gateway": "10.64.0.1/16"}
    await client.call("NetworkDriver.CreateNetwork", {"NetworkID": NETWORK, "IPv4Data": [data]})
    for number in range(published + more):
        await come(client, number)
        if number < published:
            await publish(client, number)


async def come(client: Client, number: int) -> None:
    interface = {"Address": str(endpoint(number).addresses[0])}
    await client.call("NetworkDriver.CreateEndpoint", {**of(number), "Interface": interface})
    await client.call("NetworkDriver.Join", {**of(number), "SandboxKey": f"/run/bench/{number}"})


async def go(client: Client, number: int) -> None:
    for verb in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint"):
        await client.call(f"NetworkDriver.{verb}", of(number))


async def publish(client: Client, number: int) -> None:
    ports = [{"Proto": 6, "Port": 80, "HostPort": 20000 + number, "HostPortEnd": 20000 + number}]
    options = {"com.docker.network.portmap": ports}
    await client.call("NetworkDriver.ProgramExternalConnectivity", {**of(number), "Options": options})
