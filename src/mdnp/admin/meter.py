"""How fast traffic flows at each endpoint: two readings of the kernel's counters, and the time between them."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mdnp.kernel import Kernel, Traffic

# A shorter time says little of a rate, and a longer one little of now.
_SHORTEST_S = 0.05
_LONGEST_S = 60.0


@dataclass(frozen=True)
class Flow:
    """What went over an endpoint's link, as its container sees it: in all, and in bytes a second."""

    total: Traffic
    rx_rate: float
    tx_rate: float


@dataclass(frozen=True)
class Reading:
    at: float
    traffic: Mapping[str, Traffic] = field(default_factory=dict)


def flows(before: Reading, now: Reading) -> dict[str, Flow]:
    """By host end. A link that was not there before, or was made anew, has all of its traffic from since."""
    over_s = now.at - before.at
    return {host_end: _flow(before.traffic.get(host_end), total, over_s) for host_end, total in now.traffic.items()}


def _flow(before: Traffic | None, total: Traffic, over_s: float) -> Flow:
    if before is None or before.rx_bytes > total.rx_bytes or before.tx_bytes > total.tx_bytes:
        before = Traffic()
    return Flow(total, (total.rx_bytes - before.rx_bytes) / over_s, (total.tx_bytes - before.tx_bytes) / over_s)


class Meter:
    """Remembers its last reading, so that who looks again learns of the time since, and waits for nothing."""

    def __init__(self, kernel: Kernel, clock: Callable[[], float] = time.monotonic) -> None:
        self._kernel = kernel
        self._clock = clock
        self._before = Reading(float("-inf"))

    async def flows(self) -> dict[str, Flow]:
        """Errors: KernelError when the counters cannot be read."""
        if self._clock() - self._before.at > _LONGEST_S:
            self._before = await self._read()
        await asyncio.sleep(max(0.0, self._before.at + _SHORTEST_S - self._clock()))
        before, self._before = self._before, await self._read()
        return flows(before, self._before)

    async def _read(self) -> Reading:
        traffic = await self._kernel.traffic()
        return Reading(self._clock(), traffic)
