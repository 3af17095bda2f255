"""
What has the sandboxes of an engine open apart from a daemon, for stories that kill it: `python -m tests.engine.holder
FOLDER` with the engine's folder of namespaces. It knows two names, and passes on the rest.
"""

import asyncio
import re
import sys
from ipaddress import ip_address
from pathlib import Path

from mdnp.dns import Answer, Kind, Question, Record
from mdnp.dns.sandboxes import Sandboxes
from mdnp.kernel.sandbox import LinuxDoorways

OURS = "web.blue.mdnp"
ADDRESS = ip_address("10.50.9.9")
BIG = "big.blue.mdnp"  # with more addresses than a datagram takes
MANY = 300

_SANDBOX = re.compile("[0-9a-f]{12}")  # and not the host's own, `default`, nor those of Swarm


class Two:
    def find(self, question: Question) -> Answer | None:
        count = {OURS: 1, BIG: MANY}.get(question.name)
        if count is None or question.kind != Kind.A:
            return None if count is None else Answer()
        return Answer(tuple(Record(question.name, Kind.A, ADDRESS + number) for number in range(count)))


async def hold(folder: Path) -> None:
    sandboxes = Sandboxes(LinuxDoorways(), lambda _: Two())
    async with asyncio.TaskGroup() as group:
        group.create_task(sandboxes.run())
        while True:
            sandboxes.want(sandboxes_in(folder))
            await asyncio.sleep(0.01)


def sandboxes_in(folder: Path) -> set[str]:
    paths = folder.iterdir() if folder.exists() else ()
    return {str(path) for path in paths if _SANDBOX.fullmatch(path.name)}


if __name__ == "__main__":
    asyncio.run(hold(Path(sys.argv[1])))
