"""Pools that hosts share, above a cluster that agrees at once."""

import asyncio
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from mdnp.cluster import ClusterUnavailable
from mdnp.member import Foreign
from mdnp.model.allocation import Kind
from mdnp.model.errors import Conflict, Exhausted, InvalidParameter, MdnpError, StoreUnavailable, Unsupported
from mdnp.model.host import HostID
from mdnp.model.network import Network, Subnet
from mdnp.model.options import Mode, NetworkOptions
from mdnp.model.pool import parse_pool
from mdnp.store import Drop
from tests.ipam.commons import POOL, Plot, open_plots
from tests.world import NET


async def settled(plot: Plot) -> None:
    """What runs beside the calls has done what there is to do."""
    await plot.ipam.sharing.tend()
    await plot.seat.mend()


async def refusal(kind: type[MdnpError], plot: Plot, asked: str = "") -> str:
    before = plot.ipam.allocations(), plot.blocks
    with pytest.raises(kind) as caught:
        await plot.address(asked)
    assert (plot.ipam.allocations(), plot.blocks) == before
    return str(caught.value)


async def test_each_host_has_a_block_and_an_address_of_its_own_in_it() -> None:
    async with open_plots("a", "b") as (a, b):
        first, second = await a.create(), await b.create()

        assert (a.blocks, b.blocks) == (["10.50.0.0/28"], ["10.50.0.16/28"])
        assert first.host_addresses == (ip_interface("10.50.0.2/24"),)
        assert second.host_addresses == (ip_interface("10.50.0.16/24"),)
        assert (a.held("gateway"), b.held("gateway")) == (["10.50.0.1"], ["10.50.0.1"])


async def test_a_network_in_which_the_host_does_not_stand_has_no_address_of_its() -> None:
    async with open_plots("a") as (a,):
        assert (await a.create(gateway=False)).host_addresses == ()
        assert a.held("host") == []


async def test_sharing_again_changes_nothing() -> None:
    async with open_plots("a") as (a,):
        network = await a.create()
        before = a.ipam.allocations(), a.blocks

        assert await a.ipam.sharing.share(network, ()) == network.host_addresses

        assert (a.ipam.allocations(), a.blocks) == before


async def test_an_address_out_of_our_block_asks_nobody() -> None:
    async with open_plots("a") as (a,):
        await a.create()
        a.commons.away, a.commons.asked = True, 0

        assert [await a.address() for _ in range(3)] == ["10.50.0.3", "10.50.0.4", "10.50.0.5"]
        assert await a.address("10.50.0.9") == "10.50.0.9"
        await a.release("10.50.0.9")
        assert a.commons.asked == 0


async def test_another_block_is_claimed_before_the_last_is_full() -> None:
    async with open_plots("a") as (a,):
        await a.create()

        while len(a.held("endpoint")) < 9:  # with gateway, own and network address 12 of 16
            await a.address()
            await settled(a)
        assert a.blocks == ["10.50.0.0/28"]
        await a.address()
        await settled(a)

        assert a.blocks == ["10.50.0.0/28", "10.50.0.16/28"]


async def test_when_nothing_is_free_a_block_is_claimed_within_the_call_and_once_for_all_who_wait() -> None:
    async with open_plots("a", "b") as (a, b):
        await a.create()
        await b.create()
        a.commons.asked = 0

        given = await asyncio.gather(*(a.address() for _ in range(60)))

        assert len(set(given)) == 60
        assert len(a.blocks) == a.commons.asked + 1 == 4
        assert not {*given} & {*b.held("host", "gateway")}


async def test_without_another_block_what_rests_is_given_and_then_the_reason() -> None:
    async with open_plots("a") as (a,):
        await a.create()
        given = [await a.address() for _ in range(13)]
        a.commons.away = True
        await a.release(given[5])

        assert await a.address() == given[5]
        assert await refusal(ClusterUnavailable, a) == (
            "pool 10.50.0.0/24: all 15 addresses of this host's blocks are held (gateway 1, endpoint 13, host 1);"
            " remove containers, or make a larger network. Another block could not be had: no server answers"
        )


async def test_a_pool_whose_blocks_are_all_taken_is_exhausted() -> None:
    async with open_plots("a", "b") as (a, b):
        await a.create("10.50.0.0/27")
        await b.create("10.50.0.0/27")

        given = [await a.address() for _ in range(13)]

        assert len(set(given)) == 13
        assert (await refusal(Exhausted, a)).endswith(
            "Another block could not be had: pool 10.50.0.0/27: all blocks are taken"
        )


async def test_blocks_of_which_nothing_is_held_or_rests_are_given_back_but_the_last() -> None:
    async with open_plots("a") as (a,):
        await a.create()
        for address in [await a.address() for _ in range(40)]:
            await a.release(address)
        await settled(a)
        assert len(a.blocks) == 3, "they rest"

        a.clock.now += 61
        for _ in range(3):
            await settled(a)

        assert a.blocks == ["10.50.0.0/28"]
        assert a.commons.blocks(a.id) == a.blocks
        assert await a.address() != ""


async def test_a_name_keeps_its_address_unless_its_block_went() -> None:
    async with open_plots("a") as (a,):
        await a.create()
        await a.release(await a.address("10.50.0.20", name="web"))
        assert await a.address(name="web") == "10.50.0.3"


async def test_a_fixed_address_of_a_block_that_nobody_has_is_claimed_and_given_back() -> None:
    async with open_plots("a", "b") as (a, b):
        await a.create()
        await b.create()

        assert await a.address("10.50.0.200") == "10.50.0.200"
        assert a.commons.claims == {ip_address("10.50.0.200"): "a"}
        assert await refusal(Conflict, b, "10.50.0.200") == "address 10.50.0.200 is host a's"
        await a.release("10.50.0.200")

        assert a.commons.claims == {}
        assert await b.address("10.50.0.200") == "10.50.0.200"


async def test_a_fixed_address_of_another_host_s_block_is_had_by_agreement_and_kept_for_it() -> None:
    async with open_plots("a", "b") as (a, b):
        await a.create()
        await b.create()

        assert await b.address("10.50.0.9") == "10.50.0.9"
        assert await refusal(Conflict, a, "10.50.0.9") == (
            "address 10.50.0.9: held already, by the host b; choose another"
        )
        assert "10.50.0.9" not in [await a.address() for _ in range(12)]
        await a.restart()
        assert list(a.ipam.sharing.foreign()) == [Foreign(ip_network(POOL), ip_address("10.50.0.9"), HostID("b"))]
        await b.release("10.50.0.9")

        assert list(a.ipam.sharing.foreign()) == []
        assert await a.address("10.50.0.9") == "10.50.0.9"


async def test_a_fixed_address_that_another_host_holds_is_refused_and_moves_when_it_let_go() -> None:
    """At once: a container that is moved with its address does not wait for it."""
    async with open_plots("a", "b") as (a, b):
        await a.create()
        await b.create()
        taken = await a.address()

        assert await refusal(Conflict, b, taken) == f"address {taken} is in use on host a"
        await a.release(taken)
        assert await b.address(taken) == taken
        assert (
            await refusal(Conflict, b, "10.50.0.1") == "address 10.50.0.1: held already, by the gateway; choose another"
        )


async def test_with_the_cluster_away_a_fixed_address_outside_our_blocks_is_refused() -> None:
    async with open_plots("a") as (a,):
        await a.create()
        a.commons.away = True

        assert await refusal(ClusterUnavailable, a, "10.50.0.200") == "no server answers"


async def test_claims_of_others_are_kept_for_them_in_a_block_that_is_new() -> None:
    async with open_plots("a", "b") as (a, b):
        await a.create()
        await b.create()
        await a.address("10.50.0.40")

        given = [await b.address() for _ in range(25)]

        assert "10.50.0.32/28" in b.blocks
        assert b.held("foreign") == ["10.50.0.40"]
        assert "10.50.0.40" not in given


async def test_with_the_network_go_its_blocks_and_what_was_the_host_s() -> None:
    async with open_plots("a", "b") as (a, b):
        await a.create()
        await b.create()
        await b.address("10.50.0.9")

        await a.remove()

        assert (a.blocks, a.commons.blocks(a.id), a.ipam.allocations()) == ([], [], {})
        assert b.held("endpoint") == ["10.50.0.9"]
        await a.create()
        assert a.held("foreign") == ["10.50.0.9"]


async def test_a_restart_goes_on_with_its_blocks_and_without_a_word_to_anybody() -> None:
    async with open_plots("a") as (a,):
        await a.create()
        before = [await a.address() for _ in range(3)]
        a.commons.away = True

        await a.restart()

        assert a.blocks == ["10.50.0.0/28"]
        assert await a.address() not in before
        assert (await refusal(ClusterUnavailable, a, "10.50.0.200")) == "no server answers"


async def test_without_a_cluster_a_shared_pool_goes_on_with_the_blocks_that_it_has() -> None:
    async with open_plots("a") as (a,):
        await a.create()

        await a.restart(member=False)

        assert await a.address() == "10.50.0.3"
        assert "this host is in no cluster" in await refusal(ClusterUnavailable, a, "10.50.0.200")


async def test_what_a_death_in_the_middle_of_sharing_left_is_taken_back() -> None:
    async with open_plots("a") as (a,):
        promise = await a.ipam.request_pool("mdnp-local", parse_pool(POOL), False)
        await a.ipam.sharing.share(_overlay(POOL), ())
        assert (a.blocks, a.held("host")) == (["10.50.0.0/28"], ["10.50.0.1"])

        await a.restart()
        await settled(a)

        assert (a.blocks, a.held("host"), a.commons.owners) == ([], [], {})
        assert await a.ipam.request_address(promise.id, ip_address("10.50.0.77"), "") == "10.50.0.77/24"


async def test_what_a_full_disk_left_is_taken_back_later() -> None:
    async with open_plots("a") as (a,):
        network = await a.create()
        await a.store.commit(Drop(network))
        a.store.full = True
        with pytest.raises(StoreUnavailable):
            await a.ipam.sharing.unshare(network)
        a.store.full = False

        await settled(a)

        assert (a.blocks, a.held("host"), a.commons.owners) == ([], [], {})


async def test_a_block_that_another_host_has_too_is_left_with_what_is_held_in_it() -> None:
    async with open_plots("a") as (a,):
        await a.create()
        held = await a.address()
        [block] = a.store.promises.blocks.values()

        await a.ipam.sharing.lose_block(block)

        assert a.blocks == []
        assert held in a.held("endpoint")
        assert {str(address) for _, address in a.ipam.sharing.outside()} == {held, "10.50.0.2"}
        assert await a.address() == "10.50.0.16"


async def test_gateway_and_auxiliary_addresses_are_each_host_s_own_and_never_out_of_a_block() -> None:
    async with open_plots("a") as (a,):
        promise = await a.ipam.request_pool("mdnp-local", parse_pool(POOL), False)
        a.pool = promise.id
        await a.ipam.request_gateway(promise.id, ip_address("10.50.0.200"))
        await a.address("10.50.0.5")
        await a.address("10.50.0.100")
        reserved = (ip_address("10.50.0.5"), ip_address("10.50.0.100"), ip_address("10.50.0.101"))

        await a.ipam.sharing.share(_overlay(POOL), reserved)

        assert a.held("auxiliary") == ["10.50.0.5", "10.50.0.100"]
        assert list(a.ipam.sharing.outside()) == []
        assert "10.50.0.5" not in [await a.address() for _ in range(12)]
        await a.restart()
        assert a.held("auxiliary") == ["10.50.0.5", "10.50.0.100"]


async def test_a_sub_pool_says_which_blocks_and_addresses_are_handed_out() -> None:
    async with open_plots("a") as (a,):
        await a.create(POOL, "10.50.0.64/27")

        given = [await a.address() for _ in range(31)]

        assert a.blocks == ["10.50.0.64/28", "10.50.0.80/28"]
        assert {ip_network("10.50.0.64/27")} == {
            net for net in [ip_network("10.50.0.64/27")] if all(ip_address(one) in net for one in given)
        }


async def test_no_release_of_docker_s_frees_what_is_not_its() -> None:
    async with open_plots("a", "b") as (a, b):
        await a.create()
        await b.create()
        await b.address("10.50.0.9")

        await a.release("10.50.0.2")
        await a.release("10.50.0.9")

        assert (a.held("host"), a.held("foreign")) == (["10.50.0.2"], ["10.50.0.9"])


async def test_who_was_removed_gives_up_all_and_begins_anew() -> None:
    async with open_plots("a", "b") as (a, b):
        network = await a.create()
        await b.create()
        await a.address()
        await b.address("10.50.0.9")

        await a.ipam.sharing.surrender(network)
        await a.seat.mend()

        assert a.blocks == []
        assert {one.purpose.kind for some in a.ipam.allocations().values() for one in some} == {Kind.GATEWAY}
        assert await a.ipam.sharing.share(network, ()) == (ip_interface("10.50.0.4/24"),)


async def test_what_each_block_has_is_shown() -> None:
    async with open_plots("a") as (a,):
        await a.create()
        await a.release(await a.address())

        [[use]] = a.ipam.blocks().values()

        assert (str(use.network), use.held, use.resting) == ("10.50.0.0/28", 2, 1)


def _overlay(*pools: str, gateway: bool = True) -> Network:
    options = NetworkOptions(mode=Mode.OVERLAY)
    return Network(NET, tuple(Subnet(ip_network(one)) for one in pools), not gateway, options, 1450)  # type: ignore[arg-type]


async def test_an_overlay_without_addresses_of_ours_is_refused_with_the_reason() -> None:
    async with open_plots("a") as (a,):
        await a.ipam.request_pool("mdnp-local", parse_pool("10.60.0.0/24"), False)
        automatic = replace(
            next(iter(a.store.promises.pools.values())), pool=parse_pool("10.70.0.0/24"), automatic=True
        )
        await a.ipam._ledger.begin(automatic)  # noqa: SLF001  # as if chosen: there is no supernet here

        with pytest.raises(InvalidParameter, match="not null IPAM"):
            a.ipam.sharing.check(_overlay())
        with pytest.raises(InvalidParameter, match="needs mdnp's own IPAM"):
            a.ipam.sharing.check(_overlay("10.50.0.0/24"))
        with pytest.raises(InvalidParameter, match="chosen by this host alone"):
            a.ipam.sharing.check(_overlay("10.60.0.0/24", "10.70.0.0/24"))
        a.ipam.sharing.check(_overlay("10.60.0.0/24"))
        await a.restart(member=False)
        with pytest.raises(Unsupported, match="this host is in no cluster: give mdnp the URLs"):
            a.ipam.sharing.check(_overlay("10.60.0.0/24"))


async def test_whoever_takes_an_address_that_leaves_few_has_the_blocks_looked_at() -> None:
    async with open_plots("a") as (a,):
        await a.create()
        running = asyncio.create_task(a.ipam.sharing.run())

        for _ in range(10):
            await a.address()
        async with asyncio.timeout(5):
            while len(a.blocks) < 2:  # noqa: ASYNC110  # a store tells nobody
                await asyncio.sleep(0)

        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
