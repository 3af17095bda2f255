"""Rows as a table, for a terminal and for a page. Pure."""

from typing import Any

Rows = list[dict[str, Any]]


def table(rows: Rows) -> str:
    """With aligned columns."""
    lines = _lines(rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def markdown(rows: Rows) -> str:
    heads, *lines = _lines(rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in (heads, ["---"] * len(heads), *lines))


def _lines(rows: Rows) -> list[list[str]]:
    """What is None was not measured."""
    heads = list(rows[0])
    return [heads, *(["-" if row[head] is None else str(row[head]) for head in heads] for row in rows)]
