"""etcd's data is lost or restored: an epoch begins, every host tells anew, and nothing moves."""

from ipaddress import ip_network

import pytest

from mdnp.cluster import ClusterUnavailable, Delete, Put
from mdnp.member import DeclaredNetwork, DeclaredSubnet
from tests.member.hours import in_hours
from tests.member.lab import LEASE_S, POOL, Lab, Machine, Wanted, blue, quiet

A_WHILE_S = 2 * LEASE_S + 5
_POOL = ip_network(POOL)


def removals(hosts: Lab) -> list[object]:
    """What was taken out of an outlook and put back, or changed there."""
    return [news.remotes for one in hosts.machines for news in one.news if news.remotes]


async def everything_is_as_before(hosts: Lab, before: list[list[str]]) -> None:
    assert [one.seen for one in hosts.machines] == before
    assert removals(hosts) == []
    assert [one.trouble for one in hosts.machines] == [""] * len(before)
    assert [one.remarks for one in hosts.machines] == [[]] * len(before)


@in_hours
async def test_all_is_told_anew_and_nothing_moves() -> None:
    async with blue(3, endpoints=2) as hosts:
        before, keys = [one.seen for one in hosts.machines], hosts.cluster.keys()
        for one in hosts.machines:
            one.news.clear()
        hosts.cluster.lose()
        await quiet(10)

        await everything_is_as_before(hosts, before)
        assert hosts.cluster.keys() == keys
        assert {one.member.standing().epoch for one in hosts.machines} == {2}


@in_hours
async def test_an_older_copy_of_the_data_moves_nothing() -> None:
    async with blue(3, endpoints=2) as hosts:
        backup = dict(hosts.cluster.entries)
        one, two, _ = hosts.machines
        await two.detach(next(iter(two.notebook.endpoints.values())))
        await one.attach()
        await quiet()
        before = [one.seen for one in hosts.machines]
        for one in hosts.machines:
            one.news.clear()
        hosts.cluster.lose({key: entry for key, entry in backup.items() if "/alive/" not in key})
        await quiet(10)

        await everything_is_as_before(hosts, before)


@in_hours
async def test_a_copy_from_before_that_has_grown_past_us_is_found_out() -> None:
    """The revision is higher than the one we saw, but keys are older."""
    async with blue(2) as hosts:
        one, two = hosts.machines
        backup = dict(hosts.cluster.entries)
        await two.detach(next(iter(two.notebook.endpoints.values())))
        await one.attach()
        await quiet()
        before = [one.seen for one in hosts.machines]
        for host in hosts.machines:
            await host.stop()
        hosts.cluster.lose({key: entry for key, entry in backup.items() if "/alive/" not in key})
        hosts.cluster.revision += 1000
        for host in hosts.machines:
            await host.start()
        await quiet(10)

        await everything_is_as_before_but_for_news(hosts, before)
        assert {one.member.standing().epoch for one in hosts.machines} == {2}


@in_hours
async def test_a_copy_from_before_in_which_other_things_happened_since_is_found_out() -> None:
    """It has come to the very revision that we had followed to, and no key in it is older than we saw it."""
    async with blue(2) as hosts:
        one, two = hosts.machines
        backup, revision = dict(hosts.cluster.entries), hosts.cluster.revision
        await one.attach()
        await two.attach()
        await quiet()
        followed = hosts.cluster.revision
        for host in hosts.machines:
            host.line.cut = True
        before, keys = [one.seen for one in hosts.machines], hosts.cluster.keys()
        await quiet(5)
        hosts.cluster.lose(backup)
        while hosts.cluster.revision < followed:
            await hosts.cluster.commit([], [Put("others", b"")])
        assert hosts.cluster.revision == followed > revision
        for host in hosts.machines:
            host.line.cut = False
        await quiet(10)

        await everything_is_as_before_but_for_news(hosts, before)
        assert {*hosts.cluster.keys()} == {*keys, "others"}
        assert {one.member.standing().epoch for one in hosts.machines} == {2}


async def everything_is_as_before_but_for_news(hosts: Lab, before: list[list[str]]) -> None:
    assert [one.seen for one in hosts.machines] == before
    assert [one.trouble for one in hosts.machines] == [""] * len(before)


@in_hours
async def test_all_keys_deleted_by_hand_moves_nothing() -> None:
    async with blue(2) as hosts:
        before, keys = [one.seen for one in hosts.machines], hosts.cluster.keys()
        for one in hosts.machines:
            one.news.clear()
        await hosts.cluster.commit([], [Delete(key) for key in list(hosts.cluster.entries)])
        await quiet(10)

        await everything_is_as_before(hosts, before)
        assert hosts.cluster.keys() == keys


@in_hours
async def test_another_cluster_id_begins_an_epoch() -> None:
    async with blue(2) as hosts:
        entries = dict(hosts.cluster.entries)
        hosts.cluster.lose({key: entry for key, entry in entries.items() if "/alive/" not in key})
        hosts.cluster.cluster = 77
        await quiet(10)

        assert {one.member.standing().epoch for one in hosts.machines} == {2}
        assert [one.trouble for one in hosts.machines] == ["", ""]


@in_hours
async def test_nothing_new_is_agreed_on_until_every_host_known_before_has_told() -> None:
    async with blue(3) as hosts:
        one, two, three = hosts.machines
        theirs = next(iter(two.notebook.blocks.values())).network
        before = one.seen
        three.line.cut = True
        hosts.cluster.lose()
        await quiet(5)

        named = rf"waited for: host3 \({three.id}\).*mdnp host remove {three.id}"
        with pytest.raises(ClusterUnavailable, match=named):
            await one.member.claim_block(_POOL, _POOL)
        with pytest.raises(ClusterUnavailable, match=named):
            await one.member.claim_address(_POOL, theirs[77])
        with pytest.raises(ClusterUnavailable, match=named):
            await one.network(Wanted(("10.60.0.0/16",)))
        assert one.member.standing().waiting == (f"host3 ({three.id})",)
        assert one.seen == before, "what the third told before is kept: it may only be cut off"

        three.line.cut = False
        await quiet()

        await one.network(Wanted(("10.60.0.0/16",)))
        assert one.seen == before


@in_hours
async def test_a_host_that_is_removed_is_waited_for_no_more() -> None:
    async with blue(3) as hosts:
        one, two, three = hosts.machines
        await three.stop()
        hosts.cluster.lose()
        await quiet(10)
        assert one.member.standing().waiting == (f"host3 ({three.id})",)

        await two.member.remove_host(three.id)
        await quiet()

        await one.member.claim_block(_POOL, _POOL)
        assert one.seen == two.promised


@in_hours
async def test_a_host_that_was_restarted_meanwhile_waits_too() -> None:
    async with blue(3) as hosts:
        one, _, three = hosts.machines
        await quiet()
        three.line.cut = True
        await one.stop()
        hosts.cluster.lose()
        await one.start()
        await quiet(5)

        with pytest.raises(ClusterUnavailable, match="host3"):
            await one.member.claim_block(_POOL, _POOL)


@in_hours
async def test_a_host_that_is_new_waits_for_those_of_a_backup() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        await two.stop()
        await quiet()
        hosts.cluster.lose({key: entry for key, entry in hosts.cluster.entries.items() if "/alive/" not in key})
        hosts.cluster.cluster = 5
        new = await hosts.add()
        await quiet()
        assert one.trouble == ""

        with pytest.raises(ClusterUnavailable, match="host2"):
            await new.member.claim_block(_POOL, _POOL)


@in_hours
async def test_a_host_that_returns_to_an_epoch_begun_without_it_tells_all_and_keeps_all() -> None:
    async with blue(2, endpoints=2) as hosts:
        one, two = hosts.machines
        two.line.cut = True
        await quiet()
        hosts.cluster.lose()
        await quiet(10)
        seen = two.seen
        await two.attach()
        two.news.clear()
        two.line.cut = False
        await quiet()

        assert two.seen == seen == one.promised
        assert one.seen == two.promised
        assert [news.remotes for news in two.news if news.remotes] == []


@in_hours
async def test_what_a_backup_brings_back_of_a_host_does_not_count_until_it_told() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        backup = dict(hosts.cluster.entries)
        await two.detach(next(iter(two.notebook.endpoints.values())))
        await quiet()
        two.line.cut = True
        hosts.cluster.lose({key: entry for key, entry in backup.items() if "/alive/" not in key})
        await quiet(5)

        assert one.seen == [], "as it told last, not as the backup has it"


@in_hours
async def test_a_block_that_two_hosts_have_is_handed_out_from_by_one_and_reported() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        block = next(iter(one.notebook.blocks.values()))
        # As when both were told that it is theirs: by a backup, and a host that nobody remembered.
        two.notebook.blocks[block.id] = block
        two.line.cut = True
        hosts.cluster.lose()
        await quiet(5)
        two.line.cut = False
        await quiet(5)

        assert two.addresses.lost == [block]
        assert block.id not in two.notebook.blocks
        assert block.id in one.notebook.blocks


@in_hours
async def test_a_claim_is_put_back_by_who_keeps_it_and_who_has_it() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        theirs = next(iter(two.notebook.blocks.values())).network
        endpoint = await one.attach(at=str(theirs[77]))
        free = await one.attach(at="10.50.255.7")
        await quiet()
        keys = hosts.cluster.keys()
        hosts.cluster.lose()
        await quiet(10)

        assert hosts.cluster.keys() == keys
        assert len(two.addresses.kept) == 1
        assert two.seen == one.promised
        await one.detach(endpoint)
        await one.detach(free)
        await quiet(5)

        assert two.addresses.kept == {}
        assert hosts.cluster.keys("blocks/10.50.0.0_16/10.50.255.0_24") == []


@in_hours
async def test_declared_networks_and_tombstones_are_remembered() -> None:
    async with blue(3) as hosts:
        one, two, three = hosts.machines
        await one.member.declare(DeclaredNetwork("green", (DeclaredSubnet("10.70.0.0/16"),)))
        await three.stop()
        await quiet(A_WHILE_S)
        await one.member.remove_host(three.id)
        await quiet()
        for host in (one, two):
            host.news.clear()
        hosts.cluster.lose()
        await quiet(10)

        assert hosts.cluster.keys("networks/") == ["networks/green"]
        assert hosts.cluster.keys("removed/") == [f"removed/{three.id}"]
        assert [news.networks for host in (one, two) for news in host.news if news.networks] == []
        assert one.member.standing().waiting == ()


@in_hours
async def test_a_host_that_tells_nothing_else_is_heard_too() -> None:
    """A segment that etcd lost and no host remembers comes from the network that is promised."""
    async with blue(1) as hosts:
        (one,) = hosts.machines
        segment, vni = hosts.cluster.keys("segments/") + hosts.cluster.keys("vnis/")
        await hosts.cluster.commit([], [Delete(f"/mdnp/v1/{segment}"), Delete(f"/mdnp/v1/{vni}")])
        await quiet(5)

        assert hosts.cluster.keys("segments/") + hosts.cluster.keys("vnis/") == [segment, vni]
        assert one.remarks == []


@in_hours
async def test_another_vni_for_our_segment_is_reported_and_not_taken() -> None:
    async with blue(1) as hosts:
        (one,) = hosts.machines
        key = "/mdnp/v1/segments/10.50.0.0_16"
        entry = hosts.cluster.entries[key]
        await hosts.cluster.commit([], [Put(key, entry.value.replace(str(_vni(one)).encode(), b"7"))])
        await quiet(5)

        assert any("has VNI 7 on other hosts" in text for text in one.remarks)
        assert next(iter(one.notebook.networks.values())).vni == _vni(one)


def _vni(machine: Machine) -> int:
    return next(one.vni for one in machine.notebook.networks.values() if str(one.id) == POOL)


@in_hours
async def test_what_is_kept_for_a_host_that_is_cut_off_stays_kept() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        theirs = next(iter(two.notebook.blocks.values())).network
        await one.attach(at=str(theirs[77]))
        await quiet()
        kept = dict(two.addresses.kept)
        one.line.cut = True
        hosts.cluster.lose()
        await quiet(100)

        assert two.addresses.kept == kept != {}
        (key,) = hosts.cluster.keys(f"blocks/10.50.0.0_16/{theirs.network_address}")
        assert one.id.encode() in hosts.cluster.entries[f"/mdnp/v1/{key}"].value


@in_hours
async def test_epochs_that_two_groups_of_hosts_began_apart_are_told_apart() -> None:
    """Data is lost twice, and each time other hosts are first: they begin epochs of the same number."""
    async with blue(4) as hosts:
        one, two, three, four = hosts.machines
        before = [host.seen for host in hosts.machines]
        for host in (two, four):
            host.line.cut = True
        hosts.cluster.lose()
        await quiet(5)
        for host in hosts.machines:
            host.line.cut = host in (one, three)
        hosts.cluster.lose()
        await quiet(5)
        for host in (one, three):
            host.line.cut = False
        await quiet(20)

        assert [host.seen for host in hosts.machines] == before
        assert [host.trouble for host in hosts.machines] == [""] * 4
        assert [host.member.standing().waiting for host in hosts.machines] == [()] * 4
        assert {host.member.standing().epoch for host in hosts.machines} == {3}
