"""Segments: choosing a VNI, and whether what is wanted here agrees with what the other hosts have. Pure."""

from collections.abc import Collection, Iterable
from hashlib import blake2b
from ipaddress import ip_network

from mdnp.model.errors import Conflict, Exhausted
from mdnp.model.network import IPNetwork
from mdnp.model.segment import Segment, SegmentID

# "m" before sixteen bits: away from Swarm's, which count up from 4096, and to be recognised in a capture.
_FIRST_VNI = 0x6D0000
_VNIS = 1 << 16


def choose_vni(segment: SegmentID, taken: Collection[int]) -> int:
    """The VNI of a new segment: it follows from the name, or is the next one that is free. Errors: Exhausted."""
    start = int.from_bytes(blake2b(segment.encode(), digest_size=2).digest())
    for step in range(_VNIS):
        vni = _FIRST_VNI + (start + step) % _VNIS
        if vni not in taken:
            return vni
    raise Exhausted(f"segment {segment}: all {_VNIS} VNIs are taken; remove networks")


def check_agreement(wanted: Segment, known: Segment) -> None:
    """Errors: Conflict, with each difference but that of the VNI named."""
    found = list(differences(wanted, known))
    if found:
        raise Conflict(
            f"segment {known.id} exists with other settings on other hosts: {'; '.join(found)}. Give this network"
            " the same, or remove the others first"
        )


def differences(wanted: Segment, known: Segment) -> Iterable[str]:
    """In the words of the options."""
    pairs = (
        ("mdnp.segment", wanted.label, known.label),
        ("the MTU", wanted.mtu, known.mtu),
        ("the gateway", _listed(wanted.gateways), _listed(known.gateways)),
        ("auxiliary addresses", _listed(wanted.reserved), _listed(known.reserved)),
        ("--internal", _switch(wanted.internal), _switch(known.internal)),
        ("com.docker.network.bridge.enable_icc", _switch(wanted.icc), _switch(known.icc)),
        ("mdnp.multicast", _switch(wanted.multicast), _switch(known.multicast)),
    )
    return (f"{name} is {theirs} there, and {ours} here" for name, ours, theirs in pairs if ours != theirs)


def check_overlap(wanted: SegmentID, others: Iterable[SegmentID]) -> None:
    """Errors: Conflict when another segment shares addresses with it."""
    for other in others:
        if other == wanted:
            continue
        shared = next((one for one in networks(wanted) for two in networks(other) if one.overlaps(two)), None)
        if shared is not None:
            raise Conflict(
                f"subnet {shared} overlaps the segment {other} of other hosts: choose another --subnet, or the same"
                " subnets as there, all of them"
            )


def networks(segment: SegmentID) -> list[IPNetwork]:
    return [ip_network(one) for one in segment.split(",")]


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "none"


def _switch(on: bool) -> str:
    return "on" if on else "off"
