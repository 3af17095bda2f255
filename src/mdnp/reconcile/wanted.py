"""What is wanted of the kernel, place by place and owner by owner. Pure."""

from collections.abc import Iterable, Mapping

from mdnp.dataplane.objects import Key
from mdnp.dataplane.steps import Owner
from mdnp.reconcile.desired import Desired, Owned


class Wanted:
    """
    Of two owners that want one place (two endpoints with one address, one of which Docker has forgotten) the later one
    has it, and the earlier one when the later goes.
    """

    def __init__(self) -> None:
        self._desired: dict[Key, Owned] = {}
        self._waiting: dict[Key, list[Owned]] = {}  # the earlier ones
        self._keys: dict[Owner, list[Key]] = {}

    @property
    def desired(self) -> Desired:
        return self._desired

    def put(self, owner: Owner, planned: Mapping[Key, Owned]) -> list[Key]:
        """Replace what an owner wants; the places that it wanted before or wants now."""
        before = self._keys.pop(owner, [])
        for key in before:
            if key not in planned:
                self._leave(owner, key)
        for key, owned in planned.items():
            self._take(owner, key, owned)
        if planned:
            self._keys[owner] = list(planned)
        return [*before, *planned]

    def _take(self, owner: Owner, key: Key, owned: Owned) -> None:
        other = self._desired.get(key)
        if other is not None and other.owner != owner:
            self._waiting[key] = [*self._without(owner, key), other]
        self._desired[key] = owned

    def _leave(self, owner: Owner, key: Key) -> None:
        waiting = self._without(owner, key)
        if self._desired[key].owner == owner:
            if waiting:
                self._desired[key] = waiting.pop()
            else:
                del self._desired[key]
        if waiting:
            self._waiting[key] = waiting
        else:
            self._waiting.pop(key, None)

    def _without(self, owner: Owner, key: Key) -> list[Owned]:
        waiting: Iterable[Owned] = self._waiting.get(key, ())
        return [one for one in waiting if one.owner != owner]
