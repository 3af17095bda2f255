"""
What the kernel alone takes for the steps of an endpoint, and what our calls take for the same.

`kernel` is messages over a raw socket that is open already, their bodies packed before, until the kernel has answered;
`mdnp` is the whole call of `LinuxKernel`, through its thread and back. Both in turn, in a network namespace of their
own. What Docker does itself, moving a veth into another namespace, has no call of ours.
"""

import asyncio
import ctypes
import os
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any

from bench.client import namespace_holder
from bench.crowd import endpoint, network
from bench.progress import told
from mdnp.dataplane import bridge, naming, rules
from mdnp.dataplane.links import PortFlags, Tunnel, Veth, Vxlan
from mdnp.dataplane.naming import DOOMED_GROUP
from mdnp.dataplane.objects import Element, Object
from mdnp.dataplane.rows import Fdb, Neigh
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom, Step
from mdnp.kernel import elements, facts, netlink, nfnetlink, rows
from mdnp.kernel.linux import LinuxKernel
from mdnp.model.mac import MAC

_ROUNDS = 40
_WARM_UP = 3
_MANY = 100
_MANY_ROUNDS = 5
_CLONE_NEWNET = 0x40000000
_NEWLINK, _DELLINK, _NEWNEIGH = 16, 17, 28  # include/uapi/linux/rtnetlink.h
_IFLA_NET_NS_PID = 19  # include/uapi/linux/if_link.h
_REQUEST, _ACK, _EXCL, _CREATE, _REPLACE = 0x1, 0x4, 0x200, 0x400, 0x100  # include/uapi/linux/netlink.h
_NUD_PERMANENT = 0x80
_DATAGRAM = 1 << 16

_NETWORK = network()
_BRIDGE = naming.bridge(_NETWORK)
_TUNNEL = naming.tunnel(_NETWORK)
_VTEP = ip_address("192.0.2.9")
_MAC, _ADDRESS = MAC("02:6d:0a:40:09:09"), ip_address("10.64.9.9")

_Message = tuple[int, int, bytes]  # kind, flags, body
_Taken = dict[str, dict[str, list[float]]]  # us in each round, by step and by whose


def run() -> list[dict[str, Any]]:
    """A row for each step: medians and minima in us, and by how much our least is beyond the kernel's."""
    with ThreadPoolExecutor(1) as pool:  # its namespace is also that of the threads that start in it
        taken = pool.submit(_measured).result()
    return [_row(step, by_whom) for step, by_whom in taken.items()]


def _row(step: str, taken: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The minima say what is whose: a median has waits for locks that the kernel has for all namespaces together."""
    row: dict[str, Any] = {"step": step, "times": len(taken["kernel"])}
    for whose in ("kernel", "mdnp"):
        times = taken.get(whose)
        row[f"{whose}_us"] = round(statistics.median(times)) if times else None
        row[f"{whose}_min"] = round(min(times)) if times else None
    row["beyond_us"] = row["mdnp_min"] - row["kernel_min"] if "mdnp" in taken else None
    return row


def _measured() -> _Taken:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return asyncio.run(_measure())


async def _measure() -> _Taken:
    taken: _Taken = {}
    kernel = LinuxKernel()
    with closing(_Raw()) as raw, closing(nfnetlink.opened()) as tables, namespace_holder() as beside:
        await _done(kernel, [*map(_add, _ground())])
        one, many = _steps(kernel, raw, tables, beside.pid)
        for number in told("rounds", range(_WARM_UP + _ROUNDS)):
            for step in one:
                await _take(step, number, taken if number >= _WARM_UP else {})
        for number in told(many.name, range(_MANY_ROUNDS)):
            await _take(many, number, taken)
    await kernel.close()
    return taken


def _ground() -> Sequence[Object]:
    """What is there before an endpoint comes."""
    tunnel = Tunnel(4711, ip_address("192.0.2.1"), 4789)
    return (
        *bridge.plan_network(_NETWORK),
        Vxlan(_TUNNEL, tunnel, _NETWORK.mtu, _BRIDGE, naming.tunnel_alias(_NETWORK.id), PortFlags()),
        *rules.TABLES,
    )


async def _nothing() -> None:
    pass


@dataclass(frozen=True)
class _Taking:
    """A step as the kernel takes it and as we do, what must be there before, and what makes it undone."""

    name: str
    kernel: Callable[[], None]
    ours: Callable[[], Awaitable[None]] | None
    before: Callable[[], Awaitable[None]] = _nothing
    after: Callable[[], Awaitable[None]] = _nothing


async def _take(step: _Taking, number: int, taken: _Taken) -> None:
    """Another goes first each time, so that none always runs behind the same."""
    order = ("kernel", "mdnp") if number % 2 else ("mdnp", "kernel")
    for whose in order:
        if whose == "mdnp" and step.ours is None:
            continue
        await step.before()
        began = time.perf_counter()
        if whose == "mdnp" and step.ours is not None:
            await step.ours()
        else:
            step.kernel()
        took = (time.perf_counter() - began) * 1e6
        taken.setdefault(step.name, {}).setdefault(whose, []).append(took)
        await step.after()


def _steps(kernel: LinuxKernel, raw: "_Raw", tables: socket.socket, beside: int) -> tuple[list[_Taking], _Taking]:
    """Those of one endpoint, and the deletion of many."""
    rowed: Sequence[Fdb | Neigh] = (Fdb(_TUNNEL, _MAC, _VTEP), Neigh(_BRIDGE, _ADDRESS, _MAC))
    pinned = _elements()
    packed = elements.messages([*map(_add, pinned)]) or ()
    pair, row = _raw_pair(_veth(0)), _raw_rows()
    end = _veth(0).sandbox_end

    async def made(number: int = 1) -> None:
        await _done(kernel, [_add(_veth(one)) for one in range(number)])

    async def doomed(number: int = 1) -> None:
        await _done(kernel, [Doom(_veth(one).link(), NOBODY) for one in range(number)])

    async def buried() -> None:
        await doomed()
        await kernel.reap()

    async def to_bury(number: int) -> None:
        await made(number)
        await doomed(number)

    def move() -> None:
        raw.ask(_link(0, facts.number(_IFLA_NET_NS_PID, beside), facts.name(end)))

    def deletion(name: str, number: int) -> _Taking:
        gone = (_DELLINK, 0, facts.link(facts.group(DOOMED_GROUP)))
        return _Taking(name, lambda: raw.ask(gone), kernel.reap, before=partial(to_bury, number))

    one = [
        _Taking("veth pair on a bridge, with its alias", lambda: raw.ask(*pair), ours=made, after=buried),
        _Taking(
            "FDB row and neighbour",
            lambda: raw.ask(*row),
            ours=lambda: _done(kernel, [*map(_add, rowed)]),
            after=lambda: _done(kernel, [Delete(each, NOBODY) for each in rowed]),
        ),
        _Taking(
            f"nft transaction of {len(pinned)} elements",
            lambda: nfnetlink.transact(tables, packed),
            ours=lambda: _done(kernel, [*map(_add, pinned)]),
            after=lambda: _done(kernel, [Delete(each, NOBODY) for each in pinned]),
        ),
        deletion("deletion of a veth, by its group", 1),
        _Taking("moving an end to another namespace (Docker does)", move, ours=None, before=made, after=buried),
    ]
    return one, deletion(f"deletion of {_MANY} veths, by their group", _MANY)


def _elements() -> list[Element]:
    """Of an endpoint with its guard and a published port."""
    one = endpoint(0)
    plan = (*bridge.plan_endpoint(_NETWORK, one), *rules.plan_endpoint(_NETWORK, one))
    return [each for each in plan if isinstance(each, Element)]


def _raw_pair(veth: Veth) -> Sequence[_Message]:
    """Two messages: the kernel takes no alias in the one that makes it."""
    mtu = facts.mtu(veth.mtu)
    pair = facts.kind("veth", facts.peer(facts.name(veth.sandbox_end), facts.mac(veth.mac), mtu))
    said = (facts.name(veth.host_end), facts.group(), mtu, facts.master(socket.if_nametoindex(_BRIDGE)), pair)
    return (
        (_NEWLINK, _CREATE | _EXCL, facts.link(*said, up=True)),
        _link(0, facts.name(veth.host_end), facts.alias(veth.alias), facts.hairpin(on=True)),
    )


def _link(flags: int, *said: bytes) -> _Message:
    return _NEWLINK, flags, facts.link(*said)


def _raw_rows() -> Sequence[_Message]:
    tunnel, link = (socket.if_nametoindex(name) for name in (_TUNNEL, _BRIDGE))
    mac = netlink.attribute(rows.NDA_LLADDR, bytes.fromhex(_MAC.replace(":", "")))
    there, address = (netlink.attribute(rows.NDA_DST, one.packed) for one in (_VTEP, _ADDRESS))
    bodies = (
        rows.NEIGHBOUR.pack(socket.AF_BRIDGE, tunnel, _NUD_PERMANENT, rows.NTF_SELF, 0) + mac + there,
        rows.NEIGHBOUR.pack(socket.AF_INET, link, _NUD_PERMANENT, 0, 0) + address + mac,
    )
    return [(_NEWNEIGH, _CREATE | _REPLACE, body) for body in bodies]


class _Raw:
    """A socket to rtnetlink, in the namespace of the calling thread."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))

    def ask(self, *messages: _Message) -> None:
        """Messages of a kind, with flags and body; all are sent at once. Errors: OSError."""
        data = [
            netlink.message(kind, flags | _REQUEST | _ACK, place, body)
            for place, (kind, flags, body) in enumerate(messages)
        ]
        self._socket.send(b"".join(data))
        answered = 0
        while answered < len(messages):
            for _, error in netlink.answers(self._socket.recv(_DATAGRAM)):
                answered += 1
                if error:
                    raise OSError(error, os.strerror(error))

    def close(self) -> None:
        self._socket.close()


def _veth(number: int) -> Veth:
    (veth,) = bridge.plan_endpoint(_NETWORK, endpoint(number))
    assert isinstance(veth, Veth)  # noqa: S101 -- a plan of mode bridge is that one object
    return veth


def _add(one: Object) -> Step:
    return Add(one, NOBODY)


async def _done(kernel: LinuxKernel, steps: Sequence[Step]) -> None:
    for failure in await kernel.perform(steps):
        raise failure.error


if __name__ == "__main__":
    for each in run():
        print(each)
