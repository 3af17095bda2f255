"""The pure decisions: who is gone, which epoch stands, which block to take, which VNI, what to tell."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnp.cluster import Delete, Put
from mdnp.member import blocks, told
from mdnp.member.blocks import NOBODY
from mdnp.member.epochs import Past, goes_on, next_epoch
from mdnp.member.records import key, value
from mdnp.member.rows import BlockRow, Claim, DoneRow, EndpointRow, EpochRow, MemberRow
from mdnp.member.segments import check_agreement, check_overlap, choose_vni
from mdnp.member.vigil import Vigil
from mdnp.model.endpoint import Endpoint, Phase
from mdnp.model.errors import Conflict, Exhausted
from mdnp.model.host import HostID
from mdnp.model.identity import EndpointID, NetworkID
from mdnp.model.mac import MAC, derived_mac
from mdnp.model.names import Called, Names
from mdnp.model.network import IPNetwork, Network, Subnet
from mdnp.model.options import Mode, NetworkOptions
from mdnp.model.port import PortRequest, Protocol, Publication
from mdnp.model.segment import Segment, SegmentID
from mdnp.store import Promises

A, B, C = (HostID(letter * 16) for letter in "abc")
POOL = ip_network("10.50.0.0/16")
BLOCK = ip_network("10.50.3.0/24")
ONE, TWO = ip_address("10.50.3.4"), ip_address("10.50.3.5")


# Who is gone.


def test_a_host_is_gone_when_its_lease_ended_and_ours_held_for_a_whole_one_since() -> None:
    vigil = Vigil(15)
    vigil.recover(0)
    vigil.look([A, B], [A, B], 100)

    assert vigil.look([A, B], [A], 101) == frozenset()
    assert vigil.look([A, B], [A], 115.9) == frozenset()
    assert vigil.look([A, B], [A], 116) == {B}
    assert vigil.look([A, B], [A, B], 117) == frozenset()
    assert vigil.look([A, B], [A], 118) == frozenset(), "it begins anew"


def test_the_time_begins_anew_when_our_session_breaks() -> None:
    vigil = Vigil(15)
    vigil.recover(0)
    vigil.look([A], [], 100)
    vigil.fail()
    vigil.recover(110)

    assert vigil.look([A], [], 124) == frozenset()
    assert vigil.look([A], [], 125) == {A}


def test_nobody_goes_while_our_session_is_not_well_and_who_is_gone_stays_so() -> None:
    vigil = Vigil(15)
    vigil.recover(0)
    assert vigil.look([A], [], 0) == frozenset()
    assert vigil.look([A], [], 15) == {A}
    vigil.fail()

    assert vigil.look([A, B], [], 1000) == {A}


# Which epoch stands.

PAST = Past(3, 77, "x", 500)


@pytest.mark.parametrize(
    ("found", "cluster", "revision", "went_back", "stands"),
    [
        (EpochRow(3, 77, "x"), 77, 500, False, True),
        (EpochRow(4, 77, "y"), 77, 20, False, True),  # begun by another host
        (EpochRow(3, 77, "x"), 78, 500, False, False),  # restored into another cluster
        (EpochRow(3, 77, "x"), 77, 499, False, False),
        (EpochRow(3, 77, "x"), 77, 900, True, False),
        (EpochRow(3, 77, "y"), 77, 900, False, False),  # of other hosts that saw less
        (EpochRow(2, 77, "w"), 77, 900, False, False),
    ],
)
def test_an_epoch_stands_for_the_data_it_was_begun_for(
    *, found: EpochRow, cluster: int, revision: int, went_back: bool, stands: bool
) -> None:
    assert goes_on(found, PAST, cluster, revision, went_back=went_back) is stands


def test_the_next_epoch_is_later_than_all_that_is_known() -> None:
    assert next_epoch(None, Past(), 5, "x") == EpochRow(1, 5, "x")
    assert next_epoch(EpochRow(9, 5, "w"), PAST, 5, "x") == EpochRow(10, 5, "x")
    assert next_epoch(EpochRow(1, 5, "w"), PAST, 5, "x") == EpochRow(4, 5, "x")


# Blocks.


@pytest.mark.parametrize(
    ("pool", "length"),
    [
        ("10.0.0.0/8", 24),
        ("10.0.0.0/16", 24),
        ("10.0.0.0/24", 28),
        ("10.0.0.0/28", 30),
        ("10.0.0.0/30", 30),
        ("10.0.0.0/31", 31),
        ("fd00::/48", 112),
        ("fd00::/64", 112),
        ("fd00::/112", 120),
        ("fd00::/126", 126),
    ],
)
def test_the_size_of_a_block_follows_the_pool(pool: str, length: int) -> None:
    assert blocks.prefix_length(ip_network(pool)) == length


@given(
    st.sampled_from(["10.0.0.0/24", "10.0.0.0/8", "fd00::/64", "10.0.0.0/31"]).map(ip_network),
    st.sampled_from([A, B, C]),
    st.integers(0, 40),
)
def test_each_block_is_chosen_once_and_within(pool: IPNetwork, me: HostID, count: int) -> None:
    rows: dict[IPNetwork, BlockRow] = {}
    try:
        for _ in range(count):
            block = blocks.choose(pool, pool, rows, me, rows)
            assert block not in rows
            assert block.prefixlen == blocks.prefix_length(pool)
            assert blocks.block_at(pool, block.network_address) == block
            assert blocks.block_at(pool, block[-1]) == block
            assert block.network_address in pool
            rows[block] = BlockRow(pool, block, me)
    except Exhausted:
        assert len(rows) == 2 ** (blocks.prefix_length(pool) - pool.prefixlen)


def test_hosts_look_for_a_block_from_different_places_on() -> None:
    assert len({blocks.choose(POOL, POOL, {}, host, ()) for host in (A, B, C)}) == 3


def test_a_block_that_has_our_name_and_is_not_ours_yet_comes_first() -> None:
    left = ip_network("10.50.9.0/24")
    rows = {BLOCK: BlockRow(POOL, BLOCK, A), left: BlockRow(POOL, left, A)}

    assert blocks.choose(POOL, POOL, rows, A, [BLOCK]) == left


def test_a_block_is_chosen_from_the_part_that_is_asked_for() -> None:
    part = ip_network("10.50.3.128/25")

    assert blocks.choose(POOL, part, {}, A, ()) == BLOCK
    with pytest.raises(Exhausted, match=f"all 1 blocks are taken .host {B} 1"):
        blocks.choose(POOL, part, {BLOCK: BlockRow(POOL, BLOCK, B)}, A, ())
    assert blocks.choose(POOL, part, {BLOCK: BlockRow(POOL, BLOCK, NOBODY)}, A, ()) == BLOCK


CLAIMED = BlockRow(POOL, BLOCK, NOBODY, 1, {ONE: Claim(B, agreed=True), TWO: Claim(A, agreed=True)})


def test_who_takes_a_block_keeps_the_claims_of_others() -> None:
    assert blocks.taken(CLAIMED, POOL, BLOCK, A) == BlockRow(POOL, BLOCK, A, 2, {ONE: Claim(B, agreed=True)})
    assert blocks.taken(None, POOL, BLOCK, A) == BlockRow(POOL, BLOCK, A, 1)


def test_a_block_without_owner_and_claims_is_no_row() -> None:
    assert blocks.given_back(BlockRow(POOL, BLOCK, A)) is None
    assert blocks.given_back(replace(CLAIMED, owner=A)) == CLAIMED
    assert blocks.without_claims(CLAIMED, [ONE, TWO]) is None
    assert blocks.without_claims(replace(CLAIMED, owner=C), [ONE, TWO]) == BlockRow(POOL, BLOCK, C, 1)


def test_a_claim_needs_the_owner_to_agree() -> None:
    assert blocks.with_claim(None, POOL, ONE, A).claims == {ONE: Claim(A, agreed=True)}
    asked = blocks.with_claim(BlockRow(POOL, BLOCK, B), POOL, ONE, A)
    assert asked.claims == {ONE: Claim(A, agreed=False)}
    assert blocks.with_answers(asked, {ONE: True}).claims == {ONE: Claim(A, agreed=True)}
    assert blocks.with_answers(asked, {ONE: False}).claims == {}
    assert blocks.with_answers(asked, {}) == asked


def test_what_removed_hosts_had_is_nobodys() -> None:
    row = replace(CLAIMED, owner=C)

    assert blocks.without_removed(row, {B, C}) == BlockRow(POOL, BLOCK, NOBODY, 1, {TWO: Claim(A, agreed=True)})


def test_our_claims_follow_what_we_hold() -> None:
    held = ip_address("10.50.3.9")
    row = blocks.with_holdings(CLAIMED, A, {held}, set())
    assert row is not None
    assert row.claims == {ONE: Claim(B, agreed=True), held: Claim(A, agreed=True)}
    assert blocks.with_holdings(CLAIMED, A, set(), {TWO}) == CLAIMED
    assert blocks.with_holdings(BlockRow(POOL, BLOCK, NOBODY), A, set(), set()) is None


# Segments.

BLUE = Segment(SegmentID("10.50.0.0/16"), 0, "blue", 1450, ("10.50.0.1/16",))


def test_a_vni_follows_from_the_name_and_gives_way() -> None:
    first = choose_vni(BLUE.id, ())

    assert first == choose_vni(BLUE.id, ())
    assert first >> 16 == 0x6D
    assert choose_vni(BLUE.id, [first]) == 0x6D0000 + (first + 1) % 0x10000
    with pytest.raises(Exhausted):
        choose_vni(BLUE.id, range(0x6D0000, 0x6E0000))


def test_each_difference_is_named() -> None:
    other = Segment(BLUE.id, 9, "green", 1400, (), ("10.50.0.9",), internal=True, icc=False, multicast=False)

    with pytest.raises(Conflict) as refused:
        check_agreement(BLUE, other)

    assert str(refused.value) == (
        "segment 10.50.0.0/16 exists with other settings on other hosts: mdnp.segment is green there, and blue here;"
        " the MTU is 1400 there, and 1450 here; the gateway is none there, and 10.50.0.1/16 here; auxiliary addresses"
        " is 10.50.0.9 there, and none here; --internal is on there, and off here;"
        " com.docker.network.bridge.enable_icc is off there, and on here; mdnp.multicast is off there, and on here."
        " Give this network the same, or remove the others first"
    )
    check_agreement(BLUE, replace(BLUE, vni=7))


def test_segments_that_share_addresses_are_refused() -> None:
    both = SegmentID("10.60.0.0/16,fd50::/64")
    check_overlap(both, [both, BLUE.id, SegmentID("fd51::/64")])

    with pytest.raises(Conflict, match="subnet fd50::/64 overlaps the segment fd50::/48"):
        check_overlap(both, [SegmentID("fd50::/48")])


# What to tell.


def test_what_is_told_follows_from_the_promises() -> None:
    options = NetworkOptions(mode=Mode.OVERLAY)
    net = Network(
        NetworkID("n"), (Subnet(POOL),), False, options, 1450, vni=7, host_addresses=(ip_interface("10.50.3.1/16"),)
    )
    local = Network(NetworkID("l"), (Subnet(ip_network("10.1.0.0/24")),), False, NetworkOptions(), 1500)
    here = Endpoint(
        EndpointID("e"),
        net.id,
        MAC("02:00:00:00:00:01"),
        True,
        (ip_interface("10.50.3.4/16"),),
        Phase.JOINED,
        generation=4,
    )
    left = replace(here, id=EndpointID("f"), phase=Phase.LEFT)
    other = replace(here, id=EndpointID("g"), network_id=local.id)
    promises = Promises({one.id: one for one in (net, local)}, {one.id: one for one in (here, left, other)}, {})

    rows = told.rows(A, promises, [SegmentID("10.60.0.0/16")], {"blue": "no space"})

    host_address = (ip_address("10.50.3.1"),)
    assert rows == [
        MemberRow(BLUE.id, A),
        MemberRow(SegmentID("10.60.0.0/16"), A),
        EndpointRow(BLUE.id, A, "host", derived_mac(net.host_addresses, net.id), host_address),
        EndpointRow(BLUE.id, A, "e", here.mac, (ONE,), 4, given=True),
        DoneRow("blue", A, "no space"),
    ]


def told_of(dns: bool | None, called: Called | None) -> EndpointRow:
    """The row of an endpoint with published ports, on an overlay with or without names."""
    net = Network(NetworkID("n"), (Subnet(POOL),), False, NetworkOptions(mode=Mode.OVERLAY, dns=dns), 1450, vni=7)
    ports = tuple(
        Publication(PortRequest(protocol, port), host)
        for protocol, port, host in (
            (Protocol.TCP, 80, 8080),
            (Protocol.UDP, 53, 5353),
            (Protocol.TCP, 80, 8081),
        )
    )
    end = Endpoint(EndpointID("e"), net.id, MAC("02:00:00:00:00:01"), False, (ip_interface("10.50.3.4/16"),))
    promises = Promises(
        {net.id: net},
        {end.id: replace(end, ports=ports)},
        {},
        called={called.id: called} if called else {},
    )
    (row,) = (one for one in told.rows(A, promises, [], {}) if isinstance(one, EndpointRow))
    return row


def test_an_endpoint_is_told_with_its_names_and_with_each_port_once() -> None:
    names = Names("web", ("www",))
    ports = ((Protocol.TCP, 80), (Protocol.UDP, 53))

    rows = [told_of(None, Called("e", names)), told_of(None, None), told_of(False, Called("e", names))]

    assert [(one.names, one.ports) for one in rows] == [(names, ports), (None, ports), (None, ())]


def test_only_what_differs_is_written() -> None:
    same, new, changed = DoneRow("same", A, ""), DoneRow("new", A, ""), DoneRow("changed", A, "late")
    present = {key(same): value(same), key(changed): value(DoneRow("changed", A, "")), "/mdnp/v1/old": b"{}"}

    assert told.missing([same, new, changed], present) == [
        Delete("/mdnp/v1/old"),
        Put(key(new), value(new)),
        Put(key(changed), value(changed)),
    ]
