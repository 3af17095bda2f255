"""Plots of the figures, as SVG."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

mpl.rcParams["svg.hashsalt"] = "mdnp"  # the same figures give the same file

_SIZE_INCHES = (8.0, 4.0)


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    return [
        _bars(
            folder / "allocator.svg",
            "The allocator alone",
            "operations per second of CPU time",
            {row["state"]: row["ops_per_s"] for row in results["allocator"]},
        ),
        _bars(
            folder / "ipam_socket.svg",
            "RequestAddress and ReleaseAddress over the socket, every answer on disk",
            "calls per second",
            {f"{row['clients']} clients": row["calls_per_s"] for row in results["ipam_socket"]},
        ),
        _bars(
            folder / "publishing.svg",
            "One more published endpoint",
            "ms",
            {
                f"{what}, beside {row['endpoints']}": row[f"{what}_ms"]
                for what in ("transaction", "program", "revoke")
                for row in results["publishing"]
            },
            digits=2,
        ),
        _bars(
            folder / "starting.svg",
            "From the daemon's start to its first answer",
            "ms",
            {f"{row['endpoints']:,} endpoints": row["start_ms"] for row in results["starting"]},
        ),
        _bars(
            folder / "commands.svg",
            "The operator's commands, as whole processes",
            "ms",
            {f"{row['command']}, beside {row['endpoints']:,}": row["median_ms"] for row in results["commands"]},
        ),
    ]


def _bars(path: Path, title: str, unit: str, values: dict[str, float], digits: int = 0) -> Path:
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(values), list(values.values()), color="#3b6ea5")
    axes.bar_label(bars, fmt=f"{{:,.{digits}f}}", padding=3)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    return path
