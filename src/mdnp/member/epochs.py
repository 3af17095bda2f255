"""
Whether etcd has the data that it had, and the epoch that begins when it has not. Pure.

Data that was lost, or restored from a backup, shows as another cluster id, a revision that went back or a missing
epoch. Who sees that first begins another epoch, and for that each host tells again all that it has.
"""

from dataclasses import dataclass

from mdnp.member.rows import EpochRow


@dataclass(frozen=True)
class Past:
    """The epoch that we told everything for, the etcd cluster it was of, and the last revision that we saw."""

    number: int = 0
    cluster: int = 0
    drawn: str = ""
    revision: int = 0

    @property
    def epoch(self) -> EpochRow:
        return EpochRow(self.number, self.cluster, self.drawn)


def goes_on(found: EpochRow, past: Past, cluster: int, revision: int, *, went_back: bool) -> bool:
    """
    Whether the epoch that was found in the data of this cluster, at this revision, stands for it: ours, or one that
    another host began. `went_back` says that some key is older than we saw it.
    """
    if found.cluster != cluster or found.number < past.number:
        return False
    if found.number > past.number:
        return True
    return found == past.epoch and revision >= past.revision and not went_back


def next_epoch(found: EpochRow | None, past: Past, cluster: int, drawn: str) -> EpochRow:
    return EpochRow(max(found.number if found else 0, past.number) + 1, cluster, drawn)
