"""A member's life: taking a seat, telling, following, losing etcd and coming back."""

import asyncio
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from mdnp.cluster import ClusterUnavailable, Delete, Put
from mdnp.member import Liveness
from mdnp.model.errors import Conflict, MdnpError
from mdnp.model.identity import EndpointID
from mdnp.model.names import Names
from mdnp.store import Put as Promise
from tests.member.hours import in_hours
from tests.member.lab import BLUE, LEASE_S, POOL, Machine, Wanted, blue, lab, quiet

A_WHILE_S = 2 * LEASE_S + 5


def liveness(seer: Machine, seen: Machine) -> Liveness:
    return next(one.liveness for one in seer.member.standing().hosts if one.host.id == seen.id)


@in_hours
async def test_hosts_see_each_others_endpoints() -> None:
    async with lab(2) as hosts:
        one, two = hosts.machines
        await one.network()
        await two.network()
        endpoint = await one.attach()
        await two.attach()
        await quiet()

        assert two.seen == one.promised
        assert one.seen == two.promised
        assert list(map(str, one.member.members_of(BLUE))) == ["192.0.2.2"]
        assert one.trouble == ""

        await one.detach(endpoint)
        await quiet()

        assert two.seen == []


@in_hours
async def test_names_travel_with_endpoints_and_a_change_of_them_is_news() -> None:
    async with lab(2) as hosts:
        one, two = hosts.machines
        await one.network()
        await two.network()
        endpoint = await one.attach()
        other = await one.attach()
        await quiet()
        at = str(endpoint.addresses[0].ip)
        assert two.names == {at: None, str(other.addresses[0].ip): None}

        for names in (Names("web", ("www",)), Names("web2", ("www",))):
            two.news.clear()
            await one.call(endpoint, names)
            await quiet()

            assert two.names[at] == names
            assert [len(news.remotes) for news in two.news] == [1]

        hosts.cluster.away = True
        await two.stop()
        await two.start()
        await quiet()
        assert two.names[at] == Names("web2", ("www",))


@in_hours
async def test_a_change_costs_one_request() -> None:
    async with lab(2) as hosts:
        one, two = hosts.machines
        await one.network()
        await two.network()
        await quiet()
        before, others = len(one.line.written), len(two.line.written)

        await one.attach()
        await quiet()

        assert len(one.line.written) == before + 1
        assert len(two.line.written) == others


@in_hours
async def test_a_host_that_dies_is_withdrawn_after_its_lease_and_comes_back() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        await one.stop()
        await quiet(LEASE_S / 2)
        assert two.seen == one.promised
        await quiet(A_WHILE_S)

        assert two.seen == []
        assert two.member.members_of(BLUE) == []
        assert liveness(two, one) is Liveness.GONE

        await one.start()
        await quiet()

        assert two.seen == one.promised
        assert liveness(two, one) is Liveness.ALIVE


@in_hours
async def test_a_thaw_that_ends_all_leases_withdraws_nobody() -> None:
    async with blue(4) as hosts:
        before = [one.seen for one in hosts.machines]
        for one in hosts.machines:
            one.news.clear()

        hosts.cluster.freeze()
        await quiet(A_WHILE_S)
        assert [one.seen for one in hosts.machines] == before
        hosts.cluster.thaw()
        await quiet(A_WHILE_S)

        assert [one.seen for one in hosts.machines] == before
        assert [news.remotes for one in hosts.machines for news in one.news] == []
        assert [one.trouble for one in hosts.machines] == [""] * 4


@in_hours
async def test_a_host_that_died_during_a_freeze_is_withdrawn_later() -> None:
    async with blue(3) as hosts:
        one, two, three = hosts.machines
        hosts.cluster.freeze()
        await quiet(10)
        await three.stop()
        hosts.cluster.thaw()
        await quiet(LEASE_S - 2)
        assert one.seen == sorted([*two.promised, *three.promised])
        await quiet(A_WHILE_S)

        assert one.seen == two.promised


@in_hours
async def test_while_etcd_is_away_everything_known_stays_and_is_told_at_its_return() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        gone = next(iter(one.notebook.endpoints.values()))

        hosts.cluster.go()
        await quiet(600)
        await one.detach(gone)
        await one.attach()
        await one.attach()
        await quiet()
        assert two.seen == [f"{gone.addresses[0].ip} on {one.vtep}"]
        assert one.member.standing().pending == 3
        assert one.member.standing().connected is False
        assert "no server answers" in one.trouble
        hosts.cluster.come_back()
        await quiet()

        assert two.seen == one.promised
        assert one.member.standing().pending == 0


@in_hours
async def test_what_needs_an_agreement_fails_at_once_while_etcd_is_away() -> None:
    async with blue(1) as hosts:
        (one,) = hosts.machines
        hosts.cluster.go()
        await quiet()

        with pytest.raises(ClusterUnavailable, match="no server answers"):
            await one.member.claim_block(ip_network(POOL), ip_network(POOL))
        with pytest.raises(ClusterUnavailable, match="no server answers"):
            await one.network(Wanted(("10.60.0.0/16",)))


@in_hours
async def test_no_call_takes_longer_than_a_second_when_etcd_freezes() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        theirs = next(iter(two.notebook.blocks.values())).network
        hosts.cluster.freeze()
        began = asyncio.get_running_loop().time()

        calls = [
            one.member.claim_block(ip_network(POOL), ip_network(POOL)),
            one.member.claim_address(ip_network(POOL), theirs[9]),
            one.network(Wanted(("10.60.0.0/16",))),
        ]
        failed = await asyncio.gather(*calls, return_exceptions=True)

        assert all(isinstance(error, ClusterUnavailable) for error in failed), failed
        assert asyncio.get_running_loop().time() - began <= 1.001


@in_hours
async def test_a_start_without_etcd_goes_on_from_what_was_known() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        await quiet()
        await two.stop()
        hosts.cluster.go()
        await two.start()
        await quiet(60)

        assert two.seen == one.promised
        assert list(map(str, two.member.members_of(BLUE))) == [str(one.vtep)]
        assert liveness(two, one) is Liveness.UNKNOWN


@in_hours
async def test_a_host_without_a_network_of_a_segment_is_no_member() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        await two.remove_network()
        await quiet()

        assert one.member.members_of(BLUE) == []
        assert one.seen == []
        assert hosts.cluster.keys(two.id) == [f"alive/{two.id}", f"hosts/{two.id}"]


@in_hours
async def test_the_last_member_takes_the_segment_away() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        assert hosts.cluster.keys("segments/") == ["segments/10.50.0.0_16"]
        await one.remove_network()
        await quiet()
        assert hosts.cluster.keys("segments/") == ["segments/10.50.0.0_16"]
        await two.remove_network()
        await quiet()

        assert hosts.cluster.keys("segments/") + hosts.cluster.keys("vnis/") == []
        assert hosts.cluster.keys("blocks/") == []


@in_hours
async def test_a_segment_whose_network_never_came_is_left() -> None:
    async with lab(1) as hosts:
        (one,) = hosts.machines

        async def refuse(*_: object) -> None:
            raise ClusterUnavailable("no block")

        one.member.claim_block = refuse  # type: ignore[assignment, method-assign]
        with pytest.raises(ClusterUnavailable):
            await one.network()
        await quiet()

        assert hosts.cluster.keys("members/") + hosts.cluster.keys("segments/") == []


@in_hours
async def test_many_changes_go_out_in_commits_of_a_hundred() -> None:
    async with blue(1, endpoints=0) as hosts:
        (one,) = hosts.machines
        hosts.cluster.go()
        for _ in range(150):
            await one.attach()
        one.line.written.clear()
        hosts.cluster.come_back()
        await quiet()

        assert [len(changes) for changes in one.line.written if len(changes) > 1] == [100, 50]


@in_hours
async def test_all_hosts_join_a_new_segment_at_once() -> None:
    async with lab(12) as hosts:
        made = await asyncio.gather(*(one.network() for one in hosts.machines))
        await quiet()

        assert len({one.vni for one in made}) == 1
        blocks = [block.network for one in hosts.machines for block in one.notebook.blocks.values()]
        assert len(blocks) == len(set(blocks)) == 12
        assert len(hosts.machines[0].member.members_of(BLUE)) == 11


@in_hours
async def test_differing_settings_are_refused_with_each_difference() -> None:
    async with blue(2) as hosts:
        three = await hosts.add()

        with pytest.raises(Conflict) as refused:
            await three.network(Wanted(label="green", mtu=1400, multicast=False))

        for words in ("mdnp.segment is 10.50.0.0/16 there, and green here", "the MTU is 1450", "mdnp.multicast is on"):
            assert words in str(refused.value)


@in_hours
async def test_a_segment_that_overlaps_another_is_refused() -> None:
    async with blue(1) as hosts:
        two = await hosts.add()

        with pytest.raises(Conflict, match=r"10\.50\.3\.0/24 overlaps the segment 10\.50\.0\.0/16"):
            await two.network(Wanted(("10.50.3.0/24",)))


@in_hours
async def test_of_two_overlapping_segments_made_at_once_one_stays() -> None:
    async with lab(2) as hosts:
        one, two = hosts.machines
        made = await asyncio.gather(one.network(), two.network(Wanted(("10.50.3.0/24",))), return_exceptions=True)
        await quiet()

        assert sorted(isinstance(one, Conflict) for one in made) in ([False, True], [True, True])
        assert (
            len(hosts.cluster.keys("segments/"))
            == len(hosts.cluster.keys("vnis/"))
            == made.count(made[0]) - 1 + sum(not isinstance(one, MdnpError) for one in made)
        )


@in_hours
async def test_a_host_is_refused_while_another_has_its_identity() -> None:
    async with blue(1) as hosts:
        (one,) = hosts.machines
        copy = await hosts.add("copy", start=False)
        copy.notebook.facts.update(one.notebook.facts)
        await copy.start()
        await quiet()

        assert "another host with our identity" in copy.trouble
        assert one.trouble == ""
        assert one.promised != []
        assert f"endpoints/10.50.0.0_16/{one.id}" in hosts.cluster.keys("endpoints/")[0]

        await one.stop()
        await quiet(A_WHILE_S)

        assert copy.trouble == ""


@in_hours
async def test_a_daemon_that_starts_again_takes_its_own_place_at_once() -> None:
    async with blue(1) as hosts:
        (one,) = hosts.machines
        await one.stop()
        await one.start()
        await quiet(1)

        assert one.trouble == ""


@in_hours
async def test_a_host_is_refused_while_another_has_its_vtep() -> None:
    async with blue(1) as hosts:
        two = await hosts.add(start=False)
        two.vtep = hosts.machines[0].vtep
        await two.start()
        await quiet()
        assert "VTEP 192.0.2.1 is also that of host host1" in two.trouble
        assert two.seen == [], "it is followed, but has no tunnel to itself"
        assert hosts.cluster.keys(two.id) == []

        two.vtep = ip_address("192.0.2.77")
        await quiet()

        assert two.trouble == ""


@in_hours
async def test_of_two_hosts_with_one_vtep_that_come_at_once_one_leaves() -> None:
    async with lab() as hosts:
        one, two = [await hosts.add(start=False) for _ in range(2)]
        two.vtep = one.vtep
        await asyncio.gather(one.start(), two.start())
        await quiet(10)

        assert sorted([one.trouble == "", two.trouble == ""]) == [False, True]


@in_hours
async def test_a_host_whose_vtep_is_not_known_is_refused_and_says_what_to_do() -> None:
    async with lab() as hosts:
        one = await hosts.add(start=False)
        one.vtep = None
        await one.start()
        await quiet()
        assert "--host-address" in one.trouble
        with pytest.raises(ClusterUnavailable, match="--host-address"):
            _ = one.member.host

        one.vtep = ip_address("192.0.2.9")
        await quiet()

        assert one.trouble == ""


@in_hours
async def test_a_changed_vtep_is_told() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        await one.stop()
        one.vtep = ip_address("192.0.2.200")
        await one.start()
        await quiet()

        assert two.seen == one.promised
        assert list(map(str, two.member.members_of(BLUE))) == ["192.0.2.200"]


@in_hours
async def test_data_of_another_version_is_refused_and_not_touched() -> None:
    async with lab() as hosts:
        await hosts.cluster.commit([], [Put("/mdnp/v1/format", b'{"version":2}')])
        one = await hosts.add()
        await quiet()

        assert "wrong cluster data version: etcd has version 2" in one.trouble
        assert hosts.cluster.keys() == ["format"]


@in_hours
async def test_a_row_that_cannot_be_read_is_reported_and_hurts_nothing() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        bad = f"/mdnp/v1/endpoints/10.50.0.0_16/{one.id}/bad"
        await hosts.cluster.commit(
            [], [Put("/mdnp/v1/hosts/x", b"\xff"), Put("/mdnp/v1/new/thing", b"{}"), Put(bad, b"[]")]
        )
        await quiet()

        assert two.seen == one.promised
        assert len([text for text in two.remarks if text.endswith("ignored")]) == 2
        assert bad not in hosts.cluster.entries, "it is ours to tell, and we do not tell it"


@in_hours
async def test_the_newest_generation_has_an_address() -> None:
    async with blue(3, endpoints=0) as hosts:
        one, two, three = hosts.machines
        old = await one.attach()
        await quiet()
        # As after a `host remove` that this host has not heard of yet.
        two.addresses.held.add((ip_network(POOL), old.addresses[0].ip))
        newer = replace(old, id=EndpointID("newer"), generation=old.generation + 1, network_id=old.network_id)
        await two.notebook.commit(Promise(newer))
        two.member.tell()
        await quiet()

        assert three.seen == [f"{old.addresses[0].ip} on {two.vtep}"]
        assert any("is on several hosts" in text for text in three.remarks)
        assert one.seen == [], "ours is here"


@in_hours
async def test_one_mac_given_on_two_hosts_is_reported() -> None:
    async with blue(2, endpoints=0) as hosts:
        one, two = hosts.machines
        await one.attach(mac="02:00:00:00:00:07")
        await two.attach(mac="02:00:00:00:00:07")
        await quiet()

        for host in hosts.machines:
            assert any("MAC 02:00:00:00:00:07" in text and "several hosts" in text for text in host.remarks)


@in_hours
async def test_a_clock_that_differs_is_reported_and_decides_nothing() -> None:
    async with blue(1) as hosts:
        two = await hosts.add(start=False)
        two.clock = 9000.0
        await two.start()
        await quiet(1)
        await two.network()
        await two.attach()
        await quiet()

        assert any("the clock of host host2" in text and "+8000 s" in text for text in hosts.machines[0].remarks)
        assert hosts.machines[0].seen == two.promised


@in_hours
async def test_a_row_that_somebody_took_away_is_told_again() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        await hosts.cluster.commit([], [Delete(f"/mdnp/v1/{key}") for key in hosts.cluster.keys(f"/{one.id}/")])
        await quiet()

        assert two.seen == one.promised


@in_hours
async def test_a_compacted_history_is_made_good_by_a_snapshot() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        two.line.cut = True
        await quiet(5)
        await one.attach()
        await quiet(1)
        hosts.cluster.compact()
        two.line.cut = False
        await quiet(5)

        assert two.seen == one.promised


@in_hours
async def test_a_short_break_costs_no_snapshot_and_no_new_seat() -> None:
    async with blue(2) as hosts:
        _one, two = hosts.machines
        alive = hosts.cluster.entries[f"/mdnp/v1/alive/{two.id}"]
        before = two.member.standing().requests["grant"]
        hosts.cluster.break_watches()
        await quiet()

        assert hosts.cluster.entries[f"/mdnp/v1/alive/{two.id}"] == alive
        assert two.member.standing().requests["grant"] == before
        assert two.trouble == ""


@in_hours
async def test_a_full_disk_keeps_nobody_out_of_the_cluster() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        two.notebook.trouble = "disk full"
        await one.attach()
        await quiet(5)
        assert two.seen == one.promised
        two.notebook.trouble = ""
        await one.attach()
        await quiet(5)

        stored = [key for key in two.notebook.rows if f"endpoints/10.50.0.0_16/{one.id}" in key]
        assert len(stored) == 3


@in_hours
async def test_nothing_is_busy_while_etcd_is_away() -> None:
    async with blue(1) as hosts:
        (one,) = hosts.machines
        hosts.cluster.go()
        await quiet(5)
        before = one.member.standing().requests["snapshot"]
        await quiet(100)

        assert 50 <= one.member.standing().requests["snapshot"] - before <= 110


@in_hours
async def test_a_lease_that_etcd_ended_is_replaced_at_once() -> None:
    async with blue(2) as hosts:
        hosts.cluster.expire()
        await quiet(1)

        assert len(hosts.cluster.keys("alive/")) == 2


@in_hours
async def test_who_asks_before_etcd_has_answered_the_first_time_waits_for_it() -> None:
    async with blue(1) as hosts:
        other = await hosts.add(start=False)
        await other.start()
        network = await other.network()

        assert network.vni == next(iter(hosts.machines[0].notebook.networks.values())).vni
