"""Our nft tables: reading them back as values, and steps on them as transactions."""

import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mdnp.dataplane.naming import TABLE
from mdnp.dataplane.objects import Element, Table, TableFamily
from mdnp.dataplane.steps import Add, Delete, Step
from mdnp.kernel import elements, nfnetlink
from mdnp.kernel.nfnetlink import Message
from mdnp.kernel.nftables import Nftables, is_missing
from mdnp.model.errors import KernelError

_FAMILIES: tuple[TableFamily, ...] = ("inet", "bridge")
_UNSUPPORTED = re.compile("not supported|cache initialization failed")
_KINDS = ("chain", "set", "map")
_DECLARATION = re.compile(r"^\s*(chain|set|map) (\w+) {", re.MULTILINE)
_NEEDED = "mdnp needs nf_tables with NAT, fib and the bridge family in the kernel"

Json = Mapping[str, Any]


@dataclass
class Seen:
    """What was read: tables and elements, and the counters of elements by table family, set and element."""

    objects: list[Table | Element] = field(default_factory=list)
    counted: dict[tuple[str, ...], int] = field(default_factory=dict)


class Tables:
    """For one thread. What a table looks like when it is as we made it is learned by reading it after making it."""

    def __init__(self) -> None:
        self._nft: Nftables | None = None
        self._socket: socket.socket | None = None
        self._made: dict[TableFamily, tuple[Table, list[Json]]] = {}

    def observe(self) -> Seen:
        """Errors: KernelError. A host without nftables has none of our tables."""
        seen = Seen()
        for family in _FAMILIES:
            try:
                listing = self._library.tables(family, TABLE, elements=True)
            except KernelError as error:
                if _UNSUPPORTED.search(str(error)):
                    continue
                raise
            if listing:
                seen.objects.append(self._as_made(family, listing))
                _read_elements(family, listing, seen)
        return seen

    def perform(self, steps: Sequence[Step]) -> None:
        """One transaction. Errors: KernelError, and then nothing of it was done."""
        packed = elements.messages(steps)
        if packed is not None:
            self._transact(packed)
            return
        made = [step.object for step in steps if isinstance(step, Add) and isinstance(step.object, Table)]
        try:
            removals = [line for table in made for line in self._strangers(table)]
            self._library.run("\n".join([*removals, *map(_command, steps)]))
        except KernelError as error:
            raise _explained(error) from error
        for table in made:
            self._made[table.family] = table, _constant(self._library.tables(table.family, TABLE, elements=False))

    def _transact(self, messages: Sequence[Message]) -> None:
        """By a socket that is kept: the kernel names it when it tells of the change, and so it is known for ours."""
        try:
            if self._socket is None:
                self._socket = nfnetlink.opened()
            nfnetlink.transact(self._socket, messages)
        except OSError as error:
            self._release_socket()  # answers may still be waiting in it
            raise KernelError(f"nf_tables: {error.strerror or error}") from error

    def _release_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _strangers(self, table: Table) -> list[str]:
        """
        Commands that remove what somebody else put into our table: to fill it anew would leave a chain, and what that
        drops.
        """
        listing = self._library.tables(table.family, TABLE, elements=False)
        declared = set(_DECLARATION.findall(table.text))
        names = [(kind, body["name"]) for one in listing for kind, body in one.items() if kind in _KINDS]
        strangers = sorted(one for one in names if one not in declared)
        flush = [f"flush {table}"] if strangers else []
        return [*flush, *(f"delete {kind} {table.family} {TABLE} {name}" for kind, name in strangers)]

    def take(self, step: Step) -> None:
        """One step alone. What is gone already counts as removed."""
        try:
            self.perform([step])
        except KernelError as error:
            if isinstance(step, Delete) and is_missing(error):
                return
            if isinstance(step, Add) and isinstance(step.object, Table) and not _UNSUPPORTED.search(str(error)):
                self._make_anew(step)
                raise KernelError("what was there under its name was not as mdnp makes it; made anew") from error
            raise

    def _make_anew(self, step: Add) -> None:
        """Without the elements that were in it: so this counts as a failure, and the next look finds them gone."""
        head = str(step.object)
        self._library.run(f"add {head}\ndelete {head}")
        self.perform([step])

    def close(self) -> None:
        if self._nft is not None:
            self._nft.close()
        self._release_socket()

    @property
    def _library(self) -> Nftables:
        if self._nft is None:
            self._nft = Nftables.open()
        return self._nft

    def _as_made(self, family: TableFamily, listing: Sequence[Json]) -> Table:
        made = self._made.get(family)
        if made is not None and made[1] == _constant(listing):
            return made[0]
        return Table(family, "")


def _command(step: Step) -> str:
    match step:
        case Add(Table() as table):
            # The chains are emptied and filled in one transaction: no packet meets half of them.
            head = str(table)
            return f"add {head}\nflush {head}\n{head} {{{table.text}}}"
        case Add(Element() as element):
            return f"add {element}"
        case Delete(Element() | Table() as gone):
            return f"delete {gone}"
    raise AssertionError(step)


def _explained(error: KernelError) -> KernelError:
    return KernelError(f"{error}: {_NEEDED}") if _UNSUPPORTED.search(str(error)) else error


def _constant(listing: Iterable[Json]) -> list[Json]:
    """The listing without what changes while a table stays as it was made: elements and handles."""
    return [
        {kind: {name: value for name, value in body.items() if name not in ("handle", "elem")}}
        for one in listing
        for kind, body in one.items()
    ]


def _read_elements(family: TableFamily, listing: Iterable[Json], seen: Seen) -> None:
    for one in listing:
        body = one.get("set") or one.get("map")
        if body is None:
            continue
        for row in body.get("elem", ()):
            element, counted = _element(family, body, row)
            seen.objects.append(element)
            if counted is not None:
                seen.counted[element.key] = counted


def _element(family: TableFamily, body: Json, row: Any) -> tuple[Element, int | None]:
    """An element as nft lists it: its key, in a map [key, value]; with a counter {"elem": {"val": key, …}}."""
    value: Any = None
    if "map" in body:
        row, value = row
    counted = None
    if isinstance(row, Mapping) and "elem" in row:
        counted = row["elem"].get("counter", {}).get("packets")
        row = row["elem"]["val"]
    kinds = body["type"] if isinstance(body["type"], list) else [body["type"]]
    parts = tuple(_text(part, kind) for part, kind in zip(_parts(row), kinds, strict=True))
    values = tuple(str(part) for part in _parts(value)) if value is not None else ()
    return Element(family, body["name"], parts, values), counted


def _parts(value: Any) -> list[Any]:
    return list(value["concat"]) if isinstance(value, Mapping) and "concat" in value else [value]


def _text(part: Any, kind: str) -> str:
    """A part of an element as it is written."""
    if isinstance(part, str) and kind != "integer":  # nearly all are: with a thousand endpoints this is read often
        return f'"{part}"' if kind == "ifname" else part
    match part:
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": ends}:
            return "-".join(_ends(ends, kind))
    return next(_ends([part], kind))


def _ends(values: Iterable[Any], kind: str) -> Iterator[str]:
    for value in values:
        if kind == "ifname":
            yield f'"{value}"'
        elif kind == "integer":
            yield f"{int(str(value), 0):#x}"
        else:
            yield str(value)
