"""
The live probe: a program that runs in the container's network namespace, and needs nothing but the standard library.

    probe.py ping|tcp|udp SOURCE TARGET PORT LIMIT_S    says {"number": …}, waits for a line, probes, says the answer
    probe.py resolve NAME                               asks Docker's DNS there: {"addresses": […], "reason": …}

`number` is the source's port, or the id of a ping: it is known before the first packet, so that it can be watched for.
A TCP connection is closed as soon as it stands; nothing is sent on it. A UDP datagram holds two words.
"""

import errno
import json
import os
import select
import socket
import struct
import sys
import time

_ICMP_ECHO = {socket.AF_INET: (socket.IPPROTO_ICMP, 8, 0), socket.AF_INET6: (socket.IPPROTO_ICMPV6, 128, 129)}
# include/uapi/linux/{in,in6,errqueue}.h
_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
_EXTENDED = struct.Struct("=IBBBBII")
_ORIGIN_LOCAL = 1
_DATA = b"mdnp trace\n"
_DNS = ("127.0.0.11", 53)
_DNS_TYPES = {"A": 1, "AAAA": 28}


def _opened(kind: str, family: socket.AddressFamily) -> socket.socket:
    if kind == "ping":
        opened = socket.socket(family, socket.SOCK_RAW, _ICMP_ECHO[family][0])
    else:
        opened = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    opened.setsockopt(*_RECVERR[family], 1)
    opened.setblocking(False)
    return opened


def _probe(kind: str, source: str, target: str, port: int, limit_s: float) -> dict[str, object]:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with _opened(kind, family) as probe:
        if source:
            probe.bind((source, 0))
        number = os.getpid() & 0xFFFF or 1 if kind == "ping" else probe.getsockname()[1]
        _say({"number": number})
        sys.stdin.readline()
        began = time.monotonic()
        try:
            _send(probe, kind, family, (target, port), number)
            answer = _await(probe, kind, family, number, began + limit_s)
        except OSError as error:
            answer = _failed(probe, error)
        return {**answer, "ms": (time.monotonic() - began) * 1000}


def _send(probe: socket.socket, kind: str, family: socket.AddressFamily, to: tuple[str, int], number: int) -> None:
    if kind == "tcp":
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        code = probe.connect_ex(to)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        return
    probe.connect((to[0], to[1] if kind == "udp" else 0))
    if kind == "udp":
        probe.send(_DATA)
    else:
        probe.send(_echo(family, number))


def _echo(family: socket.AddressFamily, number: int) -> bytes:
    """An echo request. The kernel adds the checksum of ICMPv6, but not that of ICMP."""
    kind = _ICMP_ECHO[family][1]
    body = struct.pack("!HH", number, 1) + bytes(range(48))
    return struct.pack("!BBH", kind, 0, _checksum(bytes([kind, 0, 0, 0]) + body)) + body


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _await(probe: socket.socket, kind: str, family: socket.AddressFamily, number: int, end: float) -> dict[str, object]:
    waited = select.POLLOUT if kind == "tcp" else select.POLLIN
    poll = select.poll()
    poll.register(probe, waited | select.POLLERR)
    while (rest := end - time.monotonic()) > 0:
        if not poll.poll(rest * 1000):
            break
        code = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        if kind == "tcp":
            return {"kind": "answered"}
        try:
            data = probe.recv(65536)
        except BlockingIOError:
            continue
        if kind == "udp" or _is_reply(data, family, number):
            return {"kind": "answered"}
    return {"kind": "silence"}


def _is_reply(data: bytes, family: socket.AddressFamily, number: int) -> bool:
    if family == socket.AF_INET:  # a raw socket of IPv4 sees the header too
        data = data[(data[0] & 0x0F) * 4 :]
    return len(data) >= 8 and data[0] == _ICMP_ECHO[family][2] and data[4:6] == struct.pack("!H", number)


def _failed(probe: socket.socket, error: OSError) -> dict[str, object]:
    """Who said so: an ICMP error stands in the socket's queue of errors with its sender, a reset does not."""
    reason = error.strerror or str(error)
    try:
        _, found, _, _ = probe.recvmsg(512, 512, socket.MSG_ERRQUEUE)
    except OSError:
        found = []
    for level, _, data in found:
        if level not in (socket.IPPROTO_IP, socket.IPPROTO_IPV6) or len(data) < _EXTENDED.size:
            continue
        origin = data[4]
        if origin == _ORIGIN_LOCAL:
            break
        sender = _sender(data[_EXTENDED.size :])
        refused = error.errno == errno.ECONNREFUSED
        return {"kind": "refused" if refused else "error", "sender": sender, "reason": _icmp(data, reason)}
    if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET):
        return {"kind": "refused", "reason": reason}
    return {"kind": "local", "reason": reason}


def _icmp(data: bytes, reason: str) -> str:
    return f"{reason} (ICMP type {data[5]} code {data[6]})"


def _sender(data: bytes) -> str:
    family = int.from_bytes(data[:2], sys.byteorder)
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, data[4:8])
    return socket.inet_ntop(socket.AF_INET6, data[8:24]) if family == socket.AF_INET6 else ""


def _resolve(name: str) -> dict[str, object]:
    """As a program in the container does that asks Docker's DNS."""
    addresses: list[str] = []
    reason = "it has no address"
    for kind in _DNS_TYPES.values():
        try:
            code, found = _ask(name, kind)
        except (OSError, ValueError, IndexError, struct.error) as error:
            return {"addresses": addresses, "reason": f"no answer of Docker's DNS: {error}"}
        addresses += found
        if code:
            reason = {2: "Docker's DNS cannot ask further", 3: "no such name"}.get(code, f"DNS error {code}")
    return {"addresses": addresses, "reason": reason}


def _ask(name: str, kind: int) -> tuple[int, list[str]]:
    labels = b"".join(bytes([len(one)]) + one.encode("ascii") for one in name.rstrip(".").split("."))
    query = struct.pack("!HHHHHH", os.getpid() & 0xFFFF, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(2.0)
        asker.connect(_DNS)
        asker.send(query)
        answer = asker.recv(4096)
    _, flags, _, count, _, _ = struct.unpack("!HHHHHH", answer[:12])
    place = len(query)
    found = []
    for _ in range(count):
        place = _past_name(answer, place)
        this, _, _, length = struct.unpack("!HHIH", answer[place : place + 10])
        data = answer[place + 10 : place + 10 + length]
        if this == kind:
            found.append(socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, data))
        place += 10 + length
    return flags & 0x0F, found


def _past_name(answer: bytes, place: int) -> int:
    while answer[place]:
        if answer[place] >= 0xC0:
            return place + 2
        place += answer[place] + 1
    return place + 1


def _say(said: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(said)}\n")
    sys.stdout.flush()


def main() -> None:
    kind, *rest = sys.argv[1:]
    if kind == "resolve":
        said = _resolve(rest[0])
    else:
        source, target, port, limit_s = rest
        said = _probe(kind, source, target, int(port), float(limit_s))
    _say(said)


if __name__ == "__main__":
    main()
