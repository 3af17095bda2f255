"""Values by what several of them share. Pure."""

from collections.abc import Collection, Hashable, Mapping
from typing import Generic, TypeVar

_Shared = TypeVar("_Shared", bound=Hashable)
_Own = TypeVar("_Own", bound=Hashable)
_Value = TypeVar("_Value")


class Index(Generic[_Shared, _Own, _Value]):
    """Each value stands below a shared key under one of its own; a shared key is there while it has values."""

    def __init__(self) -> None:
        self._below: dict[_Shared, dict[_Own, _Value]] = {}

    def __contains__(self, shared: object) -> bool:
        return shared in self._below

    @property
    def all(self) -> Mapping[_Shared, Mapping[_Own, _Value]]:
        return self._below

    def of(self, shared: _Shared) -> Collection[_Value]:
        return self._below.get(shared, {}).values()

    def put(self, shared: _Shared, own: _Own, value: _Value) -> None:
        self._below.setdefault(shared, {})[own] = value

    def drop(self, shared: _Shared, own: _Own) -> None:
        """What is not there is no error."""
        values = self._below.get(shared, {})
        values.pop(own, None)
        if not values:
            self._below.pop(shared, None)
