"""
What the daemon counts of itself, and how Prometheus reads it (text format 0.0.4). Pure: who counts knows the time.

`daemon` makes one `Measures` and hands it to those who count. A label's values are few and known, but for the ids of
networks and endpoints and the names of pools, which come and go with what they name.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From a call that only reads memory to one that waits for a kernel that has much to do.
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels = tuple[str, ...]  # the values, in the order of the family's names
Labelling = Callable[[Labels, Labels], str]

_IN_LABEL = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_IN_HELP = str.maketrans({"\\": "\\\\", "\n": "\\n"})


@dataclass(frozen=True)
class Family:
    """A metric as it is now: a value for each set of labels. `kind` is counter or gauge."""

    name: str
    kind: str
    help: str
    labels: Labels
    values: Mapping[Labels, float]

    def lines(self, labelled: Labelling) -> Iterator[str]:
        yield from _head(self.name, self.kind, self.help)
        for labels, value in self.values.items():
            yield f"{self.name}{labelled(self.labels, labels)} {_number(value)}"


class Counter:
    """Only grows. One without labels is there from the start, as Prometheus wants it."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name = name
        self._text = text
        self._labels = labels
        self._values: dict[Labels, float] = {} if labels else {(): 0}

    def prepare(self, *labels: str) -> None:
        """Show a zero, so that the first event is seen as growth."""
        self._values.setdefault(labels, 0)

    def add(self, *labels: str, by: float = 1) -> None:
        self._values[labels] = self._values.get(labels, 0) + by

    def value(self, *labels: str) -> float:
        return self._values.get(labels, 0)

    def lines(self, labelled: Labelling) -> Iterator[str]:
        return Family(self.name, "counter", self._text, self._labels, self._values).lines(labelled)


class Histogram:
    """How long something took, in seconds; the number of observations is one of its samples."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name = name
        self._text = text
        self._labels = labels
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        if not labels:
            self.prepare()

    def prepare(self, *labels: str) -> None:
        if labels not in self._counts:
            self._counts[labels] = [0] * (len(BUCKETS_S) + 1)
            self._sums[labels] = 0.0

    def observe(self, seconds: float, *labels: str) -> None:
        self.prepare(*labels)
        self._counts[labels][bisect_left(BUCKETS_S, seconds)] += 1
        self._sums[labels] += seconds

    def count(self, *labels: str) -> int:
        return sum(self._counts.get(labels, ()))

    def lines(self, labelled: Labelling) -> Iterator[str]:
        yield from _head(self.name, "histogram", self._text)
        for labels, counts in self._counts.items():
            total = 0
            for bound, count in zip((*map(_number, BUCKETS_S), "+Inf"), counts, strict=True):
                total += count
                yield f"{self.name}_bucket{labelled((*self._labels, 'le'), (*labels, bound))} {total}"
            yield f"{self.name}_sum{labelled(self._labels, labels)} {_number(self._sums[labels])}"
            yield f"{self.name}_count{labelled(self._labels, labels)} {total}"


Metric = Family | Counter | Histogram


def expose(metrics: Iterable[Metric]) -> bytes:
    labelled = cache(_labelled)  # an endpoint's labels stand on many lines
    lines = [line for metric in metrics for line in metric.lines(labelled)]
    return ("\n".join(lines) + "\n").encode(errors="replace")


class Measures:
    """What is counted while it happens. All else is read from where it is known, when somebody asks."""

    def __init__(self) -> None:
        self.calls = Histogram("mdnp_call_duration_seconds", "Calls of Docker's, answered.", "interface", "verb")
        self.call_errors = Counter(
            "mdnp_call_errors_total", "Calls that were answered with an error.", "interface", "verb"
        )
        self.calls_under_way = 0
        self.steps = Counter("mdnp_kernel_steps_total", "Changes made to the kernel.", "step", "object")
        self.failed_steps = Counter(
            "mdnp_kernel_steps_failed_total", "Changes that the kernel refused.", "step", "object"
        )
        self.performing = Histogram("mdnp_kernel_perform_duration_seconds", "Taking the steps of one plan.")
        self.looks = Histogram("mdnp_kernel_look_duration_seconds", "Reading all that is ours from the kernel.")
        self.converging = Histogram(
            "mdnp_converge_duration_seconds", "Making the kernel agree with the promises.", "scope"
        )
        for scope in ("all", "owners"):
            self.converging.prepare(scope)
        self.commits = Histogram(
            "mdnp_store_commit_duration_seconds", "Commits, until they were on disk; several may share one sync."
        )
        self.commit_errors = Counter("mdnp_store_commit_errors_total", "Commits that failed.")
        self.listings = Histogram("mdnp_docker_list_duration_seconds", "Docker was asked what it has, and told it.")
        self.unanswered = Counter("mdnp_docker_unreachable_total", "Docker was asked and did not answer.")
        self.docker_up: bool | None = None  # as of the last time that it was asked
        self.freed = Counter("mdnp_orphans_freed_total", "Orphans that were freed.", "kind")

    def metrics(self) -> list[Metric]:
        up: dict[Labels, float] = {} if self.docker_up is None else {(): float(self.docker_up)}
        return [
            self.calls,
            self.call_errors,
            Family(
                "mdnp_calls_under_way", "gauge", "Calls that wait for their answer.", (), {(): self.calls_under_way}
            ),
            self.steps,
            self.failed_steps,
            self.performing,
            self.looks,
            self.converging,
            self.commits,
            self.commit_errors,
            self.listings,
            self.unanswered,
            Family("mdnp_docker_up", "gauge", "Whether Docker answered when it was asked last.", (), up),
            self.freed,
        ]


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text.translate(_IN_HELP)}"
    yield f"# TYPE {name} {kind}"


def _labelled(names: Labels, values: Labels) -> str:
    """Both between braces, as {pool="10.1.0.0/24"}."""
    if not names:
        return ""
    pairs = [f'{name}="{value.translate(_IN_LABEL)}"' for name, value in zip(names, values, strict=True)]
    return "{" + ",".join(pairs) + "}"


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, int) else repr(int(value) if value.is_integer() else value)
