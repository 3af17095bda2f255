"""An endpoint, and the phases of its life."""

from dataclasses import dataclass, field
from enum import StrEnum

from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.mac import MAC
from mdnp.model.network import IPAddress, IPInterface, IPNetwork
from mdnp.model.port import Publication


class Phase(StrEnum):
    """
    Where an endpoint is in its life, which says what drift is.

    Docker takes the sandbox end of the veth into the sandbox some time after Join and brings it back some time after
    Leave, or never, when the sandbox dies first. So only a `CREATED` endpoint's links can be made again; a `JOINED`
    one whose links vanished is lost, and of a `LEFT` one nothing is expected.
    """

    CREATED = "created"
    JOINED = "joined"
    LEFT = "left"


@dataclass(frozen=True)
class Endpoint:
    """
    What this host promised about an endpoint. `mac_given` says that Docker chose the MAC, not we; `allowed` are the
    networks that it may use besides its addresses. `since` is when it was promised, in seconds since the epoch. `annex`
    says on which bridge of its network it is: 0 on the network's own, else on the annex of this number.
    """

    id: EndpointID
    network_id: NetworkID
    mac: MAC
    mac_given: bool
    addresses: tuple[IPInterface, ...]
    phase: Phase = Phase.CREATED
    sandbox: str = ""
    allowed: tuple[IPNetwork, ...] = ()
    ports: tuple[Publication, ...] = ()
    since: float = field(default=0.0, compare=False)
    generation: int = field(default=0, compare=False)  # in a segment: more than any earlier holder's of its addresses
    annex: int = field(default=0, compare=False)

    def address(self, version: int) -> IPAddress | None:
        """Its address of a family, 4 or 6."""
        return next((one.ip for one in self.addresses if one.version == version), None)
