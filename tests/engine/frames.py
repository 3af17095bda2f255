"""
Frames as somebody who may do anything in a container makes them, and a wire to send and see them on.

    with Wire(testbed, "evil") as wire, Mailbox(testbed, "victim", 4000) as box:
        wire.send(datagram(replace(evil, ip4=friend.ip4), victim, data=b"harm"))
        assert b"harm" not in box.seen()

A station's fields are what it says of itself: to pretend is to replace one. The layouts are those of RFC 768, 791, 826,
2131, 3810, 4861 and 8200.
"""

import ctypes
import json
import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.host import UPLINK, Namespace
from rig.testbed import Testbed

BROADCAST = "ff:ff:ff:ff:ff:ff"
NOBODY4, NOBODY6 = IPv4Address(0), IPv6Address(0)

_IPV4, _ARP, _IPV6, _VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
_HOP_BY_HOP, _ICMPV6, _UDP, _DESTINATION_OPTIONS = 0, 58, 17, 60
_PADDING = b"\x01\x04\x00\x00\x00\x00"  # destination options that say nothing, but stand before the message
_EVERY_PROTOCOL = 3
_OUTGOING = 4
_NEW_NETWORK = 0x40000000
_PATIENCE_S = 5.0
_MOMENT_S = 0.15

IPAddress = IPv4Address | IPv6Address


# -------------------------------------------------------------------------------------------------------- the wire


class _Ear:
    """
    A socket in another namespace. What arrives there from now on is kept until it is asked for.

    It belongs to the namespace that it was made in, by a thread that ends with it.
    """

    def __init__(self, testbed: Testbed, place: str | Namespace, family: int, kind: int) -> None:
        with ThreadPoolExecutor(1) as elsewhere:
            self._socket = elsewhere.submit(_socket_in, _namespace(testbed, place), family, kind).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def seen(self, *, until: bytes | None = None) -> set[bytes]:
        """What arrived since it was last asked: up to `until`, which must come, or within a moment."""
        end = time.monotonic() + (_MOMENT_S if until is None else _PATIENCE_S)
        seen: set[bytes] = set()
        while until not in seen and (left := end - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                seen |= self._received()
        assert until is None or until in seen, f"what should come last has not arrived: {seen}"
        return seen

    def _received(self) -> set[bytes]:
        return {self._socket.recv(65536)}


class Wire(_Ear):
    """An interface, seen below all of its filters."""

    def __init__(self, testbed: Testbed, place: str | Namespace, link: str = UPLINK) -> None:
        super().__init__(testbed, place, socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((link, _EVERY_PROTOCOL))

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self._socket.send(frame)

    def _received(self) -> set[bytes]:
        frame, (_, _, kind, _, _) = self._socket.recvfrom(65536)
        return set() if kind == _OUTGOING else {frame}


class Mailbox(_Ear):
    """A UDP port: what it has seen are the contents of datagrams. The address :: is all addresses of both families."""

    def __init__(self, testbed: Testbed, place: str | Namespace, port: int, address: str = "::") -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__(testbed, place, family, socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self._mapped = family == socket.AF_INET6

    def send(self, data: bytes, address: str, port: int) -> None:
        self._socket.sendto(data, (f"::ffff:{address}" if self._mapped and ":" not in address else address, port))


def _socket_in(namespace: Path, family: int, kind: int) -> socket.socket:
    entrance = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(entrance, _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    finally:
        os.close(entrance)
    return socket.socket(family, kind)


def _namespace(testbed: Testbed, place: str | Namespace) -> Path:
    if isinstance(place, Namespace):
        return place.path
    return Path(testbed.engine.docker("inspect", "--format={{.NetworkSettings.SandboxKey}}", place))


# ---------------------------------------------------------------------------------------------------- the stations


@dataclass(frozen=True)
class Station:
    """Who somebody on a segment is, or says that it is."""

    mac: str
    ip4: IPv4Address = NOBODY4
    ip6: IPv6Address = NOBODY6

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Self:
        """A container, by what Docker says of its endpoint."""
        ip6 = settings.get("GlobalIPv6Address")
        return cls(settings["MacAddress"], IPv4Address(settings["IPAddress"]), IPv6Address(ip6) if ip6 else NOBODY6)

    def ip(self, version: int) -> IPAddress:
        return self.ip4 if version == 4 else self.ip6

    @property
    def link_local(self) -> IPv6Address:
        """As the kernel makes it of the MAC (RFC 4291, appendix A)."""
        mac = _mac(self.mac)
        return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])


EVERYBODY = Station(BROADCAST, IPv4Address("255.255.255.255"))
ALL_NODES = Station("33:33:00:00:00:01", ip6=IPv6Address("ff02::1"))


def link_mac(place: Namespace, link: str) -> str:
    mac: str = json.loads(place.run(["ip", "-json", "link", "show", "dev", link]).out)[0]["address"]
    return mac


# ------------------------------------------------------------------------------------------------------ the frames


def ether(sender: str, receiver: str, kind: int, payload: bytes) -> bytes:
    return _mac(receiver) + _mac(sender) + struct.pack("!H", kind) + payload


def tagged(frame: bytes, vlan: int = 0) -> bytes:
    """With an 802.1Q tag. VLAN 0 is only a priority: everybody takes such a frame for one without a tag."""
    return frame[:12] + struct.pack("!HH", _VLAN, vlan) + frame[12:]


def datagram(
    sender: Station,
    receiver: Station,
    version: int = 4,
    *,
    ports: tuple[int, int] = (4000, 4000),
    data: bytes = b"frame",
) -> bytes:
    """UDP, from the addresses of one station to those of the other, directly."""
    source, target = sender.ip(version), receiver.ip(version)
    length = 8 + len(data)
    head = struct.pack("!HHH", *ports, length)
    checksum = _checksum(_pseudo(source, target, _UDP, length) + head + bytes(2) + data)
    packet = _packet(source, target, _UDP, head + struct.pack("!H", checksum) + data)
    return _framed(sender.mac, receiver.mac, packet)


def arp_request(sender: Station, target: IPv4Address, *, claims: str = "") -> bytes:
    """To all. With the sender's own address as target it is gratuitous: everybody updates what they know of it."""
    return _arp(sender, 1, BROADCAST, Station(BROADCAST, target), claims)


def arp_reply(sender: Station, receiver: Station, *, claims: str = "") -> bytes:
    """`sender.ip4` is at `claims`, by default at the MAC that the frame comes from."""
    return _arp(sender, 2, receiver.mac, receiver, claims)


def solicitation(sender: Station, target: IPv6Address) -> bytes:
    """A neighbour solicitation; from :: it is duplicate address detection."""
    group = IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(target) & 0xFFFFFF)
    option = b"" if sender.ip6 == NOBODY6 else _link_layer(1, sender.mac)
    return _icmpv6(sender.mac, sender.ip6, group, 135, bytes(4) + target.packed + option)


def advertisement(sender: Station, target: IPv6Address, *, hidden: bool = False) -> bytes:
    """
    An unsolicited neighbour advertisement to all that overrides what they know: `target` is at the sender.

    `hidden` puts an extension header before it, which a filter must skip as the receiver does.
    """
    body = struct.pack("!I", 0x20000000) + target.packed + _link_layer(2, sender.mac)
    return _icmpv6(sender.mac, sender.ip6, ALL_NODES.ip6, 136, body, before=_PADDING if hidden else b"")


def router_solicitation(sender: Station) -> bytes:
    return _icmpv6(sender.mac, sender.ip6, IPv6Address("ff02::2"), 133, bytes(4))


def router_advertisement(sender: Station, *, hidden: bool = False) -> bytes:
    """The sender is everybody's router, and fd66::/64 is on this link."""
    prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 3600, 3600, 0, IPv6Address("fd66::").packed)
    body = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + prefix + _link_layer(1, sender.mac)
    return _icmpv6(sender.mac, sender.ip6, ALL_NODES.ip6, 134, body, before=_PADDING if hidden else b"")


def redirect(sender: Station, target: IPv6Address) -> bytes:
    """Whoever sends something to `target` shall send it to the sender."""
    return _icmpv6(sender.mac, sender.ip6, ALL_NODES.ip6, 137, bytes(4) + sender.ip6.packed + target.packed)


def listener_report(sender: Station, group: IPv6Address) -> bytes:
    """MLDv2, as the kernel sends it while its address is still being detected."""
    alert = b"\x05\x02\x00\x00\x01\x00"
    body = struct.pack("!HHBBH", 0, 1, 4, 0, 0) + group.packed
    return _icmpv6(sender.mac, sender.ip6, IPv6Address("ff02::16"), 143, body, before=alert, kind=_HOP_BY_HOP)


def dhcp_discover(sender: Station) -> bytes:
    return datagram(sender, EVERYBODY, ports=(68, 67), data=_bootp(1, NOBODY4, sender.mac, 1))


def dhcp_offer(sender: Station, client: str, address: IPv4Address, *, port: int = 67) -> bytes:
    """A client looks at the port that it is sent to, and not at where it comes from."""
    return datagram(sender, EVERYBODY, ports=(port, 68), data=_bootp(2, address, client, 2))


def dhcpv6_advertise(sender: Station, *, port: int = 547) -> bytes:
    return datagram(sender, ALL_NODES, 6, ports=(port, 546), data=b"\x02abc")


def _arp(sender: Station, operation: int, to: str, target: Station, claims: str) -> bytes:
    target_mac = bytes(6) if target.mac == BROADCAST else _mac(target.mac)
    head = struct.pack("!HHBBH", 1, _IPV4, 6, 4, operation)
    body = _mac(claims or sender.mac) + sender.ip4.packed + target_mac + target.ip4.packed
    return ether(sender.mac, to, _ARP, head + body)


def _icmpv6(
    sender: str,
    source: IPv6Address,
    target: IPv6Address,
    kind_of_message: int,
    body: bytes,
    *,
    before: bytes = b"",
    kind: int = _DESTINATION_OPTIONS,
) -> bytes:
    """To a multicast group. `before` is the content of an extension header of 8 bytes before the message."""
    head = struct.pack("!BB", kind_of_message, 0)
    checksum = _checksum(_pseudo(source, target, _ICMPV6, 4 + len(body)) + head + bytes(2) + body)
    message = head + struct.pack("!H", checksum) + body
    protocol = _ICMPV6
    if before:
        protocol, message = kind, struct.pack("!BB", _ICMPV6, 0) + before + message
    return _framed(sender, f"33:33:{target.packed[-4:].hex(':')}", _packet(source, target, protocol, message))


def _framed(sender: str, receiver: str, packet: bytes) -> bytes:
    return ether(sender, receiver, _IPV6 if packet[0] >> 4 == 6 else _IPV4, packet)


def _packet(source: IPAddress, target: IPAddress, protocol: int, payload: bytes) -> bytes:
    if source.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255)
        return head + source.packed + target.packed + payload
    first = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol)
    last = source.packed + target.packed
    return first + struct.pack("!H", _checksum(first + bytes(2) + last)) + last + payload


def _pseudo(source: IPAddress, target: IPAddress, protocol: int, length: int) -> bytes:
    return source.packed + target.packed + struct.pack("!II", length, protocol)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2 + len(data) % 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _bootp(operation: int, offered: IPv4Address, client: str, message: int) -> bytes:
    head = struct.pack("!BBBBIHH", operation, 1, 6, 0, 0x6D646E70, 0, 0x8000)
    addresses = bytes(4) + offered.packed + bytes(8)
    return head + addresses + _mac(client) + bytes(10 + 64 + 128) + b"\x63\x82\x53\x63" + bytes([53, 1, message, 255])


def _link_layer(kind: int, mac: str) -> bytes:
    return struct.pack("!BB", kind, 1) + _mac(mac)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
