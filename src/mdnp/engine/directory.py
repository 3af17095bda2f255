"""What Docker calls things, remembered: a name is shown wherever Docker could tell it; nobody waits long for one."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field

from mdnp.engine import Engine, EngineUnavailable, Listing
from mdnp.model.network import IPAddress

_WAIT_S = 1.0  # what an operator's look waits for Docker
_AGAIN_S = 5.0  # an id that Docker does not know is not asked for again before this


@dataclass(frozen=True)
class Names:
    """
    The name of each network by its id, and of the container at each endpoint, by the endpoint's id and by its address.
    What Docker has not told is not in.
    """

    networks: Mapping[str, str] = field(default_factory=dict)
    containers: Mapping[str, str] = field(default_factory=dict)
    holders: Mapping[IPAddress, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Health:
    """Whether the engine answers: its version, or why there is none."""

    version: str
    trouble: str = ""


class Directory:
    """An engine that remembers what it was last told. `clock` never goes back."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic, *, wait_s: float = _WAIT_S) -> None:
        self._engine = engine
        self._wait_s = wait_s
        self._clock = clock
        self._names = Names()
        self._asked = float("-inf")
        self._in_vain: set[str] = set()  # what was asked for then, and not told

    async def list(self) -> Listing:
        self._asked = self._clock()
        self._in_vain = set()
        listing = await self._engine.list()
        self._names = Names(
            {one.id: one.name for one in listing.networks.values() if one.name},
            {one.id: one.container for one in listing.endpoints.values() if one.container},
            {address: name for address, name in listing.addresses.items() if name},
        )
        return listing

    async def version(self) -> str:
        return await self._engine.version()

    async def close(self) -> None:
        await self._engine.close()

    @property
    def known(self) -> Names:
        """What was told last, for who asks nobody."""
        return self._names

    async def names(self, networks: Iterable[str], endpoints: Iterable[str]) -> Names:
        """
        All names that are known. Docker is asked, for a second, if it has not told one of these yet. Whoever
        lists what there is for another reason makes them new too: containers may be renamed.
        """
        wanted = {*networks, *endpoints}
        unknown = self._unknown(wanted)
        is_new = bool(unknown - self._in_vain)
        is_due = bool(unknown) and self._clock() >= self._asked + _AGAIN_S
        if (is_new or is_due) and await self._refresh():
            self._in_vain = self._unknown(wanted)
        return self._names

    def _unknown(self, wanted: Set[str]) -> set[str]:
        return wanted - self._names.networks.keys() - self._names.containers.keys()

    async def health(self) -> Health:
        try:
            async with asyncio.timeout(self._wait_s):
                return Health(await self._engine.version())
        except EngineUnavailable as error:
            return Health("", str(error))
        except TimeoutError:
            return Health("", f"Docker does not answer in {self._wait_s:g} s")

    async def _refresh(self) -> bool:
        """Whether Docker answered."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self.list()
        except (EngineUnavailable, TimeoutError):
            return False
        return True
