"""Which network an automatic pool becomes."""

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mdnp.ipam.choice import Obstacle, choose
from mdnp.model.errors import Exhausted
from mdnp.model.network import IPNetwork
from mdnp.model.supernet import DEFAULT, Supernet, parse_supernet, ula

SMALL = parse_supernet("base=10.9.0.0/22,size=24")
OTHER = parse_supernet("base=10.200.0.0/23,size=24")
SIX = parse_supernet("base=fd00:1::/62,size=64")


def in_the_way(*networks: str) -> list[Obstacle]:
    return [Obstacle(ip_network(one), "route on eth0") for one in networks]


def chosen(supernets: list[Supernet], *networks: str, after: str = "") -> str:
    return str(choose(supernets, in_the_way(*networks), ip_network(after) if after else None))


def test_the_first_network_of_the_first_supernet_is_taken() -> None:
    assert chosen([SMALL, OTHER]) == "10.9.0.0/24"


def test_the_default_is_private_space_that_docker_s_own_pools_come_to_last() -> None:
    assert [str(one) for one in DEFAULT] == [
        "base=10.0.0.0/8,size=20",
        "base=172.16.0.0/12,size=20",
        "base=192.168.0.0/16,size=20",
    ]
    assert chosen(list(DEFAULT)) == "10.0.0.0/20"


def test_the_one_behind_the_last_is_taken_and_then_from_the_beginning() -> None:
    turns = ["10.9.0.0/24"]
    for _ in range(5):
        turns.append(chosen([SMALL], after=turns[-1]))

    assert turns == [f"10.9.{third}.0/24" for third in (0, 1, 2, 3, 0, 1)]


def test_turning_passes_over_what_is_in_the_way() -> None:
    assert chosen([SMALL], "10.9.2.7/32", "10.9.0.0/24", after="10.9.1.0/24") == "10.9.3.0/24"
    assert chosen([SMALL], "10.9.2.7/32", "10.9.3.0/24", "10.9.0.0/24", after="10.9.1.0/24") == "10.9.1.0/24"


def test_the_next_supernet_is_taken_when_the_first_is_full() -> None:
    assert chosen([SMALL, OTHER], "10.9.0.0/22") == "10.200.0.0/24"
    assert chosen([SMALL, OTHER], "10.9.0.0/22", after="10.200.0.0/24") == "10.200.1.0/24"


def test_the_last_one_comes_again_only_when_no_other_is_free_anywhere() -> None:
    only = "10.9.1.0/24", "10.9.2.0/23"

    assert chosen([SMALL, OTHER], *only, after="10.9.0.0/24") == "10.200.0.0/24"
    assert chosen([SMALL, OTHER], *only, "10.200.0.0/23", after="10.9.0.0/24") == "10.9.0.0/24"


def test_the_turn_in_a_later_supernet_does_not_pass_over_one_that_has_room_again() -> None:
    assert chosen([SMALL, OTHER], "10.9.0.0/24", after="10.200.0.0/24") == "10.9.1.0/24"


@pytest.mark.parametrize(
    ("obstacle", "expected"),
    [
        ("10.9.0.0/32", "10.9.1.0/24"),
        ("10.9.0.255/32", "10.9.1.0/24"),
        ("10.9.1.0/32", "10.9.0.0/24"),
        ("10.9.0.128/25", "10.9.1.0/24"),
        ("10.9.0.0/23", "10.9.2.0/24"),
        ("10.9.0.0/24", "10.9.1.0/24"),
        ("10.8.255.255/32", "10.9.0.0/24"),
        ("10.9.4.0/32", "10.9.0.0/24"),
        ("fd00::/16", "10.9.0.0/24"),
        ("::/0", "10.9.0.0/24"),
    ],
)
def test_one_behind_an_obstacle_begins_where_such_a_network_can(obstacle: str, expected: str) -> None:
    assert chosen([SMALL], obstacle) == expected


def test_an_obstacle_inside_another_does_not_turn_the_walk_back() -> None:
    assert chosen([SMALL], "10.9.0.0/23", "10.9.0.5/32") == "10.9.2.0/24"


def test_ipv6_networks_are_chosen_alike() -> None:
    assert chosen([SIX]) == "fd00:1::/64"
    assert chosen([SIX], "fd00:1::53/128", "fd00:1:0:1::/64", after="fd00:1:0:3::/64") == "fd00:1:0:2::/64"


def test_a_large_supernet_costs_no_walk_over_its_networks() -> None:
    supernet = ula(bytes(5))

    assert str(choose([supernet], in_the_way("fd00::/49"))) == "fd00:0:0:8000::/64"


def test_a_supernet_may_be_one_network() -> None:
    one = Supernet(ip_network("10.9.0.0/24"), 24)

    assert chosen([one], after="10.9.0.0/24") == "10.9.0.0/24"


def test_the_error_names_what_is_in_the_way_the_largest_first() -> None:
    obstacles = [
        Obstacle(ip_network("10.9.0.53/32"), "resolver"),
        Obstacle(ip_network("10.9.1.0/24"), "pool mdnp-local/10.9.1.0/24"),
        Obstacle(ip_network("10.9.2.0/23"), "route on eth0"),
        Obstacle(ip_network("10.77.0.0/16"), "route on eth1"),
    ]

    with pytest.raises(Exhausted) as refusal:
        choose([SMALL], obstacles)

    assert str(refusal.value) == (
        "no free network is left in 10.9.0.0/22 (/24); in the way: 10.9.2.0/23 (route on eth0), 10.9.1.0/24"
        " (pool mdnp-local/10.9.1.0/24), 10.9.0.53/32 (resolver). Give one with --subnet, or configure address_pools"
    )


def test_the_error_counts_the_obstacles_that_it_does_not_name() -> None:
    obstacles = in_the_way(*(f"10.9.0.{number}/32" for number in range(7)), "10.9.1.0/24", "10.9.2.0/23")

    with pytest.raises(Exhausted, match=r"\(route on eth0\) and 4 more\. Give one with --subnet"):
        choose([SMALL], obstacles)


def test_without_a_supernet_the_error_says_so() -> None:
    with pytest.raises(Exhausted, match="no free network is left in no supernet; in the way: nothing"):
        choose([], in_the_way("10.9.0.0/24"))


def blocks(base: IPNetwork, prefixes: st.SearchStrategy[int]) -> st.SearchStrategy[IPNetwork]:
    """Networks around `base`, aligned, of these prefix lengths."""
    kind: type[IPv4Network] | type[IPv6Network] = type(base)
    width = base.max_prefixlen
    near = st.integers(int(base.network_address) - 64, int(base.broadcast_address) + 64)
    return st.builds(
        lambda number, prefix: kind((number >> (width - prefix) << (width - prefix), prefix)), near, prefixes
    )


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[Supernet], list[Obstacle], IPNetwork | None]:
    """Small supernets of one family, obstacles of both, and where the turn is."""
    version = draw(st.sampled_from([4, 6]))
    width = 32 if version == 4 else 128
    home = ip_network("10.9.0.0/25" if version == 4 else "fd00:1::/121")
    bases = draw(st.lists(blocks(home, st.integers(width - 6, width - 2)), min_size=1, max_size=3))
    supernets = [Supernet(base, draw(st.integers(base.prefixlen, width))) for base in bases]
    foreign = st.sampled_from([ip_network("10.9.0.0/16"), ip_network("fd00::/8")]).filter(
        lambda one: one.version != version
    )
    around = st.lists(blocks(home, st.integers(width - 7, width)) | foreign, max_size=12)
    obstacles = [Obstacle(one, "route on eth0") for one in draw(around)]
    return supernets, obstacles, draw(st.none() | st.sampled_from(list(candidates(supernets))))


def candidates(supernets: list[Supernet]) -> list[IPNetwork]:
    return [network for one in supernets for network in one.network.subnets(new_prefix=one.size)]


@given(searches())
@example(([Supernet(ip_network("10.9.0.0/30"), 32)], in_the_way("10.9.0.0/31", "10.9.0.3/32"), None))
def test_what_is_chosen_is_free_and_nothing_is_free_when_none_is(
    search: tuple[list[Supernet], list[Obstacle], IPNetwork | None],
) -> None:
    supernets, obstacles, after = search
    free = [one for one in candidates(supernets) if not any(one.overlaps(other.network) for other in obstacles)]

    try:
        found = choose(supernets, obstacles, after)
    except Exhausted:
        assert free == []
    else:
        assert found in free
        assert found != after or set(free) == {after}


@given(searches())
def test_turn_by_turn_all_free_networks_of_a_supernet_are_given(
    search: tuple[list[Supernet], list[Obstacle], IPNetwork | None],
) -> None:
    (supernet, *_), obstacles, _ = search
    free = [one for one in candidates([supernet]) if not any(one.overlaps(other.network) for other in obstacles)]

    given: list[IPNetwork] = []
    for _ in free:
        given.append(choose([supernet], obstacles, given[-1] if given else None))

    assert given == free
