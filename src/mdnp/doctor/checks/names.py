"""Names: whether containers and this host can ask for them, and whether those of the outside are still had."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from mdnp.doctor import Daemon, Facts, Finding, Json, given, need
from mdnp.doctor.checks.findings import listed, ok, trouble, warning
from mdnp.doctor.checks.host import OF_NAMES
from mdnp.model.network import IPAddress

_NONE = "no network here has names"
_OFF = "off"
_PORT = 53
_RESOLVED = "127.0.0.53"
_ALONE = "it asks Docker's embedded DNS alone, which knows the containers of this host"


def road(facts: Facts) -> Iterator[Finding]:
    names = _names(facts)
    if names is None:
        yield ok(_NONE)
        return
    for feature, said in need(facts.features).items():
        if feature in OF_NAMES and said:
            yield trouble(
                f"{feature}: {said.strip()}",
                "what leads containers' questions to us must end with the daemon, or no name would resolve without it",
                "Linux 5.12 or newer, and nftables 0.9.9 or newer; or `-o mdnp.dns=off`",
            )
    reasons: dict[str, list[str]] = {}
    for one in names["failed"]:
        reasons.setdefault(one["trouble"], []).append(_container(facts, one["sandbox"]))
    for reason, containers in reasons.items():
        yield trouble(
            f"{listed(containers)} cannot ask for names of its networks: {reason}",
            _ALONE,
            "mend what it says: it is tried again; names at the gateway (`--dns`) do not need it",
        )
    if not reasons:
        yield ok(f"{names['sandboxes']} containers, each asked for before Docker's embedded DNS is")


def gateway(facts: Facts) -> Iterator[Finding]:
    for one in (_names(facts) or {"gateways": ()})["gateways"]:
        if one["trouble"]:
            yield warning(
                f"nobody answers names at {one['name']}: {one['trouble']}",
                "who asks there (`--dns`, or by hand) gets no answer; other containers are not concerned",
                "mend what it says: it is tried again",
            )


def learned(facts: Facts) -> Iterator[Finding]:
    names = _names(facts)
    if names is None:
        yield ok(_NONE)
    elif names["trouble"]:
        yield warning(
            f"containers' names are not learned: {names['trouble']}",
            "containers that started or were renamed since are not known by name, on other hosts neither",
            "start Docker, or name its socket in MDNP_DOCKER_HOST; what is known is answered meanwhile",
        )
    elif names["unlearned"]:
        yield ok(f"not known yet of {names['unlearned']} endpoints, known of {names['learned']}")
    else:
        yield ok(f"known of {names['learned']} endpoints")


def upstream(facts: Facts) -> Iterator[Finding]:
    names = _names(facts)
    if names is None:
        yield ok(_NONE)
    elif names["unresolved"]:
        yield warning(
            f"nobody is asked for names of the outside: {names['unresolved']}",
            "who asks at a gateway or at host_dns has the names of networks only; other containers ask as ever",
            "name a resolver in /etc/resolv.conf that is not mdnp itself",
        )
    else:
        yield ok(listed(names["resolvers"]))


def host(facts: Facts) -> Iterator[Finding]:
    address = _host_dns(facts)
    if address is None:
        yield ok("off: this host itself does not ask")
        return
    if said := _unanswered(facts, address):
        yield trouble(
            f"nobody answers names at host_dns {address}: {said}",
            "this host does not know NAME.NETWORK.mdnp; its other names are had as ever, some of them later",
            f"mend what it says: it is tried again; `ss -ulpn sport = {_PORT}` shows who has the port",
        )
    elif not _is_led(facts, address):
        yield warning(
            f"host_dns is {address}, and this host's resolver does not ask there",
            "this host does not know NAME.NETWORK.mdnp",
            "`mdnp install --host-dns`",
        )
    else:
        yield ok(f"at {address}")


def _unanswered(facts: Facts, address: IPAddress) -> str:
    """Why, as the daemon says; without it only whether anybody is there."""
    names = _names(facts) if isinstance(facts.daemon, Daemon) else None
    if names and names["host"]:
        return str(names["host"]["trouble"])
    there = {(str(port_of), port) for port_of, port in need(facts.asked)}
    return "" if (_in_hexadecimal(address), _PORT) in there else "nobody listens there"


def _is_led(facts: Facts, address: IPAddress) -> bool:
    servers = need(facts.resolvers)
    return str(address) in (given(facts.resolved, ()) if _RESOLVED in servers else servers)


def _host_dns(facts: Facts) -> IPAddress | None:
    """The daemon's, which may have been given flags."""
    if isinstance(facts.daemon, Daemon):
        text = facts.daemon.settings.get("host_dns", _OFF)
        return None if text == _OFF else ip_address(text)
    return facts.settings.host_dns


def _in_hexadecimal(address: IPAddress) -> str:
    """As in /proc/net/udp: each four bytes as one number of the machine's, which is little-endian wherever we run."""
    packed = address.packed
    return "".join(packed[at : at + 4][::-1].hex() for at in range(0, len(packed), 4)).upper()


def _names(facts: Facts) -> dict[str, Any] | None:
    """As the daemon tells; None where there are none."""
    found: dict[str, Any] | None = need(facts.daemon).status.get("names")
    return found


def _container(facts: Facts, sandbox: str) -> str:
    endpoints: list[Json] = [one for one in need(facts.daemon).endpoints if one.get("sandbox") == sandbox]
    return next((str(one["container"]) for one in endpoints if one.get("container")), sandbox)
