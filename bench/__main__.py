"""
`make bench`: runs the benchmarks in turn, prints a table of each, and writes the figures and plots to docs/bench.

With names of benchmarks only those are run, and the figures of the others stay as they were.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import (
    allocator,
    commands,
    containers,
    convergence,
    crowded,
    cut_off,
    growth,
    ipam_socket,
    local,
    memory,
    name_changes,
    names,
    page,
    plots,
    publishing,
    scale,
    share,
    starting,
    tunnel,
)

Row = dict[str, Any]

_OUT = Path(__file__).parent.parent / "docs/bench"
_SCALE = _OUT.parent / "scale.md"

# Name, what it tells, what measures it.
_BENCHMARKS: Sequence[tuple[str, str, Callable[[], list[Row]]]] = (
    ("containers", "containers on Docker's bridge network and on ours, in turn", containers.run),
    ("share", "the plugin's own time for a container's start and end, from its metrics", share.run),
    ("growth", "what a network adds to a start beside many containers, Docker's bridge and ours", growth.run),
    ("crowded", "1,500 containers on one network, more than a bridge has ports", crowded.run),
    ("local", "traffic on one host, over Docker's bridge and over ours, in turn", local.run),
    ("memory", "the daemon's memory, and what it computes when nothing happens", memory.run),
    ("allocator", "the allocator alone, operations per second of CPU time", allocator.run),
    ("publishing", "one more published endpoint beside 10 and beside 900, in ms", publishing.run),
    ("starting", "from the start to the first answer, beside 10 and beside 1,000 endpoints", starting.run),
    ("commands", "the operator's commands as whole processes, beside 10 and beside 1,000 endpoints", commands.run),
    ("ipam_socket", "RequestAddress and ReleaseAddress over the socket, every answer on disk", ipam_socket.run),
    ("names", "questions of names over UDP: what the zone has, and what goes on to others", names.run),
    ("name_changes", "from a container's change to the right answer on all other hosts", name_changes.run),
    ("tunnel", "between containers on two hosts: bare VXLAN, Swarm's overlay and ours, in turn", tunnel.run),
    ("convergence", "from Join on one host to the first answered ping from another", convergence.run),
    ("cut_off", "attaching and detaching while etcd is up, stopped and frozen, in turn", cut_off.run),
    ("scale", "200 simulated hosts of 50 containers beside real daemons, on one etcd", scale.run),
)


def main() -> None:
    if os.geteuid():
        sys.exit("bench: needs root, for a network namespace of its own")
    chosen = _chosen(sys.argv[1:])
    results = _earlier() if len(chosen) < len(_BENCHMARKS) else {"machines": {}}
    for number, (name, what, run) in enumerate(chosen, start=1):
        print(f"# {number} of {len(chosen)}: {what}", flush=True)
        start = time.monotonic()
        results["machines"][name] = _machine()
        results[name] = run()
        print(_table(results[name]))
        print(f"# took {time.monotonic() - start:.0f} s\n", flush=True)
    _OUT.mkdir(parents=True, exist_ok=True)
    (_OUT / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    for path in plots.draw(results, _OUT):
        print(f"# wrote {path.relative_to(_OUT.parent.parent)}")
    if any(name == "scale" for name, _, _ in chosen):
        page.update(_SCALE, results["scale"], results["machines"]["scale"])
        print(f"# wrote {_SCALE.relative_to(_OUT.parent.parent)}")
    print("# wrote docs/bench/results.json; docs/bench/README.md says how to read it")


def _chosen(names: Sequence[str]) -> Sequence[tuple[str, str, Callable[[], list[Row]]]]:
    known = [name for name, _, _ in _BENCHMARKS]
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"bench: no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    return [one for one in _BENCHMARKS if one[0] in (names or known)]


def _earlier() -> dict[str, Any]:
    path = _OUT / "results.json"
    earlier: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"machines": {}}
    return earlier


def _machine() -> Row:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() + ("+" if dirty.stdout else ""),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
    }


def _table(rows: list[Row]) -> str:
    heads = list(rows[0])
    lines = [heads, *([str(row[head]) for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


if __name__ == "__main__":
    main()
