"""docs/faults.md: the points, and which verbs reach them."""

from pathlib import Path

from tests.faults.matrix import Recorded, verbs_of_points
from tests.faults.points import POINTS

FILE = Path(__file__).parents[2] / "docs" / "faults.md"

_HEAD = """\
# The points of the fault run

Written by `python -m tests.faults`, and compared by a test with what the code has: edit `tests/faults` instead.

A test build of the daemon (`tests/faults/daemon.py`; nothing in `src/` knows of it) has a named point wherever the
store, the kernel, the cluster or the socket is touched. Short stories of what Docker and its users do reach every point
of every verb. For each verb, each point that it reaches, each time that it does, and each fault that can be put there,
a story is told up to that call and the fault is put in. Then Docker does what an engine does after such a failure,
the user does once more what failed, and in the end everything is removed.

Faults: **fail** (once: the store cannot write, the kernel refuses a step, etcd cannot be asked, the connection
breaks), **keep-failing** (from there on until the call has been answered), **kill** (SIGKILL of the daemon, which is
then started again). Besides, where a verb undoes what it had begun, the daemon is killed at each point of that. From
the end of one thing to the beginning of the next nothing is touched: of two such points `make test` kills at the
second; with FAULTS=all in the environment at both.

What must be true after the fault: what was answered with success is promised, in the kernel and held; `mdnp status`
is healthy, at once after a kill or a success, else at the next look. Nothing else is promised, but for what a lost
answer or a failed release leaves, which Docker never repeats. When everything was removed, `mdnp gc` takes that
back; then the database, the kernel (links, tables, rules) and the ports of the host are empty, the cluster has nothing
of this host, and the log has no trace of a defect.

A case is replayed by its name, which a failing test says:

    sudo .venv/bin/python -m tests.faults containers 10 kernel.add.hostport:2 kill

`start` is a start of the daemon after a reboot of the host or over what others left, `gc` is `mdnp gc`; the rest
are Docker's verbs.

| point | when | faults | reached by |
|---|---|---|---|
"""


def text(recorded: Recorded) -> str:
    verbs = verbs_of_points(recorded)
    everywhere = {verb for found in verbs.values() for verb in found}
    rows = []
    for name, point in POINTS.items():
        by = "every call" if len(verbs[name]) >= len(everywhere) - 2 else ", ".join(map(_bare, verbs[name]))
        rows.append(f"| `{name}` | {point.what} | {', '.join(point.kinds)} | {by} |")
    return _HEAD + "\n".join(rows) + "\n"


def _bare(verb: str) -> str:
    """A verb that both drivers have keeps its interface."""
    interface, _, name = verb.rpartition(".")
    return verb if name == "GetCapabilities" else name or interface
