"""
Servers of names for a host that boots: `answering.py ADDRESS host` is mdnp's own, with one container; `answering.py
ADDRESS outside` stands for all others. Each says what it is asked for.
"""

import asyncio
import sys
from ipaddress import ip_address
from pathlib import Path

from mdnp.dns import Answer, Kind, Question, Record, Scope
from mdnp.dns.resolvers import HostResolvers
from mdnp.dns.server import Server
from mdnp.dns.sockets import PORT, open_pair
from mdnp.dns.stub import Stub

OURS = {"web.blue.mdnp": "10.50.1.2", "2.1.50.10.in-addr.arpa": "web.blue.mdnp"}
THEIRS = {"www.example": "203.0.113.7"}


class Names:
    """Of the host's own names what it has not does not exist below .mdnp, and is not its matter elsewhere."""

    def __init__(self, names: dict[str, str], *, all_there_are: bool) -> None:
        self._names = names
        self._all_there_are = all_there_are

    def find(self, question: Question) -> Answer | None:
        sys.stderr.write(f"{question.name}\n")
        found = self._names.get(question.name)
        if found is None:
            return Answer(exists=False) if self._all_there_are or question.name.endswith(".mdnp") else None
        kind = Kind.PTR if question.name.endswith(".arpa") else Kind.A
        data = found if kind is Kind.PTR else ip_address(found)
        return Answer((Record(question.name, kind, data),) if question.kind == kind else ())


async def main(address: str, role: str) -> None:
    resolvers = HostResolvers(lambda one: one.is_loopback, Path("/etc/resolv.conf"))
    names = Names(OURS if role == "host" else THEIRS, all_there_are=role == "outside")

    def scope() -> Scope:
        return Scope(names, resolvers if role == "host" and resolvers.standing.servers else None)

    if role == "host":
        await Stub(ip_address(address), scope, Server).run()
    else:
        await serve(address, Server(lambda _: scope()))


async def serve(address: str, server: Server) -> None:
    pair = open_pair(ip_address(address), PORT)
    try:
        await server.serve(*pair)
    finally:
        pair.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
