"""The figures in a page of the documentation, between two marks."""

from pathlib import Path
from typing import Any

_BEGIN, _END = "<!-- figures: make bench -->\n", "<!-- end of figures -->\n"


def update(path: Path, rows: list[dict[str, Any]], machine: dict[str, Any]) -> None:
    """Put the table of `rows` in the place of the one that is there."""
    before, _, rest = path.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{path}: the marks of the figures are missing")
    path.write_text("".join([before, _BEGIN, "\n", _said(machine), "\n", _table(rows), "\n", _END, after]))


def _said(machine: dict[str, Any]) -> str:
    return (
        f"Commit {machine['commit']}, Linux {machine['kernel']}, Python {machine['python']}, {machine['processors']}"
        f" processors, load {machine['load_before']} before.\n"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([str(row[head]) for head in heads] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
