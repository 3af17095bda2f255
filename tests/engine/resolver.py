"""
A server of names outside, where engines of the rig look for one: `python -m tests.engine.resolver` on port 53 of all
addresses of its namespace.
"""

import socketserver
import struct
from concurrent.futures import ThreadPoolExecutor

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

ONE = "outside.example"
BIG = "big.example"  # with more addresses than a datagram takes
COUNTS = {f"{ONE}.": 1, f"{BIG}.": 300}


def answer(packet: bytes, *, stream: bool) -> bytes:
    query = dns.message.from_wire(packet)
    name, said = query.question[0].name.to_text(), dns.message.make_response(query, recursion_available=True)
    count = COUNTS.get(name, 0)
    if not count:
        said.set_rcode(dns.rcode.NXDOMAIN)
    elif count > 1 and not stream:
        said.flags |= dns.flags.TC
    elif query.question[0].rdtype == dns.rdatatype.A:
        addresses = [f"198.51.{100 + number // 200}.{number % 200 + 1}" for number in range(count)]
        said.answer = [dns.rrset.from_text(name, 60, "IN", "A", *addresses)]
    return said.to_wire()


class Datagram(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(answer(self.rfile.read(), stream=False))


class Stream(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while prefix := self.rfile.read(2):
            said = answer(self.rfile.read(struct.unpack("!H", prefix)[0]), stream=True)
            self.wfile.write(struct.pack("!H", len(said)) + said)


class Streams(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    everywhere = ("", 53)
    servers = (socketserver.ThreadingUDPServer(everywhere, Datagram), Streams(everywhere, Stream))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda server: server.serve_forever(), servers))
