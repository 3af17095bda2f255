"""How it stands with names on this host, for whoever looks: where they are answered, and why they are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mdnp.dns import Served
from mdnp.model.network import IPAddress


class Road(StrEnum):
    """By which a question comes to us."""

    SANDBOX = "sandbox"  # of a container, before Docker's embedded DNS has it
    GATEWAY = "gateway"  # to the address of a network's gateway
    HOST = "host"  # to the address at which the host itself asks


@dataclass(frozen=True)
class Place:
    """Where names are to be answered, and why they are not; "" where they are."""

    name: str
    trouble: str = ""


@dataclass(frozen=True)
class Standing:
    """
    `sandboxes` by path say why their questions do not come to us, "" where they do. `learned` counts the endpoints on
    networks with names whose names Docker has told, `unlearned` those that joined and of which it has not; `trouble`
    says why it cannot be asked. `resolvers` are those of the host that are asked for what is not ours, `unresolved`
    says why there are none; `served` is what the servers of each road did.
    """

    sandboxes: Mapping[str, str] = field(default_factory=dict)
    gateways: Sequence[Place] = ()
    host: Place | None = None
    learned: int = 0
    unlearned: int = 0
    trouble: str = ""
    resolvers: Sequence[IPAddress] = ()
    unresolved: str = ""
    served: Mapping[Road, Served] = field(default_factory=dict)
