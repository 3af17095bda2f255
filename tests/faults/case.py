"""A story up to one call, a fault in that call, and what Docker and its users do then."""

import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.docker import IPAM_DRIVER, NETWORK_DRIVER, Docker
from tests.faults.host import Host
from tests.faults.points import Fault, Kind
from tests.faults.session import Refused, Session, Step
from tests.faults.story import REMOVE_ALL, STORIES, WITH_CLUSTER, WITH_IPTABLES, Act
from tests.faults.truth import Truth

# What these answer with success is in the kernel by then.
MAKING = (
    *(
        f"{NETWORK_DRIVER}.{verb}"
        for verb in ("CreateNetwork", "CreateEndpoint", "Join", "ProgramExternalConnectivity")
    ),
    *(f"{IPAM_DRIVER}.{verb}" for verb in ("RequestPool", "RequestAddress")),
)


@dataclass(frozen=True)
class Case:
    """`target` is the number of the call in the story; None, with no faults, for the story alone."""

    story: str
    target: int | None = None
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.story, *([] if self.target is None else [str(self.target)]), *map(str, self.faults)])

    @classmethod
    def parse(cls, words: Sequence[str]) -> "Case":
        """From the words of its name."""
        story, *rest = words
        target = int(rest.pop(0)) if rest else None
        pairs = zip(rest[::2], rest[1::2], strict=True)
        return cls(story, target, tuple(_fault(place, kind) for place, kind in pairs))


def _fault(place: str, kind: str) -> Fault:
    point, _, hit = place.rpartition(":")
    return Fault(point, int(hit), Kind(kind))


@dataclass
class Played:
    """`problem` is "" if all was true. `collected`: the user had to run `mdnp gc` before what failed could be done."""

    case: str
    steps: list[Step] = field(default_factory=list)
    collected: bool = False
    problem: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Played":
        return cls(**{**value, "steps": [Step(**one) for one in value["steps"]]})


def play(case: Case, folder: Path) -> Played:
    """In a process of its own, which goes into a network namespace of its own."""
    host = Host(folder, case.faults, iptables=case.story in WITH_IPTABLES, cluster=case.story in WITH_CLUSTER)
    player = _Player(case, host)
    played = Played(str(case), player.session.steps)
    try:
        player.play()
    except Exception:  # noqa: BLE001  # whatever it was, it is this case's
        played.problem = f"{traceback.format_exc()}\n{host.log.read_text()}"
    finally:
        host.kill()
    played.collected = player.collected
    return played


class _Player:
    def __init__(self, case: Case, host: Host) -> None:
        self.session = Session(host, case.faults, case.target, self._struck)
        self.collected = False
        self._case = case
        self._host = host
        self._docker = Docker(self.session)
        self._truth = Truth(self._docker)

    def play(self) -> None:
        assert self._host.start(), "the daemon does not start"
        for act in (*STORIES[self._case.story], REMOVE_ALL):
            refusal = self._attempt(act)
            if self.session.hit is not None:
                self._truth.check_kept(at_once=self._killed)
                self._go_on(act, refusal)
                break
            assert not refusal, refusal
            self._truth.check_kept(at_once=True)
        self._docker.remove_all()
        self._truth.check_nothing_left()

    @property
    def _killed(self) -> bool:
        """A start brings everything in sync at once."""
        return any(one.kind is Kind.KILL for one in self._case.faults)

    def _struck(self, step: Step) -> None:
        """Before Docker goes on, which could mend what is wrong."""
        if self._killed:
            self._truth.check_healthy(at_once=True)
        elif step.status == 200 and step.verb in MAKING:
            self._truth.check_made()

    def _attempt(self, act: Act) -> Refused | None:
        self.session.act = act.name
        try:
            act.do(self._docker)
        except Refused as refusal:
            return refusal
        return None

    def _go_on(self, act: Act, refusal: Refused | None) -> None:
        """What failed the user does once more; if what a lost answer promised is in the way, after `mdnp gc`."""
        if refusal is None or not act.again:
            return
        second = self._attempt(act)
        if second is not None:
            assert self._docker.astray, f"refused again, and nothing is in the way: {second}"
            self._docker.collect()
            self.collected = True
            third = self._attempt(act)
            assert third is None, f"refused again after gc: {third}"
        self._truth.check_kept(at_once=self._killed)
