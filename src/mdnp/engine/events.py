"""
What of Docker's events is heard, and what it is about. Pure.

What an endpoint is called is fixed when it is made, but for its container's name: so what is heard is that containers
start (their endpoints are there by then) and stop, get other names, or are connected to a network; and of networks that
they are made.
"""

import json
from collections.abc import Iterator
from urllib.parse import quote

import msgspec

from mdnp.engine import Happening, Subject

_FILTERS = {"type": ["container", "network"], "event": ["start", "rename", "die", "create", "connect"]}
EVENTS = f"/events?filters={quote(json.dumps(_FILTERS))}"

_LONGEST = 1 << 20  # bytes of a line: an event tells all labels of its container
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)  # no JSON, no UTF-8, or nests too deep


class _Attributes(msgspec.Struct):
    container: str = ""


class _Actor(msgspec.Struct):
    ID: str = ""
    Attributes: _Attributes | None = None


class _Event(msgspec.Struct):
    Type: str = ""
    Action: str = ""
    Actor: _Actor | None = None


def happening(line: bytes) -> Happening | None:
    """None for what we do not look at, or cannot read."""
    try:
        event = msgspec.json.decode(line, type=_Event)
    except _UNREADABLE:
        return None
    actor = event.Actor or _Actor()
    connected = actor.Attributes.container if actor.Attributes else ""
    match event.Type, event.Action:
        case "container", "start" | "rename" if actor.ID:
            return Happening(Subject.CONTAINER, actor.ID)
        case "container", "die" if actor.ID:
            return Happening(Subject.GONE, actor.ID)
        case "network", "connect" if connected:
            return Happening(Subject.CONTAINER, connected)
        case "network", "create":
            return Happening(Subject.NETWORKS)
    return None


class Lines:
    """Lines of a stream that comes in parts. One of more than `longest` bytes is left out."""

    def __init__(self, longest: int = _LONGEST) -> None:
        self._longest = longest
        self._begun = bytearray()
        self._skips = False  # the line that has begun is too long

    def cut(self, part: bytes) -> Iterator[bytes]:
        """Those that end in this part, without their ends."""
        *ends, rest = part.split(b"\n")
        for end in ends:
            self._go_on(end)
            if not self._skips:
                yield bytes(self._begun)
            self._begun.clear()
            self._skips = False
        self._go_on(rest)

    def _go_on(self, text: bytes) -> None:
        self._skips = self._skips or len(self._begun) + len(text) > self._longest
        if self._skips:
            self._begun.clear()
        else:
            self._begun += text
