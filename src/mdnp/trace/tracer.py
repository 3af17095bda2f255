"""One trace: find the container, look at its way, probe while the kernel tells of it, and look again."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any, cast

from mdnp.dataplane import naming
from mdnp.dataplane.naming import GROUP, TUNNEL_PREFIX
from mdnp.model.errors import InvalidParameter, KernelError, NotFound, Unsupported
from mdnp.model.network import IPAddress
from mdnp.trace import events, look, probe
from mdnp.trace.docker import Attachment, Docker, Known
from mdnp.trace.events import Journey
from mdnp.trace.facts import Answer, Container, Facts, Host, HostEnd, Interface, Kind, Tunnel, Way
from mdnp.trace.flow import OUT, Flow, table_of
from mdnp.trace.target import Asked, Target
from mdnp.trace.watch import watch

LIMIT_S = 2.0
_PROGRAM = {Asked.PING: "ping", Asked.TCP: "tcp", Asked.UDP: "udp"}

Links = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Start:
    """Where the trace begins. `link` is the interface in the container, None if it is gone."""

    known: Known
    namespace: Path
    attachment: Attachment
    way: Way
    link: Interface | None


@dataclass(frozen=True)
class _Probed:
    answer: Answer
    journeys: tuple[Journey, ...] = ()
    hooks: Mapping[str, str] | None = None
    untraced: str = ""


def trace(socket: Path, container: str, target: Target, hosts: Mapping[str, str]) -> Facts:
    """
    `socket` is Docker's; `hosts` are the names of the cluster's hosts by the address of their tunnels.

    Errors: NotFound for what is not there or is not on a network of ours, Unsupported without root, EngineUnavailable,
    KernelError.
    """
    if os.geteuid():
        raise Unsupported("a trace looks into the container's network namespace, which needs root: try as root")
    docker = Docker(socket)
    known, namespace = docker.running(container)
    address, remarks = _address(docker, known, namespace, target)
    start = _start(known, namespace, address)
    version = address.version
    before = look.legacy_drops(version)
    probed = _probe(start, address, target)
    after = look.legacy_drops(version)
    rules = [rule for journey in probed.journeys for one in journey.passes if (rule := one.by) and not one.is_ours]
    end = host_end(start.attachment.host_end)
    return Facts(
        address=str(address),
        port=target.port,
        asked=target.asked,
        container=Container(
            known.name,
            start.attachment.network,
            start.link,
            start.way,
            tuple(map(str, start.attachment.addresses)),
            docker.is_internal(start.attachment.network_id),
        ),
        host_end=end,
        host=replace(_host(docker, start, address, end, probed.journeys), tunnel=_tunnel(end, address, hosts)),
        answer=probed.answer,
        neighbour=_neighbour(start, address),
        journeys=probed.journeys,
        hooks=probed.hooks or {},
        words=look.words(rules),
        counted=tuple(rule for rule, count in after.items() if count > before.get(rule, 0)),
        untraced=probed.untraced,
        remarks=tuple(one for one in (known.remark, *remarks) if one),
    )


# -------------------------------------------------------------------------------------------------------- what to reach


def _address(docker: Docker, known: Known, namespace: Path, target: Target) -> tuple[IPAddress, list[str]]:
    """The address that is meant, and how it was found. Errors: NotFound, InvalidParameter."""
    if (literal := _literal(target.host)) is not None:
        return literal, []
    try:
        other = docker.container(target.host)
    except NotFound:  # one with the host's network has no address
        other = None
    if other is not None and (found := _shared(known, other)):
        return found
    said = _run_probe(namespace, "resolve", target.host)
    if not said["addresses"]:
        raise NotFound(
            f"{target.host!r} is no container with an address, and cannot be resolved in {known.name}"
            f" ({said['reason']}): give an address"
        )
    address = ip_address(said["addresses"][0])
    return address, [f"{target.host} is {address}, as Docker's DNS tells {known.name}"]


def _literal(host: str) -> IPAddress | None:
    """None for a name. Errors: InvalidParameter for an address that is not one receiver's."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if address.is_multicast:
        raise InvalidParameter(f"{host} is a multicast address: a trace follows a packet to one receiver")
    if address.version == 6 and address.is_link_local:
        raise InvalidParameter(f"{host} is a link-local address, which many have: give one that is the target's alone")
    return address


def _shared(known: Known, other: Known) -> tuple[IPAddress, list[str]] | None:
    """The other's address on a network that both are on, else any."""
    own = {one.network_id for one in known.attachments}
    ordered = sorted(other.attachments, key=lambda one: one.network_id not in own)
    chosen = next((one for one in ordered if one.addresses), None)
    if chosen is None:
        return None
    aside = "" if chosen.network_id in own else f", where {known.name} is not"
    found = f"{other.name} is {chosen.addresses[0]} on network {chosen.network}{aside}"
    return chosen.addresses[0], [one for one in (found, other.remark) if one]


# ------------------------------------------------------------------------------------------------------ where it begins


def _start(known: Known, namespace: Path, address: IPAddress) -> _Start:
    """By which interface it leaves. Errors: NotFound if that is none of ours."""
    host = _links()
    inside = look.interfaces(namespace)
    ours = {one.host_end: one for one in known.attachments if _is_ours(one, host)}
    if not ours:
        networks = ", ".join(one.network for one in known.attachments) or "none"
        raise NotFound(f"container {known.name} is on no network of mdnp's (it is on: {networks})")
    by_index = {one["ifindex"]: name for name, one in host.items()}
    peers = {by_index.get(one.get("link_index", 0), ""): one for one in inside if one["ifname"] != "lo"}
    way = look.way(str(address), namespace=namespace)
    if way.broadcast:
        raise InvalidParameter(f"{address} is a broadcast address there: a trace follows a packet to one receiver")
    if way.local:
        attachment = next(iter(ours.values()))
    elif way.link:
        end = next((name for name, one in peers.items() if one["ifname"] == way.link), "")
        if end not in ours:
            raise NotFound(
                f"{address} leaves {known.name} by {way.link}, which is on no network of mdnp's: nothing to trace here"
            )
        attachment = ours[end]
    else:
        attachment = _likely(list(ours.values()), address)
    link = peers.get(attachment.host_end) or _by_address(inside, attachment)
    return _Start(known, namespace, attachment, way, look.interface(link) if link else None)


def _likely(ours: list[Attachment], address: IPAddress) -> Attachment:
    """There is no route: the one that has the family, else the first."""
    return next((one for one in ours if any(own.version == address.version for own in one.addresses)), ours[0])


def _by_address(inside: list[dict[str, Any]], attachment: Attachment) -> dict[str, Any] | None:
    """The interface whose other end is gone from the host."""
    own = set(map(str, attachment.addresses))
    return next((one for one in inside if own & {each["local"] for each in one.get("addr_info", ())}), None)


def _is_ours(one: Attachment, links: Links) -> bool:
    """By the mark of its host end; if that is gone, by that of its network's bridge."""
    if one.host_end in links:
        return str(links[one.host_end].get("group")) == str(GROUP)
    return any(_is_group(link) and link.get("ifalias") == f"mdnp network {one.network_id}" for link in links.values())


def _is_group(link: Mapping[str, Any]) -> bool:
    return str(link.get("group")) == str(GROUP)


def _links() -> dict[str, dict[str, Any]]:
    return {one["ifname"]: one for one in look.interfaces()}


# ------------------------------------------------------------------------------------------------------------ the probe


def _probe(start: _Start, address: IPAddress, target: Target) -> _Probed:
    way = start.way
    arguments = [_PROGRAM[target.asked], way.source, str(address), str(target.port), str(LIMIT_S)]
    with _Program(start.namespace, arguments) as program:
        said = program.say()
        if "number" not in said:
            return _Probed(_answer(said))
        if way.local or not way.source:
            return _Probed(_answer(program.go()))
        next_hop = ip_address(way.gateway) if way.gateway else address
        number = int(said["number"])
        flow = Flow(
            ip_address(way.source), address, target.asked, number, target.port, start.attachment.host_end, next_hop
        )
        try:
            with watch(flow) as heard:
                answer = _answer(program.go())
                text = heard.read()
        except KernelError as error:
            return _Probed(_answer(program.go()), untraced=str(error))
        return _Probed(answer, tuple(events.parse(text, table_of(os.getpid()), number)), heard.hooks)


def _answer(said: Mapping[str, Any]) -> Answer:
    return Answer(Kind(said["kind"]), float(said.get("ms", 0.0)), said.get("sender", ""), said.get("reason", ""))


class _Program:
    """The probe, in a network namespace; it ends with the `with` block."""

    def __init__(self, namespace: Path, arguments: list[str]) -> None:
        self._command = look.enter(namespace, [sys.executable, "-I", "-S", str(Path(probe.__file__)), *arguments])

    def __enter__(self) -> "_Program":
        try:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except FileNotFoundError as error:
            raise look.missing(self._command[0]) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def say(self) -> dict[str, Any]:
        """The next line. Errors: KernelError with the program's own words if it has ended badly."""
        line = cast(IO[str], self._process.stdout).readline()
        if not line:
            reason = cast(IO[str], self._process.stderr).read().strip().rpartition("\n")[2]
            raise KernelError(f"the probe in the container's network namespace failed: {reason}")
        said: dict[str, Any] = json.loads(line)
        return said

    def go(self) -> dict[str, Any]:
        told = cast(IO[str], self._process.stdin)
        told.write("go\n")
        told.flush()
        return self.say()


def _run_probe(namespace: Path, *arguments: str) -> dict[str, Any]:
    with _Program(namespace, list(arguments)) as program:
        return program.say()


# ---------------------------------------------------------------------------------------------------- and what is there


def host_end(name: str) -> HostEnd:
    links = _links()
    end = look.interface(links[name]) if name in links else None
    bridge = _interface(links, end.master if end else "")
    if bridge is None or not naming.is_annex(bridge.name):
        return HostEnd(name, end, bridge)
    joint = _interface(links, naming.upper_end_of(bridge.name))
    return HostEnd(name, end, _interface(links, joint.master if joint else ""), bridge, joint)


def _interface(links: Links, name: str) -> Interface | None:
    return look.interface(links[name]) if name in links else None


def _neighbour(start: _Start, address: IPAddress) -> str:
    """The NUD state of whom the container asks first."""
    next_hop = start.way.gateway or str(address)
    return look.neighbours(start.namespace).get((next_hop, start.way.link), "")


def _tunnel(end: HostEnd, address: IPAddress, hosts: Mapping[str, str]) -> Tunnel | None:
    """Towards another host of the bridge's segment, if that has the address."""
    if end.bridge is None:
        return None
    name = end.bridge.name
    links = [one for one, link in _links().items() if one.startswith(TUNNEL_PREFIX) and link.get("master") == name]
    found = look.tunnel(address, name, links)
    return found and replace(found, host=hosts.get(found.vtep, ""))


def _host(docker: Docker, start: _Start, address: IPAddress, end: HostEnd, journeys: tuple[Journey, ...]) -> Host:
    """Its way for the packet as it was when it was routed, after DNAT."""
    routed = _routed(journeys)
    final = ip_address(routed) if routed else address
    bridge = end.bridge.name if end.bridge else ""
    how = ["from", start.way.source, "iif", bridge] if bridge and start.way.source else []
    return Host(
        way=look.way(str(final), *how),
        forwarding=look.forwarding(final.version, bridge),
        refusing=look.refusing(final),
        back=look.way(start.way.source) if start.way.source else Way(),
        rp_filter=look.rp_filter(bridge) if final.version == 4 else 0,
        neighbours=look.neighbours(),
        containers=docker.names(),
        links={name: look.interface(one) for name, one in _links().items()},
    )


def _routed(journeys: tuple[Journey, ...]) -> str:
    for journey in journeys:
        if journey.kind == OUT:
            return next(
                (one.packet.target for one in reversed(journey.passes) if one.family != "bridge" and one.packet.target),
                "",
            )
    return ""
