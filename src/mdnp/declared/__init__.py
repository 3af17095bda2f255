"""
Networks of the whole cluster: what was declared each host has its own Docker make, and what was withdrawn remove.

Outside of plugin calls, for Docker calls us while it makes a network. `asked` and `plan` are pure; `declarer` has the
effects.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mdnp.member import DeclaredNetwork, DeclaredSubnet
from mdnp.model.errors import InvalidParameter

# At each Docker network that was made so: what was declared, whole. So a network says itself that it is ours, and of
# which declaration, and what to declare anew when etcd has lost its data.
LABEL = "mdnp.declared"
# Who reads what a host tells of a network that was withdrawn knows by this that it is of that.
NOT_REMOVED = "not removed: "


def text_of(network: DeclaredNetwork) -> str:
    """The same for what is equal; `read` reads it."""
    return json.dumps(asdict(network), sort_keys=True, separators=(",", ":"))


def read(text: str) -> DeclaredNetwork:
    """Errors: InvalidParameter for what `text_of` did not write."""
    try:
        plain: Mapping[str, Any] = json.loads(text)
        subnets = tuple(DeclaredSubnet(**one) for one in plain["subnets"])
        return DeclaredNetwork(**{**plain, "subnets": subnets})
    except (ValueError, LookupError, TypeError) as error:
        raise InvalidParameter(f"label {LABEL}={text[:80]}: not one that this mdnp wrote: {error}") from error
