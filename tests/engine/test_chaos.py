"""Random operations, kills and disturbances, and the truth in the quiet after them (rig/chaos.py)."""

import pytest

from rig.chaos import SEED, STEPS, Chaos, chaos_on
from rig.quiet import Untrue
from rig.rootfs import chosen
from rig.sandbox import Run

pytestmark = [pytest.mark.engine, pytest.mark.root]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", chosen())
def test_nothing_is_lost_or_left_whatever_is_killed(version: str) -> None:
    told: list[str] = []
    try:
        with Run() as run:
            chaos = chaos_on(run, version, SEED, STEPS, told.append)
    except Untrue as error:
        pytest.fail(f"`make chaos SEED={SEED} STEPS={STEPS} ENGINE={version}`: {error}\n" + "\n".join(told[-20:]))
    assert _kills(chaos) >= 50


def _kills(chaos: Chaos) -> int:
    return chaos.counted["kill-plugin"] + chaos.counted["kill-engine"]
