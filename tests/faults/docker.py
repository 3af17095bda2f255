"""
Docker: what it asks for, in which order, what it believes afterwards, and what it does when a call failed (engine 29;
the order of calls and the roll-backs are those that were seen on the wire, see the tests of `wire` and docs/faults.md).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mdnp.dataplane import naming
from mdnp.model import network as record
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.options import NetworkOptions
from tests import world
from tests.faults.session import ACTIVATE, Refused, Session
from tests.ipam.house import GATEWAY, named, request_address, request_pool

NETWORK_DRIVER, IPAM_DRIVER = "NetworkDriver", "IpamDriver"
DRIVER = "mdnp"  # Docker knows us by the name of our socket
SANDBOX = "/var/run/docker/netns/{}"

Promise = tuple[str, str]  # kind and id, of an address the pool's id

_INTERNAL = "com.docker.network.internal"


@dataclass
class Pool:
    id: str
    network: str
    gateway: str = ""  # with its prefix length, "" for none
    auxiliary: str = ""


@dataclass
class Network:
    name: str
    id: str
    internal: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    pools: list[Pool] = field(default_factory=list)

    @property
    def promised(self) -> record.Network:
        """As far as its links are called after it."""
        return record.Network(NetworkID(self.id), (), self.internal, NetworkOptions(), 0)

    @property
    def in_words(self) -> dict[str, Any]:
        """As /networks lists it."""
        config = [
            {"Subnet": one.network, **({"AuxiliaryAddresses": {"router": one.auxiliary}} if one.auxiliary else {})}
            for one in self.pools
        ]
        return {
            "Id": self.id,
            "Driver": DRIVER,
            "Internal": self.internal,
            "Options": self.options,
            "IPAM": {"Driver": DRIVER, "Config": config},
        }


@dataclass
class Endpoint:
    """Of a container, which has this one alone. `published` says that it is the way out, with these ports."""

    container: str
    id: str
    network: Network
    addresses: list[str] = field(default_factory=list)  # in the order of the network's pools
    joined: bool = False
    ports: Sequence[Mapping[str, Any]] = ()
    published: bool = False

    @property
    def in_words(self) -> dict[str, Any]:
        """As /containers/json lists its container."""
        four, six = [*self.addresses, "/0"][0].split("/"), [*self.addresses, "/0", "/0"][1].split("/")
        attached = {
            "NetworkID": self.network.id,
            "EndpointID": self.id,
            "IPAddress": four[0],
            "IPPrefixLen": int(four[1]),
            "GlobalIPv6Address": six[0],
            "GlobalIPv6PrefixLen": int(six[1]),
        }
        return {"Names": [f"/{self.container}"], "NetworkSettings": {"Networks": {self.network.name: attached}}}


class Docker:
    """
    `networks` and `endpoints` are what it believes, by name. `astray` is what it forgot although we may have it, since
    an answer was lost, or a release failed, which it does not repeat.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.networks: dict[str, Network] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.astray: list[Promise] = []
        self._made = 0

    def activate(self) -> None:
        self.session.call(ACTIVATE)
        for interface in (NETWORK_DRIVER, IPAM_DRIVER):
            self.session.call(f"{interface}.GetCapabilities")

    def talk_of_swarm(self) -> None:
        """What a manager says for a network of scope global, and a node when others come and go."""
        network = {"NetworkID": self._identity()}
        found = {"DiscoveryType": 1, "DiscoveryData": {"Address": "192.0.2.1", "BindAddress": "", "Self": True}}
        self._network("AllocateNetwork", {**network, "Options": {}, "IPv4Data": [], "IPv6Data": None})
        self._network("FreeNetwork", network)
        self._network("DiscoverNew", found)
        self._network("DiscoverDelete", found)

    def create_network(
        self,
        name: str,
        *subnets: str,
        auxiliary: str = "",
        internal: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """With our IPAM; "" is a pool of our choice, `auxiliary` an address of the first one. Errors: Refused."""
        network = Network(name, self._identity(), internal, options or {})
        try:
            self._allocate(network, subnets, auxiliary)
            body = world.create_network(
                network.id,
                *(f"{one.network} {one.gateway}" for one in network.pools),
                internal=internal,
                options=options,
            )
            self._make(f"{NETWORK_DRIVER}.CreateNetwork", body, ("network", network.id))
        except Refused:
            self._release(network)
            raise
        self.networks[name] = network

    def remove_network(self, name: str) -> None:
        """Whatever is answered, the network is gone."""
        network = self.networks.pop(name)
        self._release(network)
        self._end(f"{NETWORK_DRIVER}.DeleteNetwork", world.on_network(network.id), ("network", network.id))

    def run(
        self,
        container: str,
        network: str,
        *,
        ip: str = "",
        ports: Sequence[Mapping[str, Any]] = (),
        allow: str = "",
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Start a container. `meanwhile` happens between the making of its endpoint and its Join. Errors: Refused."""
        on = self.networks[network]
        endpoint = Endpoint(container, self._identity(), on, ports=ports)
        try:
            for pool, asked in zip(on.pools, (ip, ""), strict=False):
                endpoint.addresses.append(self._address(pool, asked, named(container)))
        except Refused:  # what was taken before is not given back
            self.astray += [("address", one.id) for one in on.pools[: len(endpoint.addresses)]]
            raise
        try:
            self._create(endpoint, allow)
        except Refused:
            self._give_back(endpoint)
            raise
        self.endpoints[container] = endpoint
        meanwhile()
        self._join(endpoint)

    def stop(self, container: str, *, revoke: bool = True, leave: bool = True) -> None:
        """Not every engine revokes, and one whose sandbox is lost does not leave. Whatever is answered, it is gone."""
        endpoint = self.endpoints[container]
        if revoke and endpoint.published:
            self._ignore("RevokeExternalConnectivity", endpoint)
        self._undo(endpoint, leaves=int(leave))

    def switch_way_out(self, container: str) -> None:
        """Another network of the container is its way out for a while. Errors: Refused."""
        endpoint = self.endpoints[container]
        self._ignore("RevokeExternalConnectivity", endpoint)
        endpoint.published = False
        self._publish(endpoint)

    def leave_and_join(self, container: str) -> None:
        """Errors: Refused."""
        endpoint = self.endpoints[container]
        self._ignore("Leave", endpoint)
        endpoint.joined = endpoint.published = False
        self._join(endpoint)

    def forget(self, container: str) -> None:
        """The engine is killed, and what it had of this container is lost."""
        endpoint = self.endpoints.pop(container)
        self.astray += [("endpoint", endpoint.id), *(("address", one.id) for one in endpoint.network.pools)]

    def run_anew(self, container: str) -> None:
        """
        The engine was killed, and its containers died: it starts them anew with the addresses that it remembers, and
        says no word about the endpoints that they had (28.5). Errors: Refused.
        """
        old = self.endpoints.pop(container)
        self.session.host.delete_link(naming.host_end(EndpointID(old.id)))
        self.astray.append(("endpoint", old.id))
        endpoint = Endpoint(container, self._identity(), old.network, old.addresses, ports=old.ports)
        try:
            self._create(endpoint, of="in place of a lost one")
        except Refused:
            self._give_back(endpoint)
            raise
        self.astray.remove(("endpoint", old.id))
        self.endpoints[container] = endpoint
        self._join(endpoint)

    def reboot(self) -> None:
        """The host, while a container starts."""
        self.session.host.kill()
        self.session.host.boot()
        self.session.start("after a reboot")

    def restart_over_litter(self) -> None:
        self.session.host.kill()
        self.session.host.litter()
        self.session.start("over litter")

    def restart_over_rows(self, overlay: str) -> None:
        self.session.host.await_mirror()
        self.session.host.kill()
        network = self.networks[overlay].promised
        self.session.host.litter_rows(naming.tunnel(network), naming.bridge(network), naming.own_end(network))
        self.session.start("over rows of what is no more")

    def collect(self) -> None:
        """`mdnp gc` takes back what went astray. Errors: Refused."""
        networks = [one.in_words for one in self.networks.values()]
        with self.session.host.docker(networks, [one.in_words for one in self.endpoints.values()]):
            self.session.collect()
        self.astray.clear()

    def remove_all(self) -> None:
        for container in list(self.endpoints):
            self.stop(container)
        for network in list(self.networks):
            self.remove_network(network)

    def _allocate(self, network: Network, subnets: Sequence[str], auxiliary: str) -> None:
        asked = {world.GENERIC: dict(network.options), **({_INTERNAL: True} if network.internal else {})}
        skip = self._network("GwAllocCheck", {"Options": asked})
        for number, subnet in enumerate(subnets):
            version = 6 if ":" in subnet else 4
            self.session.call(f"{IPAM_DRIVER}.GetDefaultAddressSpaces")
            body = request_pool(subnet, v6=version == 6)
            reply = self._make(
                f"{IPAM_DRIVER}.RequestPool", body, ("pool", f"mdnp-local/{subnet}"), self._sharing(subnet)
            )
            pool = Pool(reply["PoolID"], reply["Pool"])
            network.pools.append(pool)
            if not skip[f"SkipIPv{version}"]:
                pool.gateway = self._address(pool, "", GATEWAY, "of a gateway")
            if auxiliary and number == 0:
                self._address(pool, auxiliary, None, "of an auxiliary address")
                pool.auxiliary = auxiliary

    def _release(self, network: Network) -> None:
        for pool in network.pools:
            for address in filter(None, (pool.gateway, pool.auxiliary)):
                self._release_address(pool, address, "of a network")
            of = self._sharing(pool.network)
            self._end(f"{IPAM_DRIVER}.ReleasePool", {"PoolID": pool.id}, ("pool", pool.id), of)

    def _sharing(self, subnet: str) -> str:
        """Whether another network has the pool."""
        return (
            "that is shared"
            if any(pool.network == subnet for one in self.networks.values() for pool in one.pools)
            else ""
        )

    def _address(self, pool: Pool, asked: str, options: Mapping[str, str] | None, of: str = "") -> str:
        body = request_address(pool.id, asked, options)
        return str(self._make(f"{IPAM_DRIVER}.RequestAddress", body, ("address", pool.id), of)["Address"])

    def _release_address(self, pool: Pool, address: str, of: str = "") -> None:
        body = {"PoolID": pool.id, "Address": address.partition("/")[0]}
        self._end(f"{IPAM_DRIVER}.ReleaseAddress", body, ("address", pool.id), of)

    def _create(self, endpoint: Endpoint, allow: str = "", of: str = "") -> None:
        addresses = {("AddressIPv6" if ":" in one else "Address"): one for one in endpoint.addresses}
        body = world.create_endpoint(
            endpoint.id,
            addresses.get("Address", ""),
            addresses.get("AddressIPv6", ""),
            network=endpoint.network.id,
            options={"mdnp.allow": allow} if allow else {},
        )
        self._make(f"{NETWORK_DRIVER}.CreateEndpoint", body, ("endpoint", endpoint.id), of)

    def _join(self, endpoint: Endpoint) -> None:
        """Errors: Refused; then nothing of the endpoint is left."""
        sandbox = SANDBOX.format(endpoint.id[:12])
        try:
            reply = self._network("Join", world.join(endpoint.id, endpoint.network.id, sandbox))
        except Refused:
            self._undo(endpoint, leaves=1)
            raise
        assert self.session.host.has_link(reply["InterfaceName"]["SrcName"]), "Join was answered without a link"
        endpoint.joined = True
        if "Gateway" in reply:
            self._publish(endpoint)
        self._ignore("EndpointOperInfo", endpoint)

    def _publish(self, endpoint: Endpoint) -> None:
        """Errors: Refused; then nothing of the endpoint is left."""
        body = world.publish(*endpoint.ports, identity=endpoint.id, network=endpoint.network.id)
        try:
            self._network("ProgramExternalConnectivity", body)
        except Refused:
            self._undo(endpoint, leaves=2)
            raise
        endpoint.published = True

    def _undo(self, endpoint: Endpoint, leaves: int) -> None:
        del self.endpoints[endpoint.container]
        for _ in range(leaves):
            self._ignore("Leave", endpoint)
        body = world.on_endpoint(endpoint.id, endpoint.network.id)
        self._end(f"{NETWORK_DRIVER}.DeleteEndpoint", body, ("endpoint", endpoint.id))
        self._give_back(endpoint)

    def _give_back(self, endpoint: Endpoint) -> None:
        for pool, address in zip(endpoint.network.pools, endpoint.addresses, strict=True):
            self._release_address(pool, address)

    def _network(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.session.call(f"{NETWORK_DRIVER}.{verb}", body)

    def _ignore(self, verb: str, endpoint: Endpoint) -> None:
        """What is answered makes no difference."""
        with suppress(Refused):
            self._network(verb, world.on_endpoint(endpoint.id, endpoint.network.id))

    def _make(self, verb: str, body: Mapping[str, Any], made: Promise, of: str = "") -> dict[str, Any]:
        try:
            return self.session.call(verb, body, of)
        except Refused as error:
            if error.lost:
                self.astray.append(made)
            raise

    def _end(self, verb: str, body: Mapping[str, Any], ended: Promise, of: str = "") -> None:
        """Docker logs what goes wrong with a release, and forgets what it was about."""
        try:
            self.session.call(verb, body, of)
        except Refused:
            self.astray.append(ended)

    def _identity(self) -> str:
        self._made += 1
        return hashlib.sha256(str(self._made).encode()).hexdigest()
