"""The verbs of NetworkDriver: what is read from each body, and what is answered."""

from collections.abc import Mapping
from typing import Any

from mdnp.driver.network import NetworkDriver
from mdnp.driver.requests import Attachment
from mdnp.model.identity import endpoint_id, network_id
from mdnp.model.network import needs_gateway
from mdnp.wire import messages
from mdnp.wire.parsing import endpoint_request, network_options, network_request, publish_request
from mdnp.wire.verbs import Reply, Verb

INTERFACE = "NetworkDriver"


class NetworkVerbs:
    def __init__(self, driver: NetworkDriver) -> None:
        self._driver = driver

    def verbs(self) -> Mapping[str, Verb]:
        """Every verb of Docker's protocol by its name, Swarm's included."""
        return {
            "GetCapabilities": Verb(None, self._capabilities),
            "GwAllocCheck": Verb(messages.GwAllocCheck, self._check_gateway),
            "CreateNetwork": Verb(messages.CreateNetwork, self._create_network),
            "DeleteNetwork": Verb(messages.OnNetwork, self._delete_network),
            "CreateEndpoint": Verb(messages.CreateEndpoint, self._create_endpoint),
            "EndpointOperInfo": Verb(messages.OnEndpoint, self._info),
            "DeleteEndpoint": Verb(messages.OnEndpoint, self._delete_endpoint),
            "Join": Verb(messages.Join, self._join),
            "Leave": Verb(messages.OnEndpoint, self._leave),
            "ProgramExternalConnectivity": Verb(messages.ProgramExternalConnectivity, self._publish),
            "RevokeExternalConnectivity": Verb(messages.OnEndpoint, self._revoke),
            "AllocateNetwork": Verb(messages.AllocateNetwork, self._allocate),
            "FreeNetwork": Verb(messages.OnNetwork, self._nothing),
            "DiscoverNew": Verb(messages.Discovery, self._nothing),
            "DiscoverDelete": Verb(messages.Discovery, self._nothing),
        }

    async def _capabilities(self, _body: None) -> Reply:
        # Local on both: a global scope needs Swarm's managers, global connectivity hands name records to its gossip.
        return {"Scope": "local", "ConnectivityScope": "local", "GwAllocChecker": True}

    async def _check_gateway(self, body: messages.GwAllocCheck) -> Reply:
        skip = not needs_gateway(*network_options(body.Options))
        return {"SkipIPv4": skip, "SkipIPv6": skip}

    async def _create_network(self, body: messages.CreateNetwork) -> Reply:
        await self._driver.create_network(network_request(body))
        return {}

    async def _delete_network(self, body: messages.OnNetwork) -> Reply:
        await self._driver.delete_network(network_id(body.NetworkID))
        return {}

    async def _create_endpoint(self, body: messages.CreateEndpoint) -> Reply:
        endpoint = await self._driver.create_endpoint(endpoint_request(body))
        # A field that came filled must stay out of the answer, even with the same value: Docker calls it modified.
        return {"Interface": {} if endpoint.mac_given else {"MacAddress": endpoint.mac}}

    async def _info(self, body: messages.OnEndpoint) -> Reply:
        value = self._driver.info(network_id(body.NetworkID), endpoint_id(body.EndpointID))
        return {"Value": dict(value)}

    async def _delete_endpoint(self, body: messages.OnEndpoint) -> Reply:
        await self._driver.delete_endpoint(endpoint_id(body.EndpointID))
        return {}

    async def _join(self, body: messages.Join) -> Reply:
        joined = await self._driver.join(network_id(body.NetworkID), endpoint_id(body.EndpointID), body.SandboxKey)
        return _joined(joined)

    async def _leave(self, body: messages.OnEndpoint) -> Reply:
        await self._driver.leave(endpoint_id(body.EndpointID))
        return {}

    async def _publish(self, body: messages.ProgramExternalConnectivity) -> Reply:
        await self._driver.publish(publish_request(body))
        return {}

    async def _revoke(self, body: messages.OnEndpoint) -> Reply:
        await self._driver.revoke(endpoint_id(body.EndpointID))
        return {}

    async def _allocate(self, body: messages.AllocateNetwork) -> Reply:
        # What is answered replaces the user's -o on the nodes of a swarm: echo it.
        return {"Options": body.Options or {}}

    async def _nothing(self, _body: Any) -> Reply:
        return {}


def _joined(attachment: Attachment) -> Reply:
    reply: dict[str, Any] = {"InterfaceName": {"SrcName": attachment.link, "DstPrefix": attachment.prefix}}
    for gateway in attachment.gateways:
        reply["Gateway" if gateway.version == 4 else "GatewayIPv6"] = str(gateway)
    # Said only where no gateway is given: with one, Docker adds no interface anyway, but an endpoint that disables the
    # service does not count as a way out for the container's other networks.
    reply["DisableGatewayService"] = not attachment.gateway_service and not attachment.gateways
    return reply
