"""The settings of the network namespace that we make, below /proc/sys."""

import logging
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from mdnp.dataplane.naming import (
    INNER_END_PREFIX,
    LOWER_END_PREFIX,
    OWN_END_PREFIX,
    TUNNEL_PREFIX,
    UPPER_END_PREFIX,
    is_annex,
)
from mdnp.dataplane.objects import Link, Sysctl
from mdnp.dataplane.rules import FORWARDING
from mdnp.model.errors import KernelError

log = logging.getLogger(__name__)

# Of this thread's network namespace, as whole /proc/sys/net is. In a managed plugin /proc/sys is read only; there the
# host's is bound to the first of these (tools/plugin.py).
_PLACES = (Path("/host/proc/sys"), Path("/proc/sys"))
_ROOT = next((path for path in _PLACES if (path / "net").is_dir()), _PLACES[-1])
_OF_A_BRIDGE = ("net/ipv4/conf/{}/route_localnet", "net/ipv6/conf/{}/accept_ra", "net/ipv6/conf/{}/accept_dad")
_OF_AN_OVERLAY_S_BRIDGE = ("net/ipv4/conf/{}/rp_filter", "net/ipv4/conf/{}/arp_ignore")
_OF_AN_OWN_END = (*_OF_A_BRIDGE, "net/ipv4/conf/{}/arp_ignore", "net/ipv4/conf/{}/arp_announce")
_OF_A_PORT = ("net/ipv6/conf/{}/disable_ipv6",)
_OF_AN_ANNEX = (*_OF_A_PORT, "net/ipv4/conf/{}/arp_ignore")
_LOCAL_PORTS = "net/ipv4/ip_local_port_range"


def observe(links: Iterable[Link]) -> list[Sysctl]:
    """Those that can be ours, as they are: of the host and of links. What this kernel does not have is left out."""
    every = tuple(links)
    overlays = {link.master for link in every if link.name.startswith(INNER_END_PREFIX)}
    names = [*FORWARDING.values(), *(name for link in every for name in _names(link, overlays))]
    values = ((name, _read(name)) for name in names)
    return [Sysctl(name, value) for name, value in values if value is not None]


def _names(link: Link, overlays: Set[str | None]) -> Iterator[str]:
    kinds: tuple[str, ...] = ()
    if is_annex(link.name):
        kinds = _OF_AN_ANNEX
    elif link.kind == "bridge":
        kinds = (*_OF_A_BRIDGE, *(_OF_AN_OVERLAY_S_BRIDGE if link.name in overlays else ()))
    elif link.name.startswith(OWN_END_PREFIX):
        kinds = _OF_AN_OWN_END
    elif link.name.startswith((TUNNEL_PREFIX, INNER_END_PREFIX, UPPER_END_PREFIX, LOWER_END_PREFIX)):
        kinds = _OF_A_PORT
    return (name.format(link.name) for name in kinds)


def write(setting: Sysctl) -> None:
    if setting.name == FORWARDING[6] and setting.value == "1":
        _keep_advertised_routes()
    try:
        (_ROOT / setting.name).write_text(setting.value)
    except OSError as error:
        raise KernelError(f"/proc/sys/{setting.name}: {error.strerror}") from error


def local_ports() -> range:
    try:
        first, last = map(int, (_read(_LOCAL_PORTS) or "").split())
    except ValueError as error:
        raise KernelError(f"/proc/sys/{_LOCAL_PORTS} cannot be read") from error
    return range(first, last + 1)


def _keep_advertised_routes() -> None:
    """
    Let links that hear router advertisements go on hearing them.

    With accept_ra 1 a link stops when forwarding is switched on (Documentation/networking/ip-sysctl), and the host
    would lose its IPv6 way out; 2 means to hear them although it forwards.
    """
    for file in (_ROOT / "net/ipv6/conf").glob("*/accept_ra"):
        name = str(file.relative_to(_ROOT))
        if file.parent.name not in ("all", "lo") and _read(name) == "1":
            log.info("sysctl -w %s=2, so that it still hears routers when the host forwards", name)
            write(Sysctl(name, "2"))


def _read(name: str) -> str | None:
    try:
        return (_ROOT / name).read_text().strip()
    except OSError:
        return None
