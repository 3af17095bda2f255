"""A loop whose time is its own: where nothing is to be done, the next thing that was to come later comes now."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class _Selector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None:
            raise RuntimeError("nothing will ever happen any more")
        self.now += max(timeout, 0.0)
        return found


class Hours(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._selector_of_time = _Selector()
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        return self._selector_of_time.now


def in_hours(story: Callable[..., Coroutine[Any, Any, _T]]) -> Callable[..., _T]:
    """Run a test in a loop of its own, hours in milliseconds."""

    def run() -> _T:
        with asyncio.Runner(loop_factory=Hours) as runner:
            return runner.run(story())

    run.__name__, run.__doc__ = story.__name__, story.__doc__
    return run
