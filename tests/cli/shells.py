"""Real shells at a real terminal, for what TAB does in them."""

import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
PROMPT = "type> "

_PATIENCE_S = 30.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|[\r\x07\x08]")

# How each is started without anybody's settings, and what makes it ready: it reads what `mdnp completion` prints.
_SHELLS: Mapping[str, tuple[list[str], str]] = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        'bind "set completion-query-items 0"; bind "set page-completions off"; eval "$(mdnp completion bash)"',
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        'unsetopt prompt_sp; LISTMAX=10000; autoload -U compinit; compinit -D -u; eval "$(mdnp completion zsh)"',
    ),
}


class Terminal:
    """What is typed, and what is seen since."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._seen = ""

    def type(self, text: str) -> None:
        self._seen = ""
        os.write(self._descriptor, text.encode())

    def shows(self, pattern: str) -> str:
        """Wait until it does; all that was seen since the last typing."""
        until = time.monotonic() + _PATIENCE_S
        while not re.search(pattern, self._seen):
            assert time.monotonic() < until, f"the terminal does not show {pattern!r}, but:\n{self._seen}"
            if select.select([self._descriptor], [], [], 0.1)[0]:
                self._seen += _ESCAPES.sub("", os.read(self._descriptor, 65536).decode(errors="replace"))
        return self._seen


@contextmanager
def shell(name: str, env: Mapping[str, str]) -> Iterator[Terminal]:
    """An interactive one with mdnp's completion, ready for the first letter."""
    command, ready = _SHELLS[name]
    ours, theirs = pty.openpty()
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": home, "TERM": "dumb", "COLUMNS": "400", **env},
            start_new_session=True,
        )
        os.close(theirs)
        try:
            terminal = Terminal(ours)
            terminal.type(f"{ready}; PS1='{PROMPT[0]}''{PROMPT[1:]}'\n")
            terminal.shows(f"(?m)^{PROMPT}$")
            yield terminal
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def fish_offers(line: str, env: Mapping[str, str]) -> list[str]:
    """What fish offers for a line at TAB, without its descriptions."""
    with tempfile.TemporaryDirectory() as home:
        said = subprocess.run(
            ["fish", "--no-config", "--command", f"mdnp completion fish | source; complete --do-complete '{line}'"],
            env={"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": home, **env},
            capture_output=True,
            text=True,
            check=True,
        )
    assert said.stderr == ""
    return [offer.partition("\t")[0] for offer in said.stdout.splitlines()]
