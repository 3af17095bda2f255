"""`mdnp doctor`: runs in its own process, so that it says what is wrong when the daemon cannot."""

import json
import os
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdnp import config
from mdnp.cli import client
from mdnp.model.errors import InvalidParameter

if TYPE_CHECKING:
    from mdnp.doctor import Fact
    from mdnp.doctor.checks import Report

_TROUBLE = 1
_LIMIT_S = 10.0
_NO_FILE = Path(os.devnull)


@click.command()
@click.argument("names", metavar="[CHECK]...", nargs=-1)
@click.option("--all", "--verbose", "every", is_flag=True, help="Also show what is well.")
@click.option(
    "--root", type=click.Path(path_type=Path), default=Path("/"), help="Look for files below this folder [/]."
)
@click.option("--json", "as_json", is_flag=True, help="The same values as JSON.")
def doctor(names: tuple[str, ...], every: bool, root: Path, as_json: bool) -> None:
    """
    Look for what is wrong with mdnp, Docker and this host, and say what to do. Changes nothing.

    It works when the daemon or Docker is down, and in part without root. CHECK limits it to some; --all shows their
    names. Exit code 1 if there is trouble; warnings, and what could not be looked at, are none.
    """
    from mdnp.doctor import checks, facts  # noqa: PLC0415  # other commands need none of it

    checks.chosen(names)
    settings, readable = _settings()
    ask = partial(client.ask, settings.admin_socket, limit_s=_LIMIT_S)
    reports = checks.judge(facts.gather(settings, ask, configuration=readable, root=root), names)
    click.echo(json.dumps(_view(reports), indent=2) if as_json else _drawn(reports, every))
    if any(one.verdict == "trouble" for one in reports):
        sys.exit(_TROUBLE)


def _settings() -> "tuple[config.Settings, Fact[str]]":
    """When they cannot be used as a whole, what of the environment can be, so that the daemon is found all the same."""
    from mdnp.doctor import Unknown  # noqa: PLC0415

    try:
        return config.load({}, os.environ), ""
    except InvalidParameter as error:
        usable = {name: value for name, value in os.environ.items() if _loads({name: value})}
        return config.load({}, usable, _NO_FILE), Unknown(str(error))


def _loads(environment: dict[str, str]) -> bool:
    try:
        config.load({}, environment, _NO_FILE)
    except InvalidParameter:
        return False
    return True


def _view(reports: "Iterable[Report]") -> dict[str, Any]:
    rows = [
        {
            "name": report.name,
            "verdict": report.verdict.value,
            "findings": [
                {"verdict": one.verdict.value, "what": one.what, "why": one.why, "do": one.do}
                for one in report.findings
            ],
        }
        for report in reports
    ]
    return {"healthy": all(row["verdict"] == "ok" for row in rows), "checks": rows}


def _drawn(reports: "Iterable[Report]", every: bool) -> str:
    reports = list(reports)
    shown = [one for one in reports if every or one.verdict in ("trouble", "warning")]
    lines = [line for report in shown for line in _lines(report)]
    lines += [] if every else _unknown(reports)
    counts = {verdict: sum(one.verdict == verdict for one in reports) for verdict in ("trouble", "warning", "unknown")}
    told = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    return "\n".join([*lines, f"# {len(reports)} check{'s' * (len(reports) != 1)}, {', '.join(told) or 'all well'}"])


def _unknown(reports: "Iterable[Report]") -> list[str]:
    """One line for each reason: where the daemon does not answer, many checks have the same."""
    reasons: dict[str, list[str]] = {}
    for report in reports:
        for one in report.findings:
            if one.verdict == "unknown":
                reasons.setdefault(one.what, []).append(report.name)
    return [f"{'unknown':9}{', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _lines(report: "Report") -> list[str]:
    """A finding a line, and below it why it matters and what to do."""
    if not report.findings:
        return [f"{'ok':9}{report.name}"]
    lines: list[str] = []
    for one in report.findings:
        lines.append(f"{one.verdict:9}{report.name}{': ' if one.what else ''}{one.what}")
        lines += [f"         {word}: {text}" for word, text in (("why", one.why), ("do", one.do)) if text]
    return lines
