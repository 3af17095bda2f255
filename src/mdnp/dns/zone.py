"""
The zone of a network, and what a container may ask of the zones of all its networks. Pure.

A name is asked for as NAME, NAME.NETWORK or NAME.NETWORK.mdnp. Docker allows dots in both parts, so that a name is
never split: what a zone ends its names with is cut off, and the rest is one of its names or is not. What is below
`.mdnp` and is not there does not exist, and nobody else is asked for it. NAME.NETWORK that is not there may be a name
of the outside (a network may be called `dev`), and goes on as it does with Docker alone.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from random import Random
from typing import TypeVar

from mdnp.dns import SUFFIX, Answer, Kind, Question, Record, Resident, Target
from mdnp.dns.index import Index
from mdnp.dns.spelling import Service, address_of, is_name, service_of, spelled
from mdnp.model.network import IPAddress, IPNetwork

# Records in an answer: 4 KiB of IPv4 addresses, over TCP. A service has more replicas seldom; each answer draws others.
MOST = 256

_FAMILIES = {Kind.A: 4, Kind.AAAA: 6}
_KINDS = {version: kind for kind, version in _FAMILIES.items()}
_One = TypeVar("_One")
_NODATA = Answer()
_NXDOMAIN = Answer(exists=False)


class Form(IntEnum):
    """
    How a name is asked for, in the order in which that counts. Below `.mdnp` a name is ours first: no container of the
    name `web.blue.mdnp` comes before the one that is meant. Then Docker's order: a NAME with dots comes before the same
    NAME.NETWORK.
    """

    SURE = 0  # NAME.NETWORK.mdnp
    ALONE = 1
    IN_NETWORK = 2


@dataclass(frozen=True)
class Match:
    """Those of a zone that have the name asked for; `left`: Docker's embedded DNS finds them all by this name."""

    zone: "Zone"
    residents: Collection[Resident]
    left: bool


class Zone:
    """
    Who is on a network, by name and by address; `network` is its name, empty while it is not known: then its residents
    are found by NAME alone. A change costs what it touches. What cannot be a DNS name is not found.
    """

    def __init__(self, network: str, pools: Sequence[IPNetwork]) -> None:
        self._pools = tuple(pools)
        self._residents: dict[str, Resident] = {}
        self._by_name: Index[str, str, Resident] = Index()
        self._by_address: Index[IPAddress, str, Resident] = Index()
        self._above: Index[str, tuple[str, str], Resident] = Index()  # by what is behind each dot of a name
        self.call(network)

    @property
    def residents(self) -> Mapping[str, Resident]:
        return self._residents

    def call(self, network: str) -> None:
        """The network has this name."""
        network = network if is_name(network) else ""
        end = f".{network}" if network else None
        self._written = (end and f"{end}.{SUFFIX}", "", end)
        self._ends = tuple(one and one.lower() for one in self._written)
        # Docker takes a network's name as it is written, and a question says nothing of that.
        self._docker_finds = {Form.ALONE, Form.IN_NETWORK} if network == network.lower() else {Form.ALONE}

    def put(self, key: str, resident: Resident) -> None:
        """The resident of this key is this now."""
        if self._residents.get(key) == resident:
            return
        self.drop(key)
        self._residents[key] = resident
        for address in resident.addresses:
            self._by_address.put(address, key, resident)
        for name in _keys(resident):
            self._by_name.put(name, key, resident)
            for above in _above(name):
                self._above.put(above, (key, name), resident)

    def drop(self, key: str) -> None:
        """One that is not there is no error."""
        resident = self._residents.pop(key, None)
        if resident is None:
            return
        for address in resident.addresses:
            self._by_address.drop(address, key)
        for name in _keys(resident):
            self._by_name.drop(name, key)
            for above in _above(name):
                self._above.drop(above, (key, name))

    def match(self, name: str, form: Form) -> Match | None:
        short = self._without_end(name, form)
        found = self._by_name.of(short) if short else ()
        if not short or not found:
            return None
        left = form in self._docker_finds and all(one.here and _is_dockers(short, one) for one in found)
        return Match(self, found, left)

    def at(self, address: IPAddress) -> Collection[Resident]:
        return self._by_address.of(address)

    def covers(self, address: IPAddress) -> bool:
        return any(address in pool for pool in self._pools)

    def has_below(self, name: str) -> bool:
        """Whether names of ours are below this one."""
        shorts = (self._without_end(name, form) for form in (Form.SURE, Form.IN_NETWORK))
        return any(one in self._above for one in shorts) or (self._ends[Form.SURE] or "").endswith(f".{name}")

    def spell(self, resident: Resident, form: Form) -> str:
        """The foremost name of a resident, as users wrote it; alone where it would be too long. Empty: it has none."""
        name = next(iter(spelled(resident.names)), "")
        whole = f"{name}{self._written[form] or ''}"
        return whole if name and is_name(whole) else name

    def _without_end(self, name: str, form: Form) -> str | None:
        end = self._ends[form]
        if end is None or not name.endswith(end):
            return None
        return name[: len(name) - len(end)]


class Zones:
    """
    The zones of whoever asks, as one. Where several have a name, all of them answer. `everywhere`: for the host itself,
    which is on no network, and so is answered only what is ours beyond doubt, and addresses by such names.
    """

    def __init__(self, zones: Sequence[Zone], random: Random | None = None, *, everywhere: bool = False) -> None:
        self._zones = zones
        self._random = random or Random()  # noqa: S311  # whom a client meets first is no secret
        self._everywhere = everywhere

    def find(self, question: Question) -> Answer | None:
        name = question.name
        address = address_of(name)
        if address is not None:
            return self._of_address(question, address)
        if self._everywhere and not _is_ours(name):
            return None
        matches = self._matches(name)
        if matches:
            return self._of_hosts(question, matches)
        service = service_of(name)
        matches = self._matches(service.name) if service else []
        if service and matches:
            return self._of_service(question, service, matches)
        return self._of_nobody(name)

    def _matches(self, name: str) -> list[Match]:
        for form in (Form.SURE,) if self._everywhere else Form:
            found = [match for zone in self._zones if (match := zone.match(name, form))]
            if found:
                return found
        return []

    def _of_hosts(self, question: Question, matches: Sequence[Match]) -> Answer:
        kinds = {_FAMILIES[kind]: kind for kind in _kinds(question, *_FAMILIES)}
        addresses = self._some(
            address
            for match in matches
            for one in match.residents
            for address in one.addresses
            if address.version in kinds
        )
        records = tuple(Record(question.name, kinds[address.version], address) for address in addresses)
        return Answer(records, left=question.kind in _FAMILIES and all(match.left for match in matches))

    def _of_service(self, question: Question, service: Service, matches: Iterable[Match]) -> Answer:
        doors = [
            (match.zone, one, port)
            for match in matches
            for one in match.residents
            for transport, port in one.ports
            if transport == service.transport and service.port in ("", str(port))
        ]
        if service.port and not doors:
            return _NXDOMAIN
        if not _kinds(question, Kind.SRV):
            return _NODATA
        targets = [(Target(zone.spell(one, Form.SURE), port), one) for zone, one, port in self._some(doors)]
        records = dict.fromkeys(Record(question.name, Kind.SRV, target) for target, _ in targets)
        additional = dict.fromkeys(
            Record(target.name, _KINDS[address.version], address)
            for target, one in targets
            for address in one.addresses
        )
        return Answer(tuple(records), tuple(additional))

    def _of_address(self, question: Question, address: IPAddress) -> Answer | None:
        zones = [zone for zone in self._zones if zone.covers(address)]
        if not zones:
            return None
        form = Form.SURE if self._everywhere else Form.IN_NETWORK  # the latter is what Docker says
        residents = [(one, zone.spell(one, form)) for zone in zones for one in zone.at(address)]
        names = [name for _, name in residents if name]
        told = self._some(names) if _kinds(question, Kind.PTR) else ()
        records = tuple(Record(question.name, Kind.PTR, one) for one in told)
        left = question.kind == Kind.PTR and bool(residents) and all(one.here for one, _ in residents)
        return Answer(records, exists=bool(names), left=left)

    def _of_nobody(self, name: str) -> Answer | None:
        if self._has_below(name):
            return _NODATA
        if not _is_ours(name):
            return None
        return _NODATA if name == SUFFIX else _NXDOMAIN

    def _has_below(self, name: str) -> bool:
        return any(zone.has_below(name) for zone in self._zones)

    def _some(self, found: Iterable[_One]) -> tuple[_One, ...]:
        """In random order, each once, and not too many."""
        every = tuple(found)
        drawn = self._random.sample(every, min(len(every), MOST))
        return tuple(dict.fromkeys(drawn))


def _kinds(question: Question, *known: Kind) -> list[Kind]:
    return [kind for kind in known if question.kind in (kind, Kind.ANY)]


def _is_ours(name: str) -> bool:
    return name == SUFFIX or name.endswith(f".{SUFFIX}")


def _is_dockers(name: str, resident: Resident) -> bool:
    return any(name == one.lower() for one in (resident.names.name, *resident.names.aliases))


def _keys(resident: Resident) -> set[str]:
    return {one.lower() for one in spelled(resident.names)}


def _above(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[count:]) for count in range(1, len(labels))]
