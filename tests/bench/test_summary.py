"""The table of figures in README: what it takes from what was measured, and that it is of what is kept."""

import json
from pathlib import Path
from typing import Any

from bench import summary
from bench.table import markdown, table

_ROOT = Path(__file__).parents[2]
_MACHINE = {"commit": "0a1b2c3", "kernel": "6.1", "python": "3.11.2", "processors": 2, "load_before": 0.1}


def results(**measured: list[dict[str, Any]]) -> dict[str, Any]:
    return {"machines": dict.fromkeys(measured, _MACHINE), **measured}


def found(**measured: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Without the commit, which is the same in all."""
    return [tuple(row.values())[:-1] for row in summary.rows(results(**measured))]


def container(measure: str, **more: float | None) -> dict[str, Any]:
    return {"measure": measure, "bridge_adds": 40.0, "mdnp_adds": 20.0, "ratio": 0.5, **more}


def test_the_table_in_readme_is_of_the_figures_that_are_kept() -> None:
    kept = json.loads((_ROOT / "docs/bench/results.json").read_text())

    shown = f"{summary.machines(kept)}\n\n{markdown(summary.rows(kept))}"

    assert shown in (_ROOT / "README.md").read_text()


def test_what_was_not_measured_is_left_out() -> None:
    assert found() == []
    assert found(scale=[{"figure": "of another page"}]) == []
    assert found(containers=[container("start -p")]) == []


def test_a_driver_that_cannot_do_it_has_no_figure() -> None:
    rows = found(containers=[container("connect", floor_adds=10.0), container("run -p", floor_adds=None)])

    assert rows == [
        ("`docker network connect`", "ms", 40.0, 10.0, 20.0, 0.5, "≤ 0.40"),
        ("`docker run --rm -p`, beyond `--net none`", "ms", 40.0, None, 20.0, 0.5, "≤ 0.35"),
    ]


def test_growth_is_told_of_the_largest_network_and_of_many() -> None:
    sizes = [(10, 1, 1.0), (500, 1, 1.1), (900, 1, 1.2), (900, 200, 1.3)]
    rows = [{"endpoints": size, "networks": many, "bridge_ratio": 2.0, "mdnp_ratio": it} for size, many, it in sizes]

    assert found(growth=rows) == [
        ("a start beside 900 endpoints, to one beside 10", "ratio", 2.0, None, 1.2, None, "≤ 1.2"),
        ("a start beside 200 networks, to one beside 10", "ratio", 2.0, None, 1.3, None, "≤ 1.2"),
    ]


def test_sizes_stand_in_one_row() -> None:
    rows = [{"where": "alone", "endpoints": size, "rss_mib": size / 10} for size in (0, 1000)]

    assert found(memory=[*rows, {"where": "in a cluster", "endpoints": 0, "rss_mib": 1}]) == [
        (
            "the daemon's memory",
            "MiB, 0 / 1,000 endpoints",
            None,
            None,
            "0.0 / 100.0",
            None,
            "≤ 56, and 25 more with 1,000",
        ),
        ("the daemon's memory in a cluster", "MiB", None, None, 1, None, "≤ 72"),
    ]


def test_the_ratio_across_hosts_is_to_swarms() -> None:
    medians = {"vxlan": (30.0, 1.0), "bridged": (33.0, 1.1), "swarm": (36.0, 1.2), "mdnp": (54.0, 1.8)}
    rows = [
        {"measure": measure, "unit": unit, "way": way, "median": median, "ratio": ratio}
        for measure, unit in (("request", "us"), ("tcp", "Gbit/s"), ("udp, 64 bytes", "us"))
        for way, (median, ratio) in medians.items()
    ]

    name = "request, from a container to one on another host"
    assert found(tunnel=rows) == [(name, "us", 36.0, 30.0, 54.0, 1.5, "≤ 1.0")]


def test_each_figure_names_its_commit_and_the_machines_are_told_once() -> None:
    measured = results(starting=[{"endpoints": 10, "start_ms": 300}], containers=[container("connect")])
    measured["machines"]["starting"] = {**_MACHINE, "commit": "fffffff"}

    assert [row["commit"] for row in summary.rows(measured)] == ["0a1b2c3", "fffffff"]
    assert summary.machines(measured) == "Measured on Linux 6.1, Python 3.11.2, 2 processors."


def test_a_table_is_aligned_and_what_is_missing_is_a_dash() -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "long": None}, {"a": 100, "long": "x"}]

    assert table(rows).splitlines() == ["  a  long", "  1     -", "100     x"]
    assert markdown(rows) == "| a | long |\n| --- | --- |\n| 1 | - |\n| 100 | x |\n"
