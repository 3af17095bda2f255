"""
Steps: single changes to the kernel, as values, each with its owner.

They print as the commands that an operator would type for the same change: the log, `status --diff` and the tests
show these lines.
"""

from dataclasses import dataclass
from typing import NewType

from mdnp.dataplane import rows
from mdnp.dataplane.naming import DOOMED_GROUP
from mdnp.dataplane.objects import (
    Accept,
    Element,
    Fdb,
    HostPort,
    Jump,
    Link,
    Lookup,
    Neigh,
    Object,
    Peer,
    PoolRoute,
    Row,
    Rule,
    Sysctl,
    Table,
)

# The id of the network, endpoint or remote endpoint that a step is for. Only the owner's failure fails a verb.
Owner = NewType("Owner", str)
NOBODY = Owner("")
# For what is the host's as a whole: our tables, forwarding, what Docker's chain must let pass. It is planned with every
# network and endpoint, and its failure fails a network's creation.
HOST = Owner("host")


Removable = Link | Rule | Table | Element | HostPort | Row | PoolRoute | Lookup


@dataclass(frozen=True)
class Add:
    """
    Make an object that is not there. A veth's or bridge's add makes the whole of it, in one message; that of a table
    its chains and rules, and leaves the elements of a table that was there; that of a rule removes copies of it. When
    an element leads UDP of a port of the host somewhere, flows that went elsewhere end, as they do when it is deleted.
    A row or a route takes the place of another of its key.
    """

    object: Object
    owner: Owner

    def __str__(self) -> str:
        match self.object:
            case Table():
                return f"nft add {self.object} with its chains and rules"
            case HostPort():
                return f"hold {self.object}"
            case Sysctl():
                return f"sysctl -w {self.object}"
        return _command(self.object, _verb(self.object), "-I")


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
        of_port = self._of_port()
        if of_port:  # the last: what follows a type are its own options
            words.append(f"type bridge_slave {of_port}")
        return " ".join(words)

    def _of_port(self) -> str:
        if self.link.flags:
            return self.link.flags.words(self.was.flags)
        return f"hairpin {'on' if self.link.hairpin else 'off'}" if self.link.hairpin is not self.was.hairpin else ""


@dataclass(frozen=True)
class Delete:
    """
    Remove what should not be there. What is gone already counts as removed.

    An address never needs it: ours live as long as their bridge and go with it, and others' are not ours to remove.
    """

    object: Removable
    owner: Owner

    def __str__(self) -> str:
        if isinstance(self.object, HostPort):
            return f"let go of {self.object}"
        return _command(self.object, "del", "-D")


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


def _verb(made: Object) -> str:
    """How the programs call making it, or putting it in the place of another."""
    match made:
        case Peer():
            return "set"
        case Fdb(mac=rows.EVERYBODY):
            return "append"
        case Fdb() | Neigh() | PoolRoute():
            return "replace"
    return "add"


def _command(what: Object | Link, verb: str, iptables_verb: str) -> str:
    """The object in the words of the program that makes and removes it."""
    match what:
        case Table() | Element():
            return f"nft {'delete' if verb == 'del' else verb} {what}"
        case Accept() | Jump():
            program, rest = str(what).split(" ", 1)
            return f"{program} {iptables_verb} {rest}"
        case Fdb():
            return f"bridge fdb {verb} {str(what).removeprefix('fdb ')}"
        case Lookup(family=6):
            return f"ip -6 rule {verb} {str(what).removeprefix('rule ')}"
        case _:
            noun, rest = str(what).split(" ", 1)
            return f"ip {noun} {verb} {rest}"
