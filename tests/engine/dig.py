"""
Asks a name server from wherever it runs, and prints what it said as JSON.

    dig.py [--tcp] [--at=127.0.0.11] [--within=3] NAME TYPE [NAME TYPE]...
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

EMBEDDED = "127.0.0.11"


@dataclass(frozen=True)
class Said:
    """An answer: its code, and its data sorted; `NONE` is the code of silence."""

    code: str
    data: tuple[str, ...] = ()
    ttls: tuple[int, ...] = ()
    authoritative: bool = False


def command(*asked: str, at: str = EMBEDDED, tcp: bool = False, within_s: float = 3.0) -> list[str]:
    """`asked` are names and types in turn."""
    options = [f"--at={at}", f"--within={within_s}", *["--tcp"] * tcp]
    return [sys.executable, str(Path(__file__).resolve()), *options, *asked]


def read(printed: str) -> list[Said]:
    return [
        Said(one["code"], tuple(one["data"]), tuple(one["ttls"]), one["authoritative"]) for one in json.loads(printed)
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--at", default=EMBEDDED)
    parser.add_argument("--within", type=float, default=3.0)
    parser.add_argument("asked", nargs="+")
    given = parser.parse_args()
    pairs = zip(given.asked[::2], given.asked[1::2], strict=True)
    sys.stdout.write(json.dumps([_ask(name, kind, given) for name, kind in pairs]))


def _ask(name: str, kind: str, given: argparse.Namespace) -> dict[str, object]:
    query = dns.message.make_query(name, kind)
    ask = dns.query.tcp if given.tcp else dns.query.udp
    try:
        answer = ask(query, given.at, timeout=given.within)
    except (dns.exception.Timeout, OSError):
        return {"code": "NONE", "data": [], "ttls": [], "authoritative": False}
    code = "TC" if answer.flags & dns.flags.TC else dns.rcode.to_text(answer.rcode())
    wanted = dns.rdatatype.from_text(kind)
    sets = [one for one in answer.answer if wanted in (one.rdtype, dns.rdatatype.ANY)]
    return {
        "code": code,
        "data": sorted(item.to_text().rstrip(".") for one in sets for item in one),
        "ttls": sorted({one.ttl for one in sets}),
        "authoritative": bool(answer.flags & dns.flags.AA),
    }


if __name__ == "__main__":
    main()
