"""Blocks and addresses that hosts ask each other for."""

import asyncio
from ipaddress import ip_address, ip_network

import pytest

from mdnp.cluster import ClusterUnavailable
from mdnp.member import Foreign
from mdnp.model.errors import Conflict, Exhausted
from mdnp.model.segment import Block
from mdnp.store import Drop
from tests.member.hours import in_hours
from tests.member.lab import LEASE_S, POOL, Machine, Wanted, blue, lab, quiet

_POOL = ip_network(POOL)


def first_block(machine: Machine) -> Block:
    return next(iter(machine.notebook.blocks.values()))


@in_hours
async def test_a_block_is_in_etcd_and_in_the_store_before_it_is_ours() -> None:
    async with blue(1) as hosts:
        (one,) = hosts.machines
        block = await one.member.claim_block(_POOL, _POOL)

        assert block.id in one.notebook.blocks
        assert one.id.encode() in hosts.cluster.entries[_key(block)].value


@in_hours
async def test_no_two_hosts_have_one_block() -> None:
    async with blue(4, endpoints=0) as hosts:
        small = ip_network("10.50.0.0/20")
        asked = [one.member.claim_block(_POOL, small) for one in hosts.machines for _ in range(5)]
        got = await asyncio.gather(*asked, return_exceptions=True)
        blocks = [one.network for one in got if isinstance(one, Block)]

        assert len(blocks) == len(set(blocks)) == 16
        assert all(small.overlaps(block) for block in blocks)
        assert {type(one) for one in got} == {Block, Exhausted}
        assert "all 16 blocks are taken" in str(next(one for one in got if isinstance(one, Exhausted)))


@in_hours
async def test_a_block_dropped_from_the_store_is_given_back() -> None:
    async with blue(1) as hosts:
        (one,) = hosts.machines
        block = await one.member.claim_block(_POOL, _POOL)
        await one.notebook.commit(Drop(block))
        one.member.tell()
        await quiet(1)

        assert _key(block) not in hosts.cluster.entries


@in_hours
async def test_a_block_claimed_by_a_daemon_that_was_killed_then_is_given_back_or_used() -> None:
    async with blue(1) as hosts:
        (one,) = hosts.machines
        block = await one.member.claim_block(_POOL, _POOL)
        del one.notebook.blocks[block.id]
        again = await one.member.claim_block(_POOL, _POOL)

        assert again == block


@in_hours
async def test_an_address_of_a_block_that_nobody_has_is_claimed_and_given_back() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        endpoint = await one.attach(at="10.50.255.9")
        with pytest.raises(Conflict, match=r"10\.50\.255\.9 is held on host host1"):
            await two.attach(at="10.50.255.9")
        await two.attach(at="10.50.255.10")
        await quiet(1)
        await one.detach(endpoint)
        await quiet(1)

        assert b"255.9" not in hosts.cluster.entries["/mdnp/v1/blocks/10.50.0.0_16/10.50.255.0_24"].value
        assert b"255.10" in hosts.cluster.entries["/mdnp/v1/blocks/10.50.0.0_16/10.50.255.0_24"].value


@in_hours
async def test_an_owner_agrees_to_a_claim_of_a_free_address_and_keeps_it() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        address = first_block(two).network[77]
        endpoint = await one.attach(at=str(address))

        assert list(two.addresses.foreign()) == [Foreign(_POOL, address, one.id)]
        await quiet(1)
        assert two.seen == one.promised
        await one.detach(endpoint)
        await quiet(1)

        assert list(two.addresses.foreign()) == []


@in_hours
async def test_an_owner_refuses_what_it_holds_or_keeps_for_another() -> None:
    async with blue(3) as hosts:
        one, two, three = hosts.machines
        held = next(address for _, address in two.addresses.held)
        kept = first_block(two).network[77]
        await three.attach(at=str(kept))

        with pytest.raises(Conflict, match=f"{held} is held on host host2"):
            await one.attach(at=str(held))
        with pytest.raises(Conflict, match=f"{kept} is held on host host3"):
            await one.attach(at=str(kept))
        await quiet(1)
        assert one.id.encode() not in hosts.cluster.entries[_key(first_block(two))].value


@in_hours
async def test_an_owner_that_is_cut_off_does_not_agree_and_is_named() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        address = first_block(two).network[77]
        two.line.cut = True
        began = asyncio.get_running_loop().time()

        with pytest.raises(Conflict, match=rf"host host2 \({two.id}\), which does not answer.*host remove {two.id}"):
            await one.attach(at=str(address))

        assert asyncio.get_running_loop().time() - began <= 1
        assert one.id.encode() not in hosts.cluster.entries[_key(first_block(two))].value


@in_hours
async def test_an_owner_that_is_away_is_named_at_once() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        await two.stop()
        await quiet(LEASE_S + 1)
        began = asyncio.get_running_loop().time()

        with pytest.raises(Conflict, match="mdnp host remove"):
            await one.attach(at=str(first_block(two).network[77]))

        assert asyncio.get_running_loop().time() == began


@in_hours
async def test_a_fixed_address_of_a_host_that_died_can_be_had_after_its_removal() -> None:
    async with blue(3) as hosts:
        one, two, three = hosts.machines
        endpoint = next(iter(two.notebook.endpoints.values()))
        address = str(endpoint.addresses[0].ip)
        await two.stop()
        await quiet(2 * LEASE_S + 5)
        with pytest.raises(Conflict, match=f"mdnp host remove {two.id}"):
            await one.attach(at=address)
        await one.member.remove_host(two.id)
        await quiet(1)

        await one.attach(at=address)
        await quiet(1)

        assert f"{address} on {one.vtep}" in three.seen
        assert hosts.cluster.keys(two.id) == [f"removed/{two.id}"]


@in_hours
async def test_a_block_with_claims_is_taken_last_and_keeps_them() -> None:
    async with lab(2) as hosts:
        one, two = hosts.machines
        for machine in hosts.machines:
            await machine.network(Wanted(("10.50.0.0/24",)))
        small = ip_network("10.50.0.0/24")
        free = next(one for one in small.subnets(new_prefix=28) if one not in _blocks(hosts.machines))
        await one.attach(Wanted(("10.50.0.0/24",)).segment, at=str(free[3]))
        await quiet(1)
        for _ in range(14):
            await two.member.claim_block(small, small)

        assert Foreign(small, free[3], one.id) in two.addresses.foreign()
        with pytest.raises(Exhausted):
            await two.member.claim_block(small, small)
        await quiet(2)
        assert Foreign(small, free[3], one.id) in two.addresses.foreign()


@in_hours
async def test_a_claim_that_was_cut_short_is_taken_back() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        address = first_block(two).network[77]
        two.line.cut = True
        task = asyncio.create_task(one.attach(at=str(address)))
        await quiet(0.3)
        assert one.id.encode() in hosts.cluster.entries[_key(first_block(two))].value
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await quiet(1)

        assert one.id.encode() not in hosts.cluster.entries[_key(first_block(two))].value


@in_hours
async def test_a_claim_in_our_own_block_asks_nobody() -> None:
    async with blue(1) as hosts:
        (one,) = hosts.machines
        before = one.member.standing().requests["commit"]
        await one.member.claim_address(_POOL, first_block(one).network[99])

        assert one.member.standing().requests["commit"] == before


@in_hours
async def test_an_address_in_no_cluster_is_not_claimed() -> None:
    async with blue(1) as hosts:
        (one,) = hosts.machines
        hosts.cluster.go()
        await quiet()

        with pytest.raises(ClusterUnavailable):
            await one.attach(at="10.50.255.9")
        assert ip_address("10.50.255.9") not in {address for _, address in one.addresses.held}


def _blocks(machines: list[Machine]) -> set[object]:
    return {block.network for machine in machines for block in machine.notebook.blocks.values()}


def _key(block: Block) -> str:
    pool, network = (str(one).replace("/", "_") for one in (block.pool, block.network))
    return f"/mdnp/v1/blocks/{pool}/{network}"
