"""Which cases there are, by what the stories were seen to reach."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.faults.case import MAKING, Case, Played
from tests.faults.nursery import Nursery
from tests.faults.points import DONE, POINTS, Fault, Kind
from tests.faults.session import START, Step
from tests.faults.story import STORIES, WITH_CLUSTER, WITH_IPTABLES

WHOLE = os.environ.get("FAULTS") == "all"

# The steps that make something.
_STEPS = [one for one in POINTS if one.startswith(("kernel.add.", "kernel.set.")) and not one.endswith(DONE)]
# But these are of what other hosts tell: a verb is not undone for them.
_ROWS = ("kernel.add.fdb", "kernel.add.neigh")
_LOOK = "kernel.observe"

Hit = tuple[str, int]  # a point, and which time it was reached
Place = tuple[str, str, int]  # the same of a verb (refused or not)


@dataclass(frozen=True)
class Recorded:
    """The stories without a fault, and those in which what a verb makes is refused until it undoes it."""

    stories: Sequence[Played]
    undone: Sequence[Played]


def record(nursery: Nursery) -> Recorded:
    order = list(STORIES)
    stories = sorted(nursery.play(map(Case, order)), key=lambda one: order.index(one.case))
    return Recorded(stories, list(nursery.play(_undoing(stories))))


def cases(recorded: Recorded) -> dict[str, list[Case]]:
    """Each kind of fault at each place, by verb."""
    stories = {one.case: one for one in recorded.stories}
    found: dict[str, list[Case]] = {}
    for (verb, point, hit), (story, number) in _places(recorded.stories).items():
        faults = [Fault(point, hit, kind) for kind in POINTS[point].kinds]
        if _has_twin((point, hit), stories[story].steps[number].trace):
            faults = [one for one in faults if one.kind is not Kind.KILL]
        found.setdefault(_bare(verb), []).extend(Case(story, number, (fault,)) for fault in faults)
    return found


def deaths_while_undoing(recorded: Recorded) -> dict[str, list[Case]]:
    """At each point after the failure, by verb."""
    found: dict[str, list[Case]] = {}
    for played in recorded.undone:
        case = Case.parse(played.case.split())
        [failure] = case.faults
        step = played.steps[case.target or 0]
        hits = [one for one in _after(failure, step.trace) if not _has_twin(one, step.trace)]
        found[step.verb] = [Case(case.story, case.target, (failure, Fault(*one, Kind.KILL))) for one in hits]
    return found


def verbs_of_points(recorded: Recorded) -> Mapping[str, list[str]]:
    """Which verbs hit each point, sorted."""
    found = _places(recorded.stories)
    return {name: sorted({_bare(verb) for verb, point, _ in found if point == name}) for name in POINTS}


def _has_twin(hit: Hit, trace: Sequence[str]) -> bool:
    """
    Between the end of one thing and the beginning of the next nothing is touched: to die at either leaves the same.
    With FAULTS=all it is tried all the same.
    """
    return not WHOLE and hit[0].endswith(DONE) and list(_hits(trace))[-1] != hit


def _places(played: Iterable[Played]) -> dict[Place, tuple[str, int]]:
    """Where each is reached: the story, and the number of the call in it; of several what takes the least time."""
    found: dict[Place, tuple[str, int]] = {}
    for one in sorted(played, key=lambda one: one.case in WITH_IPTABLES):
        for number, step in enumerate(one.steps):
            for point, hit in _hits(step.trace):
                if point.startswith(_LOOK) and (hit > 1 or _looks_by_itself(one, step)):
                    continue  # a second look comes when the first one came early: on a busy machine, or not at all
                place = (step.name, point, hit)
                known = found.get(place)
                if known is None or (number < known[1] and one.case not in WITH_IPTABLES):
                    found[place] = one.case, number
    return found


def _looks_by_itself(played: Played, step: Step) -> bool:
    """In a cluster rows come and go beside the calls, and their notices with them."""
    return played.case in WITH_CLUSTER and step.verb != START


def _undoing(stories: Sequence[Played]) -> Iterator[Case]:
    """Of each verb that makes something the last step is refused: then there is the most to be undone."""
    for verb in MAKING:
        calls = [
            (one.case, number) for one in stories for number, step in enumerate(one.steps) if _bare(step.name) == verb
        ]
        traces = {one.case: [step.trace for step in one.steps] for one in stories}
        story, number = max(calls, key=lambda call: len(traces[call[0]][call[1]]))
        steps = [(point, hit) for point, hit in _hits(traces[story][number]) if point in _STEPS and point not in _ROWS]
        if steps:
            yield Case(story, number, (Fault(*steps[-1], Kind.KEEP_FAILING),))


def _after(failure: Fault, trace: Sequence[str]) -> list[Hit]:
    hits = list(_hits(trace))
    return hits[hits.index((failure.point, failure.hit)) + 1 :]


def _hits(trace: Iterable[str]) -> Iterator[Hit]:
    counts: Counter[str] = Counter()
    for point in trace:
        counts[point] += 1
        yield point, counts[point]


def _bare(verb: str) -> str:
    """Of a case of a verb the verb."""
    return verb.partition(" ")[0]
