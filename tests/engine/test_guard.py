"""
The guard: what a container may say of itself, whatever its privileges.

Each attack is also made with the guard off, where it does harm: so these stories can fail.
"""

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from rig.host import Namespace
from tests.engine.conftest import Story
from tests.engine.frames import (
    ALL_NODES,
    NOBODY4,
    NOBODY6,
    Station,
    Wire,
    advertisement,
    arp_reply,
    arp_request,
    datagram,
    dhcp_discover,
    dhcp_offer,
    dhcpv6_advertise,
    link_mac,
    listener_report,
    redirect,
    router_advertisement,
    router_solicitation,
    solicitation,
    tagged,
)

pytestmark = pytest.mark.engine

_GATEWAY = Station("", IPv4Address("10.77.0.1"), IPv6Address("fd77::1"))
_STRANGER = Station("02:00:00:00:66:66", IPv4Address("198.51.100.66"), IPv6Address("2001:db8:66::66"))
_GUARDS = pytest.mark.parametrize("guard", ["on", "off"])


def _network(story: Story, *options: str) -> str:
    """A network of both families; the name of its bridge."""
    story.network("mynet", "--ipv6", "--subnet=10.77.0.0/24", "--subnet=fd77::/64", *options)
    return str(story.status()["networks"][0]["bridge"])


def _stations(story: Story, *names: str) -> list[Station]:
    for name in names:
        story.container(name)
    return [Station.of(story.settings(name)) for name in names]


def _drops(story: Story, container: str) -> int | None:
    """What the guard has dropped of a container's."""
    endpoint = story.settings(container)["EndpointID"]
    view: dict[str, int | None] = json.loads(story.plugin.cli("endpoint", "inspect", endpoint, "--json"))
    return view["guard_drops"]


def _pretences(evil: Station, victim: Station, friend: Station, gateway: Station) -> dict[str, bytes]:
    """What `evil` may not send. Each frame differs from the others, so that it is known where it arrives."""
    local = replace(evil, ip6=evil.link_local)
    return {
        **_false_addresses(evil, victim, friend),
        "the MAC of a neighbour": datagram(replace(evil, mac=friend.mac), victim),
        "the MAC of a neighbour, IPv6": datagram(replace(evil, mac=friend.mac), victim, 6),
        "the MAC and the address of a neighbour": datagram(friend, victim),
        "the MAC of the gateway": datagram(replace(evil, mac=gateway.mac), victim),
        "a MAC of nobody": datagram(replace(evil, mac=_STRANGER.mac), victim),
        "a MAC of nobody, ARP": arp_request(replace(evil, mac=_STRANGER.mac), victim.ip4),
        "the gateway's address in a gratuitous ARP": arp_request(replace(evil, ip4=gateway.ip4), gateway.ip4),
        "the gateway's address in an ARP reply": arp_reply(replace(evil, ip4=gateway.ip4), victim),
        "a neighbour's address in a gratuitous ARP": arp_request(replace(evil, ip4=friend.ip4), friend.ip4),
        "a neighbour's address in an ARP reply": arp_reply(replace(evil, ip4=friend.ip4), victim),
        "a neighbour's address in an ARP request": arp_request(replace(evil, ip4=friend.ip4), victim.ip4),
        "a neighbour's MAC inside of an ARP reply": arp_reply(evil, victim, claims=friend.mac),
        "ARP with a priority": tagged(arp_reply(replace(evil, ip4=IPv4Address("10.77.0.77")), victim)),
        "the gateway in an NA": advertisement(evil, gateway.ip6),
        "the gateway in an NA from link-local": advertisement(local, gateway.ip6),
        "a neighbour in an NA": advertisement(evil, friend.ip6),
        "a neighbour in an NA behind options": advertisement(evil, friend.ip6, hidden=True),
        "an NA with a priority": tagged(advertisement(evil, IPv6Address("fd77::77"))),
        "a neighbour's address in an NS": solicitation(replace(evil, ip6=friend.ip6), victim.ip6),
        "a router": router_advertisement(local),
        "a router behind options": router_advertisement(local, hidden=True),
        "a router's redirect": redirect(local, _STRANGER.ip6),
        "a DHCP server": dhcp_offer(evil, victim.mac, IPv4Address("10.77.0.99")),
        "a DHCP server at another port": dhcp_offer(evil, victim.mac, IPv4Address("10.77.0.99"), port=1067),
        "a DHCPv6 server": dhcpv6_advertise(local),
        "a DHCPv6 server at another port": dhcpv6_advertise(local, port=1547),
    }


def _false_addresses(evil: Station, victim: Station, friend: Station) -> dict[str, bytes]:
    liars = {
        "a neighbour's address": friend,
        "the gateway's address": _GATEWAY,
        "a stranger's address": _STRANGER,
        "a loopback address": Station("", IPv4Address("127.0.0.1"), IPv6Address("::1")),
    }
    return {
        f"{name}, IPv{version}": datagram(replace(evil, ip4=liar.ip4, ip6=liar.ip6), victim, version)
        for name, liar in liars.items()
        for version in (4, 6)
    } | {"an address with a priority": tagged(datagram(replace(evil, ip4=IPv4Address("10.77.0.76")), victim))}


def _honest(evil: Station, victim: Station) -> dict[str, bytes]:
    """What it may send: as itself, and as somebody who has no address yet."""
    nobody = replace(evil, ip4=NOBODY4, ip6=NOBODY6)
    local = replace(evil, ip6=evil.link_local)
    return {
        "an ARP probe": arp_request(nobody, IPv4Address("10.77.0.55")),
        "ARP": arp_request(evil, victim.ip4),
        "gratuitous ARP for itself": arp_request(evil, evil.ip4),
        "duplicate address detection": solicitation(nobody, IPv6Address("fd77::55")),
        "a neighbour solicitation": solicitation(evil, victim.ip6),
        "a neighbour advertisement": advertisement(evil, evil.ip6),
        "a neighbour advertisement of its link-local address": advertisement(local, evil.link_local),
        "a router solicitation": router_solicitation(local),
        "a router solicitation from nobody": router_solicitation(nobody),
        "a DHCP client": dhcp_discover(nobody),
        "link-local": datagram(local, replace(victim, ip6=victim.link_local), 6),
        "link-local to all": datagram(local, ALL_NODES, 6),
        "IPv6": datagram(evil, victim, 6, data=b"honest"),
        "IPv4": datagram(evil, victim, data=b"honest"),
    }


def _as_received(frame: bytes) -> bytes:
    """A packet socket sees a frame without its tag."""
    return frame[:12] + frame[16:] if frame[12:14] == b"\x81\x00" else frame


@_GUARDS
def test_nobody_hears_who_pretends_to_be_somebody_else(story: Story, guard: str) -> None:
    bridge = _network(story, "-o", f"mdnp.guard={guard}")
    evil, victim, friend = _stations(story, "evil", "victim", "friend")
    host = story.testbed.host
    host.ip(f"link set {bridge} type bridge mcast_snooping 0")  # else MLD reports go to routers only
    pretences = _pretences(evil, victim, friend, replace(_GATEWAY, mac=link_mac(host, bridge)))
    nobody = replace(evil, ip4=NOBODY4, ip6=NOBODY6)
    honest = {"a listener report": listener_report(nobody, IPv6Address("ff02::1:ff00:55")), **_honest(evil, victim)}
    before = _drops(story, "evil")

    with Wire(story.testbed, "evil") as wire, Wire(story.testbed, "victim") as ear:
        wire.send(*pretences.values(), *honest.values())
        seen = ear.seen(until=honest["IPv4"])

    assert [name for name, frame in honest.items() if frame not in seen] == []
    heard = [name for name, frame in pretences.items() if _as_received(frame) in seen]
    if guard == "off":
        assert [name for name in pretences if name not in heard] in ([], ["a loopback address, IPv4"])
        assert (before, _drops(story, "evil")) == (None, None)
    else:
        assert heard == []
        assert _drops(story, "evil") == (before or 0) + len(pretences)
        assert (_drops(story, "victim"), _drops(story, "friend")) == (0, 0)


@_GUARDS
def test_who_takes_a_neighbour_s_place_gets_none_of_its_traffic(story: Story, guard: str) -> None:
    """The caches of neighbours and host, and what the bridge has learnt, stay as they are."""
    bridge = _network(story, "-o", f"mdnp.guard={guard}")
    evil, victim, friend = _stations(story, "evil", "victim", "friend")
    host = story.testbed.host
    gateway = replace(_GATEWAY, mac=link_mac(host, bridge))
    for known in (gateway, friend):
        for address in (known.ip4, known.ip6):
            story.inside("victim", f"ping -c 1 -W 2 {address}")
            host.run(["busybox", "ping", "-c", "1", "-W", "2", str(address)])
    true = {str(address): one.mac for one in (gateway, friend) for address in (one.ip4, one.ip6)}
    true_of_host = {str(address): friend.mac for address in (friend.ip4, friend.ip6)}
    false, false_of_host = dict.fromkeys(true, evil.mac), dict.fromkeys(true_of_host, evil.mac)

    with Wire(story.testbed, "evil") as thief, Wire(story.testbed, "victim") as wire:
        pretence = [
            frame
            for owner in (gateway, friend)
            for frame in (arp_request(replace(evil, ip4=owner.ip4), owner.ip4), advertisement(evil, owner.ip6))
        ]
        thief.send(*pretence, end := datagram(evil, victim, data=b"end"))
        wire.seen(until=end)
        wire.seen()
        believed, believed_by_host = (true, true_of_host) if guard == "on" else (false, false_of_host)

        def believe() -> bool:
            """Told again and again, as a thief does: what the owners say meanwhile is believed too."""
            thief.send(*pretence)
            found = _neighbours(story, "victim", *true), _neighbours(story, host, *true_of_host)
            return found == (believed, believed_by_host)

        story.soon(believe)

        with Wire(story.testbed, "friend") as rightful:
            thief.send(datagram(replace(evil, mac=friend.mac), victim))
            wire.send(letter := datagram(victim, friend, data=b"a letter"))
            receiver, other = (rightful, thief) if guard == "on" else (thief, rightful)
            receiver.seen(until=letter)
            assert letter not in other.seen()


def _neighbours(story: Story, place: str | Namespace, *addresses: str) -> dict[str, str]:
    """What MACs these addresses have in the eyes of a container or the host."""
    command = ["ip", "-json", "neigh"]
    run = story.testbed.sandbox(place, command) if isinstance(place, str) else place.run(command)
    rows = {row["dst"]: row.get("lladdr", "") for row in json.loads(run.checked().out)}
    return {address: rows[address] for address in addresses}


def test_a_container_that_says_so_has_more_addresses(story: Story) -> None:
    """Single ones and networks of both families; also after a restart of the daemon."""
    _network(story)
    allowed = ("10.77.0.200", "10.77.0.240/28", "fd77::200", "fd77::f0/124")
    extra = ("10.77.0.200", "10.77.0.250", "fd77::200", "fd77::f9")
    story.container("vip", network=f'name=mynet,"driver-opt=mdnp.allow={",".join(allowed)}"')
    story.container("thief")
    story.container("web")

    assert _answering_from(story, "thief", *extra) == set()
    assert _answering_from(story, "vip", *extra) == set(extra)
    story.plugin.restart()
    assert _answering_from(story, "vip", *extra) == set(extra)
    assert _drops(story, "vip") == 0
    assert (_drops(story, "thief") or 0) > 0


def _answering_from(story: Story, owner: str, *addresses: str) -> set[str]:
    """The addresses at which `web` reaches a container that has just taken them."""
    _ip(
        story,
        owner,
        *(f"addr add {one}/{64 if ':' in one else 24} dev eth0 {'nodad' * (':' in one)}" for one in addresses),
    )
    _ip(story, "web", "neigh flush dev eth0")
    ask = f"for one in {' '.join(addresses)}; do ping -c 1 -W 1 $one >/dev/null && echo $one & done; wait"
    answering = set(story.inside("web", ask).split())
    _ip(story, owner, *(f"addr del {one}/{64 if ':' in one else 24} dev eth0" for one in addresses))
    return answering


def _ip(story: Story, container: str, *lines: str) -> None:
    for line in lines:
        story.testbed.sandbox(container, ["ip", *line.split()]).checked()


def test_what_cannot_be_allowed_is_refused_with_the_reason(story: Story) -> None:
    _network(story)
    story.network("second", "--subnet=10.78.0.0/24")
    story.container("web")
    before = story.links()

    for option, words in (
        ("mdnp.allow=banana", "option mdnp.allow=banana"),
        ("mdnp.allow=10.78.0.1/24", "has host bits set"),
        ("mdnp.allow=", "option mdnp.allow="),
        ("mdnp.alow=10.78.0.9", "did you mean mdnp.allow?"),
    ):
        assert words in story.refused("network", "connect", f"--driver-opt={option}", "second", "web"), option
    story.soon(lambda: story.links() == before)
    story.docker("network", "connect", "--driver-opt=mdnp.allow=10.78.0.9", "second", "web")
    assert story.interfaces("web") == {"eth0", "eth1"}
    assert story.status()["drift"] == []
