"""The calls that Docker makes to a host, one after the other, and the fault in one of them."""

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.faults.host import Gone, Host, until
from tests.faults.points import DONE, Fault, Kind

ACTIVATE = "Plugin.Activate"
# Not Docker's, but something that is done to a daemon all the same.
START = "start"
COLLECT = "gc"

_DOOM, _REAP, _LOOK = "kernel.doom.link" + DONE, "kernel.reap" + DONE, "kernel.observe" + DONE
_ANSWER, _ANSWERED = "socket.answer", "socket.answer" + DONE
_IPTABLES = tuple(f"kernel.{verb}.{rule}{DONE}" for verb in ("add", "delete") for rule in ("accept", "jump"))


class Refused(Exception):
    """An error, as Docker sees it. `lost`: the answer never came, and what was asked for may have been done."""

    def __init__(self, verb: str, text: str, lost: bool) -> None:
        super().__init__(f"{verb}: {text}")
        self.lost = lost


@dataclass
class Step:
    """
    A call; `of` tells what it is about where that makes another case of the verb. `status` is of its first answer, 0
    if none came; `trace` are the points that were reached for it.
    """

    verb: str
    of: str
    act: str
    status: int = 0
    trace: Sequence[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its case: a verb that is refused is another than one that is not."""
        return " ".join(filter(None, (self.verb, self.of, "" if self.status == 200 else "refused")))


class Session:
    """
    `target` is the number of the call into which the faults are put that the host's daemon has; `struck` is called when
    that is over, before Docker does anything else.
    """

    def __init__(
        self,
        host: Host,
        faults: Sequence[Fault] = (),
        target: int | None = None,
        struck: Callable[[Step], None] = lambda _step: None,
    ) -> None:
        self.host = host
        self.steps: list[Step] = []
        self.act = ""
        self._faults = faults
        self._target = target
        self._struck = struck

    @property
    def hit(self) -> Step | None:
        """The call in which the fault was, when that has been made."""
        return self.steps[self._target] if self._target is not None and self._target < len(self.steps) else None

    def call(self, verb: str, body: Mapping[str, Any] | None = None, of: str = "") -> dict[str, Any]:
        """
        The reply. Docker's client repeats a call whose connection broke, without the body that is spent by then.

        Errors: Refused.
        """
        with self._step(verb, of) as step:
            try:
                step.status, reply = self.host.call(verb, b"" if body is None else json.dumps(body).encode())
            except Gone:
                assert self._is_target, f"{verb}: the connection broke"
        if step.status == 0:
            status, reply = self.host.call(verb, b"")
            assert (status == 200) is (body is None), f"{verb} without a body: {status} {reply}"
        if "Err" in reply:
            raise Refused(verb, reply["Err"], lost=step.status == 0)
        return dict(reply)

    def start(self, of: str) -> None:
        """The daemon is started, and started again if it ends."""
        with self._step(START, of) as step:
            if self.host.start():
                step.status = 200
            else:
                assert self.host.switch.struck, "the daemon ended in its start"

    def collect(self) -> list[dict[str, Any]]:
        """`mdnp gc`. Errors: Refused."""
        with self._step(COLLECT) as step:
            try:
                step.status, view = self.host.collect()
            except Gone:
                assert self._is_target, "gc: the connection broke"
        if step.status != 200:
            raise Refused(COLLECT, view["error"] if step.status else "the connection broke", lost=step.status == 0)
        return list(view)

    @property
    def _is_target(self) -> bool:
        """Of the call that is being made."""
        return len(self.steps) - 1 == self._target

    @contextmanager
    def _step(self, verb: str, of: str = "") -> Iterator[Step]:
        step = Step(verb, of, self.act)
        self.steps.append(step)
        self.host.switch.begin(armed=self._is_target)
        yield step
        if self._is_target:
            self._await_strike(step)
        elif not self.host.switch.struck:  # afterwards a hit more or less makes no difference
            until(lambda: _is_quiet(step, self.host.switch.trace), f"the end of what {verb} left for later")
        step.trace = self.host.switch.trace
        self.host.switch.end()
        if not self.host.runs:
            assert self._is_target, f"{verb}: the daemon ended"
            assert self.host.start(), "the daemon does not start again"
        if self._is_target:
            self._struck(step)

    def _await_strike(self, step: Step) -> None:
        until(lambda: self.host.switch.struck, f"{self._faults[-1]} to be reached")
        if self._faults[-1].kind is Kind.KILL and (code := self.host.wait()) is not None:
            assert code == -signal.SIGKILL, f"the daemon ended with {code}"
        elif step.status:
            until(lambda: _is_answered(self.host.switch.trace), "the end of the answer")


def _is_quiet(step: Step, trace: Sequence[str]) -> bool:
    """
    What a call may leave for later: veths that die, and a look at the kernel, when Docker activated us or the programs
    of iptables were run, whose notices come as from others.
    """
    if step.verb == ACTIVATE and _LOOK not in trace:
        return False
    followed = ((_DOOM, _REAP), *((rule, _LOOK) for rule in _IPTABLES))
    return _is_answered(trace) and all(_last(trace, first) <= _last(trace, then) for first, then in followed)


def _is_answered(trace: Sequence[str]) -> bool:
    return _last(trace, _ANSWER) <= _last(trace, _ANSWERED)


def _last(trace: Sequence[str], name: str) -> int:
    return max((number for number, one in enumerate(trace) if one == name), default=-1)
