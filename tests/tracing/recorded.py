"""What `nft --handle monitor trace` (1.0.6) said of real packets on Linux 6.18, beside Docker 20.10's rules."""

from dataclasses import dataclass
from pathlib import Path

from mdnp.trace import events
from mdnp.trace.events import Journey

_FOLDER = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Recorded:
    """A recording, by its name and the flow's port or ping id."""

    name: str
    number: int

    @property
    def text(self) -> str:
        return (_FOLDER / f"{self.name}.txt").read_text()

    @property
    def journeys(self) -> tuple[Journey, ...]:
        return tuple(events.parse(self.text, "mdnp-trace-7", self.number))


NEIGHBOUR = Recorded("neighbour", 8808)
OUTSIDE = Recorded("outside", 9039)
REJECTED = Recorded("rejected", 43029)
NO_ICC = Recorded("no-icc", 1)
PUBLISHED = Recorded("published", 56007)
HOST_IPV6 = Recorded("host-ipv6", 11210)
