"""The operator's side: hosts that are removed, and networks of the whole cluster."""

import pytest

from mdnp.cluster import ClusterUnavailable
from mdnp.member import DeclaredNetwork, DeclaredSubnet, Liveness
from mdnp.model.errors import Conflict, InvalidParameter, NotFound
from mdnp.model.host import HostID
from tests.member.hours import in_hours
from tests.member.lab import LEASE_S, blue, lab, quiet

A_WHILE_S = 2 * LEASE_S + 5
GREEN = DeclaredNetwork("green", (DeclaredSubnet("10.70.0.0/16", gateway="10.70.0.1"),), {"mdnp.mode": "overlay"})


@in_hours
async def test_a_living_host_is_not_removed() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        with pytest.raises(Conflict, match="is alive: stop mdnp there first"):
            await one.member.remove_host(two.id)
        with pytest.raises(Conflict, match="the host itself"):
            await one.member.remove_host(one.id)
        with pytest.raises(NotFound):
            await one.member.remove_host(HostID("beef"))
        await quiet()

        assert one.seen == two.promised


@in_hours
async def test_a_removed_host_leaves_nothing_but_its_stone() -> None:
    async with blue(3, endpoints=3) as hosts:
        one, two, three = hosts.machines
        await three.attach(at="10.50.255.9")
        block = next(iter(one.notebook.blocks.values()))
        await three.attach(at=str(block.network[77]))
        await three.stop()
        await quiet(A_WHILE_S)
        await two.member.remove_host(three.id)
        await quiet()

        assert hosts.cluster.keys(three.id) == [f"removed/{three.id}"]
        assert three.id.encode() not in b"".join(entry.value for entry in hosts.cluster.entries.values())
        assert one.addresses.kept == {}
        assert one.seen == two.promised
        await two.member.remove_host(three.id)  # what is done may be asked for again


@in_hours
async def test_a_removed_host_that_returns_leaves_its_segments_first_and_joins_as_another() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        old = two.id
        await two.stop()
        await quiet(A_WHILE_S)
        await one.member.remove_host(old)
        await quiet()
        await two.start()
        await quiet(5)

        assert two.withdrawn == 1
        assert two.promised == []
        assert two.id != old
        assert two.trouble == ""
        assert two.seen == one.promised
        assert list(map(str, one.member.members_of(next(iter(one.member.standing().segments)).segment.id))) == [
            str(two.vtep)
        ]
        assert len(two.notebook.blocks) == 1, "as a new member it is given its part again"
        await two.attach()
        await quiet()
        assert one.seen == two.promised


@in_hours
async def test_a_host_removed_by_force_hears_of_it_at_once() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        old = two.id
        await one.member.remove_host(old, force=True)
        await quiet(5)

        assert two.withdrawn == 1
        assert two.id != old
        assert one.seen == []
        assert hosts.cluster.keys(old) == [f"removed/{old}"]


@in_hours
async def test_a_host_that_cannot_leave_its_segments_does_not_join() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        old = two.id
        two.notebook.trouble = "disk full"
        await one.member.remove_host(old, force=True)
        await quiet(10)
        assert "host remove" in two.trouble
        assert hosts.cluster.keys("alive/") == [f"alive/{one.id}"]

        two.notebook.trouble = ""
        await quiet(10)

        assert two.trouble == ""
        assert two.id != old


@in_hours
async def test_a_segment_whose_only_host_is_removed_goes() -> None:
    async with blue(1) as hosts:
        (one,) = hosts.machines
        await one.stop()
        two = await hosts.add()
        await quiet(A_WHILE_S)
        await two.member.remove_host(one.id)
        await quiet(40)

        assert hosts.cluster.keys("segments/") + hosts.cluster.keys("vnis/") + hosts.cluster.keys("blocks/") == []


@in_hours
async def test_a_declared_network_is_known_everywhere_and_its_outcomes_too() -> None:
    async with lab(2) as hosts:
        one, two = hosts.machines
        await one.member.declare(GREEN)
        await one.member.declare(GREEN)
        await quiet(1)
        assert two.member.declared == {"green": GREEN}
        assert any("green" in news.networks for news in two.news)

        one.member.report("green", "")
        two.member.report("green", "no space left")
        await quiet(1)
        assert one.member.outcomes("green") == {one.id: "", two.id: "no space left"}

        with pytest.raises(Conflict, match="declared already with other settings"):
            await two.member.declare(DeclaredNetwork("green", ()))
        with pytest.raises(InvalidParameter, match="expected letters"):
            await two.member.declare(DeclaredNetwork("a/b", ()))
        await two.member.undeclare("green")
        await quiet(1)
        assert one.member.declared == {}
        with pytest.raises(NotFound):
            await two.member.undeclare("green")


@in_hours
async def test_what_a_host_said_of_a_network_goes_when_it_says_nothing_more() -> None:
    async with lab(2) as hosts:
        one, two = hosts.machines
        await one.member.declare(GREEN)
        two.member.report("green", "")
        await quiet(1)
        await two.stop()
        await two.start()
        await quiet(1)
        assert one.member.outcomes("green") == {two.id: ""}, "a daemon that starts has not looked yet"

        await one.member.undeclare("green")
        two.member.report("green", "a container is on it")
        await quiet(1)
        assert one.member.outcomes("green") == {two.id: "a container is on it"}
        two.member.report("green", None)
        await quiet(1)

        assert hosts.cluster.keys("networks") == []


@in_hours
async def test_the_standing_tells_how_we_stand() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        await quiet(10)
        standing = one.member.standing()

        assert (standing.host, standing.name, str(standing.vtep)) == (one.id, "host1", "192.0.2.1")
        assert standing.connected
        assert standing.healthy_s is not None
        assert standing.healthy_s >= 10
        assert standing.revision == hosts.cluster.revision
        assert (standing.epoch, standing.pending, standing.waiting, standing.remarks) == (1, 0, (), ())
        assert [(host.host.name, host.liveness, host.endpoints, host.seeded) for host in standing.hosts] == [
            ("host1", Liveness.ALIVE, 1, True),
            ("host2", Liveness.ALIVE, 1, True),
        ]
        assert [block.network for block in standing.hosts[1].blocks] == [
            block.network for block in two.notebook.blocks.values()
        ]
        assert [len(segment.hosts) for segment in standing.segments] == [2]
        assert standing.requests["snapshot"] > 0

        hosts.cluster.go()
        await quiet()
        assert [host.liveness for host in one.member.standing().hosts] == [Liveness.UNKNOWN] * 2
        with pytest.raises(ClusterUnavailable):
            await one.member.remove_host(two.id, force=True)


@in_hours
async def test_a_host_that_came_back_unseen_is_not_removed() -> None:
    async with blue(2) as hosts:
        one, two = hosts.machines
        await two.stop()
        await quiet(A_WHILE_S)
        one.line.deaf = True
        await two.start()
        await quiet(1)

        with pytest.raises(Conflict, match="is alive"):
            await one.member.remove_host(two.id)
        assert hosts.cluster.keys("removed/") == []
