"""The manual page says what the command line says, and is one that man(1) can show."""

import re
import subprocess

import click
import pytest

from mdnp.cli.main import cli
from tools.manual import PAGE, commands, options, page

COMMANDS = dict(commands())


def flags(command: click.Command) -> list[str]:
    return [name for option in options(command) for name in option.opts]


def section(words: str) -> str:
    """What the page says of a command, as the reader sees it but for the line ends."""
    text = PAGE.read_text().replace("\\-", "-")
    found = re.search(rf'^\.SS "{words}\b[^\n]*"\n(.*?)(?=^\.S[SH] )', text, re.DOTALL | re.MULTILINE)
    assert found, f"{PAGE.name} has no section for `{words}`: run `make man`"
    return found[1]


def test_the_page_is_what_make_man_writes() -> None:
    assert PAGE.read_text() == page(), "docs/mdnp.8 is not what the commands and tables say now: run `make man`"


@pytest.mark.parametrize("words", COMMANDS)
def test_the_page_has_each_command_with_each_of_its_options(words: str) -> None:
    assert [name for name in flags(COMMANDS[words]) if f"\\fB{name}\\fR" not in section(words)] == []


def test_every_command_is_reached_by_its_words_and_says_what_it_and_each_option_does() -> None:
    silent = [words for words, command in COMMANDS.items() if not command.get_short_help_str()]
    silent += [
        f"{words} {one.opts[0]}" for words, command in COMMANDS.items() for one in options(command) if not one.help
    ]

    assert silent == []
    assert {words.split()[1] for words in COMMANDS} == {name for name, one in cli.commands.items() if not one.hidden}


@pytest.mark.root
@pytest.mark.parametrize(
    "linter",
    [["mandoc", "-T", "lint", "-W", "warning"], ["groff", "-man", "-ww", "-b", "-z", "-T", "utf8"]],
    ids=lambda command: str(command[0]),
)
def test_the_page_has_no_fault_that_a_linter_knows(linter: list[str]) -> None:
    said = subprocess.run([*linter, PAGE], capture_output=True, text=True, check=False)

    assert (said.stdout, said.stderr) == ("", "")
