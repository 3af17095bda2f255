"""What the daemon promised and Docker does not have, and what Docker has and the kernel does not. Pure."""

from collections.abc import Iterable, Iterator

from mdnp.dataplane import naming
from mdnp.doctor import Daemon, Docker, Json, Rows

_BRIDGE_NAME = "com.docker.network.bridge.name"


def unclaimed(daemon: Daemon, docker: Docker) -> frozenset[str]:
    """`network ID` and `endpoint ID` of what Docker does not list now; it may have been about to."""
    networks = {one["Id"] for one in docker.networks}
    attached = {one["EndpointID"] for one in _attached(docker.containers)}
    return frozenset(
        [
            *(f"network {one['id']}" for one in daemon.networks if one["id"] not in networks),
            *(f"endpoint {one['id']}" for one in daemon.endpoints if one["id"] not in attached),
        ]
    )


def missing(docker: Docker, driver: str, links: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Links that Docker's networks of `driver` and their containers should have: the link, and whose it is."""
    there = set(links)
    ours = {one["Id"]: one for one in docker.networks if image_of(one.get("Driver", "")) == driver}
    for identity, network in ours.items():
        if (name := bridge_of(network)) not in there:
            yield name, f"network {network.get('Name') or identity}"
    for container in docker.containers:
        for one in _attached([container]):
            name = naming.host_end(one["EndpointID"])
            if one["NetworkID"] in ours and name not in there:
                yield name, f"container {(container.get('Names') or ['?'])[0].removeprefix('/')}"


def image_of(driver: str) -> str:
    """The name of a driver without registry and tag, which those that Docker runs itself have."""
    return driver.rpartition("/")[2].partition(":")[0]


def bridge_of(network: Json) -> str:
    """The bridge of a network as Docker lists it."""
    chosen: str = (network.get("Options") or {}).get(_BRIDGE_NAME, "")
    return chosen or f"{naming.BRIDGE_PREFIX}{network['Id'][: naming.ID_LENGTH]}"


def _attached(containers: Rows) -> Iterator[Json]:
    for container in containers:
        networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
        yield from (one for one in networks.values() if one and one.get("EndpointID"))
