"""A host of the cluster."""

from dataclasses import dataclass
from typing import NewType

from mdnp.model.network import IPAddress

# Drawn once and kept with the state, 16 hex digits.
HostID = NewType("HostID", str)


@dataclass(frozen=True)
class Host:
    """`vtep` is the address of its tunnels on the underlay; `name` is its host name, for people only."""

    id: HostID
    name: str
    vtep: IPAddress
