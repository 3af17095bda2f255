"""Plots of the figures, as SVG."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

mpl.rcParams["svg.hashsalt"] = "mdnp"  # the same figures give the same file

_WIDTH_INCHES = 8.0
_HEIGHT_INCHES = 4.0
_BAR_INCHES = 0.28  # of height, where many bars need more
_COLOURS = {"bridge": "#b0662f", "floor": "#8a8a8a", "mdnp": "#3b6ea5"}

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class _Plot:
    """`values` takes from the benchmark's rows what a bar shows, by the bar's name; None of what was not measured."""

    benchmark: str
    title: str
    unit: str
    values: Callable[[Rows], Mapping[str, float | None]]
    digits: int = 0
    logarithmic: bool = False


@dataclass(frozen=True)
class _Lines:
    """`values` takes from the benchmark's rows each line's points; `apart` are those that stand beside the lines."""

    benchmark: str
    title: str
    across: str
    unit: str
    values: Callable[[Rows], Mapping[str, Mapping[float, float]]]
    apart: Callable[[Rows], Mapping[str, Mapping[str, float]]]


_PLOTS: Sequence[_Plot] = (
    _Plot(
        "containers",
        "What a network adds to a container",
        "ms",
        lambda rows: {
            f"{row['measure']}, {name}": row.get(f"{name}_adds") for row in rows for name in ("bridge", "floor", "mdnp")
        },
        digits=1,
    ),
    _Plot(
        "share",
        "The plugin's own time for one start and end",
        "ms",
        lambda rows: {f"{row['what']}, {what}": row[f"{what}_ms"] for row in rows for what in ("p50", "p99")},
        digits=1,
    ),
    _Plot(
        "limits",
        "What the kernel alone takes, and our calls for the same",
        "us",
        lambda rows: {f"{row['step']}, {what}": row[f"{what}_us"] for row in rows for what in ("kernel", "mdnp")},
        logarithmic=True,
    ),
    _Plot(
        "local",
        "Traffic on one host, beside Docker's bridge",
        "ratio to Docker's bridge of the same round",
        lambda rows: {
            f"{row['from']}: {row['measure']}, {row['unit']}": row["ratio"] for row in rows if row["way"] == "mdnp"
        },
        digits=2,
    ),
    _Plot(
        "memory",
        "The daemon's memory",
        "MiB (RSS)",
        lambda rows: {f"{row['where']}, {row['endpoints']:,} endpoints": row["rss_mib"] for row in rows},
        digits=1,
    ),
    _Plot(
        "allocator",
        "The allocator alone",
        "operations per second of CPU time",
        lambda rows: {row["state"]: row["ops_per_s"] for row in rows},
    ),
    _Plot(
        "ipam_socket",
        "RequestAddress and ReleaseAddress over the socket, every answer on disk",
        "calls per second",
        lambda rows: {f"{row['clients']} clients": row["calls_per_s"] for row in rows},
    ),
    _Plot(
        "publishing",
        "One more published endpoint",
        "ms",
        lambda rows: {
            f"{what}, beside {row['endpoints']}": row[f"{what}_ms"]
            for what in ("transaction", "program", "revoke")
            for row in rows
        },
        digits=2,
    ),
    _Plot(
        "starting",
        "From the daemon's start to its first answer",
        "ms",
        lambda rows: {f"{row['endpoints']:,} endpoints": row["start_ms"] for row in rows},
    ),
    _Plot(
        "commands",
        "The operator's commands, as whole processes",
        "ms",
        lambda rows: {f"{row['command']}, beside {row['endpoints']:,}": row["median_ms"] for row in rows},
    ),
    _Plot(
        "names",
        "Questions of names over UDP",
        "questions per second",
        lambda rows: {f"{row['way']}, {row['clients']} clients": row["questions_per_s"] for row in rows},
    ),
    _Plot(
        "name_changes",
        "From a container's change to the right answer on all other hosts",
        "ms",
        lambda rows: {f"{row['change']}, {what}": row[f"{what}_ms"] for row in rows for what in ("p50", "max")},
        digits=1,
    ),
    _Plot(
        "tunnel",
        "Between containers on two hosts, beside a bare VXLAN link",
        "ratio to the bare link of the same round",
        lambda rows: {
            f"{row['measure']}, {row['unit']}: {row['way']}": row["ratio"] for row in rows if row["way"] != "vxlan"
        },
        digits=2,
    ),
    _Plot(
        "convergence",
        "A container joins on one host and answers on another",
        "ms",
        lambda rows: {f"{row['stretch']}, {what}": row[f"{what}_ms"] for row in rows for what in ("p50", "p99")},
        digits=1,
    ),
    _Plot(
        "cut_off",
        "Attaching and detaching, by the state of etcd",
        "ms, the median",
        lambda rows: {f"{what}, {row['etcd']}": row[f"{what}_ms"] for what in ("attach", "detach") for row in rows},
        digits=2,
    ),
)


_LINES: Sequence[_Lines] = (
    _Lines(
        "growth",
        "What a network adds to a start, beside many",
        "endpoints on the network",
        "ms",
        lambda rows: {
            name: {row["endpoints"]: row[f"{name}_adds"] for row in rows if row["networks"] == 1}
            for name in ("bridge", "mdnp")
        },
        lambda rows: {
            name: {f"{row['networks']} networks": row[f"{name}_adds"] for row in rows if row["networks"] > 1}
            for name in ("bridge", "mdnp")
        },
    ),
)


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Of each benchmark that there are figures of."""
    return [
        *(_bars(folder, plot, plot.values(results[plot.benchmark])) for plot in _PLOTS if plot.benchmark in results),
        *(_lines(folder, plot, results[plot.benchmark]) for plot in _LINES if plot.benchmark in results),
    ]


def _bars(folder: Path, plot: _Plot, found: Mapping[str, float | None]) -> Path:
    path = folder / f"{plot.benchmark}.svg"
    values = {name: value for name, value in found.items() if value is not None}
    height = max(_HEIGHT_INCHES, _BAR_INCHES * (len(values) + 2))
    figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(values), list(values.values()), color="#3b6ea5")
    axes.bar_label(bars, fmt=f"{{:,.{plot.digits}f}}", padding=3)
    axes.margins(x=0.15)
    if plot.logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(left=1)
    axes.invert_yaxis()
    axes.set_title(plot.title)
    axes.set_xlabel(plot.unit)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    return path


def _lines(folder: Path, plot: _Lines, rows: Rows) -> Path:
    path = folder / f"{plot.benchmark}.svg"
    figure = Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), layout="constrained")
    axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
    apart = plot.apart(rows)
    for name, points in plot.values(rows).items():
        axes.plot(list(points), list(points.values()), marker="o", color=_COLOURS[name], label=name)
        beside.plot(list(apart[name]), list(apart[name].values()), "o", color=_COLOURS[name])
    axes.set_ylim(bottom=0)
    axes.set_title(plot.title)
    axes.set_xlabel(plot.across)
    axes.set_ylabel(plot.unit)
    axes.legend(frameon=False)
    for each in (axes, beside):
        each.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    return path
