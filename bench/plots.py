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
    ]


def _bars(path: Path, title: str, unit: str, values: dict[str, float]) -> Path:
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(values), list(values.values()), color="#3b6ea5")
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    return path
