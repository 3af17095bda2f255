"""Rates: two readings, and the time between them."""

import pytest

from mdnp.admin.meter import Flow, Meter, Reading, flows
from mdnp.kernel import Traffic
from tests.world import World

BEFORE = Traffic(rx_bytes=1000, tx_bytes=50)
NOW = Traffic(rx_bytes=3000, tx_bytes=50)


@pytest.mark.parametrize(
    ("before", "now", "flow"),
    [
        ({"mdv-web": BEFORE}, {"mdv-web": NOW}, Flow(NOW, 1000.0, 0.0)),
        ({}, {"mdv-web": NOW}, Flow(NOW, 1500.0, 25.0)),  # made meanwhile
        ({"mdv-web": NOW}, {"mdv-web": BEFORE}, Flow(BEFORE, 500.0, 25.0)),  # made anew meanwhile
    ],
)
def test_a_rate_is_what_went_over_the_link_meanwhile(
    before: dict[str, Traffic], now: dict[str, Traffic], flow: Flow
) -> None:
    assert flows(Reading(10.0, before), Reading(12.0, now)) == {"mdv-web": flow}


def test_what_has_gone_has_no_rate() -> None:
    assert flows(Reading(10.0, {"mdv-web": NOW}), Reading(12.0)) == {}


async def test_who_looks_again_learns_of_the_time_since(world: World) -> None:
    await world.with_endpoint()
    [link] = await world.kernel.traffic()
    world.kernel.carried = {link: BEFORE}
    meter = Meter(world.kernel)

    first = await meter.flows()
    world.kernel.carried = {link: NOW}
    second = await meter.flows()
    third = await meter.flows()

    assert [seen[link].rx_rate > 0 for seen in (first, second, third)] == [False, True, False]
