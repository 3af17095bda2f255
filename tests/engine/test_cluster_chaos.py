"""Random operations over three hosts, with all that can happen to them in between (rig/cluster_chaos.py)."""

import pytest

from rig.cluster import Cluster
from rig.cluster_chaos import SEED, STEPS, chaos_on
from rig.quiet import Untrue

pytestmark = pytest.mark.engine


@pytest.mark.timeout(600)
def test_hosts_agree_whatever_was_cut_killed_frozen_or_lost(cluster: Cluster) -> None:
    told: list[str] = []
    try:
        chaos = chaos_on(cluster, SEED, STEPS, told.append)
    except Untrue as error:
        pytest.fail(f"`make chaos-cluster SEED={SEED} STEPS={STEPS}`: {error}\n" + "\n".join(told[-20:]))
    disturbed = [what for what in chaos.counted if what.startswith(("kill-", "freeze-", "lose-", "cut-", "unplug"))]
    assert len(disturbed) == 8
