"""Who asks, and how much of it is let through."""

from dataclasses import dataclass

from mdnp.model.network import IPAddress

_REMEMBERED = 4096  # before those are forgotten that ask nothing now


@dataclass(frozen=True)
class Limits:
    """Of one address, but for `connections` of all. Far above what a container needs: they protect the others."""

    questions_per_s: float = 1000.0
    under_way: int = 256
    own_connections: int = 32
    connections: int = 256
    idle_s: float = 10.0


@dataclass
class Asker:
    """`tokens` are the questions that it may ask at once; `since` is when they were counted, in seconds."""

    tokens: float
    since: float
    under_way: int = 0
    connections: int = 0

    def take(self, now: float, per_s: float) -> bool:
        """Whether one more question is within the rate. At most a second's are saved up."""
        self.tokens = min(per_s, self.tokens + (now - self.since) * per_s)
        self.since = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Askers:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[IPAddress, Asker] = {}
        self._connections = 0

    def of(self, address: IPAddress, now: float) -> Asker:
        asker = self._known.get(address)
        if asker is None:
            if len(self._known) >= _REMEMBERED:
                self._known = {one: it for one, it in self._known.items() if it.under_way or it.connections}
            asker = self._known[address] = Asker(self._limits.questions_per_s, now)
        return asker

    def connect(self, asker: Asker) -> bool:
        """Whether it may have one more connection, which it then has."""
        if asker.connections >= self._limits.own_connections or self._connections >= self._limits.connections:
            return False
        asker.connections += 1
        self._connections += 1
        return True

    def disconnect(self, asker: Asker) -> None:
        asker.connections -= 1
        self._connections -= 1
