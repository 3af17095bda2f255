"""
Without words: write docs/faults.md. With the words of a case's name: replay it, and tell what was called, what was
reached, and what was not true.
"""

import sys

from tests.faults import document
from tests.faults.case import Case
from tests.faults.matrix import record
from tests.faults.nursery import opened


def main(words: list[str]) -> int:
    with opened() as nursery:
        if not words:
            document.FILE.write_text(document.text(record(nursery)))
            return 0
        case = Case.parse(words)
        [played] = nursery.play([case])
    for number, step in enumerate(played.steps):
        mark = ">" if number == case.target else " "
        sys.stdout.write(f"{mark} {number:2} {step.name} ({step.act}): {' '.join(step.trace)}\n")
    told = "had to collect before what failed could be done again\n" if played.collected else ""
    sys.stdout.write(f"{told}{played.problem or 'all was true'}\n")
    return 1 if played.problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
