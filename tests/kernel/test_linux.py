"""What only Linux can show: other people's rules and addresses, the host's routes, doings of the kernel's own."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest

from mdnp.dataplane.naming import GROUP
from mdnp.dataplane.objects import Accept, Addr, Bridge, Link, Veth
from mdnp.dataplane.steps import NOBODY, Add, Delete, Doom
from mdnp.kernel import Kernel, Route, Surroundings
from mdnp.kernel.linux import LinuxKernel
from mdnp.model.mac import MAC
from tests.kernel.grounds import Linux, add_nic, own_namespace, run

pytestmark = pytest.mark.root

BRIDGE = Bridge("mdb-one", MAC("02:6d:0a:01:00:01"), 1500, "mdnp network one")
VETH = Veth("mdv-web", "mdp-web", MAC("02:6d:0a:01:00:02"), 1500, "mdb-one", "mdnp endpoint web")


@pytest.fixture
def host() -> Iterator[Linux]:
    with own_namespace():
        yield Linux()


@pytest.fixture
async def kernel(host: Linux) -> AsyncIterator[Kernel]:
    yield host.kernel
    await host.kernel.close()


def rules(program: str = "iptables") -> list[str]:
    """The rules of Docker's chain, from top to bottom."""
    return [line.removeprefix("-A DOCKER-USER ") for line in run(program, "-S", "DOCKER-USER").splitlines()[1:]]


async def around(kernel: Kernel) -> Surroundings:
    """What the namespace has; resolvers are the host's."""
    return replace(await kernel.surroundings(), resolvers=())


async def test_rules_of_others_are_neither_seen_nor_touched(kernel: Kernel) -> None:
    foreign = [
        "-i eth7 -j DROP",
        "-i mdb-one -j DROP",
        "-i eth7 -m comment --comment mdnp -j DROP",
        "-i mdnp -o eth7 -j DROP",
        "! -i mdb-two -o mdb-two -m comment --comment mdnp -j ACCEPT",
        "-j RETURN",
    ]
    for rule in foreign:
        run("iptables", "-A", "DOCKER-USER", *rule.split())

    await kernel.perform([Add(Accept(4, "mdb-one"), NOBODY)])
    seen = await kernel.observe()
    with_ours = rules()
    await kernel.perform([Delete(Accept(4, "mdb-one"), NOBODY)])

    assert list(seen.objects.values()) == [Accept(4, "mdb-one")]
    assert with_ours == [" ".join(Accept(4, "mdb-one").arguments), *foreign]
    assert rules() == foreign


async def test_a_rule_of_ours_that_stands_twice_goes_whole(kernel: Kernel) -> None:
    rule = Accept(6, "mdb-one")
    for _ in range(3):
        run("ip6tables", "-A", "DOCKER-USER", *rule.arguments)

    failures = await kernel.perform([Delete(rule, NOBODY)])

    assert (failures, rules("ip6tables")) == ((), [])


async def test_an_operator_s_address_on_our_bridge_is_seen(kernel: Kernel) -> None:
    await kernel.perform([Add(BRIDGE, NOBODY)])
    run("ip", "addr", "add", "10.9.0.1/24", "dev", "mdb-one")

    seen = await kernel.observe()

    assert list(seen.objects.values()) == [BRIDGE.link(), Addr("mdb-one", ip_interface("10.9.0.1/24"))]


async def test_what_somebody_changed_is_seen(kernel: Kernel) -> None:
    await kernel.perform([Add(BRIDGE, NOBODY), Add(VETH, NOBODY)])
    run("ip", "link", "set", "mdb-one", "mtu", "1400", "address", "02:00:00:00:00:01", "down")
    run("ip", "link", "set", "mdv-web", "nomaster")

    seen = await kernel.observe()

    assert list(seen.objects.values()) == [
        Link("mdb-one", "bridge", 1400, mac=MAC("02:00:00:00:00:01"), up=False),
        Link("mdv-web", "veth", 1500),
    ]


async def test_the_sandbox_end_has_the_mac_and_is_nobody_s_by_group(kernel: Kernel) -> None:
    """A group deletion takes every link of the group: the sandbox end must not be one, it may be in a sandbox."""
    await kernel.perform([Add(BRIDGE, NOBODY), Add(VETH, NOBODY)])

    shown = run("ip", "-o", "-d", "link", "show", "mdp-web")

    assert f"link/ether {VETH.mac}" in shown
    assert "group default" in shown
    assert f"group {GROUP}" in run("ip", "-o", "link", "show", "mdv-web")


async def test_reaping_takes_nothing_but_the_doomed(kernel: Kernel) -> None:
    await kernel.perform([Add(BRIDGE, NOBODY), Add(VETH, NOBODY)])
    add_nic("eth7", 1500)

    await kernel.perform([Doom(VETH.link(), NOBODY)])
    await kernel.reap()

    links = [line.split(":")[1].strip() for line in run("ip", "-o", "link").splitlines()]
    assert links == ["lo", "mdb-one", "eth7-far@eth7", "eth7@eth7-far"]


async def test_an_address_on_a_bridge_answers_at_once(kernel: Kernel) -> None:
    """Without duplicate address detection, which a bridge without ports never ends."""
    address = Addr("mdb-one", ip_interface("fd00::1/64"))

    await kernel.perform([Add(BRIDGE, NOBODY), Add(address, NOBODY)])

    assert "tentative" not in run("ip", "-6", "addr", "show", "dev", "mdb-one")


async def test_a_bridge_where_ipv6_is_switched_off_refuses_its_address(kernel: Kernel) -> None:
    step = Add(Addr("mdb-one", ip_interface("fd00::1/64")), NOBODY)
    await kernel.perform([Add(BRIDGE, NOBODY)])
    run("sysctl", "-qw", "net.ipv6.conf.mdb-one.disable_ipv6=1")

    failures = await kernel.perform([step])

    assert [(one.step, str(one.error)) for one in failures] == [(step, f"{step}: Permission denied")]


async def test_a_host_without_routes_has_no_surroundings(kernel: Kernel) -> None:
    assert await around(kernel) == Surroundings((), None)


async def test_the_surroundings_are_the_routes_of_others_and_the_default_route_s_mtu(kernel: Kernel) -> None:
    await kernel.perform([Add(BRIDGE, NOBODY), Add(Addr("mdb-one", ip_interface("10.1.0.1/24")), NOBODY)])
    add_nic("eth7", 1420)
    add_nic("eth8", 1380)
    run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth7")
    run("ip", "addr", "add", "2001:db8::2/64", "dev", "eth8", "nodad")
    run("ip", "route", "add", "default", "via", "192.0.2.1", "metric", "100")
    run("ip", "route", "add", "default", "dev", "eth8", "metric", "500")
    run("ip", "route", "add", "10.0.0.0/8", "via", "192.0.2.9")
    run("ip", "route", "add", "198.51.100.0/24", "dev", "eth8")
    run("ip", "route", "add", "unreachable", "203.0.113.0/24")

    surroundings = await around(kernel)

    assert set(surroundings.routes) == {
        Route(ip_network("192.0.2.0/24"), "eth7", gateway=False),
        Route(ip_network("10.0.0.0/8"), "eth7", gateway=True),
        Route(ip_network("198.51.100.0/24"), "eth8", gateway=False),
        Route(ip_network("2001:db8::/64"), "eth8", gateway=False),
    }
    assert surroundings.underlay_mtu == 1420


async def test_without_an_ipv4_default_route_the_ipv6_one_s_mtu_counts(kernel: Kernel) -> None:
    add_nic("eth7", 1420)
    run("ip", "-6", "route", "add", "default", "dev", "eth7")

    assert await around(kernel) == Surroundings((), 1420)


async def test_a_default_route_over_several_links_is_read(kernel: Kernel) -> None:
    for number in (7, 8):
        add_nic(f"eth{number}", 1400 + 10 * number)
        run("ip", "addr", "add", f"192.0.{number}.2/24", "dev", f"eth{number}")
    run("ip", "route", "add", "default", "nexthop", "via", "192.0.7.1", "nexthop", "via", "192.0.8.1")
    run("ip", "route", "add", "10.0.0.0/8", "nexthop", "via", "192.0.7.1", "nexthop", "via", "192.0.8.1")

    surroundings = await around(kernel)

    assert surroundings.underlay_mtu == 1470
    assert Route(ip_network("10.0.0.0/8"), "eth7", gateway=True) in surroundings.routes


async def test_a_route_by_a_gateway_of_the_other_family_has_a_gateway(kernel: Kernel) -> None:
    add_nic("eth7", 1500)
    run("ip", "route", "add", "10.0.0.0/8", "via", "inet6", "fe80::1", "dev", "eth7")

    assert await around(kernel) == Surroundings((Route(ip_network("10.0.0.0/8"), "eth7", gateway=True),), None)


async def test_two_kernels_do_not_disturb_each_other(kernel: Kernel) -> None:
    other = LinuxKernel()
    await kernel.perform([Add(BRIDGE, NOBODY)])

    seen = await other.observe()
    await other.close()

    assert seen == await kernel.observe()
