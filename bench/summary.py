"""The figures that README shows, out of all that was measured. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
Rows = list[Row]

_ALONE, _CLUSTER = "alone", "in a cluster"
_CONTAINERS = {
    "run": "`docker run --rm`, beyond `--net none`",
    "run -p": "`docker run --rm -p`, beyond `--net none`",
    "connect": "`docker network connect`",
    "disconnect": "`docker network disconnect`",
    "20 at once": "20 starts at once, beyond `--net none`",
}
# What was aimed at, of the ratio where there is one.
_CONTAINERS_AIM = {"run": "≤ 0.40", "run -p": "≤ 0.35", "connect": "≤ 0.40", "disconnect": "≤ 0.30"}
_TRAFFIC = {"tcp": "≥ 1.0", "request": "≤ 1.0"}
_EMPTY: Row = dict.fromkeys(("figure", "unit", "Docker's", "the floor", "mdnp", "mdnp to Docker's", "aim"))


def machines(results: Mapping[str, Any]) -> str:
    """On which machines the figures were measured that there are, in a line."""
    shown = [results["machines"][benchmark] for benchmark, _ in _PICKS if benchmark in results]
    said = [f"Linux {one['kernel']}, Python {one['python']}, {one['processors']} processors" for one in shown]
    return f"Measured on {'; '.join(dict.fromkeys(said))}."


def rows(results: Mapping[str, Any]) -> Rows:
    """A row for each figure. What was not measured is left out; `commit` says for each of which it is."""
    found: Rows = []
    for benchmark, pick in _PICKS:
        if benchmark in results:
            commit = results["machines"][benchmark]["commit"]
            found += [{**_EMPTY, **row, "commit": commit} for row in pick(results[benchmark])]
    return found


def _containers(measured: Rows) -> Rows:
    return [
        {
            "figure": _CONTAINERS[row["measure"]],
            "unit": "ms",
            "Docker's": row["bridge_adds"],
            "the floor": row.get("floor_adds"),
            "mdnp": row["mdnp_adds"],
            "mdnp to Docker's": row["ratio"],
            "aim": _CONTAINERS_AIM.get(row["measure"]),
        }
        for row in measured
        if row["measure"] in _CONTAINERS
    ]


def _growth(measured: Rows) -> Rows:
    first = measured[0]["endpoints"]
    return [
        {
            "figure": f"a start beside {_beside(row)}, to one beside {first}",
            "unit": "ratio",
            "Docker's": row["bridge_ratio"],
            "mdnp": row["mdnp_ratio"],
            "aim": "≤ 1.2",
        }
        for row in measured[-2:]
    ]


def _beside(row: Row) -> str:
    return f"{row['networks']} networks" if row["networks"] > 1 else f"{row['endpoints']} endpoints"


def _share(measured: Rows) -> Rows:
    what = {"run": "a container's start and end", "run -p": "the same with a published port"}
    aim = {"run": "≤ 8 / 25"}
    return [
        {
            "figure": f"mdnp's own time for {what[row['what']]}",
            "unit": "ms, p50 / p99",
            "mdnp": f"{row['p50_ms']} / {row['p99_ms']}",
            "aim": aim.get(row["what"]),
        }
        for row in measured
    ]


def _memory(measured: Rows) -> Rows:
    alone = [row for row in measured if row["where"] == _ALONE]
    aim = "≤ 56, and 25 more with 1,000"
    return [
        _by_endpoints("the daemon's memory", "MiB", "rss_mib", alone, aim),
        *(
            {"figure": f"the daemon's memory {row['where']}", "unit": "MiB", "mdnp": row["rss_mib"], "aim": "≤ 72"}
            for row in measured
            if row["where"] == _CLUSTER
        ),
    ]


def _starting(measured: Rows) -> Rows:
    figure = "the daemon's start to its first answer"
    return [_by_endpoints(figure, "ms", "start_ms", measured, "≤ 800 with none, ≤ 2,000 with 1,000")]


def _by_endpoints(figure: str, unit: str, key: str, measured: Rows, aim: str) -> Row:
    sizes = " / ".join(f"{row['endpoints']:,}" for row in measured)
    return {
        "figure": figure,
        "unit": f"{unit}, {sizes} endpoints",
        "mdnp": " / ".join(str(row[key]) for row in measured),
        "aim": aim,
    }


def _local(measured: Rows) -> Rows:
    return [
        {
            "figure": f"{row['measure']}, from {row['from']}",
            "unit": row["unit"],
            "Docker's": ways["bridge"]["median"],
            "mdnp": row["median"],
            "mdnp to Docker's": row["ratio"],
            "aim": _TRAFFIC[row["measure"]],
        }
        for ways in _by_way(measured, ("from", "measure", "unit"))
        for row in [ways["mdnp"]]
    ]


def _tunnel(measured: Rows) -> Rows:
    """Docker's is Swarm's overlay, the floor a bare VXLAN link; the ratios of both are to the latter."""
    return [
        {
            "figure": f"{row['measure']}, from a container to one on another host",
            "unit": row["unit"],
            "Docker's": ways["swarm"]["median"],
            "the floor": ways["vxlan"]["median"],
            "mdnp": row["median"],
            "mdnp to Docker's": round(row["ratio"] / ways["swarm"]["ratio"], 2),
            "aim": _TRAFFIC[row["measure"]],
        }
        for ways in _by_way(measured, ("measure", "unit"))
        for row in [ways["mdnp"]]
    ]


def _by_way(measured: Rows, by: Sequence[str]) -> list[dict[str, Row]]:
    """The rows of each measure that is shown; not what moves with all that the machine does, traffic a second."""
    found: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in measured:
        if row["measure"] in _TRAFFIC and not row["unit"].endswith("/s"):
            found.setdefault(tuple(row[key] for key in by), {})[row["way"]] = row
    return list(found.values())


_PICKS: Sequence[tuple[str, Callable[[Rows], Rows]]] = (
    ("containers", _containers),
    ("growth", _growth),
    ("share", _share),
    ("local", _local),
    ("tunnel", _tunnel),
    ("starting", _starting),
    ("memory", _memory),
)
