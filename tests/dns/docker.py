"""What Docker calls things, in memory: a test says what there is and what happens."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from mdnp.engine import EngineUnavailable, Happening, RunningContainer, Subject
from mdnp.model.names import Names

_T = TypeVar("_T")

AWAY = "Docker cannot be asked at /run/docker.sock: it does not run"
NETWORKS, RUNNING, LISTENED = "networks", "running", "listened"


class FakeDocker:
    """
    `containers` have their endpoints' names. Answers are what was so when it was asked; about a container in `held`
    they come when that is set. `asked` counts questions, about containers by their ids.
    """

    def __init__(self) -> None:
        self.networks: dict[str, str] = {}
        self.containers: dict[str, dict[str, Names]] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.away = False
        self.deaf = False  # events are lost
        self.asked: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self._listeners: set[asyncio.Queue[Happening | None]] = set()

    async def network_names(self) -> Mapping[str, str]:
        return dict(self._answer(NETWORKS, self.networks))

    async def running(self) -> Sequence[RunningContainer]:
        return [
            RunningContainer(identity, next(iter(names.values())).name if names else "", frozenset(names))
            for identity, names in self._answer(RUNNING, self.containers).items()
        ]

    async def names_of(self, container: str) -> Mapping[str, Names]:
        names = dict(self._answer(container, self.containers).get(container, {}))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if container in self.held:
                await self.held[container].wait()
            await asyncio.sleep(0.001)
        finally:
            self.at_once -= 1
        return names

    async def happenings(self) -> AsyncGenerator[Happening, None]:
        self._answer(LISTENED, {})
        queue: asyncio.Queue[Happening | None] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            yield Happening(Subject.ALL)
            while (one := await queue.get()) is not None:
                yield one
        finally:
            self._listeners.discard(queue)
        raise EngineUnavailable("Docker tells no more what happens")

    def start(self, container: str, **endpoints: Names) -> None:
        self.containers[container] = endpoints
        self.happens(Subject.CONTAINER, container)

    def rename(self, container: str, name: str) -> None:
        self.containers[container] = {
            one: replace(names, name=name) for one, names in self.containers[container].items()
        }
        self.happens(Subject.CONTAINER, container)

    def die(self, container: str) -> None:
        del self.containers[container]
        self.happens(Subject.GONE, container)

    def happens(self, subject: Subject, container: str = "") -> None:
        for queue in () if self.deaf else self._listeners:
            queue.put_nowait(Happening(subject, container))

    def restart(self) -> None:
        for queue in self._listeners:
            queue.put_nowait(None)

    def _answer(self, question: str, answer: _T) -> _T:
        self.asked[question] += 1
        if self.away:
            raise EngineUnavailable(AWAY)
        return answer
