"""
The rules of ours in DOCKER-USER and the way there, through the `iptables` programs.

Not through libnftables: the chain is Docker's, and Docker makes it with the same programs, which may be the legacy
ones. A rule is needed when a network comes or goes, never on an endpoint's way, so the program's 5 ms do not count.
"""

import shlex
import subprocess
from collections import Counter
from dataclasses import dataclass, field, replace

from mdnp.dataplane.naming import FORWARD_CHAIN, RULE_COMMENT
from mdnp.dataplane.objects import Accept, Family, Jump, Key, Rule, Way, forward_chain, program_of
from mdnp.model.errors import KernelError

FAMILIES: tuple[Family, ...] = (4, 6)
_WAIT_S = 5  # for the lock that the programs share; Docker itself waits without limit
_LIMIT_S = 10


@dataclass
class Seen:
    """
    The rules of ours, Docker's chains for others' rules, and those of them to which FORWARD does not lead, our own
    jumps aside. A program that is missing has no chain.
    """

    ours: list[Rule] = field(default_factory=list)
    chains: frozenset[Key] = frozenset()
    unreached: frozenset[Key] = frozenset()


def observe() -> Seen:
    seen = Seen()
    for family in FAMILIES:
        lines = _list(family)
        if f"-N {FORWARD_CHAIN}" in lines:
            seen.chains |= {forward_chain(family)}
            ours = Counter(rule for line in lines if (rule := _parse(family, line)))
            seen.ours += [replace(rule, copies=copies) for rule, copies in ours.items()]
            if f"-A FORWARD -j {FORWARD_CHAIN}" not in lines:
                seen.unreached |= {forward_chain(family)}
    return seen


def add(rule: Rule) -> None:
    """Have the rule once: copies of it go, and one stands all the time."""
    copies = sum(_parse(rule.family, line) == rule for line in _list(rule.family))
    # At the top: Docker 20.10 ends the chain with RETURN. What an operator inserts later stands above ours again.
    if not copies:
        _checked(rule, "-I")
    for _ in range(copies - 1):
        _checked(rule, "-D")


def delete(rule: Rule) -> None:
    """Remove every copy of the rule."""
    while _run(rule, "-D").returncode == 0:
        pass


def _list(family: Family) -> list[str]:
    try:
        done = _program([program_of(family), "-w", str(_WAIT_S), "-S"])
    except FileNotFoundError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _parse(family: Family, line: str) -> Rule | None:
    """The rule of a line of `-S`, if it is word for word one of ours: what else bears our comment is somebody's."""
    if RULE_COMMENT not in line:
        return None
    try:
        _append, chain, *words = shlex.split(line)
    except ValueError:  # an odd quote, in the name of a link: not one of ours
        return None
    rules: list[Rule] = [Jump(family)]
    if len(words) > 1 and words[0] in list(Way):
        rules.append(Accept(family, Way(words[0]), words[1]))
    return next((one for one in rules if (chain, tuple(words)) == (one.stands_in, one.arguments)), None)


def _checked(rule: Rule, action: str) -> None:
    done = _run(rule, action)
    if done.returncode != 0:
        raise KernelError(done.stderr.strip())


def _run(rule: Rule, action: str) -> "subprocess.CompletedProcess[str]":
    try:
        return _program([rule.program, "-w", str(_WAIT_S), action, rule.stands_in, *rule.arguments])
    except FileNotFoundError as error:
        raise KernelError(
            f"{rule.program} is not installed, but {FORWARD_CHAIN} was there: install iptables"
        ) from error


def _program(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise KernelError(f"{' '.join(command)}: no answer in {_LIMIT_S} s") from error
