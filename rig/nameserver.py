"""
What a host's resolver is in a rig: it has the zone example.com, and tells whom it was asked for.

    Nameserver(underlay, GATEWAY.ip)      answers on port 53 there, UDP and TCP, until it is killed
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rig.command import until
from rig.host import Namespace

ZONE = "example.com"
ADDRESS, ADDRESS6 = "198.51.100.7", "2001:db8::7"
_READY = "ready"


class Nameserver:
    """
    NAME.example.com has one address of each family, whatever the NAME, but for `absent`, which does not exist; and
    `big` has so many that they need TCP. Nothing else exists.
    """

    def __init__(self, place: Namespace, address: object) -> None:
        log = place.rig.folder / f"nameserver-{place.label}.log"
        command = place.enter([sys.executable, str(Path(__file__).resolve()), str(address)])
        self.process = place.rig.spawn(command, log=log)
        until(lambda: _READY in log.read_text(), "the nameserver to start")

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


def main() -> None:
    address = sys.argv[1]
    with socket.create_server((address, 53)) as streams, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind((address, 53))
        threading.Thread(target=_serve_streams, args=(streams,), daemon=True).start()
        print(_READY, flush=True)
        while True:
            query, client = datagrams.recvfrom(4096)
            datagrams.sendto(_answer(query, 512), client)


def _serve_streams(listener: socket.socket) -> None:
    while True:
        stream, _ = listener.accept()
        with stream, stream.makefile("rb") as lines:
            size = int.from_bytes(lines.read(2), "big")
            answer = _answer(lines.read(size), 65535)
            stream.sendall(len(answer).to_bytes(2, "big") + answer)


def _answer(packet: bytes, limit: int) -> bytes:
    import dns.message  # noqa: PLC0415  # only where it runs as a program
    import dns.rcode  # noqa: PLC0415
    import dns.rdatatype  # noqa: PLC0415
    import dns.rrset  # noqa: PLC0415

    query = dns.message.from_wire(packet)
    [question] = query.question
    name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
    print(name, kind, flush=True)
    answer = dns.message.make_response(query, recursion_available=True)
    if not name.endswith(f".{ZONE}") or name.startswith("absent."):
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif kind in ("A", "AAAA"):
        addresses = [ADDRESS if kind == "A" else ADDRESS6]
        if name.startswith("big.") and kind == "A":
            addresses = [f"198.51.100.{last}" for last in range(1, 101)]
        answer.answer.append(dns.rrset.from_text(question.name, 300, "IN", kind, *addresses))
    wire = answer.to_wire(max_size=65535)
    if len(wire) <= limit:
        return wire
    answer.answer.clear()
    answer.flags |= dns.flags.TC
    return answer.to_wire()


if __name__ == "__main__":
    main()
