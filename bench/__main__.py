"""
`make bench`: runs the benchmarks in turn, prints a table of each, writes the figures and plots to docs/bench,
and the tables of README and docs/scale.md.

With names of benchmarks only those are run, and the figures of the others stay as they were. What was measured is kept
at once, so that one that fails takes nothing from those before it.
"""

import json
import os
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
    limits,
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
    summary,
    tunnel,
)
from bench.machine import machine
from bench.table import table

Row = dict[str, Any]

_OUT = Path(__file__).parent.parent / "docs/bench"
_RESULTS = _OUT / "results.json"
_SCALE = _OUT.parent / "scale.md"
_README = _OUT.parent.parent / "README.md"

# Name, what it tells, what measures it.
_BENCHMARKS: Sequence[tuple[str, str, Callable[[], list[Row]]]] = (
    ("containers", "containers on Docker's bridge, on ours and on the least remote driver, in turn", containers.run),
    ("share", "the plugin's own time for a container's start and end, from its metrics", share.run),
    ("growth", "what a network adds to a start beside many containers, Docker's bridge and ours", growth.run),
    ("limits", "what the kernel alone takes for the steps of an endpoint, and our calls for the same", limits.run),
    ("crowded", "1,500 containers on one network, more than a bridge has ports", crowded.run),
    ("local", "traffic on one host, over Docker's bridge and over ours, in turn", local.run),
    ("memory", "the daemon's memory, and what it computes when nothing happens", memory.run),
    ("allocator", "the allocator alone, operations per second of CPU time", allocator.run),
    ("publishing", "one more published endpoint beside 10 and beside 900, in ms", publishing.run),
    (
        "starting",
        "from the start to the first answer: with an empty store, beside 10 and beside 1,000 endpoints",
        starting.run,
    ),
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
    results = _earlier()
    for number, (name, what, run) in enumerate(chosen, start=1):
        print(f"# {number} of {len(chosen)}: {what}", flush=True)
        start = time.monotonic()
        measured_on, rows = machine(), run()
        print(table(rows))
        print(f"# took {time.monotonic() - start:.0f} s\n", flush=True)
        results["machines"][name], results[name] = measured_on, rows
        _RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    for path in plots.draw(results, _OUT):
        print(f"# wrote {path.relative_to(_OUT.parent.parent)}")
    if any(name == "scale" for name, _, _ in chosen):
        page.update(_SCALE, results["scale"], results["machines"]["scale"])
        print(f"# wrote {_SCALE.relative_to(_OUT.parent.parent)}")
    page.put(_README, summary.machines(results), summary.rows(results))
    print("# wrote the table in README.md")
    print("# wrote docs/bench/results.json; docs/bench/README.md says how to read it")


def _chosen(names: Sequence[str]) -> Sequence[tuple[str, str, Callable[[], list[Row]]]]:
    known = [name for name, _, _ in _BENCHMARKS]
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"bench: no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    return [one for one in _BENCHMARKS if one[0] in (names or known)]


def _earlier() -> dict[str, Any]:
    """What was measured before, each of its own commit; of each benchmark that is run again the new takes its place."""
    earlier: dict[str, Any] = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {"machines": {}}
    return earlier


if __name__ == "__main__":
    main()
