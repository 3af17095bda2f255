"""What `make bench-quick` says of figures beside those that were kept."""

import json

import pytest

from bench import quick
from bench.quick import FIGURES, KEPT, Figure

COMMITS = "cycle, commits"


@pytest.fixture
def figure() -> Figure:
    return next(one for one in FIGURES if one.name == COMMITS)


def test_what_grew_within_its_tolerance_is_not_told(figure: Figure) -> None:
    assert quick.worse({COMMITS: 100.0}, {COMMITS: 100.0 * (1 + figure.tolerance)}) == []
    assert quick.worse({COMMITS: 100.0}, {COMMITS: 50.0}) == []


def test_what_grew_beyond_it_is_told(figure: Figure) -> None:
    assert quick.worse({COMMITS: 6.0}, {COMMITS: 7.0}) == [f"{COMMITS}: 7 {figure.unit}, was 6"]


def test_what_only_one_of_them_has_is_not_compared() -> None:
    assert quick.worse({}, {COMMITS: 6.0}) == quick.worse({COMMITS: 6.0}, {}) == []
    assert quick.rows({COMMITS: 6.0}, {}) == []
    assert [row["ratio"] for row in quick.rows({}, {COMMITS: 6.0})] == [None]


def test_of_two_measurements_the_smaller_figures_count() -> None:
    assert quick.better({"a": 1.0, "b": 2.0, "c": 1.0}, {"a": 2.0, "b": 1.0}) == {"a": 1.0, "b": 1.0}


def test_what_is_kept_is_what_is_compared() -> None:
    kept = json.loads(KEPT.read_text())

    assert kept["figures"].keys() <= {one.name for one in FIGURES}
    assert kept["machine"]["commit"]


def test_calls_that_only_wait_are_not_counted() -> None:
    summary = """\
strace: Process 4711 attached with 5 threads
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 57.03    0.578542          73      8024       970 futex
 20.01    0.203125         195      1035           sendto
  1.10    0.011165           4       393        51 ioctl
------ ----------- ----------- --------- --------- ----------------
100.00    1.014361          61      9452      1021 total
"""

    assert quick.counted(summary) == 1035 + 393
