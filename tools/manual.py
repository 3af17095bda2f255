"""
`make man`: writes docs/mdnp.8, the manual page, from what is said elsewhere, so that it cannot say anything else.

The commands and their options come from the command line itself, the settings from the table of docs/operating.md, the
options of networks from that of README.md, and the rest from docs/mdnp.8.in.
"""

import re
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from pathlib import Path

import click

import mdnp
from mdnp.cli.main import cli

_ROOT = Path(__file__).parent.parent
PAGE = _ROOT / "docs/mdnp.8"
OPERATING = _ROOT / "docs/operating.md"
_README = _ROOT / "README.md"
_HAND_WRITTEN = _ROOT / "docs/mdnp.8.in"
_AS_IT_STANDS = "\b"  # click's mark of a paragraph that is not to be filled

_CELL_END = re.compile(r"(?<!\\)\|")

Row = tuple[str, ...]


def page() -> str:
    """The whole page, in the macros of man(7)."""
    text = _HAND_WRITTEN.read_text()
    for mark, lines in (
        ("@VERSION@", [mdnp.__version__]),
        ("@COMMANDS@", [line for words, command in commands() for line in _command(words, command)]),
        ("@SETTINGS@", [line for row in table(OPERATING, "## Settings") for line in _setting(row)]),
        ("@OPTIONS@", [line for row in table(_README, "### Options of a network") for line in _option(row)]),
    ):
        text = text.replace(mark, "\n".join(lines))
    return text


def commands() -> list[tuple[str, click.Command]]:
    """Each command that does something, by the words that name it, in the order in which help has them."""
    return list(_below("mdnp", cli))


def _below(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = _context(command)
    for name in command.list_commands(context):
        one = command.get_command(context, name)
        if one is not None and not one.hidden:
            yield from _below(f"{words} {name}", one)


def _context(command: click.Command) -> click.Context:
    """Below the root's, as in a call: a command remembers the first names of --help that it was shown with."""
    return click.Context(command, parent=click.Context(cli, **cli.context_settings))


def options(command: click.Command) -> list[click.Option]:
    """Those that help shows, without --help itself."""
    return [one for one in command.params if isinstance(one, click.Option) and not one.hidden]


def table(file: Path, heading: str) -> list[Row]:
    """The rows of the first table below the heading that begins so. Errors: ValueError when there is none."""
    text = file.read_text()
    start = text.find(f"\n{heading}")
    if start < 0:
        raise ValueError(f"{file.name} has no heading {heading!r}")
    lines = text[start:].splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith("|")), None)
    if first is None:
        raise ValueError(f"{file.name} has no table below {heading!r}")
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        cells = _CELL_END.split(line.strip().removeprefix("|").removesuffix("|"))
        rows.append(tuple(cell.strip().replace("\\|", "|") for cell in cells))
    return rows


def _command(words: str, command: click.Command) -> Sequence[str]:
    context = _context(command)
    usage = " ".join(one for one in command.collect_usage_pieces(context) if one != "[OPTIONS]")
    lines = [f".SS {_quoted(f'{words} {usage}'.strip())}", *_help(command.help or "")]
    for one in options(command):
        value = "" if one.is_flag else f" \\fI{_roff(one.make_metavar(context).strip('[]'))}\\fR"
        lines += [".TP", ", ".join(_bold(name) for name in one.opts) + value, _prose(one.help or "")]
    return lines


def _help(text: str) -> Iterator[str]:
    """The paragraphs of a docstring."""
    for number, paragraph in enumerate(cleandoc(text).split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith(_AS_IT_STANDS):
            yield from (".nf", *(_roff(line) for line in paragraph.replace(_AS_IT_STANDS, "").strip("\n").split("\n")))
            yield ".fi"
        else:
            yield _prose(" ".join(paragraph.split()))


def _setting(row: Row) -> Sequence[str]:
    key, flag, variable, default, meaning = row
    names = ", ".join(_prose(one) for one in (key, flag, variable) if one != "-")
    return [".TP", names, f"{_prose(meaning)}.", f"Default: {_prose(default)}."]


def _option(row: Row) -> Sequence[str]:
    name, values, meaning = row
    return [".TP", _prose(name), f"{_prose(meaning)}.", f"Values: {_prose(values)}."]


def _prose(text: str) -> str:
    """Text with `code` in it, which becomes bold."""
    return "".join(_bold(part) if number % 2 else _roff(part) for number, part in enumerate(text.split("`")))


def _bold(text: str) -> str:
    return f"\\fB{_roff(text)}\\fR"


def _quoted(text: str) -> str:
    return '"' + _roff(text).replace('"', "\\(dq") + '"'


def _roff(text: str) -> str:
    """The text with what roff reads otherwise made plain: its escapes, hyphens, a command at the beginning."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha").replace("~", "\\(ti")
    escaped = escaped.replace("…", "...")
    ascii_only = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in escaped)
    return f"\\&{ascii_only}" if ascii_only.startswith((".", "'")) else ascii_only


if __name__ == "__main__":
    PAGE.write_text(page())
