"""
A name server for a rig, as a program of its own: it answers at port 53 of an address, UDP and TCP, and prints each
name that it is asked for with the type, as `web A`.

NAME.example.com has one address of each family, whatever the NAME, but for `absent`, which does not exist; and `big`
has so many that they need TCP. Nothing else exists.
"""

import socket
import sys
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

READY = "ready"
ZONE = "example.com"
ADDRESS, ADDRESS6 = "198.51.100.7", "2001:db8::7"


def main() -> None:
    address = sys.argv[1]
    with socket.create_server((address, 53)) as streams, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind((address, 53))
        threading.Thread(target=_serve_streams, args=(streams,), daemon=True).start()
        print(READY, flush=True)
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
