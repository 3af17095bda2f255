"""
What a host's resolver is in a rig: it has the zone example.com, and tells whom it was asked for.

    Nameserver(underlay, GATEWAY.ip)      answers on port 53 there, UDP and TCP, until it is killed
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rig import answering
from rig.command import RigError, until
from rig.host import Namespace


class Nameserver:
    """What `answering` says is answered, and what was asked."""

    def __init__(self, place: Namespace, address: object) -> None:
        log = place.rig.folder / f"nameserver-{place.label}.log"
        command = place.enter([sys.executable, answering.__file__, str(address)])
        self.process = place.rig.spawn(command, log=log)
        until(lambda: answering.READY in log.read_text() or not self.process.running, "the nameserver to start")
        if not self.process.running:
            raise RigError(f"the nameserver does not start: {self.process.tail()}")

    @property
    def asked(self) -> list[str]:
        """The names that it was asked for, with the types, as `web A`; the newest last."""
        return self.process.log.read_text().splitlines()[1:]

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It lives and says nothing meanwhile."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)
