"""
Networks that are to be on every host of the cluster: what was declared each host has its own Docker make, and what was
withdrawn remove.

Outside of plugin calls, for Docker calls us while it makes a network. What stands nowhere is never removed: a
withdrawal is said in so many words and stays, so that etcd's data may be lost and a host be away for a year. `plan` is
pure; `declarer` has the effects.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from mdnp.model.declaration import Declaration, parse
from mdnp.model.errors import InvalidParameter
from mdnp.model.host import HostID

# At each Docker network that was made so: its declaration, whole. So a network says itself that it is ours, of which
# declaration it is, and what to declare anew when etcd has lost its data.
LABEL = "mdnp.declared"

_WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Withdrawn:
    """Stands in place of a declaration; `digest` is that one's."""

    digest: str

    @property
    def text(self) -> str:
        return json.dumps({_WITHDRAWN: self.digest})


@dataclass(frozen=True)
class Report:
    """What a host made of a notice: of which, by its `mark`, and why it is not done, "" if it is."""

    mark: str
    error: str = ""

    @property
    def text(self) -> str:
        return json.dumps({"mark": self.mark, "error": self.error})


Notice = Declaration | Withdrawn


class Board(Protocol):
    """
    What stands in etcd of declared networks, for all hosts. Errors of what writes: ClusterUnavailable, within a second.
    """

    @property
    def connected(self) -> bool:
        """Whether `notices` are what stands there now, and nothing else stands there that was not told yet."""

    @property
    def notices(self) -> Mapping[str, str]:
        """By name what stands there: the text of a notice."""

    def reports(self, name: str) -> Mapping[HostID, str]:
        """By host what it told last of this one: the text of a report."""

    async def post(self, name: str, text: str, instead_of: str | None) -> None:
        """Put a notice in the place of what stands there now, None for nothing. Errors: Conflict if that changed."""

    async def report(self, name: str, text: str) -> None:
        """Tell what this host made of a notice."""


def mark(notice: Notice) -> str:
    """By which a report says what it is of."""
    return f"{_WITHDRAWN} {notice.digest}" if isinstance(notice, Withdrawn) else notice.digest


def read(text: str) -> Notice:
    """Errors: InvalidParameter for what this version cannot read."""
    withdrawn = _field(text, _WITHDRAWN)
    return parse(text) if withdrawn is None else Withdrawn(withdrawn)


def read_report(text: str) -> Report:
    """What cannot be read is of no notice."""
    return Report(_field(text, "mark") or "", _field(text, "error") or "")


def _field(text: str, name: str) -> str | None:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"{text[:80]!r} is nothing that this mdnp can read") from error
    value = found.get(name) if isinstance(found, dict) else None
    return None if value is None else str(value)
