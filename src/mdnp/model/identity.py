"""Docker's ids. Whole inside; people see the first twelve characters, as with Docker."""

import re
from typing import NewType

from mdnp.model.errors import InvalidParameter

NetworkID = NewType("NetworkID", str)
EndpointID = NewType("EndpointID", str)

# Docker sends 64 hex digits, and 25 characters of base 36 for the networks of a swarm. The lower bound keeps
# the names that we derive from an id (11 characters of it) meaningful, the upper one keeps messages readable.
_ID = re.compile(r"[0-9A-Za-z]{12,128}\Z")


def network_id(text: str) -> NetworkID:
    return NetworkID(_checked(text, "NetworkID"))


def endpoint_id(text: str) -> EndpointID:
    return EndpointID(_checked(text, "EndpointID"))


def short(identity: str) -> str:
    return identity[:12]


def _checked(text: str, field: str) -> str:
    if not _ID.match(text):
        raise InvalidParameter(f"{field} {text[:80]!r}: an id is 12 to 128 letters and digits")
    return text
