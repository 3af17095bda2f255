"""
The rules of ours in DOCKER-USER, through the `iptables` programs.

Not through libnftables: the chain is Docker's, and Docker makes it with the same programs, which may be the legacy
ones. A rule is needed when a network comes or goes, never on an endpoint's way, so the program's 5 ms do not count.
"""

import shlex
import subprocess

from mdnp.dataplane.naming import FORWARD_CHAIN
from mdnp.dataplane.objects import Accept, Family, Key
from mdnp.model.errors import KernelError

FAMILIES: tuple[Family, ...] = (4, 6)
_WAIT_S = 5  # for the lock that the programs share; Docker itself waits without limit
_LIMIT_S = 10


def observe() -> tuple[frozenset[Key], list[Accept]]:
    """The chains that are there, and the rules of ours in them. A program that is missing has no chain."""
    chains: set[Key] = set()
    rules: list[Accept] = []
    for family in FAMILIES:
        lines = _list(family)
        if lines is not None:
            chains.add(Accept(family, "").chain)
            rules += [rule for line in lines if (rule := _parse(family, line))]
    return frozenset(chains), rules


def add(rule: Accept) -> None:
    # At the top: Docker 20.10 ends the chain with RETURN. What an operator inserts later stands above ours again.
    if _run(rule, "-C").returncode != 0:
        _checked(rule, "-I")


def delete(rule: Accept) -> None:
    """Remove every copy of the rule."""
    while _run(rule, "-D").returncode == 0:
        pass


def _list(family: Family) -> list[str] | None:
    program = Accept(family, "").program
    try:
        done = _program([program, "-w", str(_WAIT_S), "-S", FORWARD_CHAIN])
    except FileNotFoundError:
        return None
    return done.stdout.splitlines() if done.returncode == 0 else None


def _parse(family: Family, line: str) -> Accept | None:
    """The rule of a line of `-S`, if it is word for word one of ours: what else bears our comment is somebody's."""
    _append, _chain, *words = shlex.split(line)
    if len(words) < 2:
        return None
    rule = Accept(family, words[1])
    return rule if tuple(words) == rule.arguments else None


def _checked(rule: Accept, action: str) -> None:
    done = _run(rule, action)
    if done.returncode != 0:
        raise KernelError(done.stderr.strip())


def _run(rule: Accept, action: str) -> "subprocess.CompletedProcess[str]":
    try:
        return _program([rule.program, "-w", str(_WAIT_S), action, FORWARD_CHAIN, *rule.arguments])
    except FileNotFoundError as error:
        raise KernelError(
            f"{rule.program} is not installed, but {FORWARD_CHAIN} was there: install iptables"
        ) from error


def _program(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise KernelError(f"{' '.join(command)}: no answer in {_LIMIT_S} s") from error
