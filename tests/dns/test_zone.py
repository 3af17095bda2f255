"""What is found in zones, by each way to ask."""

from collections import Counter
from ipaddress import ip_address, ip_network
from random import Random

import pytest

from mdnp.dns import Answer, Kind, Question, Record, Resident, Target
from mdnp.dns.zone import MOST, Form, Zone, Zones
from mdnp.model.names import Names
from mdnp.model.port import Protocol

NODATA, NXDOMAIN = Answer(), Answer(exists=False)
MX = 15


def drawn(seed: int = 1) -> Random:
    return Random(seed)  # noqa: S311  # the same in each run


def resident(
    *addresses: str, here: bool = False, ports: tuple[tuple[Protocol, int], ...] = (), **names: object
) -> Resident:
    called = Names(**{"name": "web", **names})  # type: ignore[arg-type]  # as the tests write them
    return Resident(tuple(map(ip_address, addresses)), called, ports, here)


def zone(network: str = "blue", *residents: Resident, pools: tuple[str, ...] = ("10.50.0.0/16", "fd50::/64")) -> Zone:
    made = Zone(network, list(map(ip_network, pools)))
    for number, one in enumerate(residents):
        made.put(f"{network} {number}", one)
    return made


def find(zones: Zone | list[Zone], name: str, kind: int = Kind.A, *, everywhere: bool = False) -> Answer | None:
    asked = zones if isinstance(zones, list) else [zones]
    return Zones(asked, drawn(), everywhere=everywhere).find(Question(name, kind))


def data(answer: Answer | None) -> list[str]:
    """What the records say, sorted."""
    assert answer is not None
    assert answer.exists or not answer.records
    return sorted(str(one.data) for one in answer.records)


REMOTE = resident("10.50.1.2", "fd50::1:2", aliases=("front", "0123456789ab"), hostname="inner", service="shop")
LOCAL = resident("10.50.0.2", "fd50::2", name="db", aliases=("store",), hostname="deep", service="base", here=True)


# Names.


@pytest.mark.parametrize("short", ["web", "front", "0123456789ab", "inner", "shop"])
@pytest.mark.parametrize("end", ["", ".blue", ".blue.mdnp"])
def test_each_name_is_found_in_each_form(short: str, end: str) -> None:
    name = short + end
    assert find(zone("blue", REMOTE), name) == Answer((Record(name, Kind.A, ip_address("10.50.1.2")),))
    assert find(zone("blue", REMOTE), name, Kind.AAAA) == Answer((Record(name, Kind.AAAA, ip_address("fd50::1:2")),))
    assert data(find(zone("blue", REMOTE), name, Kind.ANY)) == ["10.50.1.2", "fd50::1:2"]
    assert find(zone("blue", REMOTE), name, MX) == find(zone("blue", REMOTE), name, Kind.PTR) == NODATA


def test_a_family_that_it_does_not_have_is_no_data() -> None:
    assert find(zone("blue", resident("10.50.1.2")), "web", Kind.AAAA) == NODATA


def test_names_are_found_in_any_case() -> None:
    assert data(find(zone("Blue", resident("10.50.1.2", name="Web-1")), "web-1.blue")) == ["10.50.1.2"]


def test_all_replicas_of_a_service_answer() -> None:
    replicas = [resident(f"10.50.0.{one}", name=f"shop-{one}", service="shop") for one in range(2, 12)]
    answers = [Zones([zone("blue", *replicas)], drawn(seed)).find(Question("shop", Kind.A)) for seed in range(40)]
    assert all(len(data(answer)) == 10 for answer in answers)
    first = Counter(answer.records[0].data for answer in answers if answer)
    assert len(first) > 5


def test_a_large_service_answers_with_some_and_each_time_with_others() -> None:
    replicas = [resident(f"10.50.{one // 200}.{one % 200}", service="shop") for one in range(1000)]
    zones = Zones([zone("blue", *replicas)], drawn())
    seen = [frozenset(data(zones.find(Question("shop", Kind.A)))) for _ in range(2)]
    assert [len(one) for one in seen] == [MOST, MOST]
    assert seen[0] != seen[1]


def test_two_containers_of_one_name_both_answer() -> None:
    assert data(find(zone("blue", resident("10.50.0.2", here=True), resident("10.50.1.2")), "web")) == [
        "10.50.0.2",
        "10.50.1.2",
    ]


def test_a_name_of_several_networks_answers_with_all() -> None:
    zones = [zone("blue", resident("10.50.1.2")), zone("red", resident("10.60.1.2"), pools=("10.60.0.0/16",))]
    assert data(find(zones, "web")) == ["10.50.1.2", "10.60.1.2"]
    assert data(find(zones, "web.red")) == data(find(zones, "web.red.mdnp")) == ["10.60.1.2"]


def test_names_may_have_dots_dashes_and_underscores() -> None:
    asked = zone("my.net", resident("10.50.1.2", name="a_b.c-d"))
    for name in ("a_b.c-d", "a_b.c-d.my.net", "a_b.c-d.my.net.mdnp"):
        assert data(find(asked, name)) == ["10.50.1.2"]


def test_what_is_above_a_name_is_no_data_where_it_is_ours() -> None:
    asked = zone("my.net", resident("10.50.1.2", name="a.b"))
    assert find(asked, "b.my.net") == find(asked, "b.my.net.mdnp") == find(asked, "net.mdnp") == NODATA
    assert find(asked, "b") is find(asked, "my.net") is None
    asked.drop("my.net 0")
    assert find(asked, "b.my.net") is None


def test_a_name_with_dots_comes_before_the_same_name_in_a_network_as_with_docker() -> None:
    zones = [
        zone("red", resident("10.60.1.2", name="web.blue"), pools=("10.60.0.0/16",)),
        zone("blue", resident("10.50.1.2")),
    ]
    assert data(find(zones, "web.blue")) == ["10.60.1.2"]


def test_nobody_comes_before_what_is_ours_beyond_doubt() -> None:
    zones = [
        zone("red", resident("10.60.1.2", name="web.blue.mdnp"), pools=("10.60.0.0/16",)),
        zone("blue", resident("10.50.1.2")),
        zone("blue.mdnp", resident("10.70.1.2"), pools=("10.70.0.0/16",)),
    ]
    assert data(find(zones, "web.blue.mdnp")) == ["10.50.1.2"]


def test_a_network_may_be_called_as_the_suffix_is() -> None:
    asked = zone("mdnp", REMOTE)
    assert data(find(asked, "web.mdnp")) == data(find(asked, "web.mdnp.mdnp")) == ["10.50.1.2"]
    assert find(asked, "nobody.mdnp") == NXDOMAIN


@pytest.mark.parametrize(
    "bad", ["", ".", "a..b", ".a", "a.", "x" * 64, "x." * 126 + "xx", "bücher", "a b", "a\\b", "a@b", "a;b", "a\0"]
)
def test_what_cannot_be_a_name_is_left_out(bad: str) -> None:
    asked = zone("blue", resident("10.50.1.2", name=bad, aliases=(bad, "good"), hostname=bad, service=bad))
    assert find(asked, bad.lower()) is None
    assert data(find(asked, "good")) == ["10.50.1.2"]
    assert data(find(asked, "2.1.50.10.in-addr.arpa", Kind.PTR)) == ["good.blue"]
    assert zone(bad, REMOTE).spell(REMOTE, Form.IN_NETWORK) == "web"


def test_a_name_that_is_too_long_in_its_network_is_told_alone() -> None:
    long = ".".join(["x" * 63] * 3 + ["y" * 60])
    asked = zone("blue", resident("10.50.1.2", name=long, ports=((Protocol.TCP, 80),)))
    assert data(find(asked, "2.1.50.10.in-addr.arpa", Kind.PTR)) == [long]
    assert data(find(asked, f"_tcp.{long}", Kind.SRV)) == [str(Target(long, 80))]


# What is not there.


def test_what_is_nobodys_here_may_be_others() -> None:
    asked = zone("blue", REMOTE)
    for name in ("", "nobody", "example.com", "blue", "www.web", "mdnp.example", "notblue", "_tcp.nobody", "xmdnp"):
        assert find(asked, name) is None


def test_what_is_not_there_below_mdnp_does_not_exist_and_all_else_may_be_outside() -> None:
    asked = zone("dev", REMOTE)
    for name in ("nobody.dev.mdnp", "x.web.dev.mdnp", "nobody.mdnp", "_tcp.nobody.dev.mdnp", "..mdnp"):
        assert find(asked, name) == find(asked, name, MX) == NXDOMAIN
    for name in ("nobody.dev", "x.web.dev", "_tcp.nobody.dev", ".dev"):
        assert find(asked, name) is find(asked, name, MX) is None


def test_what_is_above_names_exists() -> None:
    assert find(zone("blue", REMOTE), "blue.mdnp") == find(zone("blue", REMOTE), "mdnp") == find([], "mdnp") == NODATA


def test_networks_that_the_asker_is_not_on_do_not_exist() -> None:
    asked = zone("blue", REMOTE)
    assert find(asked, "web.red.mdnp") == find(asked, "red.mdnp") == find([], "web.blue.mdnp") == NXDOMAIN
    assert find(asked, "web.red") is find([], "web") is None


def test_names_alone_are_found_while_the_networks_name_is_not_known() -> None:
    asked = zone("", REMOTE)
    assert data(find(asked, "web")) == ["10.50.1.2"]
    assert find(asked, "web.blue") is None
    assert find(asked, "web.blue.mdnp") == find(asked, "web..mdnp") == NXDOMAIN
    assert data(find(asked, "2.1.50.10.in-addr.arpa", Kind.PTR)) == ["web"]
    asked.call("blue")
    assert data(find(asked, "web.blue.mdnp")) == ["10.50.1.2"]
    assert data(find(asked, "2.1.50.10.in-addr.arpa", Kind.PTR)) == ["web.blue"]


# Addresses.


def reverse(address: str) -> str:
    return ip_address(address).reverse_pointer


@pytest.mark.parametrize("address", ["10.50.1.2", "fd50::1:2"])
def test_an_address_has_the_name_that_docker_would_say(address: str) -> None:
    name = reverse(address)
    assert find(zone("blue", REMOTE), name, Kind.PTR) == Answer((Record(name, Kind.PTR, "web.blue"),))
    assert data(find(zone("blue", REMOTE), name, Kind.ANY)) == ["web.blue"]
    assert find(zone("blue", REMOTE), name, Kind.A) == NODATA


def test_names_of_addresses_are_as_users_wrote_them() -> None:
    assert data(find(zone("Blue", resident("10.50.1.2", name="Web")), reverse("10.50.1.2"), Kind.PTR)) == ["Web.Blue"]


def test_an_address_that_nobody_has_is_nobody_elses_either() -> None:
    for address in ("10.50.9.9", "fd50::9"):
        assert find(zone("blue", REMOTE), reverse(address), Kind.PTR) == NXDOMAIN
    for address in ("10.51.1.2", "fd51::1:2", "8.8.8.8"):
        assert find(zone("blue", REMOTE), reverse(address), Kind.PTR) is None


@pytest.mark.parametrize(
    "name",
    [
        "in-addr.arpa",
        "1.50.10.in-addr.arpa",
        "2.1.50.10.x.in-addr.arpa",
        "x.2.1.50.10.in-addr.arpa",
        "02.1.50.10.in-addr.arpa",
        "256.1.50.10.in-addr.arpa",
        "-1.1.50.10.in-addr.arpa",
        "ip6.arpa",
        "2.ip6.arpa",
        reverse("fd50::1:2").replace("2.", "__.", 1),
        reverse("fd50::1:2").replace("2.", "22.", 1),
    ],
)
def test_what_is_no_whole_address_is_not_ours(name: str) -> None:
    assert find(zone("blue", REMOTE), name, Kind.PTR) is None


# Services.

TCP, UDP = Protocol.TCP, Protocol.UDP
SHOP = [
    resident("10.50.0.2", "fd50::2", name="shop-1", service="shop", ports=((TCP, 80), (TCP, 443), (UDP, 53))),
    resident("10.50.1.2", name="shop-2", service="shop", ports=((TCP, 80), (TCP, 80))),
]


@pytest.mark.parametrize("end", ["", ".blue", ".blue.mdnp"])
def test_a_service_has_the_ports_of_each_replica(end: str) -> None:
    def targets(name: str) -> set[str]:
        answer = find(zone("blue", *SHOP), name + end, Kind.SRV)
        assert answer
        assert {one.name for one in answer.records} <= {name + end}
        return {f"{one.data.name}:{one.data.port}" for one in answer.records if isinstance(one.data, Target)}

    both = {"shop-1.blue.mdnp:80", "shop-2.blue.mdnp:80"}
    assert targets("_tcp.shop") == {*both, "shop-1.blue.mdnp:443"}
    assert targets("_80._tcp.shop") == both
    assert targets("_53._udp.shop") == targets("_udp.shop") == {"shop-1.blue.mdnp:53"}
    assert targets("_tcp.shop-2") == {"shop-2.blue.mdnp:80"}


def test_the_addresses_of_the_targets_come_along() -> None:
    answer = find(zone("blue", *SHOP), "_80._tcp.shop", Kind.SRV)
    assert answer
    assert len(answer.records) == 2
    assert {(one.name, one.kind.name, str(one.data)) for one in answer.additional} == {
        ("shop-1.blue.mdnp", "A", "10.50.0.2"),
        ("shop-1.blue.mdnp", "AAAA", "fd50::2"),
        ("shop-2.blue.mdnp", "A", "10.50.1.2"),
    }
    assert find(zone("blue", *SHOP[:1]), "_53._udp.shop", Kind.ANY) == find(
        zone("blue", *SHOP[:1]), "_53._udp.shop", Kind.SRV
    )


def test_a_container_without_such_ports_is_no_data_and_one_such_port_does_not_exist() -> None:
    asked = zone("blue", *SHOP)
    assert find(asked, "_udp.shop-2", Kind.SRV) == find(asked, "_sctp.shop.blue", Kind.SRV) == NODATA
    assert find(asked, "_tcp.shop", Kind.A) == find(asked, "_80._tcp.shop", Kind.A) == NODATA
    for name in ("_81._tcp.shop", "_080._tcp.shop.blue", "_http._tcp.shop"):
        assert find(asked, name, Kind.SRV) == NXDOMAIN


# What is left to Docker.


def left(zones: Zone | list[Zone], name: str, kind: int = Kind.A) -> bool:
    answer = find(zones, name, kind)
    assert answer
    return answer.left


def test_what_docker_knows_itself_is_left_to_it() -> None:
    asked = zone("blue", LOCAL)
    for name in ("db", "store", "db.blue", "store.blue"):
        assert left(asked, name)
        assert left(asked, name, Kind.AAAA)
        assert not left(asked, name, Kind.ANY)
        assert not left(asked, name, MX)
        assert data(find(asked, name)) == ["10.50.0.2"]  # for whom no Docker stands behind
    assert left(asked, reverse("10.50.0.2"), Kind.PTR)
    assert not left(asked, reverse("10.50.0.2"), Kind.A)


def test_a_family_that_nobody_has_is_left_too() -> None:
    assert find(zone("blue", resident("10.50.0.2", here=True)), "web", Kind.AAAA) == Answer(left=True)


def test_what_docker_does_not_know_is_not_left_to_it() -> None:
    asked = zone("blue", LOCAL)
    for name in ("deep", "base", "deep.blue", "db.blue.mdnp", "store.blue.mdnp"):
        assert not left(asked, name)
    assert not left(zone("blue", REMOTE), "web")
    assert not left(zone("blue", REMOTE), reverse("10.50.1.2"), Kind.PTR)


def test_a_name_that_somebody_elsewhere_has_too_is_not_left() -> None:
    assert not left(zone("blue", LOCAL, resident("10.50.1.2", service="db")), "db")
    assert not left([zone("blue", LOCAL), zone("red", resident("10.60.1.2", name="db"))], "db")


def test_docker_finds_a_network_only_as_it_is_written() -> None:
    assert not left(zone("Blue", LOCAL), "db.blue")
    assert left(zone("Blue", LOCAL), "db")


def test_docker_may_know_what_a_new_container_of_this_host_is_called() -> None:
    asked = zone("blue", resident("10.50.0.9", name="", here=True))
    assert find(asked, "web.blue") is None
    assert find(asked, reverse("10.50.0.9"), Kind.PTR) == Answer(exists=False, left=True)
    assert find(asked, "web.blue.mdnp") == NXDOMAIN
    assert find(asked, reverse("10.50.0.8"), Kind.PTR) == NXDOMAIN


# The host.


def test_the_host_is_answered_only_what_is_ours_beyond_doubt() -> None:
    zones = [zone("blue", REMOTE, LOCAL), zone("red", resident("10.60.1.2"), pools=("10.60.0.0/16",))]

    def host(name: str, kind: int = Kind.A) -> Answer | None:
        return find(zones, name, kind, everywhere=True)

    assert data(host("web.blue.mdnp")) == ["10.50.1.2"]
    assert data(host("web.red.mdnp")) == ["10.60.1.2"]
    assert host("nobody.blue.mdnp") == NXDOMAIN
    assert host("blue.mdnp") == NODATA
    for name in ("web", "web.blue", "nobody.blue", "_tcp.web"):
        assert host(name) is None
    assert data(host(reverse("10.60.1.2"), Kind.PTR)) == ["web.red.mdnp"]
    assert host(reverse("10.60.1.3"), Kind.PTR) == NXDOMAIN
    assert host(reverse("8.8.8.8"), Kind.PTR) is None


# Changes.


def test_a_resident_is_what_it_is_now() -> None:
    asked = zone("blue", REMOTE)
    asked.put("blue 0", resident("10.50.1.3", name="new"))
    assert find(asked, "web") is None
    assert data(find(asked, "new")) == ["10.50.1.3"]
    assert find(asked, reverse("10.50.1.2"), Kind.PTR) == NXDOMAIN
    asked.drop("blue 0")
    asked.drop("blue 0")
    assert find(asked, "new") is None
    assert not asked.residents
