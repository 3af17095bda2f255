"""A fault at every point of every verb, one at a time, on a real kernel, with the real daemon."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from mdnp.wire.ipam import IpamVerbs
from mdnp.wire.network import NetworkVerbs
from tests.faults import document, matrix
from tests.faults.case import Case, Played
from tests.faults.docker import IPAM_DRIVER, NETWORK_DRIVER
from tests.faults.matrix import Recorded
from tests.faults.nursery import Nursery, opened
from tests.faults.session import ACTIVATE, COLLECT, START

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

_NOBODY = cast("Any", None)
VERBS = (
    ACTIVATE,
    *(f"{NETWORK_DRIVER}.{verb}" for verb in NetworkVerbs(_NOBODY).verbs()),
    *(f"{IPAM_DRIVER}.{verb}" for verb in IpamVerbs(_NOBODY).verbs()),
    START,
    COLLECT,
)
UNDOING = tuple(
    f"{NETWORK_DRIVER}.{verb}" for verb in ("CreateNetwork", "CreateEndpoint", "ProgramExternalConnectivity")
)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with opened() as nursery:
        yield nursery


@pytest.fixture(scope="module")
def recorded(nursery: Nursery) -> Recorded:
    recorded = matrix.record(nursery)
    assert _problems([*recorded.stories, *recorded.undone]) == ""
    return recorded


def test_the_stories_reach_every_point_by_every_verb(recorded: Recorded) -> None:
    reached = matrix.verbs_of_points(recorded)

    assert [name for name, verbs in reached.items() if not verbs] == []
    assert sorted(matrix.cases(recorded)) == sorted(VERBS)
    assert sorted(matrix.deaths_while_undoing(recorded)) == sorted(UNDOING)


def test_the_documentation_lists_the_points_that_the_code_has(recorded: Recorded) -> None:
    assert document.FILE.read_text() == document.text(recorded), "run `python -m tests.faults`"


@pytest.mark.parametrize("verb", VERBS)
def test_a_fault_at_any_point_loses_nothing_and_leaves_nothing(verb: str, nursery: Nursery, recorded: Recorded) -> None:
    _play(matrix.cases(recorded)[verb], nursery)


@pytest.mark.parametrize("verb", UNDOING)
def test_a_death_at_any_point_of_an_undo_leaves_nothing(verb: str, nursery: Nursery, recorded: Recorded) -> None:
    _play(matrix.deaths_while_undoing(recorded)[verb], nursery)


def _play(cases: Sequence[Case], nursery: Nursery) -> None:
    problems = _problems(nursery.play(cases))
    assert problems == "", problems


def _problems(played: "Iterator[Played] | Sequence[Played]") -> str:
    wrong = [one for one in played if one.problem]
    return "\n".join(f"# python -m tests.faults {one.case}\n{one.problem}" for one in wrong)
