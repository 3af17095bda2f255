"""Sockets in another network namespace, and commands there: what asks, answers and listens inside of a container."""

import ctypes
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

_CLONE_NEWNET = 0x40000000
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_NEIGHBOUR_GROUP = 1 << 2  # RTMGRP_NEIGH: both kinds of rows
_SO_RCVBUFFORCE = 33
_QUEUE, _DATAGRAM = 128 << 20, 1 << 16
_HEADER = struct.Struct("!BBHHH")

Result = TypeVar("Result")


def enter(namespace: Path, command: Sequence[str | Path]) -> list[str]:
    return ["nsenter", f"--net={namespace}", "--", *map(str, command)]


def made(namespace: Path, make: Callable[[], Result]) -> Result:
    """What `make` returns, called in the namespace by a thread of its own: a socket stays there, whoever uses it."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            _set_namespace(namespace)
            results.append(make())
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _set_namespace(namespace: Path) -> None:
    with namespace.open("rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace))


class Pinger:
    """Asks an address for an answer again and again, every `every_s` seconds, from a namespace. IPv4."""

    def __init__(self, namespace: Path, every_s: float = 0.001) -> None:
        self._socket = made(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        self._socket.settimeout(every_s)
        self._run = 0

    def first_answer(self, address: str, timeout_s: float) -> float:
        """The moment, by perf_counter, at which the first answer came to a question of this call. TimeoutError."""
        self._run = (self._run + 1) & 0xFFFF
        deadline = time.perf_counter() + timeout_s
        number = 0
        while time.perf_counter() < deadline:
            number = (number + 1) & 0xFFFF
            try:
                self._socket.sendto(_question(self._run, number), (address, 0))
            except OSError:  # the neighbour is held to be unreachable for now
                time.sleep(0.001)
                continue
            if self._answered(address):
                return time.perf_counter()
        raise TimeoutError(f"{address} does not answer within {timeout_s:g} s")

    def close(self) -> None:
        self._socket.close()

    def _answered(self, address: str) -> bool:
        """What came before the socket's time ran out; answers to an earlier question of the run count as well."""
        try:
            packet, (source, _) = self._socket.recvfrom(256)
        except (TimeoutError, OSError):
            return False
        kind, _, _, run, _ = _HEADER.unpack_from(packet, (packet[0] & 0xF) * 4)
        return bool(source == address and kind == _ECHO_REPLY and run == self._run)


class Rows:
    """Hears what the kernel of a namespace says of its fdb and neighbours."""

    def __init__(self, namespace: Path) -> None:
        self._socket = made(namespace, _listening)

    def heard(self, mac: str, count: int, timeout_s: float) -> float:
        """The moment, by monotonic(), at which a MAC had been named `count` times since the last call. TimeoutError."""
        wanted = bytes.fromhex(mac.replace(":", ""))
        deadline = time.monotonic() + timeout_s
        while count > 0:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            count -= self._socket.recv(_DATAGRAM).count(wanted)
        return time.monotonic()

    def many(self, count: int, timeout_s: float) -> float:
        """The moment, by monotonic(), at which so many rows had been named since the last call. TimeoutError."""
        deadline = time.monotonic() + timeout_s
        for _ in range(count):
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            self._socket.recv(_DATAGRAM)  # one of them
        return time.monotonic()

    def forget(self) -> None:
        """What was said so far."""
        self._socket.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(_DATAGRAM)

    def close(self) -> None:
        self._socket.close()


def _listening() -> socket.socket:
    listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE)
    listening.bind((0, _NEIGHBOUR_GROUP))
    return listening


def _question(run: int, number: int) -> bytes:
    total = (_ECHO_REQUEST << 8) + run + number
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return _HEADER.pack(_ECHO_REQUEST, 0, ~total & 0xFFFF, run, number)


def echo(port: int) -> None:
    """Answer each byte with itself, on one connection after the other, for ever."""
    with socket.create_server(("", port)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while data := connection.recv(1):
                    connection.sendall(data)


if __name__ == "__main__":
    echo(int(sys.argv[1]))
