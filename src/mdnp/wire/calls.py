"""Calls of Docker's: each has an id, is counted and timed."""

import time
from collections.abc import Callable

from mdnp import logs
from mdnp.measures import Measures
from mdnp.wire.routes import Routes
from mdnp.wire.verbs import Answer

_OTHER = ("other", "other")  # a path that is no verb: who invents paths must not invent labels


class Calls:
    """
    The id that `new_id` draws stands in each line that is logged during the call, and in its error.

    A call that is cut off is neither counted as an error nor timed.
    """

    def __init__(self, routes: Routes, measures: Measures, new_id: Callable[[], str]) -> None:
        self._routes = routes
        self._measures = measures
        self._new_id = new_id
        self._names = {name: _labels(name) for name in routes.verbs}
        for labels in self._names.values():
            measures.calls.prepare(*labels)
            measures.call_errors.prepare(*labels)

    async def answer(self, path: str, body: bytes) -> Answer:
        labels = self._names.get(path.removeprefix("/"), _OTHER)
        before = logs.call.set(self._new_id())
        self._measures.calls_under_way += 1
        began = time.perf_counter()
        try:
            answer = await self._routes.answer(path, body)
        finally:
            self._measures.calls_under_way -= 1
            logs.call.reset(before)
        self._measures.calls.observe(time.perf_counter() - began, *labels)
        if answer.status != 200:
            self._measures.call_errors.add(*labels)
        return answer


def _labels(name: str) -> tuple[str, str]:
    interface, _, verb = name.partition(".")
    return interface, verb
