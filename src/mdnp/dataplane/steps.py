"""
Steps: single changes to the kernel, as values, each with its owner.

They print as the commands that an operator would type for the same change: the log, `status --diff` and the tests
show these lines.
"""

from dataclasses import dataclass
from typing import NewType

from mdnp.dataplane.naming import DOOMED_GROUP
from mdnp.dataplane.objects import Accept, Link, Object

# The id of the network or endpoint that a step is for. Only the owner's failure fails a verb.
Owner = NewType("Owner", str)
NOBODY = Owner("")


@dataclass(frozen=True)
class Add:
    """Make an object that is not there. A veth's or bridge's add makes the whole of it, in one message."""

    object: Object
    owner: Owner

    def __str__(self) -> str:
        program_or_noun, rest = str(self.object).split(" ", 1)
        if isinstance(self.object, Accept):
            return f"{program_or_noun} -I {rest}"
        return f"ip {program_or_noun} add {rest}"


@dataclass(frozen=True)
class Set:
    """Change a link of ours from what it `was` to what it should be."""

    link: Link
    was: Link
    owner: Owner

    def __str__(self) -> str:
        words = [f"ip link set {self.link.name}"]
        for name in ("mtu", "master", "mac", "group"):
            value = getattr(self.link, name)
            if value is not None and value != getattr(self.was, name):
                words.append(f"{'address' if name == 'mac' else name} {value}")
        if self.was.master and not self.link.master:
            words.append("nomaster")
        if not self.was.up:
            words.append("up")
        return " ".join(words)


@dataclass(frozen=True)
class Delete:
    """
    Remove what should not be there. What is gone already counts as removed.

    An address never needs it: ours live as long as their bridge and go with it, and others' are not ours to remove.
    """

    object: Link | Accept
    owner: Owner

    def __str__(self) -> str:
        program_or_noun, rest = str(self.object).split(" ", 1)
        if isinstance(self.object, Accept):
            return f"{program_or_noun} -D {rest}"
        return f"ip {program_or_noun} del {rest}"


@dataclass(frozen=True)
class Doom:
    """
    Mark a veth for deletion, so that it can die after the answer, together with others.

    Only veths may: a bridge or an address that stays a little longer leaves a second route to its subnet.
    """

    link: Link
    owner: Owner

    def __str__(self) -> str:
        return f"ip link set {self.link.name} group {DOOMED_GROUP}"


Step = Add | Set | Delete | Doom
