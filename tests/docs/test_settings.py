"""The table of settings in docs/operating.md says what is so."""

from dataclasses import fields

import click

from mdnp.cli.main import cli
from mdnp.config import Settings, shown
from tools.manual import OPERATING, Row, table

HEADING = "## Settings"


def flag(key: str) -> str:
    """Of `serve`, in code marks; - if there is none."""
    options = [one for one in cli.commands["serve"].params if isinstance(one, click.Option)]
    return next((f"`{one.opts[0]}`" for one in options if one.name == key), "-")


def expected(key: str) -> Row:
    """The columns of a setting that a program can know."""
    default = shown(Settings())[key]
    return f"`{key}`", flag(key), f"`MDNP_{key.upper()}`", f"`{default}`" if default else "-"


def test_each_setting_has_a_row_with_its_flag_variable_and_default() -> None:
    rows = {row[0]: row[:4] for row in table(OPERATING, HEADING)}
    wanted = [expected(one.name) for one in fields(Settings)]
    wrong = [row for row in wanted if rows.get(row[0]) != row]

    assert not wrong, "docs/operating.md, Settings: missing or not so, write (and then `make man`):\n" + "\n".join(
        f"| {' | '.join(row)} | … |" for row in wrong
    )


def test_each_row_is_of_a_setting_and_says_what_it_means() -> None:
    rows = table(OPERATING, HEADING)

    assert {row[0] for row in rows} - {f"`{one.name}`" for one in fields(Settings)} == set()
    assert [row[0] for row in rows if len(row) != 5 or not row[4].strip("…")] == []
