"""The figures in a page of the documentation, between two marks."""

from pathlib import Path
from typing import Any

from bench.table import markdown

_BEGIN, _END = "<!-- figures: make bench -->\n", "<!-- end of figures -->\n"


def update(path: Path, rows: list[dict[str, Any]], machine: dict[str, Any]) -> None:
    """Put the table of `rows`, which were measured on one machine, in the place of the one that is there."""
    put(path, _said(machine), rows)


def put(path: Path, said: str, rows: list[dict[str, Any]]) -> None:
    """Put a line and the table below it in the place of those that are there."""
    before, _, rest = path.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{path}: the marks of the figures are missing")
    path.write_text("".join([before, _BEGIN, "\n", said, "\n\n", markdown(rows), "\n", _END, after]))


def _said(machine: dict[str, Any]) -> str:
    return (
        f"Commit {machine['commit']}, Linux {machine['kernel']}, Python {machine['python']}, {machine['processors']}"
        f" processors, load {machine['load_before']} before."
    )
