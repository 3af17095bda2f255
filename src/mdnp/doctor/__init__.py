"""
What is wrong with this host, said by independent checks; nothing is changed here.

`facts` looks, each fact by itself: one that cannot be had is a value that says why, and spoils nothing but the checks
that need it. `firewall` and `checks` are pure: they turn facts into findings. All of it runs in the command's own
process, since it must work when the daemon does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, Union

from mdnp.config import Settings
from mdnp.doctor.firewall import Chain

T = TypeVar("T")
Json = Mapping[str, Any]
Rows = Sequence[Json]


class Verdict(StrEnum):
    """In the order in which they outweigh each other."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    TROUBLE = "trouble"


@dataclass(frozen=True)
class Finding:
    """What is wrong, why it matters, what to do about it. Of what is well, only `what`, and that may be empty."""

    verdict: Verdict
    what: str
    why: str = ""
    do: str = ""


@dataclass(frozen=True)
class Unknown:
    """A fact that could not be had."""

    reason: str


Fact = Union[T, Unknown]  # noqa: UP007  # mypy takes no other for a generic alias


class NotKnown(Exception):
    """A check needs a fact that could not be had."""


def need(fact: T | Unknown) -> T:
    if isinstance(fact, Unknown):
        raise NotKnown(fact.reason)
    return fact


def given(fact: T | Unknown, otherwise: T) -> T:
    return otherwise if isinstance(fact, Unknown) else fact


@dataclass(frozen=True)
class File:
    """`mode` are the permission bits; `kind` is `socket`, `folder`, `file` or `other`."""

    kind: str
    mode: int
    owner: int


@dataclass(frozen=True)
class Disk:
    """Free and whole, in bytes and in inodes; a file system without inodes has none of either."""

    place: Path
    free: int
    size: int
    free_inodes: int
    inodes: int


@dataclass(frozen=True)
class Clock:
    """`newest` is when the youngest file of the state was written; both are seconds of the epoch."""

    now: float
    newest: float | None
    synchronised: bool
    keepers: frozenset[str]


@dataclass(frozen=True)
class Units:
    """
    systemd's files. A unit is its settings by `Section.Key`, None if there is no such unit; `enabled` are those that
    some other one wants or requires; `runs` says that systemd is this host's first process, and `state` is then the
    daemon's (`inactive`, `active`, `failed`…).
    """

    runs: bool
    units: Mapping[str, Mapping[str, Sequence[str]] | None]
    enabled: frozenset[str]
    state: str = ""


@dataclass(frozen=True)
class Modules:
    """Of the running kernel: whether it takes modules at all, and whether the folder with its modules is there."""

    release: str
    modular: bool
    folder: bool


@dataclass(frozen=True)
class Docker:
    """Its answers to /version, /info, /networks and /containers/json."""

    version: Json
    info: Json
    networks: Rows
    containers: Rows


@dataclass(frozen=True)
class Etcd:
    """A server as it answers us: the id of its cluster, or why it is of no use."""

    cluster: int = 0
    trouble: str = ""


@dataclass(frozen=True)
class Daemon:
    """Its answers to the operator: /status, /network, /endpoint, /port, /pool, /config; in a cluster also /host."""

    status: Json
    networks: Rows
    endpoints: Rows
    ports: Rows
    pools: Rows
    settings: Mapping[str, str]
    hosts: Rows = ()


@dataclass(frozen=True)
class Facts:
    """
    All that is looked at. `settings` are what this command was given, but for where the daemon has its files;
    `unclaimed` is what Docker twice did not list; `features` says why what the data plane needs
    cannot be made here, "" if it can; `sysctls` are by path below /proc/sys; `files` and their `places` by role;
    `certificates` are when those end by which Docker and the daemon know each other over TCP, in seconds of the epoch;
    `listening` are the names of unix sockets; `asked` are the UDP ports of the host with the address that they are
    open on; `resolvers` are those of /etc/resolv.conf, `resolved` those that systemd-resolved is configured to ask;
    `etcd` are the servers of the cluster by URL, none if this host is in no cluster.
    """

    settings: Settings
    superuser: bool
    configuration: Fact[str]
    daemon: Fact[Daemon]
    docker: Fact[Docker]
    unclaimed: Fact[frozenset[str]]
    links: Fact[Rows]
    addresses: Fact[Rows]
    routes: Fact[Rows]
    neighbours: Fact[Rows]
    chains: Fact[Sequence[Chain]]
    sysctls: Fact[Mapping[str, str]]
    features: Fact[Mapping[str, str]]
    modules: Fact[Modules]
    library: Fact[str]
    nft: Fact[str]
    iptables: Fact[str]
    files: Mapping[str, Fact[File | None]]
    places: Mapping[str, Path]
    disk: Fact[Disk]
    listening: Fact[frozenset[str]]
    asked: Fact[frozenset[tuple[str, int]]]
    resolvers: Fact[Sequence[str]]
    resolved: Fact[Sequence[str]]
    specs: Fact[Sequence[Path]]
    units: Fact[Units]
    clock: Fact[Clock]
    certificates: Fact[Mapping[str, Fact[float]]]
    etcd: Fact[Mapping[str, Etcd]]
