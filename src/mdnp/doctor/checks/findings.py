"""The words of a finding."""

from collections.abc import Iterable

from mdnp.doctor import Finding, Verdict

_SHOWN = 4


def ok(what: str = "") -> Finding:
    return Finding(Verdict.OK, what)


def unknown(what: str, why: str, do: str) -> Finding:
    return Finding(Verdict.UNKNOWN, what, why, do)


def warning(what: str, why: str, do: str) -> Finding:
    return Finding(Verdict.WARNING, what, why, do)


def trouble(what: str, why: str, do: str) -> Finding:
    return Finding(Verdict.TROUBLE, what, why, do)


def listed(names: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return f"{', '.join(every[:_SHOWN])}{more}"
